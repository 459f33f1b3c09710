//! The socket inside: it answers clients of ssh-agent, and records what it does.

use std::{io, os::unix::net::UnixStream, sync::Arc};

use rustix::net::sockopt::socket_peercred;
use stockade_event::{Durability, Event};
use stockade_supervise::{Processes, Recorder};
use stockade_types::{RawText, Subject};

use super::{
    frames::{
        EXTENSION, FAILURE, IDENTITIES_ANSWER, Message, SIGN_RESPONSE, SUCCESS, Wanted, put,
        receive, send,
    },
    judge::{Client, Refusal},
    keys::Held,
    limits::{CLIENT_IDLE, MESSAGE_BYTES_MAX},
    proofs::Proofs,
};

/// What clients are answered with.
pub(super) struct Service {
    pub(super) keys: Vec<Held>,
    pub(super) known_hosts: String,
    pub(super) proofs: Arc<Proofs>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) processes: Arc<Processes>,
    pub(super) abort: Box<dyn Fn(&str) + Send + Sync>,
}

impl Service {
    /// Answers one client until it ends.
    pub(super) fn answer(&self, mut stream: UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(CLIENT_IDLE))?;
        stream.set_write_timeout(Some(CLIENT_IDLE))?;
        let peer = socket_peercred(&stream)?;
        let pid = u32::try_from(peer.pid.as_raw_nonzero().get()).unwrap_or_default();
        let mut client = Client::default();
        let mut bind = Vec::new();
        loop {
            let message = match receive(&mut stream, MESSAGE_BYTES_MAX) {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                    let what = format!("take {error}");
                    let answer = self.refuse(pid, (None, "ssh-agent"), &Refusal::Message(what));
                    return send(&mut stream, &answer);
                }
                Err(error) => return Err(error),
            };
            let answer = match Message::read(&message) {
                Message::List => self.list(),
                Message::Bind(own) => {
                    bind.clone_from(&message);
                    // A connection to a host that no key is for binds too; what matters is whether it
                    // wants a signature.
                    let is_bound = client.bind(own, &self.proofs, &self.known_hosts);
                    vec![if is_bound { SUCCESS } else { FAILURE }]
                }
                Message::Sign { key, data, flags } => {
                    self.sign(pid, (&client, &bind), (key, data, flags))
                }
                Message::Other(number, name) => {
                    let what = Refusal::Message(asked(number, name));
                    self.refuse(pid, (None, "ssh-agent"), &what)
                }
                Message::Broken => {
                    let what = Refusal::Message("take a message that is not whole".to_owned());
                    self.refuse(pid, (None, "ssh-agent"), &what)
                }
            };
            send(&mut stream, &answer)?;
        }
    }

    fn list(&self) -> Vec<u8> {
        let mut answer = vec![IDENTITIES_ANSWER];
        let count = u32::try_from(self.keys.len()).unwrap_or_default();
        answer.extend(count.to_be_bytes());
        for (blob, comment) in self.keys.iter().map(Held::listed) {
            put(&mut answer, blob);
            put(&mut answer, comment.as_bytes());
        }
        answer
    }

    fn sign(
        &self,
        pid: u32,
        (client, bind): (&Client, &[u8]),
        (key, data, flags): (&[u8], &[u8], u32),
    ) -> Vec<u8> {
        let wanted = Wanted::read(data);
        let what = described(&wanted);
        // One key can have several entries, for other hosts and users.
        let own = self
            .keys
            .iter()
            .enumerate()
            .filter(|(_, held)| held.blob == key);
        let mut refusal = None;
        for (number, held) in own {
            let key = (number, &held.policy, held.blob.as_slice());
            let bound = match client.may_sign(key, (&wanted, flags), &self.proofs) {
                Ok(bound) => bound,
                Err(why) => {
                    refusal = Some((held, why));
                    continue;
                }
            };
            let event = Event::CredentialUsed {
                credential: held.policy.id.clone(),
                decision: bound.decision,
                host: bound.host.to_string(),
                port: bound.port.get(),
                method: "publickey".to_owned(),
                path: RawText::from(""),
                user: Some(user_of(&wanted)),
            };
            if let Err(error) = self.recorder.write(&event, Durability::Synced) {
                (self.abort)(&format!("the journal cannot be written: {error}"));
                return vec![FAILURE];
            }
            return match held.sign(data, flags, bind) {
                Ok(signature) => {
                    let mut answer = vec![SIGN_RESPONSE];
                    put(&mut answer, &signature);
                    answer
                }
                Err(error) => {
                    let why = Refusal::Outside(error.to_string());
                    self.refuse(pid, (Some(held), &what), &why)
                }
            };
        }
        match refusal {
            Some((held, why)) => self.refuse(pid, (Some(held), &what), &why),
            None => self.refuse(pid, (None, &what), &Refusal::NoKey),
        }
    }

    /// Records a refusal, and returns what the client is told.
    fn refuse(&self, pid: u32, (key, what): (Option<&Held>, &str), why: &Refusal) -> Vec<u8> {
        let policy = key.map(|held| &held.policy);
        let decision = why.decision(policy);
        let asked = match policy {
            Some(policy) => format!("{}: {what}", policy.id),
            None => what.to_owned(),
        };
        let subject: Subject = self.processes.subject(pid);
        let id = self.recorder.new_decision();
        let decision = self
            .recorder
            .record_credential(id, subject, asked, &decision);
        let event = Event::CredentialRefused { decision };
        if let Err(error) = self.recorder.write(&event, Durability::Written) {
            (self.abort)(&format!("the journal cannot be written: {error}"));
        }
        vec![FAILURE]
    }
}

/// Says what a client wants to have signed.
fn described(wanted: &Wanted<'_>) -> String {
    match wanted {
        Wanted::Login(_) => format!("a login as {}", user_of(wanted)),
        Wanted::File(_) => "a signature of a file or commit".to_owned(),
        Wanted::Other => "a signature of something that is no login".to_owned(),
    }
}

fn user_of(wanted: &Wanted<'_>) -> String {
    match wanted {
        Wanted::Login(login) => RawText::from_bytes(login.user).display(),
        Wanted::File(_) | Wanted::Other => String::new(),
    }
}

/// Says what a message asks for that is not answered.
fn asked(number: u8, name: &[u8]) -> String {
    match number {
        // Numbers of messages of the protocol, with the old ones.
        1 | 3 | 7 | 8 | 9 => "speak the first version of ssh".to_owned(),
        17 | 25 => "take keys".to_owned(),
        18 | 19 => "remove keys".to_owned(),
        20 | 21 | 26 => "work with smart cards".to_owned(),
        22 | 23 => "lock or unlock".to_owned(),
        EXTENSION => format!("know `{}`", RawText::from_bytes(name).display()),
        _ => format!("know message {number}"),
    }
}
