//! How a candidate replaces the policy in force, step by step.
//!
//! The policy keys sign the [`Candidate`] with the whole [`Plan`](crate::Plan) in the bundle, once. The server then says
//! with [`Pointer`]s which step it is: a pointer moves along the plan or back to step 0, and nothing else.
//! Each machine computes by itself whether it belongs to the part of a step, so a server cannot choose
//! machines.

use serde::{Deserialize, Serialize};
use stockade_types::{RolloutArm, UnixMillis};

use crate::{
    envelope::{Envelope, EnvelopeError, Statement},
    node::{Bundle, StatementError},
    plan::{Candidate, StepKind},
    root::Root,
};

/// How long a pointer holds at most, in milliseconds: a machine that hears no more of the server is back
/// under the policy in force after that.
pub const POINTER_LASTS_MAX_MS: u64 = 60 * 60 * 1_000;
/// How far the clock of the server may be ahead of the machine's, in milliseconds.
const SKEW_MAX_MS: u64 = 5 * 60 * 1_000;
/// Which step of a rollout it is; the server signs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pointer {
    /// The organisation.
    pub org: String,
    /// The channel of the bundle.
    pub channel: String,
    /// The serial of the bundle.
    pub serial: u64,
    /// The rollout.
    pub rollout: String,
    /// The step; 0 is the policy in force alone.
    pub step: u32,
    /// When it was signed, by the clock of the server; a later one replaces an earlier one.
    pub issued: UnixMillis,
    /// From when on it does not hold.
    pub not_after: UnixMillis,
}

impl Statement for Pointer {
    const TYPE: &'static str = "application/vnd.stockade.pointer.1+json";
}

/// Why a pointer is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    /// It is not signed, or is of another organisation.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// It is for another bundle or rollout than the one here.
    #[error("it is for {found}; this machine has {known}")]
    Bundle {
        /// What it says.
        found: String,
        /// What the machine has.
        known: String,
    },
    /// It leads to a step that the plan does not have.
    #[error("it leads to step {step}; the signed plan has {last}")]
    Step {
        /// Where.
        step: u32,
        /// The last one.
        last: u32,
    },
    /// It leads back to another step than 0, or away from the last one.
    #[error(
        "it leads from step {known} to step {found}; it may go on, or back to 0 before the last one"
    )]
    Back {
        /// Where it leads.
        found: u32,
        /// Where the machine is.
        known: u32,
    },
    /// It was signed before the one that is known.
    #[error("it was signed before the one that this machine has")]
    Older,
    /// It is to hold for too long, or for no time.
    #[error("it is to hold for more than an hour, or for no time")]
    Lasts,
    /// It does not hold any more.
    #[error("it has expired")]
    Expired,
    /// It is of a later time.
    #[error("it was signed more than 5 minutes later than this machine's clock says that it is")]
    Early,
}

impl From<EnvelopeError> for PointerError {
    fn from(error: EnvelopeError) -> Self {
        Self::Statement(error.into())
    }
}

impl Root {
    /// Takes a pointer that comes from the server, for the bundle that is here; `known` is the last one
    /// that was taken for it.
    ///
    /// # Errors
    /// When the server has not signed it, it is for another bundle, does not hold now, or leads anywhere but
    /// along the plan or back to step 0.
    pub fn pointer(
        &self,
        envelope: &Envelope,
        bundle: &Bundle,
        known: Option<&Pointer>,
        now: UnixMillis,
    ) -> Result<Pointer, PointerError> {
        let pointer = self.kept_pointer(envelope, bundle)?;
        if pointer.not_after <= now {
            return Err(PointerError::Expired);
        }
        if pointer.issued.0 > now.0.saturating_add(SKEW_MAX_MS) {
            return Err(PointerError::Early);
        }
        if let Some(known) = known {
            if pointer.issued < known.issued {
                return Err(PointerError::Older);
            }
            let is_over = is_last(bundle, known.step);
            let leads_back = pointer.step < known.step && (pointer.step != 0 || is_over);
            let says_two_things = pointer.issued == known.issued && pointer.step != known.step;
            if leads_back || says_two_things {
                return Err(PointerError::Back {
                    found: pointer.step,
                    known: known.step,
                });
            }
        }
        Ok(pointer)
    }

    /// Takes a pointer that was kept here: it was in time when it came.
    ///
    /// # Errors
    /// When the server has not signed it, or it is not for this bundle and its plan.
    pub fn kept_pointer(
        &self,
        envelope: &Envelope,
        bundle: &Bundle,
    ) -> Result<Pointer, PointerError> {
        let pointer: Pointer = envelope.open(&self.servers)?;
        self.is_ours(&pointer.org)?;
        let known = |rollout: &str| format!("{} {} {rollout}", bundle.channel, bundle.serial);
        let plan = bundle.candidate.as_ref().map(|candidate| &candidate.plan);
        let own = plan.map_or("", |plan| &plan.rollout);
        let is_same = pointer.channel == bundle.channel
            && pointer.serial == bundle.serial
            && pointer.rollout == own;
        let Some(plan) = plan.filter(|_| is_same) else {
            let found = format!("{} {} {}", pointer.channel, pointer.serial, pointer.rollout);
            return Err(PointerError::Bundle {
                found: found.chars().take(200).collect(),
                known: known(own),
            });
        };
        if pointer.step > plan.last() {
            return Err(PointerError::Step {
                step: pointer.step,
                last: plan.last(),
            });
        }
        let lasts = pointer.not_after.0.checked_sub(pointer.issued.0);
        if !lasts.is_some_and(|lasts| (1..=POINTER_LASTS_MAX_MS).contains(&lasts)) {
            return Err(PointerError::Lasts);
        }
        Ok(pointer)
    }
}

/// Tells whether a step is the last one of a bundle's plan: there the candidate is in force for good.
fn is_last(bundle: &Bundle, step: u32) -> bool {
    let candidate = bundle.candidate.as_ref();
    candidate.is_some_and(|candidate| {
        let found = candidate.plan.step(step);
        found.is_some_and(|step| step.kind == StepKind::Enforce)
    })
}

/// What of a bundle is in force on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce<'a> {
    /// The policy of new sessions.
    pub text: &'a str,
    /// The policy that running sessions must not do more than: the candidate only once it is in force
    /// everywhere.
    pub everywhere: &'a str,
    /// The candidate, if sessions compare it.
    pub compared: Option<&'a str>,
    /// The rollout and its step.
    pub rollout: Option<(&'a str, u32)>,
    /// On which side of it the machine is.
    pub arm: RolloutArm,
}

impl Bundle {
    /// Says what is in force on a machine. A pointer that does not hold any more leads back to step 0,
    /// except from the last step.
    pub fn in_force(&self, pointer: Option<&Pointer>, node: &str, now: UnixMillis) -> InForce<'_> {
        let current = InForce {
            text: &self.text,
            everywhere: &self.text,
            compared: None,
            rollout: None,
            arm: RolloutArm::Control,
        };
        let Some(Candidate { text, plan }) = &self.candidate else {
            return current;
        };
        let holds = |pointer: &&Pointer| pointer.not_after > now || is_last(self, pointer.step);
        let step = pointer.filter(holds).map_or(0, |pointer| pointer.step);
        let arm = plan.arm(step, node);
        let begun = InForce {
            rollout: Some((&plan.rollout, step)),
            arm,
            ..current
        };
        match arm {
            RolloutArm::Control => begun,
            RolloutArm::Shadow => InForce {
                compared: Some(text),
                ..begun
            },
            RolloutArm::Canary => InForce { text, ..begun },
            RolloutArm::Enforced => InForce {
                text,
                everywhere: text,
                ..begun
            },
        }
    }
}
