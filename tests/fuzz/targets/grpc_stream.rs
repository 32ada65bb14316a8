//! Messages of `reranker.v1.Reranker/RerankStream`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reranker::fuzzing::grpc_stream_message(bytes));
