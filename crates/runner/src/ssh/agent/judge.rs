//! Whether a key signs: only a login as a user of the key, on a connection of this session to a host of
//! the key, where that host proved itself with a key that the owner knows.

use stockade_policy::{Control, Decision, SshKey};
use stockade_types::{DecisionId, Host, Port, RawText};

use super::{
    frames::{Bind, Login, Wanted},
    host_keys::is_signed,
    proofs::Proofs,
};
use crate::ssh::known::{Standing, standing};

/// What a client may do.
#[derive(Debug, Default)]
pub(super) enum Client {
    /// It has not said which connection it logs in on.
    #[default]
    Unbound,
    /// It logs in on a connection that is known.
    Bound(Box<Bound>),
    /// It signs nothing any more.
    Closed(Refusal),
}

/// The connection that a client logs in on.
#[derive(Debug)]
pub(super) struct Bound {
    session_id: Vec<u8>,
    host_key: Vec<u8>,
    proof: u64,
    pub(super) host: Host,
    pub(super) port: Port,
    pub(super) decision: DecisionId,
}

/// Why nothing is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A message other than the three that are answered.
    Message(String),
    /// A key that is not here.
    NoKey,
    /// A file or commit.
    File(RawText),
    /// Neither a login nor a file.
    NoLogin,
    /// The client names no connection.
    Unbound,
    /// The agent was passed on to a server.
    Forwarded,
    /// The client named a second connection.
    Twice,
    /// No connection of this session to a host of a key showed that proof.
    NoConnection,
    /// The proof is not for the connection's id.
    NoProof,
    /// The host's key is not the one that the owner knows.
    Stranger(Host, Standing),
    /// The login is for another connection than the one that was named, or names another key.
    Other,
    /// The key is not for the host.
    Host(Host, Port),
    /// The key is not for the user.
    User(RawText),
    /// An algorithm that the key does not sign with.
    Algorithm(RawText),
    /// The key signed for the connection already, or its time is over.
    Again,
    /// The agent outside does not sign.
    Outside(String),
}

impl Client {
    /// Takes in which connection it logs in on.
    pub(super) fn bind(&mut self, bind: Bind<'_>, proofs: &Proofs, known_hosts: &str) -> bool {
        let bound = match self {
            Self::Unbound => bound(bind, proofs, known_hosts),
            Self::Bound(_) => Err(Refusal::Twice),
            Self::Closed(_) => return false,
        };
        *self = bound.map_or_else(Self::Closed, |bound| Self::Bound(Box::new(bound)));
        matches!(self, Self::Bound(_))
    }

    /// Returns the connection that it may sign for with a key; the number tells the keys apart.
    pub(super) fn may_sign(
        &self,
        key: (usize, &SshKey, &[u8]),
        (wanted, flags): (&Wanted<'_>, u32),
        proofs: &Proofs,
    ) -> Result<&Bound, Refusal> {
        let (number, key, blob) = key;
        let login = match wanted {
            Wanted::Login(login) => login,
            Wanted::File(namespace) => return Err(Refusal::File(RawText::from_bytes(*namespace))),
            Wanted::Other => return Err(Refusal::NoLogin),
        };
        let bound = match self {
            Self::Unbound => return Err(Refusal::Unbound),
            Self::Closed(why) => return Err(why.clone()),
            Self::Bound(bound) => bound,
        };
        let names_host = login.host_key.is_none_or(|key| key == bound.host_key);
        if login.session_id != bound.session_id || login.key != blob || !names_host {
            return Err(Refusal::Other);
        }
        if !key.is_bound_to(&bound.host, bound.port) {
            return Err(Refusal::Host(bound.host.clone(), bound.port));
        }
        if !key.users.iter().any(|user| user.as_bytes() == login.user) {
            return Err(Refusal::User(RawText::from_bytes(login.user)));
        }
        if !is_algorithm(login, flags) {
            return Err(Refusal::Algorithm(RawText::from_bytes(login.algorithm)));
        }
        if !proofs.take(bound.proof, number) {
            return Err(Refusal::Again);
        }
        Ok(bound)
    }
}

fn bound(bind: Bind<'_>, proofs: &Proofs, known_hosts: &str) -> Result<Bound, Refusal> {
    if bind.is_forwarding {
        return Err(Refusal::Forwarded);
    }
    let found = proofs.find(bind.host_key, bind.signature);
    let (number, proof) = found.ok_or(Refusal::NoConnection)?;
    if !is_signed(bind.host_key, bind.session_id, bind.signature) {
        return Err(Refusal::NoProof);
    }
    match standing(known_hosts, (&proof.host, proof.port), bind.host_key) {
        Standing::Known => {}
        other @ (Standing::Unknown | Standing::Revoked) => {
            return Err(Refusal::Stranger(proof.host, other));
        }
    }
    Ok(Bound {
        session_id: bind.session_id.to_vec(),
        host_key: bind.host_key.to_vec(),
        proof: number,
        host: proof.host,
        port: proof.port,
        decision: proof.decision,
    })
}

/// Tells whether the algorithm of a login is one of its key, and the one that the client asks for: none
/// with SHA-1, and no certificate.
fn is_algorithm(login: &Login<'_>, flags: u32) -> bool {
    let kind = super::frames::Values(login.key).string();
    match (kind, login.algorithm, flags) {
        (Some(b"ssh-rsa"), b"rsa-sha2-256", 2) | (Some(b"ssh-rsa"), b"rsa-sha2-512", 4) => true,
        (
            Some(
                kind @ (b"ssh-ed25519"
                | b"ecdsa-sha2-nistp256"
                | b"ecdsa-sha2-nistp384"
                | b"ecdsa-sha2-nistp521"
                | b"sk-ssh-ed25519@openssh.com"
                | b"sk-ecdsa-sha2-nistp256@openssh.com"),
            ),
            algorithm,
            0,
        ) => kind == algorithm,
        _ => false,
    }
}

impl Refusal {
    /// Makes the decision; `key` is the one that was to sign.
    pub(super) fn decision(&self, key: Option<&SshKey>) -> Decision {
        let conditions = key.map_or_else(String::new, SshKey::conditions);
        let (reason, remedy) = self.words(&conditions);
        Control::KeyMisuse.denies(reason, &remedy)
    }

    fn words(&self, conditions: &str) -> (String, String) {
        let only = format!("use the key for {conditions}");
        let outside = "have the owner do it outside".to_owned();
        match self {
            Self::Message(what) => (
                format!("the agent inside lists keys and signs logins; it does not {what}"),
                outside,
            ),
            Self::NoKey => (
                "no `ssh-key` of the policy has this key".to_owned(),
                "use a key that `ssh-add -L` lists".to_owned(),
            ),
            Self::File(namespace) => (
                format!(
                    "the key signs logins, and no files or commits (`{}`)",
                    namespace.display()
                ),
                "make commits unsigned; the owner signs outside".to_owned(),
            ),
            Self::NoLogin => ("what was to be signed is no login of ssh".to_owned(), only),
            Self::Unbound => (
                "the client did not say which connection it logs in on".to_owned(),
                "use the ssh of OpenSSH 8.9 or later".to_owned(),
            ),
            Self::Forwarded => (
                "an agent that is passed on to another host signs nothing".to_owned(),
                "connect from here, without `-A`".to_owned(),
            ),
            Self::Twice => (
                "the client logs in on a second connection".to_owned(),
                "use a connection to the agent for each login".to_owned(),
            ),
            Self::NoConnection => (
                "the login is on no connection of this session to a host of a key: it is at another \
                 host, or behind one (`ProxyJump`)"
                    .to_owned(),
                "connect to the host of the key itself".to_owned(),
            ),
            Self::NoProof => (
                "the host did not sign the connection that the client names".to_owned(),
                only,
            ),
            Self::Stranger(host, Standing::Revoked) => (
                format!("`{host}` showed a host key that is revoked"),
                "have the owner look into it before anybody logs in there".to_owned(),
            ),
            Self::Stranger(host, Standing::Known | Standing::Unknown) => (
                format!("`{host}` showed a host key that is not in the owner's known_hosts"),
                "have the owner log in there once outside, or add its host key".to_owned(),
            ),
            Self::Other => (
                "the login is for another connection, host key or key than the client named"
                    .to_owned(),
                only,
            ),
            Self::Host(host, port) => (format!("the key is not for {host}:{port}"), only),
            Self::User(user) => (
                format!("the key is not for the user `{}`", user.display()),
                only,
            ),
            Self::Algorithm(name) => (
                format!("the key does not sign with `{}`", name.display()),
                "use an algorithm with SHA-2, without a certificate".to_owned(),
            ),
            Self::Again => (
                "the key signed for this connection already, or two minutes ago".to_owned(),
                "connect again".to_owned(),
            ),
            Self::Outside(why) => (why.clone(), outside),
        }
    }
}
