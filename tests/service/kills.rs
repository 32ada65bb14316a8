//! `kill -9` at random instants, under load: what was acknowledged is there, nothing is half done, and the
//! search index comes to agree.

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use reranker_tests::checkpoint::Checkpoint;
use reranker_tests::process::{Process, run, stderr};
use reranker_tests::until;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinSet;

const KILLS: usize = 200;
const CLIENTS: usize = 4;
/// Paths of a client: few, so that most changes meet a document that is on its way into the index.
const PATHS: u64 = 6;
/// Kills between two looks at everything.
const LOOK_EVERY: usize = 20;

/// Numbers of a seed: `SplitMix64`.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A document as one change has left it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    bytes: Vec<u8>,
    tag: String,
}

/// The documents of a client: nobody else changes them.
type Documents = BTreeMap<String, Version>;
/// What one request makes of some paths, all of them or none.
type Change = Vec<(String, Option<Version>)>;

fn applied(documents: &Documents, change: &Change) -> Documents {
    let mut documents = documents.clone();
    for (path, version) in change {
        match version {
            Some(version) => documents.insert(path.clone(), version.clone()),
            None => documents.remove(path),
        };
    }
    documents
}

/// The word that only this document has.
fn word(version: &Version) -> Result<&str> {
    let text = std::str::from_utf8(&version.bytes)?;
    text.split_whitespace().nth(1).context("texts have two words at least")
}

#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    /// Of the server.
    base: String,
    /// What all its paths begin with.
    prefix: String,
    random: Random,
    /// What has been acknowledged.
    documents: Documents,
    /// What has been sent and not been answered.
    pending: Change,
    changes: u64,
}

impl Client {
    async fn post(&self, path: &str, body: &Value) -> Result<(StatusCode, Value), reqwest::Error> {
        let url = format!("{}/v1/{path}", self.base);
        let answer = self.http.post(url).body(body.to_string()).send().await?;
        Ok((answer.status(), answer.json().await?))
    }

    /// Changes its documents until the server is gone; gives how many requests were acknowledged.
    async fn work(mut self) -> Result<(Self, u64)> {
        for acknowledged in 0.. {
            let (route, body) = self.next_request();
            // A server that is gone has done it or has not.
            let Ok((status, answer)) = self.post(route, &body).await else {
                return Ok((self, acknowledged));
            };
            match status.as_u16() {
                200 | 201 => self.documents = applied(&self.documents, &self.pending),
                // Not indexed yet; nothing to delete.
                400 if route.ends_with("update-document") => {}
                404 if route.ends_with("delete-document") => {}
                _ => bail!("{route} {body}: {status} {answer}"),
            }
            self.pending.clear();
        }
        unreachable!("the server ends first")
    }

    /// The next request; what it does is pending then.
    fn next_request(&mut self) -> (&'static str, Value) {
        self.changes += 1;
        let tag = format!("{}x{}", self.prefix.trim_end_matches('/'), self.changes);
        let path = self.path();
        let body = json!({"collection_name": "c", "path": path});
        let with = |mut body: Value, name: &str, value: Value| {
            body[name] = value;
            body
        };
        match (self.random.below(10), self.documents.get(&path)) {
            (0..=1, _) => {
                let other = self.path();
                self.pending = vec![(path.clone(), None), (other.clone(), None)];
                ("documents/delete-document", with(body, "path", json!([path, other])))
            }
            (2..=4, Some(version)) => {
                let version = Version { tag: tag.clone(), ..version.clone() };
                self.pending = vec![(path, Some(version))];
                ("documents/update-document", with(body, "metadata", json!({"tag": tag})))
            }
            (kind, _) => {
                // Up to some pages of the database, of the log and of the index.
                let text = format!(
                    "otter {tag} {}",
                    "filler words ".repeat(self.random.below(2_000) as usize)
                );
                let content = match kind % 3 {
                    0 => json!({"type": "text", "text": text}),
                    1 => {
                        json!({"type": "text-pages", "pages": text.split("filler").collect::<Vec<_>>()})
                    }
                    _ => json!({"type": "auto", "base64_data": STANDARD.encode(&text)}),
                };
                let bytes = if kind % 3 == 1 { text.replace("filler", "\n") } else { text };
                let version = Version { bytes: bytes.into_bytes(), tag: tag.clone() };
                self.pending = vec![(path, Some(version))];
                let body = with(with(body, "content", content), "metadata", json!({"tag": tag}));
                ("documents/add-document", with(body, "overwrite", json!(true)))
            }
        }
    }

    fn path(&mut self) -> String {
        format!("{}{}.txt", self.prefix, self.random.below(PATHS))
    }

    /// Asks the server for its documents: those acknowledged, with or without what was pending.
    async fn look(&mut self) -> Result<()> {
        let body = json!({"collection_name": "c", "path_prefix": self.prefix});
        let (status, list) = self.post("documents/get-document-info-list", &body).await?;
        ensure!(status == 200, "{list}");
        let mut documents = Documents::new();
        for document in list["documents"].as_array().context("documents")? {
            let text = |value: &Value| value.as_str().map(str::to_owned).context("a string");
            let file =
                self.http.get(text(&document["file_url"])?).send().await?.error_for_status()?;
            let bytes = file.bytes().await?.to_vec();
            let tag = text(&document["metadata"]["tag"])?;
            documents.insert(text(&document["path"])?, Version { bytes, tag });
        }
        let done = applied(&self.documents, &self.pending);
        ensure!(
            documents == self.documents || documents == done,
            "acknowledged {}\npending {}\nfound {}",
            shown(&self.documents),
            shown(
                &self
                    .pending
                    .drain(..)
                    .filter_map(|(path, version)| Some((path, version?)))
                    .collect()
            ),
            shown(&documents)
        );
        self.documents = documents;
        self.pending.clear();
        Ok(())
    }
}

fn shown(documents: &Documents) -> String {
    let documents = documents.iter().map(|(path, version)| {
        let text = String::from_utf8_lossy(&version.bytes[..version.bytes.len().min(20)]);
        format!("{path}: `{}` of {} bytes, {text}", version.tag, version.bytes.len())
    });
    documents.collect::<Vec<_>>().join("; ")
}

/// Waits until all is indexed; then searches find each document by its own words, and nothing else.
async fn converged(clients: &[Client]) -> Result<()> {
    let client = clients.first().context("clients")?;
    until("all is indexed", async || {
        let answer = client.post("status/get-status", &json!({})).await;
        answer.is_ok_and(|(_, counts)| counts["num_indexed_documents"] == counts["num_documents"])
    })
    .await;
    let found = async |query: &str| -> Result<Vec<String>> {
        let body = json!({"collection_name": "c", "query": query, "k": 2048});
        let (status, answer) = client.post("queries/top-documents", &body).await?;
        ensure!(status == 200, "{answer}");
        let results = answer["results"].as_array().context("results")?.iter();
        // Those without the word follow with 0.
        let hits = results.filter(|hit| hit["score"].as_f64() > Some(0.0));
        hits.map(|hit| Ok(hit["path"].as_str().context("a path")?.to_owned())).collect()
    };
    let documents: Vec<_> = clients.iter().flat_map(|client| &client.documents).collect();
    let all = found("otter").await?;
    ensure!(all.len() == documents.len(), "{} documents, found: {all:?}", documents.len());
    let all: BTreeSet<_> = all.iter().collect();
    ensure!(documents.iter().all(|(path, _)| all.contains(path)), "found: {all:?}");
    for (path, version) in documents {
        let hits = found(word(version)?).await?;
        ensure!(hits == [path.clone()], "`{path}` of `{}`, found: {hits:?}", word(version)?);
    }
    Ok(())
}

fn check(folder: &Path) -> Result<()> {
    let output = run(["collections", "check", "--data-dir", &folder.display().to_string()]);
    let problems = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{problems}{}", stderr(&output));
    Ok(())
}

/// A crash, an eviction or a power cut would lose documents that a user was told are kept.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_kills_lose_nothing() -> Result<()> {
    let seed = match std::env::var("RERANKER_KILLS_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => RandomState::new().hash_one(0),
    };
    eprintln!("RERANKER_KILLS_SEED={seed}");
    let mut random = Random(seed);
    let (model, folder) = (Checkpoint::least(1), tempfile::tempdir()?);
    let (model, data_dir) = (model.model("m"), folder.path().display().to_string());
    let start = || {
        let flags = ["--model", &model, "--max-batch-tokens", "512", "--data-dir", &data_dir];
        Process::serve(&flags, &[("RUST_LOG", "info,reranker::metrics=error")])
    };
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|number| Client {
            http: reqwest::Client::new(),
            base: String::new(),
            prefix: format!("{number}/"),
            random: Random(random.below(u64::MAX)),
            documents: Documents::new(),
            pending: Change::new(),
            changes: 0,
        })
        .collect();
    let body = json!({"collection_name": "c"});
    let process = start()?.ready()?;
    clients[0].base.clone_from(&process.http);
    ensure!(clients[0].post("collections/add-collection", &body).await?.0 == 201);
    drop(process);
    let mut acknowledged = 0;
    for kill in 0..KILLS {
        let process = start()?;
        if random.below(8) == 0 {
            // While it opens what the last one left.
            tokio::time::sleep(Duration::from_millis(random.below(60))).await;
            continue;
        }
        let process = process.ready()?;
        let context = || format!("after kill {kill}, RERANKER_KILLS_SEED={seed}");
        for client in &mut clients {
            client.base.clone_from(&process.http);
            client.look().await.with_context(context)?;
        }
        if kill % LOOK_EVERY == 0 {
            converged(&clients).await.with_context(context)?;
            drop(process);
            check(folder.path()).with_context(context)?;
            continue;
        }
        let mut working: JoinSet<_> = clients.drain(..).map(Client::work).collect();
        tokio::time::sleep(Duration::from_millis(random.below(250))).await;
        drop(process);
        while let Some(worked) = working.join_next().await {
            let (client, count) = worked?.with_context(context)?;
            clients.push(client);
            acknowledged += count;
        }
    }
    ensure!(acknowledged > KILLS as u64, "only {acknowledged} changes were acknowledged");
    let process = start()?.ready()?;
    for client in &mut clients {
        client.base.clone_from(&process.http);
        client.look().await?;
    }
    converged(&clients).await?;
    process.terminate()?;
    process.end()?;
    check(folder.path())
}
