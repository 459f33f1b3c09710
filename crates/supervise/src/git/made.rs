//! What of protected files a session made itself: it may remove them again.

use std::collections::HashSet;

use rustix::fs::{AtFlags, StatxFlags};

use crate::locate::Place;

/// What is remembered; a session that makes more repositories cannot remove the later ones.
const MADE_MAX: usize = 100_000;

/// A file or directory, such that nothing that came later in its place is taken for it.
type Key = (u32, u32, u64, i64, u32);

/// Files and directories that were made on behalf of the session.
#[derive(Debug, Default)]
pub(crate) struct Made(HashSet<Key>);

impl Made {
    /// Notes what is at a place by now.
    pub(super) fn note(&mut self, place: &Place) {
        if self.0.len() < MADE_MAX
            && let Some(key) = key(place)
        {
            self.0.insert(key);
        }
    }

    /// Tells whether what is at a place was made by the session and left as it was.
    pub(super) fn has(&self, place: &Place) -> bool {
        key(place).is_some_and(|key| self.0.contains(&key))
    }
}

/// A file is known by its last change, which nobody can set: what somebody else wrote or replaced is
/// another one. A directory is known by its birth, since what lies in it is judged by itself.
fn key(place: &Place) -> Option<Key> {
    let asked = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::CTIME | StatxFlags::BTIME;
    // What a descriptor of the caller leads to is that object, whatever its name is by now.
    let found = if let Some(object) = place.object() {
        rustix::fs::statx(object, "", AtFlags::EMPTY_PATH, asked)
    } else {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::statx(place.parent(), place.name(), flags, asked)
    };
    let found = found.ok()?;
    let directory = u32::from(found.stx_mode) & 0o170_000 == 0o040_000;
    let (time, wanted) = if directory {
        (found.stx_btime, StatxFlags::BTIME)
    } else {
        (found.stx_ctime, StatxFlags::CTIME)
    };
    (found.stx_mask & wanted.bits() != 0).then_some((
        found.stx_dev_major,
        found.stx_dev_minor,
        found.stx_ino,
        time.tv_sec,
        time.tv_nsec,
    ))
}
