//! Which processes may inspect and change which others: debuggers, tracers, leak checkers.
//!
//! A tracer controls the process that it traces. So a process that is traced, or was, may not run a
//! program that a person was asked about or that a rule trusts, and a process that runs on an
//! answer or is trusted cannot be traced (ADR 0013). All other processes of a session may trace
//! each other: they could have been the same program from the beginning.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fs, io,
    os::unix::fs::MetadataExt,
};

use stockade_event::{Durability, Event};
use stockade_plan::Debuggers;
use stockade_policy::{Access, Control, Decision, FileRequest, Request};
use stockade_sys::notifier::Notification;
use stockade_types::{ProcessId, RawText, Verdict};

use super::{ERRNO_NOT_JUDGED, Reply, Supervision, descriptor, exec::Attempt, state};
use crate::procfs::{self, Identity};

/// `PTRACE_TRACEME`: the caller is to be traced by its parent.
const TRACE_ME: u64 = 0;
/// `ESRCH`.
const ERRNO_NO_PROCESS: i32 = 3;
/// Processes that are remembered before dead ones are forgotten.
const KNOWN_MAX: usize = 4096;
/// Ours and the session's.
const SESSION_NAMESPACES: usize = 2;
/// Ancestors that are followed; a session has fewer processes in all.
const ANCESTORS_MAX: usize = 100_000;

/// The record of tracing and of the processes that must not be traced.
#[derive(Debug, Default)]
pub(super) struct Seals {
    /// Processes that run on an answer; all their descendants belong to it as well.
    answered: HashSet<ProcessId>,
    /// The programs that they ran, each with its answer; with several answers, it belongs to none.
    images: HashMap<(u64, u64), Seal>,
    /// Processes that were permitted to run a program that a rule trusts.
    trusted: HashSet<ProcessId>,
    /// Processes that another one was permitted to trace: they may run other code than judged.
    traced: HashSet<ProcessId>,
}

/// The answer that a process runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seal {
    Nobodys,
    Of(ProcessId),
    Several,
}

impl Seals {
    fn is_empty(&self) -> bool {
        self.answered.is_empty()
    }

    fn note_image(&mut self, image: (u64, u64), seal: Seal) {
        match self.images.entry(image) {
            Entry::Vacant(free) => {
                free.insert(seal);
            }
            Entry::Occupied(mut known) if *known.get() != seal => {
                known.insert(Seal::Several);
            }
            Entry::Occupied(_) => {}
        }
    }
}

/// Adds a process; if there are many, first forgets dead ones.
fn remember(known: &mut HashSet<ProcessId>, id: ProcessId) {
    if known.len() >= KNOWN_MAX {
        known.retain(|one| procfs::of_process(one.pid).is_ok_and(|now| now.id == *one));
    }
    known.insert(id);
}

impl Supervision {
    /// Judges a call that begins to trace (ptrace(2)).
    pub(super) fn judge_trace(&self, call: &Notification, tid: u32) -> Reply {
        let [request, target, ..] = call.arguments;
        let Ok(caller) = procfs::identity(tid) else {
            return Reply::Refuse(ERRNO_NOT_JUDGED);
        };
        let pair = if request == TRACE_ME {
            procfs::of_process(caller.parent).map(|parent| (parent, caller))
        } else {
            self.process_inside(tid, descriptor(target))
                .map(|target| (caller, target))
        };
        let Ok((tracer, target)) = pair else {
            return Reply::Refuse(ERRNO_NO_PROCESS);
        };
        match self.let_change(tracer, target) {
            None => Reply::Proceed,
            Some(decision) => {
                // If this cannot be written, the session is over.
                let _written = self.note_kept(tid, target, &decision);
                Reply::Refuse(ERRNO_NOT_JUDGED)
            }
        }
    }

    /// Whether a thread may write the memory of the process with this id in the session.
    pub(super) fn may_write_memory(&self, tid: u32, inside: &str) -> bool {
        match self.policy.settings().process.debuggers.value {
            Debuggers::None => return false,
            Debuggers::All => return true,
            Debuggers::Own => {}
        }
        let target = inside.parse().map_err(io::Error::other);
        let target = target.and_then(|id| self.process_inside(tid, id));
        let (Ok(tracer), Ok(target)) = (procfs::identity(tid), target) else {
            return false;
        };
        match self.let_change(tracer, target) {
            None => true,
            Some(decision) => {
                let _written = self.note_kept(tid, target, &decision);
                false
            }
        }
    }

    /// Finds a process of the session by its id for the thread.
    fn process_inside(&self, tid: u32, id: i32) -> io::Result<Identity> {
        // In a pid namespace of its own the ids are different.
        if procfs::pid_namespaces(tid) != Some(SESSION_NAMESPACES) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let first = self.processes.first();
        let found = procfs::with_session_id(first, id).ok_or(io::ErrorKind::NotFound)?;
        procfs::identity(found)
    }

    /// Notes that one process changes another; returns the reason if it may not.
    fn let_change(&self, tracer: Identity, target: Identity) -> Option<Decision> {
        let keeps = |reason: &str, remedy: &str| Some(Control::Traced.denies(reason, remedy));
        let first = self.processes.first();
        // A tracer receives the stops of the traced process, and the first process expects none.
        if target.id.pid == first || tracer.id.pid == first {
            return keeps("the first process of a session has no part in tracing", "");
        }
        let program = procfs::link(target.id.pid, "exe");
        if self.policy.trusts_program(&program) {
            return keeps(
                "a rule lets this program connect, so no other program may control it",
                "trace a copy of the program under another name, which no rule trusts",
            );
        }
        let own = self.seal_above(tracer);
        let mut state = state(self);
        let seals = &mut state.seals;
        if seals.trusted.contains(&target.id) {
            return keeps("it is about to run a program that a rule lets connect", "");
        }
        let seal = seals.of(self, target);
        if seal != own || seal == Seal::Several {
            return keeps(
                "it runs on an answer for the request that was shown, so no other program may control it",
                "run it in the debugger from the beginning, where no question is about it",
            );
        }
        remember(&mut seals.traced, target.id);
        None
    }

    /// Journals that a process was refused access to another one.
    fn note_kept(&self, tid: u32, target: Identity, decision: &Decision) -> Option<()> {
        let inside = procfs::session_id(target.id.pid).unwrap_or_default();
        let request = Request::File(FileRequest {
            path: RawText::from_bytes(format!("/proc/{inside}/mem")),
            workspace_relative: None,
            access: Access::Write,
            content: None,
            subject: self.subject(tid),
        });
        let id = self.recorder.new_decision();
        let decision = self.recorder.record(id, &request, decision);
        self.write(&Event::FileDenied { decision }, Durability::Written)
    }

    /// Turns the decision on an execution that would depend on an answer, or be trusted by a rule,
    /// into a deny if another process controls this one.
    pub(super) fn unless_traced(
        &self,
        attempt: &Attempt,
        decision: Decision,
        tid: u32,
    ) -> Decision {
        let judged = self.policy.settings().process.debuggers.value == Debuggers::Own;
        if !judged || decision.verdict == Verdict::Deny {
            return decision;
        }
        let trusted = self.is_trusted(attempt);
        if decision.verdict == Verdict::Allow && !trusted {
            return decision;
        }
        if self.is_traced(attempt.identity, tid) {
            return traced();
        }
        if trusted {
            remember(&mut state(self).seals.trusted, attempt.identity.id);
        }
        decision
    }

    fn is_trusted(&self, attempt: &Attempt) -> bool {
        attempt
            .levels
            .iter()
            .any(|level| self.policy.trusts_program(&level.request.program))
    }

    /// Whether a process is traced or one was permitted to trace it. An unknown state counts as
    /// traced.
    fn is_traced(&self, process: Identity, tid: u32) -> bool {
        procfs::tracer(tid).is_none_or(|tracer| tracer != 0)
            || state(self).seals.traced.contains(&process.id)
    }

    /// Notes that a process will run on an answer; `false` if another process controls it.
    pub(super) fn seal(&self, attempt: &Attempt, tid: u32) -> bool {
        if self.policy.settings().process.debuggers.value != Debuggers::Own {
            return true;
        }
        let id = attempt.identity.id;
        if procfs::tracer(tid).is_none_or(|tracer| tracer != 0) {
            return false;
        }
        let mut state = state(self);
        // In one step: any later request to trace it is judged after this.
        if state.seals.traced.contains(&id) {
            return false;
        }
        remember(&mut state.seals.answered, id);
        for level in &attempt.levels {
            state.seals.note_image(level.file.image(), Seal::Of(id));
        }
        true
    }

    /// Notes the program of a process that belongs to an answer.
    pub(super) fn note_sealed_image(&self, process: Identity, image: (u64, u64)) {
        if state(self).seals.is_empty() {
            return;
        }
        let seal = state(self).seals.of(self, process);
        if seal != Seal::Nobodys {
            state(self).seals.note_image(image, seal);
        }
    }

    fn seal_above(&self, process: Identity) -> Seal {
        state(self).seals.above(self, process)
    }
}

impl Seals {
    /// The answer that a process runs on, by itself and its ancestors.
    fn above(&self, supervision: &Supervision, process: Identity) -> Seal {
        if self.answered.is_empty() {
            return Seal::Nobodys;
        }
        let first = supervision.processes.first();
        let mut at = process;
        for _ in 0..ANCESTORS_MAX {
            if self.answered.contains(&at.id) {
                return Seal::Of(at.id);
            }
            if at.parent == first || at.parent == 0 {
                return Seal::Nobodys;
            }
            match procfs::of_process(at.parent) {
                Ok(parent) => at = parent,
                // It ended meanwhile, and its children belong to the first process.
                Err(_) => return Seal::Nobodys,
            }
        }
        Seal::Several
    }

    /// The same; a process whose ancestors are gone is identified by its program.
    fn of(&self, supervision: &Supervision, process: Identity) -> Seal {
        match self.above(supervision, process) {
            Seal::Nobodys => {}
            seal => return seal,
        }
        if self.images.is_empty() {
            return Seal::Nobodys;
        }
        let image = fs::metadata(format!("/proc/{}/exe", process.id.pid));
        let image = image.map(|file| (file.dev(), file.ino()));
        match image {
            Ok(image) => self.images.get(&image).copied().unwrap_or(Seal::Nobodys),
            Err(_) => Seal::Several,
        }
    }
}

/// The decision on a program that must not run while another process controls it.
fn traced() -> Decision {
    Control::Traced.denies(
        "another program traces the process or was let do so, and would decide what happens",
        "run it without a debugger or tracer",
    )
}
