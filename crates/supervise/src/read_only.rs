//! Changes that the view prevents: its mounts make a place read-only, or lie on a place, that could
//! be changed outside. The kernel refuses these changes; this module records them.

use std::{io, path::Path};

use rustix::{
    fs::{Access, AtFlags, Mode, OFlags},
    io::Errno,
};
use stockade_event::{Durability, Event};
use stockade_policy::{Access as Change, Control, Decision, FileRequest, Request};
use stockade_types::RawText;

use super::{
    Hands, Supervision,
    changes::{Call, Deed},
};
use crate::locate::Place;

/// Directories of the machine, which no policy makes writable.
const OF_THE_MACHINE: [&str; 12] = [
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/run", "/sbin", "/sys",
    "/usr",
];
/// The directory in which Python caches compiled code; Python tries this at every import, and
/// continues without it.
const COMPILED: &str = "__pycache__";

impl Supervision {
    /// Records that the view prevented a change, if `error` means that; `None` if recording failed.
    pub(super) fn tell_view(
        &self,
        hands: &Hands,
        tid: u32,
        error: &io::Error,
        call: &Call,
        places: &[Place],
    ) -> Option<()> {
        let is_view = |place: &Place| match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::ROFS) => is_read_only(hands, place),
            Some(Errno::BUSY) => place.is_mount_point(),
            _ => false,
        };
        let mut all = call.changes.iter().zip(places);
        let Some((change, place)) = all.find(|(_, place)| is_view(place)) else {
            return Some(());
        };
        if place.path.as_os_str().is_empty() || is_compiled(&place.path) {
            return Some(());
        }
        // Git tries to remove each directory that it takes a file out of.
        if matches!(call.deed, Deed::Remove { directory: true }) && is_filled(place) {
            return Some(());
        }
        let access = match (change.access, place.stat.is_some()) {
            (Change::Create, true) => Change::Write,
            (access, _) => access,
        };
        let below = self.areas.of(&place.path);
        let request = Request::File(FileRequest {
            path: RawText::from_os(place.path.as_os_str()),
            workspace_relative: below.map(|(_, below)| RawText::from_os(below.as_os_str())),
            access,
            content: None,
            subject: self.subject(tid),
        });
        // A file that is mounted read-only refuses a write as any other does.
        let is_busy = error.raw_os_error() == Some(Errno::BUSY.raw_os_error());
        let decision = refusal(&place.path, is_busy);
        let id = self.recorder.new_decision();
        let decision = self.recorder.record(id, &request, &decision);
        self.write(&Event::FileDenied { decision }, Durability::Written)
    }
}

/// Whether a place is a directory with entries: it could not be removed outside either.
fn is_filled(place: &Place) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(place.parent(), place.name(), flags, Mode::empty());
    let entries = opened.and_then(rustix::fs::Dir::new);
    entries.is_ok_and(|entries| {
        let mut names = entries.flatten().map(|entry| entry.file_name().to_owned());
        names.any(|name| name.as_c_str() != c"." && name.as_c_str() != c"..")
    })
}

/// Whether a place cannot be changed only because it is read-only: the kernel checks permissions
/// first (access(2)), and a change that those forbid is refused outside as well.
fn is_read_only(hands: &Hands, place: &Place) -> bool {
    let write = |name: &std::ffi::OsStr| {
        rustix::fs::accessat(place.parent(), name, Access::WRITE_OK, AtFlags::EACCESS)
    };
    let looked = hands.identity.act(|| {
        let own = place.stat.map(|_| write(&place.name()));
        [own, Some(write(".".as_ref()))]
    });
    looked.is_ok_and(|answers| answers.contains(&Some(Err(Errno::ROFS))))
}

fn is_compiled(path: &Path) -> bool {
    let parts = [Some(path), path.parent()].into_iter().flatten();
    parts
        .filter_map(Path::file_name)
        .any(|name| name == COMPILED)
}

fn refusal(path: &Path, is_busy: bool) -> Decision {
    if is_busy {
        return Control::ReadOnly.denies(
            "something is mounted on it inside, so it can be neither removed nor renamed",
            "do this outside the session",
        );
    }
    let remedy = if OF_THE_MACHINE.iter().any(|system| path.starts_with(system)) {
        "no policy opens it: do this outside the session".to_owned()
    } else {
        let directory = path.parent().unwrap_or(path).display();
        format!(
            "add \"{directory}\" to `filesystem.write` in a policy of yours: what is changed there \
             is then changed on the host"
        )
    };
    Control::ReadOnly.denies("it is read-only inside", &remedy)
}
