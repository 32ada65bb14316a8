//! What every request about collections goes through.

use super::{Scheme, admit};
use crate::api::links::Links;
use crate::api::{Access, principal};
use crate::app::{Admission, App};
use crate::collection::Store;
use crate::error::Error;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::HOST;
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Uri};
use std::sync::Arc;

/// A request that was let in.
pub(super) struct Call {
    pub(super) admission: Admission,
    pub(super) store: Arc<dyn Store>,
    /// Links as this caller reaches the server.
    pub(super) links: Links,
}

impl Call {
    /// Lets a request in; its body is still to be read.
    ///
    /// # Errors
    /// [`Error::ReadOnlyKey`], [`Error::CollectionsOff`], and those of [`App::admit`].
    pub(super) fn enter(
        app: &App,
        request: Request,
        access: Access,
    ) -> Result<(Self, Body), Error> {
        access.check(&principal(request.extensions()))?;
        let admission = admit(app, &request)?;
        let store = app.store()?;
        let (parts, body) = request.into_parts();
        let links = Links::new(app.urls()?.clone(), base(&parts));
        Ok((Self { admission, store, links }, body))
    }

    /// See [`Admission::within`].
    pub(super) async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.admission.within(answer).await
    }
}

/// The address that a client has called. What proxies say of it is not taken: anybody can say it.
pub(super) fn base(parts: &Parts) -> String {
    let from_header = || parts.headers.get(HOST).and_then(authority);
    let host = parts.uri.authority().cloned().or_else(from_header);
    let scheme = parts.extensions.get().map_or("http", |Scheme(name)| name);
    format!("{scheme}://{}", host.as_ref().map_or("localhost", Authority::as_str))
}

fn authority(value: &HeaderValue) -> Option<Authority> {
    Authority::try_from(value.as_bytes()).ok()
}

/// The first value of a parameter of the query string.
pub(super) fn query_parameter(uri: &Uri, name: &str) -> Option<String> {
    let query = uri.query()?.as_bytes();
    let mut pairs = form_urlencoded::parse(query);
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
