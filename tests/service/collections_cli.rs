//! `reranker collections`: what an operator does with a data folder, with the real binary.

use anyhow::{Context, Result, ensure};
use reranker_engine::EngineOptions;
use reranker_tests::checkpoint::Checkpoint;
use reranker_tests::process::{command, run, stderr};
use reranker_tests::server::{Running, Settings, load};
use reranker_tests::until;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Output, Stdio};

fn collections(words: &[&str], folder: &Path) -> Output {
    run([&["collections"], words, &["--data-dir", &folder.display().to_string()]].concat())
}

fn import(folder: &Path, flags: &[&str], lines: &str) -> Result<Output> {
    let folder = folder.display().to_string();
    let mut child =
        command([&["collections", "import", "-", "--data-dir", &folder], flags].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
    // One that refuses the folder does not read.
    let _ = child.stdin.take().context("is piped")?.write_all(lines.as_bytes());
    Ok(child.wait_with_output()?)
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a command printed that did what it was told.
fn done(output: &Output) -> Result<String> {
    ensure!(output.status.success(), "{}{}", stdout(output), stderr(output));
    Ok(stdout(output))
}

fn text(path: &str, text: &str) -> Value {
    json!({"collection_name": "c", "path": path, "content": {"type": "text", "text": text}})
}

fn lines(values: &[Value]) -> String {
    let lines: Vec<_> = values.iter().map(|value| value.to_string() + "\n").collect();
    lines.concat()
}

async fn serve(folder: &Path) -> Result<Running> {
    let settings = Settings { data_dir: Some(folder.to_owned()), ..Settings::default() };
    let model = load("m", Checkpoint::least(1), EngineOptions::default());
    Running::start_with(vec![model.await?], settings).await
}

async fn settled(server: &Running) {
    until("nothing waits", async || {
        let status = server.post("/v1/status/get-status", &json!({})).await.expect("answers").body;
        status["num_parsing_documents"] == 0 && status["num_indexing_documents"] == 0
    })
    .await;
}

/// All that a server tells of its documents but what is new in every folder.
async fn told(server: &Running, documents: &[Value]) -> Result<Vec<Value>> {
    let mut told = Vec::new();
    for document in documents {
        let (collection, path) = (&document["collection_name"], &document["path"]);
        let body = json!({"collection_name": collection, "path": path, "include_content": true});
        let mut answer = server.post("/v1/documents/get-document-info", &body).await?.body;
        let url = answer["document"]["file_url"].take();
        let file = reqwest::get(url.as_str().context("a link")?).await?.bytes().await?;
        answer["document"]["id"] = Value::Null;
        told.push(json!([answer, file.to_vec()]));
        let body = json!({"collection_name": collection, "query": "otter 水獭", "k": 9});
        told.push(server.post("/v1/queries/top-snippets", &body).await?.body["results"].take());
    }
    Ok(told)
}

/// A user who moves to another machine would lose part of what was kept.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_imported_as_it_was() -> Result<()> {
    let (from, to) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let tags = json!({"tag": "a\u{1}\"ü", "list:tags": ["x", "y"], "list:none": []});
    let content = |path: &str, content: Value| json!({"collection_name": "空 \"1\"", "path": path, "content": content, "metadata": tags});
    let documents = [
        text("a", ""),
        text("b", "Eine Ö-Otter\r\nline\u{2028}two\u{0} 🦦"),
        content("水獭.txt", json!({"type": "text", "text": "水獭是游泳高手。".repeat(9_000)})),
        content("pages", json!({"type": "text-pages", "pages": ["otter\none", "", "two"]})),
        content("rows", json!({"type": "text-pages-unordered", "pages": ["", "otter"]})),
        content("file.html", json!({"type": "auto", "base64_data": "PGI+b3R0ZXI8L2I+"})),
        content("broken.pdf", json!({"type": "auto", "base64_data": "JVBERi0xLjcA/w=="})),
        content("empty", json!({"type": "auto", "base64_data": ""})),
    ];
    let server = serve(from.path()).await?;
    for (name, num_shards) in [("c", 1), ("空 \"1\"", 16), ("none", 64)] {
        let body = json!({"collection_name": name, "num_shards": num_shards});
        ensure!(server.post("/v1/collections/add-collection", &body).await?.status == 201);
    }
    for document in &documents {
        let answer = server.post("/v1/documents/add-document", document).await?;
        ensure!(answer.status == 201, "{document}: {answer:?}");
    }
    settled(&server).await;

    // Beside the server.
    let file = from.path().join("export.jsonl");
    let exported = collections(&["export", "--output", &file.display().to_string()], from.path());
    done(&exported)?;
    ensure!(done(&collections(&["export"], from.path()))? == fs::read_to_string(&file)?);
    let alone = done(&collections(&["export", "--collection", "c"], from.path()))?;
    ensure!(alone.lines().count() == 3 && fs::read_to_string(&file)?.starts_with(&alone));
    let imported = collections(&["import", &file.display().to_string()], to.path());
    let expected = "documents: 8 added, 0 replaced, 0 skipped; wrong lines: 0\n";
    ensure!(done(&imported)? == expected, "{}", stdout(&imported));
    ensure!(done(&collections(&["export"], to.path()))? == fs::read_to_string(&file)?);
    let copy = serve(to.path()).await?;
    settled(&copy).await;
    let (was, is) = (told(&server, &documents).await?, told(&copy, &documents).await?);
    for (was, is) in was.iter().zip(&is) {
        ensure!(was == is, "{was}\n{is}");
    }
    ensure!(was.iter().any(|answer| answer[0]["content"].is_string()), "snippets are found");

    let list: Value = serde_json::from_str(&done(&collections(&["list", "--json"], to.path()))?)?;
    let listed = list["collections"].as_array().context("a list")?;
    let names: Vec<_> = listed.iter().map(|one| &one["collection_name"]).collect();
    ensure!(names == ["c", "none", "空 \"1\""] && listed[2]["num_shards"] == 16, "{list}");
    for one in listed {
        let body = json!({"collection_name": one["collection_name"]});
        let status = copy.post("/v1/status/get-status", &body).await?.body;
        for (name, count) in status.as_object().context("counts")? {
            ensure!(one[name] == *count, "{name}: {list}, {status}");
        }
    }
    let table = done(&collections(&["list"], to.path()))?;
    let row: Vec<_> = table.lines().last().context("a row")?.split_whitespace().collect();
    ensure!(row[..6] == ["空", "\"1\"", "6", "5", "0", "1"], "{table}");
    Ok(())
}

/// One bad line in a million would stop the others, or be lost without a word.
#[test]
fn wrong_lines_are_named_and_the_others_imported() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let long = json!({"collection_name": "c", "path": "p".repeat(4097), "content": "x"});
    let lines = [
        "\u{feff}{\"collection_name\":\"c\",\"path\":\"a\",\"content\":\"first\"}\r".to_owned(),
        String::new(),
        "{\"collection_name\":\"c\",".to_owned(),
        long.to_string(),
        text("b", "second").to_string(),
        text("b", "again").to_string(),
        json!({"path": "d", "content": "x"}).to_string(),
        text("d", "last").to_string(),
    ]
    .join("\n");
    let output = import(folder.path(), &[], &lines)?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    let expected = "documents: 3 added, 0 replaced, 0 skipped; wrong lines: 4\n";
    ensure!(stdout(&output) == expected, "{}", stdout(&output));
    let told = stderr(&output);
    for part in [
        "line 3: body.",
        ": JSON decode error\n",
        "line 4: `path` is 4097 bytes long; it may have 1 to 4096\n",
        "line 6: document `b` exists already in collection `c`; choose --if-exists skip or overwrite\n",
        "line 7: the line names no collection; add `collection_name`, or give --collection\n",
        "error: 4 lines were not imported; mend them and import the file again with --if-exists skip\n",
    ] {
        ensure!(told.contains(part), "{part}: {told}");
    }
    let skip = import(folder.path(), &["--if-exists", "skip"], &text("b", "third").to_string())?;
    ensure!(done(&skip)?.starts_with("documents: 0 added, 0 replaced, 1 skipped"));
    ensure!(done(&collections(&["export"], folder.path()))?.contains("\"second\""));
    let flags = ["--if-exists", "overwrite"];
    let overwrite = import(folder.path(), &flags, &text("b", "third").to_string())?;
    ensure!(done(&overwrite)?.starts_with("documents: 0 added, 1 replaced, 0 skipped"));
    let elsewhere = import(folder.path(), &["--collection", "d"], &text("b", "other").to_string())?;
    done(&elsewhere)?;
    let exported = done(&collections(&["export"], folder.path()))?;
    let expected = ["\"first\"", "\"third\"", "\"last\"", "\"other\""];
    ensure!(expected.iter().all(|text| exported.contains(text)), "{exported}");
    ensure!(exported.lines().count() == 6, "{exported}");

    let unknown = collections(&["export", "--collection", "e"], folder.path());
    ensure!(unknown.status.code() == Some(1));
    ensure!(stderr(&unknown).contains("collection `e` not found; there are: c, d"));
    Ok(())
}

/// After Ctrl-C, a closed terminal or a full disk, all would have to begin again, or something be missing.
#[test]
fn an_interrupted_import_goes_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let documents: Vec<_> =
        (0..1_000).map(|i| text(&format!("{i:04}"), &"otter ".repeat(200))).collect();
    let all = lines(&documents);
    let data_dir = folder.path().display().to_string();
    let mut child = command(["collections", "import", "-", "--data-dir", &data_dir])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let mut input = child.stdin.take().context("is piped")?;
    input.write_all(&all.as_bytes()[..all.len() / 2 + 7])?;
    input.flush()?;
    child.kill()?;
    child.wait()?;
    drop(input);
    done(&import(folder.path(), &["--if-exists", "skip"], &all)?)?;
    let exported = done(&collections(&["export"], folder.path()))?;
    ensure!(exported.lines().count() == 1_001);
    done(&collections(&["check"], folder.path()))?;
    Ok(())
}

/// Two processes that write to one folder would each overwrite what the other knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_a_server_has_is_not_written_to() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = serve(folder.path()).await?;
    let refused = [
        import(folder.path(), &[], &text("a", "x").to_string())?,
        collections(&["rebuild"], folder.path()),
    ];
    for output in refused {
        ensure!(output.status.code() == Some(1), "{output:?}");
        let part =
            "another process has the folder open, and a folder belongs to one: end that one first";
        ensure!(stderr(&output).contains(part), "{}", stderr(&output));
    }
    let listed = server.post("/v1/collections/get-collection-list", &json!({})).await?.body;
    ensure!(listed == json!({"collection_names": []}), "{listed}");
    Ok(())
}

/// A backup that is taken at night, while the server works, would not restore.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_beside_a_busy_server_restores() -> Result<()> {
    let (folder, to) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let server = serve(folder.path()).await?;
    let body = json!({"collection_name": "c"});
    server.post("/v1/collections/add-collection", &body).await?;
    let add = async |number: u32| -> Result<()> {
        let document = text(&format!("{number:03}"), "otter");
        ensure!(server.post("/v1/documents/add-document", &document).await?.status == 201);
        Ok(())
    };
    for number in 0..20 {
        add(number).await?;
    }
    let copy = to.path().join("copy");
    let (source, target) = (folder.path().to_owned(), copy.display().to_string());
    let backup = tokio::task::spawn_blocking(move || collections(&["backup", &target], &source));
    let mut added = 20;
    while !backup.is_finished() {
        add(added).await?;
        added += 1;
    }
    done(&backup.await?)?;
    done(&collections(&["check"], folder.path()))?;
    done(&collections(&["check"], &copy))?;
    let exported = done(&collections(&["export"], &copy))?;
    let documents: Vec<Value> =
        exported.lines().skip(1).map(serde_json::from_str).collect::<Result<_, _>>()?;
    // All up to some moment after the command began, and nothing else.
    ensure!((20..=added as usize).contains(&documents.len()), "{} of {added}", documents.len());
    for (number, document) in documents.iter().enumerate() {
        ensure!(document["path"] == format!("{number:03}"), "{document}");
    }
    let again = collections(&["backup", &copy.display().to_string()], folder.path());
    ensure!(again.status.code() == Some(1) && stderr(&again).contains("is there already"));

    let restored = serve(&copy).await?;
    settled(&restored).await;
    let query = json!({"collection_name": "c", "query": "otter", "k": 2048});
    let found = restored.post("/v1/queries/top-documents", &query).await?.body;
    ensure!(found["results"].as_array().map(Vec::len) == Some(documents.len()), "{found}");
    Ok(())
}

/// An operator would trust a folder that is damaged, or not get a damaged index working again.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_finds_damage_and_a_rebuild_mends_the_index() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let documents: Vec<_> = (0..50).map(|i| text(&i.to_string(), &format!("otter {i}"))).collect();
    done(&import(folder.path(), &[], &lines(&documents))?)?;
    let server = serve(folder.path()).await?;
    settled(&server).await;
    server.stop.cancel();
    server.app.close_collections().await;
    server.ended().await?;
    done(&collections(&["check"], folder.path()))?;

    let index = folder.path().join("index/1/fine");
    let largest = fs::read_dir(&index)?
        .flatten()
        .max_by_key(|entry| entry.metadata().map_or(0, |metadata| metadata.len()));
    let file = fs::File::options().write(true).open(largest.context("a file")?.path())?;
    file.set_len(file.metadata()?.len() / 2)?;
    let damaged = collections(&["check"], folder.path());
    ensure!(damaged.status.code() == Some(1), "{damaged:?}");
    ensure!(stdout(&damaged).starts_with("search index "), "{}", stdout(&damaged));
    ensure!(stderr(&damaged).contains("problems found: 1; `collections rebuild` mends"));
    done(&collections(&["rebuild"], folder.path()))?;
    done(&collections(&["check"], folder.path()))?;

    let database = fs::File::options().write(true).open(folder.path().join("store.sqlite"))?;
    database.write_all_at(&[0x5a; 3000], 4096 * 2)?;
    let damaged = collections(&["check"], folder.path());
    ensure!(damaged.status.code() == Some(1) && !stdout(&damaged).is_empty(), "{damaged:?}");
    let nothing = collections(&["check"], &folder.path().join("none"));
    ensure!(nothing.status.code() == Some(2), "{nothing:?}");
    ensure!(stderr(&nothing).contains("there is no `store.sqlite`"), "{}", stderr(&nothing));
    Ok(())
}
