//! What the protocol of ssh-agent (draft-ietf-sshm-ssh-agent) and logins of SSH (RFC 4252 section 7)
//! look like.

use std::io::{self, Read, Write};

/// Messages of clients.
pub(super) const REQUEST_IDENTITIES: u8 = 11;
pub(super) const SIGN_REQUEST: u8 = 13;
pub(super) const EXTENSION: u8 = 27;
/// Answers.
pub(super) const FAILURE: u8 = 5;
pub(super) const SUCCESS: u8 = 6;
pub(super) const IDENTITIES_ANSWER: u8 = 12;
pub(super) const SIGN_RESPONSE: u8 = 14;

/// How a client says which connection it uses the agent for (`PROTOCOL.agent` of OpenSSH).
const SESSION_BIND: &[u8] = b"session-bind@openssh.com";
const SSH_MSG_USERAUTH_REQUEST: u8 = 50;
const SERVICE: &[u8] = b"ssh-connection";
const PUBLICKEY: &[u8] = b"publickey";
/// The same with the server's key (`PROTOCOL` of OpenSSH, section 3.1).
const HOSTBOUND: &[u8] = b"publickey-hostbound-v00@openssh.com";
/// How signatures of files and commits begin (`PROTOCOL.sshsig` of OpenSSH).
const FILE_SIGNATURE: &[u8] = b"SSHSIG";

/// Reads values off the beginning of bytes (RFC 4251 section 5).
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'a>(pub(super) &'a [u8]);

impl<'a> Values<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*first))
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(text)
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// Returns `value` if nothing is left.
    pub(super) fn whole<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

/// A message of a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// Which keys are there?
    List,
    /// Sign something.
    Sign {
        /// The public key.
        key: &'a [u8],
        /// What is to be signed.
        data: &'a [u8],
        /// Which algorithm, for RSA.
        flags: u32,
    },
    /// The client uses the agent for a connection.
    Bind(Bind<'a>),
    /// Anything else, by its number and, for an extension, its name.
    Other(u8, &'a [u8]),
    /// Not a message.
    Broken,
}

/// A connection that a client uses the agent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bind<'a> {
    /// The server's key.
    pub(super) host_key: &'a [u8],
    /// The connection's id: the digest of its first exchange.
    pub(super) session_id: &'a [u8],
    /// The server's signature over it.
    pub(super) signature: &'a [u8],
    /// The agent is passed on to the server.
    pub(super) is_forwarding: bool,
}

impl<'a> Message<'a> {
    /// Reads a message without its length.
    pub(super) fn read(bytes: &'a [u8]) -> Self {
        let mut values = Values(bytes);
        let read = match values.byte() {
            None => None,
            Some(REQUEST_IDENTITIES) => values.whole(Self::List),
            Some(SIGN_REQUEST) => sign(values),
            Some(EXTENSION) => extension(values),
            Some(other) => Some(Self::Other(other, &[])),
        };
        read.unwrap_or(Self::Broken)
    }
}

fn sign(mut values: Values<'_>) -> Option<Message<'_>> {
    let (key, data, flags) = (values.string()?, values.string()?, values.number()?);
    values.whole(Message::Sign { key, data, flags })
}

fn extension(mut values: Values<'_>) -> Option<Message<'_>> {
    let name = values.string()?;
    if name != SESSION_BIND {
        return Some(Message::Other(EXTENSION, name));
    }
    let bind = Bind {
        host_key: values.string()?,
        session_id: values.string()?,
        signature: values.string()?,
        is_forwarding: values.flag()?,
    };
    values.whole(Message::Bind(bind))
}

/// What a client wants to have signed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted<'a> {
    /// A login.
    Login(Login<'a>),
    /// A file or commit; with what it is for, as the client says.
    File(&'a [u8]),
    /// Anything else.
    Other,
}

/// A login, as it is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Login<'a> {
    /// The connection.
    pub(super) session_id: &'a [u8],
    /// The user of the server.
    pub(super) user: &'a [u8],
    /// The algorithm of the signature.
    pub(super) algorithm: &'a [u8],
    /// The public key.
    pub(super) key: &'a [u8],
    /// The server's key, if the client names it.
    pub(super) host_key: Option<&'a [u8]>,
}

impl<'a> Wanted<'a> {
    pub(super) fn read(data: &'a [u8]) -> Self {
        if let Some(rest) = data.strip_prefix(FILE_SIGNATURE) {
            return Self::File(Values(rest).string().unwrap_or_default());
        }
        login(Values(data)).map_or(Self::Other, Self::Login)
    }
}

fn login(mut values: Values<'_>) -> Option<Login<'_>> {
    let session_id = values.string()?;
    let kind = values.byte()?;
    let (user, service, method) = (values.string()?, values.string()?, values.string()?);
    let is_signed = values.flag()?;
    let (algorithm, key) = (values.string()?, values.string()?);
    let host_key = match method {
        PUBLICKEY => None,
        HOSTBOUND => Some(values.string()?),
        _ => return None,
    };
    if kind != SSH_MSG_USERAUTH_REQUEST || service != SERVICE || !is_signed {
        return None;
    }
    values.whole(Login {
        session_id,
        user,
        algorithm,
        key,
        host_key,
    })
}

/// Appends a string.
pub(super) fn put(to: &mut Vec<u8>, text: &[u8]) {
    to.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend(text);
}

/// Reads one message without its length; `None` at the end.
///
/// # Errors
/// When it is longer than `bytes_max`, or the stream fails or ends within it.
pub(super) fn receive(from: &mut impl Read, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > bytes_max {
        let text = format!("a message of {length} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    let mut message = vec![0; length];
    from.read_exact(&mut message)?;
    Ok(Some(message))
}

/// Writes one message with its length.
///
/// # Errors
/// When the stream fails.
pub(super) fn send(to: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(4 + message.len());
    put(&mut bytes, message);
    to.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use super::{Bind, Login, Message, Wanted, put, receive, send};

    fn strings(parts: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in parts {
            put(&mut bytes, part);
        }
        bytes
    }

    fn login_bytes(method: &[u8], last: &[&[u8]]) -> Vec<u8> {
        let mut bytes = strings(&[b"id"]);
        bytes.push(50);
        bytes.extend(strings(&[b"git", b"ssh-connection", method]));
        bytes.push(1);
        bytes.extend(strings(&[b"ssh-ed25519", b"key"]));
        bytes.extend(strings(last));
        bytes
    }

    fn bind_bytes() -> Vec<u8> {
        let parts: [&[u8]; 4] = [b"session-bind@openssh.com", b"host", b"id", b"signature"];
        [&[27], &strings(&parts)[..], &[1]].concat()
    }

    #[test]
    fn only_logins_are_logins() {
        let own = Login {
            session_id: b"id",
            user: b"git",
            algorithm: b"ssh-ed25519",
            key: b"key",
            host_key: None,
        };
        let plain = login_bytes(b"publickey", &[]);
        assert_eq!(Wanted::read(&plain), Wanted::Login(own));
        let bound = login_bytes(b"publickey-hostbound-v00@openssh.com", &[b"host"]);
        let with_host = Login {
            host_key: Some(b"host"),
            ..own
        };
        assert_eq!(Wanted::read(&bound), Wanted::Login(with_host));
        let file = [b"SSHSIG", &strings(&[b"git", b""])[..]].concat();
        assert_eq!(Wanted::read(&file), Wanted::File(b"git"));
        // Each byte more or less, and each other method, is no login.
        let mut longer = plain.clone();
        longer.push(0);
        let others = [
            longer,
            plain[..plain.len() - 1].to_vec(),
            login_bytes(b"publickey", &[b"host"]),
            login_bytes(b"publickey-hostbound-v00@openssh.com", &[]),
            login_bytes(b"hostbased", &[]),
            b"a text".to_vec(),
            Vec::new(),
        ];
        for other in others {
            assert_eq!(Wanted::read(&other), Wanted::Other, "{other:?}");
        }
        for at in [6, 10] {
            let mut other = plain.clone();
            other[at] ^= 1;
            assert!(!matches!(Wanted::read(&other), Wanted::Login(login) if login == own));
        }
    }

    #[test]
    fn messages_are_read_whole() {
        let bind = Bind {
            host_key: b"host",
            session_id: b"id",
            signature: b"signature",
            is_forwarding: true,
        };
        assert_eq!(Message::read(&bind_bytes()), Message::Bind(bind));
        assert_eq!(Message::read(&[11]), Message::List);
        assert_eq!(Message::read(&[11, 0]), Message::Broken);
        assert_eq!(Message::read(&[]), Message::Broken);
        assert_eq!(Message::read(&[22, 1, 2]), Message::Other(22, b""));
        let query = [&[27], &strings(&[b"query"])[..]].concat();
        assert_eq!(Message::read(&query), Message::Other(27, b"query"));
        let mut cut = bind_bytes();
        cut.pop();
        assert_eq!(Message::read(&cut), Message::Broken);
    }

    #[test]
    fn no_message_is_longer_than_its_bound() {
        let mut bytes = Vec::new();
        send(&mut bytes, b"12345").unwrap();
        let read = |max, bytes: &[u8]| receive(&mut &bytes[..], max);
        assert_eq!(read(5, &bytes).unwrap(), Some(b"12345".to_vec()));
        assert!(read(4, &bytes).is_err());
        assert!(read(5, &bytes[..7]).is_err());
        assert_eq!(read(5, b"").unwrap(), None);
    }

    #[test]
    fn fuzz_ssh_agent() {
        let login = login_bytes(b"publickey", &[]);
        let target = stockade_fuzz::Target {
            name: "ssh-agent",
            samples: vec![
                [&[13], &strings(&[b"key", &login])[..], &[0, 0, 0, 4]].concat(),
                bind_bytes(),
                vec![11],
            ],
            words: &[
                b"\0\0\0\x03",
                b"\xff\xff\xff\xff",
                b"publickey",
                b"SSHSIG",
                b"\x32",
                b"\x1b",
            ],
            tries: stockade_fuzz::TRIES,
        };
        stockade_fuzz::target(&target, |bytes| {
            let Message::Sign { key, data, flags } = Message::read(bytes) else {
                return;
            };
            // What was read is all that there was.
            let again = [&[13], &strings(&[key, data])[..], &flags.to_be_bytes()].concat();
            assert_eq!(again, bytes);
            if let Wanted::Login(login) = Wanted::read(data) {
                let parts: usize = [login.session_id, login.user, login.algorithm, login.key]
                    .map(<[u8]>::len)
                    .iter()
                    .sum();
                assert!(parts + login.host_key.map_or(0, <[u8]>::len) < data.len());
            }
        });
    }
}
