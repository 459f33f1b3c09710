//! An organisation with a machine that asks: Ann owns the code, Ben and Cara are of security, Dora leads
//! incidents, and Otto's session asks.

use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use stockade_policy::Scope;
use stockade_trust::{
    Algorithm, Asked, Assertion, Ballot, BreakGlass, Choice, Directory, Envelope, Grant,
    GrantError, Granted, Keys, Nonce, Passkey, Proof, RelyingParty, Review, Role, SecretKey, Stage,
    Strength, User, UserId, Vote,
};
use stockade_types::{ApprovalId, Digest, SessionId, UnixMillis};

pub(crate) const NOW: u64 = 1_000_000_000;
pub(crate) const NOT_AFTER: UnixMillis = UnixMillis(NOW + 900_000);
/// How what a voter signs begins in DER.
const P256_HEAD: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";

/// A passkey in the hands of its person.
pub(crate) struct Authenticator {
    id: Vec<u8>,
    pair: EcdsaKeyPair,
    pub(crate) flags: u8,
    pub(crate) party: RelyingParty,
    pub(crate) kind: &'static str,
}

impl Authenticator {
    pub(crate) fn new(id: &str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random);
        let document = document.expect("a key");
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random);
        Self {
            id: id.as_bytes().to_vec(),
            pair: pair.expect("a key"),
            flags: 0x05,
            party: party(),
            kind: "webauthn.get",
        }
    }

    pub(crate) fn passkey(&self) -> Passkey {
        let mut spki = unhex(P256_HEAD);
        spki.extend_from_slice(self.pair.public_key().as_ref());
        Passkey::new(&self.id, Algorithm::Es256, &spki).expect("a passkey")
    }

    /// Signs a challenge as a browser has it signed.
    pub(crate) fn assert(&self, challenge: &[u8]) -> Assertion {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        let mut data = Digest::of(self.party.id.as_bytes()).as_bytes().to_vec();
        data.extend_from_slice(&[self.flags, 0, 0, 0, 0]);
        let client = format!(
            r#"{{"type":"{}","challenge":"{}","origin":"{}","crossOrigin":false}}"#,
            self.kind,
            URL_SAFE_NO_PAD.encode(challenge),
            self.party.origin
        );
        let mut message = data.clone();
        message.extend_from_slice(Digest::of(client.as_bytes()).as_bytes());
        let signature = self.pair.sign(&SystemRandom::new(), &message);
        let signature = signature.expect("a signature");
        Assertion::new(&self.id, &data, client.as_bytes(), signature.as_ref())
    }
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("digits");
        u8::from_str_radix(pair, 16).expect("digits")
    };
    digits.map(byte).collect()
}

pub(crate) fn party() -> RelyingParty {
    RelyingParty {
        id: "stockade.test".to_owned(),
        origin: "https://stockade.test:7444".to_owned(),
    }
}

pub(crate) fn id(name: &str) -> UserId {
    UserId(name.to_owned())
}

pub(crate) fn stage(name: &str, role: &str, need: u32, strength: Strength) -> Stage {
    Stage {
        name: name.to_owned(),
        role: Role(role.to_owned()),
        need,
        veto: 1,
        strength,
        wait_ms: 0,
        escalation: None,
    }
}

/// Everything that a machine knows of its own question, as values that a test can change.
pub(crate) struct Lab {
    pub(crate) server: SecretKey,
    pub(crate) cara_key: SecretKey,
    pub(crate) ann: Authenticator,
    pub(crate) ben: Authenticator,
    pub(crate) dora: Authenticator,
    pub(crate) directory: Directory,
    pub(crate) review: Review,
    pub(crate) servers: Keys,
    pub(crate) party: RelyingParty,
    pub(crate) requesters: Vec<UserId>,
    pub(crate) requesters_are_known: bool,
    pub(crate) session: SessionId,
    pub(crate) approval: ApprovalId,
    pub(crate) nonce: Nonce,
    pub(crate) request: Digest,
    pub(crate) revision: Digest,
    pub(crate) rendered: Digest,
    pub(crate) asked: u64,
    pub(crate) now: u64,
}

impl Lab {
    /// A push: first one owner, then two of security with passkeys or keys.
    pub(crate) fn new() -> Self {
        let server = SecretKey::from_seed(&[1; 32]);
        let cara_key = SecretKey::from_seed(&[2; 32]);
        let [ann, ben, dora] = ["ann-1", "ben-1", "dora-1"].map(Authenticator::new);
        let user = |name: &str, roles: &[&str], passkeys: Vec<Passkey>, keys| User {
            id: id(name),
            name: name.to_owned(),
            roles: roles.iter().map(|role| Role((*role).to_owned())).collect(),
            passkeys,
            keys,
        };
        let people = vec![
            user("ann", &["owner"], vec![ann.passkey()], Vec::new()),
            user(
                "ben",
                &["security", "owner"],
                vec![ben.passkey()],
                Vec::new(),
            ),
            user("cara", &["security"], Vec::new(), vec![cara_key.public()]),
            user("dora", &["incident"], vec![dora.passkey()], Vec::new()),
            user("otto", &["owner", "security"], Vec::new(), Vec::new()),
        ];
        Self {
            servers: Keys {
                keys: vec![server.public()],
                threshold: 1,
            },
            directory: Directory {
                org: "shop".to_owned(),
                serial: 7,
                not_after: UnixMillis(NOW + 86_400_000),
                people,
            },
            review: Review {
                paths: vec![vec![
                    stage("owner", "owner", 1, Strength::Session),
                    stage("security", "security", 2, Strength::Key),
                ]],
                scope_max: Scope::Uses(3),
                reason_required: false,
                break_glass: Some(BreakGlass {
                    role: Role("incident".to_owned()),
                    strength: Strength::Passkey,
                    max_ms: 1_800_000,
                }),
            },
            party: party(),
            requesters: vec![id("otto")],
            requesters_are_known: true,
            session: SessionId::from_random(5),
            approval: "00000005".parse().expect("an id"),
            nonce: Nonce::new([9; 16]),
            request: Digest::of(b"git push"),
            revision: Digest::of(b"policy"),
            rendered: Digest::of(b"text"),
            asked: NOW - 60_000,
            now: NOW,
            server,
            cara_key,
            ann,
            ben,
            dora,
        }
    }

    pub(crate) fn ballot(&self) -> Ballot<'_> {
        Ballot {
            org: "shop",
            node: "n-1",
            session: &self.session,
            approval: &self.approval,
            nonce: self.nonce,
            request: self.request,
            revision: self.revision,
            rendered: self.rendered,
        }
    }

    pub(crate) fn vote(user: &str, stage: &str) -> Vote {
        Vote {
            user: id(user),
            stage: stage.to_owned(),
            choice: Choice::Allow,
            scope: Scope::Once,
            not_after: NOT_AFTER,
            reason: Some("release 4".to_owned()),
            at: UnixMillis(NOW - 1000),
            proof: Proof::Session {},
        }
    }

    /// Proves a vote with a passkey.
    pub(crate) fn with(&self, who: &Authenticator, mut vote: Vote) -> Vote {
        let challenge = self.ballot().challenge(&vote);
        vote.proof = Proof::Passkey(who.assert(challenge.as_bytes()));
        vote
    }

    /// Proves a vote with a key.
    pub(crate) fn signed(&self, key: &SecretKey, mut vote: Vote) -> Vote {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        let challenge = self.ballot().challenge(&vote);
        vote.proof = Proof::Key {
            key: key.public().id(),
            signature: URL_SAFE_NO_PAD.encode(key.sign(challenge.as_bytes())),
        };
        vote
    }

    /// The votes that suffice.
    pub(crate) fn votes(&self) -> Vec<Vote> {
        vec![
            Self::vote("ann", "owner"),
            self.with(&self.ben, Self::vote("ben", "security")),
            self.signed(&self.cara_key, Self::vote("cara", "security")),
        ]
    }

    pub(crate) fn grant(&self, votes: Vec<Vote>) -> Grant {
        Grant {
            org: "shop".to_owned(),
            node: "n-1".to_owned(),
            session: self.session.clone(),
            approval: self.approval.clone(),
            nonce: self.nonce,
            request: self.request,
            revision: self.revision,
            rendered: self.rendered,
            scope: Scope::Once,
            not_after: NOT_AFTER,
            broken_glass: false,
            votes,
        }
    }

    pub(crate) fn seal(&self, grant: &Grant) -> Envelope {
        Envelope::seal(grant, &[&self.server]).expect("a grant is JSON")
    }

    /// Has the machine judge an envelope.
    pub(crate) fn judge(&self, envelope: &Envelope) -> Result<Granted, GrantError> {
        Asked {
            ballot: self.ballot(),
            review: &self.review,
            requesters: &self.requesters,
            requesters_are_known: self.requesters_are_known,
            directory: &self.directory,
            servers: &self.servers,
            party: &self.party,
            since: UnixMillis(self.asked),
            now: UnixMillis(self.now),
        }
        .verify(envelope)
    }

    pub(crate) fn judge_grant(&self, grant: &Grant) -> Result<Granted, GrantError> {
        self.judge(&self.seal(grant))
    }
}
