//! Telling of the ends of connections, also of those that end because the session does.

use std::sync::Arc;

use stockade_agents::Intent;
use stockade_event::{Durability, Event};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use crate::{
    limits::CLOSINGS_AT_ONCE,
    wire::{Client, Unanswered},
};

/// Takes closing events without a wait, so that a connection that is dropped can still tell.
///
/// The queue has no bound of its own: each entry was a connection whose decision was recorded, and
/// those are bounded.
#[derive(Clone, Debug)]
pub(crate) struct Closings(mpsc::UnboundedSender<Told>);

#[derive(Debug)]
enum Told {
    /// What has happened.
    Event(Event),
    /// What was said, what it names, and who waits until it is recorded.
    Claim(Event, Intent, oneshot::Sender<()>),
}

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
        drop(self.0.send(Told::Event(event)));
    }

    /// Has a claim recorded, with what it names; what is returned ends once it is.
    pub(crate) fn claim(&self, event: Event, intent: Intent) -> oneshot::Receiver<()> {
        let (recorded, wait) = oneshot::channel();
        drop(self.0.send(Told::Claim(event, intent, recorded)));
        wait
    }
}

async fn record(supervisor: Arc<Client>, mut events: mpsc::UnboundedReceiver<Told>) {
    let mut tasks: JoinSet<Result<u64, Unanswered>> = JoinSet::new();
    while let Some(told) = events.recv().await {
        while tasks.try_join_next().is_some() {}
        if tasks.len() >= CLOSINGS_AT_ONCE {
            tasks.join_next().await;
        }
        let supervisor = Arc::clone(&supervisor);
        // Nothing is let through by this event; a journal that failed denies what comes next.
        tasks.spawn(async move {
            match told {
                Told::Event(event) => supervisor.record(event, Durability::Written).await,
                Told::Claim(event, intent, recorded) => {
                    let done = supervisor.claim(event, intent).await;
                    drop(recorded);
                    done
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}
