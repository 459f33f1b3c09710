//! Which tool call an effect is for.

use stockade_event::{Cause, Event};
use stockade_types::{Certainty, ClaimSource};

use super::{
    super::{
        open::{Found, Open, Place},
        paths::{is_beside, is_path},
    },
    Conversation, Region,
};

impl Region {
    /// Tells whether an open call names a command line.
    pub(in super::super) fn says(&self, call: u64, line: &[u8]) -> bool {
        let mut open = self.open.iter().rev();
        let open = open.find(|open| open.number == call);
        open.is_some_and(|open| open.says(line))
    }

    /// Finds the call that names a command line.
    pub(in super::super) fn for_command(&mut self, line: &[u8]) -> Option<Found> {
        let named = self.open.iter().filter(|open| open.says(line));
        let has_traffic = named.clone().any(Open::is_of_traffic);
        // What is exported takes nothing away from what traffic shows.
        let named = named.filter(|open| !has_traffic || open.is_of_traffic());
        let free = named.clone().filter(|open| open.scopes == 0);
        let certainty = match named.clone().count() {
            1 => Certainty::Exact,
            // Several say the same: which of them it is cannot be told.
            _ => Certainty::Inferred,
        };
        let number = free.chain(named).map(|open| open.number).next()?;
        self.take(number, certainty)
    }

    /// Tells whether an open call names a command line.
    pub(in super::super) fn names_command(&self, line: &[u8]) -> bool {
        let mut commands = self.open.iter().flat_map(|open| &open.intent.commands);
        commands.any(|command| command.as_bytes().trim_ascii() == line)
    }

    /// Finds the call that a program may be for which no call names: the only one that is open, if it is
    /// no call for a command, of which the words would be known.
    pub(in super::super) fn for_unnamed(&mut self) -> Option<Found> {
        let has_traffic = self.open.iter().any(Open::is_of_traffic);
        let mut open = self.open.iter();
        let mut open = open
            .by_ref()
            .filter(|open| !has_traffic || open.is_of_traffic());
        let only = open.next().filter(|_| open.next().is_none())?;
        let number = only.intent.commands.is_empty().then_some(only.number)?;
        self.take(number, Certainty::Inferred)
    }

    fn take(&mut self, number: u64, certainty: Certainty) -> Option<Found> {
        let open = self.open.iter_mut().find(|open| open.number == number)?;
        open.scopes += 1;
        self.ran = true;
        Some(open.found(certainty))
    }

    /// Says what a claim came of: the prompt, and of a sub-agent the call that started it.
    fn cause_of_claim(&self, event: &Event) -> Option<Cause> {
        let of = |place: Place| {
            let conversation = self.conversation(place);
            let (call, certainty) = conversation.start.unzip();
            Cause {
                turn: conversation.turn,
                call,
                certainty: certainty.unwrap_or(Certainty::Inferred),
            }
        };
        match event {
            Event::ToolReturned {
                call,
                decision,
                learned_from,
                ..
            } => Some(Cause {
                turn: self.conversation(self.place(*decision)).turn,
                call: *call,
                certainty: match learned_from {
                    ClaimSource::Traffic => Certainty::Exact,
                    ClaimSource::Hook | ClaimSource::Otlp | ClaimSource::Mcp => Certainty::Inferred,
                },
            }),
            Event::PlanChanged {
                call: Some(call), ..
            } => Some(Cause {
                turn: self.open.iter().find(|open| open.number == *call)?.turn,
                call: Some(*call),
                certainty: Certainty::Exact,
            }),
            Event::PromptSubmitted { decision, .. }
            | Event::ToolCalled { decision, .. }
            | Event::ModelCalled { decision, .. } => {
                let cause = of(self.place(*decision));
                (cause.turn.is_some() || cause.call.is_some()).then_some(cause)
            }
            Event::AgentStarted { call, .. } | Event::AgentEnded { call, .. } => {
                let started =
                    |one: &Conversation| one.start.is_some_and(|(start, _)| start == *call);
                self.others
                    .iter()
                    .position(started)
                    .map(|place| of(Some(place)))
            }
            _ => None,
        }
    }

    /// Says what an event of the agent itself came of.
    pub(in super::super) fn cause(&self, event: &Event) -> Option<Cause> {
        if let Some(cause) = self.cause_of_claim(event) {
            return Some(cause);
        }
        let target = match event {
            Event::FileChanged { path, .. } => Some(path),
            _ => event
                .decision()
                .and_then(|decision| decision.target.path.as_ref()),
        };
        let host = event
            .decision()
            .and_then(|decision| decision.target.host.as_deref());
        let found = target
            .and_then(|path| self.for_path(path.as_bytes()))
            .or_else(|| self.for_host(host?));
        let (turn, call, certainty) = match found {
            Some(found) => (found.turn, Some(found.call), found.certainty),
            None => (Some(self.own.turn?), None, Certainty::Inferred),
        };
        Some(Cause {
            turn,
            call,
            certainty,
        })
    }

    /// Finds the call that names a file; one beside it with a longer name is what many programs write
    /// first.
    fn for_path(&self, path: &[u8]) -> Option<Found> {
        let named = |open: &&Open, is_it: fn(&[u8], &[u8]) -> bool| {
            let mut paths = open.intent.paths.iter();
            paths.any(|named| is_it(named.as_bytes(), path))
        };
        let exact = self.open.iter().filter(|open| named(open, is_path));
        let has_traffic = exact.clone().any(Open::is_of_traffic);
        let mut exact = exact.filter(|open| !has_traffic || open.is_of_traffic());
        if let Some(open) = exact.next() {
            let certainty = match exact.next() {
                None => Certainty::Exact,
                Some(_) => Certainty::Inferred,
            };
            return Some(open.found(certainty));
        }
        let open = self.open.iter().find(|open| named(open, is_beside))?;
        Some(open.found(Certainty::Inferred))
    }

    fn for_host(&self, host: &str) -> Option<Found> {
        let open = self.open.iter().find(|open| {
            let mut hosts = open.intent.hosts.iter();
            hosts.any(|named| {
                let name = named.as_bytes().split(|byte| *byte == b':').next();
                name.is_some_and(|name| name.eq_ignore_ascii_case(host.as_bytes()))
            })
        })?;
        Some(open.found(Certainty::Inferred))
    }
}
