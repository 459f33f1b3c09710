//! The tool calls of one agent that may still have effects.

use std::collections::VecDeque;

use stockade_agents::Intent;
use stockade_event::{Cause, Event, Listed, Said};
use stockade_types::{Certainty, Digest, RawText};

/// Calls that are open at a time; agents run some dozens.
const OPEN_MAX: usize = 512;
/// Ids of calls that have returned, and prompts, that are known again when they are sent again.
const SAID_MAX: usize = 1024;

/// What the agent of a region has said.
#[derive(Default)]
pub(super) struct Region {
    /// The last prompt.
    turn: Option<u64>,
    /// How many calls there were.
    calls: u32,
    /// A process began for one of them.
    ran: bool,
    /// Calls without a result, oldest first.
    open: VecDeque<Open>,
    returned: VecDeque<RawText>,
    /// Prompts since the last answer: a call that fails is made again.
    prompts: Vec<Digest>,
}

/// A call without a result.
struct Open {
    number: u64,
    turn: Option<u64>,
    id: RawText,
    intent: Intent,
    /// Scopes that are for it.
    scopes: u64,
}

/// A call that was found, its prompt, and how.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) call: u64,
    pub(super) turn: Option<u64>,
    pub(super) certainty: Certainty,
}

impl Open {
    const fn found(&self, certainty: Certainty) -> Found {
        Found {
            call: self.number,
            turn: self.turn,
            certainty,
        }
    }

    /// Returns the command that it names, if nothing ran for it and the agent did not do it by itself.
    fn unmet(&self) -> Option<(u64, RawText)> {
        let command = self.intent.commands.first()?;
        let is_unmet = self.scopes == 0 && self.intent.paths.is_empty();
        is_unmet.then(|| (self.number, command.clone()))
    }
}

impl Region {
    /// Returns what an open call names.
    pub(super) fn intent(&self, call: u64) -> Option<&Intent> {
        let open = self.open.iter().find(|open| open.number == call)?;
        Some(&open.intent)
    }

    /// Returns the last prompt.
    pub(super) const fn turn(&self) -> Option<u64> {
        self.turn
    }

    /// Returns how many calls there were.
    pub(super) const fn calls(&self) -> u32 {
        self.calls
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.open.len() + self.returned.len() + self.prompts.len()
    }

    /// Prepares a claim for the record; `false` if it was made before.
    pub(super) fn admits(&self, event: &mut Event) -> bool {
        if let Event::PromptSubmitted { parts, aside, .. } = event {
            return !self.prompts.contains(&digest(parts, *aside));
        }
        if let Event::ToolReturned { id, call, .. } = event {
            let open = self.open.iter().find(|open| open.id == *id);
            *call = open.map(|open| open.number);
            return call.is_some() || !self.returned.contains(id);
        }
        true
    }

    /// Takes a claim that is in the record with number `seq`; returns the call that has returned with it
    /// and its command, if nothing ran for it although this agent's commands are seen to run.
    pub(super) fn claimed(
        &mut self,
        seq: u64,
        event: &Event,
        intent: Intent,
    ) -> Option<(u64, RawText)> {
        let mut unmet = None;
        if let Event::PromptSubmitted { parts, aside, .. } = event {
            if self.prompts.len() < SAID_MAX {
                self.prompts.push(digest(parts, *aside));
            }
            if !aside {
                self.turn = Some(seq);
            }
        } else if let Event::ToolCalled { id, .. } = event {
            self.calls = self.calls.wrapping_add(1);
            if self.open.len() >= OPEN_MAX {
                self.open.pop_front();
            }
            self.open.push_back(Open {
                number: seq,
                turn: self.turn,
                id: id.clone(),
                intent,
                scopes: 0,
            });
        } else if let Event::ToolReturned { id, call, .. } = event {
            let mut open = self.open.iter();
            let returned = open.find(|open| Some(open.number) == *call);
            unmet = returned.and_then(Open::unmet).filter(|_| self.ran);
            self.open.retain(|open| Some(open.number) != *call);
            if self.returned.len() >= SAID_MAX {
                self.returned.pop_front();
            }
            self.returned.push_back(id.clone());
        } else if let Event::ModelCalled { error: None, .. } = event {
            self.prompts.clear();
        }
        unmet
    }

    /// Finds the call that names a command line.
    pub(super) fn for_command(&mut self, line: &[u8]) -> Option<Found> {
        let is_it = |open: &&Open| {
            let mut commands = open.intent.commands.iter();
            commands.any(|command| command.as_bytes().trim_ascii() == line)
        };
        let named = self.open.iter().filter(is_it);
        let free = named.clone().filter(|open| open.scopes == 0);
        let certainty = match (free.clone().count(), named.clone().count()) {
            (1, _) | (0, 1) => Certainty::Exact,
            // Several say the same: which of them it is cannot be told.
            _ => Certainty::Inferred,
        };
        let number = free.chain(named).map(|open| open.number).next()?;
        self.take(number, certainty)
    }

    /// Finds the call that a program may be for which no call names: the only one that is open, if it is
    /// no call for a command, of which the words would be known.
    pub(super) fn for_unnamed(&mut self) -> Option<Found> {
        let only = self.open.front().filter(|_| self.open.len() == 1)?;
        let number = only.intent.commands.is_empty().then_some(only.number)?;
        self.take(number, Certainty::Inferred)
    }

    fn take(&mut self, number: u64, certainty: Certainty) -> Option<Found> {
        let open = self.open.iter_mut().find(|open| open.number == number)?;
        open.scopes += 1;
        self.ran = true;
        Some(open.found(certainty))
    }

    /// Says what an event of the agent itself came of.
    pub(super) fn cause(&self, event: &Event) -> Option<Cause> {
        if let Event::ToolReturned { call, .. } = event {
            return Some(Cause {
                turn: self.turn,
                call: *call,
                certainty: Certainty::Exact,
            });
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
            None => (Some(self.turn?), None, Certainty::Inferred),
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
        let mut exact = self.open.iter().filter(|open| named(open, is_path));
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

/// Tells whether one of the paths that were said is `path`, or stands beside it.
pub(super) fn names(said: &[RawText], path: &[u8]) -> bool {
    let mut said = said.iter().map(RawText::as_bytes);
    said.any(|said| is_path(said, path) || is_beside(said, path))
}

/// Tells whether a path as it was said is `path`, which is absolute.
fn is_path(said: &[u8], path: &[u8]) -> bool {
    let said = said.strip_prefix(b"./").unwrap_or(said);
    if said.starts_with(b"/") {
        return said == path;
    }
    let before = path.strip_suffix(said);
    !said.is_empty() && before.is_some_and(|before| before.ends_with(b"/"))
}

/// Tells whether `path` is what was said with something behind it.
fn is_beside(said: &[u8], path: &[u8]) -> bool {
    let name = said.rsplit(|byte| *byte == b'/').next().unwrap_or(said);
    let own = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    let own = own.strip_prefix(b".").unwrap_or(own);
    name.len() > 2 && own.len() > name.len() && own.starts_with(name)
}

fn digest(parts: &Listed<Said>, aside: bool) -> Digest {
    // Serialising our own values cannot fail.
    let text = serde_json::to_vec(&(parts, aside)).unwrap_or_default();
    Digest::of(&text)
}
