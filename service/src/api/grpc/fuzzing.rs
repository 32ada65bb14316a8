//! See `api::fuzzing`.

use super::timeout;
use crate::api::convert::RerankFields;
use crate::api::fuzzing::{admit, check_limits};
use crate::rerank::Latency;
use prost::Message;
use reranker_proto::v1::{LatencyMode, RerankRequest};
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Code, Status};

/// A message that parses is accepted if and only if its fields are in their ranges, as they are.
pub fn grpc_rerank_message(bytes: &[u8]) {
    let Ok(message) = RerankRequest::decode(bytes) else { return };
    let again = RerankRequest::decode(message.encode_to_vec().as_slice());
    assert_eq!(again.as_ref(), Ok(&message));
    let latency = LatencyMode::try_from(message.latency);
    let is_valid = message.top_n.is_none_or(|top_n| top_n >= 1) && latency.is_ok();
    match RerankFields::try_from(message.clone()) {
        Ok(fields) => {
            assert!(is_valid, "accepted: {message:?}");
            let top_n = fields.top_n.map(|top_n| i64::try_from(top_n.get()).unwrap_or(i64::MAX));
            let latency = match fields.latency {
                None => LatencyMode::Unspecified,
                Some(Latency::Fast) => LatencyMode::Fast,
                Some(Latency::Slow) => LatencyMode::Slow,
            };
            let seen = RerankRequest {
                model: fields.model.clone().unwrap_or_default(),
                query: fields.query.clone(),
                documents: fields.documents.clone(),
                top_n,
                latency: latency.into(),
            };
            assert_eq!(seen, message);
            check_limits(fields);
        }
        Err(error) => {
            assert!(!is_valid, "`{error}`: {message:?}");
            assert_eq!(Status::from(error).code(), Code::InvalidArgument);
        }
    }
}

/// `grpc-timeout` is one to eight digits and a unit, or it is none.
pub fn grpc_timeout(bytes: &[u8]) {
    let Ok(value) = AsciiMetadataValue::try_from(bytes) else { return };
    let mut metadata = MetadataMap::new();
    metadata.insert("grpc-timeout", value);
    let timeout = timeout(&metadata);
    admit(timeout);
    let is_valid = bytes.split_last().is_some_and(|(unit, digits)| {
        (1..=8).contains(&digits.len())
            && digits.iter().all(u8::is_ascii_digit)
            && b"HMSmun".contains(unit)
    });
    assert_eq!(timeout.is_some(), is_valid, "{timeout:?}");
}
