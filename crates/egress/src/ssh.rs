//! What a server of SSH proves of itself before anything is encrypted: its key, and its signature over
//! the exchange (RFC 4253 sections 4.2, 6, 7 and 8). The supervisor learns of it before the client does,
//! so it can tell a login on this connection from one elsewhere.

use std::sync::Arc;

use stockade_policy::SshKey;
use stockade_types::{DecisionId, Host, Port};

use crate::{
    limits::{SSH_GREETING_BYTES_MAX, SSH_PACKET_BYTES_MAX},
    wire::{Client, HostProof},
};

/// How the first line of a server begins that is not a remark before it.
const VERSION: &[u8] = b"SSH-";
const SSH_MSG_NEWKEYS: u8 = 21;
/// Answers with the server's key and signature: of every exchange but one (RFC 5656 section 4), and of
/// that one, whose 31 has two parts (RFC 4419 section 5).
const SSH_MSG_KEX_REPLIES: [u8; 2] = [31, 33];

/// Reads along what a server says on a connection to a host that a key is for.
pub(crate) struct Greeting<'a> {
    supervisor: &'a Arc<Client>,
    host: Host,
    port: Port,
    decision: DecisionId,
    reader: Option<Reader>,
}

impl<'a> Greeting<'a> {
    /// Begins to read; `None` if no key is for the host.
    pub(crate) fn new(
        keys: &[SshKey],
        supervisor: &'a Arc<Client>,
        (host, port): (&Host, Port),
        decision: DecisionId,
    ) -> Option<Self> {
        keys.iter()
            .any(|key| key.is_bound_to(host, port))
            .then(|| Self {
                supervisor,
                host: host.clone(),
                port,
                decision,
                reader: Some(Reader::default()),
            })
    }

    /// Takes bytes that are about to be passed on; returns whether more can matter. If the supervisor
    /// does not take what they prove, it signs nothing for this connection.
    pub(crate) async fn take(&mut self, bytes: &[u8]) -> bool {
        let Some(reader) = &mut self.reader else {
            return false;
        };
        let read = reader.push(bytes);
        if let Read::More = read {
            return true;
        }
        self.reader = None;
        if let Read::Proof { key, signature } = read {
            let proof = HostProof {
                host: self.host.clone(),
                port: self.port,
                decision: self.decision,
                key,
                signature,
            };
            drop(self.supervisor.prove(proof).await);
        }
        false
    }
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    /// Nothing yet.
    More,
    /// The server's key and its signature.
    Proof { key: Vec<u8>, signature: Vec<u8> },
    /// That it proves nothing.
    Nothing,
}

/// Reads a server's bytes up to its proof.
#[derive(Debug, Default)]
struct Reader {
    /// What is not read yet.
    ahead: Vec<u8>,
    /// Bytes in all.
    total: usize,
    /// The version was read, so packets come.
    has_version: bool,
}

impl Reader {
    fn push(&mut self, bytes: &[u8]) -> Read {
        self.total = self.total.saturating_add(bytes.len());
        if self.total > SSH_GREETING_BYTES_MAX {
            return Read::Nothing;
        }
        self.ahead.extend_from_slice(bytes);
        while !self.has_version {
            let Some(end) = self.ahead.iter().position(|byte| *byte == b'\n') else {
                return Read::More;
            };
            let rest = self.ahead.split_off(end + 1);
            self.has_version = self.ahead.starts_with(VERSION);
            self.ahead = rest;
        }
        loop {
            let Some(length) = self.ahead.first_chunk::<4>() else {
                return Read::More;
            };
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            if length > SSH_PACKET_BYTES_MAX {
                return Read::Nothing;
            }
            let Some(packet) = self.ahead.get(4..4 + length) else {
                return Read::More;
            };
            match packet_of(packet) {
                Read::More => {}
                end => return end,
            }
            self.ahead.drain(..4 + length);
        }
    }
}

/// Reads a packet without its length; more is expected unless it ends what can be read.
fn packet_of(packet: &[u8]) -> Read {
    let payload = packet.split_first().and_then(|(padding, rest)| {
        let end = rest.len().checked_sub(usize::from(*padding))?;
        rest.get(..end)
    });
    let Some((kind, rest)) = payload.and_then(<[u8]>::split_first) else {
        return Read::Nothing;
    };
    if *kind == SSH_MSG_NEWKEYS {
        return Read::Nothing;
    }
    if !SSH_MSG_KEX_REPLIES.contains(kind) {
        return Read::More;
    }
    let mut rest = rest;
    match (string(&mut rest), string(&mut rest), string(&mut rest)) {
        (Some(key), Some(_), Some(signature)) if rest.is_empty() => Read::Proof {
            key: key.to_vec(),
            signature: signature.to_vec(),
        },
        _ => Read::More,
    }
}

/// Takes a string off the beginning (RFC 4251 section 5).
fn string<'b>(from: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (length, rest) = from.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (text, rest) = rest.split_at_checked(length)?;
    *from = rest;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::{Read, Reader};

    fn packet(payload: &[u8]) -> Vec<u8> {
        let padding = 8;
        let mut bytes = u32::try_from(1 + payload.len() + padding)
            .unwrap()
            .to_be_bytes()
            .to_vec();
        bytes.push(8);
        bytes.extend(payload);
        bytes.extend([0; 8]);
        bytes
    }

    fn strings(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![kind];
        for part in parts {
            bytes.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
            bytes.extend(*part);
        }
        bytes
    }

    fn greeting(reply: &[u8]) -> Vec<u8> {
        let mut bytes = b"a remark\r\nSSH-2.0-Lab\r\n".to_vec();
        bytes.extend(packet(&[20, 1, 2, 3]));
        bytes.extend(packet(reply));
        bytes.extend(packet(&[21]));
        bytes.extend([0xFF; 40]);
        bytes
    }

    fn proof() -> Read {
        Read::Proof {
            key: b"key".to_vec(),
            signature: b"signature".to_vec(),
        }
    }

    #[test]
    fn the_proof_is_read_however_the_bytes_are_cut() {
        let ordinary = strings(31, &[b"key", b"other", b"signature"]);
        let mut group = greeting(&strings(31, &[b"p", b"g"]));
        let end = group.len() - 40 - packet(&[21]).len();
        group.truncate(end);
        group.extend(packet(&strings(33, &[b"key", b"f", b"signature"])));
        for bytes in [greeting(&ordinary), group] {
            for size in [1, 7, bytes.len()] {
                let mut reader = Reader::default();
                let mut read = bytes.chunks(size).map(|part| reader.push(part));
                assert_eq!(read.find(|read| *read != Read::More), Some(proof()));
            }
        }
    }

    #[test]
    fn what_is_no_proof_proves_nothing() {
        for reply in [
            strings(31, &[b"key", b"signature"]),
            strings(31, &[b"key", b"other", b"signature", b"more"]),
            strings(32, &[b"key", b"other", b"signature"]),
        ] {
            assert_eq!(Reader::default().push(&greeting(&reply)), Read::Nothing);
        }
        // A packet that is longer than any, one without content, and lines without end.
        let mut long = b"SSH-2.0-Lab\r\n".to_vec();
        long.extend([0, 1, 0, 0, 0]);
        assert_eq!(Reader::default().push(&long), Read::Nothing);
        let empty = b"SSH-2.0-Lab\r\n\0\0\0\0\0\0\0\0";
        assert_eq!(Reader::default().push(empty), Read::Nothing);
        let mut reader = Reader::default();
        let read = (0..100).map(|_| reader.push(&[b'x'; 1024]));
        assert_eq!(read.last(), Some(Read::Nothing));
    }

    #[test]
    fn fuzz_ssh_greeting() {
        let reply = strings(31, &[b"key", b"other", b"signature"]);
        let target = stockade_fuzz::Target {
            name: "ssh-greeting",
            samples: vec![
                greeting(&reply),
                greeting(&strings(33, &[b"key", b"f", b"signature"])),
            ],
            words: &[
                b"SSH-",
                b"\n",
                b"\0\0\0\x01",
                b"\x1f",
                b"\x21",
                b"\xff\xff\xff\xff",
            ],
            tries: stockade_fuzz::TRIES,
        };
        stockade_fuzz::target(&target, |bytes| {
            let whole = Reader::default().push(bytes);
            let mut reader = Reader::default();
            let mut parts = bytes.chunks(5).map(|part| reader.push(part));
            let first = parts.find(|read| *read != Read::More);
            // Cut or not, the same is read.
            assert_eq!(first.unwrap_or(Read::More), whole);
        });
    }
}
