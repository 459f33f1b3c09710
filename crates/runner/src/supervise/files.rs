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
    notifier::{Notification, Notifier},
};
use stockade_types::{DecisionRecord, RawText, Verdict};

use super::{
    EMPTY_PATH, ERRNO_DENIED, ERRNO_NOT_JUDGED, ERRNO_READ_ONLY, Reply, Supervision, state,
};
use crate::resolve::{AT_FDCWD, Last, Resolved, Resolver, is_no_path};

/// `O_CREAT`.
const FLAG_CREATE: u64 = 0o100;
/// `O_EXCL`.
const FLAG_EXCLUSIVE: u64 = 0o200;
/// `AT_SYMLINK_FOLLOW`.
const SYMLINK_FOLLOW: u64 = 0x400;
/// `S_ISUID`.
const SETUID: u64 = 0o4000;
/// `AF_UNIX`.
const FAMILY_UNIX: u16 = 1;
/// Bytes of its address (`sockaddr_un`); the kernel takes no longer one.
const SOCKET_ADDRESS_BYTES: usize = 110;
/// `O_NOFOLLOW` on x86-64 and arm64 as the generic interface has it.
#[cfg(target_arch = "x86_64")]
const FLAG_NO_FOLLOW: u64 = 0o400_000;
#[cfg(not(target_arch = "x86_64"))]
const FLAG_NO_FOLLOW: u64 = 0o100_000;

/// One path that a call changes.
pub(super) struct Change {
    directory: i32,
    /// Where the path stands in the caller's memory.
    path: u64,
    /// The path, where it is not one that a NUL ends.
    raw: Option<Vec<u8>>,
    last: Last,
    access: Access,
    /// Whether it makes or changes something that is no directory.
    file: bool,
    /// Whether the kernel refuses it where something is at the path.
    fresh: bool,
    part: Part,
}

/// What a path is to the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// It is changed.
    Changed,
    /// A rename takes it away.
    Leaves,
    /// It stays as it is, and can be changed through another name afterwards.
    Shared,
}

/// One path of a call with its verdict.
pub(super) struct Judged {
    /// The path as the call has it.
    pub(super) raw: Vec<u8>,
    pub(super) request: FileRequest,
    pub(super) decision: Decision,
    /// What the record says was done.
    pub(super) noted: Access,
    /// Whether it is told only where somebody was asked: another path of the call says it.
    pub(super) implied: bool,
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
        if self.note_changes(judged, tid).is_none() {
            return Reply::Refuse(ERRNO_NOT_JUDGED);
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
            change.leaves()
                && !exchanges(call, name)
                && at
                    .as_ref()
                    .is_some_and(|at| at.resolved.kind == Some(FileType::RegularFile))
        });
        let carried = self.carried(&found, exchanges(call, name));
        // What is not there cannot be renamed or linked: nothing happens that could be recorded. A
        // refusal stands, for it may be there by the time of the call.
        let missing = found.iter().any(|(change, at)| {
            change.part != Part::Changed && at.as_ref().is_some_and(|at| at.resolved.kind.is_none())
        });
        let judged = found.into_iter().filter_map(|(mut change, at)| {
            if plain {
                change.access = if change.leaves() {
                    Access::Remove
                } else {
                    Access::Create
                };
                change.file = true;
            }
            self.judge_one(at?, &change)
        });
        let counts = |one: &Judged| !missing || one.decision.verdict != Verdict::Allow;
        Ok(judged.chain(carried).filter(counts).collect())
    }

    fn judge_one(&self, at: Place, change: &Change) -> Option<Judged> {
        let Place { raw, resolved } = at;
        let relative = self.below_workspace(&resolved.path)?;
        let existed = resolved.kind.is_some();
        let access = match (change.access, existed) {
            (Access::Create, true) => Access::Write,
            // The kernel will say that it does not exist; nothing changes, protected or not.
            (Access::Remove | Access::Write | Access::Mode, false) => return None,
            (access, _) => access,
        };
        // A file named `.git` stands for the directory it points to, with its hooks.
        let settings = &self.policy.settings().workspace;
        let below = relative.as_os_str().as_encoded_bytes();
        let pointer = change.file
            && (settings.stands_for(below).is_some() || self.places.leads_from(settings, below));
        let access = if pointer { Access::Rename } else { access };
        let noted = match (change.access, existed) {
            (Access::Mode | Access::Remove, _) => change.access,
            _ if change.leaves() => Access::Remove,
            (_, true) => Access::Write,
            (_, false) => Access::Create,
        };
        let (request, decision) = self.decide_file(&resolved.path, relative, access);
        // Nothing happens that could be recorded; a refusal stands.
        if change.fresh && existed && decision.verdict == Verdict::Allow {
            return None;
        }
        Some(Judged {
            raw,
            request,
            decision,
            noted,
            implied: change.part == Part::Shared,
        })
    }

    /// Returns a path as it lies below the workspace; nothing of the kind elsewhere.
    pub(super) fn below_workspace<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        path.strip_prefix(self.workspace.as_path()).ok()
    }

    pub(super) fn decide_file(
        &self,
        path: &Path,
        relative: &Path,
        access: Access,
    ) -> (FileRequest, Decision) {
        let named = |below: RawText| FileRequest {
            path: RawText::from_os(path.as_os_str()),
            workspace_relative: Some(below),
            access,
            // Found out only where it is told: most changes are noted already.
            subject: stockade_types::Subject::default(),
        };
        let decide = |file: &FileRequest| {
            let request = Request::File(file.clone());
            self.policy.decide(&request, &Approvals::none())
        };
        let file = named(RawText::from_os(relative.as_os_str()));
        let settings = &self.policy.settings().workspace;
        let below = relative.as_os_str().as_encoded_bytes();
        let moved = access == Access::Rename;
        let Some(name) = self.places.protected_name(settings, below, moved) else {
            let decision = decide(&file);
            return (file, decision);
        };
        let name = RawText::from_bytes(name);
        let decision = decide(&named(name.clone()));
        let reason = format!(
            "{}; a link or pointer leads from `{name}` here",
            decision.reason
        );
        (file, Decision { reason, ..decision })
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
        judged.retain(|one| one.decision.verdict == Verdict::Allow);
        self.note_changes(judged, tid).ok_or(ERRNO_NOT_JUDGED)?;
        self.recorder.note_change_let_through();
        Ok(())
    }

    /// Journals the changes of one call that no rule asked about, except those that are known;
    /// `None` when that failed.
    fn note_changes(&self, mut changes: Vec<Judged>, tid: u32) -> Option<()> {
        changes.retain(|one| {
            !one.implied && state(self).note_change(&one.request.path, one.noted.as_str())
        });
        if changes.is_empty() {
            return Some(());
        }
        let by = self.subject(tid);
        let events: Vec<Event> = changes
            .into_iter()
            .map(|one| Event::FileChanged {
                path: one.request.path,
                access: one.noted.as_str().to_owned(),
                by: by.clone(),
                decision: None,
            })
            .collect();
        self.write_all(&events, Durability::Written)
    }
}

/// `ENOENT`: the kernel's own answer to a link of a descriptor.
const ERRNO_NO_ENTRY: i32 = 2;
/// `EFAULT`: the kernel's own answer to a path that cannot be read.
const ERRNO_FAULT: i32 = 14;

/// Whether a rename swaps its two paths (`RENAME_EXCHANGE`).
fn exchanges(call: &Notification, name: &str) -> bool {
    let [.., flags, _] = call.arguments;
    name == "renameat2" && flags & 2 != 0
}

/// Where a change points.
pub(super) struct Place {
    /// As the call has it.
    pub(super) raw: Vec<u8>,
    pub(super) resolved: Resolved,
}

/// Finds out where a change points; `None` where it is nothing of the tree.
fn find(resolver: &Resolver, thread: Pid, change: &Change) -> Result<Option<Place>, i32> {
    let raw = match &change.raw {
        Some(raw) => raw.clone(),
        None => memory::read_string(thread, change.path, memory::PATH_BYTES_MAX)
            .map_err(|_| ERRNO_FAULT)?,
    };
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
        Err(error) if is_no_path(&error) => Ok(None),
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

impl Change {
    /// Whether the path is the one that a rename takes away.
    pub(super) fn leaves(&self) -> bool {
        self.part == Part::Leaves
    }

    /// A change of what a path names itself.
    const fn named(directory: i32, path: u64, access: Access) -> Self {
        Self {
            directory,
            path,
            raw: None,
            last: Last::Keep,
            access,
            file: false,
            fresh: false,
            part: Part::Changed,
        }
    }
}

/// A rename from one path, given by directory and name, to another.
fn renamed(from: (i32, u64), to: (i32, u64)) -> Vec<Change> {
    let from = Change {
        part: Part::Leaves,
        ..Change::named(from.0, from.1, Access::Rename)
    };
    vec![from, Change::named(to.0, to.1, Access::Rename)]
}

/// A second name for a file. Whoever may change one changes the other, so who links must be allowed
/// to write.
fn linked(from: (i32, u64), last: Last, to: (i32, u64)) -> Vec<Change> {
    let source = Change {
        last,
        part: Part::Shared,
        ..Change::named(from.0, from.1, Access::Write)
    };
    let name = Change {
        file: true,
        fresh: true,
        ..Change::named(to.0, to.1, Access::Create)
    };
    vec![source, name]
}

/// Reads which paths a call changes, and how.
fn changes(call: &Notification, name: &str) -> Result<Vec<Change>, i32> {
    let [a0, a1, a2, a3, a4, _] = call.arguments;
    let fd = super::descriptor;
    let named = Change::named;
    let one = |directory, path, last, access| {
        let file = matches!(access, Access::Create | Access::Write) && !name.starts_with("mkdir");
        let fresh = ["mkdir", "mknod", "symlink"]
            .iter()
            .any(|call| name.starts_with(call));
        vec![Change {
            last,
            file,
            fresh,
            ..named(directory, path, access)
        }]
    };
    Ok(match name {
        "openat" => refuse_setuid(a2, a3).map(|()| open(fd(a0), a1, a2))?,
        "open" => refuse_setuid(a1, a2).map(|()| open(AT_FDCWD, a0, a1))?,
        "creat" => open(AT_FDCWD, a0, FLAG_CREATE),
        "truncate" => one(AT_FDCWD, a0, Last::Follow, Access::Write),
        "rename" => renamed((AT_FDCWD, a0), (AT_FDCWD, a1)),
        "renameat" | "renameat2" => renamed((fd(a0), a1), (fd(a2), a3)),
        "link" => linked((AT_FDCWD, a0), Last::Keep, (AT_FDCWD, a1)),
        // Only newer kernels do this for ordinary users, so nothing counts on it; a path says more.
        "linkat" if a4 & EMPTY_PATH != 0 => return Err(ERRNO_NO_ENTRY),
        "linkat" => {
            let last = if a4 & SYMLINK_FOLLOW == 0 {
                Last::Keep
            } else {
                Last::Follow
            };
            linked((fd(a0), a1), last, (fd(a2), a3))
        }
        "symlink" => one(AT_FDCWD, a1, Last::Keep, Access::Rename),
        "symlinkat" => one(fd(a1), a2, Last::Keep, Access::Rename),
        "mkdir" | "mknod" => one(AT_FDCWD, a0, Last::Keep, Access::Create),
        "mkdirat" | "mknodat" => one(fd(a0), a1, Last::Keep, Access::Create),
        "bind" => bound(call.thread, a1, a2)?,
        "unlink" | "rmdir" => one(AT_FDCWD, a0, Last::Keep, Access::Remove),
        "unlinkat" => one(fd(a0), a1, Last::Keep, Access::Remove),
        "chmod" => one(AT_FDCWD, a0, Last::Follow, Access::Mode),
        "fchmodat" | "fchmodat2" => one(fd(a0), a1, Last::Follow, Access::Mode),
        _ => return Err(ERRNO_NOT_JUDGED),
    })
}

/// A socket with a path makes a file there (unix(7), "Address format"); other addresses make none.
fn bound(thread: Pid, address: u64, length: u64) -> Result<Vec<Change>, i32> {
    let length = usize::try_from(length & 0xFFFF_FFFF).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length.min(SOCKET_ADDRESS_BYTES)];
    let count = memory::read(thread, address, &mut bytes).map_err(|_| ERRNO_FAULT)?;
    if count < bytes.len() {
        return Err(ERRNO_FAULT);
    }
    let (Some(family), path) = (bytes.first_chunk::<2>(), bytes.get(2..).unwrap_or_default())
    else {
        return Ok(Vec::new());
    };
    let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
    if u16::from_ne_bytes(*family) != FAMILY_UNIX || path.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![Change {
        raw: Some(path.to_vec()),
        file: true,
        fresh: true,
        ..Change::named(AT_FDCWD, 0, Access::Create)
    }])
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
        last,
        file: true,
        fresh: exclusive,
        ..Change::named(directory, path, access)
    }]
}
