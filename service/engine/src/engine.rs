//! The handle: load a model, send it requests, close it.

mod device;
mod request;

use crate::model::{Cuts, Model, ModelInfo, ModelSpec, Source};
use crate::schedule::{Limits, Scheduler, Stats};
use crate::{LoadError, SpecialTokens};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

pub use device::Device;
pub use request::{
    EncodedDocuments, EncodedQuery, EncodedRequest, Feed, PairScore, ScoreStream, Scores, Ticket,
};

/// The type of the weights in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtype {
    /// As the checkpoint's file has it.
    #[default]
    Auto,
    /// 32-bit floats: twice the memory of bf16, the same scores from bf16 files.
    F32,
    /// bfloat16; activations are rounded to it where the processor multiplies it itself, and are it on a card.
    Bf16,
    /// 8 bits, with a scale for every 128 values of a row, for weights and the rows they multiply. Scores
    /// are not quite the model's: tests/bench/README.md has what differs.
    Q8,
}

/// Gives an enum of words `FromStr` and `Display`.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ }) => {
        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    other => Err(format!("`{other}` is not one of {}", [$($word),+].join(", "))),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $word,)+
                })
            }
        }
    };
}

words!(Dtype { Auto = "auto", F32 = "f32", Bf16 = "bf16", Q8 = "q8" });
words!(SpecialTokens { Plain = "plain", Parse = "parse" });

/// The largest batch: that of the longest pair a zerank model takes. Memory beyond the weights is
/// bounded by it.
pub const MAX_BATCH_TOKENS: usize = 32_768;

/// How a model is loaded and run.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Where the forward runs.
    pub device: Device,
    /// The type of the weights in memory.
    pub dtype: Dtype,
    /// What a special token spelled in a query or document means.
    pub special_tokens: SpecialTokens,
    /// Token budget of one forward, at most [`MAX_BATCH_TOKENS`]; less where memory would not
    /// stay bounded, see [`ModelInfo`]. A longer pair runs alone. None: found at warm-up.
    pub max_batch_tokens: Option<usize>,
    /// Most tokens queued or running; a request over it is refused unless there are none.
    pub max_queued_tokens: usize,
    /// Longest expected wait before a request's own work; over it the request is refused.
    pub max_queue: Duration,
    /// Longest expected time to the answer of a fast request; over it an explicitly fast one is
    /// refused, and one without a class is slow.
    pub interactive: Duration,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            device: Device::default(),
            dtype: Dtype::default(),
            special_tokens: SpecialTokens::default(),
            max_batch_tokens: None,
            // About the largest request that the public API admits: 5 MB of English.
            max_queued_tokens: 1_500_000,
            // A sixth of the time that the official clients wait.
            max_queue: Duration::from_secs(10),
            interactive: Duration::from_secs(2),
        }
    }
}

/// What loading is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadEvent<'a> {
    /// Files come from the hub.
    Download {
        /// `organisation/name`.
        repository: &'a str,
        /// Bytes that have arrived.
        bytes: u64,
        /// Bytes of all files; 0 while unknown.
        total: u64,
    },
    /// Weights are read and checked.
    Layers {
        /// Layers done.
        done: usize,
        /// All layers.
        total: usize,
    },
    /// The first forwards run.
    Warmup,
}

/// A loaded model behind its queue. Clones share both.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    spec: ModelSpec,
    model: Arc<Model>,
    scheduler: Scheduler,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("info", &self.0.model.info).finish_non_exhaustive()
    }
}

impl Engine {
    /// Downloads what is missing, loads the weights, warms up and checks that scores are finite.
    ///
    /// Blocks for seconds to minutes, so it does not belong on an async thread; `observe` is told what
    /// it is busy with.
    ///
    /// # Errors
    /// One sentence that says what to change; see [`LoadError`].
    pub fn load(
        spec: &ModelSpec,
        source: &Source,
        options: &EngineOptions,
        observe: &mut dyn FnMut(LoadEvent<'_>),
    ) -> Result<Self, LoadError> {
        let mut model = Model::load(spec, source, options, observe)?;
        observe(LoadEvent::Warmup);
        let tokens_per_second = model.warm_up(options.max_batch_tokens)?;
        let limits = Limits {
            max_batch_tokens: model.info.max_batch_tokens,
            max_queued_tokens: options.max_queued_tokens,
            max_queue: options.max_queue,
            interactive: options.interactive,
            tokens_per_second,
        };
        let model = Arc::new(model);
        let scheduler = Scheduler::start(model.scorers(), limits);
        Ok(Self(Arc::new(Inner { spec: spec.clone(), model, scheduler })))
    }

    /// The model's prompt, cuts and scale.
    pub fn spec(&self) -> &ModelSpec {
        &self.0.spec
    }

    /// What was loaded.
    pub fn info(&self) -> &ModelInfo {
        &self.0.model.info
    }

    /// What the scheduler has done and has to do.
    pub fn stats(&self) -> Stats {
        self.0.scheduler.stats()
    }

    /// Refuses new requests, answers the admitted ones and ends the workers. Blocks meanwhile.
    pub fn close(&self) {
        self.0.scheduler.close();
    }

    /// Whether the workers live and take requests.
    pub fn is_healthy(&self) -> bool {
        self.0.scheduler.is_healthy()
    }
}
