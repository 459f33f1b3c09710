//! The turn to change paths, and walks that run beside other changes.
//!
//! Changes are made one after the other. A walk through a large directory takes long, so it is made
//! before its call has the turn. Its result counts only if no directory that it opened has changed
//! since: each change says, while it has the turn, in which directories it was made. A directory is
//! noted before its entries are read, so the walk sees earlier changes, and later changes find the
//! note. A directory is identified by its device and inode, whatever path leads to it.

use std::{
    collections::HashSet,
    mem,
    os::fd::AsFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
};

use crate::{locate::Place, recorder::lock};

/// A directory, by device and inode.
pub(crate) type Directory = (u64, u64);

/// The turn to change paths.
#[derive(Default)]
pub(crate) struct Turns {
    state: Mutex<State>,
    /// How many walks there are: nearly always none.
    walks: AtomicUsize,
}

#[derive(Default)]
struct State {
    taken: bool,
    wakers: Vec<Waker>,
    walks: Vec<Arc<Walk>>,
    changed: Changed,
}

/// Where the holder of the turn makes its changes.
#[derive(Default)]
enum Changed {
    /// The holder has not said so.
    #[default]
    Unsaid,
    /// Names in these directories, if anything.
    At(Vec<Directory>),
    /// At paths that the holder does not know yet.
    Anywhere,
}

/// The right to change paths, until this is dropped.
pub(crate) struct Turn<'t>(&'t Turns);

/// The directories that a walk has opened so far.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    opened: Mutex<HashSet<Directory>>,
    /// Whether one of them was changed meanwhile.
    stale: AtomicBool,
}

/// A walk that runs beside other changes, until this is dropped.
pub(crate) struct Beside<'t> {
    turns: &'t Turns,
    walk: Arc<Walk>,
}

impl Turns {
    /// Takes the turn, unless it is taken.
    pub(crate) fn take(&self) -> Option<Turn<'_>> {
        let taken = mem::replace(&mut lock(&self.state).taken, true);
        (!taken).then(|| Turn(self))
    }

    /// Waits for the turn, and takes it.
    pub(crate) async fn taken(&self) -> Turn<'_> {
        std::future::poll_fn(|context| {
            let mut state = lock(&self.state);
            if !mem::replace(&mut state.taken, true) {
                return Poll::Ready(());
            }
            state.wakers.push(context.waker().clone());
            Poll::Pending
        })
        .await;
        Turn(self)
    }

    /// Says that the holder of the turn changes only names in the directories of these places.
    /// Until this or [`Self::changes_anywhere`] is called, every walk counts as changed.
    pub(crate) fn changes_at(&self, places: &[Place]) {
        if self.walks.load(Ordering::Acquire) == 0 {
            return;
        }
        let directories = places.iter().map(|place| directory(place.parent()));
        let all: Option<Vec<Directory>> = directories.collect();
        let mut state = lock(&self.state);
        if !matches!(state.changed, Changed::Anywhere) {
            state.changed = all.map_or(Changed::Anywhere, Changed::At);
        }
    }

    /// Says that the holder of the turn may change any path.
    pub(crate) fn changes_anywhere(&self) {
        // Even without a walk: one may begin before the change is made.
        lock(&self.state).changed = Changed::Anywhere;
    }

    /// Begins a walk.
    pub(crate) fn walk(&self) -> Beside<'_> {
        let walk = Arc::new(Walk::default());
        let mut state = lock(&self.state);
        state.walks.push(Arc::clone(&walk));
        self.walks.store(state.walks.len(), Ordering::Release);
        drop(state);
        Beside { turns: self, walk }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        let changed = mem::take(&mut state.changed);
        for walk in &state.walks {
            walk.note(&changed);
        }
        state.taken = false;
        let wakers = mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Walk {
    fn note(&self, changed: &Changed) {
        let stale = match changed {
            Changed::At(directories) => {
                let opened = lock(&self.opened);
                directories.iter().any(|one| opened.contains(one))
            }
            Changed::Unsaid | Changed::Anywhere => true,
        };
        if stale {
            self.stale.store(true, Ordering::Release);
        }
    }
}

impl Beside<'_> {
    /// Notes a directory whose entries are about to be read.
    pub(crate) fn opens(&self, opened: &impl AsFd) {
        match directory(opened.as_fd()) {
            Some(id) => {
                lock(&self.walk.opened).insert(id);
            }
            None => self.spoil(),
        }
    }

    /// Says that the walk is incomplete.
    pub(crate) fn spoil(&self) {
        self.walk.stale.store(true, Ordering::Release);
    }

    /// Whether everything the walk saw is unchanged; the caller has the turn.
    pub(crate) fn holds(&self) -> bool {
        !self.walk.stale.load(Ordering::Acquire)
    }
}

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.turns.state);
        state.walks.retain(|walk| !Arc::ptr_eq(walk, &self.walk));
        self.turns.walks.store(state.walks.len(), Ordering::Release);
    }
}

/// Returns the directory behind a descriptor.
pub(crate) fn directory(descriptor: impl AsFd) -> Option<Directory> {
    let stat = rustix::fs::fstat(descriptor).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::{Changed, Turns, directory};

    /// A walk counts if no directory that it opened was changed, and every change was announced.
    #[test]
    fn a_change_in_what_was_opened_makes_a_walk_stale() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["opened", "beside", "later"];
        let [opened, beside, later] = names.map(|name| {
            fs::create_dir(dir.path().join(name)).unwrap();
            File::open(dir.path().join(name)).unwrap()
        });
        let id = |file: &File| directory(file).unwrap();
        let cases = [
            (Changed::At(Vec::new()), true),
            (Changed::At(vec![id(&beside)]), true),
            (Changed::At(vec![id(&beside), id(&opened)]), false),
            (Changed::Anywhere, false),
            (Changed::Unsaid, false),
        ];
        for (at, (changed, holds)) in cases.into_iter().enumerate() {
            let turns = Turns::default();
            let walk = turns.walk();
            walk.opens(&opened);
            let turn = turns.take().unwrap();
            assert!(turns.take().is_none(), "somebody has it");
            turns.state.lock().unwrap().changed = changed;
            drop(turn);
            walk.opens(&later);
            assert_eq!(walk.holds(), holds, "case {at}");
        }
        let turns = Turns::default();
        let (walk, other) = (turns.walk(), turns.walk());
        drop(other);
        turns.changes_anywhere();
        turns.changes_at(&[]);
        drop(turns.take());
        assert!(!walk.holds(), "what was said of any path stays said");
    }
}
