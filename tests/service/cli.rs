//! The command line: output, exit codes, files.

use anyhow::{Context, Result};
use reranker_tests::checkpoint::Checkpoint;
use reranker_tests::process::{Process, command, run, stderr};
use reranker_tests::raw::Connection;
use serde_json::Value;
use std::io::Write;
use std::process::{Output, Stdio};

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Scripts would go on after a mistake, or not know whose mistake it was.
#[test]
fn wrong_usage_is_one_sentence_and_exit_code_2() {
    for (args, part) in [
        (&["serve", "--model", "nope"][..], "`nope` is not one of demo, zerank-1-small"),
        (&["serve", "--device", "gpu"], "`gpu` is not one of auto, cpu"),
        (&["serve", "--alias", "a=b"], "error: --alias `a`: `b` is not served; served: demo"),
        (&["serve", "--nope"], "unexpected argument '--nope'"),
        (&["rerank", "query"], "error: no documents: give some, or a --file"),
        (&["rerank", "query", "d", "--top-n", "0"], "--top-n"),
        (
            &["fixture", "--heads", "4", "--kv-heads", "3", "x"],
            "--kv-heads 3 does not divide --heads 4",
        ),
        (&["fixture", "--layers", "0", "x"], "--layers must be at least 1"),
        (&["nope"], "unrecognized subcommand 'nope'"),
        (&[], "Usage"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(part), "{args:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{args:?}");
    }
    let help = run(["serve", "--help"]);
    assert!(help.status.success());
    assert!(stdout(&help).contains("Exit codes: 0 done, 1 failed"));
    assert!(stdout(&help).contains("RERANKER_HTTP_LISTEN"));
}

/// A port that is taken must say which, not only that something is in use.
#[test]
fn a_taken_port_is_named() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let any = "127.0.0.1:0";
    let listen = ["--grpc-listen", any, "--admin-listen", any, "--http-listen", &address];
    let output = run([&["serve"], &listen[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("cannot listen on {address} for HTTP")));
    Ok(())
}

/// The first thing people try; scripts read the JSON.
#[test]
fn rerank_prints_a_table_and_json() -> Result<()> {
    let checkpoint = Checkpoint::new(1);
    let model = checkpoint.model("m");
    let args = ["rerank", "--model", &model, "What is 2+2?", "4", "The answer is 1 million."];
    let table = run(args);
    assert!(table.status.success(), "{}", stderr(&table));
    let lines = stdout(&table);
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(
        lines.contains("[0] 4\n") && lines.contains("[1] The answer is 1 million.\n"),
        "{lines}"
    );

    let output = run([&args[..], &["--json", "--top-n", "1"]].concat());
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(answer["model"], "m");
    assert_eq!(answer["total_bytes"], 2 * (150 + 12) + 1 + 24);
    let results = answer["results"].as_array().context("results")?;
    assert_eq!(results.len(), 1);
    let index = results[0]["index"].as_u64().context("an index")?;
    assert_eq!(results[0]["document"], args[4 + index as usize]);
    assert!(lines.starts_with(&format!(
        "{:.4} ",
        results[0]["relevance_score"].as_f64().context("a score")?
    )));
    Ok(())
}

/// Documents come from files and pipes in practice.
#[test]
fn documents_come_from_files() -> Result<()> {
    let checkpoint = Checkpoint::new(1);
    let model = checkpoint.model("m");
    let file = checkpoint.file("documents.jsonl");
    std::fs::write(&file, "{\"text\":\"one\"}\n{\"id\":2,\"text\":\"two\"}\n")?;
    let documents = |output: &Output| -> Result<Vec<String>> {
        let answer: Value =
            serde_json::from_slice(&output.stdout).with_context(|| stderr(output))?;
        let results = answer["results"].as_array().context("results")?;
        let mut texts: Vec<String> = results
            .iter()
            .filter_map(|result| Some(result["document"].as_str()?.to_owned()))
            .collect();
        texts.sort();
        Ok(texts)
    };
    let args = ["rerank", "--model", &model, "--json", "q"];
    let path = file.display().to_string();
    assert_eq!(documents(&run([&args[..], &["--file", &path]].concat()))?, ["one", "two"]);

    let mut piped = command([&args[..], &["--file", "-"]].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    piped.stdin.take().context("a pipe")?.write_all(b"three\n\nfour\n")?;
    assert_eq!(documents(&piped.wait_with_output()?)?, ["four", "three"]);

    std::fs::write(&file, "{\"text\":\"one\"}\nnot JSON\n")?;
    let broken = run([&args[..], &["--file", &path]].concat());
    assert_eq!(broken.status.code(), Some(1));
    assert!(
        stderr(&broken).ends_with("line 2: not an object with a `text`\n"),
        "{}",
        stderr(&broken)
    );
    let missing = run([&args[..], &["--file", "/no/such/file"]].concat());
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("cannot read `/no/such/file`"));
    Ok(())
}

/// Whoever sets up a model asks `verify` before anything else.
#[test]
fn verify_checks_a_model_without_published_scores() {
    let checkpoint = Checkpoint::new(1);
    let output = run(["verify", "--model", &checkpoint.model("m")]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report = stdout(&output);
    for line in ["scores are finite: ok", "the same alone and together: ok", "m: verified"] {
        assert!(report.contains(line), "{report}");
    }
}

/// Other weights under a known model's name must not pass.
#[test]
fn verify_refuses_other_scores_than_the_published() {
    let checkpoint = Checkpoint::new(1);
    let output = run(["verify", "--model", &checkpoint.model("zerank-1-small")]);
    assert_eq!(output.status.code(), Some(1));
    let report = stdout(&output);
    assert!(report.contains("0.83889") && report.contains("TOO FAR"), "{report}");
    assert!(stderr(&output).ends_with("error: zerank-1-small: not verified\n"));
}

/// The table people choose a model from, and the demo that needs no download.
#[test]
fn models_are_listed() {
    let output = run(["models"]);
    assert!(output.status.success());
    for name in ["demo", "zerank-1-small", "zerank-1 ", "zerank-2"] {
        assert!(stdout(&output).contains(name), "{}", stdout(&output));
    }
}

/// Tests of other projects make their checkpoints with this.
#[test]
fn a_fixture_can_be_served_from_its_folder() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("new").display().to_string();
    let shape = ["--layers", "1", "--hidden", "48", "--heads", "3", "--kv-heads", "1"];
    let rest = ["--head-dim", "8", "--untied", "--shards", "2", "--dtype", "f32", "--seed", "9"];
    let written = run([&["fixture"], &shape[..], &rest[..], &[&path]].concat());
    assert!(written.status.success(), "{}", stderr(&written));

    let model = format!("own={path}");
    let process = Process::serve(&["--model", &model, "--alias", "zerank-1=own"], &[])?.ready()?;
    let body = r#"{"model":"zerank-1","query":"q","documents":["d"]}"#;
    let mut connection = Connection::open(&process.http)?;
    connection.post("/models/rerank", &[&format!("content-length: {}", body.len())])?;
    connection.send(body.as_bytes())?;
    assert_eq!(connection.answer()?.status, 200);
    process.terminate()?;
    let (status, log) = process.end()?;
    assert!(status.success(), "{log}");
    Ok(())
}
