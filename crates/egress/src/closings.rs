//! Telling of the ends of connections, also of those that end because the session does.

use std::sync::Arc;

use stockade_event::{Durability, Event};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    limits::CLOSINGS_AT_ONCE,
    wire::{Client, Unanswered},
};

/// Takes closing events without a wait, so that a connection that is dropped can still tell.
///
/// The queue has no bound of its own: each entry was a connection whose decision was recorded, and
/// those are bounded.
#[derive(Clone, Debug)]
pub(crate) struct Closings(mpsc::UnboundedSender<Event>);

impl Closings {
    /// Makes the queue and the task that has it recorded. The task ends with the last sender, when
    /// everything is recorded.
    pub(crate) fn new(supervisor: Arc<Client>) -> (Self, impl Future<Output = ()>) {
        let (sender, events) = mpsc::unbounded_channel();
        (Self(sender), record(supervisor, events))
    }

    /// Has `event` recorded.
    pub(crate) fn add(&self, event: Event) {
        // Nobody takes it any more once the supervisor is gone.
        drop(self.0.send(event));
    }
}

async fn record(supervisor: Arc<Client>, mut events: mpsc::UnboundedReceiver<Event>) {
    let mut tasks: JoinSet<Result<u64, Unanswered>> = JoinSet::new();
    while let Some(event) = events.recv().await {
        while tasks.try_join_next().is_some() {}
        if tasks.len() >= CLOSINGS_AT_ONCE {
            tasks.join_next().await;
        }
        let supervisor = Arc::clone(&supervisor);
        // Nothing is let through by this event; a journal that failed denies what comes next.
        tasks.spawn(async move { supervisor.record(event, Durability::Written).await });
    }
    while tasks.join_next().await.is_some() {}
}
