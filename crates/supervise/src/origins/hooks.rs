//! Whom hooks speak for.
//!
//! An agent starts its hook like a command, so that the hook has a scope. Such a scope is for no call:
//! what the hook tells is about the region whose agent began it. Any other program that tells the same
//! speaks for the scope that it is in, and for nothing outside of it.

use stockade_event::{Cause, Event};
use stockade_shown::tool_call::{Meaning, meaning, starts_hook};
use stockade_types::{ClaimSource, ProcessId, RawText};

use super::{Number, Origins, State, calls::Region, lock};

/// Whom a program that tells what an agent does speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// The agent that started it as its hook.
    Agent,
    /// The command that it runs in: any program can start the hook's.
    Other,
}

impl Origins {
    /// Says whom a program speaks for that tells what an agent does.
    pub fn speaker(&self, process: ProcessId) -> Speaker {
        let mut state = lock(&self.state);
        let number = self.number(&mut state, process, None);
        match state.scopes.get(&number) {
            Some(scope) if scope.is_hook => Speaker::Agent,
            Some(_) | None => Speaker::Other,
        }
    }

    /// Notes that the call `claim` was denied to the agent that a hook speaks for: nothing will run for
    /// it.
    pub fn denied(&self, process: ProcessId, claim: u64) {
        let mut state = lock(&self.state);
        let number = self.number(&mut state, process, None);
        let region = state.voice(number);
        if let Some(region) = state.regions.get_mut(&region) {
            region.denied(claim);
        }
    }
}

impl State {
    /// Returns the region that a claim of a process in scope `number` is about.
    pub(super) fn speaks_for(&self, number: Number, claim: &Event) -> Number {
        match claim.learned_from() {
            Some(ClaimSource::Hook) => self.voice(number),
            Some(ClaimSource::Traffic | ClaimSource::Otlp) | None => number,
        }
    }

    /// Returns the region that a hook in scope `number` speaks for.
    fn voice(&self, number: Number) -> Number {
        let scope = self.scopes.get(&number).filter(|scope| scope.is_hook);
        scope.map_or(number, |scope| scope.region)
    }

    /// Notes which call a hook in scope `number` tells of.
    pub(super) fn note_told(&mut self, number: Number, region: Number, claim: u64) {
        let region = self.regions.get(&region);
        let found = region.and_then(|region| region.named(claim));
        let cause = found.map(|found| Cause {
            turn: found.turn,
            call: Some(found.call),
            certainty: found.certainty,
        });
        if let Some(scope) = self.scopes.get_mut(&number) {
            scope.told = cause;
        }
    }

    /// Tells whether the agent of a region starts this boundary's hook. A call that asks for the same words
    /// is a call like any other.
    pub(super) fn is_hook(&self, region: Number, argv: &[RawText]) -> bool {
        let text = match meaning(argv) {
            Meaning::Script(text) => text,
            Meaning::Tool(_) | Meaning::ToolToCome | Meaning::Program => return false,
        };
        let line = text.trim().as_bytes();
        let is_asked = |region: &Region| region.names_command(line);
        starts_hook(&text) && !self.regions.get(&region).is_some_and(is_asked)
    }
}
