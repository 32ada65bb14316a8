//! Where a checkpoint comes from: the binary, a directory or the Hugging Face hub.

mod hub;

use super::weights::Weights;
use crate::{LoadError, LoadEvent};
use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub(super) static DEMO_WEIGHTS: &[u8] = include_bytes!("../../demo/model.safetensors");
pub(crate) static DEMO_TOKENIZER: &[u8] = include_bytes!("../../demo/tokenizer.json");
static DEMO_CONFIG: &[u8] = include_bytes!("../../demo/config.json");
pub(super) const DEMO_PARAMETERS: u64 = 4_459_264;

/// Where a checkpoint comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The demo model inside the binary.
    Embedded,
    /// A folder with config.json, tokenizer.json and safetensors weights.
    Directory(PathBuf),
    /// A repository of the Hugging Face hub; `HF_TOKEN`, `HF_HOME`, `HF_ENDPOINT` and
    /// `HF_HUB_OFFLINE` are honoured.
    Hub {
        /// `organisation/name`.
        repository: String,
        /// Commit, tag or branch.
        revision: String,
    },
}

impl FromStr for Source {
    type Err = LoadError;

    fn from_str(text: &str) -> Result<Self, LoadError> {
        let bad = || LoadError::BadSource(text.to_owned());
        let Some(rest) = text.strip_prefix("hf:") else {
            return if text.is_empty() { Err(bad()) } else { Ok(Self::Directory(text.into())) };
        };
        let (repository, revision) = rest.split_once('@').unwrap_or((rest, "main"));
        let (owner, name) = repository.split_once('/').ok_or_else(bad)?;
        if owner.is_empty() || name.is_empty() || name.contains('/') || revision.is_empty() {
            return Err(bad());
        }
        Ok(Self::Hub { repository: repository.to_owned(), revision: revision.to_owned() })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("embedded"),
            Self::Directory(path) => path.display().fmt(f),
            Self::Hub { repository, revision } => write!(f, "hf:{repository}@{revision}"),
        }
    }
}

/// The parts of a checkpoint, with the paths that messages name.
pub(crate) struct Checkpoint {
    pub(crate) config: Cow<'static, [u8]>,
    pub(crate) config_path: PathBuf,
    pub(crate) tokenizer: Cow<'static, [u8]>,
    pub(crate) tokenizer_path: PathBuf,
    pub(crate) weights: Weights,
}

impl Checkpoint {
    /// Opens the checkpoint, downloading what the hub's cache does not hold yet.
    pub(crate) fn open(
        source: &Source,
        observe: &mut dyn FnMut(LoadEvent<'_>),
    ) -> Result<Self, LoadError> {
        match source {
            Source::Embedded => Ok(Self {
                config: DEMO_CONFIG.into(),
                config_path: "demo/config.json".into(),
                tokenizer: DEMO_TOKENIZER.into(),
                tokenizer_path: "demo/tokenizer.json".into(),
                weights: Weights::embedded("demo/model.safetensors", DEMO_WEIGHTS)?,
            }),
            Source::Directory(directory) => Self::open_directory(directory),
            Source::Hub { repository, revision } => {
                Self::open_directory(&hub::download(repository, revision, observe)?)
            }
        }
    }

    fn open_directory(directory: &Path) -> Result<Self, LoadError> {
        if !directory.is_dir() {
            return Err(LoadError::NoDirectory(directory.to_owned()));
        }
        let read = |name: &str| {
            let path = directory.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => Ok((bytes.into(), path)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    Err(LoadError::MissingFile(path))
                }
                Err(source) => Err(LoadError::Unreadable { path, source }),
            }
        };
        let (config, config_path) = read("config.json")?;
        let (tokenizer, tokenizer_path) = read("tokenizer.json")?;
        let weights = Weights::open(directory)?;
        Ok(Self { config, config_path, tokenizer, tokenizer_path, weights })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelSpec;
    use crate::model::config::Config;

    /// `reranker models` tells people what they need before they download anything.
    #[test]
    fn the_table_of_models_has_the_sizes_that_their_shapes_give() {
        let demo = Config::parse(DEMO_CONFIG, Path::new("config.json")).unwrap();
        assert_eq!(demo.parameters(), DEMO_PARAMETERS);
        let qwen3 =
            |hidden_size, num_hidden_layers, num_attention_heads, intermediate_size| Config {
                vocab_size: 151_936,
                hidden_size,
                intermediate_size,
                num_hidden_layers,
                num_attention_heads,
                num_key_value_heads: 8,
                head_dim: 128,
                ..demo.clone()
            };
        for (name, config) in [
            ("zerank-1-small", qwen3(2048, 28, 16, 6144)),
            ("zerank-1", qwen3(2560, 36, 32, 9728)),
            ("zerank-2", qwen3(2560, 36, 32, 9728)),
        ] {
            let spec = ModelSpec::find(name).unwrap();
            assert_eq!(spec.parameters, config.parameters(), "{name}");
            assert_eq!(spec.weight_bytes, 2 * spec.parameters, "{name}");
        }
    }

    #[test]
    fn sources_are_read_and_written_the_same_way() {
        for text in ["hf:org/name@main", "hf:org/name@v1", "/models/small", "models"] {
            assert_eq!(text.parse::<Source>().expect("is valid").to_string(), text);
        }
        assert_eq!("hf:org/name".parse::<Source>().unwrap().to_string(), "hf:org/name@main");
        for text in ["", "hf:", "hf:name", "hf:/name", "hf:org/", "hf:org/a/b", "hf:org/name@"] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }
}
