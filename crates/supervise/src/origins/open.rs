//! A tool call that has no result yet, and what recognises its effects.

use stockade_agents::Intent;
use stockade_event::Said;
use stockade_types::{Certainty, ClaimSource, Digest, RawText};

/// Which conversation: that of a sub-agent, or the agent's own.
pub(super) type Place = Option<usize>;

/// A call without a result.
pub(super) struct Open {
    pub(super) number: u64,
    pub(super) turn: Option<u64>,
    pub(super) place: Place,
    pub(super) id: RawText,
    pub(super) name: RawText,
    /// What it is called with, without the text.
    pub(super) arguments: Option<Said>,
    pub(super) source: ClaimSource,
    pub(super) intent: Intent,
    /// Scopes that are for it.
    pub(super) scopes: u64,
    /// It does not happen.
    pub(super) is_denied: bool,
    /// It is known that a server got it, and another source tells of it too.
    pub(super) is_passed: bool,
}

/// A call that was found, its prompt, and how.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) call: u64,
    pub(super) turn: Option<u64>,
    pub(super) certainty: Certainty,
}

impl Open {
    pub(super) fn is_of_traffic(&self) -> bool {
        self.source == ClaimSource::Traffic
    }

    /// Says that this call was found. Only traffic shows that the agent's own model made it: whatever
    /// runs for the agent can export telemetry and run a hook.
    pub(super) fn found(&self, certainty: Certainty) -> Found {
        let certainty = match self.source {
            ClaimSource::Traffic => certainty,
            ClaimSource::Hook | ClaimSource::Otlp | ClaimSource::Mcp => Certainty::Inferred,
        };
        Found {
            call: self.number,
            turn: self.turn,
            certainty,
        }
    }

    /// Returns what another agent is told by it, as traffic shows.
    pub(super) fn told(&self) -> &[Digest] {
        match self.source {
            ClaimSource::Traffic => &self.intent.prompts,
            ClaimSource::Hook | ClaimSource::Otlp | ClaimSource::Mcp => &[],
        }
    }

    /// Tells whether it names a command line.
    pub(super) fn says(&self, line: &[u8]) -> bool {
        let mut commands = self.intent.commands.iter();
        commands.any(|command| command.as_bytes().trim_ascii() == line)
    }

    /// Returns the command that it names, if nothing ran for it and the agent did not do it by itself.
    pub(super) fn unmet(&self) -> Option<(u64, RawText)> {
        let command = self.intent.commands.first()?;
        let is_unmet = self.scopes == 0 && self.intent.paths.is_empty() && !self.is_denied;
        is_unmet.then(|| (self.number, command.clone()))
    }
}
