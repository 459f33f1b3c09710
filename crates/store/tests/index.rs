//! The index follows the journals, finds sessions, and can be deleted at any time.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use stockade_event::{Counts, Durability, Event, SessionOutcome, Stamp};
use stockade_journal::{
    Journal, Packed, SigningKey,
    layout::{INDEX_FILE, JOURNAL_FILE, KEY_FILE, PACKED_FILE, session_dir},
    pack,
};
use stockade_store::{SessionRow, Store, StoreError};
use stockade_types::{AskMode, Digest, SessionId, Subject, Tier, WorkspaceMode};

fn id(text: &str) -> SessionId {
    text.parse().unwrap()
}

fn stamp(second: u64) -> Stamp {
    Stamp {
        time_unix_ns: 1_700_000_000_000_000_000 + second * 1_000_000_000,
        mono_ns: second,
    }
}

fn append(journal: &mut Journal, second: u64, event: &Event) {
    journal
        .append(
            stamp(second),
            "supervisor",
            None,
            None,
            event,
            Durability::Written,
        )
        .unwrap();
}

/// Starts a session that begins at `second`.
fn start(state: &Path, session: &str, second: u64) -> Journal {
    start_as(state, session, second, &format!("run-{session}"))
}

/// The same with another name.
fn start_as(state: &Path, session: &str, second: u64, name: &str) -> Journal {
    let dir = session_dir(state, &id(session));
    fs::create_dir_all(&dir).unwrap();
    let key = SigningKey::load_or_create(&state.join(KEY_FILE)).unwrap();
    let mut journal = Journal::create(&dir, id(session), key).unwrap();
    append(
        &mut journal,
        second,
        &Event::SessionStarted {
            name: Some(name.to_owned()),
            command: vec!["codex".into(), "exec".into()],
            workspace: "/w".into(),
            mode: WorkspaceMode::Direct,
            tier: Tier::Native,
            preset: "codex".to_owned(),
            ask: AskMode::Deny,
            uid: 1000,
            version: "0.1.0".to_owned(),
            policy_revision: Digest::of(b"p"),
        },
    );
    journal
}

fn process(journal: &mut Journal, second: u64) {
    let process = Subject::default();
    append(
        journal,
        second,
        &Event::ProcessStarted {
            process,
            digest: None,
            interpreter: None,
        },
    );
}

fn end(mut journal: Journal, second: u64) {
    append(
        &mut journal,
        second,
        &Event::SessionEnded {
            outcome: SessionOutcome::Exited { code: 7 },
            duration_ms: 1000,
            counts: Counts::default(),
            own_usage: None,
        },
    );
    journal.finish(stamp(second)).unwrap();
}

fn rows(store: &mut Store) -> Vec<SessionRow> {
    store.ingest_all(&mut |_, _| {}).unwrap();
    store.sessions().unwrap()
}

#[test]
fn rows_follow_the_journal_piece_by_piece() {
    let state = tempfile::tempdir().unwrap();
    let mut store = Store::open(state.path()).unwrap();
    assert_eq!(rows(&mut store), []);
    let mut journal = start(state.path(), "3f2a000000000001", 10);
    process(&mut journal, 11);
    store.ingest(&id("3f2a000000000001")).unwrap();
    let row = store.sessions().unwrap().pop().unwrap();
    assert_eq!((row.events, row.processes, row.outcome), (2, 1, None));
    assert_eq!(row.started_unix_ns, Some(stamp(10).time_unix_ns));
    process(&mut journal, 12);
    process(&mut journal, 13);
    end(journal, 14);
    // A second process that has the index open continues where the first one stopped.
    let mut other = Store::open(state.path()).unwrap();
    let row = rows(&mut other).pop().unwrap();
    assert_eq!((row.events, row.processes), (5, 3));
    assert_eq!(row.outcome, Some(SessionOutcome::Exited { code: 7 }));
    assert_eq!(row.name.as_deref(), Some("run-3f2a000000000001"));
    assert_eq!(rows(&mut store), vec![row.clone()]);
    store.rebuild(&mut |_, _| {}).unwrap();
    assert_eq!(store.sessions().unwrap(), vec![row]);
}

#[test]
fn the_index_can_be_deleted_and_is_private() {
    let state = tempfile::tempdir().unwrap();
    end(start(state.path(), "aaaa000000000001", 1), 2);
    end(start(state.path(), "bbbb000000000001", 3), 4);
    let before = rows(&mut Store::open(state.path()).unwrap());
    assert_eq!(before.len(), 2);
    assert_eq!(before[0].id, id("bbbb000000000001"), "the newest first");
    for name in [
        INDEX_FILE.to_owned(),
        format!("{INDEX_FILE}-wal"),
        format!("{INDEX_FILE}-shm"),
    ] {
        let path = state.path().join(name);
        if let Ok(meta) = fs::metadata(&path) {
            assert_eq!(
                meta.permissions().mode() & 0o777,
                0o600,
                "{}",
                path.display()
            );
        }
    }
    fs::remove_file(state.path().join(INDEX_FILE)).unwrap();
    assert_eq!(rows(&mut Store::open(state.path()).unwrap()), before);
}

/// Waits until the thread of a dropped index has closed the file, which removes the log beside it:
/// with the log SQLite would repair what the test damages.
fn settle(state: &Path) {
    let log = state.join(format!("{INDEX_FILE}-wal"));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while log.exists() {
        assert!(std::time::Instant::now() < deadline, "the index stays open");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_damaged_index_is_built_again_with_a_note() {
    let state = tempfile::tempdir().unwrap();
    end(start(state.path(), "aaaa000000000001", 1), 2);
    let path = state.path().join(INDEX_FILE);
    let good = rows(&mut Store::open(state.path()).unwrap());
    settle(state.path());
    let genuine = fs::read(&path).unwrap();
    let mut holes = genuine.clone();
    holes[3000..].fill(0x5a);
    let mut version = genuine;
    version[60..64].copy_from_slice(&7_u32.to_be_bytes());
    for bytes in [b"not a database at all".repeat(100), holes, version] {
        fs::write(&path, &bytes).unwrap();
        let mut store = Store::open(state.path()).unwrap();
        assert_eq!(store.notes().len(), 1, "{:?}", store.notes());
        assert!(
            store.notes()[0].contains("built again"),
            "{:?}",
            store.notes()
        );
        assert_eq!(rows(&mut store), good);
        drop(store);
        let store = Store::open(state.path()).unwrap();
        assert_eq!(store.notes(), [] as [String; 0], "it is good again");
        drop(store);
        settle(state.path());
    }
}

#[test]
fn an_index_that_cannot_be_opened_is_replaced_by_one_in_memory() {
    let state = tempfile::tempdir().unwrap();
    end(start(state.path(), "aaaa000000000001", 1), 2);
    end(start(state.path(), "bbbb000000000001", 3), 4);
    let path = state.path().join(INDEX_FILE);
    let before = rows(&mut Store::open(state.path()).unwrap());
    settle(state.path());
    fs::remove_file(&path).unwrap();
    // A link is not followed, and nothing is made at its target.
    let target = state.path().join("target");
    std::os::unix::fs::symlink(&target, &path).unwrap();
    let mut store = Store::open(state.path()).unwrap();
    assert_eq!(rows(&mut store), before);
    assert_eq!(store.resolve("last").unwrap(), id("bbbb000000000001"));
    assert_eq!(store.notes().len(), 1, "{:?}", store.notes());
    assert!(
        store.notes()[0].contains("in memory"),
        "{:?}",
        store.notes()
    );
    assert!(!target.exists());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let mut store = Store::open(state.path()).unwrap();
    assert_eq!(rows(&mut store), before);
    let note = store.notes().concat();
    assert_eq!(note.matches("irectory").count(), 1, "{note}");
}

#[test]
fn an_index_in_memory_remembers_what_the_file_tells() {
    let state = tempfile::tempdir().unwrap();
    end(start(state.path(), "aaaa000000000001", 1), 2);
    rows(&mut Store::open(state.path()).unwrap());
    settle(state.path());
    fs::remove_dir_all(session_dir(state.path(), &id("aaaa000000000001"))).unwrap();
    end(start(state.path(), "bbbb000000000001", 3), 4);
    // SQLite puts its log there; a directory in its place prevents every write.
    fs::create_dir(state.path().join(format!("{INDEX_FILE}-wal"))).unwrap();
    let mut store = Store::open(state.path()).unwrap();
    let found = rows(&mut store);
    assert_eq!(found.len(), 2, "{:?}", store.notes());
    assert!(!found[0].missing && found[1].missing);
    assert_eq!(store.notes().len(), 1, "{:?}", store.notes());
}

#[test]
fn a_session_is_found_by_id_prefix_or_last() {
    let state = tempfile::tempdir().unwrap();
    let mut store = Store::open(state.path()).unwrap();
    assert!(matches!(store.resolve("last"), Err(StoreError::NoSessions)));
    end(start(state.path(), "3f2a000000000001", 5), 6);
    end(start(state.path(), "3f2b000000000002", 3), 4);
    end(start(state.path(), "aaaa000000000003", 1), 2);
    rows(&mut store);
    assert_eq!(store.resolve("last").unwrap(), id("3f2a000000000001"));
    assert_eq!(store.resolve("3f2b").unwrap(), id("3f2b000000000002"));
    assert_eq!(store.resolve("a").unwrap(), id("aaaa000000000003"));
    assert_eq!(
        store.resolve("3f2a000000000001").unwrap(),
        id("3f2a000000000001")
    );
    let error = store.resolve("3f").unwrap_err().to_string();
    assert!(
        error.contains("3f2a000000000001, 3f2b000000000002"),
        "{error}"
    );
    assert!(error.contains("2 sessions"), "{error}");
    assert!(matches!(store.resolve("ffff"), Err(StoreError::NoMatch(_))));
    for text in ["", "LAST", "3F", "../x", "zz", "\u{1b}[2J"] {
        let error = store.resolve(text).unwrap_err();
        assert!(
            matches!(error, StoreError::NotASession(_)),
            "{text:?}: {error}"
        );
        assert!(!error.to_string().contains('\u{1b}'));
    }
}

#[test]
fn what_is_wrong_with_one_journal_does_not_hide_the_others() {
    let state = tempfile::tempdir().unwrap();
    end(start(state.path(), "aaaa000000000001", 1), 2);
    end(start(state.path(), "bbbb000000000001", 3), 4);
    let journal = session_dir(state.path(), &id("bbbb000000000001")).join(JOURNAL_FILE);
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, format!("{text}garbage\n{{\"chain")).unwrap();
    let empty = session_dir(state.path(), &id("cccc000000000001"));
    fs::create_dir_all(&empty).unwrap();
    fs::create_dir_all(session_dir(state.path(), &id("dddd000000000001")).join(JOURNAL_FILE))
        .unwrap();
    fs::create_dir_all(state.path().join("sessions/not-a-session")).unwrap();
    let mut store = Store::open(state.path()).unwrap();
    let found = rows(&mut store);
    let ids: Vec<_> = found.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "bbbb000000000001",
            "aaaa000000000001",
            "cccc000000000001",
            "dddd000000000001"
        ]
    );
    assert_eq!(
        found.iter().map(|row| row.unindexed).collect::<Vec<_>>(),
        [false, false, false, true]
    );
    assert_eq!((found[0].unreadable, found[0].events), (1, 2));
    assert!(
        store.notes().iter().any(|note| note.contains("dddd")),
        "{:?}",
        store.notes()
    );
}

/// Replaces a session, whose directory is given.
type Swap = fn(&Path);

#[test]
fn a_session_that_cannot_be_read_is_never_passed_over() {
    let swaps: [(&str, Swap); 6] = [
        ("link to a journal", |dir| {
            let journal = dir.join(JOURNAL_FILE);
            fs::remove_file(&journal).unwrap();
            std::os::unix::fs::symlink("../aaaa000000000001/journal.jsonl", journal).unwrap();
        }),
        ("dangling link", |dir| {
            let journal = dir.join(JOURNAL_FILE);
            fs::remove_file(&journal).unwrap();
            std::os::unix::fs::symlink("nowhere", journal).unwrap();
        }),
        ("pipe", |dir| {
            let journal = dir.join(JOURNAL_FILE);
            fs::remove_file(&journal).unwrap();
            let mode = rustix::fs::Mode::RUSR;
            rustix::fs::mknodat(
                rustix::fs::CWD,
                journal,
                rustix::fs::FileType::Fifo,
                mode,
                0,
            )
            .unwrap();
        }),
        ("link to a session", |dir| {
            fs::remove_dir_all(dir).unwrap();
            std::os::unix::fs::symlink("aaaa000000000001", dir).unwrap();
        }),
        ("link to an empty directory", |dir| {
            let empty = dir.with_file_name("empty");
            fs::create_dir(&empty).unwrap();
            fs::remove_dir_all(dir).unwrap();
            std::os::unix::fs::symlink(empty, dir).unwrap();
        }),
        ("file", |dir| {
            fs::remove_dir_all(dir).unwrap();
            fs::write(dir, "").unwrap();
        }),
    ];
    for (what, swap) in swaps {
        let state = tempfile::tempdir().unwrap();
        end(start(state.path(), "aaaa000000000001", 1), 2);
        end(start(state.path(), "bbbb000000000001", 3), 4);
        swap(&session_dir(state.path(), &id("bbbb000000000001")));
        let mut store = Store::open(state.path()).unwrap();
        let found = rows(&mut store);
        assert_eq!(found.len(), 2, "{what}: {found:?}");
        assert!(!found[0].unindexed && found[1].unindexed, "{what}");
        assert_eq!(found[1].id, id("bbbb000000000001"), "{what}");
        let error = store.resolve("last").unwrap_err();
        assert!(
            matches!(&error, StoreError::NotIndexed { count: 1, first } if *first == found[1].id),
            "{what}: {error}"
        );
        assert_eq!(store.resolve("bbbb").unwrap(), found[1].id, "{what}");
        // The note appears once, with the cause.
        assert_eq!(store.notes().len(), 1, "{what}: {:?}", store.notes());
        assert!(
            store.notes()[0].matches(": ").count() >= 2,
            "{:?}",
            store.notes()
        );
    }
}

#[test]
fn a_session_that_was_known_keeps_its_place_when_it_cannot_be_read() {
    let state = tempfile::tempdir().unwrap();
    end(start(state.path(), "aaaa000000000001", 1), 2);
    end(start(state.path(), "bbbb000000000001", 3), 4);
    let mut store = Store::open(state.path()).unwrap();
    rows(&mut store);
    let journal = session_dir(state.path(), &id("bbbb000000000001")).join(JOURNAL_FILE);
    fs::remove_file(&journal).unwrap();
    // Of the same size, so that the journal seems unchanged.
    let other = session_dir(state.path(), &id("aaaa000000000001")).join(JOURNAL_FILE);
    std::os::unix::fs::symlink(other, &journal).unwrap();
    let found = rows(&mut store);
    assert!(found[0].unindexed && !found[1].unindexed, "{found:?}");
    assert_eq!(found[0].events, 2);
    assert_eq!(store.resolve("last").unwrap(), id("bbbb000000000001"));
}

#[test]
fn a_journal_that_was_taken_away_is_remembered() {
    let state = tempfile::tempdir().unwrap();
    end(start(state.path(), "aaaa000000000001", 1), 2);
    let mut store = Store::open(state.path()).unwrap();
    assert!(!rows(&mut store)[0].missing);
    fs::remove_dir_all(session_dir(state.path(), &id("aaaa000000000001"))).unwrap();
    let row = rows(&mut store).pop().unwrap();
    assert!(row.missing);
    assert_eq!(row.events, 2);
    // No older session takes its place.
    end(start(state.path(), "bbbb000000000001", 0), 0);
    assert_eq!(store.resolve("last").unwrap(), id("aaaa000000000001"));
    assert_eq!(store.resolve("aaaa").unwrap(), id("aaaa000000000001"));
    fs::remove_dir_all(session_dir(state.path(), &id("bbbb000000000001"))).unwrap();
    store.rebuild(&mut |_, _| {}).unwrap();
    assert_eq!(store.sessions().unwrap(), []);
}

#[test]
fn a_journal_that_got_shorter_is_read_again() {
    let state = tempfile::tempdir().unwrap();
    end(start(state.path(), "aaaa000000000001", 1), 2);
    let mut store = Store::open(state.path()).unwrap();
    assert_eq!(rows(&mut store)[0].events, 2);
    let journal = session_dir(state.path(), &id("aaaa000000000001")).join(JOURNAL_FILE);
    let text = fs::read_to_string(&journal).unwrap();
    let short: String = text.split_inclusive('\n').take(2).collect();
    fs::write(&journal, short).unwrap();
    let row = rows(&mut store).pop().unwrap();
    assert_eq!((row.events, row.outcome), (1, None));
}

#[test]
fn two_processes_that_ingest_at_once_count_once() {
    let state = tempfile::tempdir().unwrap();
    let mut journal = start(state.path(), "aaaa000000000001", 1);
    (0..2000).for_each(|_| process(&mut journal, 2));
    drop(Store::open(state.path()).unwrap());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut store = Store::open(state.path()).unwrap();
                store.ingest_all(&mut |_, _| {}).unwrap();
            });
        }
    });
    let row = rows(&mut Store::open(state.path()).unwrap()).pop().unwrap();
    assert_eq!(row.processes, 2000);
}

#[test]
fn a_compressed_journal_is_the_same_session() {
    let state = tempfile::tempdir().unwrap();
    let session = id("3f2a000000000001");
    let mut journal = start(state.path(), session.as_str(), 10);
    process(&mut journal, 11);
    end(journal, 12);
    let mut store = Store::open(state.path()).unwrap();
    let before = rows(&mut store);
    assert_eq!((before.len(), before[0].events), (1, 3));
    let dir = session_dir(state.path(), &session);
    assert!(matches!(pack(&dir).unwrap(), Packed::Now { .. }));
    // For the known index, and for one that is built again.
    assert_eq!(rows(&mut store), before);
    drop(store);
    fs::remove_file(state.path().join(INDEX_FILE)).unwrap();
    let mut store = Store::open(state.path()).unwrap();
    assert_eq!(rows(&mut store), before);
    // A journal that cannot be unpacked is reported.
    fs::remove_file(state.path().join(INDEX_FILE)).unwrap();
    fs::write(dir.join(PACKED_FILE), "no such thing").unwrap();
    let mut store = Store::open(state.path()).unwrap();
    let found = rows(&mut store);
    assert!(found.len() == 1 && found[0].unindexed, "{found:?}");
    assert!(store.resolve("last").is_err());
}

/// Lists arrive as one text, and many journals are read at once.
#[test]
fn many_sessions_at_once_are_each_there_whatever_their_words_are() {
    let state = tempfile::tempdir().unwrap();
    let names = [
        "plain",
        "two\nlines",
        "0123456789abcdef {",
        "\" 0\n0123456789abcdef 5 1",
    ];
    let session = |number: u64| format!("{number:016x}");
    for number in 1..=40 {
        let name = names[usize::try_from(number).unwrap() % names.len()];
        let journal = start_as(state.path(), &session(number), number, name);
        if number % 2 == 0 {
            end(journal, number + 1);
        }
    }
    // One of them, in the middle, is unreadable.
    let journal = session_dir(state.path(), &id(&session(20))).join(JOURNAL_FILE);
    fs::remove_file(&journal).unwrap();
    fs::create_dir(&journal).unwrap();
    for _ in 0..2 {
        let mut store = Store::open(state.path()).unwrap();
        store.ingest_all(&mut |_, _| {}).unwrap();
        let rows = store.sessions().unwrap();
        let known: Vec<u64> = (1..=40).rev().filter(|number| *number != 20).collect();
        let expected: Vec<String> = known.iter().copied().chain([20]).map(session).collect();
        let found: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(found, expected);
        for (row, number) in rows.iter().zip(known) {
            let name = names[usize::try_from(number).unwrap() % names.len()];
            assert_eq!(row.name.as_deref(), Some(name));
            assert_eq!(row.outcome.is_some(), number % 2 == 0);
        }
        assert_eq!(store.notes().len(), 1, "{:?}", store.notes());
    }
}
