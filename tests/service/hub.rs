//! Models from the Hugging Face hub, through the real client against an imitation on the loopback.

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use reranker_tests::checkpoint::Checkpoint;
use reranker_tests::process::{command, stderr};
use serde_json::json;
use std::io;
use std::path::PathBuf;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const FILES: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];

/// One private repository, `org/model`.
struct Hub {
    checkpoint: Checkpoint,
    requests: AtomicUsize,
    /// Requests without the right token.
    strangers: AtomicUsize,
    /// Whether the next download of the weights ends in the middle.
    break_off: AtomicBool,
    /// Where the downloads of the weights have started.
    starts: Mutex<Vec<usize>>,
}

impl Hub {
    /// The first byte that a request asks for.
    fn start_of(&self, headers: &HeaderMap) -> usize {
        let range = headers.get("range").and_then(|range| range.to_str().ok());
        let start = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let start = start.and_then(|(start, _)| start.parse().ok()).unwrap_or(0);
        self.starts.lock().expect("no test panics with it").push(start);
        start
    }

    /// Counts a request; refuses it if the repository is another or the token is wrong.
    fn admit(&self, repository: (&str, &str), headers: &HeaderMap) -> Result<(), Refusal> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if headers.get("authorization").is_none_or(|token| token != "Bearer secret") {
            self.strangers.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::Token);
        }
        if repository != ("org", "model") {
            return Err(Refusal::Repository);
        }
        Ok(())
    }
}

enum Refusal {
    Token,
    Repository,
    File,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code) = match self {
            Self::Token => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::Repository => (StatusCode::NOT_FOUND, "RepoNotFound"),
            Self::File => (StatusCode::NOT_FOUND, "EntryNotFound"),
        };
        (status, [("x-error-code", code)], code).into_response()
    }
}

type Shared = State<Arc<Hub>>;

async fn revision(
    State(hub): Shared,
    Path((owner, name, _)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    hub.admit((&owner, &name), &headers)?;
    Ok(json!({"id": "org/model", "sha": COMMIT}).to_string().into_response())
}

async fn tree(
    State(hub): Shared,
    Path((owner, name, _)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    hub.admit((&owner, &name), &headers)?;
    let entries: Vec<_> = FILES
        .iter()
        .map(|name| {
            let size = std::fs::metadata(hub.checkpoint.file(name)).map_or(0, |file| file.len());
            json!({"type": "file", "oid": name, "size": size, "path": name})
        })
        .collect();
    Ok(json!(entries).to_string().into_response())
}

async fn file(
    State(hub): Shared,
    Path((owner, name, _, file)): Path<(String, String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    hub.admit((&owner, &name), &headers)?;
    let bytes = std::fs::read(hub.checkpoint.file(&file)).map_err(|_| Refusal::File)?;
    let bytes = Bytes::from(bytes);
    let about = [("etag", format!("\"{file}\"")), ("x-repo-commit", COMMIT.to_owned())];
    if method == Method::HEAD || file != "model.safetensors" {
        return Ok((about, bytes).into_response());
    }
    let start = hub.start_of(&headers);
    let rest = bytes.slice(start..);
    if hub.break_off.swap(false, Ordering::Relaxed) {
        let broken = [Ok(rest.slice(..rest.len() / 2)), Err(io::Error::other("the cable"))];
        return Ok((about, Body::from_stream(tokio_stream::iter(broken))).into_response());
    }
    Ok((StatusCode::PARTIAL_CONTENT, about, rest).into_response())
}

/// A hub with one repository, and a folder for what is downloaded from it.
pub(crate) struct Imitation {
    hub: Arc<Hub>,
    pub(crate) endpoint: String,
    home: tempfile::TempDir,
}

impl Imitation {
    pub(crate) async fn start() -> Result<Self> {
        let hub = Arc::new(Hub {
            checkpoint: Checkpoint::new(1),
            requests: AtomicUsize::new(0),
            strangers: AtomicUsize::new(0),
            break_off: AtomicBool::new(false),
            starts: Mutex::default(),
        });
        let router = Router::new()
            .route("/api/models/{owner}/{name}/revision/{revision}", get(revision))
            .route("/api/models/{owner}/{name}/tree/{revision}", get(tree))
            .route("/{owner}/{name}/resolve/{revision}/{file}", get(file))
            .with_state(hub.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { hub, endpoint, home: tempfile::tempdir()? })
    }

    /// Scores one document with a model of the hub.
    async fn rerank(&self, model: &str, variables: &[(&str, &str)]) -> Result<Output> {
        let mut command = command(["rerank", "--json", "--model", model, "q", "d"]);
        command.env("HF_ENDPOINT", &self.endpoint).env("HF_HOME", self.home.path());
        command.envs(variables.iter().copied());
        Ok(tokio::task::spawn_blocking(move || command.output()).await??)
    }

    fn requests(&self) -> usize {
        self.hub.requests.load(Ordering::Relaxed)
    }
}

fn sentence(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", stderr(output));
    let text = stderr(output);
    text.lines().last().unwrap_or_default().to_owned()
}

pub(crate) const TOKEN: (&str, &str) = ("HF_TOKEN", "secret");

/// The first start of every real installation, and the second one without a network.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_downloaded_once() -> Result<()> {
    let imitation = Imitation::start().await?;
    let model = format!("m=hf:org/model@{COMMIT}");
    let first = imitation.rerank(&model, &[TOKEN]).await?;
    assert!(first.status.success(), "{}", stderr(&first));
    assert_eq!(imitation.hub.strangers.load(Ordering::Relaxed), 0);
    let downloads = imitation.requests();
    assert!(downloads >= FILES.len());

    let pinned = imitation.rerank(&model, &[TOKEN]).await?;
    assert!(pinned.status.success(), "{}", stderr(&pinned));
    let offline = imitation.rerank(&model, &[("HF_HUB_OFFLINE", "1")]).await?;
    assert!(offline.status.success(), "{}", stderr(&offline));
    assert_eq!(imitation.requests(), downloads, "a pinned commit in the cache asks nobody");
    let [first, offline] = [&first, &offline].map(|output| {
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        answer["results"].clone()
    });
    assert_eq!(first, offline);

    let snapshot: PathBuf = ["hub", "models--org--model", "snapshots", COMMIT].iter().collect();
    let cached = imitation.home.path().join(snapshot).join("model.safetensors");
    assert!(cached.is_file(), "other programs find the model where the hub's own tools put it");
    Ok(())
}

/// `main` moves; the server must see the new commit when it starts, and say so when it cannot.
#[tokio::test(flavor = "multi_thread")]
async fn a_branch_is_looked_up() -> Result<()> {
    let imitation = Imitation::start().await?;
    for _ in 0..2 {
        let output = imitation.rerank("m=hf:org/model", &[TOKEN]).await?;
        assert!(output.status.success(), "{}", stderr(&output));
    }
    Ok(())
}

/// 3.4 GB over a bad line would start from the first byte again and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_download_goes_on() -> Result<()> {
    let imitation = Imitation::start().await?;
    imitation.hub.break_off.store(true, Ordering::Relaxed);
    let output = imitation.rerank("m=hf:org/model", &[TOKEN]).await?;
    assert!(output.status.success(), "{}", stderr(&output));
    let starts = imitation.hub.starts.lock().expect("no test panics with it").clone();
    assert!(starts.len() == 2 && starts[0] == 0 && starts[1] > 0, "{starts:?}");
    Ok(())
}

/// Users must read what to do, not a status code.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_hub_refuses_is_a_sentence() -> Result<()> {
    let imitation = Imitation::start().await?;
    let private = sentence(&imitation.rerank("m=hf:org/model", &[]).await?);
    assert!(private.contains("HF_TOKEN"), "{private}");

    let offline = imitation.rerank("m=hf:org/model", &[("HF_HUB_OFFLINE", "1")]).await?;
    let offline = sentence(&offline);
    assert!(offline.contains("HF_HUB_OFFLINE is set"), "{offline}");

    std::fs::remove_file(imitation.hub.checkpoint.file("tokenizer.json"))
        .context("the repository loses a file")?;
    let partial = sentence(&imitation.rerank("m=hf:org/model", &[TOKEN]).await?);
    assert!(partial.contains("tokenizer.json"), "{partial}");
    Ok(())
}

/// A typing mistake in the name is the most common one.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_repository_is_called_that() -> Result<()> {
    let imitation = Imitation::start().await?;
    let nope = sentence(&imitation.rerank("m=hf:org/nope", &[TOKEN]).await?);
    let expected =
        "error: cannot get `org/nope` at revision `main` from the hub: no such repository";
    assert!(nope.starts_with(expected), "{nope}");
    Ok(())
}
