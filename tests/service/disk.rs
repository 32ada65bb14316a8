//! What a disk can do to collections, with the real binary: it is full, takes no writes, or has lost part of
//! what was on it.

use anyhow::{Context, Result, bail, ensure};
use reranker_proto::v1::add_document_request::Content;
use reranker_proto::v1::collections_client::CollectionsClient;
use reranker_proto::v1::{AddDocumentRequest, GetDocumentRequest};
use reranker_tests::checkpoint::Checkpoint;
use reranker_tests::process::{Process, binary, run, stderr};
use reranker_tests::raw::{Answer, Connection};
use reranker_tests::until;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;
use tonic::Code;

/// A file system in memory, in a mount namespace of its own: gone with the process that holds it.
struct Disk {
    holder: Child,
    folder: TempDir,
}

impl Disk {
    /// None where this user may not mount one.
    fn new(bytes: u64) -> Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let script = r#"mount -t tmpfs -o "size=$1" tmpfs "$0" && echo mounted && exec cat"#;
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation=private", "sh", "-c", script])
            .arg(folder.path())
            .arg(bytes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        let output = holder.stdout.take().context("is piped")?;
        BufReader::new(output).read_line(&mut line)?;
        let disk = Self { holder, folder };
        if line != "mounted\n" {
            eprintln!("SKIPPED disk: a small disk needs root and unshare");
            return Ok(None);
        }
        Ok(Some(disk))
    }

    /// The folder for collections, as processes of the namespace see it.
    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Its root, as other namespaces see it. `SQLite` does not follow such a path.
    fn path(&self) -> PathBuf {
        let folder = self.folder.path().display();
        PathBuf::from(format!("/proc/{}/root{folder}", self.holder.id()))
    }

    /// Runs a command in the namespace.
    fn run(&self, program: impl AsRef<OsStr>, args: &[&str]) -> Result<Output> {
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.holder.id());
        Ok(Command::new("nsenter").arg(namespace).arg(program).args(args).output()?)
    }

    fn make_read_only(&self) -> Result<()> {
        let folder = self.folder.path().display().to_string();
        let done = self.run("mount", &["-o", "remount,ro", &folder])?;
        ensure!(done.status.success(), "{}", stderr(&done));
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let folder = self.data().display().to_string();
        sound(&self.run(binary(), &["collections", "check", "--data-dir", &folder])?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A server with the least model and its collections in a folder.
struct Server {
    process: Process,
    _model: Checkpoint,
}

impl Server {
    fn start(folder: &Path) -> Result<Self> {
        Self::start_in_shell("exec \"$@\"", "", folder)
    }

    fn start_on(disk: &Disk) -> Result<Self> {
        let script = r#"exec nsenter "--mount=/proc/$0/ns/mnt" "$@""#;
        Self::start_in_shell(script, &disk.holder.id().to_string(), &disk.data())
    }

    fn start_in_shell(script: &str, argument: &str, folder: &Path) -> Result<Self> {
        let model = Checkpoint::least(1);
        let (name, folder) = (model.model("m"), folder.display().to_string());
        let flags = ["--model", &name, "--max-batch-tokens", "512", "--data-dir", &folder];
        let process = Process::serve_in_shell(script, argument, &flags, &[])?.ready()?;
        Ok(Self { process, _model: model })
    }

    fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        let mut connection = Connection::open(&self.process.http)?;
        connection.post_json(&format!("/v1/{path}"), &[], &body.to_string())
    }

    fn add(&self, path: &str, text: &str) -> Result<Answer> {
        let content = json!({"type": "text", "text": text});
        let body = json!({"collection_name": "c", "path": path, "content": content});
        self.post("documents/add-document", &body)
    }

    /// Paths of the documents with a word.
    fn found(&self, word: &str) -> Result<BTreeSet<String>> {
        let body = json!({"collection_name": "c", "query": word, "k": 2048});
        let answer = self.post("queries/top-documents", &body)?.json()?;
        let hits = answer["results"].as_array().with_context(|| format!("results: {answer}"))?;
        // Those without the word follow with 0.
        let hits = hits.iter().filter(|hit| hit["score"].as_f64() > Some(0.0));
        hits.map(|hit| Ok(hit["path"].as_str().context("a path")?.to_owned())).collect()
    }

    fn counts(&self) -> Result<Value> {
        self.post("status/get-status", &json!({}))?.json()
    }

    async fn settled(&self) {
        until("all is indexed", async || {
            let counts = self.counts().expect("answers");
            assert_eq!(counts["num_failed_documents"], 0, "{counts}");
            counts["num_indexed_documents"] == counts["num_documents"]
        })
        .await;
    }

    fn end(self) -> Result<()> {
        self.process.terminate()?;
        let (status, log) = self.process.end()?;
        ensure!(status.success(), "{status}: {log}");
        Ok(())
    }
}

/// Whether a check found nothing.
fn sound(check: &Output) -> Result<()> {
    let problems = String::from_utf8_lossy(&check.stdout);
    ensure!(check.status.success(), "{problems}{}", stderr(check));
    Ok(())
}

/// A full disk would lose what was acknowledged, stop reads, or need a restart once there is room again.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_nothing_else() -> Result<()> {
    let Some(disk) = Disk::new(64 << 20)? else { return Ok(()) };
    let server = Server::start_on(&disk)?;
    let mut grpc = CollectionsClient::connect(server.process.grpc.clone()).await?;
    server.post("collections/add-collection", &json!({"collection_name": "c"}))?;
    ensure!(server.add("first", "otter")?.status == 201);
    server.settled().await;
    // Room that comes back when somebody removes the file.
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 44 << 20])?;

    let words: Vec<String> = (0..30_000).map(|number| format!("heron{number}")).collect();
    let text = words.join(" ");
    let mut kept = BTreeSet::new();
    let mut number = 0;
    let refused_over_http = loop {
        number += 1;
        let path = format!("{number:03}");
        let answer = server.add(&path, &text)?;
        if answer.status != 201 {
            break answer;
        }
        kept.insert(path);
    };
    ensure!(refused_over_http.status == 507, "{refused_over_http:?}");
    ensure!(refused_over_http.headers["x-should-retry"] == "false");
    let detail = refused_over_http.json()?;
    let words = "the server's disk takes no writes: full; reads go on";
    ensure!(detail["detail"] == words, "{detail}");
    let refused = loop {
        number += 1;
        let path = format!("{number:03}");
        let content = Some(Content::Text(text.clone()));
        let (collection_name, new) = ("c".to_owned(), path.clone());
        let request = AddDocumentRequest {
            collection_name,
            path: new,
            content,
            ..AddDocumentRequest::default()
        };
        match grpc.add_document(request).await {
            Ok(_) => {
                kept.insert(path);
            }
            Err(status) => break status,
        }
    };
    ensure!(refused.code() == Code::ResourceExhausted && refused.message() == words, "{refused:?}");

    // Reads go on, and documents that cannot be indexed now are not given up.
    for _ in 0..20 {
        ensure!(server.found("otter")?.contains("first"));
        let request = GetDocumentRequest {
            collection_name: "c".to_owned(),
            path: kept.first().context("some were kept")?.clone(),
            include_content: true,
        };
        let document = grpc.get_document(request).await?.into_inner();
        ensure!(document.content.as_ref() == Some(&text));
        let counts = server.counts()?;
        ensure!(counts["num_failed_documents"] == 0, "{counts}");
    }
    let body = json!({"query": "q", "documents": ["a", "b"]});
    ensure!(server.post("models/rerank", &body)?.status == 200);

    fs::remove_file(&ballast)?;
    until("there is room again", async || {
        server.add("after", "otter").is_ok_and(|answer| [201, 409].contains(&answer.status))
    })
    .await;
    server.settled().await;
    ensure!(server.found("otter")? == ["after", "first"].map(str::to_owned).into());
    let herons = server.found("heron0")?;
    ensure!(herons == kept, "{herons:?}, acknowledged: {kept:?}");
    disk.check()?;

    // The same after a process that dies while the disk is full.
    // As much of it as there is room for.
    let _ = fs::write(&ballast, vec![1; 64 << 20]);
    while server.add(&format!("{number:03}"), &text)?.status == 201 {
        kept.insert(format!("{number:03}"));
        number += 1;
    }
    drop(server);
    fs::remove_file(&ballast)?;
    let server = Server::start_on(&disk)?;
    server.settled().await;
    let herons = server.found("heron0")?;
    ensure!(herons == kept, "{herons:?}, acknowledged: {kept:?}");
    server.end()?;
    disk.check()
}

/// A copy on a disk that takes no writes could not be looked into, or a server on it would fail later.
#[test]
fn a_read_only_disk_is_read_and_not_served() -> Result<()> {
    let Some(disk) = Disk::new(16 << 20)? else { return Ok(()) };
    let data_dir = disk.data().display().to_string();
    let line = json!({"collection_name": "c", "path": "a", "content": "otter"}).to_string();
    let lines = tempfile::tempdir()?;
    let file = lines.path().join("lines");
    fs::write(&file, line)?;
    let file = file.display().to_string();
    let collections = |words: &[&str]| {
        disk.run(binary(), &[&["collections"], words, &["--data-dir", &data_dir]].concat())
    };
    ensure!(collections(&["import", &file])?.status.success());
    disk.make_read_only()?;

    let copy = tempfile::tempdir()?;
    let copy = copy.path().join("copy").display().to_string();
    for words in [&["list"][..], &["export"], &["check"], &["backup", &copy]] {
        let output = collections(words)?;
        ensure!(output.status.success(), "{words:?}: {}", stderr(&output));
    }
    let model = Checkpoint::least(1);
    let any = "127.0.0.1:0";
    let listen = ["--grpc-listen", any, "--http-listen", any, "--admin-listen", any];
    let serve = ["serve", "--model", &model.model("m"), "--data-dir", &data_dir];
    for words in [
        &[&serve[..], &listen].concat()[..],
        &["collections", "import", &file, "--data-dir", &data_dir],
    ] {
        let output = disk.run(binary(), words)?;
        let told = stderr(&output);
        ensure!(output.status.code() == Some(1), "{output:?}");
        ensure!(told.contains(&data_dir) && told.contains("Read-only file system"), "{told}");
    }
    Ok(())
}

/// What is done to an index, in words and in deed.
type Damage = (&'static str, fn(&Path) -> Result<()>);

/// After a restore without it, an upgrade, or a crash of the machine, documents would be gone from searches.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_index_is_served_again_after_a_restart() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut server = Server::start(folder.path())?;
    server.post("collections/add-collection", &json!({"collection_name": "c"}))?;
    let paths: BTreeSet<_> = (0..30).map(|number| number.to_string()).collect();
    for path in &paths {
        ensure!(server.add(path, &format!("otter {path}"))?.status == 201);
    }
    server.settled().await;
    let truncate: fn(&Path) -> Result<()> = |index| {
        for file in fs::read_dir(index.join("1/coarse"))? {
            let file = fs::File::options().write(true).open(file?.path())?;
            file.set_len(file.metadata()?.len() / 2)?;
        }
        Ok(())
    };
    let damages: [Damage; 4] = [
        ("deleted", |index| Ok(fs::remove_dir_all(index)?)),
        ("truncated", truncate),
        ("of another version", |index| Ok(fs::write(index.join("1/format"), "0 english")?)),
        ("half deleted", |index| Ok(fs::remove_file(index.join("1/fine/meta.json"))?)),
    ];
    for (what, damage) in damages {
        server.end()?;
        damage(&folder.path().join("index"))?;
        server = Server::start(folder.path())?;
        let found = server.found("otter")?;
        ensure!(found == paths, "{what}: {found:?}");
        let path = format!("after {what}");
        ensure!(server.add(&path, "heron")?.status == 201);
        server.settled().await;
        ensure!(server.found("heron")?.contains(&path), "{what}");
        let folder = folder.path().display().to_string();
        sound(&run(["collections", "check", "--data-dir", &folder])).context(what)?;
    }
    let Err(error) = Server::start(folder.path()) else { bail!("two servers have one folder") };
    ensure!(format!("{error:#}").contains("another process has the folder open"), "{error:#}");
    Ok(())
}
