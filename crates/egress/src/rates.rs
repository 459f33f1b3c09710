//! How many requests may leave in a minute, by each rule that says so.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use stockade_policy::{Control, Decision, RequestsMax, RuleName};

/// What a bound is for.
const MINUTE: Duration = Duration::from_mins(1);

/// When the requests of the last minute left, by each rule with `requests_per_minute_max`, in the whole
/// session. Each time is kept, so that no minute has more than the rule says, wherever it begins;
/// policy bounds how many there are.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<BTreeMap<RuleName, VecDeque<Instant>>>);

/// Why a request must not leave now.
#[derive(Debug)]
pub(crate) struct TooMany {
    /// The refusal.
    pub(crate) decision: Box<Decision>,
    /// When it may.
    pub(crate) wait: Duration,
}

impl Rates {
    /// Counts a request by all of `limits`, or by none of them.
    pub(crate) fn take(&self, limits: &[RequestsMax]) -> Result<(), TooMany> {
        self.take_at(limits, Instant::now())
    }

    fn take_at(&self, limits: &[RequestsMax], now: Instant) -> Result<(), TooMany> {
        if limits.is_empty() {
            return Ok(());
        }
        let mut rates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for limit in limits {
            let left = rates.entry(limit.rule.clone()).or_default();
            while left.front().is_some_and(|at| now - *at >= MINUTE) {
                left.pop_front();
            }
            let most = usize::try_from(limit.per_minute).unwrap_or(usize::MAX);
            if left.len() >= most {
                let first = left.front().map_or(Duration::ZERO, |at| now - *at);
                return Err(too_many(limit, MINUTE.saturating_sub(first)));
            }
        }
        for limit in limits {
            rates.entry(limit.rule.clone()).or_default().push_back(now);
        }
        Ok(())
    }
}

fn too_many(limit: &RequestsMax, wait: Duration) -> TooMany {
    let RequestsMax { rule, per_minute } = limit;
    let id = &rule.id;
    let requests = if *per_minute == 1 {
        "request"
    } else {
        "requests"
    };
    let reason = format!("at most {per_minute} {requests} a minute may leave by the rule `{id}`");
    let remedy = format!("send fewer, or raise `requests_per_minute_max` of the rule `{id}`");
    let mut decision = Control::RequestsMax.denies(reason, &remedy);
    decision.rules.push(rule.clone());
    TooMany {
        decision: Box::new(decision),
        wait,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use stockade_policy::{Origin, RequestsMax, RuleName};

    use super::Rates;

    fn limit(rule: &str, per_minute: u32) -> RequestsMax {
        RequestsMax {
            rule: RuleName {
                id: rule.parse().unwrap(),
                origin: Origin::User,
            },
            per_minute,
        }
    }

    /// Whichever minute is looked at, no more left in it; and what may leave later is told exactly.
    #[test]
    fn no_minute_has_more_than_a_rule_says() {
        let (rates, start) = (Rates::default(), Instant::now());
        let at = |millis: u64| start + Duration::from_millis(millis);
        let limits = [limit("a", 3)];
        let mut left = Vec::new();
        for millis in (0..300_000).step_by(7_000) {
            match rates.take_at(&limits, at(millis)) {
                Ok(()) => left.push(millis),
                Err(refused) => {
                    let then = at(millis) + refused.wait;
                    let earlier = then.checked_sub(Duration::from_millis(1)).unwrap();
                    assert!(rates.take_at(&limits, earlier).is_err(), "{millis}");
                }
            }
        }
        assert!(left.len() >= 13, "{left:?}");
        for first in &left {
            let within = left
                .iter()
                .filter(|at| (*first..first + 60_000).contains(*at));
            assert!(within.count() <= 3, "{left:?}");
        }
    }

    /// What one rule refuses is counted by no other.
    #[test]
    fn a_refused_request_does_not_count() {
        let (rates, now) = (Rates::default(), Instant::now());
        let both = [limit("narrow", 1), limit("wide", 2)];
        assert!(rates.take_at(&both, now).is_ok());
        let refused = rates.take_at(&both, now).unwrap_err();
        assert!(
            refused
                .decision
                .reason
                .contains("at most 1 request a minute"),
            "{refused:?}"
        );
        assert_eq!(refused.wait, Duration::from_mins(1));
        assert!(rates.take_at(&[limit("wide", 2)], now).is_ok());
        assert!(rates.take_at(&[limit("wide", 2)], now).is_err());
        assert!(rates.take_at(&[], now).is_ok());
        // Nor by one of another layer that has the same id.
        let mut other = limit("wide", 2);
        other.rule.origin = Origin::Organisation;
        assert!(rates.take_at(&[other], now).is_ok());
    }
}
