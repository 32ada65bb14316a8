//! The loaded models by name.

use super::App;
use crate::error::Error;
use crate::metrics::ModelFigures;
use reranker_engine::{Engine, LoadEvent};
use std::sync::PoisonError;

/// Another name for a loaded model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// What requests may say.
    pub name: String,
    /// The model that answers.
    pub model: String,
}

/// How far the loading of a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loading {
    pub(crate) model: String,
    /// `download`, `layers` or `warmup`.
    pub(crate) step: &'static str,
    /// Bytes of a download, else layers.
    pub(crate) done: u64,
    /// 0 while unknown.
    pub(crate) total: u64,
}

impl App {
    /// Tells who watches the service which models are on their way; the first call counts.
    pub fn announce_models(&self, names: Vec<String>) {
        self.0.announced.get_or_init(|| names);
    }

    /// Tells who watches how far a model is.
    pub fn note_loading(&self, model: &str, event: LoadEvent<'_>) {
        let (step, done, total) = match event {
            LoadEvent::Download { bytes, total, .. } => ("download", bytes, total),
            LoadEvent::Layers { done, total } => ("layers", done as u64, total as u64),
            LoadEvent::Warmup => ("warmup", 0, 0),
            _ => return,
        };
        let loading = Loading { model: model.to_owned(), step, done, total };
        *self.0.loading.lock().unwrap_or_else(PoisonError::into_inner) = Some(loading);
    }

    /// What is being loaded; none: nothing yet, or all of it is there.
    pub(crate) fn loading(&self) -> Option<Loading> {
        let is_loaded = self.0.models.get().is_some();
        let loading = || self.0.loading.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if is_loaded { None } else { loading() }
    }

    /// Gives the service its models, the default first, and opens the gate.
    ///
    /// # Panics
    /// If there is no model, or the service has its models already.
    pub fn serve_models(&self, models: Vec<Engine>) {
        assert!(!models.is_empty(), "a service has a default model");
        self.announce_models(models.iter().map(|model| model.spec().name.to_string()).collect());
        assert!(self.0.models.set(models).is_ok(), "models are loaded once");
        self.open();
    }

    /// False once a model's worker has ended outside a shutdown: only a restart helps then.
    pub fn is_healthy(&self) -> bool {
        self.models().iter().all(Engine::is_healthy)
    }

    /// Ends the models' workers; blocks until their queues are empty.
    pub fn close_models(&self) {
        self.models().iter().for_each(Engine::close);
    }

    /// The loaded models with what their engines say now.
    pub(crate) fn figures(&self) -> Vec<ModelFigures> {
        self.models().iter().map(ModelFigures::of).collect()
    }

    /// The loaded models, the default first.
    pub(crate) fn models(&self) -> &[Engine] {
        self.0.models.get().map_or(&[], Vec::as_slice)
    }

    /// Whether a model or alias of this name is there.
    ///
    /// # Errors
    /// [`Error::ModelNotFound`]
    pub(crate) fn check_model(&self, name: &str) -> Result<(), Error> {
        self.model(Some(name)).map(drop)
    }

    pub(super) fn model(&self, name: Option<&str>) -> Result<&Engine, Error> {
        let models = self.models();
        let Some(name) = name else {
            return models.first().ok_or(Error::Loading);
        };
        let alias = self.0.aliases.iter().find(|alias| alias.name == name);
        let target = alias.map_or(name, |alias| &alias.model);
        models.iter().find(|engine| engine.spec().name == target).ok_or_else(|| {
            let names = models.iter().map(|engine| engine.spec().name.to_string());
            let aliases = self.0.aliases.iter().map(|alias| alias.name.clone());
            Error::ModelNotFound {
                name: name.to_owned(),
                available: names.chain(aliases).collect(),
            }
        })
    }
}
