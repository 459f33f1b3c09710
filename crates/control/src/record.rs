//! The server's own record: everything that people do to it, in a journal that `stockade log verify`
//! checks.

use std::{sync::Arc, time::Duration};

use rustix::fs::{Mode, OFlags};
use stockade_event::{Durability, Stamp};
use stockade_journal::{
    Journal, SigningKey,
    layout::{KEY_FILE, LOCK_FILE, session_dir},
};
use stockade_types::SessionId;

use crate::{
    ControlError, Server,
    data::{DataDir, make_dir},
    random,
    state::Noted,
};

/// How often what was noted goes to the record: a backup of the state holds what has not yet.
const INTERVAL: Duration = Duration::from_millis(250);
/// How much of it at once.
const BATCH: u32 = 256;
/// Who writes, by the name that events carry.
const SOURCE: &str = "server";

/// The record of one run of the server.
pub(crate) struct Record {
    journal: Journal,
    _lock: std::fs::File,
}

impl Record {
    /// Begins the record of this run.
    pub(crate) fn create(data: &DataDir) -> Result<Self, ControlError> {
        let state = data.record_path();
        let key = SigningKey::load_or_create(&state.join(KEY_FILE));
        let key = key.map_err(ControlError::RecordKey)?;
        let session = SessionId::from_random(random::bits()?);
        let dir = session_dir(&state, &session);
        make_dir(&dir)?;
        let path = dir.join(LOCK_FILE);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR);
        let lock = opened.map_err(|error| ControlError::file("open", &path)(error.into()))?;
        let lock = std::fs::File::from(lock);
        lock.lock().map_err(ControlError::file("lock", &path))?;
        let journal = Journal::create(&dir, session, key).map_err(ControlError::Record)?;
        Ok(Self {
            journal,
            _lock: lock,
        })
    }

    /// Writes what was noted, and waits until it is on the disk.
    fn write(&mut self, noted: &[Noted]) -> Result<(), ControlError> {
        for one in noted {
            let stamp = Stamp {
                time_unix_ns: one.at.0.saturating_mul(1_000_000),
                ..stockade_journal::now()
            };
            let event = one.act.event();
            let written = Durability::Written;
            self.journal
                .append(stamp, SOURCE, None, None, &event, written)
                .map_err(ControlError::Record)?;
        }
        let signed = self.journal.checkpoint(stockade_journal::now());
        signed.map_err(ControlError::Record)
    }

    /// Signs the end.
    pub(crate) fn finish(self) -> Result<(), ControlError> {
        let ended = self.journal.finish(stockade_journal::now());
        ended.map(|_| ()).map_err(ControlError::Record)
    }
}

impl Server {
    /// Moves what was noted to the record, once. What is on the disk there is forgotten here, so that after
    /// a crash an event may stand there twice, and none is missing.
    pub(crate) async fn record(&self, mut record: Record) -> Result<Record, ControlError> {
        loop {
            let noted = self.state.noted(BATCH).await?;
            let Some(last) = noted.last().map(|last| last.id) else {
                return Ok(record);
            };
            let has_people = noted.iter().any(|one| one.act.concerns_people());
            record = self
                .blocking(move || record.write(&noted).map(|()| record))
                .await??;
            self.state.recorded(last).await?;
            if has_people {
                self.directory_row().await?;
            }
        }
    }

    /// Records until the server ends. If that fails, the server ends: nobody decides anything that is not
    /// recorded, and what was noted stays in the state.
    pub(crate) async fn keep_record(
        self: Arc<Self>,
        mut record: Record,
    ) -> Result<Record, ControlError> {
        let mut ticks = tokio::time::interval(INTERVAL);
        let mut ended = self.ended();
        loop {
            let is_over = tokio::select! {
                _ = ticks.tick() => false,
                _ = ended.wait_for(|over| *over) => true,
            };
            record = match self.record(record).await {
                Ok(next) => next,
                Err(error) => {
                    self.end();
                    return Err(error);
                }
            };
            if is_over {
                return Ok(record);
            }
        }
    }
}
