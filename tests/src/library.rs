//! A server with collections, in a folder of its own.

use crate::checkpoint::Checkpoint;
use crate::server::{Running, Settings, load};
use crate::until;
use anyhow::{Result, ensure};
use reranker_engine::EngineOptions;
use serde_json::{Value, json};
use std::ops::Deref;
use std::path::Path;
use tempfile::TempDir;

/// A server with the smallest model, called `m`, and the collection `c`.
#[derive(Debug)]
pub struct Library {
    server: Running,
    folder: TempDir,
}

impl Deref for Library {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.server
    }
}

impl Library {
    /// Starts one whose collection is empty.
    pub async fn empty() -> Result<Self> {
        let library = Self::start(Settings::default()).await?;
        library.ask("/collections/add-collection", &json!({"collection_name": "c"})).await?;
        Ok(library)
    }

    /// Starts one without the collection.
    pub async fn start(settings: Settings) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let settings = Settings { data_dir: Some(folder.path().to_owned()), ..settings };
        let model = load("m", Checkpoint::least(1), EngineOptions::default()).await?;
        let server = Running::start_with(vec![model], settings).await?;
        Ok(Self { server, folder })
    }

    /// Where it keeps its data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Posts below `/v1` what must be answered; gives the answer's body.
    pub async fn ask(&self, path: &str, body: &Value) -> Result<Value> {
        let answer = self.post(&format!("/v1{path}"), body).await?;
        ensure!((200..300).contains(&answer.status), "{path} {body}: {}", answer.body);
        Ok(answer.body)
    }

    /// Adds a document to `c`.
    pub async fn add(&self, path: &str, content: Value) -> Result<()> {
        let body = json!({"collection_name": "c", "path": path, "content": content});
        self.ask("/documents/add-document", &body).await.map(drop)
    }

    /// Adds a text to `c`.
    pub async fn add_text(&self, path: &str, text: &str) -> Result<()> {
        self.add(path, json!({"type": "text", "text": text})).await
    }

    /// What is said of a document of `c`.
    pub async fn document(&self, path: &str) -> Result<Value> {
        let body = json!({"collection_name": "c", "path": path, "include_content": true});
        Ok(self.ask("/documents/get-document-info", &body).await?["document"].take())
    }

    /// Waits until no document waits, and gives the status of all collections.
    pub async fn settled(&self) -> Result<Value> {
        let status = async || self.ask("/status/get-status", &json!({})).await;
        until("nothing waits", async || {
            status().await.is_ok_and(|status| {
                status["num_parsing_documents"] == 0 && status["num_indexing_documents"] == 0
            })
        })
        .await;
        status().await
    }
}
