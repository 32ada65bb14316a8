//! vLLM's `/score`: pairs of texts, in the request's order.

pub(super) mod fuzzing;

use super::super::body::{self, Fields};
use super::super::{admit, json_response};
use super::request::cuts;
use super::response::{self, Usage};
use crate::api::convert::RerankFields;
use crate::app::{App, RequestLimits};
use crate::error::{Error, Location, Violation};
use crate::rerank::{self, RerankResponse};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use reranker_engine::Cuts;
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// The left texts' names over vLLM's versions.
const LEFT: [&str; 3] = ["text_1", "queries", "data_1"];
/// The right texts' names.
const RIGHT: [&str; 4] = ["text_2", "documents", "items", "data_2"];

struct ScoreFields {
    model: Option<String>,
    left_name: &'static str,
    left: Vec<String>,
    right: Vec<String>,
    cuts: Cuts,
    raw_scores: bool,
}

pub(super) async fn score(State(app): State<App>, request: Request) -> Result<Response, Error> {
    let admission = admit(&app, &request)?;
    let fields = body::read(request.into_body(), score_fields).await?;
    let raw_scores = fields.raw_scores;
    let requests = fields.into_requests(&admission.limits)?.into_iter();
    let requests = requests.map(|fields| fields.into_request(&admission));
    let responses = app.rerank_all(requests.collect::<Result<_, _>>()?).await?;
    Ok(json_response(StatusCode::OK, &ScoreBody::new(&responses, raw_scores)))
}

fn score_fields(fields: &mut Fields<'_>) -> ScoreFields {
    let model = fields.optional_string("model");
    let (left_name, left) = first_of(fields, &LEFT);
    let (_, right) = first_of(fields, &RIGHT);
    ScoreFields {
        model,
        left_name,
        left,
        right,
        cuts: cuts(fields),
        raw_scores: fields.optional_bool("use_activation") == Some(false),
    }
}

/// The texts under the first of `names` that is there.
fn first_of(fields: &mut Fields<'_>, names: &[&'static str]) -> (&'static str, Vec<String>) {
    let name = names.iter().find(|name| fields.contains(name)).unwrap_or(&names[0]);
    (name, fields.string_or_strings(name))
}

impl ScoreFields {
    /// One request for each run of the same query.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if the sides do not match; [`Error::InputTooLarge`] if all together
    /// are over the limit of one request.
    fn into_requests(self, limits: &RequestLimits) -> Result<Vec<RerankFields>, Error> {
        let Self { model, left_name, left, right, cuts, raw_scores: _ } = self;
        if left.len() != 1 && left.len() != right.len() {
            return Err(Error::InvalidRequest(vec![Violation {
                kind: "value_error",
                location: vec![Location::Field(left_name)],
                message: "Input should be one text, or as many as there are on the other side",
            }]));
        }
        let request = |query: &str, documents: Vec<String>| RerankFields {
            model: model.clone(),
            query: query.to_owned(),
            documents,
            top_n: None,
            latency: None,
            cuts,
        };
        if left.len() <= 1 {
            return Ok(vec![request(left.first().map_or("", String::as_str), right)]);
        }
        let mut rest = right.into_iter();
        let requests: Vec<RerankFields> = left
            .chunk_by(|a, b| a == b)
            .map(|queries| request(&queries[0], rest.by_ref().take(queries.len()).collect()))
            .collect();
        let bytes = requests.iter().map(|one| rerank::total_bytes(&one.query, &one.documents));
        let documents = requests.iter().map(|one| one.documents.len()).sum();
        limits.check(documents, bytes.sum())?;
        Ok(requests)
    }
}

#[derive(Serialize)]
struct ScoreBody<'a> {
    id: String,
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    model: &'a str,
    data: Vec<ScoreData>,
    usage: Usage,
}

#[derive(Serialize)]
struct ScoreData {
    index: usize,
    object: &'static str,
    score: f64,
}

impl<'a> ScoreBody<'a> {
    fn new(responses: &'a [RerankResponse], raw_scores: bool) -> Self {
        let mut data = Vec::new();
        for response in responses {
            let first = data.len();
            data.extend(response.results.iter().map(|result| ScoreData {
                index: first + result.index,
                object: "score",
                score: response::score(result, raw_scores),
            }));
        }
        data.sort_by_key(|score| score.index);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            id: format!("score-{}", Uuid::new_v4()),
            object: "list",
            created: now.map_or(0, |now| now.as_secs()),
            model: responses.first().map_or("", |response| &response.model),
            data,
            usage: Usage::new(responses.iter().map(|response| response.total_tokens).sum()),
        }
    }
}
