//! Which models are served, and under which names.

use crate::app::Alias;
use reranker_engine::{ModelSpec, Source};
use std::str::FromStr;

/// A model to load.
#[derive(Clone, Debug)]
pub struct ModelChoice {
    /// Its name, prompt and limits.
    pub spec: ModelSpec,
    /// Where its files come from.
    pub source: Source,
}

impl FromStr for ModelChoice {
    type Err = String;

    /// `NAME` of a known model, or `NAME=SOURCE`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, source) = match text.split_once('=') {
            Some((name, source)) => (name, Some(source)),
            None => (text, None),
        };
        if name.is_empty() {
            return Err("a model needs a name".to_owned());
        }
        let source = source.map(Source::from_str).transpose().map_err(|error| error.to_string())?;
        let spec = ModelSpec::find(name).cloned();
        match (spec, source) {
            (spec, Some(source)) => {
                Ok(Self { spec: spec.unwrap_or_else(|| ModelSpec::custom(name)), source })
            }
            (Some(spec), None) => {
                let source = spec.source().ok_or_else(|| needs_source(name))?;
                Ok(Self { spec, source })
            }
            (None, None) => Err(needs_source(name)),
        }
    }
}

fn needs_source(name: &str) -> String {
    let known: Vec<&str> = ModelSpec::known().iter().map(|spec| &*spec.name).collect();
    format!(
        "`{name}` is not one of {}; give a source with it: {name}=DIRECTORY or \
         {name}=hf:ORGANISATION/REPOSITORY[@REVISION]",
        known.join(", ")
    )
}

impl FromStr for Alias {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, model)) if !name.is_empty() && !model.is_empty() => {
                Ok(Self { name: name.to_owned(), model: model.to_owned() })
            }
            _ => Err(format!("`{text}` is not NAME=MODEL")),
        }
    }
}
