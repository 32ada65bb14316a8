//! A server in the test's process.

use crate::checkpoint::Checkpoint;
use anyhow::{Context, Result};
use reranker::app::{Alias, App, Collections, RequestLimits};
use reranker::collection::Store;
use reranker::collection::embedded::{Embedded, Language};
use reranker::collection::ingest::{Ingest, IngestOptions};
use reranker::downloads::{Secret, UrlSigner};
use reranker::parse::ParseLimits;
use reranker::rate_limit::Rates;
use reranker::server::{Addresses, Connections, Edge, ServeError, Server};
use reranker_engine::{Cuts, Engine, EngineOptions, ModelSpec, Scores, Source};
use reranker_proto::v1::reranker_client::RerankerClient;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Loads a checkpoint under a name of one's own.
pub async fn load(name: &str, checkpoint: Checkpoint, options: EngineOptions) -> Result<Engine> {
    let spec = ModelSpec::custom(name);
    let source = Source::Directory(checkpoint.path().to_owned());
    // Loading blocks, and the folder may go once it is done.
    let engine = tokio::task::spawn_blocking(move || {
        let engine = Engine::load(&spec, &source, &options, &mut |_| {});
        drop(checkpoint);
        engine
    });
    Ok(engine.await??)
}

/// Loads a random model called `name`.
pub async fn random(name: &str, seed: u64) -> Result<Engine> {
    load(name, Checkpoint::new(seed), EngineOptions::default()).await
}

/// Loads the demo model.
pub async fn demo() -> Result<Engine> {
    let spec = ModelSpec::find("demo").context("the demo model is known")?;
    let source = spec.source().context("and has a source")?;
    let options = EngineOptions::default();
    let engine =
        tokio::task::spawn_blocking(move || Engine::load(spec, &source, &options, &mut |_| {}));
    Ok(engine.await??)
}

/// Opens the collections of a folder.
async fn collections(folder: &Path, public_url: Option<&str>) -> Result<Collections> {
    let urls = UrlSigner::new(&Secret::open(folder)?, public_url);
    let folder = folder.to_owned();
    let opened = tokio::task::spawn_blocking(move || Embedded::open(&folder, Language::default()));
    let store: Arc<dyn Store> = Arc::new(opened.await??);
    let options = IngestOptions { workers: 1, limits: ParseLimits::default() };
    let ingest = Ingest::start(&store, options);
    Ok(Collections { store, ingest, urls, candidates: 100 })
}

/// Scores documents without a server.
pub async fn scores(engine: &Engine, query: &str, documents: &[&str]) -> Result<Scores> {
    Ok(engine.submit(engine.encode(query, documents, Cuts::default()))?.await?)
}

/// What a server is told beside its models.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Other names for the models.
    pub aliases: Vec<(&'static str, &'static str)>,
    /// Keys, TLS, bounds of connections.
    pub edge: Edge,
    /// Bounds of a request.
    pub limits: RequestLimits,
    /// Quotas of a key.
    pub rates: Rates,
    /// Where collections are kept; none: they are off.
    pub data_dir: Option<PathBuf>,
    /// Where clients reach the server; none: where each has called it.
    pub public_url: Option<String>,
}

/// A running server; aborted when dropped.
#[derive(Debug)]
pub struct Running {
    /// The service behind the protocols.
    pub app: App,
    /// Where it listens.
    pub addresses: Addresses,
    /// Counts of its open connections.
    pub connections: Connections,
    /// Ends it.
    pub stop: CancellationToken,
    serving: JoinHandle<Result<(), ServeError>>,
    client: reqwest::Client,
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The JSON body.
    pub body: Value,
}

impl Running {
    /// Starts a server with these models, the default first; without models it stays loading.
    pub async fn start(
        models: Vec<Engine>,
        aliases: &[(&'static str, &'static str)],
    ) -> Result<Self> {
        let settings = Settings { aliases: aliases.to_vec(), ..Settings::default() };
        Self::start_with(models, settings).await
    }

    /// Starts a server with these models and settings.
    pub async fn start_with(models: Vec<Engine>, settings: Settings) -> Result<Self> {
        let Settings { aliases, edge, limits, rates, data_dir, public_url } = settings;
        let aliases = aliases
            .iter()
            .map(|(name, model)| Alias { name: (*name).to_owned(), model: (*model).to_owned() })
            .collect();
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(Addresses { grpc: free, http: free, admin: free }, edge).await?;
        let addresses = server.addresses();
        let connections = server.connections();
        let app = App::limited(aliases, limits, rates);
        if let Some(folder) = data_dir {
            app.serve_collections(collections(&folder, public_url.as_deref()).await?);
        }
        if !models.is_empty() {
            app.serve_models(models);
        }
        let stop = CancellationToken::new();
        let run = server.run(app.clone(), stop.clone(), Duration::from_mins(1));
        let serving = tokio::spawn(run);
        let client = reqwest::Client::new();
        Ok(Self { app, addresses, connections, stop, serving, client })
    }

    /// Base of the HTTP API, without `/v1`.
    pub fn http(&self) -> String {
        format!("http://{}", self.addresses.http)
    }

    /// Posts JSON to the public API.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.post_bytes(path, body.to_string()).await
    }

    /// Posts JSON with further headers.
    pub async fn post_with(
        &self,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Result<Answer> {
        let mut request = self.client.post(self.http() + path).body(body.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Self::read(request.send().await?).await
    }

    /// Posts anything to the public API.
    pub async fn post_bytes(&self, path: &str, body: impl Into<reqwest::Body>) -> Result<Answer> {
        let request = self.client.post(self.http() + path).body(body);
        Self::read(request.send().await?).await
    }

    /// Sends another method to the public API.
    pub async fn method(&self, method: reqwest::Method, path: &str) -> Result<Answer> {
        let request = self.client.request(method, self.http() + path);
        Self::read(request.send().await?).await
    }

    async fn read(response: reqwest::Response) -> Result<Answer> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await?;
        let body = serde_json::from_slice(&body)
            .with_context(|| format!("status {status}, not JSON: {body:?}"))?;
        Ok(Answer { status, headers, body })
    }

    /// Status and text of the admin listener.
    pub async fn admin(&self, path: &str) -> Result<(u16, String)> {
        let url = format!("http://{}{path}", self.addresses.admin);
        let response = self.client.get(url).send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    }

    /// A channel to the gRPC listener.
    pub async fn channel(&self) -> Result<Channel> {
        let endpoint = format!("http://{}", self.addresses.grpc);
        Ok(Channel::from_shared(endpoint)?.connect().await?)
    }

    /// A client of the gRPC contract.
    pub async fn grpc(&self) -> Result<RerankerClient<Channel>> {
        Ok(RerankerClient::new(self.channel().await?).max_encoding_message_size(usize::MAX))
    }

    /// Waits until it has ended.
    pub async fn ended(mut self) -> Result<()> {
        Ok((&mut self.serving).await??)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
