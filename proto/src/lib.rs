//! The gRPC contract of the service: messages, client and server of `reranker.v1`.
//!
//! Owns the wire types and nothing else; `reranker/v1/*.proto` documents every field. The service
//! turns them into its domain types in `reranker::api` and uses them nowhere else.

/// `reranker.v1`, generated from `reranker/v1/*.proto`.
pub mod v1 {
    #![expect(missing_docs, clippy::allow_attributes, clippy::pedantic, reason = "generated code")]
    tonic::include_proto!("reranker.v1");
}

/// The compiled contract with its comments, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("reranker_descriptor");
