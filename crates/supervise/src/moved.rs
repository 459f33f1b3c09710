//! The entries that move with a renamed directory: rules about files below it hold for its new name
//! too.
//!
//! The mounts protect existing protected paths, and the notifier judges names that would become
//! protected. Only the notifier knows the rules about other files, so it judges every entry that
//! moves with a directory as if it were removed and made anew. It does the same for entries that
//! leave a directory of packages, which spares names that are protected elsewhere. Otherwise it
//! does not search.

use std::{
    collections::BTreeSet,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::fs::FileType;
use stockade_policy::{Access, Decision};
use stockade_types::Verdict;

use super::{Supervision, changes::Call, judged::Judged};
use crate::{
    areas::Area,
    locate::Place,
    tree::{self, Search, TooMany},
    turns::{Beside, Directory, directory},
};

/// Entries of a moved directory that are judged: a package cache has fewer, and this many take
/// about a second.
const ENTRIES_MAX: usize = 300_000;
/// Entries that are judged at once: this many take a few milliseconds. A larger directory is walked
/// through before its call has the turn.
const ENTRIES_AT_ONCE_MAX: usize = 1_000;

/// How to walk through the directories that a call moves.
pub(super) enum Walks<'t> {
    /// At once, if they are small.
    Small,
    /// They were walked through before the call had its turn; a directory that has changed since is
    /// walked again.
    Ahead(Vec<Ahead<'t>>),
    /// At once, whatever their size.
    Whole,
}

/// A directory that was walked through ahead of its turn.
pub(super) struct Ahead<'t> {
    walk: Beside<'t>,
    directory: Option<Directory>,
    from: PathBuf,
    to: PathBuf,
    judged: Vec<Judged>,
}

/// The walk is too large to be made at once.
#[derive(Debug)]
pub(super) struct TooLarge;

impl Ahead<'_> {
    /// Whether this is the same move of the same directory, in which nothing has changed.
    fn is_still(&self, from: &Place, to: &Place, directory: Option<Directory>) -> bool {
        self.walk.holds()
            && directory.is_some()
            && self.directory == directory
            && self.from == from.path
            && self.to == to.path
    }
}

impl Supervision {
    /// Judges the entries that move with a directory; leaves out allowed entries, and asks once for
    /// each rule that asks.
    ///
    /// # Errors
    /// When that takes longer than `walks` permits.
    pub(super) fn carried(
        &self,
        call: &Call,
        places: &[Place],
        walks: &mut Walks<'_>,
    ) -> Result<Vec<Judged>, TooLarge> {
        let mut carried = Vec::new();
        for (from, to) in self.moves(call, places) {
            carried.extend(self.moved(from, to, walks)?);
        }
        Ok(carried)
    }

    /// Walks through the directories that a call would move, before it has its turn.
    pub(super) fn walk_ahead(&self, call: &Call, places: &[Place]) -> Vec<Ahead<'_>> {
        let moves = self.moves(call, places).into_iter();
        let ahead = moves.filter_map(|(from, to)| {
            let opened = from.open().ok()?;
            let walk = self.turns.walk();
            // A directory that cannot be walked through is handled when the call has its turn.
            let judged = self
                .walk(from, to, &opened, ENTRIES_MAX, Some(&walk))
                .ok()?;
            Some(Ahead {
                walk,
                directory: directory(&opened),
                from: from.path.clone(),
                to: to.path.clone(),
                judged,
            })
        });
        ahead.collect()
    }

    /// Returns the directories that a call moves and whose entries are judged, with their targets.
    fn moves<'p>(&self, call: &Call, places: &'p [Place]) -> Vec<(&'p Place, &'p Place)> {
        let ([change, ..], [from, to]) = (call.changes.as_slice(), places) else {
            return Vec::new();
        };
        if !change.leaves() {
            return Vec::new();
        }
        let mut moves = vec![(from, to)];
        if call.exchanges() {
            moves.push((to, from));
        }
        moves.retain(|(from, to)| {
            from.kind() == Some(FileType::Directory)
                && (self.restricts_files() || self.becomes_protected(from, to))
        });
        moves
    }

    /// Whether a moved directory may hold a name that is spared at its place and protected at the
    /// target.
    fn becomes_protected(&self, from: &Place, to: &Place) -> bool {
        let settings = &self.policy.settings().workspace;
        let below = |place: &Place| {
            let (area, relative) = self.areas.of(&place.path)?;
            // Between areas a move is impossible: each is a mount of its own.
            let spared = area != Area::Packages;
            spared.then(|| relative.as_os_str().as_bytes().to_owned())
        };
        let (Some(from), Some(to)) = (below(from), below(to)) else {
            return false;
        };
        // Policy lifts protection by path, so any other path may be protected.
        settings.spares(&from) && !(settings.unprotect.is_empty() && settings.in_packages(&to))
    }

    fn moved(
        &self,
        from: &Place,
        to: &Place,
        walks: &mut Walks<'_>,
    ) -> Result<Vec<Judged>, TooLarge> {
        // The descriptor refers to this directory, whatever lies at its path by now.
        let Ok(opened) = from.open() else {
            return Ok(self.cannot_tell(from).into_iter().collect());
        };
        let entries_max = match walks {
            Walks::Small => ENTRIES_AT_ONCE_MAX,
            Walks::Whole => ENTRIES_MAX,
            Walks::Ahead(ahead) => {
                let now = directory(&opened);
                let known = ahead.iter_mut().find(|one| one.is_still(from, to, now));
                if let Some(known) = known {
                    return Ok(std::mem::take(&mut known.judged));
                }
                ENTRIES_MAX
            }
        };
        match (self.walk(from, to, &opened, entries_max, None), walks) {
            (Ok(judged), _) => Ok(judged),
            (Err(TooMany), Walks::Small) => Err(TooLarge),
            (Err(TooMany), Walks::Ahead(_) | Walks::Whole) => {
                Ok(self.cannot_tell(from).into_iter().collect())
            }
        }
    }

    /// Judges the entries of the directory behind `opened`.
    ///
    /// # Errors
    /// When it has more than `entries_max` entries.
    fn walk(
        &self,
        from: &Place,
        to: &Place,
        opened: &OwnedFd,
        entries_max: usize,
        beside: Option<&Beside<'_>>,
    ) -> Result<Vec<Judged>, TooMany> {
        let top = PathBuf::from(format!("/proc/self/fd/{}/.", opened.as_raw_fd()));
        let mut known = BTreeSet::new();
        let mut judged = Vec::new();
        let unread = tree::walk_telling(
            &top,
            entries_max,
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
            |directory| {
                if let Some(beside) = beside {
                    beside.opens(directory);
                }
            },
        )?;
        if unread > 0 {
            if let Some(beside) = beside {
                // It may only have been moved at that moment.
                beside.spoil();
            }
            judged.extend(self.cannot_tell(from));
        }
        Ok(judged)
    }

    /// Judges one entry that moves; `None` if it may.
    fn judge_moved(
        &self,
        directory: &Place,
        below: &Path,
        access: Access,
        file: bool,
    ) -> Option<Judged> {
        let path = directory.path.join(below);
        let (area, relative) = self.areas.of(&path)?;
        // As for a new link: a link named `.git` stands for the directory that it leads to.
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

    /// Refuses a move whose entries cannot be listed.
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

/// A moved entry is shown by its canonical path: the call named only the directory.
fn raw(directory: &Place) -> Vec<u8> {
    directory.path.as_os_str().as_bytes().to_owned()
}
