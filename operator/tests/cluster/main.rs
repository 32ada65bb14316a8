//! The operator against a real API server, scheduler and controller manager: `tests/cluster/cluster.sh` makes one, any
//! other is taken from `RERANKER_TEST_KUBECONFIG`. Nodes and kubelets are hollow: pods become ready without containers.
//!
//! Every test has a namespace, a node and an operator process of its own, which runs under a service account with the
//! rules of `reranker-operator rules`: what those lack fails here.

#[path = "../../src/crd/cases.rs"]
mod cases;
mod converge;
mod failures;
mod fleet;
mod harness;
mod hollow;
mod scale;
mod schema;
