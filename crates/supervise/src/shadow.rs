//! The candidate of a rollout, compared with the policy that decides. It decides nothing.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use stockade_event::{Event, ShadowCounts};
use stockade_policy::{Approvals, Decision, Policy, Request};
use stockade_types::{DecisionId, Verdict};

/// Differences with an event of their own in one session; all are counted.
const DIFFERENCES_MAX: u64 = 1_000;

/// Compares, if there is a candidate.
#[derive(Debug, Default)]
pub(crate) struct Shadow(OnceLock<Compared>);

#[derive(Debug)]
struct Compared {
    own: Arc<Policy>,
    candidate: Policy,
    decisions: AtomicU64,
    differed: AtomicU64,
    denied: AtomicU64,
    candidate_denied: AtomicU64,
    asked: AtomicU64,
    candidate_asked: AtomicU64,
}

impl Shadow {
    /// Begins to compare; `false` if it does so already.
    pub(crate) fn begin(&self, own: Arc<Policy>, candidate: Policy) -> bool {
        let new = Compared {
            own,
            candidate,
            decisions: AtomicU64::default(),
            differed: AtomicU64::default(),
            denied: AtomicU64::default(),
            candidate_denied: AtomicU64::default(),
            asked: AtomicU64::default(),
            candidate_asked: AtomicU64::default(),
        };
        self.0.set(new).is_ok()
    }

    /// Tells whether there is a candidate.
    pub(crate) fn compares(&self) -> bool {
        self.0.get().is_some()
    }

    /// Compares one decision; returns the event of a difference. A question is compared once: when it is
    /// settled.
    pub(crate) fn seen(
        &self,
        number: DecisionId,
        request: &Request,
        settled: &Decision,
    ) -> Option<Event> {
        let all = self.0.get()?;
        if settled.verdict == Verdict::Ask {
            return None;
        }
        // Without the answers of people, which were given for one of the two.
        let none = Approvals::none();
        let own = all.own.decide(request, &none);
        let candidate = all.candidate.decide(request, &none);
        let one = |counter: &AtomicU64, counts: bool| {
            counter.fetch_add(u64::from(counts), Ordering::Relaxed)
        };
        one(&all.decisions, true);
        one(&all.denied, own.verdict == Verdict::Deny);
        one(&all.candidate_denied, candidate.verdict == Verdict::Deny);
        one(&all.asked, own.verdict == Verdict::Ask);
        one(&all.candidate_asked, candidate.verdict == Verdict::Ask);
        let differs = own.verdict != candidate.verdict || own.rule != candidate.rule;
        let before = one(&all.differed, differs);
        (differs && before < DIFFERENCES_MAX).then_some(Event::PolicyDiffered {
            decision: number,
            verdict: own.verdict,
            rule: own.rule,
            candidate_verdict: candidate.verdict,
            candidate_rule: candidate.rule,
        })
    }

    /// Returns the numbers so far; `None` if nothing is compared.
    pub(crate) fn counts(&self) -> Option<ShadowCounts> {
        let all = self.0.get()?;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Some(ShadowCounts {
            compared: of(&all.decisions),
            differed: of(&all.differed),
            denied: of(&all.denied),
            candidate_denied: of(&all.candidate_denied),
            asked: of(&all.asked),
            candidate_asked: of(&all.candidate_asked),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{hint::black_box, sync::Arc, time::Instant};

    use stockade_event::Event;
    use stockade_policy::{
        Approvals, HostSets, NetRequest, Origin, Policy, Request, Source, builtin, load,
    };
    use stockade_types::{DecisionId, Port, Subject, Verdict};

    use super::{DIFFERENCES_MAX, Shadow};

    fn policy(host: &str) -> Policy {
        let source = |origin, name: &str, text: String| Source {
            origin,
            name: name.to_owned(),
            text,
        };
        let text =
            format!("schema = 1\n[[allow]]\nid = \"one\"\nwhat = \"net\"\nhosts = [\"{host}\"]\n");
        let preset = builtin("generic").unwrap_or_default().to_owned();
        let sources = [
            source(Origin::Builtin, "generic", preset),
            source(Origin::Organisation, "org.toml", text),
        ];
        load(&sources, &HostSets::default()).unwrap()
    }

    fn request(host: &str) -> Request {
        Request::Net(NetRequest {
            host: host.parse().unwrap(),
            port: Port::new(443).unwrap(),
            subject: Subject::default(),
        })
    }

    #[test]
    fn what_the_candidate_would_say_is_counted_and_decides_nothing() {
        let own = Arc::new(policy("a.test"));
        let shadow = Shadow::default();
        let (a, b) = (request("a.test"), request("b.test"));
        let settled = own.decide(&a, &Approvals::none());
        assert!(
            shadow.seen(DecisionId::new(1), &a, &settled).is_none(),
            "there is none"
        );
        assert!(shadow.begin(Arc::clone(&own), policy("b.test")));
        let event = shadow.seen(DecisionId::new(1), &a, &settled).unwrap();
        let Event::PolicyDiffered {
            verdict,
            candidate_verdict,
            ..
        } = event
        else {
            panic!("{event:?}");
        };
        assert_eq!(verdict, Verdict::Allow);
        assert_ne!(candidate_verdict, Verdict::Allow);
        // It asks, and the answer was no.
        let asked = own.decide(&b, &Approvals::none());
        assert!(shadow.seen(DecisionId::new(2), &b, &asked).is_none());
        let denied = stockade_policy::Decision {
            verdict: Verdict::Deny,
            ..asked
        };
        assert!(shadow.seen(DecisionId::new(2), &b, &denied).is_some());
        let counts = shadow.counts().unwrap();
        assert_eq!((counts.compared, counts.differed), (2, 2));
        // Floods are counted, and have no more events.
        let events = (0..DIFFERENCES_MAX * 2)
            .filter(|_| shadow.seen(DecisionId::new(3), &a, &settled).is_some())
            .count();
        assert_eq!(u64::try_from(events).unwrap(), DIFFERENCES_MAX - 2);
        assert_eq!(shadow.counts().unwrap().compared, DIFFERENCES_MAX * 2 + 2);
        // It is cheap: two decisions more.
        let begun = Instant::now();
        for _ in 0..2_000 {
            black_box(shadow.seen(DecisionId::new(4), black_box(&a), &settled));
        }
        let each = begun.elapsed() / 2_000;
        assert!(
            each.as_micros() < 2_000,
            "{each:?} for one, without optimisation"
        );
    }

    #[test]
    fn policies_that_agree_are_compared_in_silence() {
        let own = Arc::new(policy("a.test"));
        let shadow = Shadow::default();
        assert!(shadow.begin(Arc::clone(&own), policy("a.test")));
        let a = request("a.test");
        let settled = own.decide(&a, &Approvals::none());
        assert!(shadow.seen(DecisionId::new(1), &a, &settled).is_none());
        let counts = shadow.counts().unwrap();
        assert_eq!((counts.compared, counts.differed), (1, 0));
    }
}
