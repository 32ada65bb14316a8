//! `GET /documents/get-document` and `get-page-image`: their token is the permission.

use super::call::query_parameter;
use crate::app::App;
use crate::collection::{DocumentPath, Original};
use crate::downloads::{Download, Permit};
use crate::error::Error;
use crate::parse::{self, ParseLimits};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use std::sync::Arc;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Pages that are drawn at a time: each may take a core and the memory of a large image.
const DRAWN_AT_A_TIME: usize = 2;

/// Types that a browser shows without running anything in them.
const HARMLESS: [&str; 5] =
    ["text/plain", "text/markdown", "text/csv", "application/pdf", "image/jpeg"];

pub(super) fn routes() -> Router<App> {
    let pens = Arc::new(Semaphore::new(DRAWN_AT_A_TIME));
    let image =
        move |State(app): State<App>, request: Request| page_image(app, request, Arc::clone(&pens));
    Router::new()
        .route("/documents/get-document", get(document))
        .route("/documents/get-page-image", get(image))
}

async fn document(State(app): State<App>, request: Request) -> Result<Response, Error> {
    let _admission = super::admit(&app, &request)?;
    let permit = permit(&app, request.uri())?;
    let Download::Document(id) = permit.download else {
        return Err(Error::DownloadNotFound);
    };
    let Original { path, bytes, is_auto } = original(&app, id).await?;
    let content_type = parse::content_type(path.as_str(), &bytes, is_auto);
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CONTENT_DISPOSITION, disposition(content_type, &path)),
    ];
    Ok((headers, cached(permit), bytes).into_response())
}

async fn page_image(app: App, request: Request, pens: Arc<Semaphore>) -> Result<Response, Error> {
    let _admission = super::admit(&app, &request)?;
    let permit = permit(&app, request.uri())?;
    let Download::PageImage(id, index) = permit.download else {
        return Err(Error::DownloadNotFound);
    };
    let _pen = pens.acquire().await.expect("nobody closes it");
    let Original { bytes, .. } = original(&app, id).await?;
    let drawn = tokio::task::spawn_blocking(move || {
        parse::page_image(&bytes, index.into(), &ParseLimits::default())
    });
    let internal = |error: &dyn std::fmt::Display| Error::Internal {
        cause: format!("drawing page {index} of {id}: {error}"),
    };
    let drawn = drawn.await.map_err(|error| internal(&error))?;
    let image = drawn.map_err(|error| internal(&error))?.ok_or(Error::DownloadNotFound)?;
    let content_type = [(CONTENT_TYPE, HeaderValue::from_static("image/jpeg"))];
    Ok((content_type, cached(permit), image).into_response())
}

fn permit(app: &App, uri: &Uri) -> Result<Permit, Error> {
    let signer = app.urls()?;
    let token = query_parameter(uri, "token").ok_or(Error::MissingParameter { name: "token" })?;
    signer.check(&token, Timestamp::now()).ok_or(Error::DownloadNotFound)
}

async fn original(app: &App, id: Uuid) -> Result<Original, Error> {
    app.store()?.original(id).await?.ok_or(Error::DownloadNotFound)
}

/// The bytes of an id never change: a client may keep them for as long as its link is good.
fn cached(permit: Permit) -> [(axum::http::HeaderName, HeaderValue); 2] {
    let control = format!("private, max-age={}, immutable", permit.seconds_left);
    let control = HeaderValue::try_from(control).expect("digits and words");
    let nosniff = HeaderValue::from_static("nosniff");
    [(CACHE_CONTROL, control), (X_CONTENT_TYPE_OPTIONS, nosniff)]
}

/// To be shown, or to be saved if a page could run what is in it, under the path's last name.
fn disposition(content_type: &str, path: &DocumentPath) -> HeaderValue {
    let essence = content_type.split(';').next().unwrap_or_default();
    let how = if HARMLESS.contains(&essence) { "inline" } else { "attachment" };
    let name = path.as_str().rsplit('/').next().unwrap_or_default();
    let escaped: String = name
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect();
    // RFC 6266 and 8187.
    HeaderValue::try_from(format!("{how}; filename*=UTF-8''{escaped}")).expect("is ASCII")
}
