//! The committed inputs of the fuzz targets (tests/fuzz), without a fuzzer.

use anyhow::{Context, Result};
use std::path::Path;

type Target = fn(&[u8]);

/// What once broke a parser would break it again, in a change whose author does not fuzz.
#[test]
fn the_corpus_of_every_target_passes() -> Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let targets: [(&str, Target); 7] = [
        ("http_body", reranker::fuzzing::http_rerank_body),
        ("headers", reranker::fuzzing::headers),
        ("grpc_message", reranker::fuzzing::grpc_rerank_message),
        ("grpc_stream", reranker::fuzzing::grpc_stream_message),
        ("compat_body", reranker::fuzzing::compat_body),
        ("keys_file", reranker::fuzzing::keys_file),
        ("parse_file", reranker::fuzzing::parse_file),
    ];
    let mut folders = std::fs::read_dir(&corpus)?.collect::<Result<Vec<_>, _>>()?;
    folders.retain(|folder| !targets.iter().any(|(name, _)| *folder.file_name() == **name));
    assert!(folders.is_empty(), "nobody runs {folders:?}");
    for (name, run) in targets {
        let mut inputs = 0;
        for entry in std::fs::read_dir(corpus.join(name)).context(name)? {
            let path = entry?.path();
            let input = std::fs::read(&path)?;
            // The panic's message does not know the file.
            let passes = std::panic::catch_unwind(|| run(&input)).is_ok();
            assert!(passes, "{} breaks", path.display());
            inputs += 1;
        }
        assert!(inputs > 10, "only {inputs} inputs for {name}");
    }
    Ok(())
}
