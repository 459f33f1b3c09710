//! The identity and the mask with which a thread of the supervisor makes changes.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::fs::Mode;
use stockade_sys::{Outcome, notifier::Notification, thread::FileIdentity};
use stockade_types::Subject;

use super::Supervision;
use crate::{procfs, recorder::lock};

/// How long facts read of a process stay valid: no process id is reused within this time.
const KNOWN_FOR: Duration = Duration::from_millis(200);
/// Processes that are remembered; past this all are read again.
const KNOWN_MAX: usize = 4096;

/// The masks of the session's processes, as far as they are known without reading them. Only
/// umask(2) changes one, and the notifier sees every such call.
#[derive(Debug, Default)]
pub(crate) struct Masks {
    /// The mask of the command, and of everything that it starts.
    first: OnceLock<Mode>,
    /// Whether any process has set another one.
    differ: AtomicBool,
}

/// Recently read facts about callers, for all threads.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    masks: HashMap<u32, (Mode, Instant)>,
    /// Recent callers that made changes, by thread.
    subjects: HashMap<u32, (Subject, Instant)>,
    /// How often such a fact became stale: facts read before that are not remembered.
    news: u64,
}

/// What one thread needs to act.
pub(super) struct Hands {
    pub(super) identity: FileIdentity,
    /// The mask that this thread has now.
    own: Option<Mode>,
}

thread_local! {
    static OF_THIS_THREAD: RefCell<Option<Hands>> = const { RefCell::new(None) };
}

impl Hands {
    /// Prepares the calling thread.
    ///
    /// # Errors
    /// When the kernel refuses the identity.
    pub(super) fn prepare(supervision: &Supervision) -> Outcome<()> {
        let identity = supervision.identity;
        let hands = Self {
            identity: FileIdentity::prepare(identity.uid, identity.gid)?,
            own: None,
        };
        OF_THIS_THREAD.set(Some(hands));
        Ok(())
    }

    /// Does `work` with the calling thread's hands; `None` if the thread was not prepared.
    pub(super) fn with<T>(work: impl FnOnce(&mut Self) -> T) -> Option<T> {
        OF_THIS_THREAD.with(|own| {
            let mut own = own.try_borrow_mut().ok()?;
            own.as_mut().map(work)
        })
    }

    /// Takes the file mode creation mask of a caller: the kernel combines it with the mode, or with
    /// the directory's default access list instead.
    pub(super) fn take_mask(&mut self, supervision: &Supervision, tid: u32) {
        let mask = if supervision.masks.differ.load(Ordering::Acquire) {
            supervision.mask_of(tid)
        } else {
            *supervision.masks.first.get_or_init(|| read_mask(tid))
        };
        if self.own != Some(mask) {
            rustix::process::umask(mask);
            self.own = Some(mask);
        }
    }

    /// Returns the mask that was taken last.
    pub(super) fn mask(&self) -> u32 {
        self.own.map_or(0o077, |mask| mask.bits())
    }
}

impl Supervision {
    /// Returns the subject of a caller. Its program and arguments change only by an execution,
    /// which calls [`Self::forget_callers`]; its working directory is the one last read.
    pub(super) fn caller(&self, tid: u32) -> Subject {
        let (known, news) = {
            let callers = lock(&self.callers);
            (callers.subjects.get(&tid).cloned(), callers.news)
        };
        if let Some((subject, at)) = known
            && at.elapsed() < KNOWN_FOR
        {
            return subject;
        }
        let subject = self.subject(tid);
        let mut callers = lock(&self.callers);
        if callers.subjects.len() >= KNOWN_MAX {
            callers.subjects.clear();
        }
        if callers.news == news {
            callers
                .subjects
                .insert(tid, (subject.clone(), Instant::now()));
        }
        subject
    }

    /// Forgets all callers: one of them executes a program, or ends.
    pub(super) fn forget_callers(&self) {
        let mut callers = lock(&self.callers);
        callers.subjects.clear();
        callers.news += 1;
    }

    fn mask_of(&self, tid: u32) -> Mode {
        let (known, news) = {
            let callers = lock(&self.callers);
            (callers.masks.get(&tid).copied(), callers.news)
        };
        if let Some((mask, _)) = known.filter(|(_, at)| at.elapsed() < KNOWN_FOR) {
            return mask;
        }
        let mask = read_mask(tid);
        let mut callers = lock(&self.callers);
        if callers.news == news {
            callers.remember(tid, mask);
        }
        mask
    }

    /// Notes that a caller sets its mask. It also applies to threads, and to processes that share
    /// it.
    pub(super) fn note_mask(&self, tid: u32, call: &Notification) {
        let [mask, ..] = call.arguments;
        let mask = Mode::from_raw_mode(u32::try_from(mask & 0o777).unwrap_or_default());
        // The caller has not set it yet.
        let first = *self.masks.first.get_or_init(|| read_mask(tid));
        if mask != first {
            self.masks.differ.store(true, Ordering::Release);
        }
        let mut callers = lock(&self.callers);
        callers.masks.clear();
        callers.news += 1;
        callers.remember(tid, mask);
    }
}

impl Callers {
    fn remember(&mut self, tid: u32, mask: Mode) {
        if self.masks.len() >= KNOWN_MAX {
            self.masks.clear();
        }
        self.masks.insert(tid, (mask, Instant::now()));
    }
}

/// Reads the mask of a process; if it cannot be read, others may not read the files that it makes.
fn read_mask(tid: u32) -> Mode {
    procfs::creation_mask(tid).unwrap_or(Mode::RWXG | Mode::RWXO)
}
