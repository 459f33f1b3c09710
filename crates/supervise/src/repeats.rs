//! Repeated refusals: some have an event of their own, and the rest is counted and recorded once a
//! second, so that a program that only causes refusals does not fill the disk.

#![deny(clippy::wildcard_enum_match_arm)]

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
};

use stockade_event::Event;
use stockade_types::{DecisionId, DecisionRecord};

/// Equal refusals that get an event of their own before the rest is recorded: more than a person or
/// an agent tries in a second, and few enough for the disk.
const EVENTS_MAX: u32 = 32;
/// Different refusals that are tracked, about 100 bytes each; past this all counts are recorded,
/// and counting restarts.
const KEYS_MAX: usize = 4096;

/// Tracks the refusals of a session.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    seen: HashMap<u64, Seen>,
    /// Repeats that are only counted, by the refusal that has its event.
    again: HashMap<DecisionId, u64>,
    /// Drawn at random, so that no process inside can find two refusals with the same hash.
    hasher: RandomState,
}

#[derive(Debug)]
struct Seen {
    events: u32,
    /// The last refusal that has an event.
    decision: DecisionId,
    /// The refusals after it.
    counted: u64,
}

impl Repeats {
    /// Notes a refusal; `true` if it needs an event of its own, otherwise it is counted here.
    pub(crate) fn needs_event(&mut self, event: &Event, decision: &DecisionRecord) -> bool {
        let key = self.key(event, decision);
        let id = decision.decision;
        let seen = self.seen.entry(key).or_insert(Seen {
            events: 0,
            decision: id,
            counted: 0,
        });
        if seen.events < EVENTS_MAX {
            seen.events += 1;
            seen.decision = id;
            return true;
        }
        seen.counted += 1;
        false
    }

    /// Counts one more refusal like one that has an event.
    pub(crate) fn again(&mut self, decision: DecisionId) {
        *self.again.entry(decision).or_default() += 1;
    }

    /// Whether the table is full, so that [`Self::told`] must be called now.
    pub(crate) fn is_full(&self) -> bool {
        self.seen.len() >= KEYS_MAX
    }

    /// Returns the events of all counts, and resets them.
    pub(crate) fn told(&mut self) -> Vec<Event> {
        let counted = self.seen.drain().filter(|(_, seen)| seen.counted > 0);
        let mut events: Vec<(DecisionId, u64)> = counted
            .map(|(_, seen)| (seen.decision, seen.counted))
            .chain(self.again.drain())
            .collect();
        events.sort_unstable_by_key(|(decision, _)| decision.get());
        events
            .into_iter()
            .map(|(decision, count)| Event::RefusalRepeated { decision, count })
            .collect()
    }

    /// The hash of a refusal without its number and its time.
    fn key(&self, event: &Event, decision: &DecisionRecord) -> u64 {
        let beside = if let Event::ConnectionDecided {
            address,
            sni,
            detail,
            ..
        } = event
        {
            Some((address, sni, detail))
        } else {
            None
        };
        let target = &decision.target;
        let place = (
            &target.host,
            target.port,
            &target.method,
            &target.path,
            &target.raw_path,
            &target.argv,
            &target.cwd,
            &target.access,
        );
        let why = (&decision.rule, &decision.reason, &decision.failed_condition);
        self.hasher
            .hash_one((event.kind(), beside, decision.subject.id, place, why))
    }
}

#[cfg(test)]
mod tests {
    use stockade_event::Event;
    use stockade_types::{
        DecisionId, DecisionRecord, Digest, RequestKind, SessionId, Subject, Target, UnixMillis,
        Verdict,
    };

    use super::Repeats;

    fn refusal(number: u64, path: &str) -> DecisionRecord {
        DecisionRecord {
            decision: DecisionId::new(number),
            verdict: Verdict::Deny,
            kind: RequestKind::File,
            subject: Subject::default(),
            target: Target {
                path: Some(path.into()),
                ..Target::default()
            },
            rule: None,
            answered: None,
            reason: String::new(),
            failed_condition: None,
            nearest_allow: None,
            remedy: String::new(),
            policy_revision: Digest::of(b""),
            session: SessionId::from_random(1),
            time: UnixMillis(number),
        }
    }

    fn needs_event(repeats: &mut Repeats, number: u64, path: &str) -> bool {
        let decision = refusal(number, path);
        let event = Event::FileDenied {
            decision: decision.clone(),
        };
        repeats.needs_event(&event, &decision)
    }

    #[test]
    fn a_flood_is_counted_and_nothing_is_without_event_or_count() {
        let mut repeats = Repeats::default();
        let mut events = 0;
        for number in 1..=10_000 {
            let path = if number % 2 == 0 { "/w/a" } else { "/w/b" };
            if needs_event(&mut repeats, number, path) {
                events += 1;
            }
        }
        assert_eq!(events, 64);
        let told = repeats.told();
        let counted: u64 = told
            .iter()
            .map(|event| {
                let Event::RefusalRepeated { decision, count } = event else {
                    panic!("{event:?}");
                };
                assert!([63, 64].contains(&decision.get()), "{decision}");
                *count
            })
            .sum();
        assert_eq!((told.len(), events + counted), (2, 10_000));
        assert!(repeats.told().is_empty());
    }

    #[test]
    fn what_comes_slowly_has_its_events() {
        let mut repeats = Repeats::default();
        for number in 0..1_000 {
            assert!(needs_event(&mut repeats, number, "/w/a"), "{number}");
            if number % 20 == 0 {
                assert!(repeats.told().is_empty());
            }
        }
    }
}
