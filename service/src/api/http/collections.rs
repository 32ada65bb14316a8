//! `POST /collections/*`.

use super::body::{self, Fields};
use super::call::Call;
use super::{SUCCESS, json_response};
use crate::api::Access;
use crate::api::convert::collections::AddCollectionFields;
use crate::app::App;
use crate::collection::CollectionName;
use crate::error::Error;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use serde::Serialize;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/collections/add-collection", post(add))
        .route("/collections/get-collection-list", post(list))
        .route("/collections/delete-collection", post(delete))
}

async fn add(State(app): State<App>, request: Request) -> Result<Response, Error> {
    let (call, body) = Call::enter(&app, request, Access::Write)?;
    let fields = body::read(body, |fields| AddCollectionFields {
        collection_name: fields.string("collection_name"),
        num_shards: fields.optional_integer("num_shards"),
    });
    let (name, num_shards) = fields.await?.into_request()?;
    call.within(call.store.add_collection(&name, num_shards)).await?;
    Ok(json_response(StatusCode::CREATED, &SUCCESS))
}

#[derive(Serialize)]
struct ListBody<'a> {
    collection_names: Vec<&'a str>,
}

async fn list(State(app): State<App>, request: Request) -> Result<Response, Error> {
    let (call, body) = Call::enter(&app, request, Access::Read)?;
    body::read_optional(body, |_| ()).await?;
    let names = call.within(call.store.collections()).await?;
    let collection_names = names.iter().map(CollectionName::as_str).collect();
    Ok(json_response(StatusCode::OK, &ListBody { collection_names }))
}

async fn delete(State(app): State<App>, request: Request) -> Result<Response, Error> {
    let (call, body) = Call::enter(&app, request, Access::Write)?;
    let take = |fields: &mut Fields<'_>| fields.string("collection_name");
    let name = CollectionName::new(body::read(body, take).await?)?;
    call.within(call.store.delete_collection(&name)).await?;
    Ok(json_response(StatusCode::OK, &SUCCESS))
}
