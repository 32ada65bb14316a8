//! What an engine says of itself.

use reranker_engine::{Engine, Stats};

/// A model and what its engine says of itself.
#[derive(Clone, Debug)]
pub(crate) struct ModelFigures {
    pub(crate) name: String,
    pub(crate) stats: Stats,
}

impl ModelFigures {
    pub(crate) fn of(engine: &Engine) -> Self {
        Self { name: engine.spec().name.clone().into_owned(), stats: engine.stats() }
    }
}
