//! The rerank routes of other APIs: Cohere, Jina, Voyage, vLLM and Text Embeddings Inference.
//!
//! All run the same use-case as `/models/rerank`, with its models, limits and errors. One answer
//! holds what the clients of all of them read, but for TEI's bare list (a request with `texts`) and
//! vLLM's `/score`.
//!
//! `Fields -> request -> App::rerank -> response`

pub(super) mod fuzzing;
mod request;
mod response;
mod score;

use super::{body, error_response, json_response};
use crate::app::App;
use crate::error::{Error, ErrorCode};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use request::Asked;
use response::{TeiResult, UnionBody};
use serde_json::json;
use std::sync::Arc;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/rerank", reranking(Route::Root))
        .route("/v1/rerank", reranking(Route::V1))
        .route("/v2/rerank", reranking(Route::V2))
        .route("/score", post(score::score))
        .route("/v1/score", post(score::score))
}

/// Where a rerank request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    /// vLLM and TEI.
    Root,
    /// Cohere v1, Jina, Voyage, vLLM.
    V1,
    /// Cohere v2, vLLM.
    V2,
}

fn reranking(route: Route) -> MethodRouter<App> {
    post(move |State(app): State<App>, request: Request| rerank(app, route, request))
}

async fn rerank(app: App, route: Route, request: Request) -> Response {
    // TEI's own route is the root's: until the body is read, its client may be the one that asks.
    let mut is_tei = route == Route::Root;
    match answer(&app, route, request, &mut is_tei).await {
        Ok(response) => response,
        Err(error) if is_tei => tei_error(error),
        Err(error) => error.into_response(),
    }
}

async fn answer(
    app: &App,
    route: Route,
    request: Request,
    is_tei: &mut bool,
) -> Result<Response, Error> {
    let admission = super::admit(app, &request)?;
    let take = if route == Route::V2 { Asked::take_union } else { Asked::take };
    let asked = body::read(request.into_body(), take).await?;
    *is_tei = matches!(asked, Asked::Tei(_));
    match asked {
        Asked::Tei(request) => {
            let request::Tei { fields, raw_scores, return_text } = request?;
            let request = fields.into_request(&admission)?;
            let texts = return_text.then(|| Arc::clone(&request.documents));
            let response = app.rerank(request).await?;
            let body = TeiResult::list(&response, texts.as_deref(), raw_scores);
            Ok(json_response(StatusCode::OK, &body))
        }
        Asked::Union(request) => {
            let request::Union { fields, return_documents, raw_scores } = request?;
            let request = fields.into_request(&admission)?;
            let documents = Arc::clone(&request.documents);
            let response = app.rerank(request).await?;
            let body = UnionBody::new(&response, &documents, route, return_documents, raw_scores);
            Ok(json_response(StatusCode::OK, &body))
        }
    }
}

/// An error in TEI's words beside ours.
fn tei_error(error: Error) -> Response {
    let error_type = match error.code() {
        ErrorCode::Overloaded => "overloaded",
        ErrorCode::Unavailable => "unhealthy",
        ErrorCode::DeadlineExceeded | ErrorCode::Internal => "backend",
        _ => "validation",
    };
    let message = error.to_string();
    error_response(error, |body| {
        body["error"] = json!(message);
        body["error_type"] = json!(error_type);
    })
}
