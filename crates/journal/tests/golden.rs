//! The bytes of a journal: others keep and check them, so no change of the program may change them.

use std::{fs, path::Path};

use crate::common::{Lab, every_kind, hostile, stamp};
use stockade_event::{Durability, Event};
use stockade_journal::layout::{HEAD_FILE, JOURNAL_FILE};

/// The kinds that existed when the file was made; a later kind does not change it.
const KINDS: [&str; 21] = [
    "session.started",
    "guarantee.stated",
    "policy.loaded",
    "process.started",
    "exec.unconfirmed",
    "refusal.repeated",
    "exec.decided",
    "file.denied",
    "call.refused",
    "name.decided",
    "connection.decided",
    "http.decided",
    "port.published",
    "file.changed",
    "connection.closed",
    "limit.reached",
    "approval.requested",
    "approval.decided",
    "approval.used",
    "operator.acted",
    "session.ended",
];

/// Takes away the fields that kinds got after the file was made.
fn as_it_was(mut event: Event) -> Event {
    if let Event::PolicyLoaded { bundle, .. } = &mut event {
        *bundle = None;
    }
    if let Event::ApprovalDecided { statement, .. } = &mut event {
        *statement = None;
    }
    event
}

/// With a fixed key, fixed times and fixed events a journal is always the same file. If this fails
/// on purpose, the format has a new version: add a file, and keep the readers of this one.
#[test]
fn a_journal_of_version_2_has_the_same_bytes_for_ever() {
    let lab = Lab::new();
    let key = "stockade signing key v1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";
    let path = lab.path().join("key");
    fs::write(&path, key).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut journal = lab.create();
    let mut number = 0;
    for text in ["/home/u/project".into(), hostile()] {
        // Twice, because a record refers to earlier content.
        for _ in 0..2 {
            let events = every_kind(&text).into_iter().map(as_it_was);
            for event in &events
                .filter(|event| KINDS.contains(&event.kind()))
                .collect::<Vec<_>>()
            {
                number += 1;
                let source = if number % 5 == 0 {
                    "egress"
                } else {
                    "supervisor"
                };
                let scope = (number % 3 == 0).then_some("c-1");
                journal
                    .append(
                        stamp(number),
                        source,
                        None,
                        scope,
                        event,
                        Durability::Written,
                    )
                    .unwrap();
            }
            journal.checkpoint(stamp(number)).unwrap();
        }
    }
    journal.finish(stamp(number + 1)).unwrap();
    let fixtures = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
        .join("tests/fixtures/journal-2");
    for file in [JOURNAL_FILE, HEAD_FILE] {
        let made = fs::read(lab.path().join(file)).unwrap();
        let kept = fs::read(fixtures.join(file)).unwrap();
        assert!(made == kept, "`{file}` has other bytes");
    }
}
