//! `POST /queries/*`.

mod response;

use super::body::{self, Fields};
use super::call::Call;
use super::json_response;
use crate::api::convert::queries::{QueryFields, Sought, latency_mode_violation};
use crate::api::{Access, blocking};
use crate::app::App;
use crate::error::Error;
use crate::queries;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use response::{DocumentsBody, PagesBody, SnippetsBody};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/queries/top-documents", post(top_documents))
        .route("/queries/top-pages", post(top_pages))
        .route("/queries/top-snippets", post(top_snippets))
}

async fn top_documents(State(app): State<App>, request: Request) -> Result<Response, Error> {
    let (call, body) = Call::enter(&app, request, Access::Read)?;
    let fields = body::read(body, |fields| {
        let query = QueryFields {
            collection_name: fields.string("collection_name"),
            query: fields.nullable_string("query"),
            k: fields.integer("k"),
            filter: fields.filter("filter"),
            reranker: fields.optional_string("reranker"),
            deep: deep(fields),
        };
        (query, flag(fields, "include_metadata"))
    });
    let (query, with_metadata) = fields.await?;
    let query = query.into_request(Sought::Documents, &call.admission)?;
    let results = app.top_documents(query).await?;
    let links = call.links;
    blocking(move || {
        let body = DocumentsBody::new(&results, with_metadata, &links);
        Ok(json_response(StatusCode::OK, &body))
    })
    .await
}

async fn top_pages(State(app): State<App>, request: Request) -> Result<Response, Error> {
    let (call, body) = Call::enter(&app, request, Access::Read)?;
    let fields = body::read(body, |fields| {
        let query = QueryFields {
            collection_name: fields.string("collection_name"),
            query: Some(fields.string("query")),
            k: fields.integer("k"),
            filter: fields.filter("filter"),
            reranker: None,
            deep: deep(fields),
        };
        (query, flag(fields, "include_content"), flag(fields, "include_metadata"))
    });
    let (query, with_text, with_metadata) = fields.await?;
    let query = query.into_request(Sought::Pages, &call.admission)?;
    let results = app.top_pages(query, with_text).await?;
    let links = call.links;
    blocking(move || {
        let body = PagesBody::new(&results, with_metadata, &links);
        Ok(json_response(StatusCode::OK, &body))
    })
    .await
}

async fn top_snippets(State(app): State<App>, request: Request) -> Result<Response, Error> {
    let (call, body) = Call::enter(&app, request, Access::Read)?;
    let fields = body::read(body, |fields| {
        let query = QueryFields {
            collection_name: fields.string("collection_name"),
            query: Some(fields.string("query")),
            k: fields.integer("k"),
            filter: fields.filter("filter"),
            reranker: fields.optional_string("reranker"),
            deep: false,
        };
        (query, flag(fields, "precise_responses"), flag(fields, "include_document_metadata"))
    });
    let (query, precise, with_metadata) = fields.await?;
    let query = query.into_request(Sought::Snippets, &call.admission)?;
    let results = app.top_snippets(query, queries::granularity(precise)).await?;
    let links = call.links;
    blocking(move || {
        let body = SnippetsBody::new(&results, with_metadata, &links);
        Ok(json_response(StatusCode::OK, &body))
    })
    .await
}

fn flag(fields: &mut Fields<'_>, name: &'static str) -> bool {
    fields.optional_bool(name).unwrap_or(false)
}

/// Whether to look at more candidates.
fn deep(fields: &mut Fields<'_>) -> bool {
    let words = [("low", false), ("high", true)];
    fields.optional_literal("latency_mode", &words, latency_mode_violation).unwrap_or(false)
}
