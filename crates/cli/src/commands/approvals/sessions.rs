//! The running sessions of this user, through their control sockets.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use anyhow::Context;
use stockade_approval::{Client, ClientError, QuestionLine, SOCKET_NAME, Settled};
use stockade_journal::layout::SESSIONS_DIR;
use stockade_policy::ListedGrant;
use stockade_types::{ApprovalId, SessionId};

use crate::{
    exit::Exit,
    state::{StateDir, StateError},
};

/// An item of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Open<T> {
    pub(super) session: SessionId,
    pub(super) item: T,
}

/// The entries that a prefix names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    None,
    One(SessionId, ApprovalId),
    Several(Vec<ApprovalId>),
}

/// Connections to all running sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    directory: PathBuf,
    clients: BTreeMap<SessionId, Client>,
    problems: Vec<String>,
}

impl Sessions {
    pub(super) fn of_this_user() -> anyhow::Result<Self> {
        // Without a state directory no session has run yet, so there are no questions.
        let directory = match StateDir::open() {
            Ok(state) => state.path().join(SESSIONS_DIR),
            Err(StateError::Missing(path)) => path.join(SESSIONS_DIR),
            Err(error) => return Err(error.into()),
        };
        let mut sessions = Self {
            directory,
            clients: BTreeMap::new(),
            problems: Vec::new(),
        };
        sessions.look()?;
        Ok(sessions)
    }

    /// Connects to new sessions, and forgets those that are over.
    pub(super) fn look(&mut self) -> anyhow::Result<()> {
        self.problems.clear();
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                let shown = self.directory.display().to_string();
                return Err(error).with_context(|| format!("cannot read `{shown}`"));
            }
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|n| n.parse::<SessionId>().ok()) else {
                continue;
            };
            let is_new = !self.clients.contains_key(&id);
            if !is_new || fs::symlink_metadata(entry.path().join(SOCKET_NAME)).is_err() {
                continue;
            }
            match Client::connect(&entry.path()) {
                Ok(client) => {
                    self.clients.insert(id, client);
                }
                // The socket has no listener: the session was killed.
                Err(error) if error.is_over() => {}
                Err(error) => self.problems.push(problem(&id, error)),
            }
        }
        Ok(())
    }

    /// Queries every session; one that is over is forgotten, other errors are kept as problems.
    fn each<T>(
        &mut self,
        ask: impl Fn(&mut Client) -> Result<Vec<T>, ClientError>,
    ) -> Vec<Open<T>> {
        let mut found = Vec::new();
        let mut over = Vec::new();
        for (session, client) in &mut self.clients {
            match ask(client) {
                Ok(items) => found.extend(items.into_iter().map(|item| Open {
                    session: session.clone(),
                    item,
                })),
                Err(error) => {
                    over.push(session.clone());
                    if !error.is_over() {
                        self.problems.push(problem(session, error));
                    }
                }
            }
        }
        for session in over {
            self.clients.remove(&session);
        }
        found
    }

    /// Lists the open questions, oldest first.
    pub(super) fn questions(&mut self) -> Vec<Open<QuestionLine>> {
        let mut found = self.each(Client::list);
        found.sort_by(|a, b| (a.item.asked, &a.item.id).cmp(&(b.item.asked, &b.item.id)));
        found
    }

    pub(super) fn grants(&mut self) -> Vec<Open<ListedGrant>> {
        self.each(Client::grants)
    }

    /// Lists the recently settled questions whose id begins with `prefix`.
    pub(super) fn settled(&mut self, prefix: &str) -> Vec<Open<Settled>> {
        if prefix.is_empty() {
            return Vec::new();
        }
        let mut found = self.each(Client::settled);
        found.retain(|open| open.item.id.as_str().starts_with(prefix));
        found
    }

    pub(super) fn find_question(&mut self, prefix: &str) -> Found {
        let all = self.questions();
        only(
            all.into_iter().map(|open| (open.session, open.item.id)),
            prefix,
        )
    }

    pub(super) fn find_grant(&mut self, prefix: &str) -> Found {
        let all = self.grants();
        only(
            all.into_iter().map(|open| (open.session, open.item.id)),
            prefix,
        )
    }

    pub(super) fn client(&mut self, session: &SessionId) -> Result<&mut Client, ClientError> {
        self.clients
            .get_mut(session)
            .ok_or_else(|| ClientError::Broken(io::ErrorKind::NotConnected.into()))
    }

    pub(super) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// If a session did not answer, the list may be incomplete, and the exit code says so.
    pub(super) fn exit(&self) -> Exit {
        if self.problems.is_empty() {
            Exit::Yes
        } else {
            Exit::CannotTell
        }
    }
}

/// Describes the problem of a session in one line, with the causes.
fn problem(session: &SessionId, error: ClientError) -> String {
    let error = anyhow::Error::new(error);
    format!("session {}: {error:#}", session.short())
}

fn only(all: impl Iterator<Item = (SessionId, ApprovalId)>, prefix: &str) -> Found {
    let mut named: Vec<(SessionId, ApprovalId)> = all
        .filter(|(_, id)| !prefix.is_empty() && id.as_str().starts_with(prefix))
        .collect();
    match (named.pop(), named.is_empty()) {
        (None, _) => Found::None,
        (Some((session, id)), true) => Found::One(session, id),
        (Some((_, id)), false) => {
            let mut ids: Vec<ApprovalId> = named.into_iter().map(|(_, id)| id).collect();
            ids.push(id);
            Found::Several(ids)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(prefix: &str) -> Found {
        let session = SessionId::from_random(1);
        let ids = [0x7f3a_0001, 0x7f3b_0002, 0x1234_0003];
        only(
            ids.map(|bits| (session.clone(), ApprovalId::from_random(bits)))
                .into_iter(),
            prefix,
        )
    }

    #[test]
    fn a_prefix_names_one_question_or_none() {
        let session = SessionId::from_random(1);
        assert_eq!(
            named("1"),
            Found::One(session, ApprovalId::from_random(0x1234_0003))
        );
        assert!(matches!(named("7f3"), Found::Several(ids) if ids.len() == 2));
        assert_eq!(named("x"), Found::None);
        assert_eq!(named(""), Found::None);
    }
}
