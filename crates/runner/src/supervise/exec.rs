//! Executions: the real file, the real arguments, one verdict.

use std::path::Path;

use rustix::process::Pid;
use stockade_event::{Durability, Event};
use stockade_policy::{Approvals, ExecRequest, Request};
use stockade_sys::{
    memory::{self, ReadError},
    seccomp::{Notification, Notifier},
};
use stockade_types::{RawText, Subject, Verdict};

use super::{ERRNO_DENIED, ERRNO_NOT_JUDGED, Reply, Supervision, program_file::ProgramFile, state};
use crate::{
    procfs,
    resolve::{AT_FDCWD, Last, Resolver},
};

/// Arguments and variables of one execution that are read; the kernel takes more, we do not judge
/// what nobody could read in a prompt.
const ENTRIES_MAX: usize = 100_000;
/// Bytes of arguments or variables; the kernel's usual limit is 2 MiB for both.
const VECTOR_BYTES_MAX: usize = 4 << 20;
/// Beginnings of variables that change what a program does.
const MEANING_PREFIXES: [&[u8]; 2] = [b"LD_", b"GIT_"];
/// Variables that change what a program does.
const MEANING_NAMES: [&[u8]; 5] = [
    b"PATH",
    b"BASH_ENV",
    b"ENV",
    b"PYTHONSTARTUP",
    b"NODE_OPTIONS",
];
/// `AT_EMPTY_PATH`: the descriptor itself is executed.
const EMPTY_PATH: u64 = 0x1000;
/// `AT_SYMLINK_NOFOLLOW`.
const NO_FOLLOW: u64 = 0x100;

/// One execution as it was judged.
struct Attempt {
    request: Request,
    file: ProgramFile,
}

impl Supervision {
    pub(super) fn judge_exec(
        &self,
        resolver: &Resolver,
        call: &Notification,
        name: &str,
        tid: u32,
    ) -> Reply {
        let attempt = match self.attempt(resolver, call, name, tid) {
            Ok(attempt) => attempt,
            Err(errno) => return Reply::Refuse(errno),
        };
        let decision = self.policy.decide(&attempt.request, &Approvals::none());
        match decision.verdict {
            Verdict::Ask => Reply::Later(Box::new(move |shared, notifier, call| {
                shared.ask_exec(attempt, &decision, notifier, call);
            })),
            Verdict::Allow | Verdict::Deny => {
                let id = self.recorder.new_decision();
                let record = self.recorder.record(id, &attempt.request, &decision);
                let event = Event::ExecDecided { decision: record };
                if self.write(&event, Durability::Written).is_none() {
                    return Reply::Refuse(ERRNO_NOT_JUDGED);
                }
                if decision.verdict == Verdict::Deny {
                    return Reply::Refuse(ERRNO_DENIED);
                }
                match self.note_start(&attempt) {
                    Some(()) => Reply::Proceed,
                    None => Reply::Refuse(ERRNO_NOT_JUDGED),
                }
            }
        }
    }

    /// Reads what is about to run. An error number goes back to the caller as it is: the program
    /// does not exist, or it cannot be known what it is.
    fn attempt(
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
            let absolute = resolver
                .absolute(directory, &path)
                .map_err(|e| io_errno(&e))?;
            let resolved = resolver
                .resolve(&absolute, last)
                .map_err(|e| io_errno(&e))?;
            ProgramFile::of(&resolved).map_err(|e| io_errno(&e))?
        };
        let argv = strings(call.thread, argv)?;
        let environment = meaning(call.thread, envp)?;
        let subject = self.subject(tid);
        let writable = self.is_writable_place(&file.path);
        let known = self.files.know(&file, writable);
        let request = Request::Exec(ExecRequest {
            program: RawText::from_os(file.path.as_os_str()),
            invoked_as: RawText::from_bytes(path),
            aliases: known.aliases,
            digest: known.digest,
            argv,
            cwd: subject.cwd.clone(),
            environment,
            subject,
        });
        Ok(Attempt { request, file })
    }

    /// Places where the session itself could have put the file.
    fn is_writable_place(&self, path: &Path) -> bool {
        ![
            "/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt", "/etc", "/nix",
        ]
        .iter()
        .any(|system| path.starts_with(system))
    }

    fn ask_exec(
        &self,
        mut attempt: Attempt,
        decision: &stockade_policy::Decision,
        notifier: &Notifier,
        call: &Notification,
    ) {
        // What a person answers is bound to the content of the file.
        if let Request::Exec(request) = &mut attempt.request {
            request.digest = request.digest.or_else(|| self.files.digest(&attempt.file));
        }
        let wanted = || notifier.is_waiting(call);
        let record = self.ask(&attempt.request, decision, &wanted, &|decision| {
            Event::ExecDecided { decision }
        });
        let allowed = record.is_some_and(|record| record.verdict == Verdict::Allow)
            && self.unchanged(&attempt, call)
            && self.note_start(&attempt).is_some();
        let answered = if allowed {
            notifier.proceed(call)
        } else {
            notifier.refuse(call, ERRNO_DENIED)
        };
        self.answered(answered);
    }

    /// Reads the call again: what was approved is what runs.
    fn unchanged(&self, attempt: &Attempt, call: &Notification) -> bool {
        let tid = u32::try_from(call.thread.as_raw_nonzero().get()).unwrap_or_default();
        let name = stockade_sys::seccomp::name(call.number).unwrap_or_default();
        let Ok(resolver) = Resolver::new(tid) else {
            return false;
        };
        let Ok(again) = self.attempt(&resolver, call, name, tid) else {
            return false;
        };
        let (Request::Exec(before), Request::Exec(now)) = (&attempt.request, &again.request) else {
            return false;
        };
        let digest = before.digest.is_some() && before.digest == self.files.digest(&again.file);
        digest
            && before.program == now.program
            && before.argv == now.argv
            && before.cwd == now.cwd
            && before.environment == now.environment
    }

    /// Journals the start and finds out which first-level command the process belongs to.
    fn note_start(&self, attempt: &Attempt) -> Option<()> {
        let Request::Exec(request) = &attempt.request else {
            return None;
        };
        let caller = &request.subject;
        let id = caller.id?;
        let parent = procfs::identity(id.pid)
            .ok()
            .and_then(|i| procfs::identity(i.parent).ok());
        let file_name = Path::new(&request.program.to_os())
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        {
            let mut state = state(self);
            let child_of_agent =
                parent.is_some_and(|p| state.agents.contains(&p.id)) || state.agents.contains(&id);
            let is_agent = !state.started
                || (child_of_agent && self.agent_names.iter().any(|name| *name == file_name));
            state.started = true;
            if is_agent {
                state.agents.insert(id);
            } else if self.recorder.scope_of(id).is_none() {
                let inherited = parent.and_then(|p| self.recorder.scope_of(p.id));
                let scope = match inherited {
                    Some(scope) if !child_of_agent => scope,
                    _ => self.recorder.new_scope(),
                };
                self.recorder.set_scope(id, scope);
            }
        }
        let process = Subject {
            exe: request.program.clone(),
            argv: request.argv.clone(),
            ..caller.clone()
        };
        let interpreter = attempt.file.interpreter();
        let event = Event::ProcessStarted {
            process,
            digest: request.digest,
            interpreter,
        };
        self.write(&event, Durability::Written)
    }
}

fn descriptor(argument: u64) -> i32 {
    // The kernel looks at the lower half of the register, as a signed number.
    i32::from_ne_bytes(
        u32::try_from(argument & 0xFFFF_FFFF)
            .unwrap_or_default()
            .to_ne_bytes(),
    )
}

fn io_errno(error: &std::io::Error) -> i32 {
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
    let strings =
        memory::read_strings(pid, address, ENTRIES_MAX, VECTOR_BYTES_MAX).map_err(errno)?;
    Ok(strings.into_iter().map(RawText::from_bytes).collect())
}

/// Reads the variables that change what a program does.
fn meaning(pid: Pid, address: u64) -> Result<Vec<(RawText, RawText)>, i32> {
    let all = memory::read_strings(pid, address, ENTRIES_MAX, VECTOR_BYTES_MAX).map_err(errno)?;
    Ok(all
        .iter()
        .filter_map(|entry| {
            let at = entry.iter().position(|b| *b == b'=')?;
            let (name, value) = (entry.get(..at)?, entry.get(at + 1..)?);
            let matters = MEANING_NAMES.contains(&name)
                || MEANING_PREFIXES
                    .iter()
                    .any(|prefix| name.starts_with(prefix));
            matters.then(|| (RawText::from_bytes(name), RawText::from_bytes(value)))
        })
        .collect())
}
