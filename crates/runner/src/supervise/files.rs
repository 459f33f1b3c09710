//! Changes of paths: recorded, and refused where they would touch a protected one.
//!
//! The mounts hold what existed at launch. This holds what did not exist yet, gives every refusal
//! its event, and keeps the list of what changed. A program with several threads can swap a path
//! after it was read here; against that the workspace guard watches from outside.

use std::{io, path::Path};

use rustix::{fs::FileType, process::Pid};
use stockade_event::{Durability, Event};
use stockade_policy::{Access, Approvals, FileRequest, Request};
use stockade_sys::{
    memory,
    seccomp::{Notification, Notifier},
};
use stockade_types::{RawText, Verdict};

use super::{ERRNO_DENIED, ERRNO_NOT_JUDGED, ERRNO_READ_ONLY, Reply, Supervision, state};
use crate::resolve::{AT_FDCWD, Last, Resolved, Resolver};

/// `O_CREAT`.
const FLAG_CREATE: u64 = 0o100;
/// `O_EXCL`.
const FLAG_EXCLUSIVE: u64 = 0o200;
/// `S_ISUID`.
const SETUID: u64 = 0o4000;
/// `O_NOFOLLOW` on x86-64 and arm64 as the generic interface has it.
#[cfg(target_arch = "x86_64")]
const FLAG_NO_FOLLOW: u64 = 0o400_000;
#[cfg(not(target_arch = "x86_64"))]
const FLAG_NO_FOLLOW: u64 = 0o100_000;

/// One path that a call changes.
struct Change {
    directory: i32,
    path: u64,
    last: Last,
    access: Access,
    /// Whether it makes or changes something that is no directory.
    file: bool,
    /// Whether the path is the one that a rename takes away.
    leaves: bool,
}

impl Supervision {
    pub(super) fn judge_change(
        &self,
        resolver: &Resolver,
        call: &Notification,
        name: &str,
        tid: u32,
    ) -> Reply {
        let changes = match changes(call, name) {
            Ok(changes) => changes,
            Err(errno) => return Reply::Refuse(errno),
        };
        let mut found = Vec::with_capacity(changes.len());
        for change in changes {
            match find(resolver, call.thread, &change) {
                Ok(at) => found.push((change, at)),
                Err(errno) => return Reply::Refuse(errno),
            }
        }
        // A plain file has nothing below it that could become protected with its new name.
        let plain = found.first().is_some_and(|(change, at)| {
            change.leaves
                && !exchanges(call, name)
                && at
                    .as_ref()
                    .is_some_and(|at| at.resolved.kind == Some(FileType::RegularFile))
        });
        for (mut change, at) in found {
            if plain {
                change.access = if change.leaves {
                    Access::Remove
                } else {
                    Access::Create
                };
                change.file = true;
            }
            let Some(at) = at else { continue };
            match self.judge_one(&at, &change, tid) {
                Ok(()) => {}
                Err(reply) => return reply,
            }
        }
        self.recorder.note_change_let_through();
        Reply::Proceed
    }

    fn judge_one(&self, at: &Place, change: &Change, tid: u32) -> Result<(), Reply> {
        let resolved = &at.resolved;
        let Ok(relative) = resolved.path.strip_prefix(self.workspace.as_path()) else {
            return Ok(());
        };
        let existed = resolved.kind.is_some();
        let access = match (change.access, existed) {
            (Access::Create, true) => Access::Write,
            // The kernel will say that it does not exist; nothing changes, protected or not.
            (Access::Remove | Access::Write | Access::Mode, false) => return Ok(()),
            (access, _) => access,
        };
        // A file named `.git` stands for the directory it points to, with its hooks.
        let settings = &self.policy.settings().workspace;
        let pointer = change.file
            && settings
                .stands_for(relative.as_os_str().as_encoded_bytes())
                .is_some();
        let access = if pointer { Access::Rename } else { access };
        let noted = match (change.access, existed) {
            (Access::Mode | Access::Remove, _) => change.access,
            _ if change.leaves => Access::Remove,
            (_, true) => Access::Write,
            (_, false) => Access::Create,
        };
        self.judge_path(&resolved.path, relative, &at.raw, (access, noted), tid)
    }

    fn judge_path(
        &self,
        path: &Path,
        relative: &Path,
        raw: &[u8],
        (access, noted): (Access, Access),
        tid: u32,
    ) -> Result<(), Reply> {
        let path = RawText::from_os(path.as_os_str());
        let request = FileRequest {
            path: path.clone(),
            workspace_relative: Some(RawText::from_os(relative.as_os_str())),
            access,
            subject: stockade_types::Subject::default(),
        };
        let mut request = Request::File(request);
        let decision = self.policy.decide(&request, &Approvals::none());
        if decision.verdict == Verdict::Allow {
            return self.note_change(&path, noted, tid);
        }
        if let Request::File(file) = &mut request {
            file.subject = self.subject(tid);
        }
        if decision.verdict == Verdict::Ask {
            let wait = move |shared: &Self, notifier: &Notifier, call: &Notification| {
                shared.ask_change(&request, &decision, notifier, call);
            };
            return Err(Reply::Later(Box::new(wait)));
        }
        let id = self.recorder.new_decision();
        let mut record = self.recorder.record(id, &request, &decision);
        if record
            .target
            .path
            .as_ref()
            .is_some_and(|p| p.as_bytes() != raw)
        {
            record.target.raw_path = Some(RawText::from_bytes(raw));
        }
        let event = Event::FileDenied { decision: record };
        match self.write(&event, Durability::Written) {
            Some(()) => Err(Reply::Refuse(ERRNO_READ_ONLY)),
            None => Err(Reply::Refuse(ERRNO_NOT_JUDGED)),
        }
    }

    fn ask_change(
        &self,
        request: &Request,
        decision: &stockade_policy::Decision,
        notifier: &Notifier,
        call: &Notification,
    ) {
        let wanted = || notifier.is_waiting(call);
        let record = self.ask(request, decision, &wanted, &|decision| Event::FileDenied {
            decision,
        });
        let allowed = record.is_some_and(|record| record.verdict == Verdict::Allow);
        let answered = if allowed {
            notifier.proceed(call)
        } else {
            notifier.refuse(call, ERRNO_READ_ONLY)
        };
        self.answered(answered);
    }

    fn note_change(&self, path: &RawText, access: Access, tid: u32) -> Result<(), Reply> {
        let is_new = state(self).note_change(path, access.as_str());
        if !is_new {
            return Ok(());
        }
        let event = Event::FileChanged {
            path: path.clone(),
            access: access.as_str().to_owned(),
            by: self.subject(tid),
        };
        self.write(&event, Durability::Written)
            .ok_or(Reply::Refuse(ERRNO_NOT_JUDGED))
    }
}

/// `EFAULT`: the kernel's own answer to a path that cannot be read.
const ERRNO_FAULT: i32 = 14;
/// `EOPNOTSUPP`: the resolver met a magic link that shows no path.
const ERRNO_NOT_A_PATH: i32 = 95;

/// Whether a rename swaps its two paths (`RENAME_EXCHANGE`).
fn exchanges(call: &Notification, name: &str) -> bool {
    let [.., flags, _] = call.arguments;
    name == "renameat2" && flags & 2 != 0
}

/// Where a change points.
struct Place {
    /// As the call has it.
    raw: Vec<u8>,
    resolved: Resolved,
}

/// Finds out where a change points; `None` where it is nothing of the tree.
fn find(resolver: &Resolver, thread: Pid, change: &Change) -> Result<Option<Place>, i32> {
    let raw = memory::read_string(thread, change.path, memory::PATH_BYTES_MAX)
        .map_err(|_| ERRNO_FAULT)?;
    if raw.is_empty() {
        return Ok(None);
    }
    let errno = |error: io::Error| error.raw_os_error().unwrap_or(ERRNO_DENIED);
    let absolute = resolver.absolute(change.directory, &raw).map_err(errno)?;
    if is_device_or_process(&absolute) {
        return Ok(None);
    }
    match resolver.resolve(&absolute, change.last) {
        Ok(resolved) => Ok(Some(Place { raw, resolved })),
        // A descriptor that is no path (a pipe behind `/dev/stdout`): nothing of the tree.
        Err(error) if error.raw_os_error() == Some(ERRNO_NOT_A_PATH) => Ok(None),
        Err(error) => Err(errno(error)),
    }
}

/// Paths by name only that never lie in the workspace; links into them are resolved all the same.
fn is_device_or_process(path: &Path) -> bool {
    let plain = !path
        .components()
        .any(|c| c == std::path::Component::ParentDir);
    // `/proc/PID/root`, `cwd` and `fd` lead anywhere; they take the long way.
    let process = path.starts_with("/proc")
        && !path.components().any(|c| {
            ["root", "cwd", "fd", "map_files", "exe"]
                .iter()
                .any(|name| c.as_os_str() == *name)
        });
    let device = [
        "/dev/null",
        "/dev/tty",
        "/dev/zero",
        "/dev/ptmx",
        "/dev/pts",
    ]
    .iter()
    .any(|device| path.starts_with(device));
    plain && (process || device)
}

/// Reads which paths a call changes, and how.
fn changes(call: &Notification, name: &str) -> Result<Vec<Change>, i32> {
    let [a0, a1, a2, a3, ..] = call.arguments;
    let fd = super::descriptor;
    let one = |directory, path, last, access| {
        let file = matches!(access, Access::Create | Access::Write) && !name.starts_with("mkdir");
        vec![Change {
            directory,
            path,
            last,
            access,
            file,
            leaves: false,
        }]
    };
    let two = |from: Change, to: Change| {
        vec![
            Change {
                leaves: true,
                ..from
            },
            to,
        ]
    };
    let keep = |directory, path, access| Change {
        directory,
        path,
        last: Last::Keep,
        access,
        file: false,
        leaves: false,
    };
    Ok(match name {
        "openat" => refuse_setuid(a2, a3).map(|()| open(fd(a0), a1, a2))?,
        "open" => refuse_setuid(a1, a2).map(|()| open(AT_FDCWD, a0, a1))?,
        "creat" => open(AT_FDCWD, a0, FLAG_CREATE),
        "truncate" => one(AT_FDCWD, a0, Last::Follow, Access::Write),
        "rename" => two(
            keep(AT_FDCWD, a0, Access::Rename),
            keep(AT_FDCWD, a1, Access::Rename),
        ),
        "renameat" | "renameat2" => two(
            keep(fd(a0), a1, Access::Rename),
            keep(fd(a2), a3, Access::Rename),
        ),
        "link" => one(AT_FDCWD, a1, Last::Keep, Access::Create),
        "linkat" => {
            // The source is only read; a link across mounts is refused by the kernel.
            one(fd(a2), a3, Last::Keep, Access::Create)
        }
        "symlink" => one(AT_FDCWD, a1, Last::Keep, Access::Rename),
        "symlinkat" => one(fd(a1), a2, Last::Keep, Access::Rename),
        "mkdir" | "mknod" => one(AT_FDCWD, a0, Last::Keep, Access::Create),
        "mkdirat" | "mknodat" => one(fd(a0), a1, Last::Keep, Access::Create),
        "unlink" | "rmdir" => one(AT_FDCWD, a0, Last::Keep, Access::Remove),
        "unlinkat" => one(fd(a0), a1, Last::Keep, Access::Remove),
        "chmod" => one(AT_FDCWD, a0, Last::Follow, Access::Mode),
        "fchmodat" | "fchmodat2" => one(fd(a0), a1, Last::Follow, Access::Mode),
        _ => return Err(ERRNO_NOT_JUDGED),
    })
}

/// The filter closes the other ways to set this bit; here the mode only counts with `O_CREAT`.
fn refuse_setuid(flags: u64, mode: u64) -> Result<(), i32> {
    let made = flags & FLAG_CREATE != 0 && mode & SETUID != 0;
    if made { Err(ERRNO_NOT_JUDGED) } else { Ok(()) }
}

fn open(directory: i32, path: u64, flags: u64) -> Vec<Change> {
    let access = if flags & FLAG_CREATE == 0 {
        Access::Write
    } else {
        Access::Create
    };
    let exclusive = flags & FLAG_CREATE != 0 && flags & FLAG_EXCLUSIVE != 0;
    let last = if exclusive || flags & FLAG_NO_FOLLOW != 0 {
        Last::Keep
    } else {
        Last::Follow
    };
    vec![Change {
        directory,
        path,
        last,
        access,
        file: true,
        leaves: false,
    }]
}
