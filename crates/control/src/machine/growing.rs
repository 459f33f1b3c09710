//! Writes what running sessions have come to.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use stockade_types::UnixMillis;

use crate::{
    Changed, ControlError, Server,
    following::WAITING_MAX,
    state::{SessionKey, Write, to_json},
};

/// How often sessions that have grown are looked for.
const INTERVAL: Duration = Duration::from_millis(500);
/// Nanoseconds of a millisecond.
const NS_PER_MS: u64 = 1_000_000;

impl Server {
    /// Returns what the journal of a session has come to, to be written; `None` if it cannot be read.
    ///
    /// # Errors
    /// When the server ends.
    pub(crate) async fn summary(&self, key: &SessionKey) -> Result<Option<Write>, ControlError> {
        let (summaries, dir, own) = (
            self.summaries.clone(),
            self.node_dir(&key.node),
            key.clone(),
        );
        let made = self.blocking(move || {
            let summary = summaries.update(&dir, &own)?;
            Some(to_json("a summary", &summary).map(|text| (summary, text)))
        });
        let Some(made) = made.await? else {
            return Ok(None);
        };
        let (summary, text) = made?;
        self.samples.add(key, &summary);
        Ok(Some(Write::Summary {
            key: key.clone(),
            started: summary.started_unix_ns.map(|ns| UnixMillis(ns / NS_PER_MS)),
            summary: text,
        }))
    }

    /// Writes summaries until the server ends; first of those sessions that ran when it ended.
    pub(crate) async fn keep_summaries(self: Arc<Self>) {
        match self
            .state
            .open_sessions(u32::try_from(WAITING_MAX).unwrap_or(u32::MAX))
            .await
        {
            Ok(open) => open.iter().for_each(|key| self.following.grown(key)),
            Err(error) => self.failed(&error),
        }
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            ticks.tick().await;
            let now = Instant::now();
            loop {
                let keys = self.following.take(now);
                if keys.is_empty() {
                    break;
                }
                if let Err(error) = self.write_summaries(&keys, now).await {
                    self.failed(&error);
                }
            }
        }
    }

    async fn write_summaries(&self, keys: &[SessionKey], now: Instant) -> Result<(), ControlError> {
        let mut writes = Vec::new();
        for key in keys {
            if let Some(write) = self.summary(key).await? {
                if let Write::Summary { summary, .. } = &write {
                    self.following.written(key, summary.len(), now);
                }
                writes.push(write);
            }
        }
        self.state.put(writes).await?;
        for key in keys {
            self.hub.changed(Changed::Session(key.clone()));
        }
        Ok(())
    }
}
