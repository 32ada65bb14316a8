//! Entry points of the fuzz targets; no part of the library's interface.
//!
//! Each takes any bytes and panics if the service would treat them wrongly.

pub use crate::api::grpc::fuzzing::{grpc_rerank_message, grpc_timeout};
pub use crate::api::http::fuzzing::{http_rerank_body, http_timeouts};

/// The parsers of single headers: the first byte says which.
pub fn headers(bytes: &[u8]) {
    match bytes.split_first() {
        Some((b'g', rest)) => grpc_timeout(rest),
        Some((_, rest)) => http_timeouts(rest),
        None => {}
    }
}
