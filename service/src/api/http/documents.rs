//! `POST /documents/*`.

mod request;
mod response;

use super::call::{Call, query_parameter};
use super::{SUCCESS, body, json_response};
use crate::api::convert::documents as convert;
use crate::api::{Access, blocking};
use crate::app::App;
use crate::collection::Added;
use crate::error::Error;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
pub(super) use request::content;
use response::{DeletedBody, DocumentBody, InfoBody, ListBody, PageBody, PageInfoBody};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/documents/add-document", post(add))
        .route("/documents/update-document", post(update))
        .route("/documents/delete-document", post(delete))
        .route("/documents/get-document-info", post(info))
        .route("/documents/get-document-info-list", post(list))
        .route("/documents/get-page-info", post(page))
}

async fn add(State(app): State<App>, request: Request) -> Result<Response, Error> {
    let (call, body) = Call::enter(&app, request, Access::Write)?;
    let add = body::read(body, |fields| request::add(fields).into_request());
    let (collection, document, overwrite) = add.await??;
    let added = call.within(call.store.add_document(&collection, document, overwrite)).await?;
    let status = match added {
        Added::Created => StatusCode::CREATED,
        Added::Replaced => StatusCode::OK,
    };
    Ok(json_response(status, &SUCCESS))
}

async fn update(State(app): State<App>, request: Request) -> Result<Response, Error> {
    let (call, body) = Call::enter(&app, request, Access::Write)?;
    let update = body::read(body, |fields| request::update(fields).into_request());
    let (collection, path, update) = update.await??;
    match update {
        Some(update) => {
            call.within(call.store.update_document(&collection, &path, update)).await?;
        }
        // Nothing changes, if there is something that could.
        None => drop(call.within(call.store.document(&collection, &path, false)).await?),
    }
    Ok(json_response(StatusCode::OK, &SUCCESS))
}

async fn delete(State(app): State<App>, request: Request) -> Result<Response, Error> {
    let (call, body) = Call::enter(&app, request, Access::Write)?;
    let fields = body::read(body, |fields| {
        (fields.string("collection_name"), fields.string_or_strings("path"))
    });
    let (collection, paths) = fields.await?;
    let (collection, paths) = convert::deletion(collection, paths)?;
    let deleted = call.within(call.store.delete_documents(&collection, &paths)).await?;
    if deleted.is_empty() {
        return Err(convert::nothing_deleted(&collection, &paths));
    }
    Ok(json_response(StatusCode::OK, &DeletedBody { deleted_paths: &deleted }))
}

async fn info(State(app): State<App>, request: Request) -> Result<Response, Error> {
    let (call, body) = Call::enter(&app, request, Access::Read)?;
    let fields = body::read(body, |fields| {
        let located = (fields.string("collection_name"), fields.string("path"));
        (located, fields.optional_bool("include_content").unwrap_or(false))
    });
    let ((collection, path), with_text) = fields.await?;
    let (collection, path) = convert::located(collection, path)?;
    let (document, content) =
        call.within(call.store.document(&collection, &path, with_text)).await?;
    let links = call.links;
    blocking(move || {
        let document = DocumentBody::new(&collection, &document, &links);
        Ok(json_response(StatusCode::OK, &InfoBody::new(document, content)))
    })
    .await
}

async fn list(State(app): State<App>, request: Request) -> Result<Response, Error> {
    // Where Node's client puts what it goes on after.
    let path_gt = query_parameter(request.uri(), "path_gt");
    let (call, body) = Call::enter(&app, request, Access::Read)?;
    let fields = body::read(body, request::list).await?;
    let (collection, limit) = fields.checked()?;
    let after = path_gt.or(fields.path_gt);
    let prefix = fields.path_prefix.unwrap_or_default();
    let listed = call.store.documents(&collection, &prefix, after.as_deref(), limit);
    let documents = call.within(listed).await?;
    let links = call.links;
    blocking(move || {
        let body = ListBody::new(&collection, &documents, &links);
        Ok(json_response(StatusCode::OK, &body))
    })
    .await
}

async fn page(State(app): State<App>, request: Request) -> Result<Response, Error> {
    let (call, body) = Call::enter(&app, request, Access::Read)?;
    let fields = body::read(body, |fields| {
        let located = (fields.string("collection_name"), fields.string("path"));
        let index = fields.integer("page_index");
        (located, index, fields.optional_bool("include_content").unwrap_or(false))
    });
    let ((collection, path), index, with_text) = fields.await?;
    let (collection, path) = convert::located(collection, path)?;
    let index = convert::page_index(index)?;
    let (document, content) =
        call.within(call.store.page(&collection, &path, index, with_text)).await?;
    let links = call.links;
    blocking(move || {
        let page = PageBody::new(&collection, &document, index, content, &links);
        Ok(json_response(StatusCode::OK, &PageInfoBody { page }))
    })
    .await
}
