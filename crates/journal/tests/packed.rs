//! A compressed journal is the same journal: read, followed and verified as before.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt as _, symlink},
    time::{Duration, SystemTime},
};

use stockade_event::Envelope;
use stockade_journal::{
    Followed, Packed, Position, Verification, follow,
    layout::{HEAD_FILE, JOURNAL_FILE, PACKED_FILE},
    pack, read, verify,
};

use crate::common::{Lab, session, stamp};

fn closed(events: u64) -> Lab {
    let lab = Lab::new();
    lab.fill(events, 50).finish(stamp(events + 1)).unwrap();
    lab
}

fn events(lab: &Lab) -> Vec<Envelope> {
    read(lab.path()).unwrap().map(Result::unwrap).collect()
}

fn verified(lab: &Lab) -> Verification {
    verify(lab.path(), &session(), &lab.key().verifying_key()).unwrap()
}

fn names(lab: &Lab) -> Vec<String> {
    let entries = fs::read_dir(lab.path()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_compressed_journal_is_the_same_journal() {
    // More than a frame, so that lines cross its end.
    let lab = closed(12_000);
    let (all, verification) = (events(&lab), verified(&lab));
    assert!(verification.is_intact());
    let long_ago = SystemTime::now() - Duration::from_secs(1000);
    let mut open = read(lab.path()).unwrap();
    let first = open.next().unwrap().unwrap();
    let position = {
        let mut follower = follow(lab.path(), Position::START, Duration::ZERO).unwrap();
        for _ in 0..5000 {
            follower.next(Duration::ZERO).unwrap();
        }
        follower.position()
    };
    for place in [lab.journal_path(), lab.path().to_owned()] {
        File::open(place).unwrap().set_modified(long_ago).unwrap();
    }
    let Packed::Now { before, after } = pack(lab.path()).unwrap() else {
        panic!("it was not compressed");
    };
    assert!(before > 2 << 20 && after < before / 2, "{before} {after}");
    assert_eq!(names(&lab), [HEAD_FILE, PACKED_FILE, "key"]);
    assert_eq!(pack(lab.path()).unwrap(), Packed::Before);
    assert_eq!(events(&lab), all);
    assert_eq!(verified(&lab), verification);
    // A reader that has it open continues, and a stored place is still the same place.
    let rest: Vec<Envelope> = open.map(Result::unwrap).collect();
    assert_eq!((&first, rest.as_slice()), (&all[0], &all[1..]));
    let mut follower = follow(lab.path(), position, Duration::ZERO).unwrap();
    let Followed::Event(next) = follower.next(Duration::ZERO).unwrap() else {
        panic!("there is more");
    };
    assert_eq!(*next, all[5000]);
    // Nothing was recorded now, so the record has its old age, and no other user can read it.
    for place in [lab.path().join(PACKED_FILE), lab.path().to_owned()] {
        let time = fs::metadata(&place).unwrap().modified().unwrap();
        assert_eq!(time, long_ago, "{}", place.display());
    }
    let mode = fs::metadata(lab.path().join(PACKED_FILE)).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_may_still_grow_is_left_alone() {
    let lab = Lab::new();
    let mut journal = lab.fill(100, 50);
    assert_eq!(pack(lab.path()).unwrap(), Packed::Not);
    journal.checkpoint(stamp(101)).unwrap();
    assert_eq!(pack(lab.path()).unwrap(), Packed::Not);
    assert_eq!(names(&lab), [JOURNAL_FILE, "key"]);
}

#[test]
fn whatever_is_interrupted_the_journal_is_there() {
    let lab = closed(300);
    let (all, whole) = (events(&lab), fs::read(lab.journal_path()).unwrap());
    let (new, packed) = (
        lab.path().join(format!("{PACKED_FILE}.new")),
        lab.path().join(PACKED_FILE),
    );
    pack(lab.path()).unwrap();
    let good = fs::read(&packed).unwrap();
    let back = |beside: &[(&std::path::Path, &[u8])]| {
        for path in [&new, &packed] {
            fs::remove_file(path).ok();
        }
        fs::write(lab.journal_path(), &whole).unwrap();
        for (path, bytes) in beside {
            fs::write(path, bytes).unwrap();
        }
        // Before anything is repaired, it reads as before.
        assert_eq!(events(&lab), all);
        assert!(verified(&lab).is_intact());
        assert!(matches!(pack(lab.path()).unwrap(), Packed::Now { .. }));
        assert_eq!(names(&lab), [HEAD_FILE, PACKED_FILE, "key"]);
        assert_eq!(fs::read(&packed).unwrap(), good);
        assert_eq!(events(&lab), all);
    };
    back(&[(&new, b"")]);
    back(&[(&new, &good[..good.len() / 2])]);
    back(&[(&new, &[good.as_slice(), b"older and longer"].concat())]);
    // Already renamed, but the journal is not yet removed.
    back(&[(&packed, &good)]);
    back(&[(&packed, b"torn by a disk that lied"), (&new, &good)]);
    // Another process is compressing it.
    fs::write(lab.journal_path(), &whole).unwrap();
    let other = File::create(&new).unwrap();
    other.lock().unwrap();
    assert_eq!(pack(lab.path()).unwrap(), Packed::Not);
    assert!(lab.journal_path().exists());
    drop(other);
    // A link in the place of the new file is not followed.
    fs::remove_file(&new).unwrap();
    let target = lab.path().join("target");
    fs::write(&target, "mine").unwrap();
    symlink(&target, &new).unwrap();
    assert!(pack(lab.path()).is_err());
    assert_eq!(fs::read(&target).unwrap(), b"mine");
    assert_eq!(events(&lab), all);
}

#[test]
fn many_that_compress_at_once_leave_one_whole_file() {
    for _ in 0..8 {
        let lab = closed(200);
        let all = events(&lab);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| pack(lab.path()).ok());
            }
            for _ in 0..20 {
                assert_eq!(events(&lab), all);
            }
        });
        assert!(matches!(
            pack(lab.path()).unwrap(),
            Packed::Before | Packed::Now { .. }
        ));
        assert_eq!(events(&lab), all);
        assert!(verified(&lab).is_intact());
    }
}

#[test]
fn every_changed_byte_of_the_compressed_file_is_found_or_says_the_same() {
    let lab = closed(20);
    let all = events(&lab);
    pack(lab.path()).unwrap();
    let path = lab.path().join(PACKED_FILE);
    let good = fs::read(&path).unwrap();
    let mut harmless = 0;
    for place in 0..good.len() {
        for bit in [1, 0x10, 0x80] {
            let mut bad = good.clone();
            bad[place] ^= bit;
            fs::write(&path, &bad).unwrap();
            let verification = verified(&lab);
            if verification.is_intact() {
                // A bit without a meaning: the read returns what was written.
                assert_eq!(events(&lab), all, "byte {place}");
                harmless += 1;
            } else {
                assert!(verification.is_broken(), "byte {place}: {verification:?}");
            }
        }
    }
    assert!(harmless < good.len() / 50, "{harmless} of {}", good.len());
    for cut in [0, 1, 9, good.len() / 2, good.len() - 1] {
        fs::write(&path, &good[..cut]).unwrap();
        assert!(verified(&lab).is_broken(), "cut to {cut}");
    }
    fs::write(&path, [good.as_slice(), b"more"].concat()).unwrap();
    assert!(verified(&lab).is_broken());
    fs::remove_file(&path).unwrap();
    assert!(verified(&lab).is_broken(), "the signed end is still there");
}

#[test]
fn a_table_that_lies_takes_no_memory() {
    let lab = closed(20);
    pack(lab.path()).unwrap();
    let path = lab.path().join(PACKED_FILE);
    let good = fs::read(&path).unwrap();
    // One frame: its sizes are before the last 9 bytes.
    let sizes = good.len() - 9 - 8;
    for (at, value) in [
        (sizes, u32::MAX),
        (sizes + 4, u32::MAX),
        (sizes + 8, 1 << 30),
    ] {
        let mut bad = good.clone();
        bad[at..at + 4].copy_from_slice(&value.to_le_bytes());
        fs::write(&path, &bad).unwrap();
        let verification = verified(&lab);
        assert!(verification.is_broken(), "{verification:?}");
        assert!(read(lab.path()).is_err());
    }
}

/// A compressed journal from an earlier version can always be read, by other programs too.
#[test]
fn a_compressed_journal_of_before_is_read() {
    let fixtures = std::path::Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
        .join("tests/fixtures");
    let lab = Lab::new();
    fs::copy(
        fixtures.join("journal-2-packed").join(PACKED_FILE),
        lab.path().join(PACKED_FILE),
    )
    .unwrap();
    let plain = Lab::new();
    fs::copy(
        fixtures.join("journal-2").join(JOURNAL_FILE),
        plain.journal_path(),
    )
    .unwrap();
    let expected = events(&plain);
    assert!(!expected.is_empty());
    assert_eq!(events(&lab), expected);
}
