//! Orders: a person ends a session from afar.

use std::{
    collections::VecDeque,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Signal, pidfd_send_signal},
};
use stockade_api::{NodeId, Order};
use stockade_approval::Client;
use stockade_journal::layout::is_live;
use stockade_trust::{Envelope, Keys};
use stockade_types::{UnixMillis, chain};

/// Orders that are remembered, so that each is carried out once. One that was forgotten has expired or
/// is for a session that has ended.
const REMEMBERED_MAX: usize = 256;
/// How long a session may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often its end is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// The orders that were carried out.
#[derive(Debug, Default)]
pub(super) struct Orders {
    done: VecDeque<String>,
}

impl Orders {
    /// Returns an order if it is one, for this machine, now, and not carried out yet.
    ///
    /// # Errors
    /// What does not fit.
    pub(super) fn take(
        &mut self,
        envelope: &Envelope,
        org: &str,
        node: &NodeId,
        servers: &Keys,
        now: UnixMillis,
    ) -> Result<Order, String> {
        let order: Order = envelope.open(servers).map_err(|error| error.to_string())?;
        if order.org != org {
            return Err("it is for another organisation".to_owned());
        }
        if order.node != *node {
            return Err("it is for another machine".to_owned());
        }
        if order.not_after <= now {
            return Err("it has expired".to_owned());
        }
        if self.done.contains(&order.id) {
            return Err("it was carried out before".to_owned());
        }
        if self.done.len() >= REMEMBERED_MAX {
            self.done.pop_front();
        }
        self.done.push_back(order.id.clone());
        Ok(order)
    }
}

/// Ends the session in `dir`: its command is asked to end, and if it does not, its supervisor is killed,
/// with which the kernel ends everything inside. Blocks for as long as that takes.
///
/// # Errors
/// When no supervisor answers for the session, or it cannot be ended.
pub(super) fn stop(dir: &Path) -> Result<(), String> {
    let is_over = || !is_live(dir).unwrap_or(true);
    if is_over() {
        return Ok(());
    }
    let client = Client::connect(dir).map_err(|error| chain(&error))?;
    let supervisor = client.supervisor().map_err(|error| error.to_string())?;
    for signal in [Signal::TERM, Signal::KILL] {
        match pidfd_send_signal(&supervisor, signal) {
            Ok(()) => {}
            Err(Errno::SRCH) => return Ok(()),
            Err(error) => return Err(format!("cannot end its supervisor: {error}")),
        }
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if is_over() {
                return Ok(());
            }
            thread::sleep(LOOK);
        }
    }
    Err("its supervisor was killed and has not ended".to_owned())
}
