//! The handle: load a model, send it requests, close it.

use crate::model::{Cuts, EncodedPairs, Model, ModelInfo, ModelSpec, Scorer, Source};
use crate::schedule::{Limits, Pending, Scheduler};
use crate::{LoadError, ScoreError, SpecialTokens};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Where the forward runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The best device of this machine that the build supports.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
}

/// The type of the weights in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtype {
    /// As the checkpoint's file has it.
    #[default]
    Auto,
    /// 32-bit floats: twice the memory of bf16, the same scores from bf16 files.
    F32,
    /// bfloat16; arithmetic stays in f32 on the CPU.
    Bf16,
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

words!(Device { Auto = "auto", Cpu = "cpu" });
words!(Dtype { Auto = "auto", F32 = "f32", Bf16 = "bf16" });
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
    /// stay bounded, see [`ModelInfo`]. A longer pair runs alone.
    pub max_batch_tokens: usize,
    /// Token budget of the queue; a request over it is refused unless the queue is empty.
    pub max_queued_tokens: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            device: Device::default(),
            dtype: Dtype::default(),
            special_tokens: SpecialTokens::default(),
            max_batch_tokens: 4096,
            // About the largest request that the public API admits: 5 MB of English.
            max_queued_tokens: 1_500_000,
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
        let model = Arc::new(Model::load(spec, source, options, observe)?);
        observe(LoadEvent::Warmup);
        model.warm_up()?;
        let limits = Limits {
            max_batch_tokens: model.info.max_batch_tokens,
            max_queued_tokens: options.max_queued_tokens,
        };
        let scheduler = Scheduler::start(model.clone() as Arc<dyn Scorer>, limits);
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

    /// Turns texts into tokens on the threads of the pool: the query once, documents in parallel.
    ///
    /// Takes time in proportion to the text, so it does not belong on an async thread.
    pub fn encode<D: AsRef<str> + Sync>(
        &self,
        query: &str,
        documents: &[D],
        cuts: Cuts,
    ) -> EncodedRequest {
        EncodedRequest(self.0.model.tokenizer.encode(query, documents, cuts))
    }

    /// Queues a request; never blocks.
    ///
    /// # Errors
    /// [`ScoreError::Overloaded`] if the queue has no room, [`ScoreError::Closing`] after
    /// [`close`](Self::close).
    pub fn submit(&self, request: EncodedRequest) -> Result<Ticket, ScoreError> {
        let EncodedRequest(pairs) = request;
        let lengths = pair_lengths(&pairs).collect();
        let pending = self.0.scheduler.submit(pairs)?;
        Ok(Ticket { engine: self.clone(), pending, lengths })
    }

    /// Scores documents against a query and waits for it: [`encode`](Self::encode),
    /// [`submit`](Self::submit) and [`Ticket::wait`].
    ///
    /// # Errors
    /// As [`submit`](Self::submit); also [`ScoreError::Failed`] if the forward failed.
    pub fn score<D: AsRef<str> + Sync>(
        &self,
        query: &str,
        documents: &[D],
    ) -> Result<Scores, ScoreError> {
        self.submit(self.encode(query, documents, Cuts::default()))?.wait()
    }

    /// Refuses new requests, answers the queued ones and ends the worker. Blocks meanwhile.
    pub fn close(&self) {
        self.0.scheduler.close();
    }

    /// Whether the worker lives and takes requests.
    pub fn is_healthy(&self) -> bool {
        self.0.scheduler.is_healthy()
    }
}

/// Token ids of one query and its documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedRequest(EncodedPairs);

impl EncodedRequest {
    /// Tokens of all pairs, each counted whole with its prompt.
    pub fn tokens(&self) -> usize {
        pair_lengths(&self.0).map(|(tokens, _)| tokens).sum()
    }

    /// The ids of one pair in its prompt, as a model without prefix sharing would read them.
    ///
    /// # Panics
    /// If there is no such document.
    pub fn pair(&self, document: usize) -> Vec<u32> {
        [&self.0.prefix[..], &self.0.documents[document].ids].concat()
    }
}

fn pair_lengths(pairs: &EncodedPairs) -> impl Iterator<Item = (usize, bool)> {
    let prefix = pairs.prefix.len();
    pairs.documents.iter().map(move |document| (prefix + document.ids.len(), document.truncated))
}

/// A queued request: a future of its scores. Dropping it cancels what has not run yet.
#[must_use = "dropping a ticket cancels its request"]
pub struct Ticket {
    engine: Engine,
    pending: Pending,
    /// Tokens of each pair, and whether it was cut.
    lengths: Vec<(usize, bool)>,
}

impl Ticket {
    /// Blocks until the scores are there.
    ///
    /// # Errors
    /// [`ScoreError::Failed`] if the forward failed.
    pub fn wait(self) -> Result<Scores, ScoreError> {
        let Self { engine, pending, lengths } = self;
        pending.wait().map(|outcome| Scores::new(&engine.0.spec, &lengths, &outcome))
    }
}

impl Future for Ticket {
    type Output = Result<Scores, ScoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.pending).poll(context));
        Poll::Ready(
            outcome.map(|outcome| Scores::new(&self.engine.0.spec, &self.lengths, &outcome)),
        )
    }
}

/// The scores of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// One for every document, in the request's order.
    pub pairs: Vec<PairScore>,
    /// Time the device spent on batches that held any of them.
    pub inference: Duration,
}

/// The score of one document.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairScore {
    /// The model's raw output.
    pub logit: f32,
    /// `sigmoid(logit / scale)`, in [0, 1].
    pub relevance_score: f64,
    /// What the relevance is the sigmoid of: `logit / scale`.
    pub raw_score: f64,
    /// Tokens of the pair in its prompt, after any cut.
    pub tokens: usize,
    /// The pair was too long for the model and lost its document's last tokens.
    pub truncated: bool,
}

impl Scores {
    fn new(
        spec: &ModelSpec,
        lengths: &[(usize, bool)],
        outcome: &crate::schedule::Outcome,
    ) -> Self {
        let pairs = outcome
            .logits
            .iter()
            .zip(lengths)
            .map(|(&logit, &(tokens, truncated))| PairScore {
                logit,
                relevance_score: spec.relevance_score(logit),
                raw_score: f64::from(logit) / spec.scale,
                tokens,
                truncated,
            })
            .collect();
        Self { pairs, inference: outcome.inference }
    }
}
