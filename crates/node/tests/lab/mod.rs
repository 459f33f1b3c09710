//! A server that the tests play: it does what a server does, or what a hostile one would do.

mod serve;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use stockade_api::{
    EnrolToken, NodeId, Order, Receipt, What,
    node::{Down, Facts},
};
use stockade_event::{Durability, Event, Stamp};
use stockade_journal::{Journal, SigningKey, layout};
use stockade_node::{Enrol, EnrolError, Enrolment, Install};
use stockade_trust::{Bundle, Directory, Envelope, Keys, Root, SecretKey, UserId};
use stockade_types::{Digest, SessionId, UnixMillis};

pub(crate) use serve::Authority;

/// How the server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Mood {
    #[default]
    Honest,
    /// Receipts are signed with a key that the machine does not know.
    OtherKey,
    /// Receipts are for another machine.
    OtherNode,
    /// Receipts are for another session.
    OtherSession,
    /// Receipts state a chain value that the journal does not have.
    OtherChain,
    /// Receipts are for more than was sent.
    Ahead,
    /// Its answer to an enrolment names another authority.
    OtherAnswer,
    /// It takes no piece.
    Busy,
    /// Its answer to an enrolment has people whom another key has signed.
    OtherPeople,
    /// It finds every piece changed.
    Refuses,
    /// It writes what it is sent, and breaks off the connection in place of a receipt.
    Breaks,
    /// It has retired the machine.
    Retired,
}

/// What the server knows, shared with the thread that serves.
pub(crate) struct Shared {
    pub(crate) mood: Mood,
    pub(crate) evidence: PathBuf,
    pub(crate) node: NodeId,
    pub(crate) server: SecretKey,
    pub(crate) other: SecretKey,
    pub(crate) ca: String,
    pub(crate) authority: Arc<Authority>,
    /// Enrolment requests, as they came.
    pub(crate) enrolments: Vec<String>,
    /// What is sent down on the next beat.
    pub(crate) down: Vec<String>,
    /// Pieces that were received.
    pub(crate) pieces: usize,
    pub(crate) hellos: usize,
    /// What became of bundles.
    pub(crate) acks: Vec<serde_json::Value>,
    /// Certificates that were asked for.
    pub(crate) renewals: usize,
}

/// The server, and the state directory of one machine.
pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) shared: Arc<Mutex<Shared>>,
    pub(crate) token: EnrolToken,
    _served: serve::Served,
}

/// A session that runs.
pub(crate) struct Session {
    journal: Journal,
    _lock: fs::File,
}

impl Session {
    pub(crate) fn append(&mut self, events: u64) {
        append(&mut self.journal, events);
    }

    pub(crate) fn finish(self) {
        self.journal.finish(stamp()).unwrap();
    }
}

/// Seeds of the keys that sign people and policy.
pub(crate) const PEOPLE: u8 = 11;
pub(crate) const POLICY: u8 = 12;

fn only(key: &SecretKey) -> Keys {
    Keys {
        keys: vec![key.public()],
        threshold: 1,
    }
}

pub(crate) const ORG: &str = "lab";

impl Lab {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let evidence = dir.path().join("evidence");
        fs::create_dir(&evidence).unwrap();
        let state = dir.path().join("state");
        fs::create_dir_all(state.join(layout::SESSIONS_DIR)).unwrap();
        let authority = Arc::new(Authority::new());
        let shared = Arc::new(Mutex::new(Shared {
            mood: Mood::Honest,
            evidence,
            node: NodeId::from_random(7),
            server: SecretKey::from_seed(&[1; 32]),
            other: SecretKey::from_seed(&[2; 32]),
            ca: authority.pem.clone(),
            authority: authority.clone(),
            enrolments: Vec::new(),
            down: Vec::new(),
            pieces: 0,
            hellos: 0,
            renewals: 0,
            acks: Vec::new(),
        }));
        let served = serve::Served::start(&authority, shared.clone());
        let token = EnrolToken {
            url: format!("https://localhost:{}", served.port),
            ca: authority.digest,
            secret: "c2VjcmV0".to_owned(),
            expires: UnixMillis(u64::MAX),
        };
        Self {
            dir,
            shared,
            token,
            _served: served,
        }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn locked(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }

    pub(crate) fn mood(&self, mood: Mood) {
        self.locked().mood = mood;
    }

    pub(crate) fn enrol(&self) -> Result<Enrolment, EnrolError> {
        self.enrol_with(&self.token)
    }

    pub(crate) fn enrol_with(&self, token: &EnrolToken) -> Result<Enrolment, EnrolError> {
        let state = self.state();
        stockade_node::enrol(Enrol {
            state: &state,
            token,
            url: None,
            name: "box".to_owned(),
            facts: facts(),
            journal_key: "00".repeat(32),
            install: Install::User,
        })
    }

    pub(crate) fn session_dir(&self, session: &SessionId) -> PathBuf {
        layout::session_dir(&self.state(), session)
    }

    /// Makes a journal of a session that started now and runs.
    pub(crate) fn journal(&self, session: &SessionId, events: u64) -> Session {
        let dir = self.session_dir(session);
        fs::create_dir_all(&dir).unwrap();
        let lock = fs::File::create(dir.join(layout::LOCK_FILE)).unwrap();
        lock.lock().unwrap();
        let key = SigningKey::load_or_create(&self.state().join(layout::KEY_FILE)).unwrap();
        let mut journal = Journal::create(&dir, session.clone(), key).unwrap();
        append(&mut journal, events);
        Session {
            journal,
            _lock: lock,
        }
    }

    /// What the server holds of a session.
    pub(crate) fn held(&self, session: &SessionId) -> Vec<u8> {
        let file = self.locked().evidence.join(session.as_str());
        fs::read(file).unwrap_or_default()
    }

    pub(crate) fn here(&self, session: &SessionId) -> Vec<u8> {
        fs::read(self.session_dir(session).join(layout::JOURNAL_FILE)).unwrap()
    }

    /// Signs a bundle of policy.
    pub(crate) fn bundle(serial: u64, org: &str, text: &str, key: u8) -> Envelope {
        let bundle = Bundle {
            org: org.to_owned(),
            channel: "main".to_owned(),
            serial,
            created: UnixMillis(1),
            name: "lab.toml".to_owned(),
            text: text.to_owned(),
            candidate: None,
        };
        Envelope::seal(&bundle, &[&SecretKey::from_seed(&[key; 32])]).unwrap()
    }

    /// Sends a line down.
    pub(crate) fn send(&self, down: &Down) {
        let line = serde_json::to_string(down).unwrap();
        self.locked().down.push(line);
    }

    /// Signs an order of the server.
    pub(crate) fn order(&self, session: &SessionId, node: &NodeId, key: &SecretKey) -> Envelope {
        let order = Order {
            org: ORG.to_owned(),
            node: node.clone(),
            session: session.clone(),
            what: What::Stop,
            id: format!("o-{}", self.locked().hellos),
            by: UserId("u-1".to_owned()),
            not_after: UnixMillis(u64::MAX),
        };
        Envelope::seal(&order, &[key]).unwrap()
    }
}

impl Shared {
    pub(crate) fn keys(&self) -> Keys {
        only(&self.server)
    }

    /// Says which keys may sign what.
    pub(crate) fn root(&self) -> Envelope {
        let of = |seed: u8| SecretKey::from_seed(&[seed; 32]);
        let root = Root {
            org: ORG.to_owned(),
            version: 1,
            not_after: UnixMillis(u64::MAX),
            root: only(&of(10)),
            people: only(&of(PEOPLE)),
            policy: only(&of(POLICY)),
            servers: self.keys(),
        };
        Envelope::seal(&root, &[&of(10)]).unwrap()
    }

    /// Signs a directory of people.
    pub(crate) fn directory(serial: u64, key: u8) -> Envelope {
        let directory = Directory {
            org: ORG.to_owned(),
            serial,
            not_after: UnixMillis(u64::MAX),
            people: Vec::new(),
        };
        Envelope::seal(&directory, &[&SecretKey::from_seed(&[key; 32])]).unwrap()
    }

    /// Makes the receipt for what the evidence of a session has, in the present mood.
    pub(crate) fn receipt(&self, session: &SessionId) -> Envelope {
        let file = self.evidence.join(session.as_str());
        let bytes = fs::read(&file).unwrap();
        let offset = u64::try_from(bytes.len()).unwrap();
        let copy = tempfile::tempdir().unwrap();
        fs::copy(&file, copy.path().join(layout::JOURNAL_FILE)).unwrap();
        let chain = stockade_journal::chain_at(copy.path(), offset)
            .unwrap()
            .unwrap();
        let mut receipt = Receipt {
            org: ORG.to_owned(),
            node: self.node.clone(),
            session: session.clone(),
            offset,
            events: 1,
            chain,
            closed: false,
            at: UnixMillis(1),
        };
        let mut key = &self.server;
        match self.mood {
            Mood::OtherKey => key = &self.other,
            Mood::OtherNode => receipt.node = NodeId::from_random(8),
            Mood::OtherSession => receipt.session = SessionId::from_random(99),
            Mood::OtherChain => receipt.chain = Digest::of(b"other"),
            Mood::Ahead => receipt.offset += 1_000,
            Mood::Honest
            | Mood::OtherAnswer
            | Mood::OtherPeople
            | Mood::Busy
            | Mood::Refuses
            | Mood::Breaks
            | Mood::Retired => {}
        }
        Envelope::seal(&receipt, &[key]).unwrap()
    }
}

pub(crate) fn facts() -> Facts {
    Facts {
        version: "0".to_owned(),
        kernel: "0".to_owned(),
        hostname: "box".to_owned(),
        tiers: Vec::new(),
        guarantees_missing: Vec::new(),
    }
}

/// Appends events with the time of now, and a signature.
pub(crate) fn append(journal: &mut Journal, events: u64) {
    for number in 0..events {
        let event = Event::OperatorActed {
            action: "note".to_owned(),
            by: "test".to_owned(),
            detail: number.to_string(),
        };
        let stamp = stamp();
        journal
            .append(stamp, "supervisor", None, None, &event, Durability::Written)
            .unwrap();
    }
    journal.checkpoint(stamp()).unwrap();
}

pub(crate) fn stamp() -> Stamp {
    stockade_journal::now()
}

/// Waits until something holds, for at most twenty seconds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn id(number: u64) -> SessionId {
    SessionId::from_random(number)
}

/// All names below a directory, with their content.
pub(crate) fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(tree(&path));
        } else {
            all.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    all
}
