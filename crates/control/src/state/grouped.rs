//! Small writes of machines, many in one transaction: a transaction waits for the disk, and a fleet that
//! connects or ships would wait for it thousands of times.
//!
//! Whoever writes waits until the transaction with its write is on the disk, as with one of its own.

use std::sync::{Arc, Mutex, PoisonError};

use sqlx::Row as _;
use stockade_api::{
    NodeId,
    node::{Ack, Hello},
};
use stockade_types::{SessionId, UnixMillis};
use tokio::sync::oneshot;

use super::{SessionKey, State, Stored, Writing, unsigned};
use crate::{ControlError, notice::refused_bundle};

/// Writes of one transaction: it holds up every other one.
const TOGETHER_MAX: usize = 256;

/// One write.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    /// How much of a journal is on the disk.
    Stored {
        key: SessionKey,
        stored: Stored,
        now: UnixMillis,
    },
    /// What the journal of a session has come to, and when that began.
    Summary {
        key: SessionKey,
        started: Option<UnixMillis>,
        summary: String,
    },
    /// What is wrong with a journal.
    Fault {
        key: SessionKey,
        fault: String,
        now: UnixMillis,
    },
    /// What a machine says of itself.
    Heard {
        node: NodeId,
        hello: Box<Hello>,
        now: UnixMillis,
    },
    /// Which sessions of a machine run.
    Live { node: NodeId, live: Vec<SessionId> },
    /// What became of a bundle on a machine.
    Acknowledged {
        node: NodeId,
        ack: Box<Ack>,
        now: UnixMillis,
    },
}

type Answer = oneshot::Sender<Result<(), ControlError>>;

/// Writes that wait for their transaction. As many wait as there are requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    writes: Vec<(Vec<Write>, Answer)>,
    /// Whether a task takes them.
    is_taken: bool,
}

impl State {
    /// Writes these together, and with what others write at the same time; returns once they are on the
    /// disk.
    ///
    /// # Errors
    /// When the state cannot be written: then none of them is.
    pub(crate) async fn put(&self, writes: Vec<Write>) -> Result<(), ControlError> {
        let (answer, answered) = oneshot::channel();
        let is_first = {
            let mut queue = self.waiting.lock();
            queue.writes.push((writes, answer));
            !std::mem::replace(&mut queue.is_taken, true)
        };
        if is_first {
            // A task of its own: a request that is given up takes nobody's write with it.
            tokio::spawn(self.clone().write_waiting());
        }
        let ended = |_| ControlError::Work("the state was not written".to_owned());
        answered.await.map_err(ended)?
    }

    async fn write_waiting(self) {
        loop {
            let batch = {
                let mut queue = self.waiting.lock();
                let count = queue.writes.len().min(TOGETHER_MAX);
                let batch: Vec<_> = queue.writes.drain(..count).collect();
                if batch.is_empty() {
                    queue.is_taken = false;
                    return;
                }
                batch
            };
            let mut all = Vec::with_capacity(batch.len());
            for (writes, _) in &batch {
                all.push(writes.as_slice());
            }
            let is_written = self.transact(&all).await.is_ok();
            for (writes, answer) in batch {
                // One that cannot be written must not keep the others from it.
                let done = if is_written {
                    Ok(())
                } else {
                    self.transact(&[writes.as_slice()]).await
                };
                stockade_types::ignored(answer.send(done), "who has given up is told nothing");
            }
        }
    }

    async fn transact(&self, all: &[&[Write]]) -> Result<(), ControlError> {
        let mut writing = self.write().await?;
        for writes in all {
            for write in *writes {
                self.apply(&mut writing, write).await?;
            }
        }
        self.commit(writing).await
    }

    async fn apply(&self, writing: &mut Writing, write: &Write) -> Result<(), ControlError> {
        match write {
            Write::Stored { key, stored, now } => {
                self.keep_stored(writing, key, stored, *now).await
            }
            Write::Summary {
                key,
                started,
                summary,
            } => self.keep_summary(writing, key, *started, summary).await,
            Write::Fault { key, fault, now } => self.keep_fault(writing, key, fault, *now).await,
            Write::Heard { node, hello, now } => self.heard(writing, node, hello, *now).await,
            Write::Live { node, live } => self.keep_live(writing, node, live).await,
            Write::Acknowledged { node, ack, now } => {
                if let Some((event, notice)) = refused_bundle(node, ack, *now) {
                    self.tell(writing, &event, &notice).await?;
                }
                self.acknowledge(writing, node, ack, *now).await
            }
        }
    }
}

impl State {
    /// Returns how many questions are open.
    pub(crate) async fn questions_open(&self) -> Result<u64, ControlError> {
        let failed = || ControlError::state("count questions");
        let sql = "SELECT COUNT(*) FROM questions WHERE org_id = $1 AND state = 'open'";
        let row = sqlx::query(sql).bind(self.org()).fetch_one(&self.pool);
        let count: i64 = row.await.map_err(failed())?.try_get(0).map_err(failed())?;
        Ok(unsigned(count))
    }
}

impl Waiting {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use stockade_types::Digest;

    use super::{SessionKey, State, Stored, Write};

    fn stored(number: u64) -> Write {
        Write::Stored {
            key: SessionKey {
                node: stockade_api::NodeId::from_random(1),
                session: stockade_types::SessionId::from_random(number),
            },
            stored: Stored {
                offset: number,
                events: number,
                chain: Digest::of(b"chain"),
                closed: false,
            },
            now: stockade_types::UnixMillis(1),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_written_together_is_all_there_and_a_request_given_up_takes_none_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.db"), "lab")
            .await
            .unwrap();
        let mut tasks = Vec::new();
        for number in 0..600 {
            let state = state.clone();
            let task = tokio::spawn(async move { state.put(vec![stored(number)]).await });
            if number % 7 == 3 {
                task.abort();
            } else {
                tasks.push(task);
            }
        }
        let count = tasks.len();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        let found = state.sessions(1_000).await.unwrap().len();
        assert!(found >= count, "{found} of {count}");
    }
}
