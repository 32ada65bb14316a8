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
pub use tokenizer::{Cuts, SpecialTokens};
pub(crate) use tokenizer::{EncodedDocument, EncodedPrefix, PairTokenizer};

use crate::{Device, Dtype, EngineOptions, LoadError, LoadEvent, MAX_BATCH_TOKENS};
use candle_core::DType;
use config::Config;
use qwen3::{EMBEDDING, Precision, Qwen3, weight_bytes, working_bytes};
use source::Checkpoint;
use std::time::{Duration, Instant};

/// What turns a batch into logits: the seam between scheduling and the model.
pub(crate) trait Scorer: Send + Sync + 'static {
    /// The answer's logit after every document of `batch`, in the order they were added.
    ///
    /// # Errors
    /// See [`ScoreFailure`].
    fn score(&self, batch: &Batch) -> Result<Vec<f32>, ScoreFailure>;
}

/// Why a batch has no logits, as a sentence for the log.
#[derive(Debug)]
pub(crate) enum ScoreFailure {
    /// Later batches are not affected.
    Batch(String),
    /// The device computes no more; only a new process helps.
    Device(String),
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
    /// Most tokens of one batch: what was asked for or found at warm-up, or less to keep memory beyond the weights
    /// within 15 % of them and 200 MB. A longer pair runs alone.
    pub max_batch_tokens: usize,
}

/// How long a batch should take where its size is not given: others wait for one.
const SLICE: Duration = Duration::from_millis(50);
/// Smaller batches than this are not chosen: slow devices lose more in speed than others in wait.
const SMALLEST_BATCH: usize = 512;

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
            Dtype::Auto | Dtype::Q8 => checkpoint.weights.dtype(EMBEDDING)?,
            Dtype::F32 => DType::F32,
            Dtype::Bf16 => DType::BF16,
        };
        let precision = Precision { dtype, is_quantised: options.dtype == Dtype::Q8 };
        let qwen3 = Qwen3::load(
            &config,
            &checkpoint.weights,
            tokenizer.answer(),
            max_input_tokens,
            precision,
            &device,
            observe,
        )?;
        let info = ModelInfo {
            source: source.to_string(),
            device: "cpu",
            dtype: if precision.is_quantised { "q8" } else { dtype.as_str() },
            parameters: config.parameters(),
            max_input_tokens,
            max_batch_tokens: max_batch_tokens(
                &config,
                weight_bytes(&config, precision),
                options.max_batch_tokens.unwrap_or(MAX_BATCH_TOKENS).min(MAX_BATCH_TOKENS),
            ),
        };
        Ok(Self { qwen3, tokenizer, info })
    }

    /// Runs some pairs, so that the first request finds everything in place, and finds the size of a
    /// batch unless it is `given`. Returns tokens per second.
    ///
    /// # Errors
    /// If the device fails or a score is not finite.
    pub(crate) fn warm_up(&mut self, given: Option<usize>) -> Result<f64, LoadError> {
        let prefix = self.tokenizer.encode_query("warm up", Cuts::default());
        let mixed = ["", "One short document.", &"Several words. ".repeat(50)].map(str::to_owned);
        self.run(&prefix, self.tokenizer.encode_documents(&prefix, &mixed))?;
        let document = ["What a passage of a document is like. ".repeat(12)];
        let document = self.tokenizer.encode_documents(&prefix, &document).remove(0);
        let limit = self.info.max_batch_tokens;
        let mut size = given.unwrap_or(limit).min(SMALLEST_BATCH).min(limit);
        loop {
            let documents = (size.saturating_sub(prefix.ids.len()) / document.ids.len()).max(1);
            let elapsed = self.run(&prefix, vec![document.clone(); documents])?;
            let tokens = prefix.ids.len() + documents * document.ids.len();
            let is_last = given.is_some() || 2 * size > limit || 2 * elapsed > SLICE;
            if is_last {
                if given.is_none() {
                    self.info.max_batch_tokens = size;
                }
                return Ok(tokens as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE));
            }
            size *= 2;
        }
    }

    fn run(
        &self,
        prefix: &EncodedPrefix,
        documents: Vec<EncodedDocument>,
    ) -> Result<Duration, LoadError> {
        let mut batch = Batch::default();
        let documents: Vec<_> = documents.into_iter().map(|document| document.ids).collect();
        batch.push_pairs(&prefix.ids, &documents);
        let start = Instant::now();
        let logits = self.qwen3.forward(&batch)?;
        let elapsed = start.elapsed();
        if logits.iter().all(|logit| logit.is_finite()) {
            Ok(elapsed)
        } else {
            Err(LoadError::ScoreNotFinite)
        }
    }
}

impl Scorer for Model {
    fn score(&self, batch: &Batch) -> Result<Vec<f32>, ScoreFailure> {
        self.qwen3.forward(batch).map_err(|error| match error {
            // A CUDA context does not recover from an error.
            candle_core::Error::Cuda(_) => ScoreFailure::Device(error.to_string()),
            _ => ScoreFailure::Batch(error.to_string()),
        })
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
