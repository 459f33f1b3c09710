//! What `stockade node status` says.

use std::path::Path;

use serde::{Deserialize, Serialize};
use stockade_api::NodeId;
use stockade_types::{SessionId, UnixMillis};

use crate::{
    files::{self, FileError},
    identity::{Enrolment, Places},
    shipping::Shipping,
};

/// Journals that are named when they are not sent any more.
const STOPPED_MAX: usize = 32;

/// The connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Link {
    /// No attempt has ended yet.
    Starting,
    /// It is there.
    Connected {
        /// Since when.
        since: UnixMillis,
    },
    /// It is not.
    Lost {
        /// Since when.
        since: UnixMillis,
        /// Why.
        why: String,
    },
}

/// A journal that is not sent any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedJournal {
    /// Whose.
    pub session: SessionId,
    /// Why.
    pub why: String,
}

/// The agent of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The organisation.
    pub org: String,
    /// Names the machine.
    pub node: NodeId,
    /// What people call it.
    pub name: String,
    /// Where the server is.
    pub url: String,
    /// Whether an agent runs.
    pub running: bool,
    /// The connection.
    pub link: Link,
    /// Bytes of journals that the server does not hold.
    pub unshipped_bytes: u64,
    /// Journals that are not sent any more.
    pub stopped: Vec<StoppedJournal>,
    /// When this was written; it is written when something changes.
    pub at: UnixMillis,
    /// The connection, as it was last written.
    #[serde(skip, default = "starting")]
    written: Link,
}

fn starting() -> Link {
    Link::Starting
}

impl Status {
    pub(super) fn new(enrolment: &Enrolment, now: UnixMillis) -> Self {
        Self {
            org: enrolment.org.clone(),
            node: enrolment.node.clone(),
            name: enrolment.name.clone(),
            url: enrolment.url.clone(),
            running: false,
            link: Link::Starting,
            unshipped_bytes: 0,
            stopped: Vec::new(),
            at: now,
            written: Link::Starting,
        }
    }

    /// Writes it, if anything has changed.
    pub(super) fn write(
        &mut self,
        places: &Places,
        shipping: &Shipping,
        now: UnixMillis,
    ) -> Result<(), FileError> {
        let before = self.clone();
        self.unshipped_bytes = shipping.unshipped_bytes();
        let stopped = shipping.stopped().take(STOPPED_MAX);
        let stopped = stopped.map(|(session, why)| StoppedJournal {
            session: session.clone(),
            why: why.to_string(),
        });
        self.stopped = stopped.collect();
        if self.link == self.written && *self == before {
            return Ok(());
        }
        self.at = now;
        files::replace_json(&places.status(), self)?;
        self.written = self.link.clone();
        Ok(())
    }
}

/// Returns the status of the machine; `None` if it is not enrolled.
///
/// # Errors
/// When a file cannot be read.
pub fn status(state: &Path) -> Result<Option<Status>, FileError> {
    let places = Places::new(state);
    let Some(enrolment) = Enrolment::read(&places)? else {
        return Ok(None);
    };
    let written: Option<Status> = files::read_json(&places.status())?;
    // One of an earlier enrolment says nothing.
    let written = written.filter(|status| status.node == enrolment.node);
    let mut status = written.unwrap_or_else(|| Status::new(&enrolment, enrolment.since));
    status.running = files::is_locked(&places.lock());
    Ok(Some(status))
}
