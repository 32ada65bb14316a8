//! Messages of `reranker.v1.Reranker/Rerank`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reranker::fuzzing::grpc_rerank_message(bytes));
