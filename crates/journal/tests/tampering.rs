//! An attacker's possibilities with a journal, given write access to the state directory but no
//! key.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::common::{Lab, session, stamp};
use proptest::prelude::*;
use stockade_event::{Durability, Event};
use stockade_fuzz::Target;
use stockade_journal::{
    FaultKind, Journal, SigningKey, Verification, VerificationVerdict, VerifyError,
    layout::HEAD_FILE, read, verify,
};
use stockade_types::SessionId;

/// Twelve events with a signature after every fourth and a signed end: lines 0 header, 1 to 4,
/// 5 signature, 6 to 9, 10 signature, 11 to 14, 15 signature, 16 end.
fn closed() -> Lab {
    let lab = Lab::new();
    lab.fill(12, 4).finish(stamp(12)).unwrap();
    assert!(check(&lab).is_intact());
    assert_eq!(lab.lines().len(), 17);
    lab
}

fn check(lab: &Lab) -> Verification {
    verify(lab.path(), &session(), &lab.key().verifying_key()).unwrap()
}

/// Returns the faults as (line, event, kind).
fn faults(lab: &Lab) -> Vec<(u64, Option<u64>, FaultKind)> {
    match check(lab).verdict {
        VerificationVerdict::Broken { faults, .. } => faults
            .into_iter()
            .map(|fault| (fault.line, fault.seq, fault.what))
            .collect(),
        other => panic!("expected broken, got {other:?}"),
    }
}

fn unfinished(lab: &Lab) -> (u64, u64) {
    match check(lab).verdict {
        VerificationVerdict::Unfinished {
            unsigned_events,
            torn_bytes,
            left_events: 0,
        } => (unsigned_events, torn_bytes),
        other => panic!("expected unfinished, got {other:?}"),
    }
}

fn edit(lab: &Lab, change: impl FnOnce(&mut Vec<String>)) {
    let mut lines = lab.lines();
    change(&mut lines);
    lab.put_lines(&lines);
}

#[test]
fn rewriting_one_event_names_it() {
    let lab = closed();
    edit(&lab, |lines| {
        assert!(lines[7].contains("\"detail\":\"6\""), "{}", lines[7]);
        lines[7] = lines[7].replace("\"detail\":\"6\"", "\"detail\":\"X\"");
    });
    assert_eq!(faults(&lab), [(8, Some(6), FaultKind::Changed)]);
}

#[test]
fn rewriting_the_number_names_it() {
    for other in [
        "1",
        "9",
        "7",
        "18446744073709551615",
        "99999999999999999999999",
    ] {
        let lab = closed();
        edit(&lab, |lines| {
            lines[7] = lines[7].replace("\"seq\":6", &format!("\"seq\":{other}"));
        });
        assert_eq!(faults(&lab), [(8, Some(6), FaultKind::Changed)], "{other}");
    }
}

#[test]
fn a_rewritten_chain_does_not_fit_the_signature() {
    // The chain has no key, so it can be recomputed: as another journal with the same session and
    // the same header, whose signatures are then put back.
    let lab = closed();
    let genuine = lab.lines();
    let other = Lab::new();
    let mut journal = other.create();
    for number in 1..=12 {
        let event = Event::OperatorActed {
            action: "note".to_owned(),
            by: "test".to_owned(),
            detail: if number == 6 {
                "forged".to_owned()
            } else {
                number.to_string()
            },
        };
        journal
            .append(
                stamp(number),
                "supervisor",
                None,
                None,
                &event,
                Durability::Written,
            )
            .unwrap();
        if number % 4 == 0 {
            journal.checkpoint(stamp(number)).unwrap();
        }
    }
    journal.finish(stamp(12)).unwrap();
    let mut forged = other.lines();
    assert_ne!(forged[0], genuine[0], "the header names the key");
    for index in [0, 5, 10, 15, 16] {
        forged[index].clone_from(&genuine[index]);
    }
    lab.put_lines(&forged);
    // Events 1 to 4 start from another header, and that is detected first.
    assert_eq!(faults(&lab)[0], (2, Some(1), FaultKind::Changed));
}

#[test]
fn deleting_events_names_them() {
    let lab = closed();
    edit(&lab, |lines| drop(lines.drain(7..=8)));
    assert_eq!(faults(&lab), [(8, Some(6), FaultKind::Missing)]);
    let lab = closed();
    edit(&lab, |lines| drop(lines.remove(9)));
    assert_eq!(
        faults(&lab),
        [(10, Some(8), FaultKind::Missing)],
        "the last before a signature"
    );
    let lab = closed();
    edit(&lab, |lines| drop(lines.drain(6..=10)));
    assert_eq!(
        faults(&lab),
        [(7, Some(5), FaultKind::Missing)],
        "with its signature"
    );
}

#[test]
fn deleting_a_signature_is_seen() {
    let lab = closed();
    edit(&lab, |lines| drop(lines.remove(10)));
    assert_eq!(faults(&lab), [(11, Some(9), FaultKind::Changed)]);
}

#[test]
fn dropping_the_beginning_is_seen() {
    let lab = closed();
    edit(&lab, |lines| drop(lines.remove(0)));
    assert_eq!(faults(&lab)[0], (1, None, FaultKind::Missing));
    let lab = closed();
    edit(&lab, |lines| drop(lines.drain(0..=2)));
    assert_eq!(
        faults(&lab),
        [
            (1, None, FaultKind::Missing),
            (1, Some(1), FaultKind::Missing)
        ]
    );
    let lab = closed();
    edit(&lab, |lines| drop(lines.drain(1..=3)));
    assert_eq!(faults(&lab), [(2, Some(1), FaultKind::Missing)]);
}

#[test]
fn reordering_names_what_moved() {
    let lab = closed();
    edit(&lab, |lines| lines.swap(7, 8));
    assert_eq!(faults(&lab), [(9, Some(6), FaultKind::Reordered)]);
    let lab = closed();
    edit(&lab, |lines| {
        let line = lines.remove(2);
        lines.insert(8, line);
    });
    assert_eq!(faults(&lab), [(9, Some(2), FaultKind::Reordered)]);
    let lab = closed();
    edit(&lab, |lines| lines.insert(8, lines[3].clone()));
    assert_eq!(
        faults(&lab),
        [(9, Some(3), FaultKind::Reordered)],
        "an event twice"
    );
    let lab = closed();
    edit(&lab, |lines| lines.insert(8, lines[5].clone()));
    assert_eq!(
        faults(&lab),
        [(9, Some(4), FaultKind::Reordered)],
        "a signature twice"
    );
}

#[test]
fn a_closed_journal_cannot_be_cut_back() {
    for keep in [0, 1, 3, 6, 11, 15, 16] {
        let lab = closed();
        edit(&lab, |lines| lines.truncate(keep));
        let found = faults(&lab);
        assert_eq!(found.len(), 1, "{keep}: {found:?}");
        assert_eq!(found[0].2, FaultKind::Missing, "{keep}");
    }
    let lab = closed();
    fs::remove_file(lab.journal_path()).unwrap();
    assert_eq!(faults(&lab), [(1, Some(1), FaultKind::Missing)]);
}

#[test]
fn a_journal_cut_with_its_head_file_is_never_intact() {
    for keep in 0..=16 {
        let lab = closed();
        fs::remove_file(lab.path().join(HEAD_FILE)).unwrap();
        edit(&lab, |lines| lines.truncate(keep));
        let (unsigned, _) = unfinished(&lab);
        assert!(unsigned <= 4, "{keep}: {unsigned}");
    }
    // Nothing is missing if only the copy of the end is.
    let lab = closed();
    fs::remove_file(lab.path().join(HEAD_FILE)).unwrap();
    assert!(check(&lab).is_intact());
}

#[test]
fn an_earlier_signature_is_no_end() {
    let lab = closed();
    let earlier = lab.lines()[10].clone();
    fs::write(lab.path().join(HEAD_FILE), format!("{earlier}\n")).unwrap();
    edit(&lab, |lines| lines.truncate(11));
    assert_eq!(faults(&lab), [(0, None, FaultKind::Changed)]);
}

#[test]
fn lines_after_the_end_are_unsigned() {
    for extra in ["", "{}", "garbage"] {
        let lab = closed();
        edit(&lab, |lines| {
            lines.extend([extra.to_owned(), extra.to_owned()]);
        });
        assert_eq!(faults(&lab), [(18, None, FaultKind::UnsignedTail)]);
    }
    let lab = closed();
    edit(&lab, |lines| lines.push(lines[12].clone()));
    assert_eq!(faults(&lab), [(18, None, FaultKind::UnsignedTail)]);
    let lab = closed();
    let mut bytes = fs::read(lab.journal_path()).unwrap();
    bytes.extend_from_slice(b"{\"chain");
    fs::write(lab.journal_path(), bytes).unwrap();
    assert_eq!(faults(&lab), [(18, None, FaultKind::TornTail)]);
}

#[test]
fn lines_that_are_not_ours_are_seen() {
    for line in [
        "",
        "garbage",
        "{\"chain\":\"\",\"event\":{}}",
        &"x".repeat(1_000_000),
    ] {
        let lab = closed();
        edit(&lab, |lines| lines.insert(8, line.to_owned()));
        let found = faults(&lab);
        assert_eq!(found, [(9, None, FaultKind::Changed)], "{line:.20}");
        let lab = closed();
        edit(&lab, |lines| lines[8] = line.to_owned());
        let found = faults(&lab);
        assert_eq!(
            found,
            [(9, None, FaultKind::Changed)],
            "in place: {line:.20}"
        );
    }
}

#[test]
fn two_sessions_cannot_be_swapped() {
    let lab = closed();
    let other: SessionId = "00000000000000aa".parse().unwrap();
    let dir = lab.path().join("other");
    fs::create_dir(&dir).unwrap();
    let mut journal = Journal::create(&dir, other.clone(), lab.key()).unwrap();
    let event = Event::OperatorActed {
        action: "note".to_owned(),
        by: "test".to_owned(),
        detail: "1".to_owned(),
    };
    journal
        .append(
            stamp(1),
            "supervisor",
            None,
            None,
            &event,
            Durability::Written,
        )
        .unwrap();
    journal.finish(stamp(1)).unwrap();
    let key = lab.key().verifying_key();
    assert!(
        verify(&dir, &other, &key).unwrap().is_intact(),
        "positive control"
    );

    let foreign = fs::read_to_string(dir.join("journal.jsonl")).unwrap();
    fs::copy(dir.join("journal.jsonl"), lab.journal_path()).unwrap();
    fs::copy(dir.join(HEAD_FILE), lab.path().join(HEAD_FILE)).unwrap();
    assert_eq!(faults(&lab)[0], (1, None, FaultKind::WrongSession));

    // One event of the other session in the middle of this one.
    let lab = closed();
    let record = foreign.lines().nth(1).unwrap().to_owned();
    edit(&lab, |lines| lines.insert(8, record));
    assert_eq!(faults(&lab), [(9, Some(1), FaultKind::Reordered)]);
}

#[test]
fn signing_again_with_another_key_is_seen() {
    let lab = closed();
    let thief = Lab::new();
    thief.fill(3, 2).finish(stamp(3)).unwrap();
    assert!(check(&thief).is_intact(), "positive control");
    fs::copy(thief.journal_path(), lab.journal_path()).unwrap();
    fs::copy(thief.path().join(HEAD_FILE), lab.path().join(HEAD_FILE)).unwrap();
    let found = faults(&lab);
    assert_eq!(found[0], (1, None, FaultKind::WrongKey), "{found:?}");

    // With the right key named everywhere, the signatures are invalid.
    let names = |lab: &Lab| lab.key().verifying_key().to_string();
    let (ours, theirs) = (names(&lab), names(&thief));
    edit(&lab, |lines| {
        for line in lines {
            *line = line.replace(&theirs, &ours);
        }
    });
    let found = faults(&lab);
    assert!(
        found.iter().any(|fault| fault.2 == FaultKind::BadSignature),
        "{found:?}"
    );
}

#[test]
fn a_killed_writer_leaves_an_unfinished_journal() {
    let lab = Lab::new();
    drop(lab.fill(10, 4));
    assert_eq!(unfinished(&lab), (2, 0));
    let result = check(&lab);
    assert_eq!((result.events, result.signed_events), (10, 8));
    assert_eq!(result.signed_time_unix_ns, Some(stamp(8).time_unix_ns));

    // A forged event with a good chain can follow the last signature, and counts as unsigned.
    let mut bytes = fs::read(lab.journal_path()).unwrap();
    bytes.truncate(bytes.len() - 7);
    let torn = bytes.len() - bytes.iter().rposition(|byte| *byte == b'\n').unwrap() - 1;
    fs::write(lab.journal_path(), bytes).unwrap();
    assert_eq!(unfinished(&lab), (1, u64::try_from(torn).unwrap()));
    let events: Vec<_> = read(lab.path()).unwrap().collect();
    assert_eq!(events.len(), 10, "nine events and the torn line");
    assert!(events[..9].iter().all(Result::is_ok));
    let error = events[9].as_ref().unwrap_err().to_string();
    assert!(error.contains("never finished"), "{error}");
}

#[test]
fn nothing_to_read_is_not_intact() {
    let lab = Lab::new();
    let key = lab.key().verifying_key();
    let error = verify(lab.path(), &session(), &key).unwrap_err();
    assert!(matches!(error, VerifyError::NoJournal { .. }), "{error}");
    fs::create_dir(lab.journal_path()).unwrap();
    let error = verify(lab.path(), &session(), &key).unwrap_err();
    assert!(matches!(error, VerifyError::Io { .. }), "{error}");
}

#[test]
fn files_are_private_and_never_replaced() {
    let lab = closed();
    for name in ["journal.jsonl", HEAD_FILE] {
        let mode = fs::metadata(lab.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o600, "{name}");
    }
    assert!(Journal::create(lab.path(), session(), lab.key()).is_err());
    assert!(check(&lab).is_intact());
    let lab = Lab::new();
    let target = lab.path().join("target");
    std::os::unix::fs::symlink(&target, lab.journal_path()).unwrap();
    assert!(Journal::create(lab.path(), session(), lab.key()).is_err());
    assert!(!target.exists());
}

#[test]
fn a_foreign_key_file_verifies_nothing() {
    let lab = closed();
    let thief = Lab::new();
    let key: SigningKey = thief.key();
    let result = verify(lab.path(), &session(), &key.verifying_key()).unwrap();
    assert!(result.is_broken());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn any_changed_byte_is_found(places in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..=255), 24)) {
        let lab = closed();
        let genuine = fs::read(lab.journal_path()).unwrap();
        for (place, change) in places {
            let mut bytes = genuine.clone();
            let at = place.index(bytes.len());
            bytes[at] ^= change;
            fs::write(lab.journal_path(), &bytes).unwrap();
            prop_assert!(check(&lab).is_broken(), "byte {at} changed by {change}");
        }
    }

    #[test]
    fn any_cut_out_piece_is_found(from in any::<prop::sample::Index>(), length in 1_usize..2_000) {
        let lab = closed();
        let mut bytes = fs::read(lab.journal_path()).unwrap();
        let start = from.index(bytes.len());
        let end = bytes.len().min(start + length);
        drop(bytes.drain(start..end));
        fs::write(lab.journal_path(), &bytes).unwrap();
        prop_assert!(check(&lab).is_broken());
        // Without the head file the journal may appear unfinished, but never intact.
        fs::remove_file(lab.path().join(HEAD_FILE)).unwrap();
        prop_assert!(!check(&lab).is_intact());
    }

    #[test]
    fn any_lines_in_any_order_never_panic_and_are_never_intact(
        order in prop::collection::vec(0_usize..17, 0..30),
    ) {
        let lab = closed();
        let genuine = lab.lines();
        let lines: Vec<String> = order.iter().map(|index| genuine[*index].clone()).collect();
        lab.put_lines(&lines);
        prop_assert_eq!(check(&lab).is_intact(), lines == genuine);
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..4_000)) {
        let lab = closed();
        fs::write(lab.journal_path(), &bytes).unwrap();
        prop_assert!(!check(&lab).is_intact());
        let read_back = read(lab.path()).unwrap().take(5_000).count();
        prop_assert!(read_back < 5_000, "the reader comes to an end");
    }
}

#[test]
fn every_byte_of_a_small_journal_and_of_its_head_counts() {
    let lab = Lab::new();
    lab.fill(1, 2).finish(stamp(1)).unwrap();
    for path in [lab.journal_path(), lab.path().join(HEAD_FILE)] {
        let genuine = fs::read(&path).unwrap();
        for at in 0..genuine.len() {
            let mut bytes = genuine.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert!(check(&lab).is_broken(), "byte {at} of {}", path.display());
        }
        fs::write(&path, genuine).unwrap();
        assert!(check(&lab).is_intact());
    }
}

#[test]
fn fuzz_journal() {
    let lab = closed();
    let original = fs::read(lab.journal_path()).unwrap();
    let lines = original.split_inclusive(|byte| *byte == b'\n');
    let mut samples: Vec<Vec<u8>> = vec![original.clone()];
    samples.push(lines.take(3).flatten().copied().collect());
    let target = Target {
        name: "journal",
        samples,
        words: &[
            b"\n",
            b"\"seq\":1",
            b"\"chain\":\"",
            b"null",
            b"\\ud800",
            b"1e999",
            b"[[[[[[",
            b"{\"v\":1",
            b"18446744073709551616",
        ],
        tries: 150,
    };
    let key = lab.key().verifying_key();
    stockade_fuzz::target(&target, |bytes| {
        fs::write(lab.journal_path(), bytes).unwrap();
        if let Ok(reader) = read(lab.path()) {
            assert!(reader.take(100_000).count() < 100_000, "it does not end");
        }
        let verification = verify(lab.path(), &session(), &key);
        let is_intact = verification.is_ok_and(|found| found.is_intact());
        assert_eq!(
            is_intact,
            bytes == original,
            "only what was written is intact"
        );
    });
}
