//! What every call about collections goes through.

use crate::api::Access;
use crate::api::links::Links;
use crate::app::{Admission, App};
use crate::collection::Store;
use crate::error::Error;
use std::sync::Arc;
use tonic::Request;

/// What the gate has noted of a call.
pub(super) fn admission<T>(request: &Request<T>) -> Admission {
    request.extensions().get().cloned().expect("the gate has let it in")
}

/// A call that was let in.
pub(super) struct Call {
    pub(super) admission: Admission,
    pub(super) store: Arc<dyn Store>,
    pub(super) links: Links,
}

impl Call {
    /// Takes a call apart that may do what it asks for.
    ///
    /// # Errors
    /// [`Error::ReadOnlyKey`], [`Error::CollectionsOff`].
    pub(super) fn enter<T>(
        app: &App,
        request: Request<T>,
        access: Access,
    ) -> Result<(Self, T), Error> {
        let admission = admission(&request);
        access.check(&admission.principal)?;
        let store = app.store()?;
        // Nobody knows here where the caller reaches the HTTP listener.
        let links = Links::new(app.urls()?.clone(), String::new());
        Ok((Self { admission, store, links }, request.into_inner()))
    }

    /// See [`Admission::within`].
    pub(super) async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.admission.within(answer).await
    }
}
