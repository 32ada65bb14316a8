//! From a checkpoint to a scorer of packed batches.
//!
//! Owns loading, prompt and forward; knows no request, queue or clock.
//! Data: `source` → `config`, `tokenizer`, `weights` → `qwen3`; per call `tokenizer` → [`Batch`] →
//! logits.

mod batch;
mod config;
mod prompt;
mod qwen3;
pub(crate) mod source;
mod spec;
mod tokenizer;
pub(crate) mod weights;

pub(crate) use batch::Batch;
pub use source::Source;
pub use spec::{ModelSpec, Prompt, Published};
#[cfg(test)]
pub(crate) use tokenizer::EncodedDocument;
pub use tokenizer::{Cuts, SpecialTokens};
pub(crate) use tokenizer::{EncodedPairs, PairTokenizer};

use crate::{Device, Dtype, EngineOptions, LoadError, LoadEvent, MAX_BATCH_TOKENS};
use candle_core::DType;
use config::Config;
use qwen3::{EMBEDDING, Qwen3, working_bytes};
use source::Checkpoint;

/// What turns a batch into logits: the seam between scheduling and the model.
pub(crate) trait Scorer: Send + Sync + 'static {
    /// The answer's logit after every document of `batch`, in the order they were added.
    ///
    /// # Errors
    /// A sentence for the log; the batch's requests fail, later batches are not affected.
    fn score(&self, batch: &Batch) -> Result<Vec<f32>, String>;
}

/// What was loaded, for logs and people.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// Where the checkpoint came from.
    pub source: String,
    /// The device that computes.
    pub device: &'static str,
    /// Type of the weights in memory: `f32` or `bf16`.
    pub dtype: &'static str,
    /// Parameters of this checkpoint, a tied head counted once.
    pub parameters: u64,
    /// Most tokens of one pair in its prompt; longer pairs are cut in the document.
    pub max_input_tokens: usize,
    /// Most tokens of one batch: what was asked for, or less to keep memory beyond the weights
    /// within 15 % of them and 200 MB. A longer pair runs alone.
    pub max_batch_tokens: usize,
}

/// Memory that may be taken beyond the weights, beside 15 % of them.
const BEYOND_BYTES: usize = 200_000_000;
/// What of it the process has without any batch: code, tokenizer, rotary table (measured).
const PROCESS_BYTES: usize = 60_000_000;
/// What the allocator adds to the sizes that are asked for, in per cent (measured).
const ALLOCATOR_PERCENT: usize = 125;

/// Whether a batch keeps to the bound on memory.
fn fits(config: &Config, weight_bytes: usize, tokens: usize) -> bool {
    let allowed = BEYOND_BYTES - PROCESS_BYTES + weight_bytes * 15 / 100;
    working_bytes(config, tokens) * ALLOCATOR_PERCENT / 100 <= allowed
}

/// The largest batch of at most `wanted` tokens within the bound on memory; at least one token.
fn max_batch_tokens(config: &Config, weight_bytes: usize, wanted: usize) -> usize {
    let (mut low, mut high) = (1, wanted.max(1));
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(config, weight_bytes, middle) { low = middle } else { high = middle - 1 }
    }
    low
}

/// A loaded model.
pub(crate) struct Model {
    qwen3: Qwen3,
    pub(crate) tokenizer: PairTokenizer,
    pub(crate) info: ModelInfo,
}

impl Model {
    pub(crate) fn load(
        spec: &ModelSpec,
        source: &Source,
        options: &EngineOptions,
        observe: &mut dyn FnMut(LoadEvent<'_>),
    ) -> Result<Self, LoadError> {
        let checkpoint = Checkpoint::open(source, observe)?;
        let config = Config::parse(&checkpoint.config, &checkpoint.config_path)?;
        let max_input_tokens = spec.max_input_tokens.min(config.max_position_embeddings);
        let tokenizer = PairTokenizer::parse(
            &checkpoint.tokenizer,
            &checkpoint.tokenizer_path,
            spec,
            options.special_tokens,
            config.vocab_size,
            max_input_tokens,
        )?;
        let device = match options.device {
            Device::Auto | Device::Cpu => candle_core::Device::Cpu,
        };
        let dtype = match options.dtype {
            Dtype::Auto => checkpoint.weights.dtype(EMBEDDING)?,
            Dtype::F32 => DType::F32,
            Dtype::Bf16 => DType::BF16,
        };
        let qwen3 = Qwen3::load(
            &config,
            &checkpoint.weights,
            tokenizer.answer(),
            max_input_tokens,
            dtype,
            &device,
            observe,
        )?;
        let info = ModelInfo {
            source: source.to_string(),
            device: "cpu",
            dtype: dtype.as_str(),
            parameters: config.parameters(),
            max_input_tokens,
            max_batch_tokens: max_batch_tokens(
                &config,
                config.parameters() as usize * dtype.size_in_bytes(),
                options.max_batch_tokens.min(MAX_BATCH_TOKENS),
            ),
        };
        Ok(Self { qwen3, tokenizer, info })
    }

    /// Runs some short pairs, so that the first request finds everything in place.
    ///
    /// # Errors
    /// If the device fails or a score is not finite.
    pub(crate) fn warm_up(&self) -> Result<(), LoadError> {
        let documents = ["", "One short document.", &"Several words. ".repeat(50)];
        let mut batch = Batch::default();
        batch.push_pairs(
            &self.tokenizer.encode("warm up", &documents, Cuts::default()),
            0..documents.len(),
        );
        let logits = self.qwen3.forward(&batch)?;
        if logits.iter().all(|logit| logit.is_finite()) {
            Ok(())
        } else {
            Err(LoadError::ScoreNotFinite)
        }
    }
}

impl Scorer for Model {
    fn score(&self, batch: &Batch) -> Result<Vec<f32>, String> {
        self.qwen3.forward(batch).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch larger than memory ends the process, and every request with it.
    #[test]
    fn a_batch_is_cut_to_the_memory_that_the_model_may_take() {
        let config = |hidden_size, num_attention_heads, intermediate_size| Config {
            vocab_size: 8192,
            hidden_size,
            intermediate_size,
            num_hidden_layers: 28,
            num_attention_heads,
            num_key_value_heads: 8,
            head_dim: 128,
            max_position_embeddings: 40_960,
            rms_norm_eps: 1e-6,
            rope_theta: 1e6,
            tie_word_embeddings: true,
        };
        let small = (config(2048, 16, 6144), 3_441_149_952);
        assert_eq!(max_batch_tokens(&small.0, small.1, 4096), 4096);
        for (config, bytes) in [small, (config(1024, 16, 3072), 268_000_000)] {
            let limit = max_batch_tokens(&config, bytes, 32_768);
            assert!(limit < 32_768 && fits(&config, bytes, limit), "{limit}");
            assert!(!fits(&config, bytes, limit + 1), "{limit} is not the largest");
        }
        assert_eq!(max_batch_tokens(&config(1 << 22, 16, 1 << 24), 0, 32_768), 1);
    }
}
