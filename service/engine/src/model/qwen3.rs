//! The packed forward of a Qwen3 decoder, from token ids to one logit a document.

use super::batch::Batch;
use super::config::Config;
use super::weights::Weights;
use crate::kernels::{
    HeadLayout, Matrix, add_rms_norm, attention, linear, linear_rows, qk_norm_rope, rms_norm,
    silu_mul,
};
use crate::{LoadError, LoadEvent};
use candle_core::{DType, Device, Result, Tensor};

/// Rows that go through a layer together. Only the residual stream and one layer's keys and values
/// are held for all `T` rows of a batch; the wide projections exist for this many.
const ROWS_PER_PASS: usize = 512;

/// The token embedding's name in a checkpoint.
pub(super) const EMBEDDING: &str = "model.embed_tokens.weight";

/// Bytes that a forward over `tokens` tokens holds beyond the weights, in f32: the residual stream,
/// one layer's keys and values, the rotary rows, and the projections of one pass.
pub(super) fn working_bytes(config: &Config, tokens: usize) -> usize {
    let query_width = config.num_attention_heads * config.head_dim;
    let key_value_width = 2 * config.num_key_value_heads * config.head_dim;
    let row = config.hidden_size + key_value_width + config.head_dim;
    let pass_row =
        4 * config.hidden_size + 2 * (query_width + key_value_width) + 3 * config.intermediate_size;
    size_of::<f32>() * (tokens * row + tokens.min(ROWS_PER_PASS) * pass_row)
}

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
    device: Device,
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
            device: device.clone(),
        })
    }

    /// The answer's logit after every document of the batch, `[B]`.
    ///
    /// The last layer computes keys and values for all rows, the rest of it for the `B` last rows.
    pub(super) fn forward(&self, batch: &Batch) -> Result<Vec<f32>> {
        let Some((last, layers)) = self.layers.split_last() else { return Ok(Vec::new()) };
        let tokens = batch.tokens();
        let ids = Tensor::new(batch.ids(), &self.device)?;
        let rotary = self.rotary.rows(&Tensor::new(batch.positions(), &self.device)?)?;
        // 1. Embed: the residual stream, `[T, C]`.
        let residual = self.embed_tokens.index_select(&ids, 0)?.to_dtype(DType::F32)?;
        let key_values =
            Tensor::zeros((tokens, 2 * self.heads.value_width), DType::F32, &self.device)?;
        let passes = || {
            (0..tokens)
                .step_by(ROWS_PER_PASS)
                .map(|start| start..(start + ROWS_PER_PASS).min(tokens))
        };
        // 2. All layers but the last, a pass of rows at a time: keys stand before the rows that
        //    see them.
        for layer in layers {
            for rows in passes() {
                let x = residual.narrow(0, rows.start, rows.len())?;
                let rotary = rotary.narrow(0, rows.start, rows.len())?;
                let qkv = self.project(layer, &x, &rotary, self.heads)?;
                let query_width = self.heads.query_heads * self.heads.head_dim;
                let kv = qkv.narrow(1, query_width, 2 * self.heads.value_width)?.contiguous()?;
                key_values.slice_set(&kv, 0, rows.start)?;
                let q = qkv.narrow(1, 0, query_width)?;
                let attended = attention(&q, &key_values, &batch.spans(&rows), self.heads)?;
                let x = self.finish(layer, &x, &attended)?;
                residual.slice_set(&x, 0, rows.start)?;
            }
        }
        // 3. The last layer's keys and values.
        let keys_only = HeadLayout { query_heads: 0, ..self.heads };
        for rows in passes() {
            let x = residual.narrow(0, rows.start, rows.len())?;
            let rotary = rotary.narrow(0, rows.start, rows.len())?;
            key_values.slice_set(&self.project(last, &x, &rotary, keys_only)?, 0, rows.start)?;
        }
        // 4. The last layer's rest, for the last rows.
        let last_rows = Tensor::new(batch.last_rows(), &self.device)?;
        let x = residual.index_select(&last_rows, 0)?;
        let rotary = rotary.index_select(&last_rows, 0)?;
        let queries_only = HeadLayout { key_heads: 0, value_width: 0, ..self.heads };
        let q = self.project(last, &x, &rotary, queries_only)?;
        let attended = attention(&q, &key_values, &batch.last_spans(), self.heads)?;
        let x = self.finish(last, &x, &attended)?;
        // 5. Final norm and the head's one row.
        let x = rms_norm(&x, &self.norm, self.eps)?;
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
        let normed = rms_norm(x, &layer.input_layernorm, self.eps)?;
        let qkv = linear_rows(&normed, &layer.qkv_proj, first..first + width)?;
        qk_norm_rope(&qkv, &layer.qk_norm, rotary, wanted, self.eps)?;
        Ok(qkv)
    }

    /// What follows attention in a layer: output projection, MLP and both residual sums.
    fn finish(&self, layer: &Layer, x: &Tensor, attended: &Tensor) -> Result<Tensor> {
        let delta = linear(attended, &layer.o_proj)?;
        let both = add_rms_norm(x, &delta, &layer.post_attention_layernorm, self.eps)?;
        let hidden = silu_mul(&linear(&both.get(1)?, &layer.gate_up_proj)?)?;
        both.get(0)? + linear(&hidden, &layer.down_proj)?
    }
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
