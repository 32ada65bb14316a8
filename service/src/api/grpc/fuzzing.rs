//! See `api::fuzzing`.

use super::timeout;
use crate::api::convert::{self, RerankFields};
use crate::api::fuzzing::{admit, check_limits};
use crate::rerank::Latency;
use prost::Message;
use reranker_engine::Cuts;
use reranker_proto::v1::rerank_stream_request::Message as Sent;
use reranker_proto::v1::{LatencyMode, RerankRequest, RerankStreamRequest};
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
            let seen = RerankRequest {
                model: fields.model.clone().unwrap_or_default(),
                query: fields.query.clone(),
                documents: fields.documents.clone(),
                top_n,
                latency: mode(fields.latency).into(),
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

fn mode(latency: Option<Latency>) -> LatencyMode {
    match latency {
        None => LatencyMode::Unspecified,
        Some(Latency::Fast) => LatencyMode::Fast,
        Some(Latency::Slow) => LatencyMode::Slow,
    }
}

/// A message of a stream that parses is a header, taken as it is if and only if its class is known, or
/// documents within the limits of a request, or of a kind that is not known yet.
pub fn grpc_stream_message(bytes: &[u8]) {
    let Ok(message) = RerankStreamRequest::decode(bytes) else { return };
    let again = RerankStreamRequest::decode(message.encode_to_vec().as_slice());
    assert_eq!(again.as_ref(), Ok(&message));
    match message.message {
        None => {}
        Some(Sent::Documents(message)) => check_limits(RerankFields {
            model: None,
            query: String::new(),
            documents: message.documents,
            top_n: None,
            latency: None,
            cuts: Cuts::default(),
        }),
        Some(Sent::Header(header)) => {
            let is_valid = LatencyMode::try_from(header.latency).is_ok();
            match convert::stream_header(header.clone(), &admit(None)) {
                Ok(taken) => {
                    assert!(is_valid, "accepted: {header:?}");
                    assert_eq!(taken.model.unwrap_or_default(), header.model);
                    assert_eq!(taken.query, header.query);
                    assert_eq!(i32::from(mode(taken.latency)), header.latency);
                }
                Err(error) => {
                    assert!(!is_valid, "`{error}`: {header:?}");
                    assert_eq!(Status::from(error).code(), Code::InvalidArgument);
                }
            }
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
