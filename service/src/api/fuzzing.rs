//! What must hold for any bytes a client sends: the bodies of the fuzz targets in tests/fuzz.
//!
//! Each function panics if it does not. They live here because the parsers are private.

use crate::api::convert::RerankFields;
use crate::app::{Admission, App};
use crate::auth::Principal;
use crate::error::Error;
use crate::rerank::{self, MAX_TOTAL_BYTES};
use std::sync::OnceLock;
use std::time::Duration;

/// Lets a request in, as the gate would.
pub(crate) fn admit(timeout: Option<Duration>) -> Admission {
    static APP: OnceLock<App> = OnceLock::new();
    let app = APP.get_or_init(|| {
        let app = App::new(Vec::new());
        app.open();
        app
    });
    let admission = app.admit(timeout, Principal::anonymous()).expect("the gate is open");
    assert!(admission.deadline.is_none_or(|deadline| deadline >= admission.received));
    admission
}

/// A request is accepted if and only if it is within the limits.
pub(crate) fn check_limits(fields: RerankFields) {
    let total_bytes = rerank::total_bytes(&fields.query, &fields.documents);
    let documents = fields.documents.clone();
    match fields.into_request(&admit(None)) {
        Ok(request) => {
            assert!(total_bytes <= MAX_TOTAL_BYTES, "{total_bytes} bytes are accepted");
            assert_eq!(request.documents[..], documents[..]);
        }
        Err(Error::InputTooLarge { total_bytes: stated, limit_bytes }) => {
            assert!(stated == total_bytes && total_bytes > limit_bytes);
        }
        Err(Error::TooManyDocuments { documents: stated, limit }) => {
            assert!(stated == documents.len() && stated > limit);
        }
        Err(error) => panic!("{error}"),
    }
}
