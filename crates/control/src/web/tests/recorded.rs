//! Machines with records, as the server has them when it has taken them.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use stockade_api::{
    NodeId,
    node::{Facts, Install},
};
use stockade_event::Summary;
use stockade_journal::{
    Checker, SigningKey,
    layout::{JOURNAL_FILE, KEY_FILE, SESSIONS_DIR, session_dir},
};
use stockade_trust::{SecretKey, UserId};
use stockade_types::{SessionId, UnixMillis};

use super::lab::{Lab, Person, later};
use crate::{
    Changed, now, random,
    state::{EnrolTokenRow, Enrolled, NewNode, SessionKey, Stored, Write},
};

const PATIENCE: Duration = Duration::from_mins(1);

/// A machine that is enrolled.
pub(super) struct Machine {
    pub(super) id: NodeId,
    /// Where the server has its journals; it is laid out as a state directory is.
    pub(super) dir: PathBuf,
}

impl Machine {
    /// Returns the path of a session's page.
    pub(super) fn path(&self, session: &str) -> String {
        format!("/sessions/{}/{session}", self.id)
    }
}

impl Lab {
    /// Enrols a machine of a person.
    pub(super) async fn machine(&self, name: &str, owner: Option<&Person>) -> Machine {
        let number = random::bits().unwrap();
        let id = NodeId::from_random(number);
        let dir = self.server.node_dir(&id);
        fs::create_dir_all(&dir).unwrap();
        let key = SecretKey::from_seed(&[number.to_le_bytes(); 4].concat().try_into().unwrap());
        let journal = SigningKey::load_or_create(&dir.join(KEY_FILE)).unwrap();
        let token = EnrolTokenRow {
            owner: owner.map(|person| UserId(person.id.clone())),
            team: None,
            created_by: String::new(),
            expires: later(),
        };
        self.state
            .add_enrol_tokens(&[name.to_owned()], &token, now())
            .await
            .unwrap();
        let node = NewNode {
            certificate: self.server.authority.node(&id, &key.public()).unwrap(),
            id: id.clone(),
            name: name.to_owned(),
            key: key.public(),
            journal_key: journal.verifying_key().to_string(),
            facts: Facts {
                version: "0.1.0".to_owned(),
                kernel: "6.18".to_owned(),
                hostname: name.to_owned(),
                tiers: vec!["native".to_owned()],
                guarantees_missing: Vec::new(),
            },
            install: Install::User,
        };
        let enrolled = self.state.enrol(name, &node, now()).await.unwrap();
        assert!(matches!(enrolled, Enrolled::Yes(_)), "{enrolled:?}");
        Machine { id, dir }
    }

    /// Takes all journals of a machine as if they had been sent: of each the first `events` events.
    pub(super) async fn take(&self, machine: &Machine, events: u64) {
        let entries = fs::read_dir(machine.dir.join(SESSIONS_DIR)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            let session: SessionId = name.to_str().unwrap().parse().unwrap();
            let (key, writes) = taken(machine, session, events);
            self.state.put(writes).await.unwrap();
            self.server.hub.changed(Changed::Session(key));
        }
    }

    /// Waits until the index has everything that was taken.
    pub(super) async fn indexed(&self) {
        let begun = Instant::now();
        loop {
            let known = self.server.index.known().await.unwrap();
            let grown = self.state.grown(0).await.unwrap();
            let is_done = |one: &crate::state::Grown| known.get(&one.key) == Some(&one.events);
            if grown.iter().all(is_done) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{known:?} {grown:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Checks a journal as the server does, and says what is here.
fn taken(machine: &Machine, session: SessionId, events: u64) -> (SessionKey, Vec<Write>) {
    let dir = session_dir(&machine.dir, &session);
    let key = SigningKey::load_or_create(&machine.dir.join(KEY_FILE)).unwrap();
    let mut checker = Checker::new(session.clone(), key.verifying_key());
    let bytes = fs::read(dir.join(JOURNAL_FILE)).unwrap();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if checker.so_far().seq >= events {
            break;
        }
        checker.feed(line);
    }
    if checker.so_far().seq < events {
        assert_eq!(checker.fed(), u64::try_from(bytes.len()).unwrap());
    }
    let so_far = checker.so_far();
    let mut summary = Summary::default();
    let all = stockade_journal::read(&dir).unwrap().flatten();
    for envelope in all.take_while(|one| one.seq <= so_far.seq) {
        summary.add(&envelope);
    }
    let key = SessionKey {
        node: machine.id.clone(),
        session,
    };
    let stored = Write::Stored {
        key: key.clone(),
        stored: Stored {
            offset: checker.fed(),
            events: so_far.seq,
            chain: so_far.chain,
            closed: so_far.is_closed,
        },
        now: now(),
    };
    let began = summary.started_unix_ns;
    let summary = Write::Summary {
        key: key.clone(),
        started: began.map(|ns| UnixMillis(ns / 1_000_000)),
        summary: serde_json::to_string(&summary).unwrap(),
    };
    (key, vec![stored, summary])
}
