//! Telling of the ends of connections, also of those that end because the session does.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use stockade_agents::Intent;
use stockade_event::{Durability, Event};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use crate::{
    limits::{CALLS_READ_MAX, CLOSINGS_AT_ONCE},
    wire::{Client, Unanswered},
};

/// Takes closing events without a wait, so that a connection that is dropped can still tell.
///
/// The queue has no bound of its own: each entry was a connection whose decision was recorded, and
/// those are bounded, or a claim of a call of a model that holds a [`Slot`], and each of those has a
/// bounded number of bounded claims.
#[derive(Clone, Debug)]
pub(crate) struct Closings(mpsc::UnboundedSender<Told>);

#[derive(Debug)]
enum Told {
    /// What has happened.
    Event(Event),
    /// What was said, what it names, and who waits until it is recorded.
    Claim(Event, Intent, Waiting),
}

/// Who waits until a claim is recorded, by being held until then.
#[derive(Debug)]
struct Waiting {
    _recorded: oneshot::Sender<()>,
    _slot: Option<Arc<Slot>>,
}

/// Calls of models that are read, or whose claims are not all recorded yet.
static READ: AtomicUsize = AtomicUsize::new(0);

/// The place of a call of a model that is read. It is free again once all that the call said is recorded,
/// so that what an agent says faster than it can be recorded does not fill the memory.
#[derive(Debug)]
pub(crate) struct Slot(());

impl Slot {
    /// Takes a place if there is one.
    pub(crate) fn take() -> Option<Arc<Self>> {
        let more = |read: usize| (read < CALLS_READ_MAX).then_some(read + 1);
        let taken = READ.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then(|| Arc::new(Self(())))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        READ.fetch_sub(1, Ordering::Relaxed);
    }
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

    /// Has a claim of a call recorded, with what it names; what is returned ends once it is.
    pub(crate) fn claim(
        &self,
        event: Event,
        intent: Intent,
        slot: Option<&Arc<Slot>>,
    ) -> oneshot::Receiver<()> {
        let (recorded, wait) = oneshot::channel();
        let waiting = Waiting {
            _recorded: recorded,
            _slot: slot.cloned(),
        };
        drop(self.0.send(Told::Claim(event, intent, waiting)));
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
                Told::Claim(event, intent, waiting) => {
                    let done = supervisor.claim(event, intent).await;
                    drop(waiting);
                    done
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said faster than it is recorded keeps its places until it is.
    #[test]
    fn a_call_keeps_its_place_until_its_claims_are_recorded() {
        let (sender, mut told) = mpsc::unbounded_channel();
        let closings = Closings(sender);
        let event = Event::EventsLost {
            source: "test".to_owned(),
            count: 0,
            reason: String::new(),
        };
        for _ in 0..CALLS_READ_MAX {
            let slot = Slot::take();
            assert!(slot.is_some());
            drop(closings.claim(event.clone(), Intent::default(), slot.as_ref()));
        }
        assert!(Slot::take().is_none(), "all wait");
        drop(told.try_recv().expect("a claim waits"));
        let one = Slot::take();
        assert!(one.is_some() && Slot::take().is_none(), "one was recorded");
    }
}
