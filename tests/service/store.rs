//! What every store of collections must do; written against the trait alone.

use anyhow::{Context, Result, bail, ensure};
use reranker::collection::embedded::{Embedded, Language};
use reranker::collection::filter::{Comparison, Filter};
use reranker::collection::ingest::{Ingest, IngestOptions};
use reranker::collection::{
    Added, ClaimedWork, CollectionName, Content, DocumentPath, DocumentStatus, DocumentText,
    Granularity, Hit, Metadata, MetadataValue, NewDocument, Search, Statistics, Step, Store, Unit,
    Update,
};
use reranker::error::Error;
use reranker::parse::ParseLimits;
use reranker_tests::until;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// A store with nobody at work on it, so that a test decides when a document is indexed.
struct Kept {
    store: Arc<dyn Store>,
    folder: TempDir,
}

fn open(folder: &Path) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(Embedded::open(folder, Language::default())?))
}

impl Kept {
    async fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let store = open(folder.path())?;
        store.add_collection(&name("c"), 1).await?;
        Ok(Self { store, folder })
    }

    /// The same data in a new process, as far as the store can tell.
    async fn reopened(self) -> Result<Self> {
        self.store.close().await;
        drop(self.store);
        let store = open(self.folder.path())?;
        Ok(Self { store, folder: self.folder })
    }

    async fn add(&self, path: &str, text: &str) -> Result<()> {
        let overwrite = self.store.document(&name("c"), &at(path), false).await.is_ok();
        self.store.add_document(&name("c"), document(path, text), overwrite).await?;
        Ok(())
    }

    /// Does all that waits.
    async fn work(&self) -> Result<()> {
        let options = IngestOptions { workers: 2, limits: ParseLimits::default() };
        let ingest = Ingest::start(&self.store, options);
        until("nothing waits", async || {
            let counts = self.store.statistics(None).await.unwrap_or_default();
            counts.parsing + counts.indexing == 0
        })
        .await;
        ingest.close().await;
        Ok(())
    }

    async fn search(&self, query: &str, filter: Filter, unit: Unit) -> Result<Vec<Hit>, Error> {
        let query = query.to_owned();
        let search = Search { query, filter, unit, limit: 100, with_text: true };
        self.store.search(&name("c"), search).await
    }

    /// Paths of the documents with a word.
    async fn found(&self, word: &str) -> Result<Vec<String>> {
        let hits = self.search(word, Filter::ALL, Unit::Document).await?;
        Ok(hits.iter().map(|hit| hit.document.path.to_string()).collect())
    }
}

fn name(text: &str) -> CollectionName {
    CollectionName::new(text.to_owned()).expect("is a name")
}

fn at(text: &str) -> DocumentPath {
    DocumentPath::new(text.to_owned()).expect("is a path")
}

fn kind(value: &str) -> Metadata {
    let attributes = [("kind".to_owned(), MetadataValue::One(value.to_owned()))];
    Metadata::new(attributes.into()).expect("is metadata")
}

fn document(path: &str, text: &str) -> NewDocument {
    let content = Content::Text(DocumentText::plain(text.to_owned()));
    NewDocument { path: at(path), content, metadata: kind(text) }
}

fn is_kind(value: &str) -> Filter {
    let (attribute, operand) = ("kind".to_owned(), value.to_owned());
    Filter::Compare { attribute, comparison: Comparison::Equal, operand }
}

/// Collections would vanish, or another's documents appear in a new one of the same name.
#[tokio::test]
async fn collections_come_and_go() -> Result<()> {
    let kept = Kept::new().await?;
    let store = &kept.store;
    for text in ["é", "b", "B"] {
        store.add_collection(&name(text), 8).await?;
    }
    let exists = store.add_collection(&name("b"), 1).await;
    ensure!(matches!(exists, Err(Error::CollectionExists { name }) if name == "b"));
    let names: Vec<String> = store.collections().await?.iter().map(ToString::to_string).collect();
    ensure!(names == ["B", "b", "c", "é"], "{names:?}");
    for number in 0..500 {
        kept.add(&format!("{number:03}"), "otter").await?;
    }
    kept.work().await?;
    ensure!(kept.found("otter").await?.len() == 100);
    store.delete_collection(&name("c")).await?;
    ensure!(matches!(kept.found("otter").await, Err(error) if error.to_string().contains("`c`")));
    let gone = store.delete_collection(&name("c")).await;
    ensure!(matches!(gone, Err(Error::CollectionNotFound { .. })));
    store.add_collection(&name("c"), 1).await?;
    ensure!(store.statistics(Some(&name("c"))).await? == Statistics::default());
    ensure!(kept.found("otter").await?.is_empty());
    kept.add("000", "otter again").await?;
    kept.work().await?;
    ensure!(kept.found("otter").await? == ["000"]);
    let kept = kept.reopened().await?;
    ensure!(kept.found("otter").await? == ["000"]);
    ensure!(kept.store.collections().await?.len() == 4);
    Ok(())
}

/// A user's scripts walk through listings and rely on their order and ends.
#[tokio::test]
async fn documents_are_listed_by_their_bytes() -> Result<()> {
    let kept = Kept::new().await?;
    for path in ["b", "a/2", "a/10", "a", "é", "B", "a\u{ffff}", "a\u{10000}"] {
        kept.add(path, "x").await?;
    }
    let list = async |prefix: &str, after: Option<&str>, limit| -> Result<Vec<String>> {
        let documents = kept.store.documents(&name("c"), prefix, after, limit).await?;
        Ok(documents.iter().map(|document| document.path.to_string()).collect())
    };
    let all = ["B", "a", "a/10", "a/2", "a\u{ffff}", "a\u{10000}", "b", "é"];
    ensure!(list("", None, 100).await? == all);
    ensure!(list("", None, 3).await? == all[..3]);
    ensure!(list("", Some("a/2"), 2).await? == all[4..6]);
    ensure!(list("a", None, 100).await? == all[1..6]);
    ensure!(list("a/", Some("a/10"), 100).await? == ["a/2"]);
    ensure!(list("a/", Some("B"), 100).await? == ["a/10", "a/2"]);
    ensure!(list("a/", Some("b"), 100).await?.is_empty());
    ensure!(list("x", None, 100).await?.is_empty());
    Ok(())
}

/// What `get-document-info` and downloads show would not be what was sent.
#[tokio::test]
async fn a_document_is_what_was_sent() -> Result<()> {
    let kept = Kept::new().await?;
    let store = &kept.store;
    let pages = ["Größe".to_owned(), String::new(), "drei".to_owned()];
    let content = Content::Text(DocumentText::paged(&pages, true));
    let paged = NewDocument { path: at("paged"), content, metadata: kind("k") };
    ensure!(store.add_document(&name("c"), paged, false).await? == Added::Created);
    let bytes = vec![0, 159, 146, 150];
    let content = Content::Auto(bytes.clone());
    let auto = NewDocument { path: at("auto.bin"), content, metadata: Metadata::EMPTY };
    store.add_document(&name("c"), auto, false).await?;

    let (document, text) = store.document(&name("c"), &at("paged"), true).await?;
    ensure!(text.as_deref() == Some("Größe\n\ndrei"));
    ensure!((document.size, document.num_pages) == (13, Some(3)), "{document:?}");
    ensure!(document.metadata == kind("k") && !document.has_images);
    ensure!(document.status == DocumentStatus::NotIndexed && document.id.get_version_num() == 7);
    for (index, page) in pages.iter().enumerate() {
        let (_, text) = store.page(&name("c"), &at("paged"), index as u64, true).await?;
        ensure!(text.as_ref() == Some(page));
    }
    let beyond = store.page(&name("c"), &at("paged"), 3, false).await;
    ensure!(matches!(beyond, Err(Error::PageNotFound { .. })));
    let original = store.original(document.id).await?.context("is there")?;
    ensure!(original.bytes == "Größe\n\ndrei".as_bytes() && !original.is_auto);

    let (waiting, text) = store.document(&name("c"), &at("auto.bin"), true).await?;
    ensure!(waiting.status == DocumentStatus::NotParsed && text.is_none() && waiting.size == 4);
    let early = store.page(&name("c"), &at("auto.bin"), 0, true).await;
    ensure!(matches!(early, Err(Error::PageNotFound { .. })));
    kept.work().await?;
    let (failed, _) = store.document(&name("c"), &at("auto.bin"), true).await?;
    ensure!(failed.status == DocumentStatus::ParsingFailed && failed.num_pages.is_none());
    ensure!(store.original(failed.id).await?.context("is kept")?.bytes == bytes);
    let missing = store.document(&name("c"), &at("none"), false).await;
    ensure!(matches!(missing, Err(Error::DocumentNotFound { .. })));
    Ok(())
}

/// An overwrite would show a mix of old and new, or nothing, until it is indexed.
#[tokio::test]
async fn the_last_indexed_version_answers_as_a_whole() -> Result<()> {
    let kept = Kept::new().await?;
    let store = &kept.store;
    kept.add("d", "otter").await?;
    kept.work().await?;
    let (first, _) = store.document(&name("c"), &at("d"), false).await?;
    let again = store.add_document(&name("c"), document("d", "heron"), false).await;
    ensure!(matches!(again, Err(Error::DocumentExists { .. })));
    let replaced = store.add_document(&name("c"), document("d", "heron"), true).await?;
    ensure!(replaced == Added::Replaced);

    let (second, text) = store.document(&name("c"), &at("d"), true).await?;
    ensure!(text.as_deref() == Some("heron") && second.id != first.id);
    ensure!(store.original(first.id).await?.is_none());
    for word in ["otter", "heron"] {
        let hits = kept.search(word, is_kind("otter"), Unit::Document).await?;
        ensure!(hits.len() == usize::from(word == "otter"), "{word}: {hits:?}");
        ensure!(kept.search(word, is_kind("heron"), Unit::Document).await?.is_empty());
        for hit in hits {
            ensure!(hit.text.as_deref() == Some("otter") && hit.document.id == second.id);
            ensure!(hit.document.metadata == kind("otter"));
        }
    }
    let kept = kept.reopened().await?;
    ensure!(kept.found("otter").await? == ["d"], "the old version survives a restart");
    kept.work().await?;
    ensure!(kept.found("otter").await?.is_empty() && kept.found("heron").await? == ["d"]);

    let update = Update::Metadata(kind("new"));
    kept.store.update_document(&name("c"), &at("d"), update.clone()).await?;
    let waiting = kept.store.update_document(&name("c"), &at("d"), update).await;
    ensure!(matches!(waiting, Err(Error::WrongStatus { status: "not_indexed", .. })));
    ensure!(kept.search("heron", is_kind("heron"), Unit::Document).await?.len() == 1);
    kept.work().await?;
    let hits = kept.search("heron", is_kind("new"), Unit::Document).await?;
    ensure!(hits.len() == 1 && hits[0].document.id == second.id, "the id stays: {hits:?}");
    let (third, _) = kept.store.document(&name("c"), &at("d"), false).await?;
    ensure!(third.created_at == second.created_at && third.metadata == kind("new"));
    Ok(())
}

/// A deleted document would still be found, or a deletion in the middle of indexing bring it back.
#[tokio::test]
async fn deleted_documents_are_gone_at_once() -> Result<()> {
    let kept = Kept::new().await?;
    for path in ["a", "b", "d"] {
        kept.add(path, "otter").await?;
    }
    kept.work().await?;
    let paths = ["b", "none", "a", "b"].map(at);
    let deleted = kept.store.delete_documents(&name("c"), &paths).await?;
    ensure!(deleted == ["b", "a"].map(at));
    ensure!(kept.found("otter").await? == ["d"]);

    // Replaced, deleted and deleted with its collection while a worker has it.
    for path in ["replaced", "deleted", "kept"] {
        kept.add(path, "heron").await?;
    }
    let claimed = kept.store.claim(Step::Index, 1 << 20).await?;
    ensure!(claimed.len() == 3, "{claimed:?}");
    kept.add("replaced", "badger").await?;
    kept.store.delete_documents(&name("c"), &[at("deleted")]).await?;
    let done = claimed.into_iter().map(|claimed| {
        let text = DocumentText::plain("heron".to_owned());
        let passages = reranker::collection::passages::split(&text);
        (claimed, Some(passages))
    });
    kept.store.indexed(done.collect()).await?;
    ensure!(kept.found("heron").await? == ["kept"]);
    kept.work().await?;
    ensure!(kept.found("badger").await? == ["replaced"]);
    kept.add("last", "heron").await?;
    let claimed = kept.store.claim(Step::Index, 1 << 20).await?;
    kept.store.delete_collection(&name("c")).await?;
    kept.store.add_collection(&name("c"), 1).await?;
    let passages =
        Some(reranker::collection::passages::split(&DocumentText::plain("heron".into())));
    kept.store
        .indexed(claimed.into_iter().map(|claimed| (claimed, passages.clone())).collect())
        .await?;
    ensure!(kept.found("heron").await?.is_empty());
    ensure!(kept.store.statistics(None).await? == Statistics::default());
    Ok(())
}

/// Results would come in another order each time, and a limit would cut off the wrong ones.
#[tokio::test]
async fn equal_hits_are_in_the_order_of_paths() -> Result<()> {
    let kept = Kept::new().await?;
    for number in (0..300).rev() {
        kept.add(&format!("{number:03}"), "otter heron").await?;
    }
    kept.add("best", "otter").await?;
    kept.work().await?;
    let (query, filter) = ("otter".to_owned(), Filter::ALL);
    let search = Search { query, filter, unit: Unit::Document, limit: 4, with_text: false };
    let hits = kept.store.search(&name("c"), search).await?;
    let paths: Vec<&str> = hits.iter().map(|hit| hit.document.path.as_str()).collect();
    ensure!(paths == ["best", "000", "001", "002"], "{paths:?}");
    ensure!(hits.iter().all(|hit| hit.text.is_none()));
    ensure!(kept.search("nothing", Filter::ALL, Unit::Page).await?.is_empty());
    ensure!(kept.search(" \u{3000}…", Filter::ALL, Unit::Page).await?.is_empty());
    Ok(())
}

/// A snippet would show other text than it claims, or a page be given twice.
#[tokio::test]
async fn hits_are_passages_pages_and_documents() -> Result<()> {
    let kept = Kept::new().await?;
    let filler = "Lorem ipsum dolor sit amet. ".repeat(100);
    let pages = [format!("otter first. {filler}otter last."), "Ein Bär: otter.".to_owned()];
    let text = DocumentText::paged(&pages, true);
    let content = Content::Text(text.clone());
    let paged = NewDocument { path: at("p"), content, metadata: Metadata::EMPTY };
    kept.store.add_document(&name("c"), paged, false).await?;
    kept.work().await?;
    for granularity in [Granularity::Coarse, Granularity::Fine] {
        let hits = kept.search("otter", Filter::ALL, Unit::Passage(granularity)).await?;
        ensure!(hits.len() >= 2, "{hits:?}");
        for hit in hits {
            let range = hit.passage.bytes.start as usize..hit.passage.bytes.end as usize;
            ensure!(hit.text.as_deref() == Some(&text.text[range]) && hit.score > 0.0);
            let chars = hit.passage.chars.start as usize..hit.passage.chars.end as usize;
            let slice: String = text.text.chars().skip(chars.start).take(chars.len()).collect();
            ensure!(hit.text == Some(slice));
        }
    }
    let hits = kept.search("otter", Filter::ALL, Unit::Page).await?;
    let mut found: Vec<_> =
        hits.iter().map(|hit| (hit.passage.pages.start, hit.text.clone())).collect();
    found.sort();
    let expected = [(0, Some(pages[0].clone())), (1, Some(pages[1].clone()))];
    ensure!(found == expected, "{found:?}");
    ensure!(kept.found("otter").await? == ["p"]);
    Ok(())
}

/// Filter-only queries and the rest behind the hits would miss documents or show what is not indexed.
#[tokio::test]
async fn matching_documents_come_by_path() -> Result<()> {
    let kept = Kept::new().await?;
    for (path, text) in [("d", "x"), ("a", "x"), ("b", "y"), ("e", "x")] {
        kept.add(path, text).await?;
    }
    kept.work().await?;
    kept.add("aa", "x").await?;
    let matching = async |after: Option<&str>, limit| -> Result<Vec<(String, Option<String>)>> {
        let after = after.map(at);
        let filter = is_kind("x");
        let found = kept.store.matching(&name("c"), &filter, after.as_ref(), limit, true).await?;
        Ok(found
            .into_iter()
            .map(|(found, text)| (found.path.to_string(), text.map(|text| text.text)))
            .collect())
    };
    let x = || Some("x".to_owned());
    ensure!(matching(None, 2).await? == [("a".to_owned(), x()), ("d".to_owned(), x())]);
    ensure!(matching(Some("d"), 2).await? == [("e".to_owned(), x())]);
    let counts = kept.store.statistics(Some(&name("c"))).await?;
    let expected =
        Statistics { indexing: 1, indexed: 4, indexed_bytes: 4, ..Statistics::default() };
    ensure!(counts == expected, "{counts:?}");
    Ok(())
}

/// What a process had begun when it ended would wait for ever.
#[tokio::test]
async fn a_restart_goes_on_where_the_last_process_stopped() -> Result<()> {
    let kept = Kept::new().await?;
    kept.add("text", "otter").await?;
    let content = Content::Auto(b"heron".to_vec());
    let auto = NewDocument { path: at("a.txt"), content, metadata: Metadata::EMPTY };
    kept.store.add_document(&name("c"), auto, false).await?;
    for step in [Step::Parse, Step::Index] {
        ensure!(kept.store.claim(step, 0).await?.len() == 1);
        ensure!(kept.store.claim(step, 0).await?.is_empty(), "nobody takes it a second time");
    }
    let kept = kept.reopened().await?;
    kept.work().await?;
    ensure!(kept.found("otter").await? == ["text"] && kept.found("heron").await? == ["a.txt"]);
    Ok(())
}

/// Two servers on one folder would each overwrite what the other knows.
#[tokio::test]
async fn a_folder_belongs_to_one_process() -> Result<()> {
    let kept = Kept::new().await?;
    let second =
        Embedded::open(kept.folder.path(), Language::default()).err().context("refused")?;
    ensure!(second.to_string().contains("another process has the folder open"), "{second}");
    kept.reopened().await.map(drop)
}

/// A lost or damaged search index would hide documents until somebody adds them again.
#[tokio::test]
async fn a_lost_index_is_made_anew() -> Result<()> {
    let mut kept = Kept::new().await?;
    for number in 0..20 {
        kept.add(&format!("{number}"), "otter").await?;
    }
    kept.add("blank", " ").await?;
    kept.work().await?;
    let damages: [fn(&Path) -> std::io::Result<()>; 3] = [
        |index| std::fs::remove_dir_all(index),
        |index| std::fs::remove_dir_all(index.join("1/fine")),
        |index| std::fs::write(index.join("1/coarse/meta.json"), "[]"),
    ];
    for damage in damages {
        kept.store.close().await;
        drop(kept.store);
        damage(&kept.folder.path().join("index"))?;
        kept.store = open(kept.folder.path())?;
        ensure!(kept.found("otter").await?.len() == 20);
    }
    Ok(())
}

/// A user could not send a document again that failed, or would lose one that is in use.
#[tokio::test]
async fn failed_documents_go_back_to_the_step_that_failed() -> Result<()> {
    let kept = Kept::new().await?;
    let store = &kept.store;
    let content = Content::Auto(b"otter".to_vec());
    let auto = NewDocument { path: at("a.txt"), content, metadata: kind("old") };
    store.add_document(&name("c"), auto, false).await?;
    let status = async || -> Result<DocumentStatus> {
        Ok(store.document(&name("c"), &at("a.txt"), false).await?.0.status)
    };
    let update = async |update| store.update_document(&name("c"), &at("a.txt"), update).await;
    let refused = async |expected: &[Update]| -> Result<()> {
        let now = status().await?.word();
        for change in expected {
            let error = update(change.clone()).await;
            ensure!(
                matches!(error, Err(Error::WrongStatus { status, .. }) if status == now),
                "{change:?} at {now}: {error:?}"
            );
        }
        Ok(())
    };
    let metadata = Update::Metadata(kind("new"));
    let all = [metadata.clone(), Update::Parse, Update::Index];

    refused(&all).await?;
    let claimed = store.claim(Step::Parse, 0).await?;
    refused(&all).await?;
    store.parsed(claimed[0].version, None).await?;
    ensure!(status().await? == DocumentStatus::ParsingFailed);
    refused(&[metadata.clone(), Update::Index]).await?;
    update(Update::Parse).await?;
    let again = store.claim(Step::Parse, 0).await?;
    let ClaimedWork::Parse(bytes) = &again[0].work else { bail!("not to parse: {again:?}") };
    ensure!(bytes == b"otter" && again[0].path == at("a.txt"));
    store.parsed(again[0].version, Some(DocumentText::plain("otter".to_owned()))).await?;

    refused(&all).await?;
    let claimed = store.claim(Step::Index, 1 << 20).await?;
    store.indexed(claimed.into_iter().map(|claimed| (claimed, None)).collect()).await?;
    ensure!(status().await? == DocumentStatus::IndexingFailed);
    ensure!(store.statistics(None).await? == Statistics { failed: 1, ..Statistics::default() });
    ensure!(kept.found("otter").await?.is_empty());
    refused(&[metadata.clone(), Update::Parse]).await?;
    update(Update::Index).await?;
    kept.work().await?;
    ensure!(kept.found("otter").await? == ["a.txt"]);
    refused(&[Update::Parse, Update::Index]).await?;

    // New metadata that cannot be indexed leaves what was found before.
    update(metadata).await?;
    let claimed = store.claim(Step::Index, 1 << 20).await?;
    store.indexed(claimed.into_iter().map(|claimed| (claimed, None)).collect()).await?;
    ensure!(kept.search("otter", is_kind("old"), Unit::Document).await?.len() == 1);
    let (document, text) = store.document(&name("c"), &at("a.txt"), true).await?;
    ensure!(document.metadata == kind("new") && text.as_deref() == Some("otter"));
    update(Update::Index).await?;
    kept.work().await?;
    ensure!(kept.search("otter", is_kind("new"), Unit::Document).await?.len() == 1);
    let missing = store.update_document(&name("c"), &at("none"), Update::Parse).await;
    ensure!(matches!(missing, Err(Error::DocumentNotFound { .. })));
    Ok(())
}

/// A misspelt collection would look like an empty one.
#[tokio::test]
async fn no_call_takes_an_unknown_collection_for_an_empty_one() -> Result<()> {
    let kept = Kept::new().await?;
    let (store, unknown, path) = (&kept.store, name("unknown"), at("p"));
    let search = Search {
        query: "otter".to_owned(),
        filter: Filter::ALL,
        unit: Unit::Document,
        limit: 1,
        with_text: false,
    };
    let answers = [
        store.delete_collection(&unknown).await.err(),
        store.add_document(&unknown, document("p", "otter"), true).await.err(),
        store.update_document(&unknown, &path, Update::Parse).await.err(),
        store.delete_documents(&unknown, std::slice::from_ref(&path)).await.err(),
        store.document(&unknown, &path, false).await.err(),
        store.documents(&unknown, "", None, 1).await.err(),
        store.page(&unknown, &path, 0, false).await.err(),
        store.statistics(Some(&unknown)).await.err(),
        store.search(&unknown, search).await.err(),
        store.matching(&unknown, &Filter::ALL, None, 1, false).await.err(),
    ];
    for (call, answer) in answers.iter().enumerate() {
        let is_named =
            matches!(answer, Some(Error::CollectionNotFound { name }) if name == "unknown");
        ensure!(is_named, "call {call}: {answer:?}");
    }
    Ok(())
}

/// With many clients, one would overwrite what another added, or be told of a document that is not there.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_add_one_path_one_wins() -> Result<()> {
    let kept = Kept::new().await?;
    let adds = (0..16).map(|number| {
        let store = Arc::clone(&kept.store);
        tokio::spawn(async move {
            store.add_document(&name("c"), document("p", &format!("{number}")), false).await
        })
    });
    let mut created = 0;
    for add in adds.collect::<Vec<_>>() {
        match add.await? {
            Ok(Added::Created) => created += 1,
            Err(Error::DocumentExists { .. }) => {}
            other => bail!("{other:?}"),
        }
    }
    ensure!(created == 1, "{created} were created");
    // Callers that go away in the middle leave what they asked for or nothing.
    for number in 0..16 {
        let path = format!("gone{number}");
        let collection = name("c");
        let add = kept.store.add_document(&collection, document(&path, "otter"), false);
        tokio::select! { biased; _ = add => {} () = std::future::ready(()) => {} }
    }
    kept.add("last", "otter").await?;
    until("all that was added is found", async || {
        kept.work().await.expect("the store works");
        let counts = kept.store.statistics(None).await.unwrap_or_default();
        let found = kept.found("otter").await.unwrap_or_default();
        counts.indexed == counts.documents() && found.len() as u64 == counts.indexed - 1
    })
    .await;
    Ok(())
}
