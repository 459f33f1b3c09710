//! Who has to be told what: browsers that follow pages, and machines that are connected.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use stockade_api::{
    NodeId,
    node::{Backlog, Down},
};
use tokio::sync::{broadcast, mpsc};

use crate::state::SessionKey;

/// Changes that a slow browser may lag behind; then it loads its page again.
const CHANGES: usize = 1_024;
/// Messages that wait for one machine. One that takes none any more is disconnected: when it connects again
/// it is told everything that still counts.
const DOWN: usize = 256;

/// What has changed, for those who look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// A question, by its id.
    Question(String),
    /// A session: its journal has grown, or it began or ended.
    Session(SessionKey),
    /// A machine.
    Node(NodeId),
    /// The policy.
    Policy,
    /// People.
    People,
}

/// A machine's side of its stream.
#[derive(Debug)]
struct Line {
    /// Tells one connection of a machine from the next.
    number: u64,
    /// Lines of [`Down`]: one that goes to all is written once.
    down: mpsc::Sender<Bytes>,
    /// What it has not sent, as it says.
    backlog: Backlog,
}

#[derive(Debug, Default)]
struct Lines {
    last: u64,
    by_node: HashMap<NodeId, Line>,
}

/// Tells browsers and machines what concerns them.
#[derive(Debug)]
pub struct Hub {
    changes: broadcast::Sender<Changed>,
    lines: Mutex<Lines>,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            changes: broadcast::channel(CHANGES).0,
            lines: Mutex::default(),
        }
    }
}

impl Hub {
    /// Follows what changes from now on.
    pub fn follow(&self) -> broadcast::Receiver<Changed> {
        self.changes.subscribe()
    }

    /// Says what has changed.
    pub fn changed(&self, what: Changed) {
        stockade_types::ignored(
            self.changes.send(what),
            "it fails only if nobody looks, and then nobody has to be told",
        );
    }

    /// Takes the stream of a machine; an earlier one ends. The number goes to [`Hub::disconnect`].
    pub(crate) fn connect(&self, node: &NodeId) -> (u64, mpsc::Receiver<Bytes>) {
        let (down, receiver) = mpsc::channel(DOWN);
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.last += 1;
        let number = lines.last;
        let line = Line {
            number,
            down,
            backlog: Backlog::default(),
        };
        lines.by_node.insert(node.clone(), line);
        drop(lines);
        self.changed(Changed::Node(node.clone()));
        (number, receiver)
    }

    /// Forgets a stream, unless the machine has a newer one.
    pub(crate) fn disconnect(&self, node: &NodeId, number: u64) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines
            .by_node
            .get(node)
            .is_some_and(|line| line.number == number)
        {
            lines.by_node.remove(node);
        }
        drop(lines);
        self.changed(Changed::Node(node.clone()));
    }

    /// Sends a machine a message. Returns `false` if it is not connected or takes no more; a machine of the
    /// latter sort is disconnected.
    pub fn send(&self, node: &NodeId, message: &Down) -> bool {
        line_of(message).is_some_and(|line| self.send_line(node, line))
    }

    fn send_line(&self, node: &NodeId, message: Bytes) -> bool {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = lines.by_node.get(node) else {
            return false;
        };
        let is_sent = line.down.try_send(message).is_ok();
        if !is_sent {
            lines.by_node.remove(node);
        }
        is_sent
    }

    /// Sends all connected machines a message.
    pub fn send_all(&self, message: &Down) {
        let Some(line) = line_of(message) else {
            return;
        };
        for node in self.connected() {
            self.send_line(&node, line.clone());
        }
    }

    /// Takes in what a machine has not sent yet.
    pub(crate) fn behind(&self, node: &NodeId, backlog: Backlog) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.by_node.get_mut(node) {
            line.backlog = backlog;
        }
    }

    /// Returns how many machines are connected, and what they have not sent yet: all bytes, and the time of
    /// the oldest.
    pub(crate) fn backlog(&self) -> (usize, Backlog) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let all = lines.by_node.values().map(|line| &line.backlog);
        let sum = all.fold(Backlog::default(), |sum, one| Backlog {
            bytes: sum.bytes.saturating_add(one.bytes),
            oldest: match (sum.oldest, one.oldest) {
                (Some(first), Some(second)) => Some(first.min(second)),
                (one, None) | (None, one) => one,
            },
        });
        (lines.by_node.len(), sum)
    }

    /// Ends the stream of a machine, after what waits for it.
    pub fn hang_up(&self, node: &NodeId) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.by_node.remove(node);
    }

    /// Returns the machines that are connected.
    pub fn connected(&self) -> Vec<NodeId> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.by_node.keys().cloned().collect()
    }

    /// Tells whether a machine is connected.
    pub fn is_connected(&self, node: &NodeId) -> bool {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.by_node.contains_key(node)
    }
}

/// Writes a message as a line; `None` if it is no JSON, which none is.
pub(crate) fn line_of(message: &Down) -> Option<Bytes> {
    let mut line = serde_json::to_vec(message).ok()?;
    line.push(b'\n');
    Some(line.into())
}
