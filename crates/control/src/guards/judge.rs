//! What the controller of a rollout does next, from what was seen of a step. Pure: numbers in, a decision
//! out.
//!
//! The candidate's arm is compared with the control arm of the same bundle and time. In shadow both arms are
//! the same sessions: what the candidate would have said against what was said. If a guard is hit, the
//! rollout is halted; if there is too little to see by, it is held. It never goes on without data.

use serde::Serialize;
use stockade_trust::{PlanStep, StepKind};

use super::statistics::{Comparison, Sums};

/// How sure a guard has to be once there is enough to see by: 95 %.
const ALPHA: f64 = 0.05;
/// How sure before that: the controller looks often, and by few numbers.
const EARLY_ALPHA: f64 = 0.001;
/// Effective hits without which no guard is hit.
const HITS_MIN: f64 = 3.0;
/// Sessions of the candidate without which no ratio hits a guard: how much they differ is not known before.
const SESSIONS_MIN: f64 = 5.0;
/// The standard error of the logarithm of the ratio of denials at which a ratio of 2 is seen to be above 1.5
/// in 95 % of cases: (ln 2 - ln 1.5) / (2 * 1.645), and a tenth less, because the design effect is estimated.
const ERROR_MAX: f64 = 0.078;
/// By how much the candidate may deny and ask more often, and sessions fail to start.
const DENIALS_RATIO_MAX: f64 = 1.5;
const ASKS_RATIO_MAX: f64 = 1.5;
const STARTS_RATIO_MAX: f64 = 1.2;
/// Machines that cannot use the candidate.
const FAILED_MAX: u64 = 1;
/// People who have reported a refusal of the candidate as wrong.
const REPORTS_MAX: u64 = 3;

/// What was seen of one arm.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ArmSeen {
    /// Denials of decisions.
    pub denials: Sums,
    /// Questions of hours of sessions.
    pub asks: Sums,
    /// Sessions that did not start, of sessions.
    pub not_started: Sums,
}

/// What was seen of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// How long the step lasts, in milliseconds.
    pub elapsed_ms: u64,
    /// Machines that could not use the bundle.
    pub failed: u64,
    /// People who reported a refusal.
    pub reports: u64,
    /// Sessions under the candidate, or that compare it.
    pub candidate: ArmSeen,
    /// Sessions under the policy in force.
    pub control: ArmSeen,
}

/// One guard: two arms and what was made of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Guard {
    /// What is counted, of what.
    pub name: &'static str,
    /// Hits and base of the candidate.
    pub candidate: (f64, f64),
    /// Hits and base of the control arm; `None` if it has none.
    pub control: Option<(f64, f64)>,
    /// The ratio of the rates.
    pub ratio: Option<f64>,
    /// Above this it is, with 95 %.
    pub lower: Option<f64>,
    /// Below this it is, with 95 %.
    pub upper: Option<f64>,
    /// What it must not be above.
    pub threshold: f64,
    /// Whether it is.
    pub hit: bool,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "next", rename_all = "lowercase")]
pub enum Next {
    /// Nothing: there is too little to see by.
    Hold {
        /// What is missing.
        why: String,
    },
    /// The next step.
    Advance,
    /// Back to step 0.
    Halt {
        /// Which guard was hit.
        why: String,
    },
}

/// Says what comes next in a step.
pub(crate) fn next(step: &PlanStep, seen: &Seen) -> Next {
    let missing = missing(step, seen);
    let watched = watched(seen, missing.is_none());
    match (watched.iter().find(|watched| watched.is_hit()), missing) {
        (Some(hit), _) => Next::Halt {
            why: hit.shown().words(),
        },
        (None, Some(why)) => Next::Hold { why },
        (None, None) if may_be_twice(seen) => Next::Hold {
            why: "the candidate may still deny twice as much".to_owned(),
        },
        (None, None) => Next::Advance,
    }
}

/// Tells whether a step has the least sample.
#[cfg(test)]
pub(super) fn has_enough(step: &PlanStep, seen: &Seen) -> bool {
    missing(step, seen).is_none()
}

/// Tells whether a ratio of denials of 2 is not excluded. The least sample is an estimate of how much is
/// needed for that; sessions that differ more than those before need more.
fn may_be_twice(seen: &Seen) -> bool {
    let denials = (&seen.candidate.denials, &seen.control.denials);
    Comparison::of(denials.0, denials.1)
        .is_some_and(|both| both.control > 0.0 && !both.is_below(2.0, ALPHA))
}

/// Returns the guards of a step as people see them.
pub(crate) fn guards(step: &PlanStep, seen: &Seen) -> Vec<Guard> {
    let is_enough = missing(step, seen).is_none();
    watched(seen, is_enough)
        .iter()
        .map(Watched::shown)
        .collect()
}

/// What a guard looks at.
enum Watched<'a> {
    /// A number that must stay below another one.
    Count(&'static str, u64, u64),
    /// The rates of two arms, the ratio of which must not be above a number, and how sure that has to be.
    Rates(&'static str, [&'a Sums; 2], f64, f64),
}

fn watched(seen: &Seen, is_enough: bool) -> [Watched<'_>; 5] {
    let (candidate, control) = (&seen.candidate, &seen.control);
    // How much is enough is said of denials alone.
    let alpha = if is_enough { ALPHA } else { EARLY_ALPHA };
    [
        Watched::Count("machines that cannot use it", seen.failed, FAILED_MAX),
        Watched::Count("people who reported a refusal", seen.reports, REPORTS_MAX),
        Watched::Rates(
            "denials of decisions",
            [&candidate.denials, &control.denials],
            DENIALS_RATIO_MAX,
            alpha,
        ),
        Watched::Rates(
            "questions of agent-hours",
            [&candidate.asks, &control.asks],
            ASKS_RATIO_MAX,
            EARLY_ALPHA,
        ),
        Watched::Rates(
            "sessions that did not start",
            [&candidate.not_started, &control.not_started],
            STARTS_RATIO_MAX,
            EARLY_ALPHA,
        ),
    ]
}

impl Watched<'_> {
    fn is_hit(&self) -> bool {
        match *self {
            Self::Count(_, count, most) => count >= most,
            Self::Rates(_, [candidate, control], threshold, alpha) => {
                Comparison::of(candidate, control).is_some_and(|both| {
                    candidate.sessions >= SESSIONS_MIN
                        && both.candidate >= HITS_MIN
                        && both.exceeds(threshold, alpha)
                })
            }
        }
    }

    fn shown(&self) -> Guard {
        let hit = self.is_hit();
        match *self {
            Self::Count(name, count, most) => Guard {
                name,
                candidate: (real(count), 0.0),
                control: None,
                ratio: None,
                lower: None,
                upper: None,
                threshold: real(most),
                hit,
            },
            Self::Rates(name, [candidate, control], threshold, _) => {
                let both = Comparison::of(candidate, control);
                Guard {
                    name,
                    candidate: (candidate.hits, candidate.base),
                    control: Some((control.hits, control.base)),
                    ratio: both.and_then(|both| both.ratio()),
                    lower: both.map(|both| both.lower(ALPHA)),
                    upper: both.and_then(|both| both.upper(ALPHA)),
                    threshold,
                    hit,
                }
            }
        }
    }
}

/// Says what a step lacks before the next one; `None` if it lacks nothing.
fn missing(step: &PlanStep, seen: &Seen) -> Option<String> {
    let (candidate, control) = (&seen.candidate.denials, &seen.control.denials);
    if candidate.sessions < real(step.min_sessions) {
        let (have, need) = (candidate.sessions, step.min_sessions);
        return Some(format!("{have} of {need} sessions were seen"));
    }
    if candidate.base < real(step.min_decisions) {
        let (have, need) = (candidate.base, step.min_decisions);
        return Some(format!("{have} of {need} decisions were seen"));
    }
    if step.kind == StepKind::Canary && control.sessions < real(step.min_sessions.max(1)) {
        let (have, need) = (control.sessions, step.min_sessions.max(1));
        return Some(format!(
            "{have} of {need} sessions were seen on machines outside of the step"
        ));
    }
    if let Some(more) = too_few_denials(candidate, control) {
        return Some(more);
    }
    if seen.elapsed_ms < step.min_time_ms {
        let left = (step.min_time_ms - seen.elapsed_ms).div_ceil(1_000);
        return Some(format!("the step lasts {left} s more"));
    }
    None
}

/// Says so if so few things are denied that twice as many could not be told from chance.
fn too_few_denials(candidate: &Sums, control: &Sums) -> Option<String> {
    let both = Comparison::of(candidate, control)?;
    let (hits, base) = if control.hits > 0.0 {
        (control.hits, control.base)
    } else {
        (candidate.hits, candidate.base + control.base)
    };
    if hits <= 0.0 {
        return None;
    }
    let rate = hits / base / both.design_effect;
    let twice = 2.0 * rate * candidate.base;
    let once = rate * control.base;
    let error = (1.0 / twice + 1.0 / once).sqrt();
    (error > ERROR_MAX).then(|| {
        let share = (ERROR_MAX / error).powi(2) * 100.0;
        format!(
            "too few decisions are denied to tell twice as many from chance: {share:.0} % of what that needs were seen"
        )
    })
}

impl Guard {
    /// Says how it stands.
    pub fn words(&self) -> String {
        let (hits, base) = self.candidate;
        match self.control {
            None => format!(
                "{hits} {}; the guard is hit by {}",
                self.name, self.threshold
            ),
            Some((other, of)) => format!(
                "{}: {hits} of {base:.0} against {other} of {of:.0}; the ratio is above {:.2}, and may be {}",
                self.name,
                self.lower.unwrap_or_default(),
                self.threshold
            ),
        }
    }
}

/// Takes a count as a real number; beyond four billion one more changes nothing.
pub(crate) fn real(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(kind: StepKind) -> PlanStep {
        PlanStep {
            kind,
            percent: 10,
            min_time_ms: 60_000,
            min_decisions: 1_000,
            min_sessions: 20,
        }
    }

    fn arm(sessions: u32, decisions: f64, denials: f64) -> ArmSeen {
        let mut arm = ArmSeen::default();
        for number in 0..sessions {
            // Not all the same, and not far apart.
            let more = f64::from(number % 3) - 1.0;
            arm.denials.add(denials + more, decisions);
            arm.asks.add(0.0, 1.0);
            arm.not_started.add(0.0, 1.0);
        }
        arm
    }

    fn seen(candidate: ArmSeen, control: ArmSeen) -> Seen {
        Seen {
            elapsed_ms: 60_000,
            candidate,
            control,
            ..Seen::default()
        }
    }

    fn holds(next: &Next) -> bool {
        matches!(next, Next::Hold { .. })
    }

    fn halts(next: &Next) -> bool {
        matches!(next, Next::Halt { .. })
    }

    #[test]
    fn a_step_goes_on_with_enough_data_and_no_hit_only() {
        let canary = step(StepKind::Canary);
        let good = seen(arm(50, 100.0, 10.0), arm(400, 100.0, 10.0));
        assert_eq!(next(&canary, &good), Next::Advance);
        assert!(guards(&canary, &good).iter().all(|guard| !guard.hit));
        // No data at all, on either side.
        assert!(holds(&next(&canary, &Seen::default())));
        let no_control = seen(arm(50, 100.0, 10.0), ArmSeen::default());
        assert!(holds(&next(&canary, &no_control)));
        let no_candidate = seen(ArmSeen::default(), arm(400, 100.0, 10.0));
        assert!(holds(&next(&canary, &no_candidate)));
        // Each of the least numbers by itself.
        let few = seen(arm(19, 1_000.0, 100.0), arm(400, 100.0, 10.0));
        assert!(holds(&next(&canary, &few)), "sessions");
        let short = seen(arm(50, 19.0, 10.0), arm(400, 19.0, 10.0));
        assert!(holds(&next(&canary, &short)), "decisions");
        let early = Seen {
            elapsed_ms: 59_999,
            ..good
        };
        assert!(holds(&next(&canary, &early)), "time");
        let quiet = seen(arm(50, 100.0, 1.0), arm(400, 100.0, 1.0));
        assert!(
            holds(&next(&canary, &quiet)),
            "too few denials to see twice as many"
        );
        let none = seen(arm(50, 100.0, 1.0), arm(400, 100.0, 1.0));
        let none = Seen {
            candidate: ArmSeen {
                denials: Sums {
                    hits: 0.0,
                    hits_squared: 0.0,
                    products: 0.0,
                    ..none.candidate.denials
                },
                ..none.candidate
            },
            control: ArmSeen {
                denials: Sums {
                    hits: 0.0,
                    hits_squared: 0.0,
                    products: 0.0,
                    ..none.control.denials
                },
                ..none.control
            },
            ..none
        };
        assert_eq!(
            next(&canary, &none),
            Next::Advance,
            "nothing is denied at all"
        );
    }

    #[test]
    fn each_guard_halts() {
        let canary = step(StepKind::Canary);
        let good = seen(arm(50, 100.0, 10.0), arm(400, 100.0, 10.0));
        assert!(halts(&next(&canary, &Seen { failed: 1, ..good })));
        assert!(halts(&next(&canary, &Seen { reports: 3, ..good })));
        assert_eq!(next(&canary, &Seen { reports: 2, ..good }), Next::Advance);
        let twice = seen(arm(50, 100.0, 20.0), arm(400, 100.0, 10.0));
        assert!(halts(&next(&canary, &twice)));
        // Fewer denials are no reason to halt.
        let half = seen(arm(100, 100.0, 5.0), arm(400, 100.0, 10.0));
        assert!(!halts(&next(&canary, &half)));
        let mut asks = good;
        for _ in 0..50 {
            asks.candidate.asks.hits += 3.0;
            asks.candidate.asks.hits_squared += 9.0;
            asks.candidate.asks.products += 3.0;
        }
        assert!(halts(&next(&canary, &asks)), "questions");
        let mut starts = good;
        for _ in 0..5 {
            starts.candidate.not_started.add(1.0, 1.0);
        }
        assert!(halts(&next(&canary, &starts)), "starts");
        // Before there is enough, only what is beyond doubt.
        let first = seen(arm(5, 100.0, 50.0), arm(40, 100.0, 5.0));
        assert!(halts(&next(&canary, &first)));
        let perhaps = seen(arm(5, 100.0, 3.0), arm(40, 100.0, 1.5));
        assert!(holds(&next(&canary, &perhaps)));
    }
}
