//! What the egress process lets happen reaches the journal in order, or is found beside it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{fs::File, io::Write as _};

use stockade_event::{
    Durability, Event,
    spool::{Lease, entry},
};
use stockade_journal::{
    Entry, Journal, SinkError, Spool, VerificationVerdict,
    layout::{LOCK_FILE, SPOOL_FILE},
    read, verify,
};
use stockade_types::Verdict;

use crate::common::{Lab, decision, session, stamp};

/// Numbers 10 to 13.
const LEASE: Lease = Lease {
    first: 10,
    count: 4,
};

fn allowed(number: u64) -> Event {
    decided(number, Verdict::Allow)
}

fn decided(number: u64, verdict: Verdict) -> Event {
    Event::HttpDecided {
        decision: decision(&"/".into(), number, verdict),
    }
}

fn append(writer: &mut File, event: &Event) {
    writer.write_all(&entry(event).unwrap()).unwrap();
}

fn journal(journal: &mut Journal, events: &[Event]) -> Result<(), SinkError> {
    let entries: Vec<Entry<'_>> = events
        .iter()
        .map(|event| Entry {
            process: None,
            scope: None,
            cause: None,
            event,
        })
        .collect();
    journal
        .append_all(stamp(1), "egress", &entries, Durability::Written)
        .map(drop)
        .map_err(SinkError::Journal)
}

/// The numbers of the decisions that a reader gets, with those of their events.
fn numbers(lab: &Lab) -> Vec<(u64, u64)> {
    read(lab.path())
        .unwrap()
        .map(|envelope| {
            let envelope = envelope.unwrap();
            (
                envelope.seq,
                envelope.event.decision().unwrap().decision.get(),
            )
        })
        .collect()
}

#[test]
fn what_was_not_taken_in_is_found_once_the_supervisor_is_gone() {
    let lab = Lab::new();
    let lock = File::create(lab.path().join(LOCK_FILE)).unwrap();
    lock.lock().unwrap();
    let mut own = lab.create();
    let (spool, mut writer) = Spool::create(lab.path()).unwrap();
    spool.renew(Some(LEASE), |_| Ok(())).unwrap();
    append(&mut writer, &allowed(10));
    append(&mut writer, &allowed(11));
    spool.take_in(|events| journal(&mut own, events)).unwrap();
    spool.take_in(|_| panic!("nothing is new")).unwrap();
    append(&mut writer, &allowed(12));
    let torn = entry(&allowed(13)).unwrap();
    writer.write_all(&torn[..torn.len() - 1]).unwrap();
    let key = lab.key().verifying_key();
    let left = || match verify(lab.path(), &session(), &key).unwrap().verdict {
        VerificationVerdict::Unfinished { left_events, .. } => left_events,
        other => panic!("{other:?}"),
    };
    // It may be taken in at any moment.
    assert_eq!(numbers(&lab), [(1, 10), (2, 11)]);
    assert_eq!(left(), 0);
    drop((own, lock));
    assert_eq!(numbers(&lab), [(1, 10), (2, 11), (3, 12)]);
    assert_eq!(left(), 1);
}

#[test]
fn a_new_lease_empties_the_file_and_a_closed_journal_has_all_of_it() {
    let lab = Lab::new();
    let mut own = lab.create();
    let (spool, mut writer) = Spool::create(lab.path()).unwrap();
    for first in 10..13 {
        let lease = Lease { first, count: 1 };
        let granted = spool.renew(Some(lease), |events| journal(&mut own, events));
        assert_eq!(granted.unwrap(), Some(lease));
        assert_eq!(lab.path().join(SPOOL_FILE).metadata().unwrap().len(), 0);
        append(&mut writer, &allowed(first));
    }
    spool.take_in(|events| journal(&mut own, events)).unwrap();
    own.finish(stamp(2)).unwrap();
    assert_eq!(numbers(&lab), [(1, 10), (2, 11), (3, 12)]);
    let verified = verify(lab.path(), &session(), &lab.key().verifying_key());
    assert!(verified.unwrap().is_intact());
}

/// After half an entry nothing could be told apart, so the egress process has to ask again.
#[test]
fn nothing_is_granted_behind_half_an_entry() {
    let lab = Lab::new();
    let (spool, mut writer) = Spool::create(lab.path()).unwrap();
    spool.renew(Some(LEASE), |_| Ok(())).unwrap();
    let bytes = entry(&allowed(10)).unwrap();
    writer.write_all(&bytes[..bytes.len() / 2]).unwrap();
    let again = spool.renew(Some(LEASE), |_| panic!("nothing is whole"));
    assert_eq!(again.unwrap(), None);
}

#[test]
fn what_needs_an_answer_does_not_pass_as_one_that_needs_none() {
    let other = Event::EventsLost {
        source: "test".to_owned(),
        count: 1,
        reason: String::new(),
    };
    for (event, lease) in [
        (decided(10, Verdict::Deny), Some(LEASE)),
        (decided(10, Verdict::Ask), Some(LEASE)),
        (allowed(9), Some(LEASE)),
        (allowed(14), Some(LEASE)),
        (allowed(10), None),
        (other, Some(LEASE)),
    ] {
        let lab = Lab::new();
        let (spool, mut writer) = Spool::create(lab.path()).unwrap();
        spool.renew(lease, |_| Ok(())).unwrap();
        append(&mut writer, &event);
        let taken = spool.take_in(|_| panic!("nothing of it counts"));
        assert!(matches!(taken, Err(SinkError::Spool(_))), "{event:?}");
    }
}
