//! Files that are not what they say, or cost more than they are worth: kept, told of, and in nobody's way.

use crate::downloads::auto;
use anyhow::{Result, ensure};
use reranker_tests::library::Library;
use serde_json::json;
use std::io::{Cursor, Write};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A DOCX whose text is `bytes` long and takes a thousandth of it.
fn docx(bytes: usize) -> Result<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    zip.start_file("[Content_Types].xml", options)?;
    zip.write_all(b"<Types/>")?;
    zip.start_file("word/document.xml", options)?;
    zip.write_all(b"<w:document xmlns:w=\"w\"><w:body><w:p><w:r><w:t>")?;
    let block = b"otter ".repeat(10_000);
    for _ in 0..bytes / block.len() {
        zip.write_all(&block)?;
    }
    zip.write_all(b"</w:t></w:r></w:p></w:body></w:document>")?;
    Ok(zip.finish()?.into_inner())
}

/// One bad upload would stop all that come after it, or take the server's memory.
#[tokio::test]
async fn bad_files_fail_alone() -> Result<()> {
    let library = Library::empty().await?;
    let (whole, bomb) = (docx(60_000)?, docx(300_000_000)?);
    ensure!(bomb.len() < 2_000_000);
    let cut = whole[..whole.len() / 2].to_vec();
    let deep = b"<div>".repeat(200_000);
    let mut pdf = b"%PDF-1.7\n".to_vec();
    pdf.extend(
        b"1 0 obj<</Type/Catalog/Pages 1 0 R>>endobj\ntrailer<</Root 1 0 R>>\nstartxref\n9\n%%EOF",
    );
    for (path, bytes, status) in [
        ("a.pdf", &b"%PDF-1.7\nno, it is not"[..], "parsing_failed"),
        ("b.pdf", b"only the name says so", "parsing_failed"),
        ("c.pdf", &pdf, "parsing_failed"),
        ("d.docx", &cut, "parsing_failed"),
        ("e.docx", &bomb, "parsing_failed"),
        ("f.docx", b"PK\x03\x04", "parsing_failed"),
        ("g.docx", &whole, "indexed"),
        ("h.html", &deep, "indexed"),
        ("i.csv", b"a,b\n\"open", "indexed"),
        ("j.txt", b"\xff\xfeo\0t\0t\0e\0r\0", "indexed"),
        ("k.txt", b"\0\0\0\0", "parsing_failed"),
        ("l", b"", "indexed"),
        ("m/../..", b"otter", "indexed"),
    ] {
        library.add(path, auto(bytes)).await?;
        library.settled().await?;
        let document = library.document(path).await?;
        ensure!(document["index_status"] == status, "{path}: {}", document["index_status"]);
        ensure!(document["size"] == bytes.len(), "{path}");
        ensure!(document["content"].is_null() == (status == "parsing_failed"), "{path}");
        let url = document["file_url"].as_str().unwrap_or_default();
        ensure!(reqwest::get(url).await?.bytes().await? == bytes, "{path}");
    }
    let query = json!({"collection_name": "c", "query": "otter", "k": 10});
    let found = library.ask("/queries/top-documents", &query).await?["results"].take();
    let best = found.as_array().map(|found| found.iter().filter(|it| it["score"] != 0.0).count());
    ensure!(best == Some(3), "{found}");
    Ok(())
}

/// A dump of a database, or of a picture as text, would keep the indexer busy for hours.
#[tokio::test]
async fn text_without_words_is_indexed() -> Result<()> {
    let library = Library::empty().await?;
    for (path, text) in [
        ("word", "x".repeat(5_000_000)),
        ("spaces", " ".repeat(5_000_000)),
        ("marks", "\u{301}".repeat(500_000)),
        ("lines", "\n".repeat(1_000_000)),
    ] {
        library.add_text(path, &text).await?;
        let status = library.settled().await?;
        ensure!(status["num_failed_documents"] == 0, "{path}: {status}");
        let document = library.document(path).await?;
        ensure!(document["index_status"] == "indexed" && document["size"] == text.len());
    }
    library.add_text("after", "otter").await?;
    library.settled().await?;
    let query = json!({"collection_name": "c", "query": "otter", "k": 1});
    let found = library.ask("/queries/top-snippets", &query).await?["results"].take();
    ensure!(found[0]["path"] == "after" && found[0]["content"] == "otter", "{found}");
    Ok(())
}
