//! A change of paths as it was found and judged.

use std::io;

use stockade_event::Event;
use stockade_policy::{Access, Control, Decision, FileRequest, Request};
use stockade_types::{DecisionRecord, RawText, Verdict};

use super::{ERRNO_NOT_JUDGED, changes::Call};
use crate::locate::Place;

/// One path of a call with its verdict.
#[derive(Debug)]
pub(super) struct Judged {
    /// The path as the call gives it.
    pub(super) raw: Vec<u8>,
    pub(super) request: FileRequest,
    pub(super) decision: Decision,
    /// The access that the record names.
    pub(super) noted: Access,
    /// Whether it is recorded only if a person was asked: another path of the call implies it.
    pub(super) implied: bool,
}

impl Judged {
    /// The same change of the same path.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let (own, other) = (&self.request, &other.request);
        own.path == other.path && own.access == other.access
    }

    pub(super) fn request(&self) -> Request {
        Request::File(self.request.clone())
    }

    /// The event of its refusal; it also shows the path as given if that says more.
    pub(super) fn denied(&self, mut record: DecisionRecord) -> Event {
        if self.request.path.as_bytes() != self.raw {
            record.target.raw_path = Some(RawText::from_bytes(self.raw.as_slice()));
        }
        Event::FileDenied { decision: record }
    }
}

/// A change that protection would refuse, and that is harmless the way git makes it.
#[derive(Clone, Debug)]
pub(super) enum Harmless {
    /// These settings, which were read and judged, replace those at the second path.
    Settings(Vec<u8>),
    /// Settings stay unchanged and get this mode: git tests whether a mode can be set.
    Mode(Vec<u8>, u32),
    /// The sample of a hook, equal to git's template.
    Sample(Vec<u8>),
    /// A hook of a template: git continues without it.
    Nowhere,
    /// A pointer, whose text is judged after it is written.
    Pointer(GitFile),
    /// Nothing: the call must not replace an existing file, and one exists.
    Exists,
    /// The change itself: a directory for hooks, or something of the session's own.
    Itself,
}

/// A protected file of a git directory whose meaning to git is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GitFile {
    /// `config` or `config.worktree`.
    Settings,
    /// `hooks`.
    HookDirectory,
    /// A file in `hooks`.
    Hook,
    /// `commondir` of a linked worktree.
    CommonDirectory,
    /// A file `.git`.
    Pointer,
    /// A file `.git` of a program other than git: empty, it leads nowhere (caches of packages have one,
    /// so that git takes them for no part of a repository).
    Mark,
    /// Anything else that lies in a git directory itself.
    Other,
}

/// A call whose paths were found and judged.
pub(super) struct Found {
    pub(super) call: Call,
    pub(super) places: Vec<Place>,
    pub(super) judged: Vec<Judged>,
    /// Why parts of it may happen that protection alone would refuse.
    pub(super) harmless: Option<Harmless>,
}

impl Found {
    pub(super) fn has(&self, verdict: Verdict) -> bool {
        let fits = |one: &Judged| one.decision.verdict == verdict;
        self.judged.iter().any(fits)
    }

    /// Removes the first refused path from it.
    pub(super) fn take_denied(&mut self) -> Option<Judged> {
        let denied = |one: &Judged| one.decision.verdict == Verdict::Deny;
        let at = self.judged.iter().position(denied)?;
        Some(self.judged.remove(at))
    }
}

/// The decision on a change that neither a rule nor a protected name covers.
pub(super) fn in_view() -> Decision {
    Control::View.allows("the file lies within the writable view")
}

/// The error number of an operation; an error without one could not be judged.
pub(super) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(ERRNO_NOT_JUDGED)
}
