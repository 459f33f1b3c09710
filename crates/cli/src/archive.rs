//! Past and running sessions, as the commands that read them see them.

use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use stockade_store::{Store, StoreError};
use stockade_types::SessionId;

use crate::{
    exit::Exit,
    human::safe,
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
    /// Opens the archive and brings its index up to date; `None` where there is no state yet.
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

    /// Finds the session that `text` means; says why and gives the exit code if it means none.
    ///
    /// # Errors
    /// When the index cannot be used.
    pub(crate) fn resolve(
        &mut self,
        text: &str,
        out: &mut Output,
    ) -> anyhow::Result<Result<SessionId, Exit>> {
        let exit = match self.store.resolve(text) {
            Ok(session) => return Ok(Ok(session)),
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

/// Says that there is no session yet.
pub(crate) fn none_yet(out: &mut Output) -> Exit {
    out.note(format_args!("stockade: {}", StoreError::NoSessions));
    Exit::CannotTell
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// A bar on standard error that appears only where that is a terminal and the work is long.
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

    /// Tells how far the work is.
    pub(crate) fn at(&mut self, done: u64, total: u64) {
        if self.started.elapsed() < PROGRESS_AFTER {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            // Hidden by itself where standard error is not a terminal.
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{msg} {wide_bar} {percent}% {eta}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(self.what.clone());
            bar
        });
        bar.set_length(total);
        bar.set_position(done);
    }

    /// Takes the bar away.
    pub(crate) fn done(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
