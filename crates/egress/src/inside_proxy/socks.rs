//! The first two messages of a client of SOCKS (RFC 1928), and what it is told. Of its commands only
//! `CONNECT` exists here, and nobody has to log in: who is here at all is in the session.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use stockade_types::Host;

use crate::http::h1::Malformed;

/// What every message of a client begins with.
pub(super) const VERSION: u8 = 5;
/// What a client of the version before begins with, which has no names and no IPv6.
pub(super) const VERSION_4: u8 = 4;
/// The way to log in without a login.
const NO_LOGIN: u8 = 0;
const COMMAND_CONNECT: u8 = 1;
const ADDRESS_V4: u8 = 1;
const ADDRESS_NAME: u8 = 3;
const ADDRESS_V6: u8 = 4;

/// The reply to the first message: go on without a login.
pub(super) const NO_LOGIN_NEEDED: [u8; 2] = [VERSION, NO_LOGIN];
/// The reply to who only goes on with a login.
pub(super) const NO_WAY_TO_LOG_IN: [u8; 2] = [VERSION, 0xff];
/// The reply to a request in SOCKS 4: rejected.
pub(super) const REJECTED_4: [u8; 8] = [0, 0x5b, 0, 0, 0, 0, 0, 0];

/// What a request is answered with (RFC 1928 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Connected = 0,
    Failed = 1,
    NotAllowed = 2,
    NoNetwork = 3,
    NoHost = 4,
    Refused = 5,
    TimedOut = 6,
    NoSuchCommand = 7,
    NoSuchAddress = 8,
}

impl Reply {
    /// Returns the message. The address in it is that of our socket, which is nobody's business.
    pub(super) const fn bytes(self) -> [u8; 10] {
        [VERSION, self as u8, 0, ADDRESS_V4, 0, 0, 0, 0, 0, 0]
    }
}

/// Where a client wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) host: Host,
    pub(super) port: u16,
    /// Bytes of the message.
    pub(super) length: usize,
}

/// Why a request is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    /// What the client is told.
    pub(super) reply: Reply,
    /// Why.
    pub(super) why: Malformed,
}

/// Reads the first message at the start of `bytes`: its length, and whether its client goes on without
/// a login; `None` while it is not complete.
pub(super) fn read_greeting(bytes: &[u8]) -> Option<(usize, bool)> {
    let count = usize::from(*bytes.get(1)?);
    let ways = bytes.get(2..2 + count)?;
    Some((2 + count, ways.contains(&NO_LOGIN)))
}

/// Reads the second message at the start of `bytes`; `None` while it is not complete.
pub(super) fn read_request(bytes: &[u8]) -> Result<Option<Request>, Unfit> {
    let unfit = |reply, why| {
        Err(Unfit {
            reply,
            why: Malformed(why),
        })
    };
    let Some(head) = bytes.first_chunk::<4>() else {
        return match bytes.first() {
            None | Some(&VERSION) => Ok(None),
            Some(_) => unfit(
                Reply::Failed,
                "the request has another version than SOCKS 5",
            ),
        };
    };
    let [version, command, reserved, kind] = *head;
    if version != VERSION {
        return unfit(
            Reply::Failed,
            "the request has another version than SOCKS 5",
        );
    }
    if command != COMMAND_CONNECT {
        let why = "of SOCKS only `CONNECT` is offered; no port is opened for others, and no UDP";
        return unfit(Reply::NoSuchCommand, why);
    }
    if reserved != 0 {
        return unfit(
            Reply::Failed,
            "the reserved byte of the request is not zero",
        );
    }
    let at = head.len();
    let (start, length) = match kind {
        ADDRESS_V4 => (at, 4),
        ADDRESS_V6 => (at, 16),
        ADDRESS_NAME => match bytes.get(at) {
            Some(length) => (at + 1, usize::from(*length)),
            None => return Ok(None),
        },
        _ => {
            return unfit(
                Reply::NoSuchAddress,
                "the request has an unknown kind of address",
            );
        }
    };
    let (Some(address), Some(port)) = (
        bytes.get(start..start + length),
        bytes.get(start + length..start + length + 2),
    ) else {
        return Ok(None);
    };
    let Some(host) = host(kind, address) else {
        return unfit(Reply::Failed, "the host is neither a name nor an address");
    };
    let port = port.iter().fold(0, |all, byte| all << 8 | u16::from(*byte));
    Ok(Some(Request {
        host,
        port,
        length: start + length + 2,
    }))
}

fn host(kind: u8, address: &[u8]) -> Option<Host> {
    let address = match kind {
        ADDRESS_V4 => IpAddr::V4(Ipv4Addr::from(*address.first_chunk()?)),
        ADDRESS_V6 => IpAddr::V6(Ipv6Addr::from(*address.first_chunk()?)),
        _ => return std::str::from_utf8(address).ok()?.parse().ok(),
    };
    Some(Host::Address(address.to_canonical()))
}

#[cfg(test)]
mod tests {
    use super::{Request, Unfit, read_greeting, read_request};

    /// Reads a message of which more and more is there.
    fn in_pieces<T>(bytes: &[u8], read: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        (0..=bytes.len()).find_map(|end| read(&bytes[..end]))
    }

    #[test]
    fn a_request_is_read_when_it_is_whole_and_no_further() {
        let name = b"\x05\x01\x00\x03\x09good.test\x01\xbb";
        let bytes = [&name[..], b"more"].concat();
        let read = read_request(&bytes).unwrap().unwrap();
        assert_eq!(
            (read.host.to_string().as_str(), read.port),
            ("good.test", 443)
        );
        assert_eq!(read.length, name.len());
        for end in 0..name.len() {
            assert_eq!(read_request(&name[..end]), Ok(None), "{end}");
        }
        let mapped = [
            &b"\x05\x01\x00\x04"[..],
            &[0; 10],
            b"\xff\xff\x7f\0\0\x01\0\x50",
        ]
        .concat();
        let read = read_request(&mapped).unwrap().unwrap();
        assert_eq!(read.host.to_string(), "127.0.0.1");
        assert_eq!(read_greeting(b"\x05\x02\x02\x00\x05"), Some((4, true)));
        assert_eq!(read_greeting(b"\x05\x02\x02"), None);
    }

    #[test]
    fn fuzz_socks() {
        let target = stockade_fuzz::Target {
            name: "socks",
            samples: vec![
                b"\x05\x01\x00\x03\x09good.test\x01\xbb".to_vec(),
                b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50".to_vec(),
                [&b"\x05\x01\x00\x04"[..], &[0; 16], b"\x00\x50"].concat(),
                b"\x05\x02\x00\x02".to_vec(),
            ],
            words: &[
                b"\x05\x01\x00",
                b"\x03\xff",
                b"good.test",
                b"127.1",
                b"\0",
                b"[::1]",
            ],
            tries: stockade_fuzz::TRIES,
        };
        stockade_fuzz::target(&target, |bytes| {
            let whole = read_request(bytes);
            let pieces = in_pieces(bytes, |part| match read_request(part) {
                Ok(None) => None,
                said => Some(said),
            });
            assert_eq!(pieces.unwrap_or(Ok(None)), whole);
            if let Ok(Some(Request { host, length, .. })) = whole {
                assert!(length <= bytes.len() && bytes[..3] == [5, 1, 0]);
                // Whatever was written, it has one canonical form.
                assert_eq!(host.to_string().parse(), Ok(host));
            } else if let Err(Unfit { reply, .. }) = whole {
                assert_ne!(reply.bytes()[1], 0);
            }
            let greeting = read_greeting(bytes);
            assert_eq!(in_pieces(bytes, read_greeting), greeting);
            assert!(greeting.is_none_or(|(length, _)| length <= bytes.len()));
        });
    }
}
