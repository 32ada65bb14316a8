//! From a checkpoint to a scorer of packed batches.
//!
//! Owns loading, prompt and forward; knows no request, queue or clock.
//! Data: `source` → `config`, `tokenizer`, `weights` → `qwen3`; per call `tokenizer` → [`Batch`] →
//! logits.

mod batch;
mod config;
mod device;
mod memory;
mod prompt;
mod qwen3;
pub(crate) mod source;
mod spec;
mod tokenizer;
mod upload;
pub(crate) mod weights;

pub(crate) use batch::Batch;
pub use source::Source;
pub use spec::{ModelSpec, Prompt, Published};
pub use tokenizer::{Cuts, SpecialTokens};
pub(crate) use tokenizer::{EncodedDocument, EncodedPrefix, PairTokenizer};

use crate::{Dtype, EngineOptions, LoadError, LoadEvent, MAX_BATCH_TOKENS};
use candle_core::DType;
use config::Config;
use memory::Passes;
use qwen3::{EMBEDDING, Precision, Qwen3, activations, weight_bytes};
use source::Checkpoint;
use std::sync::Arc;
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
#[cfg_attr(
    not(any(feature = "cuda", test)),
    expect(dead_code, reason = "the CPU has memory for every batch and is not lost")
)]
pub(crate) enum ScoreFailure {
    /// Later batches are not affected.
    Batch(String),
    /// The device's memory does not hold the batch; smaller ones may fit.
    Memory(String),
    /// The device computes no more; only a new process helps.
    Device(String),
}

/// What was loaded, for logs and people.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// Where the checkpoint came from.
    pub source: String,
    /// The devices that compute: `cpu`, or numbers and products of cards.
    pub device: String,
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

/// A loaded model, once on every device.
pub(crate) struct Model {
    forwards: Vec<Arc<Forward>>,
    pub(crate) tokenizer: PairTokenizer,
    pub(crate) info: ModelInfo,
}

/// The model on one device.
struct Forward {
    qwen3: Qwen3,
    passes: Passes,
    is_card: bool,
}

impl Model {
    pub(crate) fn load(
        spec: &ModelSpec,
        source: &Source,
        options: &EngineOptions,
        observe: &mut dyn FnMut(LoadEvent<'_>),
    ) -> Result<Self, LoadError> {
        let devices = device::open(&options.device, options.dtype)?;
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
        let dtype = match options.dtype {
            Dtype::Auto | Dtype::Q8 => checkpoint.weights.dtype(EMBEDDING)?,
            Dtype::F32 => DType::F32,
            Dtype::Bf16 => DType::BF16,
        };
        let precision = Precision { dtype, is_quantised: options.dtype == Dtype::Q8 };
        let mut max_batch_tokens =
            options.max_batch_tokens.unwrap_or(MAX_BATCH_TOKENS).min(MAX_BATCH_TOKENS);
        let mut forwards = Vec::with_capacity(devices.len());
        for device in &devices {
            let qwen3 = Qwen3::load(
                &config,
                &checkpoint.weights,
                tokenizer.answer(),
                max_input_tokens,
                precision,
                device,
                observe,
            )?;
            let free = device::free_bytes(device);
            let weight_bytes = weight_bytes(&config, precision);
            let passes = Passes::new(&config, weight_bytes, activations(device, dtype), free);
            if let Some(free_bytes) = free
                && passes.needed(max_input_tokens) > free_bytes
            {
                let needed_bytes = passes.needed(max_input_tokens);
                let device = device::name(device);
                return Err(LoadError::NoMemory { device, free_bytes, needed_bytes });
            }
            max_batch_tokens = passes.max_batch_tokens(max_batch_tokens);
            forwards.push(Arc::new(Forward { qwen3, passes, is_card: free.is_some() }));
        }
        let info = ModelInfo {
            source: source.to_string(),
            device: devices.iter().map(device::name).collect::<Vec<_>>().join(", "),
            dtype: if precision.is_quantised { "q8" } else { dtype.as_str() },
            parameters: config.parameters(),
            max_input_tokens,
            max_batch_tokens,
        };
        Ok(Self { forwards, tokenizer, info })
    }

    /// What scores on each device.
    pub(crate) fn scorers(&self) -> Vec<Arc<dyn Scorer>> {
        self.forwards.iter().map(|forward| forward.clone() as Arc<dyn Scorer>).collect()
    }

    /// Runs some pairs, so that the first request finds everything in place, and finds the size of a
    /// batch unless it is `given`. On a card one of them is the longest, so that its memory is taken.
    /// Returns tokens per second, of all devices.
    ///
    /// # Errors
    /// If a device fails or a score is not finite.
    pub(crate) fn warm_up(&mut self, given: Option<usize>) -> Result<f64, LoadError> {
        let (mut size, mut rate) = (self.info.max_batch_tokens, 0.0);
        for forward in &self.forwards {
            let (fits, tokens_per_second) = self.warm_up_on(forward, given.is_some(), size)?;
            size = size.min(fits);
            rate += tokens_per_second;
        }
        if given.is_none() {
            self.info.max_batch_tokens = size;
        }
        Ok(rate)
    }

    /// The size of a batch, at most `limit`, not looked for if it `is_given`; and tokens per second.
    fn warm_up_on(
        &self,
        forward: &Forward,
        is_given: bool,
        limit: usize,
    ) -> Result<(usize, f64), LoadError> {
        let prefix = self.tokenizer.encode_query("warm up", Cuts::default());
        let mixed = ["", "One short document.", &"Several words. ".repeat(50)].map(str::to_owned);
        let mixed = self.tokenizer.encode_documents(&prefix, &mixed);
        let mixed: Vec<_> = mixed.into_iter().map(|document| document.ids).collect();
        forward.run(&prefix, &mixed)?;
        let document = ["What a passage of a document is like. ".repeat(12)];
        let document = self.tokenizer.encode_documents(&prefix, &document).remove(0).ids;
        if forward.is_card {
            let rest = self.info.max_input_tokens.saturating_sub(prefix.ids.len()).max(1);
            let longest: Vec<u32> = document.iter().copied().cycle().take(rest).collect();
            forward.run(&prefix, &[longest.into()])?;
        }
        let mut size = limit.min(SMALLEST_BATCH);
        loop {
            let documents = (size.saturating_sub(prefix.ids.len()) / document.len()).max(1);
            let run = || forward.run(&prefix, &vec![document.clone(); documents]);
            let mut elapsed = run()?;
            if forward.is_card {
                // The first of a size finds kernels and memory for it.
                elapsed = run()?;
            }
            let tokens = prefix.ids.len() + documents * document.len();
            let is_last = is_given || 2 * size > limit || 2 * elapsed > SLICE;
            if is_last {
                return Ok((size, tokens as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE)));
            }
            size *= 2;
        }
    }
}

impl Forward {
    fn run(&self, prefix: &EncodedPrefix, documents: &[Arc<[u32]>]) -> Result<Duration, LoadError> {
        let mut batch = Batch::default();
        batch.push_pairs(&prefix.ids, documents);
        let start = Instant::now();
        let logits = self.qwen3.forward(&batch, &self.passes)?;
        let elapsed = start.elapsed();
        if logits.iter().all(|logit| logit.is_finite()) {
            Ok(elapsed)
        } else {
            Err(LoadError::ScoreNotFinite)
        }
    }
}

impl Scorer for Forward {
    fn score(&self, batch: &Batch) -> Result<Vec<f32>, ScoreFailure> {
        self.qwen3.forward(batch, &self.passes).map_err(|error| failure(&error))
    }
}

#[cfg(feature = "cuda")]
fn failure(error: &candle_core::Error) -> ScoreFailure {
    use crate::kernels::cards::{Fault, fault};
    let reason = error.to_string();
    match fault(error) {
        None => ScoreFailure::Batch(reason),
        Some(Fault::Memory) => ScoreFailure::Memory(reason),
        Some(Fault::Lost) => ScoreFailure::Device(reason),
    }
}

#[cfg(not(feature = "cuda"))]
fn failure(error: &candle_core::Error) -> ScoreFailure {
    ScoreFailure::Batch(error.to_string())
}
