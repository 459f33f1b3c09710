//! An organisation with people in roles, whose machine is the environment of a test: it enrols the machine,
//! and votes as its people and its server would.

use std::{fs, os::unix::fs::PermissionsExt as _};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde::Serialize;
use stockade_approval::Case;
use stockade_policy::{Role, Scope};
use stockade_trust::{
    Algorithm, Assertion, Ballot, Bundle, Candidate, Choice, Directory, Envelope, Grant, Keys,
    Node, POINTER_LASTS_MAX_MS, Passkey, Plan, PlanStep, Pointer, Proof, RelyingParty, Root,
    SecretKey, Statement, StepKind, User, UserId, Vote,
};
use stockade_types::{Digest, SessionId, UnixMillis};

use crate::env::TestEnv;

/// How a public key of P-256 begins in DER.
const P256_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// A person is there and has proved who it is.
pub const PRESENT_AND_VERIFIED: u8 = 0x05;
/// A year, in milliseconds.
const YEAR_MS: u64 = 365 * 24 * 3600 * 1000;

/// A passkey in the hands of its person.
pub struct Authenticator {
    id: Vec<u8>,
    pair: EcdsaKeyPair,
}

impl Authenticator {
    fn new(id: &str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random);
        let document = document.expect("a key");
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random);
        Self {
            id: id.as_bytes().to_vec(),
            pair: pair.expect("a key"),
        }
    }

    fn passkey(&self) -> Passkey {
        let spki = [P256_HEAD.as_slice(), self.pair.public_key().as_ref()].concat();
        Passkey::new(&self.id, Algorithm::Es256, &spki).expect("a passkey")
    }

    /// Signs a challenge as a browser has it signed at `party`.
    fn assert(&self, challenge: &[u8], party: &RelyingParty, flags: u8) -> Assertion {
        let mut data = Digest::of(party.id.as_bytes()).as_bytes().to_vec();
        data.extend_from_slice(&[flags, 0, 0, 0, 0]);
        let client = format!(
            r#"{{"type":"webauthn.get","challenge":"{}","origin":"{}","crossOrigin":false}}"#,
            URL_SAFE_NO_PAD.encode(challenge),
            party.origin
        );
        let mut message = data.clone();
        message.extend_from_slice(Digest::of(client.as_bytes()).as_bytes());
        let signature = self.pair.sign(&SystemRandom::new(), &message);
        let signature = signature.expect("a signature");
        Assertion::new(&self.id, &data, client.as_bytes(), signature.as_ref())
    }
}

/// The organisation `shop`: Ann owns the code; Ben and Cara are of security, Cara with a key instead of a
/// passkey; Dora leads incidents; and Otto, whose machine it is, is of everything.
pub struct Organisation {
    root: SecretKey,
    people: SecretKey,
    policy: SecretKey,
    /// The key of its server.
    pub server: SecretKey,
    /// Ann's passkey.
    pub ann: Authenticator,
    /// Ben's passkey.
    pub ben: Authenticator,
    /// Cara's key.
    pub cara: SecretKey,
    /// Dora's passkey.
    pub dora: Authenticator,
    /// Where they vote.
    pub party: RelyingParty,
    /// When it began.
    pub begun: UnixMillis,
}

impl Organisation {
    /// Founds it at `begun`.
    pub fn new(begun: UnixMillis) -> Self {
        let key = |seed| SecretKey::from_seed(&[seed; 32]);
        let [ann, ben, dora] = ["ann-1", "ben-1", "dora-1"].map(Authenticator::new);
        Self {
            root: key(1),
            people: key(2),
            policy: key(3),
            server: key(4),
            cara: key(5),
            ann,
            ben,
            dora,
            party: RelyingParty {
                id: "stockade.test".to_owned(),
                origin: "https://stockade.test:7444".to_owned(),
            },
            begun,
        }
    }

    fn directory(&self) -> Directory {
        let user = |name: &str, roles: &[&str], passkeys: Vec<Passkey>| User {
            id: UserId(name.to_owned()),
            name: name.to_owned(),
            roles: roles.iter().map(|role| Role((*role).to_owned())).collect(),
            passkeys,
            keys: Vec::new(),
        };
        let mut cara = user("cara", &["security"], Vec::new());
        cara.keys.push(self.cara.public());
        let every = ["code-owner", "security", "incident-lead"];
        Directory {
            org: "shop".to_owned(),
            serial: 7,
            not_after: UnixMillis(self.begun.0 + YEAR_MS),
            people: vec![
                user("ann", &["code-owner"], vec![self.ann.passkey()]),
                user("ben", &["security"], vec![self.ben.passkey()]),
                cara,
                user("dora", &["incident-lead"], vec![self.dora.passkey()]),
                user("otto", &every, Vec::new()),
            ],
        }
    }

    /// Enrols the machine of `env`, in its state directory.
    pub fn enrol(&self, env: &TestEnv) {
        let one = |key: &SecretKey| Keys {
            keys: vec![key.public()],
            threshold: 1,
        };
        let root = Root {
            org: "shop".to_owned(),
            version: 1,
            not_after: UnixMillis(self.begun.0 + YEAR_MS),
            root: one(&self.root),
            people: one(&self.people),
            policy: one(&self.policy),
            servers: one(&self.server),
        };
        let node = Node {
            org: "shop".to_owned(),
            node: "n-1".to_owned(),
            owner: Some(UserId("otto".to_owned())),
            party: self.party.clone(),
        };
        Self::put(env, "node.json", &node);
        Self::put(env, "root.json", &Self::seal(&root, &self.root));
        let directory = Self::seal(&self.directory(), &self.people);
        Self::put(env, "directory.json", &directory);
    }

    /// Publishes a policy with a candidate that is compared, then tried on all but one percent of the
    /// machines, then in force.
    pub fn roll_out(&self, env: &TestEnv, serial: u64, text: &str, candidate: &str) {
        let step = |kind, percent| PlanStep {
            kind,
            percent,
            min_time_ms: 0,
            min_decisions: 0,
            min_sessions: 0,
        };
        let plan = Plan {
            rollout: "r-1".to_owned(),
            salt: "0123456789abcdef".to_owned(),
            steps: vec![
                step(StepKind::Shadow, 100),
                step(StepKind::Canary, 99),
                step(StepKind::Enforce, 100),
            ],
        };
        let candidate = Candidate {
            text: candidate.to_owned(),
            plan,
        };
        self.put_bundle(env, serial, text, Some(candidate));
    }

    /// Says which step of the rollout of [`Self::roll_out`] it is; holds for an hour from `issued` on.
    pub fn point(&self, env: &TestEnv, serial: u64, step: u32, issued: UnixMillis) {
        let pointer = Pointer {
            org: "shop".to_owned(),
            channel: "ci".to_owned(),
            serial,
            rollout: "r-1".to_owned(),
            step,
            issued,
            not_after: UnixMillis(issued.0 + POINTER_LASTS_MAX_MS),
        };
        Self::put(env, "pointer.json", &Self::seal(&pointer, &self.server));
    }

    /// Publishes a policy to the machine of `env`.
    pub fn publish(&self, env: &TestEnv, serial: u64, text: &str) {
        self.put_bundle(env, serial, text, None);
    }

    fn put_bundle(&self, env: &TestEnv, serial: u64, text: &str, candidate: Option<Candidate>) {
        let bundle = Bundle {
            org: "shop".to_owned(),
            channel: "ci".to_owned(),
            serial,
            created: self.begun,
            name: "org.toml".to_owned(),
            text: text.to_owned(),
            candidate,
        };
        Self::put(env, "bundle.json", &Self::seal(&bundle, &self.policy));
    }

    /// Signs a statement with one key.
    pub fn seal<S: Statement>(statement: &S, key: &SecretKey) -> Envelope {
        Envelope::seal(statement, &[key]).expect("a statement is JSON")
    }

    fn put(env: &TestEnv, name: &str, content: &impl Serialize) {
        let text = serde_json::to_string(content).expect("it is JSON");
        let path = env.write(env.state().join("trust").join(name), &text);
        let mode = |path: &std::path::Path, mode| {
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(path, mode).expect("the mode can be set");
        };
        mode(&path, 0o600);
        mode(&env.state().join("trust"), 0o700);
        mode(&env.state(), 0o700);
    }

    /// Returns what a vote about a question is for.
    pub fn ballot<'a>(case: &'a Case, session: &'a SessionId) -> Ballot<'a> {
        Ballot {
            org: "shop",
            node: "n-1",
            session,
            approval: &case.id,
            nonce: case.nonce,
            request: case.question.request_digest(),
            revision: case.revision,
            rendered: case.rendered,
        }
    }

    /// Returns a yes that only the server vouches for.
    pub fn vote(&self, case: &Case, user: &str, stage: &str) -> Vote {
        Vote {
            user: UserId(user.to_owned()),
            stage: stage.to_owned(),
            choice: Choice::Allow,
            scope: Scope::Once,
            not_after: case.question.expires,
            reason: Some("release 4".to_owned()),
            at: case.question.asked,
            proof: Proof::Session {},
        }
    }

    /// Proves a vote with a passkey.
    pub fn with(&self, ballot: &Ballot<'_>, who: &Authenticator, vote: Vote, flags: u8) -> Vote {
        let challenge = ballot.challenge(&vote);
        let proof = who.assert(challenge.as_bytes(), &self.party, flags);
        Vote {
            proof: Proof::Passkey(proof),
            ..vote
        }
    }

    /// Proves a vote with Cara's key.
    pub fn signed(&self, ballot: &Ballot<'_>, vote: Vote) -> Vote {
        let challenge = ballot.challenge(&vote);
        Vote {
            proof: Proof::Key {
                key: self.cara.public().id(),
                signature: URL_SAFE_NO_PAD.encode(self.cara.sign(challenge.as_bytes())),
            },
            ..vote
        }
    }

    /// Returns the votes of one owner and of two of security.
    pub fn votes(&self, case: &Case, session: &SessionId) -> Vec<Vote> {
        let ballot = Self::ballot(case, session);
        let ben = self.vote(case, "ben", "security");
        vec![
            self.vote(case, "ann", "owner"),
            self.with(&ballot, &self.ben, ben, PRESENT_AND_VERIFIED),
            self.signed(&ballot, self.vote(case, "cara", "security")),
        ]
    }

    /// Returns what the server says of votes.
    pub fn grant(case: &Case, session: &SessionId, votes: Vec<Vote>) -> Grant {
        Grant {
            org: "shop".to_owned(),
            node: "n-1".to_owned(),
            session: session.clone(),
            approval: case.id.clone(),
            nonce: case.nonce,
            request: case.question.request_digest(),
            revision: case.revision,
            rendered: case.rendered,
            scope: Scope::Once,
            not_after: case.question.expires,
            broken_glass: false,
            votes,
        }
    }
}
