//! What an effect came of: which command of the agent a process belongs to, and which tool call the
//! command is for.
//!
//! Each program that an agent starts begins a *scope*, to which all that comes of it belongs. The kernel
//! keeps the number of the scope with each process (`stockade_sys::mark`, ADR 0036), so that nobody can
//! leave one. Where that is impossible, the scope is that of the parent, as long as it lives.
//!
//! A *region* is what an agent itself runs in: the session outside all scopes, or a scope in which a
//! process has called a model. Only an agent's own calls can be what a scope of its region is for: what
//! a program further inside says of itself can never take the place of the agent's words.

mod calls;
mod command;
mod hooks;
mod kept;
mod mismatch;
mod open;
mod paths;
mod servers;
mod sources;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use stockade_agents::Intent;
use stockade_event::{Cause, Event};
use stockade_secrets::hide;
use stockade_sys::mark;
use stockade_types::{Certainty, ClaimSource, ProcessId, RawText, RequestKind};

use calls::{Region, Told};
use command::Command;
pub use hooks::Speaker;
use hooks::Teller;
use kept::Kept;
use mismatch::{Effect, Mismatches};
use open::Found;
pub(crate) use sources::Admitted;

/// Processes and scopes that are remembered, about 100 bytes each.
const REMEMBERED_MAX: usize = 50_000;
/// Processes among them that have ended: what is learned of them later, such as the end of a call of a
/// model, still belongs to their scope.
const ENDED_MAX: usize = REMEMBERED_MAX / 2;
/// Scopes that may still find their call.
const UNBOUND_MAX: usize = 64;

/// The name of a scope, and what an event came of.
pub(crate) type Origin = (Option<Arc<str>>, Option<Cause>);

/// The number of a scope; 0 is the session outside all scopes.
type Number = u32;

/// The origins of a session's effects.
pub struct Origins {
    /// The kernel keeps the numbers.
    marks: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The scopes of processes that were asked about.
    of: HashMap<ProcessId, Number>,
    scopes: HashMap<Number, Scope>,
    regions: HashMap<Number, Region>,
    /// Those of `of` that have ended, oldest first.
    ended: VecDeque<ProcessId>,
    /// Processes that are the agent, and whether that is certain: the session's own command and
    /// whoever called a model. Others only have its name.
    agents: HashMap<ProcessId, bool>,
    /// Scopes that have no call yet, oldest first.
    unbound: Vec<Unbound>,
    mismatches: Mismatches,
    kept: Kept,
    next: Number,
    /// Whether the first execution, the command's own, has happened.
    started: bool,
}

/// A command of an agent.
#[derive(Clone)]
struct Scope {
    /// The region whose agent began it.
    region: Number,
    turn: Option<u64>,
    call: Option<(u64, Certainty)>,
    /// Why the tool was called, in the model's words.
    says: Option<RawText>,
    /// Files that the call names, if it names nothing else.
    only_files: Vec<RawText>,
    /// Who in it tells what its agent does.
    teller: Teller,
    /// The call that was told of last.
    told: Option<Cause>,
}

/// A scope whose call is not known yet.
struct Unbound {
    number: Number,
    first: ProcessId,
    command: Command,
}

/// An execution that is about to happen.
pub(crate) struct Execution<'e> {
    pub(crate) process: ProcessId,
    pub(crate) parent: Option<ProcessId>,
    pub(crate) argv: &'e [RawText],
    /// The program is one of the agent's own.
    pub(crate) is_agents: bool,
}

/// A scope whose call has become known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) number: Number,
    pub(crate) first: ProcessId,
    pub(crate) call: u64,
    pub(crate) certainty: Certainty,
}

/// What became of a sub-agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SubAgent {
    /// It began with a prompt.
    Started { call: u64, prompt: u64 },
    /// Its model asks for nothing more.
    Ended { call: u64 },
}

/// What has become known by a claim.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    /// Scopes whose call is known now.
    pub(crate) scopes: Vec<Bound>,
    pub(crate) sub_agent: Option<SubAgent>,
}

impl Default for Origins {
    fn default() -> Self {
        Self::new(mark::is_possible())
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the name of a scope.
pub(crate) fn name(number: Number) -> String {
    format!("c-{number}")
}

impl Origins {
    fn new(marks: bool) -> Self {
        let mut state = State::default();
        state.regions.insert(0, Region::default());
        Self {
            marks,
            state: Mutex::new(state),
        }
    }

    /// Returns a number that is the same for effects of one command or of one call of the agent itself,
    /// as far as the kernel keeps scopes.
    pub(crate) fn era(&self, thread: u32) -> u64 {
        let read = self.marks.then(|| mark::read(thread).ok().flatten());
        let number = read.flatten().unwrap_or_default();
        let state = lock(&self.state);
        let calls = state.regions.get(&number).map_or(0, Region::calls);
        u64::from(number) << 32 | u64::from(calls)
    }

    /// Notes the scope of a process while it is there.
    pub fn note(&self, process: ProcessId) {
        self.number(&mut lock(&self.state), process, None);
    }

    /// Returns the number of the scope of a process that is there; 0 is the session outside all scopes.
    pub(crate) fn scope(&self, process: ProcessId) -> u32 {
        self.number(&mut lock(&self.state), process, None)
    }

    /// Notes which processes have ended: they are forgotten before any other.
    pub(crate) fn forget_ended(&self, events: &[Event]) {
        let mut state = lock(&self.state);
        let ended = events
            .iter()
            .filter(|event| matches!(event, Event::ProcessEnded { .. }))
            .filter_map(|event| event.subject()?.id);
        state.ended.extend(ended);
        while state.ended.len() > ENDED_MAX {
            if let Some(process) = state.ended.pop_front() {
                state.of.remove(&process);
                state.agents.remove(&process);
            }
        }
    }

    /// Finds the scope of an execution that is about to happen, beginning one if an agent starts
    /// another program; returns the call that the scope is for, once it becomes known.
    pub(crate) fn executes(&self, execution: &Execution<'_>) -> Option<Bound> {
        let mut state = lock(&self.state);
        let id = execution.process;
        if !state.started {
            state.started = true;
            state.agents.insert(id, true);
            return None;
        }
        let number = self.number(&mut state, id, execution.parent);
        if !state.regions.contains_key(&number) {
            return state.executes_next(number, execution);
        }
        let is_agent = |process: ProcessId| state.agents.get(&process).copied();
        let own = is_agent(id);
        let is_child = own.is_some() || execution.parent.and_then(is_agent).is_some();
        // The agent replaces itself, or is started by a part of it. What has only its name can also be
        // what it prepares a command with.
        if own == Some(true) {
            return None;
        }
        if is_child && execution.is_agents {
            state.agents.insert(id, false);
            return None;
        }
        state.agents.remove(&id);
        state.next = state.next.saturating_add(1).max(number.saturating_add(1));
        let new = state.next;
        if self.marks && mark::set(id.pid, new).is_err() {
            // The process is gone, or about to be.
            return None;
        }
        state.begin(new, number, execution);
        state.bind_last(new)
    }

    /// Returns the scope of an event, and what the event came of.
    pub(crate) fn of(&self, event: &Event) -> Origin {
        let mut state = lock(&self.state);
        let Some(process) = event.subject().and_then(|subject| subject.id) else {
            return state.kept.of(event);
        };
        let number = self.number(&mut state, process, None);
        let name = (number > 0).then(|| name(number).into());
        let cause = state.cause(number, event);
        state.compare(number, process, event, cause);
        let origin = (name, cause);
        state.kept.note(event, &origin);
        origin
    }

    /// Returns what the tool call that a process works for says of itself; nobody has checked it.
    pub fn says(&self, process: ProcessId) -> Option<String> {
        let mut state = lock(&self.state);
        let number = self.number(&mut state, process, None);
        let scope = state.scopes.get(&number)?;
        let says = scope.says.as_ref()?;
        Some(hide(says).unwrap_or_else(|| says.clone()).display())
    }

    /// Returns findings that are not in the record yet.
    pub(crate) fn findings(&self) -> Vec<Event> {
        lock(&self.state).mismatches.take()
    }

    /// Prepares a claim of an agent for the record.
    pub(crate) fn admits(&self, event: &mut Event, intent: &Intent) -> Admitted {
        let Some(process) = event.subject().and_then(|subject| subject.id) else {
            return Admitted::New;
        };
        let mut state = lock(&self.state);
        let number = self.number(&mut state, process, None);
        let number = state.speaks_for(number, event);
        let Some(region) = state.region(number, process, event) else {
            return Admitted::New;
        };
        let admitted = region.admits(event, intent);
        if let Admitted::Again {
            claim,
            agrees: false,
        } = admitted
        {
            state.mismatches.sources_differ(claim, event, intent);
            if event.learned_from() == Some(ClaimSource::Traffic) {
                // Whoever told of it first does not keep what traffic shows out of the record.
                state.agent(number, process, event).forget(claim);
                return Admitted::New;
            }
        }
        admitted
    }

    /// Takes a claim that is in the record with number `seq`, and returns what has become known by it.
    pub(crate) fn claimed(&self, seq: u64, event: &Event, intent: Intent) -> Learned {
        self.learn(seq, event, |region| region.claimed(seq, event, intent))
    }

    /// Takes a claim that is in the record as event `claim` already, from another source.
    pub(crate) fn repeated(&self, claim: u64, event: &Event, intent: Intent) -> Learned {
        self.learn(claim, event, |region| region.repeated(claim, event, intent))
    }

    /// Has the region in which a claim is made take it; the record has it as event `seq`.
    fn learn(&self, seq: u64, event: &Event, take: impl FnOnce(&mut Region) -> Told) -> Learned {
        let Some(process) = event.subject().and_then(|subject| subject.id) else {
            return Learned::default();
        };
        let mut state = lock(&self.state);
        let own = self.number(&mut state, process, None);
        let number = state.speaks_for(own, event);
        let Some(region) = state.region(number, process, event) else {
            return Learned::default();
        };
        let told = take(region);
        state.note_told(own, number, seq);
        state.told(number, seq, event, told)
    }

    /// Returns the scope of a process; `parent` is asked for it where the kernel does not keep it.
    fn number(&self, state: &mut State, process: ProcessId, parent: Option<ProcessId>) -> Number {
        if let Some(known) = state.of.get(&process) {
            return *known;
        }
        let read = if self.marks {
            mark::read(process.pid).ok().map(Option::unwrap_or_default)
        } else {
            parent.and_then(|parent| state.of.get(&parent).copied())
        };
        // Of a process that is gone nothing is remembered: its number may be another's by now.
        let Some(number) = read else { return 0 };
        state.remember(process, number);
        number
    }
}

impl State {
    /// Draws the conclusions from a claim in a region, which is event `seq`.
    fn told(&mut self, number: Number, seq: u64, event: &Event, told: Told) -> Learned {
        if let Some((call, command)) = told.unmet {
            self.mismatches.nothing_ran(call, &command);
        }
        let scopes = if matches!(event, Event::ToolCalled { .. }) {
            self.bind_all(number, seq)
        } else {
            Vec::new()
        };
        Learned {
            scopes,
            sub_agent: told.sub_agent,
        }
    }

    fn remember(&mut self, process: ProcessId, number: Number) {
        if self.of.len() >= REMEMBERED_MAX {
            // Those that run are read again.
            self.of.clear();
            self.ended.clear();
        }
        self.of.insert(process, number);
    }

    /// Returns the region in which a claim is made; none, if only an export says that there is an agent
    /// where something else is known: any program can export.
    fn region(&mut self, number: Number, process: ProcessId, claim: &Event) -> Option<&mut Region> {
        match claim.learned_from() {
            Some(ClaimSource::Otlp) if self.may_be_agents(number) => {
                Some(self.agent(number, process, claim))
            }
            // Whoever calls a server is no agent by that.
            Some(ClaimSource::Otlp | ClaimSource::Mcp) => self.regions.get_mut(&number),
            Some(ClaimSource::Traffic | ClaimSource::Hook) | None => {
                Some(self.agent(number, process, claim))
            }
        }
    }

    /// Tells whether a scope can be that of an agent of which nothing but exports is known, such as one that
    /// a launcher started: no tool call is known for it, and no traffic of whoever began it.
    fn may_be_agents(&self, number: Number) -> bool {
        let scope = self
            .scopes
            .get(&number)
            .filter(|scope| scope.call.is_none());
        let region = scope.and_then(|scope| self.regions.get(&scope.region));
        region.is_some_and(|region| !region.is_heard() && region.calls() == 0)
    }

    /// Returns the region of an agent. A process is one that calls a model; a hook is only started by one.
    fn agent(&mut self, number: Number, process: ProcessId, claim: &Event) -> &mut Region {
        let is_agent = claim.learned_from() != Some(ClaimSource::Hook);
        if is_agent && self.agents.len() < REMEMBERED_MAX {
            self.agents.insert(process, true);
        }
        self.regions.entry(number).or_default()
    }

    fn begin(&mut self, number: Number, region: Number, execution: &Execution<'_>) {
        self.remember(execution.process, number);
        if self.scopes.len() >= REMEMBERED_MAX {
            self.scopes.clear();
        }
        let turn = self.regions.get(&region).and_then(Region::turn);
        let scope = Scope {
            region,
            turn,
            call: None,
            says: None,
            only_files: Vec::new(),
            teller: self.teller(region, execution),
            told: None,
        };
        let is_command = scope.teller == Teller::Nobody;
        self.scopes.insert(number, scope);
        if !is_command {
            return;
        }
        if self.unbound.len() >= UNBOUND_MAX {
            self.unbound.remove(0);
        }
        self.unbound.push(Unbound {
            number,
            first: execution.process,
            command: Command::of(execution.argv),
        });
    }

    /// Takes a later execution within a scope: it can be the command that its first process was
    /// prepared for.
    fn executes_next(&mut self, number: Number, execution: &Execution<'_>) -> Option<Bound> {
        let waiting = self.unbound.iter_mut().find(|unbound| {
            unbound.number == number
                && unbound.first == execution.process
                && matches!(unbound.command, Command::ToCome)
        })?;
        waiting.command = Command::of(execution.argv);
        self.bind_last(number)
    }

    fn bind_last(&mut self, number: Number) -> Option<Bound> {
        let at = self.unbound.iter().position(|one| one.number == number)?;
        self.bind(at, true)
    }

    /// Looks for the scopes of a region that are for a call of which something new was said; for the
    /// others it was looked when they were said.
    fn bind_all(&mut self, region: Number, call: u64) -> Vec<Bound> {
        let mut bound = Vec::new();
        let mut at = 0;
        while let Some(unbound) = self.unbound.get(at) {
            let scope = self.scopes.get(&unbound.number);
            let is_own = scope.is_some_and(|scope| scope.region == region);
            let can_be = is_own && self.says_of(region, call, unbound);
            match can_be.then(|| self.bind(at, false)).flatten() {
                Some(one) => bound.push(one),
                None => at += 1,
            }
        }
        bound
    }

    fn says_of(&self, region: Number, call: u64, unbound: &Unbound) -> bool {
        let region = self.regions.get(&region);
        match &unbound.command {
            Command::Text(line) | Command::Program(line) => {
                region.is_some_and(|region| region.says(call, line))
            }
            Command::ToCome | Command::Own => false,
        }
    }

    /// Looks for the call of a scope; one that began `now` can be for a call that does not name it.
    fn bind(&mut self, at: usize, now: bool) -> Option<Bound> {
        let unbound = self.unbound.get(at)?;
        let scope = self.scopes.get_mut(&unbound.number)?;
        let region = self.regions.get_mut(&scope.region)?;
        let found = match &unbound.command {
            Command::Text(line) | Command::Program(line) => region.for_command(line),
            Command::ToCome | Command::Own => return None,
        };
        let found = found.or_else(|| now.then(|| region.for_unnamed()).flatten());
        let Found {
            call,
            turn,
            mut certainty,
        } = found?;
        if !now {
            // Others that say the same may still come.
            certainty = Certainty::Inferred;
        }
        scope.call = Some((call, certainty));
        scope.turn = turn.or(scope.turn);
        if let Some(intent) = region.intent(call) {
            scope.says.clone_from(&intent.says);
            if intent.commands.is_empty() && intent.hosts.is_empty() {
                scope.only_files.clone_from(&intent.paths);
            }
        }
        let unbound = self.unbound.remove(at);
        Some(Bound {
            number: unbound.number,
            first: unbound.first,
            call,
            certainty,
        })
    }

    /// Compares an effect with what was said.
    fn compare(&mut self, number: Number, process: ProcessId, event: &Event, cause: Option<Cause>) {
        let Some(effect) = Effect::of(event) else {
            return;
        };
        let path = effect.path();
        let call = cause.and_then(|cause| cause.call);
        if let Some(region) = self.regions.get(&number) {
            let is_agent = self.agents.get(&process) == Some(&true);
            let is_unsaid = is_agent && call.is_none() && region.calls() > 0 && region.is_heard();
            if let Some(path) = path.filter(|_| is_unsaid) {
                self.mismatches.unsaid_change(path);
            }
            return;
        }
        let Some((scope, call)) = self.scopes.get(&number).zip(call) else {
            return;
        };
        let named = &scope.only_files;
        let is_named = |path: &RawText| paths::names(named, path.as_bytes());
        if let Some(first) = named.first().filter(|_| !path.is_some_and(is_named)) {
            self.mismatches.more_than_said(call, first, event);
        }
    }

    /// Says what an event of a process in scope `number` came of.
    fn cause(&self, number: Number, event: &Event) -> Option<Cause> {
        if event.decision().map(|decision| decision.kind) == Some(RequestKind::Tool)
            && let Some(told) = self.scopes.get(&number).and_then(|scope| scope.told)
        {
            return Some(told);
        }
        let number = self.speaks_for(number, event);
        let own = self
            .regions
            .get(&number)
            .and_then(|region| region.cause(event));
        if own.is_some_and(|own| own.call.is_some()) {
            return own;
        }
        self.cause_of_scope(number).or(own)
    }

    fn cause_of_scope(&self, number: Number) -> Option<Cause> {
        let mut scope = self.scopes.get(&number)?;
        // What a server does while it is called.
        if let (Teller::Shim(_), Some(told)) = (scope.teller, scope.told) {
            return Some(told);
        }
        // What an agent inside a command does is for the call of the one outside.
        while scope.call.is_none() && scope.turn.is_none() {
            scope = self.scopes.get(&scope.region)?;
        }
        Some(Cause {
            turn: scope.turn,
            call: scope.call.map(|(call, _)| call),
            certainty: scope
                .call
                .map_or(Certainty::Inferred, |(_, certainty)| certainty),
        })
    }
}

#[cfg(test)]
mod tests;
