//! The operator against a real API server, scheduler and controller manager: `tests/cluster/cluster.sh` makes one, any
//! other is taken from `RERANKER_TEST_KUBECONFIG`. Most tests' nodes are hollow: pods become ready without containers.
//! Those of `pods` serve the demo model in real ones, where `RERANKER_TEST_IMAGE` names an image for that.
//!
//! Every test has a namespace, a node and an operator process of its own, which runs under a service account with the
//! rules of the chart: what those lack fails here.

#[path = "../../src/crd/cases.rs"]
mod cases;
mod converge;
mod failures;
mod fleet;
mod harness;
mod hollow;
mod operator;
mod pods;
mod scale;
mod schema;
mod serving;
