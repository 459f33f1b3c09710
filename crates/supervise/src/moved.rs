//! What a rename of a directory takes along: rules about files below it hold for its new name too.
//!
//! The mounts hold protected paths that exist, and the notifier judges names that would become
//! protected. Rules about other files are only in the notifier, so whatever moves with a directory
//! is judged as if it were removed and made anew; so is what leaves a directory of packages, where
//! names are spared that are protected elsewhere. Otherwise nothing is searched.

use std::{
    collections::BTreeSet,
    os::{fd::AsRawFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::FileType;
use stockade_policy::{Access, Decision};
use stockade_types::Verdict;

use super::{Supervision, changes::Call, judged::Judged};
use crate::{
    areas::Area,
    locate::Place,
    tree::{self, Search},
};

/// Entries of a moved directory that are judged: a package cache has fewer, and this many take about
/// a second, in which nothing else of the session is judged.
const ENTRIES_MAX: usize = 300_000;

impl Supervision {
    /// Judges what moves with a directory; what is allowed is left out, and what is asked about is
    /// asked once a rule.
    pub(super) fn carried(&self, call: &Call, places: &[Place]) -> Vec<Judged> {
        let ([change, ..], [from, to]) = (call.changes.as_slice(), places) else {
            return Vec::new();
        };
        if !change.leaves() {
            return Vec::new();
        }
        let mut carried = Vec::new();
        if self.restricts_files || self.becomes_protected(from, to) {
            carried.extend(self.moved(from, to));
        }
        if call.exchanges() && (self.restricts_files || self.becomes_protected(to, from)) {
            carried.extend(self.moved(to, from));
        }
        carried
    }

    /// Tells whether what moves may hold a name that is spared where it is and protected where it
    /// would be.
    fn becomes_protected(&self, from: &Place, to: &Place) -> bool {
        let settings = &self.policy.settings().workspace;
        let below = |place: &Place| {
            let (area, relative) = self.areas.of(&place.path)?;
            // Between areas nothing moves: each is a mount of its own.
            let spared = area != Area::Packages;
            spared.then(|| relative.as_os_str().as_bytes().to_owned())
        };
        let (Some(from), Some(to)) = (below(from), below(to)) else {
            return false;
        };
        // What is lifted by policy is lifted by path, so any other path may be protected.
        settings.spares(&from) && !(settings.unprotect.is_empty() && settings.in_packages(&to))
    }

    fn moved(&self, from: &Place, to: &Place) -> Vec<Judged> {
        if from.kind() != Some(FileType::Directory) {
            return Vec::new();
        }
        // Through the descriptor it is this directory, whatever lies at its path by now.
        let Ok(directory) = from.open() else {
            return self.cannot_tell(from).into_iter().collect();
        };
        let top = PathBuf::from(format!("/proc/self/fd/{}/.", directory.as_raw_fd()));
        let mut known = BTreeSet::new();
        let mut judged = Vec::new();
        let visited = tree::walk(
            &top,
            ENTRIES_MAX,
            None,
            |_| true,
            |entry| {
                let Ok(below) = entry.path.strip_prefix(&top) else {
                    return Search::Everything;
                };
                for (place, access) in [(from, Access::Remove), (to, Access::Create)] {
                    let file = entry.kind != FileType::Directory;
                    let Some(one) = self.judge_moved(place, below, access, file) else {
                        continue;
                    };
                    if known.insert((one.decision.rule.clone(), one.decision.verdict)) {
                        judged.push(one);
                    }
                }
                Search::Everything
            },
        );
        if !matches!(visited, Ok(0)) {
            judged.extend(self.cannot_tell(from));
        }
        judged
    }

    /// Judges one entry that moves; `None` where it may.
    fn judge_moved(
        &self,
        directory: &Place,
        below: &Path,
        access: Access,
        file: bool,
    ) -> Option<Judged> {
        let path = directory.path.join(below);
        let (area, relative) = self.areas.of(&path)?;
        // As where it is made: a link named `.git` stands for the directory that it leads to.
        let settings = self.protection(area);
        let pointer = file
            && access == Access::Create
            && settings
                .stands_for(relative.as_os_str().as_bytes())
                .is_some();
        let access = if pointer { Access::Rename } else { access };
        let (request, decision) = self.decide_file(&path, area, &relative, access);
        (decision.verdict != Verdict::Allow).then(|| Judged {
            raw: raw(directory),
            request,
            decision,
            noted: access,
            implied: true,
        })
    }

    /// Refuses a move of which it is not known what it takes along.
    fn cannot_tell(&self, directory: &Place) -> Option<Judged> {
        let path = &directory.path;
        let (area, relative) = self.areas.of(path)?;
        let (request, decision) = self.decide_file(path, area, &relative, Access::Rename);
        Some(Judged {
            raw: raw(directory),
            request,
            decision: Decision {
                verdict: Verdict::Deny,
                reason: format!(
                    "rules about files hold here, or protected names, and what moves along cannot \
                     be judged: a directory in it cannot be read, or it has more than \
                     {ENTRIES_MAX} entries"
                ),
                remedy: "make its directories readable, or move its parts".to_owned(),
                ..decision
            },
            noted: Access::Rename,
            implied: true,
        })
    }
}

/// What moves along is shown by its canonical path: the call named only the directory.
fn raw(directory: &Place) -> Vec<u8> {
    directory.path.as_os_str().as_bytes().to_owned()
}
