//! The operator of the reranker: it makes what a [`crd::RerankerDeployment`] asks for, and keeps it so.
//!
//! ```text
//! cli ──> leader ──> controller ──> validate    spec -> Reranker, or what is wrong   pure
//!     │                         ├─> resources   Reranker -> children                 pure
//!     │                         ├─> apply       children -> cluster, then prune      writes
//!     │                         ├─> observe     Deployment, pods, Job                reads
//!     │                         └─> status      observed -> conditions               pure
//!     ├─> watches: what belongs to objects -> the objects to pass over
//!     ├─> autoscale: load of the pods -> spec.replicas, beside all that
//!     ├─> scaler: the same figures, for KEDA
//!     └─> server: /livez, /readyz, /metrics
//! ```
//!
//! Invariants
//! - After `validate` nobody reads the raw spec.
//! - A second pass over an unchanged object changes nothing and writes no status.
//! - The same spec gives the same pod template, whatever the operator's version.
//! - `spec.replicas` has one writer; the Deployment follows it and has no other.
//! - An unknown load is not zero load.

pub mod apply;
pub mod autoscale;
pub mod cli;
pub mod controller;
pub mod crd;
pub mod events;
pub mod leader;
pub mod metrics;
pub mod observe;
pub mod rbac;
pub mod resources;
pub mod scaler;
pub mod server;
pub mod status;
pub mod validate;
pub mod watches;
