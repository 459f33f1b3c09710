//! A receipt never precedes the sync: the disk is one that the tests play. It fails, and it forgets what was
//! not synced when the power is cut.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use proptest::prelude::*;
use stockade_api::NodeId;
use stockade_event::{Durability, Event};
use stockade_journal::{Journal, SigningKey, VerifyingKey, layout};
use stockade_types::SessionId;
use tempfile::TempDir;

use super::{Disk, Evidence, Kept, Piece, Written};
use crate::{
    ControlError,
    state::{SessionKey, Stored},
};

/// A disk that is played.
#[derive(Default)]
struct Played {
    fails: AtomicBool,
    syncs: AtomicU64,
    /// What of each file was synced.
    durable: Mutex<HashMap<PathBuf, Vec<u8>>>,
}

impl Disk for Arc<Played> {
    fn sync(&self, _: &File, path: &Path) -> io::Result<()> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(io::Error::other("the disk is broken"));
        }
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let content = fs::read(path)?;
        self.durable
            .lock()
            .unwrap()
            .insert(path.to_owned(), content);
        Ok(())
    }
}

/// A session on a machine, and the server's side of it.
struct Lab {
    dir: TempDir,
    played: Arc<Played>,
    evidence: Evidence,
    key: SessionKey,
    signer: VerifyingKey,
    journal: Journal,
    /// What the last receipt was for.
    receipted: u64,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("own");
        fs::create_dir(&home).unwrap();
        let session = SessionId::from_random(7);
        let key = SigningKey::load_or_create(&dir.path().join("key")).unwrap();
        let signer = key.verifying_key();
        let journal = Journal::create(&home, session.clone(), key).unwrap();
        let played = Arc::new(Played::default());
        Self {
            dir,
            evidence: Evidence::new(Box::new(Arc::clone(&played))),
            played,
            key: SessionKey {
                node: NodeId::from_random(1),
                session,
            },
            signer,
            journal,
            receipted: 0,
        }
    }

    fn write(&mut self, events: u64) {
        for number in 0..events {
            let event = Event::OperatorActed {
                action: "note".to_owned(),
                by: "test".to_owned(),
                detail: number.to_string(),
            };
            let (now, how) = (stockade_journal::now(), Durability::Written);
            let written = self.journal.append(now, "test", None, None, &event, how);
            written.unwrap();
        }
        self.journal.checkpoint(stockade_journal::now()).unwrap();
    }

    fn own(&self) -> Vec<u8> {
        fs::read(self.dir.path().join("own").join(layout::JOURNAL_FILE)).unwrap()
    }

    fn path(&self) -> PathBuf {
        let node = self.dir.path().join("org/node");
        layout::session_dir(&node, &self.key.session).join(layout::JOURNAL_FILE)
    }

    fn piece(&self, from: usize, to: usize) -> Piece {
        Piece {
            node_dir: self.dir.path().join("org/node"),
            session: self.key.session.clone(),
            key: self.signer,
            offset: u64::try_from(from).unwrap(),
            bytes: self.own()[from..to].to_vec(),
            receipted: self.receipted,
        }
    }

    /// Sends a piece, up to its receipt.
    fn send(&mut self, from: usize, to: usize) -> Result<Kept, ControlError> {
        let kept = match self.evidence.write(&self.key, &self.piece(from, to))? {
            Written::Done(kept) => kept,
            Written::Unsynced(unsynced) => Kept::Yes(self.evidence.sync(*unsynced)?),
        };
        if let Kept::Yes(Stored { offset, .. }) = kept {
            let durable = self.durable();
            let held = usize::try_from(offset).unwrap();
            assert!(
                durable.len() >= held && durable[..held] == self.own()[..held],
                "a receipt for {held} bytes, and {} are on the disk",
                durable.len()
            );
            self.receipted = self.receipted.max(offset);
        }
        Ok(kept)
    }

    fn durable(&self) -> Vec<u8> {
        let durable = self.played.durable.lock().unwrap();
        durable.get(&self.path()).cloned().unwrap_or_default()
    }

    /// Ends the server at once; what it has written stays.
    fn kill(&mut self) {
        self.evidence = Evidence::new(Box::new(Arc::clone(&self.played)));
    }

    /// Cuts the power: what was not synced is gone, or is something else.
    fn cut_power(&mut self, rest: &[u8]) {
        self.kill();
        let content = [self.durable().as_slice(), rest].concat();
        if self.path().exists() {
            fs::write(self.path(), content).unwrap();
        }
    }

    fn ends(&self) -> Vec<usize> {
        let own = self.own();
        let ends = own.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        ends.map(|(at, _)| at + 1).collect()
    }
}

#[test]
fn without_a_sync_there_is_no_receipt_and_the_bytes_are_sent_again() {
    let mut lab = Lab::new();
    lab.write(5);
    let all = lab.own().len();
    lab.played.fails.store(true, Ordering::Relaxed);
    let error = lab.send(0, all).unwrap_err().to_string();
    assert!(error.contains("sync"), "{error}");
    // What the disk did not take counts for nothing: it does not become good by the next sync.
    assert_eq!(fs::read(lab.path()).unwrap(), b"");
    assert!(!lab.path().with_file_name(super::CHECK_FILE).exists());
    // The control: with a disk that works, the same is taken.
    lab.played.fails.store(false, Ordering::Relaxed);
    assert!(matches!(lab.send(0, all).unwrap(), Kept::Yes(_)));
    assert_eq!(lab.durable(), lab.own());
    lab.write(5);
    lab.played.fails.store(true, Ordering::Relaxed);
    let more = lab.own().len();
    lab.send(all, more).unwrap_err();
    assert_eq!(fs::read(lab.path()).unwrap().len(), all);
    lab.played.fails.store(false, Ordering::Relaxed);
    assert!(matches!(lab.send(all, more).unwrap(), Kept::Yes(_)));
    assert_eq!(lab.durable(), lab.own());
}

#[test]
fn what_a_killed_server_has_written_is_synced_before_it_is_receipted() {
    let mut lab = Lab::new();
    lab.write(5);
    let all = lab.own().len();
    // It is killed between its write and its sync.
    let written = lab.evidence.write(&lab.key, &lab.piece(0, all)).unwrap();
    assert!(matches!(written, Written::Unsynced(_)));
    lab.kill();
    assert_eq!(fs::read(lab.path()).unwrap(), lab.own());
    assert_eq!(lab.durable(), b"");
    // The machine sends the same again: there is nothing to write, and something to sync.
    assert!(matches!(lab.send(0, all).unwrap(), Kept::Yes(_)));
    assert_eq!(lab.played.syncs.load(Ordering::Relaxed), 1);
    // The control: what is on the disk is not synced again.
    assert!(matches!(lab.send(0, all).unwrap(), Kept::Yes(_)));
    assert_eq!(lab.played.syncs.load(Ordering::Relaxed), 1);
}

#[test]
fn how_far_a_journal_was_checked_is_noted_seldom_and_found_again() {
    let mut lab = Lab::new();
    let noted = |lab: &Lab| fs::read(lab.path().with_file_name(super::CHECK_FILE)).unwrap();
    lab.write(5);
    let first = lab.own().len();
    lab.send(0, first).unwrap();
    let before = noted(&lab);
    lab.write(5);
    let second = lab.own().len();
    lab.send(first, second).unwrap();
    assert_eq!(noted(&lab), before);
    lab.write(2_000);
    let third = lab.own().len();
    assert!(u64::try_from(third).unwrap() > super::NOTED_BYTES);
    lab.send(second, third).unwrap();
    assert_ne!(noted(&lab), before);
    lab.kill();
    lab.write(1);
    let last = lab.own().len();
    assert!(matches!(lab.send(third, last).unwrap(), Kept::Yes(_)));
    assert_eq!(lab.durable(), lab.own());
}

/// What happens to a server.
#[derive(Clone, Debug)]
enum Happens {
    Writes(u64),
    Sends { from: u8, to: u8 },
    KilledBeforeSync { from: u8, to: u8 },
    Killed,
    PowerCut(Vec<u8>),
    DiskBreaks(bool),
    CheckLost,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        3 => (1..4_u64).prop_map(Happens::Writes),
        6 => any::<(u8, u8)>().prop_map(|(from, to)| Happens::Sends { from, to }),
        2 => any::<(u8, u8)>().prop_map(|(from, to)| Happens::KilledBeforeSync { from, to }),
        1 => Just(Happens::Killed),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Happens::PowerCut),
        1 => any::<bool>().prop_map(Happens::DiskBreaks),
        1 => Just(Happens::CheckLost),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever happens, in whatever order: no receipt is for bytes that are not on the disk, nothing that
    /// was receipted is lost, and in the end all of it arrives.
    #[test]
    fn no_receipt_is_for_bytes_that_are_not_on_the_disk(
        story in prop::collection::vec(happens(), 1..30),
    ) {
        let mut lab = Lab::new();
        lab.write(2);
        for one in story {
            let ends = lab.ends();
            // A machine sends whole lines, mostly from where the server is.
            let range = |from: u8, to: u8| {
                let held = usize::try_from(lab.receipted).unwrap();
                let at = ends.iter().position(|end| *end > held).unwrap_or(ends.len());
                let from = if from < 200 { held } else { ends[usize::from(from) % ends.len()] };
                let to = ends.get(at + usize::from(to % 4)).copied();
                (from, to.unwrap_or(*ends.last().unwrap()).max(from))
            };
            match one {
                Happens::Writes(events) => lab.write(events),
                Happens::Sends { from, to } => {
                    let (from, to) = range(from, to);
                    // It fails when the disk does.
                    drop(lab.send(from, to));
                }
                Happens::KilledBeforeSync { from, to } => {
                    let (from, to) = range(from, to);
                    drop(lab.evidence.write(&lab.key, &lab.piece(from, to)));
                    lab.kill();
                }
                Happens::Killed => lab.kill(),
                Happens::PowerCut(rest) => lab.cut_power(&rest),
                Happens::DiskBreaks(fails) => lab.played.fails.store(fails, Ordering::Relaxed),
                Happens::CheckLost => {
                    lab.kill();
                    drop(fs::remove_file(lab.path().with_file_name(super::CHECK_FILE)));
                }
            }
            let held = usize::try_from(lab.receipted).unwrap();
            prop_assert_eq!(&lab.durable()[..held], &lab.own()[..held]);
        }
        lab.played.fails.store(false, Ordering::Relaxed);
        let all = lab.own().len();
        let held = usize::try_from(lab.receipted).unwrap();
        let last = lab.send(held, all).unwrap();
        prop_assert!(matches!(last, Kept::Yes(_)), "{:?}", last);
        prop_assert_eq!(lab.durable(), lab.own());
    }
}
