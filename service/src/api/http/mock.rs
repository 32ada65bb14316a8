//! Canned answers for `--mock`: every route of the hosted API, in its shapes.
//!
//! Names, limits and keys are not checked. What a request gives is given back where the answer has a
//! place for it: names, paths, texts.

mod answers;

use super::models::{self, RerankBody};
use super::{body, call, json_response};
use crate::api::blocking;
use crate::api::canned::TEXT;
use crate::api::convert::RerankFields;
use crate::app::App;
use crate::error::Error;
use answers::Asked;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde_json::Value;
use std::num::NonZeroUsize;

pub(super) fn routes() -> Router<App> {
    let ok = |answer| canned(StatusCode::OK, answer);
    let created = |answer| canned(StatusCode::CREATED, answer);
    Router::new()
        .route("/models/rerank", post(rerank))
        .route("/models/embed", post(embed))
        .route("/collections/add-collection", created(answers::success))
        .route("/collections/get-collection-list", ok(answers::collection_list))
        .route("/collections/delete-collection", ok(answers::success))
        .route("/documents/add-document", created(answers::success))
        .route("/documents/update-document", ok(answers::success))
        .route("/documents/delete-document", ok(answers::deleted_paths))
        .route("/documents/get-document-info", ok(answers::document_info))
        .route("/documents/get-document-info-list", ok(answers::document_info_list))
        .route("/documents/get-page-info", ok(answers::page_info))
        .route("/queries/top-documents", ok(answers::top_documents))
        .route("/queries/top-pages", ok(answers::top_pages))
        .route("/queries/top-snippets", ok(answers::top_snippets))
        .route("/status/get-status", ok(answers::status))
}

/// The routes that need no key.
pub(super) fn downloads() -> Router<App> {
    Router::new()
        .route("/documents/get-document", get(document))
        .route("/documents/get-page-image", get(page_image))
}

type Answer = fn(&Asked) -> Value;

fn canned(status: StatusCode, answer: Answer) -> MethodRouter<App> {
    post(async move |State(app): State<App>, request: Request| -> Result<Response, Error> {
        let _admission = super::admit(&app, &request)?;
        Ok(json_response(status, &answer(&asked(request).await?)))
    })
}

async fn asked(request: Request) -> Result<Asked, Error> {
    let (parts, body) = request.into_parts();
    let base = call::base(&parts);
    let is_next_page = call::query_parameter(&parts.uri, "path_gt").is_some();
    Ok(Asked { fields: body::object(body).await?, is_next_page, base })
}

async fn rerank(State(app): State<App>, request: Request) -> Result<Response, Error> {
    let admission = super::admit(&app, &request)?;
    let fields = body::read(request.into_body(), |fields| {
        // Taken here, a number out of range is none; there, it would be refused.
        let top_n = fields.optional_integer("top_n").and_then(|n| usize::try_from(n).ok());
        RerankFields { top_n: top_n.and_then(NonZeroUsize::new), ..models::rerank_fields(fields) }
    });
    let response = app.rerank(fields.await?.into_request(&admission)?).await?;
    Ok(json_response(StatusCode::OK, &RerankBody::from(&response)))
}

async fn embed(State(app): State<App>, request: Request) -> Result<Response, Error> {
    let _admission = super::admit(&app, &request)?;
    let asked = asked(request).await?;
    let answer = blocking(move || answers::embeddings(&asked)).await?;
    Ok(json_response(StatusCode::OK, &answer))
}

async fn document() -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], TEXT).into_response()
}

async fn page_image() -> Response {
    let image: &[u8] = include_bytes!("mock/page.jpg");
    ([(CONTENT_TYPE, "image/jpeg")], image).into_response()
}
