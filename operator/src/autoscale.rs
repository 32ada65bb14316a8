//! The number of pods: samples of their load come in, a number goes out.
//!
//! ```text
//! signal (asks the pods) ──> policy (pure) ──> scale subresource ──> next reconcile
//!                            simulator: the same policy over a trace in virtual time
//! ```

pub mod limits;
pub mod policy;
pub mod record;
pub mod scaling;
pub mod signal;
pub mod simulator;
pub mod window;
