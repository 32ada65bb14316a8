//! Small random checkpoints, whole and damaged.

use anyhow::{Context, Result};
use reranker_engine::fixture::{self, FixtureOptions};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A checkpoint in a folder of its own, gone when dropped.
#[derive(Debug)]
pub struct Checkpoint(TempDir);

impl Checkpoint {
    /// Writes one of the default shape.
    ///
    /// # Panics
    /// If the disk is full.
    pub fn new(seed: u64) -> Self {
        Self::shaped(&FixtureOptions { seed, ..FixtureOptions::default() })
    }

    /// Writes one of the least shape: it is not the model that the test is about.
    ///
    /// # Panics
    /// If the disk is full.
    pub fn least(seed: u64) -> Self {
        Self::shaped(&FixtureOptions {
            seed,
            layers: 1,
            hidden: 16,
            heads: 1,
            kv_heads: 1,
            intermediate: 16,
            ..FixtureOptions::default()
        })
    }

    fn shaped(options: &FixtureOptions) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the checkpoint");
        fixture::write(folder.path(), options).expect("the checkpoint is written");
        Self(folder)
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The value for `--model`.
    pub fn model(&self, name: &str) -> String {
        format!("{name}={}", self.path().display())
    }

    /// A file of it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Sets one field of config.json.
    pub fn configure(&self, field: &str, value: Value) -> Result<()> {
        let path = self.file("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        config[field] = value;
        Ok(std::fs::write(path, config.to_string())?)
    }

    /// Replaces text of the same length in the header of the weights.
    pub fn replace_in_header(&self, from: &str, to: &str) -> Result<()> {
        assert_eq!(from.len(), to.len(), "the header keeps its length");
        let (mut bytes, header) = self.weights()?;
        let at = bytes[..header]
            .windows(from.len())
            .position(|window| window == from.as_bytes())
            .context("the header holds the text")?;
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        Ok(std::fs::write(self.file("model.safetensors"), bytes)?)
    }

    /// Gives one of the first values of a bf16 tensor these bits.
    pub fn poison(&self, tensor: &str, bits: u16) -> Result<()> {
        let (mut bytes, header) = self.weights()?;
        let entries: Value = serde_json::from_slice(&bytes[8..header])?;
        let start = entries[tensor]["data_offsets"][0].as_u64().context("the tensor is there")?;
        let at = header + usize::try_from(start)? + 6;
        bytes[at..at + 2].copy_from_slice(&bits.to_le_bytes());
        Ok(std::fs::write(self.file("model.safetensors"), bytes)?)
    }

    /// The bytes of the weights file, and where its header ends.
    fn weights(&self) -> Result<(Vec<u8>, usize)> {
        let bytes = std::fs::read(self.file("model.safetensors"))?;
        let length = bytes.first_chunk::<8>().context("the file has a header")?;
        let header = 8 + usize::try_from(u64::from_le_bytes(*length))?;
        Ok((bytes, header))
    }
}
