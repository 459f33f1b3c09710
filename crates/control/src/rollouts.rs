//! The controller of rollouts: it leads a candidate along its signed plan, and back if a guard is hit.
//!
//! Machines compute by themselves which policy they are under. The controller only signs which step it is;
//! what it decides by comes from their journals (`samples`), is decided in `guards`, and every move is in
//! the server's own record.

use std::{sync::Arc, time::Duration};

use stockade_api::node::Down;
use stockade_trust::{Envelope, POINTER_LASTS_MAX_MS, PlanStep, Pointer, StepKind, UserId};
use stockade_types::UnixMillis;

pub use crate::guards::{ArmSeen, Guard, Next, Seen, Sums};

use crate::{
    Changed, ControlError, Server,
    act::{Act, Action},
    clock::now,
    guards,
    policy::CHANNEL,
    state::{MoveRow, RolloutRow, RolloutState},
};

/// How often the controller looks.
const LOOK: Duration = Duration::from_secs(5);
/// How often a pointer is signed anew, well before it expires, in milliseconds.
const POINTER_RENEWAL_MS: u64 = POINTER_LASTS_MAX_MS / 3;
/// Who moves a rollout if no person does.
pub const CONTROLLER: &str = "controller";
/// Characters of the reason of a report or a move.
const REASON_CHARS_MAX: usize = 300;
/// Minutes in milliseconds.
const MINUTE_MS: u64 = 60_000;

/// What a person does with a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The next step, whatever the guards lack.
    Advance,
    /// It stays at its step.
    Hold,
    /// The controller moves it again.
    Resume,
    /// Back to step 0.
    Halt,
}

/// Why a rollout is not moved.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// There is none.
    #[error("there is no such rollout")]
    Unknown,
    /// It does not stand so that this could be done.
    #[error("the rollout is {0}; that cannot be done any more")]
    State(&'static str),
    /// Somebody else has moved it.
    #[error("the rollout was moved meanwhile; look at it first")]
    Changed,
}

/// Returns the plan that the form begins with.
pub fn usual_plan() -> Vec<PlanStep> {
    let step = |kind, percent, minutes, sessions| PlanStep {
        kind,
        percent,
        min_time_ms: minutes * MINUTE_MS,
        min_decisions: 500,
        min_sessions: sessions,
    };
    vec![
        step(StepKind::Shadow, 100, 60, 10),
        step(StepKind::Canary, 5, 30, 20),
        step(StepKind::Canary, 25, 30, 20),
        step(StepKind::Enforce, 100, 0, 0),
    ]
}

/// What was seen of a step of a rollout, for people.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// The guards.
    pub guards: Vec<Guard>,
    /// What comes next.
    pub next: Next,
    /// Decisions in which the candidate was compared, and those in which it differs.
    pub compared: (u64, u64),
}

impl Server {
    /// Signs which step the rollout of the newest bundle is at; `None` if it has none.
    pub(crate) async fn pointer(&self) -> Result<Option<Envelope>, ControlError> {
        let mut reading = self.state.read().await?;
        let serial = self.state.bundle_serial(&mut reading, CHANNEL).await?;
        let row = self.state.rollout_of(&mut reading, serial).await?;
        drop(reading);
        row.map(|row| self.sign_pointer(&row, now())).transpose()
    }

    fn sign_pointer(&self, row: &RolloutRow, now: UnixMillis) -> Result<Envelope, ControlError> {
        // Not before the last one: a clock that is set back would have machines refuse it.
        let issued = now.max(row.issued);
        let pointer = Pointer {
            org: self.settings.org.clone(),
            channel: row.channel.clone(),
            serial: row.serial,
            rollout: row.id.clone(),
            step: row.step,
            issued,
            not_after: UnixMillis(issued.0.saturating_add(POINTER_LASTS_MAX_MS)),
        };
        Ok(Envelope::seal(&pointer, &[&self.keys.server])?)
    }

    /// Looks at the rollout until the server ends.
    pub(crate) async fn keep_rolling(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK);
        let mut renewed = now();
        loop {
            ticks.tick().await;
            if let Err(error) = self.look_at_rollout().await {
                self.failed(&error);
            }
            let at = now();
            if at.0.saturating_sub(renewed.0) >= POINTER_RENEWAL_MS {
                match self.pointer().await {
                    Ok(Some(envelope)) => self.hub.send_all(&Down::Pointer { envelope }),
                    Ok(None) => {}
                    Err(error) => self.failed(&error),
                }
                renewed = at;
            }
        }
    }

    /// Writes what was gathered, and moves the rollout if it is time to.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub async fn look_at_rollout(&self) -> Result<(), ControlError> {
        let taken = self.samples.take();
        let now = now();
        self.state
            .keep_active(&taken.running, &taken.ended, now)
            .await?;
        let rollouts = self.state.rollouts(1).await?;
        let Some(row) = rollouts
            .into_iter()
            .find(|row| matches!(row.state, RolloutState::Running | RolloutState::Held))
        else {
            return Ok(());
        };
        // A machine says itself on which side it is, and could say the other one.
        let mut samples = taken.samples;
        samples.retain(|sample| {
            let own = row.plan.arm(sample.step, sample.key.node.as_str());
            sample.rollout == row.id && sample.arm == own
        });
        self.state.keep_samples(&samples).await?;
        if row.state != RolloutState::Running || row.step == 0 {
            return Ok(());
        }
        let Some(report) = self.step_report(&row, now).await? else {
            return Ok(());
        };
        match report.next {
            Next::Hold { .. } => Ok(()),
            Next::Advance => {
                let why = "enough was seen, and no guard was hit";
                self.moved(row, RolloutState::Running, true, CONTROLLER, why)
                    .await
                    .map(drop)
            }
            Next::Halt { why } => self
                .moved(row, RolloutState::Halted, false, CONTROLLER, &why)
                .await
                .map(drop),
        }
    }

    /// Says what was seen of the step at which a rollout is; `None` at step 0 and after the last one.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn step_report(
        &self,
        row: &RolloutRow,
        now: UnixMillis,
    ) -> Result<Option<StepReport>, ControlError> {
        let Some(step) = row.plan.step(row.step) else {
            return Ok(None);
        };
        let found = self.state.step_seen(&row.id, row.step).await?;
        let (candidate, control) = match step.kind {
            StepKind::Shadow => (found.shadow_candidate, found.shadow),
            StepKind::Canary => (found.canary, found.control),
            StepKind::Enforce => return Ok(None),
        };
        let seen = Seen {
            elapsed_ms: now.0.saturating_sub(row.step_since.0),
            failed: self.state.failed_acks(&row.channel, row.serial).await?,
            reports: self.state.reports(&row.id, row.step).await?,
            candidate,
            control,
        };
        Ok(Some(StepReport {
            guards: guards::guards(step, &seen),
            next: guards::next(step, &seen),
            compared: found.compared,
        }))
    }

    /// Does with a rollout what a person wants.
    ///
    /// # Errors
    /// The inner error says why it is not done; the outer one is of the server.
    pub async fn order_rollout(
        &self,
        id: &str,
        order: Order,
        by: &str,
        why: &str,
    ) -> Result<Result<(), MoveError>, ControlError> {
        let Some(row) = self.state.rollout(id).await? else {
            return Ok(Err(MoveError::Unknown));
        };
        let (state, advances) = match (order, row.state) {
            (Order::Advance, RolloutState::Running) => (RolloutState::Running, true),
            (Order::Advance, RolloutState::Held) => (RolloutState::Held, true),
            (Order::Hold, RolloutState::Running) => (RolloutState::Held, false),
            (Order::Resume, RolloutState::Held) => (RolloutState::Running, false),
            (Order::Halt, RolloutState::Running | RolloutState::Held) => {
                (RolloutState::Halted, false)
            }
            (Order::Advance | Order::Hold | Order::Resume | Order::Halt, state) => {
                return Ok(Err(MoveError::State(state.word())));
            }
        };
        let why: String = why.chars().take(REASON_CHARS_MAX).collect();
        let is_done = self.moved(row, state, advances, by, &why).await?;
        Ok(if is_done {
            Ok(())
        } else {
            Err(MoveError::Changed)
        })
    }

    /// Moves a rollout, notes that, and says it to all machines; `false` if it was moved meanwhile.
    async fn moved(
        &self,
        row: RolloutRow,
        state: RolloutState,
        advances: bool,
        by: &str,
        why: &str,
    ) -> Result<bool, ControlError> {
        let at = now();
        let from = row.step;
        let to = match state {
            RolloutState::Halted => 0,
            RolloutState::Running
            | RolloutState::Held
            | RolloutState::Done
            | RolloutState::Replaced => from.saturating_add(u32::from(advances)),
        };
        let is_over = row
            .plan
            .step(to)
            .is_some_and(|step| step.kind == StepKind::Enforce);
        let next = RolloutRow {
            state: if is_over { RolloutState::Done } else { state },
            step: to,
            step_since: if from == to { row.step_since } else { at },
            // Later than any that was signed, also within one millisecond.
            issued: UnixMillis(at.0.max(row.issued.0.saturating_add(1))),
            why: why.to_owned(),
            ..row
        };
        let moved = MoveRow {
            at,
            by: by.to_owned(),
            from,
            to,
            state: next.state,
            why: why.to_owned(),
        };
        let mut writing = self.state.write().await?;
        if !self.state.move_rollout(&mut writing, &next, &moved).await? {
            return Ok(false);
        }
        let act = Act::new(Action::RolloutMoved)
            .by(by)
            .about(&next.id)
            .detail(format!("{}, step {from} to {to}: {why}", next.state.word()));
        self.state.note(&mut writing, &act, at).await?;
        if next.state == RolloutState::Halted {
            self.tell_halt(&mut writing, &next, at).await?;
        }
        self.state.commit(writing).await?;
        let envelope = self.sign_pointer(&next, at)?;
        self.hub.send_all(&Down::Pointer { envelope });
        self.hub.changed(Changed::Policy);
        Ok(true)
    }

    /// Notes that a person finds a refusal wrong.
    ///
    /// # Errors
    /// The inner error says why it is not taken; the outer one is of the server.
    pub async fn report_refusal(
        &self,
        id: &str,
        by: &UserId,
        reason: &str,
    ) -> Result<Result<(), MoveError>, ControlError> {
        let at = now();
        let Some(row) = self.state.rollout(id).await? else {
            return Ok(Err(MoveError::Unknown));
        };
        if !matches!(row.state, RolloutState::Running | RolloutState::Held) {
            return Ok(Err(MoveError::State(row.state.word())));
        }
        let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
        let mut writing = self.state.write().await?;
        let place = (row.id.as_str(), row.step);
        self.state
            .add_report(&mut writing, place, by, &reason, at)
            .await?;
        let act = Act::new(Action::RefusalReported)
            .by(&by.0)
            .about(&row.id)
            .detail(reason);
        self.state.note(&mut writing, &act, at).await?;
        self.state.commit(writing).await?;
        self.hub.changed(Changed::Policy);
        Ok(Ok(()))
    }
}
