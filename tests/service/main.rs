//! One module a behaviour: what a user of the service relies on.

mod bench;
mod cli;
mod compat;
mod deadlines;
mod faults;
mod fuzz_corpus;
mod grpc_meta;
mod http_errors;
mod http_sizes;
mod hub;
mod lifecycle;
mod mock;
mod overload;
mod parity;
mod rerank_answers;
mod rerank_stream;
mod shutdown;
