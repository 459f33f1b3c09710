//! A journal that is checked as its bytes arrive.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fs;

use proptest::{prelude::*, sample::Index};
use stockade_journal::{
    Checker, CheckerState, Journal, ResumeError, Verification,
    layout::{HEAD_FILE, JOURNAL_FILE},
    verify,
};

use crate::common::{Lab, session, stamp};

/// What someone did to the bytes of a journal.
#[derive(Clone, Debug)]
enum Change {
    Nothing,
    Flip(Index),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    Twice(Index, usize),
    End(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>();
    // Lines at and around the longest that is read as one.
    let long = prop_oneof![
        Just(66_559_usize),
        Just(66_560),
        Just(66_561),
        Just(200_000),
        1..100_usize
    ];
    prop_oneof![
        Just(Change::Nothing),
        any::<Index>().prop_map(Change::Flip),
        (any::<Index>(), 1..400_usize).prop_map(|(at, count)| Change::Remove(at, count)),
        (any::<Index>(), long, any::<bool>()).prop_map(|(at, count, ends)| {
            let mut bytes = vec![b'x'; count];
            bytes.extend(ends.then_some(b'\n'));
            Change::Insert(at, bytes)
        }),
        (any::<Index>(), 1..600_usize).prop_map(|(at, count)| Change::Twice(at, count)),
        at.prop_map(Change::End),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    match change {
        Change::Nothing => {}
        Change::Flip(at) => {
            let at = at.index(bytes.len());
            bytes[at] ^= 1;
        }
        Change::Remove(at, count) => {
            let at = at.index(bytes.len());
            let end = (at + count).min(bytes.len());
            drop(bytes.drain(at..end));
        }
        Change::Insert(at, new) => {
            let at = at.index(bytes.len());
            drop(bytes.splice(at..at, new.iter().copied()));
        }
        Change::Twice(at, count) => {
            let at = at.index(bytes.len());
            let end = (at + count).min(bytes.len());
            bytes.extend_from_within(at..end);
        }
        Change::End(at) => bytes.truncate(at.index(bytes.len())),
    }
}

/// Feeds `bytes` in the pieces between `cuts`; after each it goes on from its stored state.
fn in_pieces(lab: &Lab, bytes: &[u8], cuts: &[usize], head: Option<&[u8]>) -> Verification {
    let mut checker = Checker::new(session(), lab.key().verifying_key());
    let mut at = 0;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        checker.feed(&bytes[at..cut]);
        at = cut;
        assert_eq!(checker.fed(), u64::try_from(at).unwrap());
        let line_end = bytes[..at].iter().rposition(|byte| *byte == b'\n');
        let position = line_end.map_or(0, |end| end + 1);
        assert_eq!(checker.position().bytes(), u64::try_from(position).unwrap());
        let stored = serde_json::to_string(&checker.state()).unwrap();
        checker = Checker::resume(serde_json::from_str(&stored).unwrap()).unwrap();
    }
    checker.finish(head, 0)
}

fn journal(closed: bool) -> (Lab, Vec<u8>, Option<Vec<u8>>) {
    let lab = Lab::new();
    let journal: Journal = lab.fill(12, 4);
    if closed {
        journal.finish(stamp(12)).unwrap();
    } else {
        drop(journal);
    }
    let bytes = fs::read(lab.journal_path()).unwrap();
    let head = fs::read(lab.path().join(HEAD_FILE)).ok();
    (lab, bytes, head)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn any_pieces_give_the_verdict_of_the_whole(
        closed in any::<bool>(),
        changes in prop::collection::vec(change(), 0..3),
        cuts in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        let (lab, mut bytes, head) = journal(closed);
        for change in &changes {
            apply(&mut bytes, change);
        }
        fs::write(lab.path().join(JOURNAL_FILE), &bytes).unwrap();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let whole = verify(lab.path(), &session(), &lab.key().verifying_key()).unwrap();
        prop_assert_eq!(in_pieces(&lab, &bytes, &cuts, head.as_deref()), whole);
    }
}

#[test]
fn byte_by_byte_is_as_good_as_at_once() {
    let (lab, bytes, head) = journal(true);
    let cuts: Vec<usize> = (0..bytes.len()).collect();
    let verdict = in_pieces(&lab, &bytes, &cuts, head.as_deref());
    assert!(verdict.is_intact(), "{verdict:?}");
    let mut changed = bytes;
    let at = changed.iter().rposition(|byte| *byte == b'7').unwrap();
    changed[at] = b'8';
    let verdict = in_pieces(&lab, &changed, &cuts, head.as_deref());
    assert!(verdict.is_broken(), "{verdict:?}");
}

#[test]
fn what_is_wrong_is_known_while_it_comes() {
    let (lab, bytes, _) = journal(false);
    let mut checker = Checker::new(session(), lab.key().verifying_key());
    checker.feed(&bytes);
    assert!(!checker.is_broken() && checker.faults().is_empty());
    let so_far = checker.so_far();
    assert_eq!(
        (so_far.events, so_far.signed, so_far.is_closed),
        (12, 12, false)
    );
    checker.feed(b"{\"chain\":\"\"}\n");
    assert!(checker.is_broken());
    assert_eq!(checker.faults().len(), 1);
}

#[test]
fn a_line_without_an_end_takes_no_memory() {
    let (lab, bytes, _) = journal(false);
    let mut checker = Checker::new(session(), lab.key().verifying_key());
    checker.feed(&bytes);
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..64 {
        checker.feed(&piece);
    }
    let stored = serde_json::to_string(&checker.state()).unwrap();
    assert!(stored.len() < 4096, "{}", stored.len());
    checker.feed(b"\n");
    assert_eq!(checker.faults().len(), 1);
}

#[test]
fn a_state_that_is_not_whole_is_refused() {
    let (lab, bytes, _) = journal(false);
    let mut checker = Checker::new(session(), lab.key().verifying_key());
    checker.feed(&bytes[..bytes.len() - 3]);
    let value = serde_json::to_value(checker.state()).unwrap();
    let resume = |value: serde_json::Value| {
        let state: CheckerState = serde_json::from_value(value).unwrap();
        Checker::resume(state).map(drop)
    };
    assert_eq!(resume(value.clone()), Ok(()));
    for (name, other, error) in [
        ("version", 2.into(), ResumeError::Version(2)),
        ("tail", "AA==".into(), ResumeError::Damaged),
        ("tail", "?".into(), ResumeError::Damaged),
        ("fed", 0.into(), ResumeError::Damaged),
    ] {
        let mut changed = value.clone();
        changed[name] = other;
        assert_eq!(resume(changed), Err(error), "{name}");
    }
    let mut more = value;
    more["extra"] = 1.into();
    assert!(serde_json::from_value::<CheckerState>(more).is_err());
}
