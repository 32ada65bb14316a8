//! gRPC: the same use-cases and errors as HTTP, as `google.rpc.Status`.

pub(crate) mod reranker;

use crate::error::{Error, Violation};
use std::time::Duration;
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
        Status::with_error_details(code, error.to_string(), details)
    }
}

fn field_violation(violation: &Violation) -> FieldViolation {
    FieldViolation::new(violation.path(), violation.message)
}
