//! The packed forward of a Qwen3 decoder, from token ids to one logit a document.

use super::batch::Batch;
use super::config::Config;
use super::memory::Passes;
use super::upload::Uploader;
use super::weights::Weights;
use crate::kernels::{
    HeadLayout, Matrix, add_linear, attention, linear, linear_rows, qk_norm_rope, rms_norm,
    silu_mul,
};
use crate::{LoadError, LoadEvent};
use candle_core::{DType, Device, Result, Tensor};
use std::ops::Range;

/// The token embedding's name in a checkpoint.
pub(super) const EMBEDDING: &str = "model.embed_tokens.weight";

/// How weights are held in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Precision {
    /// f32 or bf16: of the embedding, and of the matrices unless they are quantised. Norms and the
    /// answer's row are f32.
    pub(super) dtype: DType,
    pub(super) is_quantised: bool,
}

/// Bytes of all weights.
pub(super) fn weight_bytes(config: &Config, precision: Precision) -> usize {
    let parameters = config.parameters() as usize;
    let embedding = config.vocab_size * config.hidden_size;
    if precision.is_quantised {
        // A scale of four bytes for 128 values.
        embedding * precision.dtype.size_in_bytes() + (parameters - embedding) * 33 / 32
    } else {
        parameters * precision.dtype.size_in_bytes()
    }
}

/// A Qwen3 decoder with a head of one row.
///
/// Legend: `T` tokens of the batch, `B` documents, `C` hidden size, `H`/`Hk` query/key heads,
/// `D` head size, `I` MLP size.
///
/// Source: Qwen3 technical report, arXiv:2505.09388; `Qwen3ForCausalLM` of `transformers`.
pub(super) struct Qwen3 {
    /// `[vocabulary, C]`
    embed_tokens: Tensor,
    layers: Vec<Layer>,
    /// `[C]`
    norm: Tensor,
    /// The head's row of the answer token, `[1, C]`, f32.
    answer_row: Matrix,
    rotary: Rotary,
    heads: HeadLayout,
    eps: f32,
    /// The type of what the layers compute, but for the residual stream.
    activations: DType,
    uploader: Uploader,
}

struct Layer {
    input_layernorm: Tensor,
    /// `[(H + 2 Hk) D, C]`: query, key and value projections, one below the other.
    qkv_proj: Matrix,
    /// `[2, D]`: `q_norm`, then `k_norm`.
    qk_norm: Tensor,
    /// `[C, H D]`
    o_proj: Matrix,
    post_attention_layernorm: Tensor,
    /// `[2 I, C]`
    gate_up_proj: Matrix,
    /// `[C, I]`
    down_proj: Matrix,
}

impl Qwen3 {
    /// Loads the weights.
    ///
    /// Activations are f32 on the CPU and of the weights' type on a card, the residual stream is f32.
    pub(super) fn load(
        config: &Config,
        weights: &Weights,
        answer: u32,
        positions: usize,
        precision: Precision,
        device: &Device,
        observe: &mut dyn FnMut(LoadEvent<'_>),
    ) -> std::result::Result<Self, LoadError> {
        let Precision { dtype, is_quantised } = precision;
        let pack = if is_quantised { Matrix::quantised } else { Matrix::new };
        let hidden = config.hidden_size;
        let heads = HeadLayout {
            query_heads: config.num_attention_heads,
            key_heads: config.num_key_value_heads,
            value_width: config.num_key_value_heads * config.head_dim,
            head_dim: config.head_dim,
        };
        let query_width = heads.query_heads * heads.head_dim;
        let vector =
            |name: &str, width: usize| weights.load(&[(name, &[width])], DType::F32, device);
        let total = config.num_hidden_layers + 1;
        observe(LoadEvent::Layers { done: 0, total });
        let vocabulary = [config.vocab_size, hidden];
        let embed_tokens = weights.load(&[(EMBEDDING, &vocabulary)], dtype, device)?;
        let head = if config.tie_word_embeddings { EMBEDDING } else { "lm_head.weight" };
        let answer_row =
            Matrix::new(&weights.load_row(head, vocabulary, answer as usize, device)?)?;
        let norm = vector("model.norm.weight", hidden)?;
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            observe(LoadEvent::Layers { done: index + 1, total });
            let name = |part: &str| format!("model.layers.{index}.{part}.weight");
            let matrix = |parts: &[(&str, usize)], width: usize| {
                let names: Vec<String> = parts.iter().map(|(part, _)| name(part)).collect();
                let shapes: Vec<[usize; 2]> =
                    parts.iter().map(|(_, rows)| [*rows, width]).collect();
                let parts: Vec<(&str, &[usize])> =
                    names.iter().zip(&shapes).map(|(name, shape)| (&**name, &shape[..])).collect();
                Ok::<_, LoadError>(pack(&weights.load(&parts, dtype, device)?)?)
            };
            let intermediate = config.intermediate_size;
            let qk_norm = [name("self_attn.q_norm"), name("self_attn.k_norm")]
                .map(|name| vector(&name, heads.head_dim));
            let [q_norm, k_norm] = qk_norm;
            layers.push(Layer {
                input_layernorm: vector(&name("input_layernorm"), hidden)?,
                qkv_proj: matrix(
                    &[
                        ("self_attn.q_proj", query_width),
                        ("self_attn.k_proj", heads.value_width),
                        ("self_attn.v_proj", heads.value_width),
                    ],
                    hidden,
                )?,
                qk_norm: Tensor::stack(&[q_norm?, k_norm?], 0)?,
                o_proj: matrix(&[("self_attn.o_proj", hidden)], query_width)?,
                post_attention_layernorm: vector(&name("post_attention_layernorm"), hidden)?,
                gate_up_proj: matrix(
                    &[("mlp.gate_proj", intermediate), ("mlp.up_proj", intermediate)],
                    hidden,
                )?,
                down_proj: matrix(&[("mlp.down_proj", hidden)], intermediate)?,
            });
        }
        Ok(Self {
            embed_tokens,
            layers,
            norm,
            answer_row,
            rotary: Rotary::new(heads.head_dim, config.rope_theta, positions, device)?,
            heads,
            eps: config.rms_norm_eps as f32,
            activations: activations(device, dtype),
            uploader: Uploader::new(device),
        })
    }

    /// The answer's logit after every document of the batch, `[B]`.
    ///
    /// The last layer computes keys and values for all rows, the rest of it for the `B` last rows. Nothing
    /// waits for the device but reading the logits.
    pub(super) fn forward(&self, batch: &Batch, passes: &Passes) -> Result<Vec<f32>> {
        let Some((last, layers)) = self.layers.split_last() else { return Ok(Vec::new()) };
        let tokens = batch.tokens();
        let passes: Vec<Range<usize>> = passes.of(tokens).collect();
        let last_rows = batch.last_rows();
        let spans = passes.iter().map(|rows| batch.spans(rows));
        let spans = spans.chain([batch.last_spans()]).collect();
        let up = self.uploader.upload([batch.ids(), batch.positions(), &last_rows], spans)?;
        let [ids, positions, last_rows] = up.words;
        let (last_spans, spans) = up.spans.split_last().expect("those of the last rows");
        let rotary = self.rotary.rows(&positions)?;
        // 1. Embed: the residual stream, `[T, C]`.
        let residual = self.embed_tokens.index_select(&ids, 0)?.to_dtype(DType::F32)?;
        // Keys and values of all passes; a single one is its own.
        let kept = if passes.len() > 1 {
            let shape = (tokens, 2 * self.heads.value_width);
            Some(Tensor::zeros(shape, self.activations, residual.device())?)
        } else {
            None
        };
        let keep = |key_values: Tensor, rows: &Range<usize>| {
            let Some(kept) = &kept else { return Ok(key_values) };
            kept.slice_set(&key_values.contiguous()?, 0, rows.start)?;
            Ok::<_, candle_core::Error>(kept.clone())
        };
        // 2. All layers but the last, a pass of rows at a time: keys stand before the rows that
        //    see them.
        for layer in layers {
            for (rows, spans) in passes.iter().zip(spans) {
                let x = residual.narrow(0, rows.start, rows.len())?;
                let rotary = rotary.narrow(0, rows.start, rows.len())?;
                let qkv = self.project(layer, &x, &rotary, self.heads)?;
                let query_width = self.heads.query_heads * self.heads.head_dim;
                let q = qkv.narrow(1, 0, query_width)?;
                let kv = keep(qkv.narrow(1, query_width, 2 * self.heads.value_width)?, rows)?;
                let attended = attention(&q, &kv, spans, self.heads)?;
                self.finish(layer, &x, &attended)?;
            }
        }
        // 3. The last layer's keys and values.
        let keys_only = HeadLayout { query_heads: 0, ..self.heads };
        let mut key_values = None;
        for rows in &passes {
            let x = residual.narrow(0, rows.start, rows.len())?;
            let rotary = rotary.narrow(0, rows.start, rows.len())?;
            key_values = Some(keep(self.project(last, &x, &rotary, keys_only)?, rows)?);
        }
        let Some(key_values) = key_values else { return Ok(Vec::new()) };
        // 4. The last layer's rest, for the last rows.
        let x = residual.index_select(&last_rows, 0)?;
        let rotary = rotary.index_select(&last_rows, 0)?;
        let queries_only = HeadLayout { key_heads: 0, value_width: 0, ..self.heads };
        let q = self.project(last, &x, &rotary, queries_only)?;
        let attended = attention(&q, &key_values, last_spans, self.heads)?;
        self.finish(last, &x, &attended)?;
        // 5. Final norm and the head's one row, in f32.
        let x = rms_norm(&x, &self.norm, self.eps, DType::F32)?;
        linear(&x, &self.answer_row)?.flatten_all()?.to_vec1()
    }

    /// Norms `x` and projects it to the heads of `wanted`, rotated: `[rows, width of wanted]`.
    fn project(
        &self,
        layer: &Layer,
        x: &Tensor,
        rotary: &Tensor,
        wanted: HeadLayout,
    ) -> Result<Tensor> {
        let first = (self.heads.query_heads - wanted.query_heads) * self.heads.head_dim;
        let width = (wanted.query_heads + wanted.key_heads) * wanted.head_dim + wanted.value_width;
        let normed = rms_norm(x, &layer.input_layernorm, self.eps, self.activations)?;
        let qkv = linear_rows(&normed, &layer.qkv_proj, first..first + width)?;
        qk_norm_rope(&qkv, &layer.qk_norm, rotary, wanted, self.eps)?;
        Ok(qkv)
    }

    /// What follows attention in a layer, added to `x` in place: output projection and MLP.
    fn finish(&self, layer: &Layer, x: &Tensor, attended: &Tensor) -> Result<()> {
        add_linear(x, attended, &layer.o_proj)?;
        let normed = rms_norm(x, &layer.post_attention_layernorm, self.eps, self.activations)?;
        let hidden = silu_mul(&linear(&normed, &layer.gate_up_proj)?)?;
        add_linear(x, &hidden, &layer.down_proj)
    }
}

/// The type of activations on a device that holds weights of `dtype`.
pub(super) fn activations(device: &Device, dtype: DType) -> DType {
    if device.is_cpu() { DType::F32 } else { dtype }
}

/// Cosines and sines of every position's rotation.
struct Rotary {
    /// `[positions, D]`: cosines of `D/2` angles, then their sines; f32.
    table: Tensor,
}

impl Rotary {
    fn new(head_dim: usize, theta: f64, positions: usize, device: &Device) -> Result<Self> {
        let half = head_dim / 2;
        // In f32 from the angle's product on, as the published model computes it.
        let frequencies: Vec<f32> = (0..half)
            .map(|i| (1.0 / theta.powf((2 * i) as f64 / head_dim as f64)) as f32)
            .collect();
        let mut table = Vec::with_capacity(positions * head_dim);
        for position in 0..positions {
            let angles = frequencies.iter().map(|frequency| position as f32 * frequency);
            table.extend(angles.clone().map(f32::cos));
            table.extend(angles.map(f32::sin));
        }
        Ok(Self { table: Tensor::from_vec(table, (positions, head_dim), device)? })
    }

    /// The rows of `positions` (`[T]`), `[T, D]`.
    fn rows(&self, positions: &Tensor) -> Result<Tensor> {
        self.table.index_select(positions, 0)
    }
}
