//! `POST /models/rerank`.

use super::body::{self, Fields};
use super::json_response;
use crate::api::convert::{self, RerankFields};
use crate::app::App;
use crate::error::Error;
use crate::rerank::{Latency, RerankResponse};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use reranker_engine::Cuts;
use serde::Serialize;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/models/rerank", post(rerank))
}

async fn rerank(State(app): State<App>, request: Request) -> Result<Response, Error> {
    let admission = super::admit(&app, &request)?;
    let fields = body::read(request.into_body(), rerank_fields).await?;
    let response = app.rerank(fields.into_request(&admission)?).await?;
    Ok(json_response(StatusCode::OK, &RerankBody::from(&response)))
}

pub(super) fn rerank_fields(fields: &mut Fields<'_>) -> RerankFields {
    RerankFields {
        model: fields.optional_string("model"),
        query: fields.string("query"),
        documents: fields.strings("documents"),
        top_n: fields
            .optional_integer("top_n")
            .and_then(|value| fields.checked(convert::top_n(value))),
        latency: fields.optional_literal(
            "latency",
            &[("fast", Latency::Fast), ("slow", Latency::Slow)],
            convert::latency_violation,
        ),
        cuts: Cuts::default(),
    }
}

#[derive(Serialize)]
pub(super) struct RerankBody {
    results: Vec<ResultBody>,
    total_bytes: u64,
    total_tokens: u64,
    actual_latency_mode: &'static str,
    e2e_latency: f64,
    inference_latency: f64,
}

#[derive(Serialize)]
struct ResultBody {
    index: usize,
    relevance_score: f64,
    /// Not a field of the hosted API: said only where there is something to say.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

impl From<&RerankResponse> for RerankBody {
    fn from(response: &RerankResponse) -> Self {
        let results = response.results.iter().map(|result| ResultBody {
            index: result.index,
            relevance_score: result.relevance_score,
            truncated: result.truncated,
        });
        Self {
            results: results.collect(),
            total_bytes: response.total_bytes,
            total_tokens: response.total_tokens,
            actual_latency_mode: match response.latency {
                Latency::Fast => "fast",
                Latency::Slow => "slow",
            },
            e2e_latency: response.e2e.as_secs_f64(),
            inference_latency: response.inference.as_secs_f64(),
        }
    }
}
