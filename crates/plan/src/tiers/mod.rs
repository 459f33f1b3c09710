//! The tiers: each is one module of one shape, and one arm of [`of`].

mod native;

use stockade_policy::Policy;
use stockade_types::Tier;

use crate::{Boundary, Guarantee, HostFacts, Identity, PlanError, RunSpec, Step};

/// The tier of `--tier auto`.
pub const DEFAULT_TIER: Tier = Tier::Native;

/// A part of a machine that tiers are made of; `stockade doctor` tries each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Namespaces of an ordinary user's own.
    Namespaces,
    /// Landlock.
    Landlock,
    /// The system call notifier.
    Notifier,
}

/// What a tier makes of a run.
pub(crate) struct Made {
    /// Its steps, in their order.
    pub(crate) steps: Vec<Step>,
    /// What they make.
    pub(crate) boundary: Boundary,
    /// What that promises. Waivers and requirements are not its concern.
    pub(crate) guarantees: Vec<Guarantee>,
}

/// What a tier makes its steps of.
#[derive(Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) spec: &'a RunSpec,
    pub(crate) facts: &'a HostFacts,
    /// Whom the command runs as.
    pub(crate) identity: Identity,
}

/// The shape of a tier.
pub(crate) struct Shape {
    /// What it cannot do without.
    pub(crate) needs: &'static [Part],
    /// Makes the steps; fails if the machine lacks a part, as far as the facts say.
    pub(crate) make: fn(Wish<'_>) -> Result<Made, PlanError>,
}

/// Returns the module of a tier.
pub(crate) const fn of(tier: Tier) -> Shape {
    match tier {
        Tier::Native => native::TIER,
    }
}

/// Returns the parts of a machine that a tier cannot do without.
#[must_use]
pub const fn needs(tier: Tier) -> &'static [Part] {
    of(tier).needs
}
