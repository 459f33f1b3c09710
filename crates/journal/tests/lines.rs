//! A copy that is made of whole lines, piece by piece, is the journal.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{fs, io::Write as _};

use stockade_journal::{Packed, chain_at, journal_bytes, lines, pack, verify};

use crate::common::{Lab, session, stamp};

/// Copies it in pieces of at most `bytes_max`.
fn copy(lab: &Lab, bytes_max: u64) -> Vec<u8> {
    let mut copy = Vec::new();
    loop {
        let from = u64::try_from(copy.len()).unwrap();
        let piece = lines(lab.path(), from, bytes_max).unwrap();
        if piece.bytes.is_empty() {
            assert_eq!(piece.journal_bytes, journal_bytes(lab.path()).unwrap());
            return copy;
        }
        assert!(u64::try_from(piece.bytes.len()).unwrap() <= bytes_max);
        assert_eq!(piece.bytes.last(), Some(&b'\n'));
        copy.extend_from_slice(&piece.bytes);
    }
}

#[test]
fn pieces_are_the_journal_whether_it_is_compressed_or_not() {
    // More than a frame of the compressed form.
    let lab = Lab::new();
    lab.fill(12_000, 50).finish(stamp(12_001)).unwrap();
    let whole = fs::read(lab.journal_path()).unwrap();
    assert!(whole.len() > 1 << 20);
    assert!(copy(&lab, 100_000) == whole);
    assert!(copy(&lab, 4 << 20) == whole);
    assert!(matches!(pack(lab.path()).unwrap(), Packed::Now { .. }));
    assert!(copy(&lab, 100_000) == whole);
    assert!(copy(&lab, 4 << 20) == whole);
}

#[test]
fn a_line_without_an_end_is_left_for_later() {
    let lab = Lab::new();
    lab.fill(3, 1);
    let whole = fs::read(lab.journal_path()).unwrap();
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(lab.journal_path())
        .unwrap();
    file.write_all(b"{\"chain\":").unwrap();
    assert!(copy(&lab, 1 << 20) == whole);
    let here = u64::try_from(whole.len()).unwrap();
    assert!(
        lines(lab.path(), here + 100, 1 << 20).is_err(),
        "there is no such byte"
    );
}

#[test]
fn the_chain_at_a_place_is_what_verification_computes() {
    let lab = Lab::new();
    lab.fill(40, 7).finish(stamp(41)).unwrap();
    let whole = fs::read(lab.journal_path()).unwrap();
    let at = |offset: usize| chain_at(lab.path(), u64::try_from(offset).unwrap()).unwrap();
    let ends = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let ends: Vec<usize> = ends.map(|(at, _)| at + 1).collect();
    let key = lab.key().verifying_key();
    for end in &ends {
        let part = Lab::new();
        fs::write(part.journal_path(), &whole[..*end]).unwrap();
        let verified = verify(part.path(), &session(), &key).unwrap();
        assert_eq!(at(*end), Some(verified.head), "at {end}");
        assert_eq!(at(*end - 1), None);
    }
    assert_eq!(at(0), None);
    assert_eq!(at(whole.len() + 1), None);
    assert!(matches!(pack(lab.path()).unwrap(), Packed::Now { .. }));
    for end in ends {
        assert!(at(end).is_some());
    }
}
