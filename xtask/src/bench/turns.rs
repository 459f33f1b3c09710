//! Contenders take turns until there are enough samples or the time of the row is over.

use std::time::{Duration, Instant};

use anyhow::{Error, Result};

use super::{contender::Contender, report::Sample};

/// How many samples there shall be, and how long that may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rounds {
    /// Rounds that do not count: they fill caches.
    pub(super) warm_up: usize,
    pub(super) runs: usize,
    /// After it no round begins, except the first one that counts.
    pub(super) longest: Duration,
}

/// The samples of a row and what failed.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) samples: Vec<Sample>,
    /// Who failed and why; who failed takes no further turn.
    pub(super) failures: Vec<(&'static str, Error)>,
}

/// Lets contenders take turns (ABAB…). If bare or ours fails, nothing is left to compare, so the row
/// ends with what it has.
pub(super) fn take_turns(
    contenders: &[&Contender],
    rounds: Rounds,
    sample: impl Fn(&Contender) -> Result<f64>,
) -> Taken {
    let began = Instant::now();
    let mut taking: Vec<(&Contender, Vec<f64>)> = contenders
        .iter()
        .map(|contender| (*contender, Vec::new()))
        .collect();
    let mut failures = Vec::new();
    for round in 0..rounds.warm_up + rounds.runs {
        if round > rounds.warm_up && began.elapsed() >= rounds.longest {
            break;
        }
        for (contender, samples) in &mut taking {
            match sample(contender) {
                Ok(value) if round >= rounds.warm_up => samples.push(value),
                Ok(_) => {}
                Err(error) => failures.push((contender.name(), error)),
            }
        }
        let is_out = |name| failures.iter().any(|(failed, _)| *failed == name);
        if ["bare", "stockade"].into_iter().any(is_out) {
            break;
        }
        taking.retain(|(contender, _)| !is_out(contender.name()));
        // Another one begins the next round, so that no one always follows the same neighbour.
        if !taking.is_empty() {
            taking.rotate_left(1);
        }
    }
    let order = |name| {
        contenders
            .iter()
            .position(|contender| contender.name() == name)
    };
    taking.sort_by_key(|(contender, _)| order(contender.name()));
    let samples = taking
        .into_iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(contender, values)| Sample::new(contender.name(), values))
        .collect();
    Taken { samples, failures }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use anyhow::bail;

    use super::*;

    const PATIENT: Duration = Duration::from_mins(10);

    fn rounds(warm_up: usize, runs: usize, longest: Duration) -> Rounds {
        Rounds {
            warm_up,
            runs,
            longest,
        }
    }

    #[test]
    fn contenders_take_turns_and_a_failing_rival_is_left_out_by_name() {
        let order = RefCell::new(Vec::new());
        let contenders = [&Contender::Bare, &Contender::Bubblewrap];
        let taken = take_turns(&contenders, rounds(1, 2, PATIENT), |contender| {
            order.borrow_mut().push(contender.name());
            if matches!(contender, Contender::Bare) || order.borrow().len() < 3 {
                Ok(1.0)
            } else {
                bail!("broken")
            }
        });
        let names: Vec<_> = taken.samples.iter().map(|sample| &*sample.name).collect();
        assert_eq!(
            *order.borrow(),
            ["bare", "bubblewrap", "bubblewrap", "bare", "bare"]
        );
        assert_eq!(names, ["bare"]);
        assert_eq!(taken.failures.len(), 1);
        assert_eq!(taken.failures[0].0, "bubblewrap");
    }

    #[test]
    fn our_own_failure_ends_the_row_and_keeps_what_it_has() {
        let ours = Contender::Stockade {
            program: "/nonexistent".into(),
        };
        let count = RefCell::new(0);
        let taken = take_turns(&[&ours], rounds(0, 9, PATIENT), |_| {
            *count.borrow_mut() += 1;
            if *count.borrow() < 3 {
                Ok(1.0)
            } else {
                bail!("broken")
            }
        });
        assert_eq!(*count.borrow(), 3);
        assert_eq!(taken.samples[0].values.len(), 2);
        assert_eq!(taken.failures[0].0, "stockade");
    }

    #[test]
    fn a_row_whose_time_is_over_has_one_round_at_least() {
        let taken = take_turns(&[&Contender::Bare], rounds(2, 9, Duration::ZERO), |_| {
            Ok(1.0)
        });
        assert_eq!(taken.samples[0].values.len(), 1);
    }
}
