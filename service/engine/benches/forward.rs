//! Seconds and tokens of whole forwards on a checkpoint in a directory.
//!
//! `cargo bench -p reranker-engine --bench forward -- CHECKPOINT DTYPE PAIRSxTOKENS...` prints a line of
//! JSON a shape: the tokens that were computed, seconds, CPU seconds. A shape runs once to warm up and is
//! then measured once: `tests/bench/forward.py` takes turns with its peers. `memory` in the place of a
//! shape runs the longest pair and prints the peak. CPU time and memory need Linux (/proc).

use reranker_engine::{Cuts, Engine, EngineOptions, ModelSpec, Source};
use std::error::Error;
use std::io::Write;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let [directory, dtype, shapes @ ..] = &arguments[..] else {
        return Err("give a checkpoint's directory, a dtype and shapes such as 8x256".into());
    };
    let options = EngineOptions {
        dtype: dtype.parse()?,
        max_batch_tokens: Some(1 << 15),
        ..EngineOptions::default()
    };
    let source = Source::Directory(directory.into());
    let engine = Engine::load(&ModelSpec::custom("bench"), &source, &options, &mut |_| {})?;
    let mut out = std::io::stdout().lock();
    for shape in shapes {
        if shape == "memory" {
            // As many tokens as the model takes: four bytes a character, none in the vocabulary.
            engine.score("q", &["\u{1f9ff}".repeat(10_000)])?;
            writeln!(out, r#"{{"shape": "memory", "peak_bytes": {}}}"#, peak()?)?;
            continue;
        }
        let (pairs, tokens) = shape.split_once('x').ok_or("a shape is PAIRSxTOKENS")?;
        let documents = documents(&engine, pairs.parse()?, tokens.parse()?)?;
        engine.score("q", &documents)?;
        let request = engine.encode("q", &documents, Cuts::default());
        let tokens = request.tokens();
        let (start, cpu) = (Instant::now(), cpu_seconds());
        engine.submit(request)?.wait()?;
        writeln!(
            out,
            r#"{{"shape": "{shape}", "tokens": {tokens}, "seconds": {}, "cpu_seconds": {}}}"#,
            start.elapsed().as_secs_f64(),
            cpu_seconds() - cpu
        )?;
    }
    Ok(())
}

/// `pairs` documents, no two equal because equal ones are scored once, each of `tokens` tokens with its prompt.
fn documents(engine: &Engine, pairs: usize, tokens: usize) -> Result<Vec<String>, Box<dyn Error>> {
    (0..pairs)
        .map(|index| {
            let mut text = format!("{index} ");
            let length =
                |text: &str| engine.encode("q", &[text.to_owned()], Cuts::default()).tokens();
            while length(&text) < tokens {
                let missing = tokens - length(&text);
                text.push_str(&"a ".repeat(missing.div_ceil(2)));
            }
            match length(&text) {
                found if found == tokens => Ok(text),
                found => Err(format!("no document of {tokens} tokens, but one of {found}").into()),
            }
        })
        .collect()
}

/// What this process has computed so far, in user and kernel mode.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which may hold anything: state is the first field, the two times are the 12th
    // and 13th, in hundredths of a second.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The process's largest resident set so far, in bytes.
fn peak() -> Result<usize, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? << 10)
}
