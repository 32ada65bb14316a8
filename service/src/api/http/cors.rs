//! Calls from pages of other origins: off unless origins are configured.

use super::{REQUEST_ID, SHOULD_RETRY};
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Method, Uri};
use std::str::FromStr;
use std::time::Duration;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

/// Browsers ask again after this, if they keep the permission that long.
const MAX_AGE: Duration = Duration::from_hours(1);

/// An origin whose pages may call: `https://search.example.com`, or `*` for any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(HeaderValue);

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_origin = |uri: Uri| {
            uri.scheme().zip(uri.authority()).is_some_and(|(scheme, authority)| {
                // As browsers write it: no path, not even `/`, and no capitals.
                text == format!("{scheme}://{authority}") && text == text.to_lowercase()
            })
        };
        let valid = text == "*" || text.parse().is_ok_and(is_origin);
        HeaderValue::from_str(text).ok().filter(|_| valid).map(Self).ok_or_else(|| {
            format!("`{text}` is not an origin such as `https://search.example.com`, nor `*`")
        })
    }
}

/// Answers preflight requests and marks the other answers; none: pages of other origins may not call.
pub(super) fn layer(origins: &[Origin]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let allowed = if origins.iter().any(|Origin(origin)| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().map(|Origin(origin)| origin.clone()))
    };
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST])
        // The official Node client sends a dozen headers of its own.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([REQUEST_ID, SHOULD_RETRY, RETRY_AFTER, WWW_AUTHENTICATE])
        .max_age(MAX_AGE);
    Some(layer)
}
