//! `GET /openapi.json`: what this API takes and gives.

use super::JSON;
use crate::app::App;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// Written by hand; tests/service/openapi.rs compares it with the hosted API's and with the routes.
const DOCUMENT: &str = include_str!("openapi.json");

pub(super) fn routes() -> Router<App> {
    Router::new().route("/openapi.json", get(openapi))
}

async fn openapi() -> Response {
    ([(CONTENT_TYPE, JSON)], DOCUMENT).into_response()
}
