//! Changes of paths: recorded, and refused where they would touch a protected one.
//!
//! The mounts hold what existed at launch. This holds what did not exist yet, gives every refusal
//! its event, and keeps the list of what changed. A program with several threads can swap a path
//! after it was read here; against that the workspace guard watches from outside.

use std::{io, path::Path};

use rustix::{fs::FileType, process::Pid};
use stockade_event::{Durability, Event};
use stockade_policy::{Access, Approvals, Decision, FileRequest, Request};
use stockade_sys::{
    memory,
    seccomp::{Notification, Notifier},
};
use stockade_types::{DecisionRecord, RawText, Verdict};

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

/// One path of a call with its verdict.
struct Judged {
    /// The path as the call has it.
    raw: Vec<u8>,
    request: FileRequest,
    decision: Decision,
    /// What the record says was done.
    noted: Access,
}

impl Judged {
    /// The same change of the same path.
    fn is_same(&self, other: &Self) -> bool {
        let (own, other) = (&self.request, &other.request);
        own.path == other.path && own.access == other.access
    }

    fn request(&self) -> Request {
        Request::File(self.request.clone())
    }

    /// The event of its refusal; it shows the path as it was given too, where that says more.
    fn denied(&self, mut record: DecisionRecord) -> Event {
        if self.request.path.as_bytes() != self.raw {
            record.target.raw_path = Some(RawText::from_bytes(self.raw.as_slice()));
        }
        Event::FileDenied { decision: record }
    }
}

impl Supervision {
    pub(super) fn judge_change(
        &self,
        resolver: &Resolver,
        call: &Notification,
        name: &str,
        tid: u32,
    ) -> Reply {
        let mut judged = match self.judged(resolver, call, name) {
            Ok(judged) => judged,
            Err(errno) => return Reply::Refuse(errno),
        };
        let denied = |one: &&mut Judged| one.decision.verdict == Verdict::Deny;
        if let Some(one) = judged.iter_mut().find(denied) {
            one.request.subject = self.subject(tid);
            let id = self.recorder.new_decision();
            let record = self.recorder.record(id, &one.request(), &one.decision);
            return match self.write(&one.denied(record), Durability::Written) {
                Some(()) => Reply::Refuse(ERRNO_READ_ONLY),
                None => Reply::Refuse(ERRNO_NOT_JUDGED),
            };
        }
        if judged
            .iter()
            .any(|one| one.decision.verdict == Verdict::Ask)
        {
            return Reply::Later(Box::new(move |shared, notifier, call| {
                shared.ask_changes(judged, notifier, call, tid)
            }));
        }
        for one in judged {
            if self.note_change(one, tid).is_none() {
                return Reply::Refuse(ERRNO_NOT_JUDGED);
            }
        }
        self.recorder.note_change_let_through();
        Reply::Proceed
    }

    /// Reads a call and judges every path that it changes; paths outside the workspace, and those
    /// where nothing would change, are left out.
    fn judged(
        &self,
        resolver: &Resolver,
        call: &Notification,
        name: &str,
    ) -> Result<Vec<Judged>, i32> {
        let mut found = Vec::new();
        for change in changes(call, name)? {
            let place = find(resolver, call.thread, &change)?;
            found.push((change, place));
        }
        // A plain file has nothing below it that could become protected with its new name.
        let plain = found.first().is_some_and(|(change, at)| {
            change.leaves
                && !exchanges(call, name)
                && at
                    .as_ref()
                    .is_some_and(|at| at.resolved.kind == Some(FileType::RegularFile))
        });
        let judged = found.into_iter().filter_map(|(mut change, at)| {
            if plain {
                change.access = if change.leaves {
                    Access::Remove
                } else {
                    Access::Create
                };
                change.file = true;
            }
            self.judge_one(at?, &change)
        });
        Ok(judged.collect())
    }

    fn judge_one(&self, at: Place, change: &Change) -> Option<Judged> {
        let Place { raw, resolved } = at;
        let relative = resolved.path.strip_prefix(self.workspace.as_path()).ok()?;
        let existed = resolved.kind.is_some();
        let access = match (change.access, existed) {
            (Access::Create, true) => Access::Write,
            // The kernel will say that it does not exist; nothing changes, protected or not.
            (Access::Remove | Access::Write | Access::Mode, false) => return None,
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
        let request = FileRequest {
            path: RawText::from_os(resolved.path.as_os_str()),
            workspace_relative: Some(RawText::from_os(relative.as_os_str())),
            access,
            // Found out only where it is told: most changes are noted already.
            subject: stockade_types::Subject::default(),
        };
        let request = Request::File(request);
        let decision = self.policy.decide(&request, &Approvals::none());
        let Request::File(request) = request else {
            return None;
        };
        Some(Judged {
            raw,
            request,
            decision,
            noted,
        })
    }

    /// Asks about each path that a rule asks about, one after the other.
    fn ask_changes(
        &self,
        mut judged: Vec<Judged>,
        notifier: &Notifier,
        call: &Notification,
        tid: u32,
    ) -> Result<(), i32> {
        let write = |events: &[Event]| {
            self.write_all(events, Durability::Synced)
                .ok_or(ERRNO_NOT_JUDGED)
        };
        let wanted = || notifier.is_waiting(call);
        let mut events = Vec::new();
        for one in &mut judged {
            if one.decision.verdict == Verdict::Allow {
                continue;
            }
            one.request.subject = self.subject(tid);
            let record = self.ask(&one.request(), &one.decision, &wanted);
            if record.verdict != Verdict::Allow {
                write(&[one.denied(record)])?;
                return Err(ERRNO_READ_ONLY);
            }
            state(self).note_change(&one.request.path, one.noted.as_str());
            events.push(Event::FileChanged {
                path: one.request.path.clone(),
                access: one.noted.as_str().to_owned(),
                by: one.request.subject.clone(),
                decision: Some(record),
            });
        }
        write(&events)?;
        // Last, since writing takes its time: what was approved is what happens.
        let name = stockade_sys::seccomp::name(call.number).unwrap_or_default();
        let resolver = self.resolver(tid).map_err(|_| ERRNO_NOT_JUDGED)?;
        let again = self.judged(&resolver, call, name)?;
        let same = again.len() == judged.len()
            && again.iter().zip(&judged).all(|(now, one)| now.is_same(one));
        let asked = |one: &&Judged| one.decision.verdict == Verdict::Ask;
        if let Some(one) = judged.iter().find(asked).filter(|_| !same) {
            let record = self.changed_since(&one.request(), &one.decision);
            write(&[one.denied(record)])?;
            return Err(ERRNO_READ_ONLY);
        }
        let free = |one: &Judged| one.decision.verdict == Verdict::Allow;
        for one in judged.into_iter().filter(free) {
            self.note_change(one, tid).ok_or(ERRNO_NOT_JUDGED)?;
        }
        self.recorder.note_change_let_through();
        Ok(())
    }

    /// Journals a change that no rule asked about, unless it is known; `None` when that failed.
    fn note_change(&self, change: Judged, tid: u32) -> Option<()> {
        let path = change.request.path;
        let access = change.noted.as_str();
        if !state(self).note_change(&path, access) {
            return Some(());
        }
        let event = Event::FileChanged {
            path,
            access: access.to_owned(),
            by: self.subject(tid),
            decision: None,
        };
        self.write(&event, Durability::Written)
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
