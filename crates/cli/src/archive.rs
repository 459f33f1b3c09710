//! Past and running sessions, as the commands that read them see them.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use stockade_event::Envelope;
use stockade_journal::{Followed, Position, follow};
use stockade_store::{Store, StoreError};
use stockade_types::SessionId;

use crate::{
    exit::Exit,
    human::{plural, safe},
    output::Output,
    state::{StateDir, StateError},
};

/// Work shorter than this shows no progress.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);

/// The state directory and the index of its sessions.
pub(crate) struct Archive {
    pub(crate) state: StateDir,
    pub(crate) store: Store,
}

impl Archive {
    /// Opens the archive and updates its index; `None` if there is no state yet.
    ///
    /// # Errors
    /// When the state directory is not safe or the index cannot be used.
    pub(crate) fn open(out: &mut Output) -> anyhow::Result<Option<Self>> {
        let state = match StateDir::open() {
            Ok(state) => state,
            Err(StateError::Missing(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut store = Store::open(state.path())?;
        let mut progress = Progress::new("reading journals");
        store
            .ingest_all(&mut |done, total| progress.at(count(done), count(total)))
            .context("cannot bring the index of sessions up to date")?;
        progress.done();
        for note in store.notes() {
            out.note(format_args!("stockade: {}", safe(note)));
        }
        Ok(Some(Self { state, store }))
    }

    /// Opens the archive; if there is no session yet, reports that and returns the exit code.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn open_some(out: &mut Output) -> anyhow::Result<Result<Self, Exit>> {
        Ok(Self::open(out)?.ok_or_else(|| {
            out.note(format_args!("stockade: {}", StoreError::NoSessions));
            Exit::CannotTell
        }))
    }

    /// Opens the archive and finds the session that `text` names; if there is none, reports why and
    /// returns the exit code.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn open_at(text: &str, out: &mut Output) -> anyhow::Result<Result<Record, Exit>> {
        match Self::open_some(out)? {
            Ok(mut archive) => archive.find(text, out),
            Err(exit) => Ok(Err(exit)),
        }
    }

    /// Returns the record of a session.
    pub(crate) fn record(&self, session: SessionId) -> Record {
        Record {
            dir: self.state.session_dir(&session),
            session,
        }
    }

    /// Finds the session that `text` names; if it names none, reports why and returns the exit
    /// code.
    ///
    /// # Errors
    /// When the index cannot be used.
    pub(crate) fn find(
        &mut self,
        text: &str,
        out: &mut Output,
    ) -> anyhow::Result<Result<Record, Exit>> {
        let exit = match self.store.resolve(text) {
            Ok(session) => return Ok(Ok(self.record(session))),
            Err(error) => {
                let exit = match &error {
                    StoreError::NotASession(_) | StoreError::Ambiguous { .. } => Exit::Usage,
                    StoreError::NoMatch(_)
                    | StoreError::NoSessions
                    | StoreError::NotIndexed { .. } => Exit::CannotTell,
                    _ => return Err(error.into()),
                };
                out.note(format_args!("stockade: {error}"));
                exit
            }
        };
        Ok(Err(exit))
    }
}

/// The record of one session.
pub(crate) struct Record {
    pub(crate) session: SessionId,
    /// Its directory, which no longer exists if the record was removed.
    pub(crate) dir: PathBuf,
}

/// How far a record could be read.
pub(crate) struct Extent {
    /// Lines that could not be read.
    pub(crate) unreadable: u64,
    /// Whether the supervisor of the session runs.
    pub(crate) running: bool,
}

impl Record {
    /// Passes the existing events to `take`, in their order, without waiting for more.
    ///
    /// # Errors
    /// When there is no journal or it cannot be read.
    pub(crate) fn read(&self, take: &mut dyn FnMut(&Envelope)) -> anyhow::Result<Extent> {
        let mut follower = follow(&self.dir, Position::START, Duration::ZERO)?;
        let mut unreadable = 0;
        loop {
            match follower.next(Duration::ZERO)? {
                Followed::Event(envelope) => take(&envelope),
                Followed::Unreadable(_) => unreadable += 1,
                Followed::Nothing | Followed::Ended | Followed::Abandoned => break,
            }
        }
        Ok(Extent {
            unreadable,
            running: follower.is_live(),
        })
    }

    /// Returns the exit code for a number of unreadable lines, and reports them.
    pub(crate) fn exit(&self, unreadable: u64, out: &mut Output) -> Exit {
        if unreadable == 0 {
            return Exit::Yes;
        }
        out.note(format_args!(
            "stockade: {} could not be read; `stockade log verify {}` says more",
            plural(unreadable, "line", "lines"),
            self.session.short()
        ));
        Exit::CannotTell
    }
}

pub(crate) fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// A bar on standard error that appears only if that is a terminal and the work takes long.
pub(crate) struct Progress {
    what: String,
    started: std::time::Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            started: std::time::Instant::now(),
            bar: None,
        }
    }

    /// Shows the progress of the work.
    pub(crate) fn at(&mut self, done: u64, total: u64) {
        if self.started.elapsed() < PROGRESS_AFTER {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            // It hides itself if standard error is not a terminal.
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{msg} {wide_bar} {percent}% {eta}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(self.what.clone());
            bar
        });
        bar.set_length(total);
        bar.set_position(done);
    }

    /// Removes the bar.
    pub(crate) fn done(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
