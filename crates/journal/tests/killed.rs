//! `kill -9` of the writer at any moment loses nothing that was acknowledged.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use crate::common::{Lab, session, stamp};
use stockade_event::{Durability, Event};
use stockade_journal::{Journal, SigningKey, VerificationVerdict, read, verify};

const DIR_VARIABLE: &str = "STOCKADE_TEST_KILLED";

/// Writes for ever and prints what was acknowledged on standard output.
fn write_for_ever(dir: &Path) {
    let key = SigningKey::load_or_create(&dir.join("key")).unwrap();
    let mut journal = Journal::create(dir, session(), key).unwrap();
    let mut out = std::io::stdout().lock();
    for number in 1.. {
        let event = Event::OperatorActed {
            action: "note".to_owned(),
            by: "test".to_owned(),
            detail: "x".repeat(200),
        };
        let seq = journal
            .append(
                stamp(number),
                "supervisor",
                None,
                None,
                &event,
                Durability::Written,
            )
            .unwrap();
        if number % 100 == 0 {
            journal.checkpoint(stamp(number)).unwrap();
        }
        writeln!(out, "ack {seq}").unwrap();
    }
}

#[test]
fn a_killed_writer_loses_nothing_that_was_acknowledged() {
    if let Some(dir) = std::env::var_os(DIR_VARIABLE) {
        write_for_ever(Path::new(&dir));
        return;
    }
    for kill_after in [1, 7, 150, 999] {
        let lab = Lab::new();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "killed::a_killed_writer_loses_nothing_that_was_acknowledged",
                "--nocapture",
            ])
            .env(DIR_VARIABLE, lab.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut acknowledged = 0;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let acks = |line: &str| {
            line.strip_prefix("ack ")
                .and_then(|seq| seq.parse::<u64>().ok())
        };
        while acknowledged < kill_after {
            acknowledged = acks(&lines.next().unwrap().unwrap()).unwrap_or(acknowledged);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // Lines printed before the end count too; the last line may be cut.
        let mut rest: Vec<String> = lines.map_while(Result::ok).collect();
        drop(rest.pop());
        acknowledged = rest
            .iter()
            .filter_map(|line| acks(line))
            .fold(acknowledged, u64::max);
        let kept = u64::try_from(read(lab.path()).unwrap().flatten().count()).unwrap();
        assert!(kept >= acknowledged, "{kept} of {acknowledged}");
        let verification = verify(lab.path(), &session(), &lab.key().verifying_key()).unwrap();
        assert!(
            matches!(verification.verdict, VerificationVerdict::Unfinished { .. }),
            "{verification:?}"
        );
        assert!(
            verification.signed_events + 100 >= acknowledged,
            "{verification:?}"
        );
    }
}
