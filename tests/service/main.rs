//! One module a behaviour: what a user of the service relies on.

mod bench;
mod cli;
mod compat;
mod connections;
mod cors;
mod deadlines;
mod faults;
mod fuzz_corpus;
mod grpc_meta;
mod http2;
mod http_errors;
mod http_sizes;
mod hub;
mod keys;
mod lifecycle;
mod limits;
mod mock;
mod overload;
mod parity;
mod rate_limits;
mod rerank_answers;
mod rerank_stream;
mod shutdown;
mod tls;
