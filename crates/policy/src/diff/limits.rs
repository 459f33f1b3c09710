//! How much work a comparison does to find examples. Beyond these an effect is only possible.

/// Most sample requests that are made of the patterns of both policies.
pub(super) const SAMPLES_MAX: usize = 4_096;
/// Most comparisons of a sample with a changed pattern.
pub(super) const FITS_MAX: usize = 2_000_000;
/// Most samples that both policies decide for one change.
pub(super) const TRIED_MAX: usize = 256;
/// Most samples that both policies decide in all.
pub(super) const DECIDED_MAX: usize = 100_000;
/// Most pairs of patterns that are compared to prove that a change has no effect; beyond these every change is
/// shown.
pub(super) const PAIRS_MAX: usize = 4_000_000;
