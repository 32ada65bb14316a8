//! zerank cross-encoders as a library: model, kernels and scheduler.
//!
//! ```text
//! Engine ──> schedule (admission, queue, worker) ──> model (Scorer, Batch) ──> kernels
//!    └─────> model (tokenizer: texts to token ids)
//! ```
//!
//! One forward for every device: pairs are packed without padding, a query's tokens are computed
//! once for all its documents in a batch, the last layer runs for one row a document, and the head
//! is one row. A score does not depend on what else is in the batch.
//!
//! Nothing here knows a wire protocol, a store or the command line; there is no global state.
//!
//! ```
//! use reranker_engine::{Engine, EngineOptions, ModelSpec};
//!
//! let spec = ModelSpec::find("demo").expect("the demo model is inside the library");
//! let source = spec.source().expect("and so has a source");
//! let engine = Engine::load(spec, &source, &EngineOptions::default(), &mut |_| {})?;
//! let scores = engine.score("What is 2+2?", &["4", "The answer is definitely 1 million."])?;
//! assert!(scores.pairs[0].relevance_score > scores.pairs[1].relevance_score);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod engine;
mod error;
pub mod fixture;
mod kernels;
mod model;
mod schedule;

pub use engine::{
    Device, Dtype, EncodedDocuments, EncodedQuery, EncodedRequest, Engine, EngineOptions, Feed,
    LoadEvent, MAX_BATCH_TOKENS, PairScore, ScoreStream, Scores, Ticket,
};
pub use error::{Bound, LoadError, ScoreError};
pub use model::{Cuts, ModelInfo, ModelSpec, Prompt, Published, Source, SpecialTokens};
pub use schedule::{Latency, Stats};
