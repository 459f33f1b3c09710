//! Whether one rate is larger than another, from sums over sessions.
//!
//! What an agent is refused comes in bursts: a program that tries again and again is refused a hundred
//! times for one reason. So sessions are the sample, not decisions: the counts of an arm are divided by its
//! design effect, which is how much more its sessions differ than chance alone makes them. The effective
//! counts are compared by the exact conditional test of two Poisson rates.

/// Passes with which a bound is narrowed down; each halves the interval.
const PASSES: usize = 60;
/// Terms of a continued fraction; it needs some dozens for counts in the millions.
const TERMS: u32 = 2_000;

/// Sums over the sessions of one arm: `hits` of `base`, for example denials of decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Sessions.
    pub sessions: f64,
    /// What is counted.
    pub hits: f64,
    /// Of how much.
    pub base: f64,
    /// Squares of `hits`.
    pub hits_squared: f64,
    /// Products of both.
    pub products: f64,
    /// Squares of `base`.
    pub base_squared: f64,
}

impl Sums {
    /// Adds a session.
    pub fn add(&mut self, hits: f64, base: f64) {
        self.sessions += 1.0;
        self.hits += hits;
        self.base += base;
        self.hits_squared += hits * hits;
        self.products += hits * base;
        self.base_squared += base * base;
    }

    /// Returns the rate; 0 of nothing.
    pub fn rate(&self) -> f64 {
        if self.base > 0.0 {
            self.hits / self.base
        } else {
            0.0
        }
    }

    /// Returns how many times more the sessions differ than by chance alone; at least 1. All hits of a
    /// single session count as one.
    pub fn design_effect(&self) -> f64 {
        if self.hits <= 0.0 {
            return 1.0;
        }
        if self.sessions < 2.0 {
            return self.hits.max(1.0);
        }
        let rate = self.rate();
        let spread = rate.mul_add(
            rate * self.base_squared,
            self.hits_squared - 2.0 * rate * self.products,
        );
        let corrected = spread * self.sessions / (self.sessions - 1.0);
        (corrected / self.hits).max(1.0)
    }
}

/// Two arms, compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Comparison {
    /// Effective hits of the candidate.
    pub(super) candidate: f64,
    /// Effective hits of the control arm.
    pub(super) control: f64,
    /// The base of the candidate for one of the control arm.
    exposure: f64,
    /// By how much the hits were divided.
    pub(super) design_effect: f64,
}

impl Comparison {
    /// Compares two arms; `None` if one of them has nothing.
    pub(super) fn of(candidate: &Sums, control: &Sums) -> Option<Self> {
        if candidate.base <= 0.0 || control.base <= 0.0 {
            return None;
        }
        let effect = candidate.design_effect().max(control.design_effect());
        Some(Self {
            candidate: candidate.hits / effect,
            control: control.hits / effect,
            exposure: candidate.base / control.base,
            design_effect: effect,
        })
    }

    /// Returns the ratio of the rates; `None` if the control arm has no hits.
    pub(super) fn ratio(&self) -> Option<f64> {
        (self.control > 0.0).then(|| self.candidate / self.control / self.exposure)
    }

    /// Tells whether the ratio is above a bound, except with the probability `alpha`: whether
    /// [`Self::lower`] is above it.
    pub(super) fn exceeds(&self, bound: f64, alpha: f64) -> bool {
        let odds = bound * self.exposure;
        let share = odds / (1.0 + odds);
        self.candidate > 0.0 && incomplete_beta(share, self.candidate, self.control + 1.0) < alpha
    }

    /// Tells whether the ratio is below a bound, except with the probability `alpha`: whether
    /// [`Self::upper`] is below it.
    pub(super) fn is_below(&self, bound: f64, alpha: f64) -> bool {
        let odds = bound * self.exposure;
        let share = odds / (1.0 + odds);
        self.control > 0.0
            && 1.0 - incomplete_beta(share, self.candidate + 1.0, self.control) < alpha
    }

    /// Returns the bound above which the ratio is, except with the probability `alpha`.
    pub(super) fn lower(&self, alpha: f64) -> f64 {
        if self.candidate <= 0.0 {
            return 0.0;
        }
        let share =
            solve(|share| incomplete_beta(share, self.candidate, self.control + 1.0) < alpha);
        share / (1.0 - share) / self.exposure
    }

    /// Returns the bound below which the ratio is, except with the probability `alpha`; `None` if the
    /// control arm has no hits.
    pub(super) fn upper(&self, alpha: f64) -> Option<f64> {
        if self.control <= 0.0 {
            return None;
        }
        let share =
            solve(|share| 1.0 - incomplete_beta(share, self.candidate + 1.0, self.control) > alpha);
        Some(share / (1.0 - share) / self.exposure)
    }
}

/// Returns the share up to which something holds.
fn solve(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..PASSES {
        let middle = f64::midpoint(low, high);
        if holds(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    // Neither 0 nor 1, which no finite ratio has.
    f64::midpoint(low, high).clamp(1e-15, 1.0 - 1e-15)
}

/// The regularised incomplete beta function: the probability that a binomial variable of `a + b - 1` trials
/// with `share` is at least `a`, for whole numbers.
fn incomplete_beta(share: f64, a: f64, b: f64) -> f64 {
    if share <= 0.0 {
        return 0.0;
    }
    if share >= 1.0 {
        return 1.0;
    }
    let front = ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b);
    let front = (b.mul_add((1.0 - share).ln(), a.mul_add(share.ln(), front))).exp();
    if share < (a + 1.0) / (a + b + 2.0) {
        front * fraction(share, a, b) / a
    } else {
        1.0 - front * fraction(1.0 - share, b, a) / b
    }
}

/// The continued fraction of the incomplete beta function, by Lentz's method.
fn fraction(share: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let bounded = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / bounded(1.0 - (a + b) * share / (a + 1.0));
    let mut result = d;
    for term in 1..=TERMS {
        let term = f64::from(term);
        let twice = 2.0f64.mul_add(term, a);
        let even = term * (b - term) * share / ((twice - 1.0) * twice);
        d = 1.0 / bounded(even.mul_add(d, 1.0));
        c = bounded(1.0 + even / c);
        result *= d * c;
        let odd = -(a + term) * (a + b + term) * share / (twice * (twice + 1.0));
        d = 1.0 / bounded(odd.mul_add(d, 1.0));
        c = bounded(1.0 + odd / c);
        let change = d * c;
        result *= change;
        if (change - 1.0).abs() < 1e-12 {
            break;
        }
    }
    result
}

/// The logarithm of the gamma function of a positive number, by Stirling's series.
fn ln_gamma(number: f64) -> f64 {
    // The series is for large numbers; smaller ones are led there by the recurrence.
    let (mut large, mut shift) = (number, 0.0);
    while large < 10.0 {
        shift -= large.ln();
        large += 1.0;
    }
    let square = large * large;
    let series = 1.0 / (12.0 * large) - 1.0 / (360.0 * large * square)
        + 1.0 / (1_260.0 * large * square * square);
    let half_ln_two_pi = 0.918_938_533_204_672_8;
    (large - 0.5).mul_add(large.ln(), half_ln_two_pi - large) + series + shift
}

#[cfg(test)]
mod tests {
    use super::{Comparison, Sums, incomplete_beta, ln_gamma};

    fn near(found: f64, expected: f64) {
        let difference = (found - expected).abs() / expected.abs().max(1e-12);
        assert!(difference < 1e-8, "{found} is not {expected}");
    }

    #[test]
    fn functions_have_the_values_of_tables() {
        near(ln_gamma(5.0), 24.0_f64.ln());
        near(ln_gamma(0.5), std::f64::consts::PI.sqrt().ln());
        near(ln_gamma(101.0), 363.739_375_555_563_5);
        // The tail of a binomial variable, by its terms: 3 or more of 4 with one half.
        near(incomplete_beta(0.5, 3.0, 2.0), 5.0 / 16.0);
        near(incomplete_beta(0.6, 5.0, 1.0), 0.6_f64.powi(5));
        near(incomplete_beta(0.1, 2.0, 3.0), 0.0523);
    }

    fn even(sessions: u32, hits: f64, base: f64) -> Sums {
        let mut sums = Sums::default();
        for _ in 0..sessions {
            sums.add(hits, base);
        }
        sums
    }

    #[test]
    fn bounds_are_those_of_the_exact_test() {
        let one = Comparison::of(&even(20, 5.0, 100.0), &even(20, 5.0, 100.0)).unwrap();
        near(one.ratio().unwrap(), 1.0);
        let (lower, upper) = (one.lower(0.05), one.upper(0.05).unwrap());
        near(lower, 1.0 / upper);
        assert!(one.exceeds(lower - 1e-6, 0.05) && !one.exceeds(lower + 1e-6, 0.05));
        assert!((0.77..0.80).contains(&lower), "{lower}");
        assert!(one.is_below(upper + 1e-6, 0.05) && !one.is_below(upper - 1e-6, 0.05));
        // Of 5 and 0, the bound solves share^5 = alpha.
        let few = Comparison::of(&even(5, 1.0, 10.0), &even(5, 0.0, 10.0)).unwrap();
        let share = 0.05_f64.powf(0.2);
        near(few.lower(0.05), share / (1.0 - share));
        assert_eq!((few.ratio(), few.upper(0.05)), (None, None));
        let none = Comparison::of(&even(5, 0.0, 10.0), &even(5, 3.0, 10.0)).unwrap();
        assert!(none.lower(0.05).abs() < 1e-12);
        assert_eq!(Comparison::of(&Sums::default(), &even(5, 1.0, 1.0)), None);
    }

    #[test]
    fn a_burst_of_one_session_counts_little() {
        let mut burst = even(19, 0.0, 100.0);
        burst.add(1_000.0, 100.0);
        let spread = even(20, 50.0, 100.0);
        let control = even(200, 0.0, 100.0);
        let of_burst = Comparison::of(&burst, &control).unwrap();
        let of_spread = Comparison::of(&spread, &control).unwrap();
        assert!(of_burst.candidate < 2.0, "{of_burst:?}");
        assert!(of_spread.candidate > 999.0, "{of_spread:?}");
    }
}
