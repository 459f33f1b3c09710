//! A real limit on the size of files, like a full disk: errors, no loss of acknowledged events, and
//! a correct verdict afterwards.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{path::Path, process::Command};

use crate::common::{Lab, session, stamp};
use stockade_event::{Durability, Event};
use stockade_journal::{Journal, JournalError, SigningKey, VerificationVerdict, read, verify};

const DIR_VARIABLE: &str = "STOCKADE_TEST_FULL_DISK";

/// Writes until it fails; runs in a separate process, under the limit.
fn write_until_full(dir: &Path) {
    let key = SigningKey::load_or_create(&dir.join("key")).unwrap();
    let mut journal = Journal::create(dir, session(), key).unwrap();
    let mut acknowledged = 0;
    for number in 1..100_000 {
        let event = Event::OperatorActed {
            action: "note".to_owned(),
            by: "test".to_owned(),
            detail: number.to_string(),
        };
        match journal.append(
            stamp(number),
            "supervisor",
            None,
            None,
            &event,
            Durability::Written,
        ) {
            Ok(seq) => acknowledged = seq,
            Err(error) => {
                assert!(matches!(error, JournalError::Write { .. }), "{error}");
                assert!(journal.checkpoint(stamp(number)).is_err());
                assert!(journal.finish(stamp(number)).is_err());
                std::fs::write(dir.join("acknowledged"), acknowledged.to_string()).unwrap();
                return;
            }
        }
    }
    panic!("the limit was not reached");
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    if let Some(dir) = std::env::var_os(DIR_VARIABLE) {
        write_until_full(Path::new(&dir));
        return;
    }
    let lab = Lab::new();
    // Blocks of 512 or 1,024 bytes, as the shell counts; the signal is ignored so that write(2)
    // returns EFBIG (setrlimit(2)).
    let status = Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 64; exec \"$0\" --exact \"$1\"",
        ])
        .arg(std::env::current_exe().unwrap())
        .arg("full_disk::a_full_disk_loses_nothing_that_was_acknowledged")
        .env(DIR_VARIABLE, lab.path())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    let acknowledged = std::fs::read_to_string(lab.path().join("acknowledged")).unwrap();
    let acknowledged: usize = acknowledged.parse().unwrap();
    assert!(acknowledged > 10, "{acknowledged}");
    let events = read(lab.path()).unwrap().flatten().count();
    assert_eq!(events, acknowledged);
    let key = lab.key().verifying_key();
    let verification = verify(lab.path(), &session(), &key).unwrap();
    let VerificationVerdict::Unfinished { torn_bytes, .. } = verification.verdict else {
        panic!("{verification:?}")
    };
    assert!(
        torn_bytes > 0,
        "the record that did not fit is there in part"
    );
}
