//! Random checkpoints for tests: the same bytes for the same options on every machine.
//!
//! Weights are scaled so that attention is sharp and scores spread over nearly all of 0..1; a
//! checkpoint whose scores all lie at one half would hide errors.

use crate::model::source::DEMO_TOKENIZER;
use crate::model::weights::{INDEX_FILE, SINGLE_FILE};
use half::bf16;
use safetensors::tensor::{Dtype as FileDtype, TensorView};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

/// The shape of a random Qwen3 checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixtureOptions {
    /// Decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Size of a head, even.
    pub head_dim: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// Token embeddings, at least as many as the demo model's tokenizer has, which goes with it.
    pub vocab: usize,
    /// Positions the checkpoint claims.
    pub positions: usize,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// Weights files; more than one come with an index.
    pub shards: usize,
    /// bf16 weights; else f32.
    pub bf16: bool,
    /// Same seed, same weights.
    pub seed: u64,
}

impl Default for FixtureOptions {
    fn default() -> Self {
        Self {
            layers: 2,
            hidden: 64,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            intermediate: 96,
            vocab: 8192,
            positions: 32_768,
            tied: true,
            shards: 1,
            bf16: true,
            seed: 0,
        }
    }
}

/// Writes `config.json`, `tokenizer.json` and the weights into `directory`, which is made if it is
/// not there.
///
/// # Errors
/// If a file cannot be written.
pub fn write(directory: &Path, options: &FixtureOptions) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let config = serde_json::to_string_pretty(&config(options))?;
    std::fs::write(directory.join("config.json"), config)?;
    std::fs::write(directory.join("tokenizer.json"), DEMO_TOKENIZER)?;
    let tensors = tensors(options);
    let shards = options.shards.max(1);
    if shards == 1 {
        return save(&directory.join(SINGLE_FILE), &tensors, options);
    }
    let mut weight_map = BTreeMap::new();
    for shard in 0..shards {
        let file = format!("model-{:05}-of-{shards:05}.safetensors", shard + 1);
        let part: Vec<Spec> = tensors.iter().skip(shard).step_by(shards).cloned().collect();
        weight_map.extend(part.iter().map(|tensor| (tensor.name.clone(), file.clone())));
        save(&directory.join(file), &part, options)?;
    }
    let bytes: usize = tensors.iter().map(|tensor| tensor.count() * width(options)).sum();
    let index = json!({"metadata": {"total_size": bytes}, "weight_map": weight_map});
    std::fs::write(directory.join(INDEX_FILE), serde_json::to_string_pretty(&index)?)
}

fn config(options: &FixtureOptions) -> serde_json::Value {
    json!({
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": false,
        "attention_dropout": 0.0,
        "head_dim": options.head_dim,
        "hidden_act": "silu",
        "hidden_size": options.hidden,
        "intermediate_size": options.intermediate,
        "max_position_embeddings": options.positions,
        "model_type": "qwen3",
        "num_attention_heads": options.heads,
        "num_hidden_layers": options.layers,
        "num_key_value_heads": options.kv_heads,
        "rms_norm_eps": 1e-6,
        "rope_scaling": null,
        "rope_theta": 1_000_000.0,
        "sliding_window": null,
        "tie_word_embeddings": options.tied,
        "torch_dtype": if options.bf16 { "bfloat16" } else { "float32" },
        "use_sliding_window": false,
        "vocab_size": options.vocab,
    })
}

/// One tensor: its values are `mean + deviation * normal`.
#[derive(Clone)]
struct Spec {
    name: String,
    shape: Vec<usize>,
    mean: f32,
    deviation: f32,
}

impl Spec {
    fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Standard deviation of the logits; a fifth of it is what the sigmoid sees.
const LOGIT_DEVIATION: f32 = 14.0;

fn tensors(options: &FixtureOptions) -> Vec<Spec> {
    let FixtureOptions { hidden, head_dim, intermediate, vocab, .. } = *options;
    let (query_width, key_width) = (options.heads * head_dim, options.kv_heads * head_dim);
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[usize], mean: f32, deviation: f32| {
        tensors.push(Spec { name, shape: shape.to_vec(), mean, deviation });
    };
    let unit = |fan_in: usize| 1.0 / (fan_in as f32).sqrt();
    add("model.embed_tokens.weight".to_owned(), &[vocab, hidden], 0.0, 1.0);
    for layer in 0..options.layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        add(name("input_layernorm"), &[hidden], 1.0, 0.1);
        add(name("self_attn.q_proj"), &[query_width, hidden], 0.0, unit(hidden));
        add(name("self_attn.k_proj"), &[key_width, hidden], 0.0, unit(hidden));
        add(name("self_attn.v_proj"), &[key_width, hidden], 0.0, unit(hidden));
        add(name("self_attn.q_norm"), &[head_dim], 1.6, 0.2);
        add(name("self_attn.k_norm"), &[head_dim], 1.6, 0.2);
        add(name("self_attn.o_proj"), &[hidden, query_width], 0.0, 2.0 * unit(query_width));
        add(name("post_attention_layernorm"), &[hidden], 1.0, 0.1);
        add(name("mlp.gate_proj"), &[intermediate, hidden], 0.0, unit(hidden));
        add(name("mlp.up_proj"), &[intermediate, hidden], 0.0, unit(hidden));
        add(name("mlp.down_proj"), &[hidden, intermediate], 0.0, 2.0 * unit(intermediate));
    }
    let norm = LOGIT_DEVIATION * unit(hidden);
    add("model.norm.weight".to_owned(), &[hidden], norm, 0.1 * norm);
    if !options.tied {
        add("lm_head.weight".to_owned(), &[vocab, hidden], 0.0, 1.0);
    }
    tensors
}

fn width(options: &FixtureOptions) -> usize {
    if options.bf16 { 2 } else { 4 }
}

fn save(path: &Path, tensors: &[Spec], options: &FixtureOptions) -> io::Result<()> {
    let dtype = if options.bf16 { FileDtype::BF16 } else { FileDtype::F32 };
    let data: Vec<Vec<u8>> = tensors.iter().map(|tensor| values(tensor, options)).collect();
    let views = tensors.iter().zip(&data).map(|(tensor, data)| {
        let view = TensorView::new(dtype, tensor.shape.clone(), data);
        (&tensor.name, view.expect("the data has the shape's size"))
    });
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(metadata), path).map_err(io::Error::other)
}

fn values(tensor: &Spec, options: &FixtureOptions) -> Vec<u8> {
    // Each tensor has its own stream, so that a change of one shape leaves the others as they were.
    let stream = tensor.name.bytes().fold(options.seed, |state, byte| {
        state.rotate_left(5).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(byte)
    });
    let mut normal = Normal(stream);
    let mut bytes = Vec::with_capacity(tensor.count() * width(options));
    for _ in 0..tensor.count() {
        let value = tensor.mean + tensor.deviation * normal.next();
        if options.bf16 {
            bytes.extend_from_slice(&bf16::from_f32(value).to_le_bytes());
        } else {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
    }
    bytes
}

/// Nearly normal numbers, by sums and products alone: no machine's logarithm decides a bit.
struct Normal(u64);

impl Normal {
    /// The sum of four uniform numbers out of one step of SplitMix64, scaled to variance 1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        let sum: u32 = (0..4).map(|part| (bits >> (16 * part)) as u32 & 0xffff).sum();
        (sum as f32 / 65_536.0 - 2.0) * 1.732_050_8
    }
}
