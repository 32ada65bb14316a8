//! What can go wrong: while loading, once and for good; while scoring, for one request.

use std::path::PathBuf;
use std::time::Duration;

/// Why a model was not loaded; each is one sentence that says what to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The source names a directory that is not there.
    #[error("no such directory `{}`: give the folder that holds config.json, tokenizer.json and the weights", .0.display())]
    NoDirectory(PathBuf),
    /// The device that was asked for is not there.
    #[error("no device `{device}`: {reason}")]
    NoDevice {
        /// What was asked for.
        device: crate::Device,
        /// What is missing: of the build, the driver or the machine.
        reason: String,
    },
    /// A card's memory does not hold the longest pair beside the weights.
    #[error(
        "device `{device}` has {free_bytes} bytes free beside the weights; the longest pair takes {needed_bytes}: \
         free memory on the card or choose another"
    )]
    NoMemory {
        /// The card.
        device: String,
        /// What nothing had taken when the weights were loaded.
        free_bytes: usize,
        /// What a forward of the longest pair may take.
        needed_bytes: usize,
    },
    /// A file of the checkpoint is missing.
    #[error("`{}` is missing", .0.display())]
    MissingFile(PathBuf),
    /// A file of the checkpoint could not be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file does not hold what its name promises.
    #[error("`{}` is not valid: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// A weights file ends before the data its header promises, or after it.
    #[error("`{}` is truncated or damaged: its header and its {bytes} bytes do not agree; download it again", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The checkpoint needs something that this engine does not compute.
    #[error("`{}` is not supported: {reason}", path.display())]
    Unsupported {
        /// The file that says so.
        path: PathBuf,
        /// What it needs and what is supported instead.
        reason: String,
    },
    /// A tensor that the configuration implies is not in the weights.
    #[error("tensor `{0}` is missing from the weights")]
    MissingTensor(String),
    /// A tensor's shape is not the one that the configuration implies.
    #[error("tensor `{name}` has shape {found:?}, config.json implies {expected:?}")]
    WrongShape {
        /// The tensor.
        name: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The shape the configuration implies.
        expected: Vec<usize>,
    },
    /// A tensor holds an infinite or undefined value.
    #[error(
        "tensor `{0}` holds a value that is not finite (NaN or infinity): the weights are damaged"
    )]
    NotFinite(String),
    /// The warm-up forward gave a score that is not finite.
    #[error("the model's scores are not finite: its weights are damaged or overflow")]
    ScoreNotFinite,
    /// The tokenizer lacks the answer token, splits it, or splits the prompt's frame.
    #[error("`{}` does not fit the model: {reason}", path.display())]
    Tokenizer {
        /// The tokenizer's file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The source is neither a directory nor `hf:org/repository[@revision]`.
    #[error(
        "`{0}` is not a model source: give a directory or hf:ORGANISATION/REPOSITORY[@REVISION]"
    )]
    BadSource(String),
    /// The hub did not give the files.
    #[error("cannot get `{repository}` at revision `{revision}` from the hub: {reason}")]
    Hub {
        /// `organisation/name`.
        repository: String,
        /// Commit, tag or branch.
        revision: String,
        /// What the hub or the network said, and what to do.
        reason: String,
    },
    /// The device failed while the model was loaded or warmed up.
    #[error("the model does not run on this device: {0}")]
    Device(#[from] candle_core::Error),
}

/// Why a request got no scores.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScoreError {
    /// The request was not let in: it would break a bound.
    #[error("overloaded: {bound}; come back in {:.1} s", retry_after.as_secs_f64())]
    Overloaded {
        /// The bound.
        bound: Bound,
        /// When the request is expected to keep to the bound.
        retry_after: Duration,
    },
    /// The caller's deadline has passed.
    #[error("the deadline has passed")]
    DeadlineExceeded,
    /// The request was given up before all its documents were there.
    #[error("cancelled")]
    Cancelled,
    /// The engine takes no new requests.
    #[error("the engine is shutting down")]
    Closing,
    /// The forward failed; other requests are not affected.
    #[error("scoring failed: {0}")]
    Failed(String),
}

/// What admission keeps to; times are expected ones, by the measured rate of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant says what `expected` and `limit` are of")]
pub enum Bound {
    /// Tokens in the queue.
    #[error("the queue is full")]
    Memory,
    /// The wait before a request's own work.
    #[error("the wait would be {:.1} s, the limit is {:.1} s", expected.as_secs_f64(), limit.as_secs_f64())]
    Queue { expected: Duration, limit: Duration },
    /// The time to the answer, which the caller limits.
    #[error("the answer would take {:.1} s, the caller waits {:.1} s", expected.as_secs_f64(), limit.as_secs_f64())]
    Deadline { expected: Duration, limit: Duration },
    /// The time to the answer of a request that asks for the fast class.
    #[error("a fast answer would take {:.1} s, the limit is {:.1} s", expected.as_secs_f64(), limit.as_secs_f64())]
    Interactive { expected: Duration, limit: Duration },
}
