//! `POST /status/get-status`.

use super::body::{self, Fields};
use super::call::Call;
use super::json_response;
use crate::api::Access;
use crate::api::convert::collections;
use crate::app::App;
use crate::collection::Statistics;
use crate::error::Error;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use serde::Serialize;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/status/get-status", post(get_status))
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are the hosted API's")]
struct StatusBody {
    num_documents: u64,
    num_parsing_documents: u64,
    num_indexing_documents: u64,
    num_indexed_documents: u64,
    num_failed_documents: u64,
    num_indexed_bytes: u64,
}

impl From<Statistics> for StatusBody {
    fn from(statistics: Statistics) -> Self {
        let num_documents = statistics.documents();
        let Statistics { parsing, indexing, indexed, failed, indexed_bytes } = statistics;
        Self {
            num_documents,
            num_parsing_documents: parsing,
            num_indexing_documents: indexing,
            num_indexed_documents: indexed,
            num_failed_documents: failed,
            num_indexed_bytes: indexed_bytes,
        }
    }
}

async fn get_status(State(app): State<App>, request: Request) -> Result<Response, Error> {
    let (call, body) = Call::enter(&app, request, Access::Read)?;
    let take = |fields: &mut Fields<'_>| fields.optional_string("collection_name");
    let name = body::read_optional(body, take).await?;
    let name = collections::counted(name)?;
    let statistics = call.within(call.store.statistics(name.as_ref())).await?;
    Ok(json_response(StatusCode::OK, &StatusBody::from(statistics)))
}
