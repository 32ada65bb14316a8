//! Damaged and foreign checkpoints: one clear sentence at start, never a wrong score later.

use anyhow::{Context, Result};
use reranker_tests::checkpoint::Checkpoint;
use reranker_tests::process::{Process, run, stderr};
use reranker_tests::raw::Connection;
use serde_json::{Value, json};
use std::fs;

/// Starts the model from the command line and expects exit code 1 and one sentence with `part`.
#[track_caller]
fn assert_refused(model: &str, part: &str) {
    let output = run(["rerank", "--model", model, "q", "d"]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("error: ") && text.contains(part), "{part}: {text}");
}

/// Users see nothing else of a wrong path.
#[test]
fn a_missing_folder_or_file_is_named() -> Result<()> {
    assert_refused("m=/no/such/folder", "no such directory `/no/such/folder`");
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let checkpoint = Checkpoint::new(1);
        fs::remove_file(checkpoint.file(name))?;
        assert_refused(&checkpoint.model("m"), name);
    }
    Ok(())
}

/// A model that is computed as something it is not gives plausible, wrong scores.
#[test]
fn another_architecture_is_refused() -> Result<()> {
    for (field, value, part) in [
        ("architectures", json!(["LlamaForCausalLM"]), "its architecture is LlamaForCausalLM"),
        ("use_sliding_window", json!(true), "sliding"),
        ("rope_scaling", json!({"rope_type": "yarn", "factor": 4.0}), "rope"),
        ("attention_bias", json!(true), "bias"),
        ("hidden_act", json!("gelu"), "gelu"),
    ] {
        let checkpoint = Checkpoint::new(1);
        checkpoint.configure(field, value)?;
        assert_refused(&checkpoint.model("m"), part);
    }
    Ok(())
}

/// An interrupted download or a wrong file must not load.
#[test]
fn damaged_weights_are_refused() -> Result<()> {
    let checkpoint = Checkpoint::new(1);
    checkpoint.replace_in_header("layers.1.self_attn.q_proj", "layers.1.self_attn.x_proj")?;
    let missing = "tensor `model.layers.1.self_attn.q_proj.weight` is missing";
    assert_refused(&checkpoint.model("m"), missing);

    let checkpoint = Checkpoint::new(1);
    checkpoint.configure("intermediate_size", json!(128))?;
    assert_refused(&checkpoint.model("m"), "has shape [96, 64], config.json implies [128, 64]");

    let checkpoint = Checkpoint::new(1);
    let path = checkpoint.file("model.safetensors");
    let length = fs::metadata(&path)?.len();
    fs::OpenOptions::new().write(true).open(&path)?.set_len(length - 100)?;
    assert_refused(&checkpoint.model("m"), "is truncated");

    fs::write(&path, b"version https://git-lfs.github.com/spec/v1\n")?;
    assert_refused(&checkpoint.model("m"), "model.safetensors");
    let checkpoint = Checkpoint::new(1);
    fs::write(checkpoint.file("config.json"), "{")?;
    assert_refused(&checkpoint.model("m"), "config.json");
    Ok(())
}

/// The answer's row would be another token's, and every score wrong.
#[test]
fn a_tokenizer_without_the_answer_is_refused() -> Result<()> {
    let checkpoint = Checkpoint::new(1);
    let path = checkpoint.file("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(&path)?)?;
    let merges = tokenizer["model"]["merges"].as_array_mut().context("merges")?;
    let makes_yes = |merge: &Value| match merge {
        Value::String(pair) => pair.replace(' ', "") == "Yes",
        pair => {
            format!("{}{}", pair[0].as_str().unwrap_or(""), pair[1].as_str().unwrap_or("")) == "Yes"
        }
    };
    let before = merges.len();
    merges.retain(|merge| !makes_yes(merge));
    let merged = before - merges.len();
    let added = tokenizer["added_tokens"].as_array_mut().context("added tokens")?;
    added.retain(|token| token["content"] != "Yes");
    assert_eq!(merged, 1, "the demo's tokenizer makes `Yes` by a merge");
    fs::write(path, tokenizer.to_string())?;
    assert_refused(&checkpoint.model("m"), "Yes");
    Ok(())
}

const NAN: u16 = 0x7fc0;
const LARGEST: u16 = 0x7f7f;

/// One bad value makes scores NaN, which clients sort anywhere: every one, or, in a word's
/// embedding, those of texts with the word.
#[test]
fn nan_in_the_weights_is_refused_by_the_server_too() -> Result<()> {
    for tensor in
        ["model.layers.1.mlp.down_proj.weight", "model.norm.weight", "model.embed_tokens.weight"]
    {
        let checkpoint = Checkpoint::new(1);
        checkpoint.poison(tensor, NAN)?;
        let sentence = format!("tensor `{tensor}` holds a value that is not finite");
        assert_refused(&checkpoint.model("m"), &sentence);

        let process = Process::serve(&["--model", &checkpoint.model("m")], &[])?;
        let (status, log) = process.end()?;
        assert_eq!(status.code(), Some(1), "{log}");
        let last = log.lines().last().context("a last line")?;
        assert!(last.starts_with("error: model `m`: ") && last.contains(&sentence), "{log}");
    }
    Ok(())
}

/// Finite weights can still overflow: the warm-up sees what a look at the values does not.
#[test]
fn weights_that_overflow_are_refused() -> Result<()> {
    let checkpoint = Checkpoint::new(1);
    checkpoint.poison("model.norm.weight", LARGEST)?;
    assert_refused(&checkpoint.model("m"), "the model's scores are not finite");
    Ok(())
}

/// A volume that goes away or a cache that is cleaned must not take a running server with it.
#[test]
fn a_deleted_checkpoint_is_served_on() -> Result<()> {
    let checkpoint = Checkpoint::new(1);
    let process = Process::serve(&["--model", &checkpoint.model("m")], &[])?.ready()?;
    let rerank = || -> Result<Value> {
        let body = json!({"query": "q", "documents": ["one", "two"]}).to_string();
        let mut connection = Connection::open(&process.http)?;
        connection.post("/v1/models/rerank", &[&format!("content-length: {}", body.len())])?;
        connection.send(body.as_bytes())?;
        let answer = connection.answer()?;
        assert_eq!(answer.status, 200);
        Ok(answer.json()?["results"].clone())
    };
    let before = rerank()?;
    drop(checkpoint);
    assert_eq!(rerank()?, before);
    process.terminate()?;
    let (status, log) = process.end()?;
    assert!(status.success(), "{log}");
    Ok(())
}
