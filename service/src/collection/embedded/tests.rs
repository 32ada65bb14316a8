use super::maintenance::{backup, check, rebuild};
use super::*;
use crate::collection::ingest::{Ingest, IngestOptions};
use crate::collection::{DocumentStatus, Metadata, Unit};
use crate::parse::ParseLimits;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a test waits for what must happen: generous, because machines are loaded.
const LIMIT: Duration = Duration::from_mins(2);

fn name() -> CollectionName {
    CollectionName::new("c".to_owned()).unwrap()
}

fn at(path: &str) -> DocumentPath {
    DocumentPath::new(path.to_owned()).unwrap()
}

/// An empty collection, with nobody at work on it.
async fn opened(folder: &Path) -> Arc<Embedded> {
    let store = open(folder);
    store.add_collection(&name(), 1).await.unwrap();
    store
}

fn open(folder: &Path) -> Arc<Embedded> {
    Arc::new(Embedded::open(folder, Language::default()).unwrap())
}

async fn add(store: &Embedded, path: &str, text: &str) -> Result<Added, Error> {
    let content = Content::Text(DocumentText::plain(text.to_owned()));
    let document = NewDocument { path: at(path), content, metadata: Metadata::EMPTY };
    store.add_document(&name(), document, true).await
}

fn ingest(store: &Arc<Embedded>) -> Ingest {
    let store: Arc<dyn Store> = Arc::clone(store) as _;
    Ingest::start(&store, IngestOptions { workers: 2, limits: ParseLimits::default() })
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < LIMIT, "waited {} s for: {what}", LIMIT.as_secs());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Does all that waits.
async fn work(store: &Arc<Embedded>) {
    let ingest = ingest(store);
    until("nothing waits", async || {
        let counts = store.statistics(None).await.unwrap();
        counts.parsing + counts.indexing == 0
    })
    .await;
    ingest.close().await;
}

async fn found(store: &Embedded, word: &str) -> Vec<String> {
    let (query, filter) = (word.to_owned(), Filter::ALL);
    let search = Search { query, filter, unit: Unit::Document, limit: 2000, with_text: true };
    let hits = store.search(&name(), search).await.unwrap();
    hits.iter().map(|hit| hit.document.path.to_string()).collect()
}

async fn status(store: &Embedded, path: &str) -> DocumentStatus {
    store.document(&name(), &at(path), false).await.unwrap().0.status
}

/// Changes the database behind the program's back.
fn tamper(folder: &Path, sql: &str) {
    Connection::open(folder.join(DATABASE)).unwrap().execute_batch(sql).unwrap();
}

fn problems(folder: &Path) -> Vec<String> {
    check(folder).unwrap().iter().map(ToString::to_string).collect()
}

/// A document that is overwritten all the time would be missing from results now and then, or be there twice.
#[tokio::test(flavor = "multi_thread")]
async fn searches_see_one_version_whatever_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path()).await;
    let ingest = ingest(&store);
    add(&store, "d", "otter 0").await.unwrap();
    until("found", async || !found(&store, "otter").await.is_empty()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let searches: Vec<_> = (0..3)
        .map(|_| {
            let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut searches = 0;
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(found(&store, "otter").await, ["d"]);
                    searches += 1;
                }
                searches
            })
        })
        .collect();
    for number in 1..40 {
        add(&store, "d", &format!("otter {number}")).await.unwrap();
        until("indexed", async || status(&store, "d").await == DocumentStatus::Indexed).await;
    }
    stop.store(true, Ordering::Relaxed);
    for searches in searches {
        assert!(searches.await.unwrap() > 0);
    }
    ingest.close().await;
    store.close().await;
    assert_eq!(problems(folder.path()), [""; 0]);
}

/// A server with hundreds of collections would hold threads and memory for each that was ever written to.
#[tokio::test(flavor = "multi_thread")]
async fn few_collections_are_ready_to_be_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path()).await;
    for number in 0..12 {
        let collection = CollectionName::new(format!("{number}")).unwrap();
        store.add_collection(&collection, 1).await.unwrap();
        let content = Content::Text(DocumentText::plain("otter".to_owned()));
        let document = NewDocument { path: at("d"), content, metadata: Metadata::EMPTY };
        store.add_document(&collection, document, false).await.unwrap();
    }
    work(&store).await;
    let writable = store.inner.indexes.writable();
    assert!((1..=4).contains(&writable), "{writable}");
    assert_eq!(store.statistics(None).await.unwrap().indexed, 12);
    store.close().await;
    assert_eq!(store.inner.indexes.writable(), 0);
}

/// A server with thousands of collections would hold more files mapped than Linux allows, or lose what is in
/// those that it has closed.
#[tokio::test(flavor = "multi_thread")]
async fn few_collections_are_open() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path()).await;
    add(&store, "first", "otter").await.unwrap();
    work(&store).await;
    store.inner.indexes.release();
    let all = |collection: &CollectionName| {
        let (query, filter, unit) = ("otter".to_owned(), Filter::ALL, Unit::Document);
        let search = Search { query, filter, unit, limit: 10, with_text: false };
        let (store, collection) = (Arc::clone(&store), collection.clone());
        async move { store.search(&collection, search).await.unwrap().len() }
    };
    for number in 0..indexes::OPEN + 10 {
        let collection = CollectionName::new(format!("{number}")).unwrap();
        store.add_collection(&collection, 1).await.unwrap();
        assert_eq!(all(&collection).await, 0);
    }
    assert_eq!(store.inner.indexes.open(), indexes::OPEN);
    assert_eq!(found(&store, "otter").await, ["first"]);
    for number in 0..indexes::OPEN {
        all(&CollectionName::new(format!("{number}")).unwrap()).await;
    }
    add(&store, "second", "otter").await.unwrap();
    work(&store).await;
    assert_eq!(found(&store, "otter").await, ["first", "second"]);
    store.close().await;
    drop(store);
    let store = open(folder.path());
    assert!(store.inner.indexes.open() <= indexes::OPEN);
    assert_eq!(found(&store, "otter").await, ["first", "second"]);
}

/// A bad block on a disk would end the process, or searches of a collection for good.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_turns_out_to_be_damaged_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path()).await;
    for number in 0..300 {
        add(&store, &format!("{number:03}"), "otter otter heron").await.unwrap();
    }
    work(&store).await;
    damage(folder.path());
    assert_eq!(found(&store, "otter").await.len(), 300);
    // Replacing a document reads what is in the index.
    add(&store, "000", "otter").await.unwrap();
    work(&store).await;
    damage(folder.path());
    add(&store, "000", "heron").await.unwrap();
    work(&store).await;
    assert_eq!(found(&store, "otter").await.len(), 299);
    assert_eq!(store.statistics(None).await.unwrap().failed, 0);
    store.close().await;
    assert_eq!(problems(folder.path()), [""; 0]);
}

/// Writes over the words of all search indexes, but not over how long the files are.
fn damage(folder: &Path) {
    for collection in fs::read_dir(folder.join(INDEXES)).unwrap().flatten() {
        for part in ["coarse", "fine"] {
            for entry in fs::read_dir(collection.path().join(part)).unwrap().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "idx") {
                    let file = fs::File::options().write(true).open(entry.path()).unwrap();
                    let length = entry.metadata().unwrap().len().saturating_sub(250) as usize;
                    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0xff; length], 0)
                        .unwrap();
                }
            }
        }
    }
}

/// One damaged document would hold up all that are added after it, at every start again.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_cannot_be_read_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path()).await;
    for path in ["a", "b", "d"] {
        add(&store, path, "otter").await.unwrap();
    }
    tamper(
        folder.path(),
        "UPDATE texts SET bytes = x'ff' WHERE content = (SELECT v.content FROM documents d \
         JOIN versions v ON v.id = d.current WHERE d.path = 'b')",
    );
    work(&store).await;
    assert_eq!(found(&store, "otter").await, ["a", "d"]);
    assert_eq!(status(&store, "b").await, DocumentStatus::IndexingFailed);
}

/// Data of a later program would be written to in a shape that it does not have; a damaged database would
/// fail later, one request at a time.
#[tokio::test]
async fn a_database_that_is_not_ours_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    opened(folder.path()).await.close().await;
    tamper(folder.path(), "PRAGMA user_version = 99");
    let refused = |folder: &Path| Embedded::open(folder, Language::default()).unwrap_err();
    let later = refused(folder.path()).to_string();
    assert!(later.contains("the data is of version 99, from a later program"), "{later}");

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(DATABASE), "no database ".repeat(1000)).unwrap();
    let damaged = refused(folder.path()).to_string();
    assert!(damaged.contains("store.sqlite: file is not a database"), "{damaged}");
}

/// A backup of a server in use would be a mix of moments, or lack what a restore needs.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_one_moment_and_opens_as_it_was() {
    let (folder, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = opened(folder.path()).await;
    for number in 0..50 {
        add(&store, &format!("{number:02}"), "otter").await.unwrap();
    }
    work(&store).await;
    fs::write(folder.path().join("url-secret"), [7; 32]).unwrap();
    let writing = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for number in 50..100 {
                add(&store, &format!("{number:02}"), "heron").await.unwrap();
            }
        })
    };
    let target = to.path().join("new/copy");
    backup(folder.path(), &target).unwrap();
    writing.await.unwrap();
    assert_eq!(problems(folder.path()), [""; 0], "beside the open store");
    let again = backup(folder.path(), &target).unwrap_err();
    assert!(again.to_string().contains("is there already"), "{again}");

    // As a process that is killed leaves it.
    let killed = copied(folder.path());
    assert_eq!(problems(killed.path()), [""; 0]);
    fs::remove_file(killed.path().join("store.sqlite-shm")).unwrap();
    assert_eq!(problems(killed.path()), [""; 0]);
    backup(killed.path(), &to.path().join("of the killed")).unwrap();
    assert_eq!(open(killed.path()).statistics(None).await.unwrap().documents(), 100);

    assert_eq!(problems(&target), [""; 0]);
    assert_eq!(fs::read(target.join("url-secret")).unwrap(), [7; 32]);
    let copy = open(&target);
    assert_eq!(found(&copy, "otter").await.len(), 50);
    let counts = copy.statistics(None).await.unwrap();
    let herons = copy.documents(&name(), "", Some("49"), 100).await.unwrap();
    assert_eq!(counts.indexing as usize, herons.len());
    work(&copy).await;
    assert_eq!(found(&copy, "heron").await.len(), herons.len());
}

/// An operator would trust a folder that is damaged, or not be able to mend it.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_names_what_is_wrong() {
    let source = tempfile::tempdir().unwrap();
    let store = opened(source.path()).await;
    for path in ["a", "b"] {
        add(&store, path, "otter").await.unwrap();
    }
    work(&store).await;
    add(&store, "b", "heron").await.unwrap();
    store.close().await;
    drop(store);
    assert_eq!(problems(source.path()), [""; 0]);

    let damages: &[(&str, &str)] = &[
        (
            "DELETE FROM versions WHERE id = 1",
            "1 documents whose newest version is missing, the first `a`",
        ),
        ("UPDATE documents SET status = 6", "1 documents that are `indexed` by another version"),
        ("UPDATE documents SET status = 9 WHERE path = 'b'", "1 documents of no known status"),
        ("UPDATE documents SET text_bytes = 1", "2 documents that are parsed and have no text"),
        ("UPDATE contents SET is_auto = 1 WHERE id = 2", "1 files without their bytes"),
        ("INSERT INTO contents (is_auto, size) VALUES (0, 1)", "1 contents that no version has"),
        ("UPDATE versions SET metadata = '[]' WHERE id = 1", "document `a` has metadata that"),
        (
            "UPDATE contents SET page_kind = 1, page_ends = x'09000000'",
            "document `a` has pages beyond",
        ),
        ("UPDATE texts SET bytes = x'ffffffffff'", "document `a`: a text is not UTF-8"),
        (
            "INSERT INTO garbage VALUES (1, 1)",
            "1 versions that are garbage and indexed, the first `1`",
        ),
        (
            "PRAGMA foreign_keys = 0; UPDATE versions SET document = 77 WHERE id = 1",
            "database: a row of `versions` refers to one that is missing",
        ),
    ];
    for (sql, expected) in damages {
        let folder = copied(source.path());
        tamper(folder.path(), &format!("PRAGMA foreign_keys = 0; {sql}"));
        let problems = problems(folder.path());
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{sql}: {problems:?}");
    }

    // What only the index tells.
    let folder = copied(source.path());
    tamper(
        folder.path(),
        "UPDATE versions SET id = 91 WHERE id = 1; UPDATE documents SET current = 91, indexed = 91 WHERE path = 'a'",
    );
    let index = problems(folder.path());
    assert!(
        index.iter().any(|problem| problem.ends_with("1 of 2 indexed documents are missing")),
        "{index:?}"
    );
    assert!(
        index.iter().any(|problem| problem.ends_with("1 versions are in no document")),
        "{index:?}"
    );
    rebuild(folder.path(), Language::default()).unwrap();
    assert_eq!(problems(folder.path()), [""; 0]);

    let folder = copied(source.path());
    let file = fs::File::options().write(true).open(folder.path().join(DATABASE)).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0x5a; 2048], 3 * 4096).unwrap();
    assert!(!problems(folder.path()).is_empty());
    assert!(check(&folder.path().join("none")).is_err());
}

fn copied(folder: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-a").arg(folder.join(".")).arg(to.path()).status();
    assert!(copied.unwrap().success());
    to
}

/// A disk of its own that is small; none where this user may not mount one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(folder.path());
        let is_mounted = mount.output().is_ok_and(|mounted| mounted.status.success());
        is_mounted.then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// A full disk would lose what was acknowledged, mark documents as failed for good, stop searches, or need a
/// restart once there is room again.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_nothing_else() {
    let Some(disk) = SmallDisk::new(48 << 20) else {
        eprintln!("skipped: this user may not mount a small disk");
        return;
    };
    let folder = disk.0.path();
    let store = opened(folder).await;
    add(&store, "first", "otter").await.unwrap();
    work(&store).await;
    // Room that comes back when somebody removes the file.
    let ballast = folder.join("ballast");
    fs::write(&ballast, vec![1; 24 << 20]).unwrap();
    let words: Vec<String> = (0..40_000).map(|number| format!("heron{number}")).collect();
    let text = words.join(" ");
    let mut acknowledged = Vec::new();
    let refused = loop {
        let path = format!("{:03}", acknowledged.len());
        match add(&store, &path, &text).await {
            Ok(_) => acknowledged.push(path),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::StorageFull { reason: "full" }), "{refused:?}");

    let ingest = ingest(&store);
    // The index finds no room either; long enough for several attempts.
    let waited = Instant::now();
    until("indexing was tried", async || {
        let counts = store.statistics(None).await.unwrap();
        assert_eq!(counts.failed, 0, "{counts:?}");
        assert_eq!(found(&store, "otter").await, ["first"]);
        counts.indexing == 0 || waited.elapsed() > Duration::from_secs(3)
    })
    .await;
    let _ = add(&store, "full", &text).await;

    fs::remove_file(ballast).unwrap();
    add(&store, "after", "otter").await.unwrap();
    until("all are indexed", async || {
        let counts = store.statistics(None).await.unwrap();
        assert_eq!(counts.failed, 0, "{counts:?}");
        counts.indexing == 0
    })
    .await;
    ingest.close().await;
    assert_eq!(found(&store, "otter").await, ["after", "first"]);
    let herons = found(&store, "heron0").await;
    assert!(acknowledged.iter().all(|path| herons.contains(path)), "{acknowledged:?} {herons:?}");
    store.close().await;
    assert_eq!(problems(folder), [""; 0]);
}

/// Nobody would be woken while documents pile up unfound, or for ever because of one that failed long ago.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_begins_with_a_version_and_ends_with_its_index() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path()).await;
    let since = async || store.waiting_since().await.unwrap();
    let later = async |than: Timestamp| {
        until("the clock went on", async || {
            Timestamp::now().as_millisecond() > than.as_millisecond()
        })
        .await;
    };
    assert_eq!(since().await, None);
    add(&store, "a", "otter").await.unwrap();
    let first = since().await.unwrap();
    later(first).await;
    add(&store, "b", "otter").await.unwrap();
    assert_eq!(since().await, Some(first));
    add(&store, "a", "otter").await.unwrap();
    let second = since().await.unwrap();
    assert!(second > first);
    work(&store).await;
    assert_eq!(since().await, None);

    later(second).await;
    let update = Update::Metadata(Metadata::EMPTY);
    store.update_document(&name(), &at("a"), update).await.unwrap();
    let third = since().await.unwrap();
    assert!(third > second);
    store.claim(Step::Index, 0).await.unwrap();
    assert_eq!(since().await, Some(third));
    store.delete_collection(&name()).await.unwrap();
    assert_eq!(since().await, None);

    store.add_collection(&name(), 1).await.unwrap();
    let content = Content::Auto(vec![0, 255]);
    let document = NewDocument { path: at("c"), content, metadata: Metadata::EMPTY };
    store.add_document(&name(), document, false).await.unwrap();
    let fourth = since().await.unwrap();
    work(&store).await;
    assert_eq!(since().await, None);
    later(fourth).await;
    store.update_document(&name(), &at("c"), Update::Parse).await.unwrap();
    assert!(since().await.unwrap() > fourth);
}
