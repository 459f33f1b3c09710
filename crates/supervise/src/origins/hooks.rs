//! Whom hooks speak for, and programs that pass on what an agent and its servers of tools say.
//!
//! An agent starts its hook like a command, so that the hook has a scope. Such a scope is for no call:
//! what the hook tells is about the region whose agent began it. Any other program that tells the same
//! speaks for the scope that it is in, and for nothing outside of it.

use stockade_agents::mcp::SHIM_PROGRAM;
use stockade_event::{Cause, Event};
use stockade_shown::tool_call::{Meaning, meaning, starts_hook};
use stockade_types::{Certainty, ClaimSource, ProcessId, RawText};

use super::{Execution, Number, Origins, State, calls::Region, lock};

/// Who in a scope tells what its agent does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Teller {
    /// Nobody: it is a command.
    Nobody,
    /// The hook, and nothing else.
    Hook,
    /// The first process, as long as it is there: it passes on what the agent and a server say to each
    /// other, and the server runs in the same scope.
    Shim(ProcessId),
}

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
        let teller = state.scopes.get(&number).map(|scope| scope.teller);
        match teller {
            Some(Teller::Hook) => Speaker::Agent,
            Some(Teller::Shim(own)) if own == process => Speaker::Agent,
            Some(Teller::Shim(_) | Teller::Nobody) | None => Speaker::Other,
        }
    }

    /// Notes that the call `claim` was denied to the agent that a hook speaks for: nothing will run for
    /// it.
    pub fn denied(&self, process: ProcessId, claim: u64) {
        let mut state = lock(&self.state);
        let number = self.number(&mut state, process, None);
        let region = state.voice(number, process);
        if let Some(region) = state.regions.get_mut(&region) {
            region.denied(claim);
        }
    }
}

impl State {
    /// Returns the region that a claim of a process in scope `number` is about.
    pub(super) fn speaks_for(&self, number: Number, claim: &Event) -> Number {
        match claim.learned_from() {
            Some(ClaimSource::Hook | ClaimSource::Mcp) => {
                let process = claim.subject().and_then(|subject| subject.id);
                process.map_or(number, |process| self.voice(number, process))
            }
            Some(ClaimSource::Traffic | ClaimSource::Otlp) | None => number,
        }
    }

    /// Returns the region that a process in scope `number` speaks for.
    fn voice(&self, number: Number, process: ProcessId) -> Number {
        match self.scopes.get(&number) {
            Some(scope) => match scope.teller {
                Teller::Hook => scope.region,
                Teller::Shim(own) if own == process => scope.region,
                Teller::Shim(_) | Teller::Nobody => number,
            },
            None => number,
        }
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
            scope.told = match scope.teller {
                Teller::Nobody | Teller::Hook => cause,
                // It is found by what it says.
                Teller::Shim(_) => cause.map(|cause| Cause {
                    certainty: Certainty::Inferred,
                    ..cause
                }),
            };
        }
    }

    /// Says who will tell what the agent of a region does, if that starts a program for it. A call that
    /// asks for the same words is a call like any other.
    pub(super) fn teller(&self, region: Number, execution: &Execution<'_>) -> Teller {
        if self.is_hook(region, execution.argv) {
            return Teller::Hook;
        }
        let words: Vec<&[u8]> = execution.argv.iter().map(RawText::as_bytes).collect();
        let is_asked = |region: &Region| region.names_command(&words.join(&b' '));
        let is_shim = words.first() == Some(&SHIM_PROGRAM.as_bytes())
            && !self.regions.get(&region).is_some_and(is_asked);
        if is_shim {
            Teller::Shim(execution.process)
        } else {
            Teller::Nobody
        }
    }

    fn is_hook(&self, region: Number, argv: &[RawText]) -> bool {
        let text = match meaning(argv) {
            Meaning::Script(text) => text,
            Meaning::Tool(_) | Meaning::ToolToCome | Meaning::Program => return false,
        };
        let line = text.trim().as_bytes();
        let is_asked = |region: &Region| region.names_command(line);
        starts_hook(&text) && !self.regions.get(&region).is_some_and(is_asked)
    }
}
