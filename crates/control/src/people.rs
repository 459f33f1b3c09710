//! The directory of people, as machines get it: signed, and said anew whenever it changes.

use stockade_api::{NodeId, node::Down};
use stockade_trust::{Envelope, Membership, TeamId};
use stockade_types::{Digest, UnixMillis};

use crate::{
    Changed, ControlError, Server,
    clock::now,
    state::{Change, DirectoryRow, NodeRow, to_json},
};

/// How long a directory is valid: a machine that hears nothing for longer believes no votes.
const DIRECTORY_LASTS_MS: u64 = 30 * 24 * 60 * 60 * 1_000;
/// After which time it is signed anew although nothing has changed.
const DIRECTORY_RENEWED_MS: u64 = DIRECTORY_LASTS_MS / 2;

impl Server {
    /// Returns the directory as it is now.
    ///
    /// # Errors
    /// When the state cannot be read or written, or the directory cannot be signed.
    pub async fn directory(&self) -> Result<Envelope, ControlError> {
        Ok(self.directory_row().await?.envelope)
    }

    /// Returns the directory as it was signed last, which is the present one but for a moment: what changes
    /// people has it signed anew, and then it is said to all machines. So machines that come together do not
    /// have it made for each.
    pub(crate) async fn known_directory(&self) -> Result<DirectoryRow, ControlError> {
        let known = self.known_directory.read().await.clone();
        let is_fresh =
            |row: &DirectoryRow| now().0.saturating_sub(row.issued.0) < DIRECTORY_RENEWED_MS;
        match known.filter(is_fresh) {
            Some(row) => Ok(row),
            None => self.directory_row().await,
        }
    }

    /// Returns the directory as it is now. If the people have changed since it was signed last, or that was
    /// long ago, it is signed anew and said to all machines.
    pub(crate) async fn directory_row(&self) -> Result<DirectoryRow, ControlError> {
        let now = now();
        let mut writing = self.state.write().await?;
        let not_after = UnixMillis(now.0.saturating_add(DIRECTORY_LASTS_MS));
        let directory = self.state.next_directory(&mut writing, not_after).await?;
        let digest = Digest::of(to_json("people", &directory.people)?.as_bytes());
        let newest = self.state.newest_directory(&mut writing).await?;
        if let Some(row) = newest {
            let is_fresh = now.0.saturating_sub(row.issued.0) < DIRECTORY_RENEWED_MS;
            if row.digest == digest && is_fresh {
                *self.known_directory.write().await = Some(row.clone());
                return Ok(row);
            }
        }
        let row = DirectoryRow {
            serial: directory.serial,
            digest,
            envelope: Envelope::seal(&directory, &[&self.keys.people])?,
            issued: now,
        };
        let people = directory.people.len();
        self.state.add_directory(&mut writing, &row, people).await?;
        // As long as nobody else writes, so that an older one never comes after it.
        *self.known_directory.write().await = None;
        self.state.commit(writing).await?;
        self.hub.send_all(&Down::Directory {
            envelope: row.envelope.clone(),
        });
        self.hub.changed(Changed::People);
        Ok(row)
    }

    /// Says which team a machine belongs to, for the machine; `None` if nothing has ever been said about that.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub(crate) fn membership(&self, node: &NodeRow) -> Result<Option<Envelope>, ControlError> {
        if node.team_serial == 0 {
            return Ok(None);
        }
        let membership = Membership {
            org: self.settings.org.clone(),
            node: node.id.to_string(),
            team: node.team.clone(),
            serial: node.team_serial,
            not_after: UnixMillis(now().0.saturating_add(DIRECTORY_LASTS_MS)),
        };
        Ok(Some(Envelope::seal(&membership, &[&self.keys.people])?))
    }

    /// Tells a machine, if it is connected, which team it belongs to.
    ///
    /// # Errors
    /// When the state cannot be read, or nothing be signed.
    pub(crate) async fn tell_team(&self, node: &NodeId) -> Result<(), ControlError> {
        let Some(row) = self.state.node(node).await? else {
            return Ok(());
        };
        if let Some(envelope) = self.membership(&row)? {
            self.hub.send(node, &Down::Membership { envelope });
        }
        Ok(())
    }

    /// Gives a machine to a team, or to none, if it still belongs to the one that was seen.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn give_to_team(
        &self,
        node: &NodeId,
        teams: (Option<&TeamId>, Option<&TeamId>),
        by: &str,
    ) -> Result<Change, ControlError> {
        let change = self.state.set_team(node, teams, by, now()).await?;
        if change == Change::Done {
            self.tell_team(node).await?;
            self.hub.changed(Changed::Node(node.clone()));
        }
        Ok(change)
    }

    /// Lets a machine belong to the organisation no more, and cuts it off.
    ///
    /// # Errors
    /// When the state cannot be written. `Ok(false)` if it does not belong to it anyway.
    pub async fn retire(&self, node: &NodeId, by: &str) -> Result<bool, ControlError> {
        let is_done = self.state.retire(node, by, now()).await?;
        self.forget_sender(node);
        self.hub.send(node, &Down::Retired);
        self.hub.hang_up(node);
        self.hub.changed(Changed::Node(node.clone()));
        Ok(is_done)
    }
}
