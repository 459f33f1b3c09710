//! Executions: the real file, the real arguments, one verdict.

use std::{ffi::OsStr, io, path::Path, sync::atomic::Ordering};

use rustix::{fs::FileType, io::Errno, process::Pid};
use stockade_event::{Durability, Event};
use stockade_policy::{Approvals, Control, Decision, ExecRequest, Request};
use stockade_sys::{
    memory::{self, ReadError},
    notifier::Notification,
};
use stockade_types::{RawText, Subject, Verdict};

use super::{
    EMPTY_PATH, ERRNO_DENIED, ERRNO_NOT_JUDGED, Reply, Supervision, descriptor,
    interpreter::Interpreter,
    processes::shown,
    program_file::{Known, ProgramFile},
    running::Expected,
    state,
    verify::TooMany,
};
use crate::{
    covers::Program,
    later,
    origins::Execution,
    procfs::{self, Identity},
    recorder::scope_bound,
    resolve::{AT_FDCWD, Last, Resolver},
};

/// Arguments and variables of one execution that are read. The kernel takes more, but the
/// supervisor does not judge a list that a person could not read in a prompt.
const ENTRIES_MAX: usize = 100_000;
/// Bytes of arguments or variables; the kernel's usual limit is 2 MiB for both.
const VECTOR_BYTES_MAX: usize = procfs::ENVIRONMENT_BYTES_MAX;
/// `AT_SYMLINK_NOFOLLOW`.
const NO_FOLLOW: u64 = 0x100;
/// `AT_EXECVE_CHECK`.
const CHECK: u64 = 0x1_0000;

/// Options of the dynamic loader that take the next argument as their value.
const LOADER_VALUES: [&str; 7] = [
    "--library-path",
    "--inhibit-rpath",
    "--audit",
    "--preload",
    "--argv0",
    "--glibc-hwcaps-prepend",
    "--glibc-hwcaps-mask",
];
/// Interpreters of interpreters; the kernel allows as many (`BINPRM_MAX_RECURSION`).
const INTERPRETERS_MAX: usize = 5;

/// One program of an execution: the file itself, or the interpreter that the kernel starts for it.
pub(super) struct Level {
    pub(super) request: ExecRequest,
    pub(super) file: ProgramFile,
    /// Its interpreter, if it is a script.
    interpreter: Option<Interpreter>,
    /// Whether the verdict may depend on its content, which can still change.
    by_content: bool,
    /// Why its content is unknown, if it is.
    unreadable: Option<io::Error>,
}

/// One execution as it was judged.
pub(super) struct Attempt {
    /// The process.
    pub(super) identity: Identity,
    /// The named file, its interpreters, outermost last, and the program that a loader loads.
    pub(super) levels: Vec<Level>,
    /// The level whose file becomes the process's image.
    pub(super) image: usize,
    /// The level that decides.
    pub(super) deciding: usize,
}

impl Attempt {
    fn own(&self) -> Option<&Level> {
        self.levels.first()
    }

    /// Returns the identity of the process before the execution.
    pub(super) const fn identity(&self) -> Identity {
        self.identity
    }

    /// Returns the program as covers see it.
    pub(super) fn program(&self) -> Option<Program<'_>> {
        let own = self.own()?;
        Some(Program {
            request: &own.request,
            is_fixed: self.levels.len() == 1 && !own.file.is_writable(),
        })
    }

    /// Returns what the same process executes next, if `env` starts a script's real interpreter.
    pub(super) fn next(&self) -> Option<Vec<RawText>> {
        let image = self.levels.get(self.image).filter(|_| self.image > 0)?;
        let program = image.request.program.to_os();
        let is_env = Path::new(&program).file_name() == Some(OsStr::new("env"));
        let is_plain = image.request.argv.len() == self.own()?.request.argv.len() + 2;
        (is_env && is_plain && !image.file.is_writable())
            .then(|| image.request.argv.get(1..).map(<[RawText]>::to_vec))
            .flatten()
    }
}

impl Supervision {
    pub(super) fn judge_exec(
        &self,
        resolver: &Resolver,
        call: &Notification,
        name: &str,
        tid: u32,
    ) -> Reply {
        let mut attempt = match self.attempt(resolver, call, name, tid) {
            Ok(attempt) => attempt,
            Err(errno) => return Reply::Refuse(errno),
        };
        // The current program was permitted too, and this is the last chance to verify it.
        match self.second_looks.before_another(attempt.identity.id) {
            Ok(None) => {}
            Ok(Some(different)) => self.judge_different(different),
            Err(TooMany) => return Reply::Refuse(ERRNO_AGAIN),
        }
        if self.over.load(Ordering::Acquire) {
            return Reply::Refuse(ERRNO_NOT_JUDGED);
        }
        let Some((decision, request)) = self.strictest(&mut attempt) else {
            return Reply::Refuse(ERRNO_NOT_JUDGED);
        };
        let decision = self.unless_traced(&attempt, decision, tid);
        if let Some(own) = attempt.own()
            && self.note_origin(attempt.identity, &own.request).is_none()
        {
            return Reply::Refuse(ERRNO_NOT_JUDGED);
        }
        if decision.verdict != Verdict::Allow && self.search_goes_on(&attempt, &decision) {
            return Reply::Refuse(ERRNO_DENIED);
        }
        if decision.verdict == Verdict::Ask
            && let Some(by) = self.belongs(&attempt, &decision, call)
        {
            let judged = (&request, &decision);
            return match self.let_belonging(&by, attempt, judged, call) {
                Some(()) => Reply::Proceed,
                None => Reply::Refuse(ERRNO_NOT_JUDGED),
            };
        }
        match decision.verdict {
            Verdict::Ask => later(move |caller| async move {
                let asked = caller.shared.ask_exec(attempt, &decision, &caller);
                asked.await.into()
            }),
            Verdict::Allow | Verdict::Deny => {
                let id = self.recorder.new_decision();
                let record = self.recorder.record(id, &request, &decision);
                let decided = Event::ExecDecided { decision: record };
                if decision.verdict == Verdict::Allow {
                    let judged = (&decision, decided);
                    return match self.let_allowed(resolver, call, attempt, judged) {
                        Some(()) => Reply::Proceed,
                        None => Reply::Refuse(ERRNO_NOT_JUDGED),
                    };
                }
                if self.write(&decided, Durability::Written).is_none() {
                    return Reply::Refuse(ERRNO_NOT_JUDGED);
                }
                self.note_refusal(&attempt, &decision);
                Reply::Refuse(ERRNO_DENIED)
            }
        }
    }

    /// Judges every level; the strictest verdict counts, so a script cannot start a denied
    /// interpreter.
    fn strictest(&self, attempt: &mut Attempt) -> Option<(Decision, Request)> {
        let mut strictest: Option<(usize, Decision, Request)> = None;
        for (index, level) in attempt.levels.iter().enumerate() {
            let (request, decision) = self.decide_level(level);
            let stricter = strictest
                .as_ref()
                .is_none_or(|(_, so_far, _)| decision.verdict > so_far.verdict);
            if stricter {
                strictest = Some((index, decision, request));
            }
        }
        let (index, decision, request) = strictest?;
        attempt.deciding = index;
        Some((decision, request))
    }

    fn decide_level(&self, level: &Level) -> (Request, Decision) {
        let request = Request::Exec(level.request.clone());
        let decision = match &level.unreadable {
            None => self.policy.decide(&request, &Approvals::none()),
            Some(error) => unreadable(error),
        };
        (request, decision)
    }

    /// Judges the program that a process already runs.
    pub(super) fn decide_running(
        &self,
        request: ExecRequest,
        file: ProgramFile,
    ) -> (Request, Decision) {
        self.decide_level(&self.level(request, file))
    }

    /// Judges the program that a process already runs, if it is unknown.
    pub(super) fn decide_unknown(request: ExecRequest, error: &io::Error) -> (Request, Decision) {
        (Request::Exec(request), unreadable(error))
    }

    /// Reads what is about to run. An error number goes back to the caller unchanged: the program
    /// does not exist, or it is unknown what it is.
    pub(super) fn attempt(
        &self,
        resolver: &Resolver,
        call: &Notification,
        name: &str,
        tid: u32,
    ) -> Result<Attempt, i32> {
        let [a0, a1, a2, a3, a4, _] = call.arguments;
        let (directory, path, argv, envp, flags) = match name {
            "execveat" => (descriptor(a0), a1, a2, a3, a4),
            _ => (AT_FDCWD, a0, a1, a2, 0),
        };
        let path = memory::read_string(call.thread, path, memory::PATH_BYTES_MAX).map_err(errno)?;
        let file = if path.is_empty() && flags & EMPTY_PATH != 0 {
            ProgramFile::behind_descriptor(tid, directory).map_err(|e| io_errno(&e))?
        } else {
            let last = if flags & NO_FOLLOW == 0 {
                Last::Follow
            } else {
                Last::Keep
            };
            program_at(resolver, directory, &path, last)?
        };
        let argv = strings(call.thread, argv)?;
        let environment = variables(call.thread, envp)?;
        let identity = procfs::identity(tid).map_err(|e| io_errno(&e))?;
        if identity.stack == 0 {
            // Without it the supervisor could not know when the execution has happened.
            return Err(ERRNO_NOT_JUDGED);
        }
        let mut subject = self.processes.describe(identity);
        if identity.id.pid != tid {
            // A thread can have a directory of its own.
            subject.cwd = procfs::link(tid, "cwd");
        }
        let request = ExecRequest {
            invoked_as: RawText::from_bytes(path),
            argv,
            cwd: subject.cwd.clone(),
            environment,
            subject,
            ..ExecRequest::default()
        };
        let mut levels = vec![self.level(request, file)];
        while let Some(outer) = levels
            .last()
            .and_then(|level| self.interpreter(resolver, level))
        {
            levels.push(outer?);
            if levels.len() > INTERPRETERS_MAX {
                return Err(ERRNO_LOOP);
            }
        }
        let image = levels.len() - 1;
        // A loader loads the program in its arguments, and can be the interpreter of a script.
        let loaded: Result<Vec<Level>, i32> = levels
            .iter()
            .filter_map(|level| self.loaded(resolver, level))
            .collect();
        levels.extend(loaded?);
        Ok(Attempt {
            identity,
            levels,
            image,
            deciding: 0,
        })
    }

    /// Completes a request with the known facts of its file.
    fn level(&self, request: ExecRequest, file: ProgramFile) -> Level {
        let by_digest = self.policy.is_tightened() && self.policy.names_digests();
        let known = self.files.know(&file, by_digest);
        let (known, unreadable) = match known {
            Ok(known) => (known, None),
            Err(error) => (Known::default(), Some(error)),
        };
        let program = RawText::from_os(file.path.as_os_str());
        let request = ExecRequest {
            program,
            aliases: known.aliases,
            digest: known.digest,
            ..request
        };
        Level {
            request,
            file,
            interpreter: known.interpreter,
            by_content: known.by_content,
            unreadable,
        }
    }

    /// Returns the program that a dynamic loader, executed by name, would load (ld.so(8)).
    fn loaded(&self, resolver: &Resolver, loader: &Level) -> Option<Result<Level, i32>> {
        let own = loader.file.path.file_name().and_then(OsStr::to_str);
        let mut names = own
            .into_iter()
            .chain(loader.request.aliases.iter().map(String::as_str));
        if !names.any(is_loader) {
            return None;
        }
        let argv = loader_program(&loader.request.argv)?.to_vec();
        let path = argv.first()?.clone();
        let file = match program_at(resolver, AT_FDCWD, path.as_bytes(), Last::Follow) {
            Ok(file) => file,
            Err(errno) => return Some(Err(errno)),
        };
        let request = ExecRequest {
            invoked_as: path,
            argv,
            ..loader.request.clone()
        };
        Some(Ok(self.level(request, file)))
    }

    /// Returns the interpreter that the kernel would start for a script, with the arguments it
    /// would give it (execve(2), "Interpreter scripts").
    fn interpreter(&self, resolver: &Resolver, script: &Level) -> Option<Result<Level, i32>> {
        let Interpreter { path, argument } = script.interpreter.clone()?;
        let file = match program_at(resolver, AT_FDCWD, path.as_bytes(), Last::Follow) {
            Ok(file) => file,
            Err(errno) => return Some(Err(errno)),
        };
        let argv = script_arguments(&path, argument, &script.request);
        let request = ExecRequest {
            invoked_as: path,
            argv,
            ..script.request.clone()
        };
        Some(Ok(self.level(request, file)))
    }

    /// Whether this is a refused command that its caller found in another directory.
    fn search_goes_on(&self, attempt: &Attempt, decision: &Decision) -> bool {
        let rule = decision.rule.as_ref();
        let asks = decision.verdict == Verdict::Ask;
        attempt.own().is_some_and(|own| {
            let searches = &mut state(self).searches;
            searches.goes_on(&own.request, rule)
                || asks && searches.is_tried_twice(&own.request, rule)
        })
    }

    pub(super) fn note_refusal(&self, attempt: &Attempt, decision: &Decision) {
        if let Some(own) = attempt.own() {
            state(self)
                .searches
                .note(&own.request, decision.rule.as_ref());
        }
    }

    /// Journals the start, after its decision if that is not journaled yet, and queues its
    /// post-exec verification. A call that only checks whether a program could start starts none.
    pub(super) fn note_start(
        &self,
        call: &Notification,
        attempt: Attempt,
        decided: Option<Event>,
    ) -> Option<()> {
        if only_checks(call) {
            return match decided {
                Some(decided) => self.write(&decided, Durability::Written),
                None => Some(()),
            };
        }
        let running = attempt.levels.get(attempt.image)?;
        let image = running.file.image();
        let by_answer = decided.is_none();
        let content = running
            .request
            .digest
            .filter(|_| running.by_content || (decided.is_none() && running.file.is_writable()));
        let identity = attempt.identity;
        if let Some(program) = attempt.program() {
            self.processes.covers.executes(identity, program);
        }
        self.note_sealed_image(identity, image);
        let Level {
            request,
            interpreter,
            file,
            ..
        } = attempt.levels.into_iter().next()?;
        let named = file.image();
        self.processes.executes(identity, &request.argv);
        let process = Subject {
            exe: request.program.clone(),
            argv: shown(&request.argv),
            ..request.subject.clone()
        };
        let started = Event::ProcessStarted {
            process,
            digest: request.digest,
            interpreter: interpreter.map(|script| script.line()),
        };
        let events: Vec<Event> = decided.into_iter().chain([started]).collect();
        self.write_all(&events, Durability::Written)?;
        if let Some(process) = events.last().and_then(Event::subject) {
            let scope = self.recorder.origins().scope(identity.id);
            let waits = || self.notifier.is_waiting(call);
            self.lives.begins(process, scope, waits);
        }
        self.second_looks.expect(Expected {
            id: identity.id,
            stack: identity.stack,
            file: image,
            named,
            asked: file.into_asked(),
            content,
            request,
            by_answer,
            script: attempt.image > 0,
        });
        Some(())
    }

    /// Finds the command of the agent that an execution begins or belongs to, and records for which tool
    /// call it is, once that is known.
    fn note_origin(&self, identity: Identity, request: &ExecRequest) -> Option<()> {
        let program = request.program.to_os();
        let name = Path::new(&program).file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        let bound = self.recorder.origins().executes(&Execution {
            process: identity.id,
            parent: self.processes.parent(identity),
            argv: &request.argv,
            is_agents: self.agent_names.iter().any(|own| *own == name),
        });
        match bound {
            Some(bound) => {
                let bound = scope_bound(&bound, request.subject.clone());
                self.write(&bound, Durability::Written)
            }
            None => Some(()),
        }
    }
}

/// Whether a program of this name loads another one.
fn is_loader(name: &str) -> bool {
    name.starts_with("ld-") && name.contains(".so")
}

/// Returns what a dynamic loader, executed by name, runs: the program and its arguments (ld.so(8)).
fn loader_program(argv: &[RawText]) -> Option<&[RawText]> {
    let mut arguments = argv.iter().enumerate().skip(1);
    loop {
        let (index, argument) = arguments.next()?;
        if !argument.as_bytes().starts_with(b"--") {
            return argv.get(index..);
        }
        let mut options = LOADER_VALUES.iter();
        if options.any(|option| argument.as_bytes() == option.as_bytes()) {
            arguments.next()?;
        }
    }
}

/// Returns the arguments that the kernel gives the interpreter of a script (execve(2)).
fn script_arguments(
    interpreter: &RawText,
    argument: Option<RawText>,
    script: &ExecRequest,
) -> Vec<RawText> {
    let mut argv = vec![interpreter.clone()];
    argv.extend(argument);
    argv.push(script.invoked_as.clone());
    argv.extend(script.argv.iter().skip(1).cloned());
    argv
}

/// Whether a call only checks if it could execute (execveat(2)).
pub(super) fn only_checks(call: &Notification) -> bool {
    let [_, _, _, _, flags, _] = call.arguments;
    stockade_sys::seccomp::name(call.number) == Some("execveat") && flags & CHECK != 0
}

/// The decision on a program that cannot be identified.
fn unreadable(error: &io::Error) -> Decision {
    Control::UnreadableProgram.denies(
        format!("the program cannot be read ({error}), so Stockade cannot know what it is"),
        "run a program that you may read, or let yourself read it (chmod +r)",
    )
}

/// `EAGAIN`: too many of the same are in progress.
const ERRNO_AGAIN: i32 = 11;
/// `ELOOP`, the kernel's answer to too many interpreters.
const ERRNO_LOOP: i32 = 40;

/// Opens the program that a path names.
fn program_at(
    resolver: &Resolver,
    directory: i32,
    path: &[u8],
    last: Last,
) -> Result<ProgramFile, i32> {
    let open = || {
        let absolute = resolver.absolute(directory, path)?;
        if last == Last::Keep && resolver.resolve(&absolute, last)?.kind == Some(FileType::Symlink)
        {
            return Err(Errno::LOOP.into());
        }
        ProgramFile::at(resolver, &absolute)
    };
    open().map_err(|error| io_errno(&error))
}

fn io_errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(ERRNO_DENIED)
}

/// The error number of unreadable memory: EFAULT from the kernel, E2BIG for what is too large.
fn errno(error: ReadError) -> i32 {
    match error {
        ReadError::Sys(error) => error.errno().unwrap_or(ERRNO_DENIED),
        ReadError::TooLong(_) | ReadError::TooMany(_) => 7,
    }
}

fn strings(pid: Pid, address: u64) -> Result<Vec<RawText>, i32> {
    let strings = memory::read_strings(pid, address, ENTRIES_MAX, VECTOR_BYTES_MAX, |_| true);
    Ok(strings
        .map_err(errno)?
        .into_iter()
        .map(RawText::from_bytes)
        .collect())
}

/// Reads all variables.
fn variables(pid: Pid, address: u64) -> Result<Vec<(RawText, RawText)>, i32> {
    let found = memory::read_strings(pid, address, ENTRIES_MAX, VECTOR_BYTES_MAX, |_| true);
    let found = found.map_err(errno)?;
    let entries = found.iter().map(Vec::as_slice);
    Ok(entries.filter_map(procfs::variable).collect())
}

#[cfg(test)]
mod tests;
