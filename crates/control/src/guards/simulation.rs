//! A thousand rollouts whose truth is known: what the controller makes of them.
//!
//! Sessions begin at random on both sides. How often one is denied something differs between sessions, more
//! than chance alone makes it: some agents try the same thing again and again.

use stockade_trust::{PlanStep, StepKind};

use super::judge::{ArmSeen, Next, Seen, has_enough, next};

/// How often the controller looks, in milliseconds.
const LOOK_MS: u64 = 5_000;
const STEP: PlanStep = PlanStep {
    kind: StepKind::Canary,
    percent: 10,
    min_time_ms: 10 * 60_000,
    min_decisions: 500,
    min_sessions: 20,
};

/// A generator that gives the same numbers in each run (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Between 0 and 1, never either.
    fn unit(&mut self) -> f64 {
        let bits = u32::try_from(self.next() >> 32).unwrap();
        (f64::from(bits) + 0.5) / 4_294_967_296.0
    }

    fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }

    fn poisson(&mut self, mean: f64) -> f64 {
        let (mut count, mut left) = (0.0, mean);
        loop {
            left -= self.exponential();
            if left < 0.0 {
                return count;
            }
            count += 1.0;
        }
    }
}

/// What happened to one rollout.
struct Ended {
    /// When it was halted, in milliseconds from the beginning.
    halted: Option<u64>,
    /// When the least sample was there.
    enough: Option<u64>,
    /// When it would have gone on.
    advanced: Option<u64>,
}

/// Runs one step. `ratio` is how much more often the candidate denies.
fn run(seed: u64, ratio: f64, lasts_ms: u64) -> Ended {
    let mut random = Random(seed);
    let mut seen = Seen::default();
    let mut ended = Ended {
        halted: None,
        enough: None,
        advanced: None,
    };
    while seen.elapsed_ms < lasts_ms {
        seen.elapsed_ms += LOOK_MS;
        // 200 machines, a tenth of them in the step; a session on each every ten minutes.
        for (arm, share, ratio) in [
            (&mut seen.candidate, 0.1, ratio),
            (&mut seen.control, 0.9, 1.0),
        ] {
            session(arm, &mut random, share, ratio);
        }
        if has_enough(&STEP, &seen) {
            ended.enough.get_or_insert(seen.elapsed_ms);
        }
        match next(&STEP, &seen) {
            Next::Halt { .. } => {
                ended.halted = Some(seen.elapsed_ms);
                return ended;
            }
            Next::Advance => {
                ended.advanced.get_or_insert(seen.elapsed_ms);
            }
            Next::Hold { .. } => {}
        }
    }
    ended
}

/// Adds the sessions of one look.
fn session(arm: &mut ArmSeen, random: &mut Random, share: f64, ratio: f64) {
    let begun = random.poisson(200.0 * share * 5.0 / 600.0);
    let mut left = begun;
    while left >= 1.0 {
        left -= 1.0;
        let decisions = 20.0 + random.poisson(80.0);
        // The mean of a session is gamma distributed with shape 2: half as much again by itself.
        let own = f64::midpoint(random.exponential(), random.exponential());
        let denials = random.poisson(decisions * 0.08 * ratio * own);
        arm.denials.add(denials.min(decisions), decisions);
        arm.asks.add(random.poisson(0.3), 0.2);
        arm.not_started
            .add(f64::from(u8::from(random.unit() < 0.01)), 1.0);
    }
}

#[test]
fn false_halts_are_rare() {
    let ended: Vec<Ended> = (0..1_000).map(|seed| run(seed, 1.0, 90 * 60_000)).collect();
    let halted = ended.iter().filter(|ended| ended.halted.is_some()).count();
    let advanced = ended
        .iter()
        .filter(|ended| ended.advanced.is_some())
        .count();
    assert!(halted <= 10, "{halted} of 1,000 halted");
    assert!(advanced >= 900, "a good one goes on: {advanced} of 1,000");
}

#[test]
fn twice_as_many_denials_are_halted_within_a_minute_of_the_least_sample() {
    let (mut in_time, mut missed) = (0, 0);
    for seed in 0..1_000 {
        let ended = run(seed, 2.0, 4 * 60 * 60_000);
        // Before the least sample is in time, too.
        let by = ended.enough.unwrap_or(u64::MAX).saturating_add(60_000);
        in_time += u64::from(ended.halted.is_some_and(|at| at <= by));
        missed += u64::from(ended.advanced.is_some());
    }
    assert!(in_time >= 950, "{in_time} of 1,000 in time");
    assert!(missed <= 50, "{missed} of 1,000 went on");
}
