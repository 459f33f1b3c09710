//! The commands of the agent that have processes, and what those used together.

use std::{collections::HashMap, time::Instant};

use stockade_event::{Event, Usage};
use stockade_sys::process::Ended;
use stockade_types::{ProcessId, Subject};

use super::{Life, as_fields, millis};
use crate::{limits::SCOPE_REST, origins};

/// The commands that have, or just had, a process.
#[derive(Default)]
pub(super) struct Scopes(HashMap<u32, Scope>);

/// What is known of one of them.
pub(super) struct Scope {
    /// The process that began it.
    first: Option<ProcessId>,
    subject: Subject,
    ended: Option<Ended>,
    since: Instant,
    processes: u64,
    running: u64,
    last_end: Instant,
    usage: Usage,
}

impl Scopes {
    /// Counts a process that executes its first program in `scope`.
    pub(super) fn begins(&mut self, scope: u32, process: &Subject, now: Instant) {
        if scope == 0 {
            return;
        }
        let scope = self.0.entry(scope).or_insert_with(|| Scope {
            first: process.id,
            subject: process.clone(),
            ended: None,
            since: now,
            processes: 0,
            running: 0,
            last_end: now,
            usage: Usage::default(),
        });
        scope.processes += 1;
        scope.running += 1;
    }

    /// Takes a process away that goes on in another command.
    pub(super) fn leaves(&mut self, life: &Life, now: Instant) -> Option<&mut Scope> {
        let scope = self.0.get_mut(&life.scope)?;
        scope.running = scope.running.saturating_sub(1);
        scope.last_end = now;
        Some(scope)
    }

    /// Takes a process away that has ended.
    pub(super) fn ends(&mut self, life: &Life, ended: Option<Ended>, now: Instant) {
        if let Some(scope) = self.leaves(life, now) {
            scope.usage.add(&life.used.usage);
            if scope.first == Some(life.id) {
                scope.ended = ended;
                scope.subject.clone_from(&life.subject);
            }
        }
    }

    /// Returns when a command has had no process for long enough, if one has none.
    pub(super) fn due(&self) -> Option<Instant> {
        let empty = self.0.values().filter(|scope| scope.running == 0);
        empty.map(|scope| scope.last_end + SCOPE_REST).min()
    }

    /// Takes the commands that have ended: those without a process for long enough, or all.
    pub(super) fn ended(&mut self, now: Instant, all: bool) -> Vec<Event> {
        let rests = |scope: &Scope| {
            scope.running == 0 && now.saturating_duration_since(scope.last_end) >= SCOPE_REST
        };
        let ended = self.0.extract_if(|_, scope| all || rests(scope));
        let mut ended: Vec<(u32, Scope)> = ended.collect();
        ended.sort_unstable_by_key(|(number, _)| *number);
        let event = |(number, scope): (u32, Scope)| {
            let (code, signal) = as_fields(scope.ended);
            Event::ScopeEnded {
                scope: origins::name(number),
                process: scope.subject,
                processes: scope.processes,
                code,
                signal,
                duration_ms: millis(scope.last_end.saturating_duration_since(scope.since)),
                usage: scope.usage,
            }
        };
        ended.into_iter().map(event).collect()
    }
}
