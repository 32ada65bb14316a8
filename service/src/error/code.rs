//! Kinds of errors, and the one table from them to both protocols.

/// What kind of answer an error gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table beside it says what each means")]
pub enum ErrorCode {
    InvalidRequest,
    LimitExceeded,
    Unauthenticated,
    PermissionDenied,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    StorageFull,
    RouteNotFound,
    MethodNotAllowed,
    PayloadTooLarge,
    BodyTimeout,
    Overloaded,
    Unavailable,
    DeadlineExceeded,
    Internal,
}

/// An error code as the two protocols write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// A value of `google.rpc.Code`.
    pub grpc: i32,
    /// The HTTP status.
    pub http: u16,
    /// False: tells the official clients not to retry what their own list would retry.
    pub retry: bool,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 16] = [
        Self::InvalidRequest,
        Self::LimitExceeded,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::NotFound,
        Self::AlreadyExists,
        Self::FailedPrecondition,
        Self::StorageFull,
        Self::RouteNotFound,
        Self::MethodNotAllowed,
        Self::PayloadTooLarge,
        Self::BodyTimeout,
        Self::Overloaded,
        Self::Unavailable,
        Self::DeadlineExceeded,
        Self::Internal,
    ];

    /// The code in logs and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::LimitExceeded => "limit_exceeded",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::FailedPrecondition => "failed_precondition",
            Self::StorageFull => "storage_full",
            Self::RouteNotFound => "route_not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::PayloadTooLarge => "payload_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Internal => "internal",
        }
    }

    /// As [`Error::refusal`](super::Error::refusal), where only the code is known.
    pub(crate) const fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Overloaded => Some("overloaded"),
            Self::Unavailable => Some("unavailable"),
            Self::DeadlineExceeded => Some("deadline"),
            Self::Unauthenticated => Some("unauthenticated"),
            Self::PermissionDenied => Some("permission_denied"),
            Self::StorageFull => Some("storage_full"),
            _ => None,
        }
    }

    /// The one table from errors to protocols.
    pub const fn wire(self) -> Wire {
        let (grpc, http, retry) = match self {
            Self::InvalidRequest => (3, 422, true),   // INVALID_ARGUMENT
            Self::LimitExceeded => (3, 400, true),    // INVALID_ARGUMENT
            Self::Unauthenticated => (16, 401, true), // UNAUTHENTICATED
            Self::PermissionDenied => (7, 403, true), // PERMISSION_DENIED
            Self::NotFound => (5, 404, true),         // NOT_FOUND
            Self::AlreadyExists => (6, 409, false),   // ALREADY_EXISTS
            Self::FailedPrecondition => (9, 400, true), // FAILED_PRECONDITION
            Self::StorageFull => (8, 507, false),     // RESOURCE_EXHAUSTED
            Self::RouteNotFound => (12, 404, true),   // UNIMPLEMENTED
            Self::MethodNotAllowed => (12, 405, true), // UNIMPLEMENTED
            Self::PayloadTooLarge => (11, 413, true), // OUT_OF_RANGE
            Self::BodyTimeout => (4, 408, true),      // DEADLINE_EXCEEDED
            Self::Overloaded => (8, 429, true),       // RESOURCE_EXHAUSTED
            Self::Unavailable => (14, 503, true),     // UNAVAILABLE
            Self::DeadlineExceeded => (4, 504, false), // DEADLINE_EXCEEDED
            Self::Internal => (13, 500, false),       // INTERNAL
        };
        Wire { grpc, http, retry }
    }
}
