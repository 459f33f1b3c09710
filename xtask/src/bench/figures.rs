//! Numbers: medians, counts, and how they are shown.

/// Returns a count as a figure.
#[expect(
    clippy::cast_precision_loss,
    reason = "figures are shown with three digits"
)]
pub(super) const fn float(count: u64) -> f64 {
    count as f64
}

/// Returns the middle of sorted values, which is no number if there are none.
pub(super) fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle).copied().unwrap_or(f64::NAN);
    if sorted.len().is_multiple_of(2) {
        let lower = middle
            .checked_sub(1)
            .and_then(|index| sorted.get(index))
            .copied()
            .unwrap_or(f64::NAN);
        f64::midpoint(lower, upper)
    } else {
        upper
    }
}

/// Writes a value with three digits, which is more than a run repeats.
pub(crate) fn figure(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert!((median(&[1.0, 2.0]) - 1.5).abs() < 1e-9 && median(&[]).is_nan());
        assert!((median(&[1.0, 2.0, 9.0]) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!([0.123, 12.34, 1234.5].map(figure), ["0.12", "12.3", "1234"]);
    }
}
