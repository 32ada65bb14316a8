//! gRPC: the same use-cases and errors as HTTP, as `google.rpc.Status`.

pub(crate) mod fuzzing;
pub(crate) mod observe;
pub(crate) mod reranker;

use crate::error::{Error, Violation};
use std::sync::Arc;
use std::time::Duration;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        if let Error::Internal { cause } = &error {
            tracing::error!(cause, "gRPC call failed");
        }
        let mut details = ErrorDetails::new();
        if let Error::InvalidRequest(violations) = &error {
            details.set_bad_request(violations.iter().map(field_violation).collect::<Vec<_>>());
        }
        if let Some(seconds) = error.retry_after_seconds() {
            details.set_retry_info(Some(Duration::from_secs(seconds)));
        }
        let code = Code::from_i32(error.code().wire().grpc);
        let mut status = Status::with_error_details(code, error.to_string(), details);
        status.set_source(Arc::new(error));
        status
    }
}

/// The caller's timeout, `grpc-timeout`: up to eight digits and a unit.
///
/// Source: the gRPC protocol over HTTP/2.
fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_value = digits.len() <= 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let value: u64 = digits.parse().ok().filter(|_| is_value)?;
    match unit {
        "H" => Some(Duration::from_hours(value)),
        "M" => Some(Duration::from_mins(value)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

fn field_violation(violation: &Violation) -> FieldViolation {
    FieldViolation::new(violation.path(), violation.message)
}
