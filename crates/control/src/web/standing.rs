//! Where a published policy stands: which machines have it, and which sessions still run under another one.

use std::collections::{BTreeMap, HashMap};

use maud::{Markup, html};
use serde::Serialize;

use super::{
    access::Sight,
    page::Mood,
    page::{foreign, state},
    problem::Problem,
};
use crate::{
    Server,
    state::{AckRow, RolloutRow, RolloutState},
};

/// Machines whose refusals are shown.
const FAILED_SHOWN: usize = 20;

/// Where the newest bundle stands.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Standing {
    /// The serial of the newest bundle; 0 for none.
    pub(crate) serial: u64,
    /// Machines that are not retired.
    pub(crate) machines: usize,
    /// Those whose new sessions run under it, at the step of its rollout.
    pub(crate) active: usize,
    /// Those that have it, and not the step.
    pub(crate) stored: usize,
    /// Those under the candidate, if a part of them is.
    pub(crate) canary: usize,
    /// Those that refused it, with the reason.
    pub(crate) failed: Vec<Failed>,
    /// How many refused it.
    pub(crate) failures: usize,
    /// Running sessions by the serial under which they began; the newest first.
    pub(crate) sessions: Vec<Sessions>,
}

/// A machine that refused a policy.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Failed {
    node: String,
    name: String,
    why: String,
}

/// Sessions that run under one serial.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sessions {
    serial: u64,
    count: usize,
}

/// Reads where the newest bundle stands.
pub(crate) async fn standing(
    server: &Server,
    sight: &Sight,
    serial: u64,
    rollout: Option<&RolloutRow>,
) -> Result<Standing, Problem> {
    let nodes = server.state.nodes().await?;
    let acks = server.state.acks().await?;
    let mut newest: HashMap<&str, &AckRow> = HashMap::new();
    let mut sessions: BTreeMap<u64, usize> = BTreeMap::new();
    for ack in &acks {
        if !ack.session.is_empty() {
            *sessions.entry(ack.serial).or_default() += 1;
        } else if newest
            .get(ack.node.as_str())
            .is_none_or(|known| known.serial <= ack.serial)
        {
            newest.insert(&ack.node, ack);
        }
    }
    let mut found = Standing {
        serial,
        sessions: sessions
            .into_iter()
            .rev()
            .map(|(serial, count)| Sessions { serial, count })
            .collect(),
        ..Standing::default()
    };
    let step = rollout.map(|rollout| rollout.step);
    for node in nodes.iter().filter(|node| node.retired.is_none()) {
        found.machines += 1;
        let Some(ack) = newest
            .get(node.id.as_str())
            .filter(|ack| ack.serial == serial)
        else {
            continue;
        };
        if ack.state == "failed" {
            found.failures += 1;
            // Everybody who sees policy sees how many; which ones, only who sees the machine.
            if found.failed.len() < FAILED_SHOWN && sight.has(node) {
                found.failed.push(Failed {
                    node: node.id.to_string(),
                    name: node.name.clone(),
                    why: ack.error.clone().unwrap_or_default(),
                });
            }
            continue;
        }
        found.canary += usize::from(ack.arm.as_deref() == Some("canary"));
        if step.is_none() || ack.step == step {
            found.active += 1;
        } else {
            found.stored += 1;
        }
    }
    Ok(found)
}

impl Standing {
    /// Says it in one line, and who refused it below.
    pub(crate) fn shown(&self) -> Markup {
        let others = self
            .sessions
            .iter()
            .filter(|sessions| sessions.serial != self.serial);
        html! {
            p #standing {
                strong { (self.active) " of " (self.machines) } " machines active"
                @if self.canary > 0 { ", " (self.canary) " of them under the candidate" }
                @if self.stored > 0 { ", " (self.stored) " stored and not at this step yet" }
                @if self.failures > 0 { ", " span.bad { (self.failures) " failed" } }
                @for other in others {
                    ", " (other.count) @if other.count == 1 { " session" } @else { " sessions" } " still on " (other.serial)
                }
                "."
            }
            @if !self.failed.is_empty() {
                .table { table {
                    thead { tr { th scope="col" { "Machine" } th scope="col" { "Why it does not use serial " (self.serial) } } }
                    tbody { @for failed in &self.failed {
                        tr {
                            th scope="row" { a href={ "/fleet/" (failed.node) } { (foreign(&failed.name)) } }
                            td { (foreign(&failed.why)) }
                        }
                    } }
                } }
            }
        }
    }
}

/// Shows how a rollout stands.
pub(crate) fn mood(rollout: RolloutState) -> Markup {
    match rollout {
        RolloutState::Running => state(Mood::Open, "running"),
        RolloutState::Held => state(Mood::Open, "held by a person"),
        RolloutState::Halted => state(Mood::Bad, "halted"),
        RolloutState::Done => state(Mood::Good, "in force everywhere"),
        RolloutState::Replaced => state(Mood::Plain, "replaced"),
    }
}
