use super::*;
use rusqlite::OpenFlags;
use std::sync::mpsc::channel;
use tempfile::TempDir;

struct Fixture {
    writer: Writer,
    folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open(folder.path().join("store.sqlite")).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch("CREATE TABLE words (word TEXT)").unwrap();
        let writer = Writer::start(connection, folder.path()).unwrap();
        Self { writer, folder }
    }

    /// What another connection sees.
    fn words(&self) -> Vec<String> {
        let connection = Connection::open(self.folder.path().join("store.sqlite")).unwrap();
        let mut statement = connection.prepare("SELECT word FROM words ORDER BY rowid").unwrap();
        let words = statement.query_map([], |row| row.get(0)).unwrap();
        words.collect::<Result<_, _>>().unwrap()
    }
}

fn insert(word: &str) -> impl FnOnce(&Connection) -> Result<(), Error> + Send + 'static {
    let word = word.to_owned();
    move |connection| {
        connection.execute("INSERT INTO words VALUES (?1)", [word])?;
        Ok(())
    }
}

/// Many clients that add documents at once would wait for the disk one after the other; one bad write among
/// theirs would take the others with it, or end the thread for all that come later.
#[test]
fn what_piled_up_is_one_commit_and_each_fails_alone() {
    let fixture = Fixture::new();
    let (go, wait) = channel::<()>();
    let mut answers = vec![
        fixture
            .writer
            .send(move |_| {
                wait.recv().unwrap();
                Ok(())
            })
            .unwrap(),
    ];
    for number in 0..8 {
        answers.push(fixture.writer.send(insert(&number.to_string())).unwrap());
    }
    let refused = fixture.writer.send(|connection| {
        insert("refused")(connection)?;
        Err::<(), _>(Error::CollectionsOff)
    });
    let panicked = fixture.writer.send(|connection| -> Result<(), Error> {
        insert("panicked")(connection)?;
        panic!("boom")
    });
    // A caller that is gone by the time of its answer.
    drop(fixture.writer.send(insert("dropped")).unwrap());
    let (seen, look) = channel();
    let file = fixture.folder.path().join("store.sqlite");
    let last = fixture.writer.send(move |connection| {
        let count = |connection: &Connection| {
            connection.query_row("SELECT count(*) FROM words", [], |row| row.get::<_, i64>(0))
        };
        seen.send((count(connection)?, count(&Connection::open(file)?)?)).unwrap();
        Ok(())
    });
    answers.push(last.unwrap());
    go.send(()).unwrap();

    assert_eq!(look.recv().unwrap(), (9, 0), "inside the transaction, and outside");
    for answer in answers {
        answer.blocking_recv().unwrap().unwrap();
    }
    assert!(matches!(refused.unwrap().blocking_recv().unwrap(), Err(Error::CollectionsOff)));
    let Err(Error::Internal { cause }) = panicked.unwrap().blocking_recv().unwrap() else {
        panic!("the panic is not an error")
    };
    assert_eq!(cause, "panicked: boom");
    assert_eq!(fixture.words(), ["0", "1", "2", "3", "4", "5", "6", "7", "dropped"]);
}

/// A client would be told that its document is kept when it is not, or the server need a restart after
/// somebody made room.
#[test]
fn a_disk_without_room_refuses_until_there_is_room_again() {
    let fixture = Fixture::new();
    let most = |pages: i64| {
        let set = move |connection: &Connection| {
            Ok(connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?)
        };
        fixture.writer.write(set).unwrap();
    };
    fixture.writer.write(insert("before")).unwrap();
    most(2);
    let refused = fixture.writer.write(insert(&"x".repeat(1 << 20)));
    assert!(matches!(refused, Err(Error::StorageFull { reason: "full" })), "{refused:?}");
    most(1 << 30);
    fixture.writer.write(insert("after")).unwrap();
    assert_eq!(fixture.words(), ["before", "after"]);

    let file = fixture.folder.path().join("store.sqlite");
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let writer = Writer::start(connection, fixture.folder.path()).unwrap();
    let refused = writer.write(insert("refused"));
    assert!(matches!(refused, Err(Error::StorageFull { reason: "read-only" })), "{refused:?}");
}
