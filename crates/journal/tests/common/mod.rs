//! Samples that the tests of this crate share.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../../../event/tests/common/mod.rs"]
mod samples;

use std::path::{Path, PathBuf};

pub(crate) use samples::{decision, every_kind, hostile, session, stamp, subject};
use stockade_event::{Durability, Event};
use stockade_journal::{Journal, SigningKey, layout::JOURNAL_FILE};

/// A session directory with its key beside it.
pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn key(&self) -> SigningKey {
        SigningKey::load_or_create(&self.path().join("key")).unwrap()
    }

    pub(crate) fn journal_path(&self) -> PathBuf {
        self.path().join(JOURNAL_FILE)
    }

    pub(crate) fn create(&self) -> Journal {
        Journal::create(self.path(), session(), self.key()).unwrap()
    }

    /// Writes `events` small events with a signature after every `step`.
    pub(crate) fn fill(&self, events: u64, step: u64) -> Journal {
        let mut journal = self.create();
        for number in 1..=events {
            let event = Event::OperatorActed {
                action: "note".to_owned(),
                by: "test".to_owned(),
                detail: number.to_string(),
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
            assert_eq!(seq, number);
            if number % step == 0 {
                journal.checkpoint(stamp(number)).unwrap();
            }
        }
        journal
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.journal_path()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn put_lines(&self, lines: &[String]) {
        let mut text = lines.join("\n");
        if !lines.is_empty() {
            text.push('\n');
        }
        std::fs::write(self.journal_path(), text).unwrap();
    }
}
