//! Reading a TLS `ClientHello` (RFC 8446 section 4.1.2) without taking part in the handshake.

use crate::limits::{CLIENT_HELLO_BYTES_MAX, EARLY_DATA_BYTES_MAX, SECOND_HELLO_BYTES_MAX};

/// Record content types (RFC 8446 section 5.1).
const CONTENT_CHANGE_CIPHER_SPEC: u8 = 20;
const CONTENT_APPLICATION_DATA: u8 = 23;
/// Record content type of handshake messages (RFC 8446 section 5.1).
pub(crate) const CONTENT_HANDSHAKE: u8 = 22;
/// Longest plaintext record (RFC 8446 section 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;
/// Handshake type of a `ClientHello` (RFC 8446 section 4).
const HANDSHAKE_CLIENT_HELLO: u8 = 1;
/// `server_name` (RFC 6066 section 3).
const EXTENSION_SERVER_NAME: u16 = 0;
/// `encrypted_client_hello` (RFC 9849).
const EXTENSION_ECH: u16 = 0xfe0d;
/// `host_name`, the only name type there is (RFC 6066 section 3).
const NAME_TYPE_HOST: u8 = 0;

/// A fatal `access_denied` alert as one record (RFC 8446 section 6): what a refused client reads.
pub(crate) const ALERT_ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// What a `ClientHello` says in the clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientHello {
    /// The bytes of the server name, exactly as sent.
    pub(crate) server_name: Option<Vec<u8>>,
    /// An encrypted inner hello is there (or a grease value for one).
    pub(crate) encrypted_inner: bool,
}

/// How far the bytes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A whole `ClientHello`.
    Complete(ClientHello),
    /// More bytes are needed.
    Partial,
    /// Not a `ClientHello`, or one that no client sends.
    Malformed(&'static str),
}

/// Tells whether `bytes` begin with a record of the handshake.
pub(crate) fn begins(bytes: &[u8]) -> bool {
    bytes.first() == Some(&CONTENT_HANDSHAKE)
}

/// Reads the `ClientHello` at the start of `bytes`; it may be split over several records.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        let Some((header, after)) = rest.split_at_checked(5) else {
            return if plausible(rest) {
                Parsed::Partial
            } else {
                Parsed::Malformed("not tls")
            };
        };
        let &[content, major, _, high, low] = header else {
            return Parsed::Partial;
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if content != CONTENT_HANDSHAKE || major != 3 {
            return Parsed::Malformed("a record in the client hello is not a handshake record");
        }
        if length == 0 || length > RECORD_BYTES_MAX {
            return Parsed::Malformed(
                "a record in the client hello has a length that is not valid",
            );
        }
        let whole = after.get(..length);
        message.extend_from_slice(whole.unwrap_or(after));
        match whole_message(&message) {
            Whole::Yes(body) => {
                return hello(body).map_or_else(Parsed::Malformed, Parsed::Complete);
            }
            Whole::No(why) => return Parsed::Malformed(why),
            Whole::NotYet => {}
        }
        match (whole, after.get(length..)) {
            (Some(_), Some(next)) => rest = next,
            _ => return Parsed::Partial,
        }
    }
}

/// Tells whether fewer than five bytes may still become a handshake record.
fn plausible(start: &[u8]) -> bool {
    start.first().is_none_or(|b| *b == CONTENT_HANDSHAKE) && start.get(1).is_none_or(|b| *b == 3)
}

enum Whole<'a> {
    Yes(&'a [u8]),
    NotYet,
    No(&'static str),
}

fn whole_message(message: &[u8]) -> Whole<'_> {
    let Some(kind) = message.first() else {
        return Whole::NotYet;
    };
    if *kind != HANDSHAKE_CLIENT_HELLO {
        return Whole::No("the first handshake message is not a client hello");
    }
    let Some((&[_, a, b, c], body)) = message.split_first_chunk::<4>() else {
        return Whole::NotYet;
    };
    let length = (usize::from(a) << 16) | (usize::from(b) << 8) | usize::from(c);
    if length > CLIENT_HELLO_BYTES_MAX {
        return Whole::No("the client hello is too long");
    }
    body.get(..length).map_or(Whole::NotYet, Whole::Yes)
}

/// A cursor that can only move forward and never past the end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes(bytes.try_into().ok()?))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn hello(body: &[u8]) -> Result<ClientHello, &'static str> {
    const SHORT: &str = "the client hello ends early";
    let mut reader = Reader(body);
    let version = reader.u16().ok_or(SHORT)?;
    if version >> 8 != 3 {
        return Err("the client hello has an unknown version");
    }
    reader.take(32).ok_or(SHORT)?;
    let session = reader.vector8().ok_or(SHORT)?;
    let suites = reader.vector16().ok_or(SHORT)?;
    let compressions = reader.vector8().ok_or(SHORT)?;
    if session.len() > 32 || suites.is_empty() || suites.len() % 2 != 0 || compressions.is_empty() {
        return Err("the client hello has a field whose length is not valid");
    }
    let mut found = ClientHello {
        server_name: None,
        encrypted_inner: false,
    };
    if reader.is_empty() {
        return Ok(found);
    }
    let mut extensions = Reader(reader.vector16().ok_or(SHORT)?);
    if !reader.is_empty() {
        return Err("the client hello has bytes after its extensions");
    }
    let mut named = false;
    while !extensions.is_empty() {
        let kind = extensions.u16().ok_or(SHORT)?;
        let data = extensions.vector16().ok_or(SHORT)?;
        if kind == EXTENSION_ECH {
            found.encrypted_inner = true;
        }
        if kind == EXTENSION_SERVER_NAME {
            // Two of them would let us and the server pick different ones (RFC 8446 4.2).
            if named {
                return Err("the client hello has two server name extensions");
            }
            named = true;
            found.server_name = Some(server_name(data)?.to_vec());
        }
    }
    Ok(found)
}

fn server_name(data: &[u8]) -> Result<&[u8], &'static str> {
    const BAD: &str = "the server name extension is malformed";
    let mut outer = Reader(data);
    let mut list = Reader(outer.vector16().ok_or(BAD)?);
    if !outer.is_empty() || list.is_empty() {
        return Err(BAD);
    }
    let kind = list.u8().ok_or(BAD)?;
    let name = list.vector16().ok_or(BAD)?;
    if kind != NAME_TYPE_HOST || name.is_empty() {
        return Err(BAD);
    }
    // RFC 6066 allows one name per type and there is one type, so a second is an evasion.
    if !list.is_empty() {
        return Err("the server name extension has more than one name");
    }
    Ok(name)
}

/// Outcome of reading the `ClientHello`s of a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A second `ClientHello` may still come.
    Open,
    /// None will be answered any more.
    Over,
    /// The second message is no `ClientHello`.
    Malformed(&'static str),
    /// It names another host than the first.
    OtherName(Option<Vec<u8>>),
}

/// Follows a client's records from its first `ClientHello` on, until it is clear that there is no second
/// one, which a server can ask for (RFC 8446 section 4.1.4) and a client can send unasked.
///
/// The type alone identifies a second `ClientHello`. The first encrypted record of TLS 1.2 can
/// begin like one by chance; it then is one that is interrupted, which no server accepts.
#[derive(Debug, Default)]
pub(crate) struct Greetings {
    header: Vec<u8>,
    content: u8,
    /// Bytes of the record that are to come.
    left: usize,
    /// The handshake message that is being read.
    message: Vec<u8>,
    first: Option<ClientHello>,
    early_bytes: usize,
    over: bool,
}

impl Greetings {
    /// Reads on; the first bytes are those of the first `ClientHello`, which [`parse`] has accepted.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Seen {
        while !self.over && !bytes.is_empty() {
            let wanted = if self.left == 0 {
                5 - self.header.len()
            } else {
                self.left
            };
            let (part, rest) = bytes.split_at(wanted.min(bytes.len()));
            bytes = rest;
            if self.left == 0 {
                self.header.extend_from_slice(part);
                self.over = !self.begin_record();
                continue;
            }
            self.left -= part.len();
            if self.content == CONTENT_HANDSHAKE {
                self.message.extend_from_slice(part);
                match self.messages() {
                    Seen::Open => {}
                    Seen::Over => self.over = true,
                    refused => return refused,
                }
            }
        }
        if self.over { Seen::Over } else { Seen::Open }
    }

    /// Takes a whole record header; false when no `ClientHello` can follow.
    fn begin_record(&mut self) -> bool {
        let &[content, _, _, high, low] = self.header.as_slice() else {
            return true;
        };
        self.header.clear();
        self.content = content;
        self.left = usize::from(u16::from_be_bytes([high, low]));
        if content == CONTENT_APPLICATION_DATA {
            self.early_bytes += self.left;
        }
        match content {
            CONTENT_HANDSHAKE => true,
            CONTENT_CHANGE_CIPHER_SPEC | CONTENT_APPLICATION_DATA => {
                self.message.is_empty() && self.early_bytes <= EARLY_DATA_BYTES_MAX
            }
            _ => false,
        }
    }

    /// Takes the handshake messages that are whole.
    fn messages(&mut self) -> Seen {
        while let Some(kind) = self.message.first() {
            if *kind != HANDSHAKE_CLIENT_HELLO {
                return Seen::Over;
            }
            let Some((&[_, a, b, c], body)) = self.message.split_first_chunk::<4>() else {
                return Seen::Open;
            };
            let length = (usize::from(a) << 16) | (usize::from(b) << 8) | usize::from(c);
            if length > SECOND_HELLO_BYTES_MAX {
                return Seen::Over;
            }
            let Some(body) = body.get(..length) else {
                return Seen::Open;
            };
            let found = match hello(body) {
                Ok(found) => found,
                Err(why) => return Seen::Malformed(why),
            };
            match &self.first {
                None => self.first = Some(found),
                Some(first) if first.server_name == found.server_name => return Seen::Over,
                Some(_) => return Seen::OtherName(found.server_name),
            }
            self.message.drain(..4 + length);
        }
        Seen::Open
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use stockade_fuzz::{TRIES, Target};

    use super::*;

    fn vector16(bytes: &[u8]) -> Vec<u8> {
        let mut out = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
        out.extend_from_slice(bytes);
        out
    }

    pub(crate) fn sni(name: &[u8]) -> Vec<u8> {
        let mut entry = vec![NAME_TYPE_HOST];
        entry.extend(vector16(name));
        [vec![0, 0], vector16(&vector16(&entry))].concat()
    }

    /// A client hello with the given extension bytes, in records of at most `record` bytes.
    pub(crate) fn hello_bytes(extensions: Option<&[u8]>, record: usize) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend(vector16(&[0x13, 0x01]));
        body.extend([1, 0]);
        if let Some(extensions) = extensions {
            body.extend(vector16(extensions));
        }
        let mut message = vec![HANDSHAKE_CLIENT_HELLO, 0];
        message.extend(vector16(&body));
        message
            .chunks(record)
            .flat_map(|part| [vec![CONTENT_HANDSHAKE, 3, 1], vector16(part)].concat())
            .collect()
    }

    fn name_of(bytes: &[u8]) -> Option<Vec<u8>> {
        match parse(bytes) {
            Parsed::Complete(hello) => hello.server_name,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_name_is_read_however_the_hello_is_cut() {
        let extensions = sni(b"good.test");
        for record in [1, 3, 4, 5, 40, 1000] {
            let bytes = hello_bytes(Some(&extensions), record);
            assert_eq!(
                name_of(&bytes).as_deref(),
                Some(&b"good.test"[..]),
                "{record}"
            );
            for end in 0..bytes.len() {
                let parsed = parse(bytes.get(..end).unwrap());
                assert_eq!(parsed, Parsed::Partial, "{record} {end}");
            }
        }
    }

    #[test]
    fn absent_and_encrypted_names_are_told_apart() {
        assert_eq!(name_of(&hello_bytes(None, 1000)), None);
        assert_eq!(name_of(&hello_bytes(Some(&[]), 1000)), None);
        let ech = [sni(b"front.test"), vec![0xfe, 0x0d, 0, 1, 9]].concat();
        let Parsed::Complete(hello) = parse(&hello_bytes(Some(&ech), 1000)) else {
            panic!("not complete");
        };
        assert!(hello.encrypted_inner);
        assert_eq!(hello.server_name.as_deref(), Some(&b"front.test"[..]));
    }

    #[test]
    fn odd_hellos_are_refused() {
        let two = [sni(b"good.test"), sni(b"evil.test")].concat();
        let mut entries = vec![0];
        entries.extend(vector16(b"good.test"));
        entries.push(0);
        entries.extend(vector16(b"evil.test"));
        let two_names = [vec![0, 0], vector16(&vector16(&entries))].concat();
        for extensions in [
            two,
            two_names,
            sni(b""),
            vec![0, 0, 0, 0],
            vec![0, 0, 0, 9, 1],
        ] {
            let parsed = parse(&hello_bytes(Some(&extensions), 1000));
            assert!(
                matches!(parsed, Parsed::Malformed(_)),
                "{extensions:?} {parsed:?}"
            );
        }
        for bytes in [
            &b"GET / HTTP/1.1"[..],
            &[22, 2, 0],
            &[22, 3, 1, 0, 0, 1],
            &[22, 3, 1, 0, 4, 2],
        ] {
            assert!(matches!(parse(bytes), Parsed::Malformed(_)), "{bytes:?}");
        }
        let long = [22, 3, 1, 0, 4, 1, 1, 0, 0];
        assert_eq!(
            parse(&long),
            Parsed::Malformed("the client hello is too long")
        );
    }

    /// Feeds whole, and cut in pieces; both must come to the same.
    fn seen(bytes: &[u8]) -> Seen {
        let whole = Greetings::default().feed(bytes);
        let mut greetings = Greetings::default();
        let mut last = Seen::Open;
        for byte in bytes {
            last = greetings.feed(&[*byte]);
            if !matches!(last, Seen::Open | Seen::Over) {
                break;
            }
        }
        assert_eq!(whole, last);
        whole
    }

    #[test]
    fn second_greetings_are_found() {
        let good = hello_bytes(Some(&sni(b"good.test")), 1000);
        let evil = hello_bytes(Some(&sni(b"evil.test")), 1000);
        let change = vec![CONTENT_CHANGE_CIPHER_SPEC, 3, 3, 0, 1, 1];
        let early = vec![CONTENT_APPLICATION_DATA, 3, 3, 0, 3, 7, 7, 7];
        let pieces = hello_bytes(Some(&sni(b"evil.test")), 3);
        let other = Seen::OtherName(Some(b"evil.test".to_vec()));
        assert_eq!(seen(&good), Seen::Open);
        assert_eq!(seen(&[&good[..], &good].concat()), Seen::Over);
        for between in [&[][..], &change, &early, &[&early[..], &change].concat()] {
            for second in [&evil, &pieces] {
                assert_eq!(seen(&[&good, between, second].concat()), other);
            }
        }
        let nameless = hello_bytes(None, 1000);
        assert_eq!(
            seen(&[good.clone(), nameless].concat()),
            Seen::OtherName(None)
        );
        // A key exchange of TLS 1.2, an alert, and the first encrypted record of TLS 1.2 that
        // looks like the start of a `ClientHello`.
        let exchange = vec![CONTENT_HANDSHAKE, 3, 3, 0, 4, 16, 0, 0, 0];
        assert_eq!(seen(&[&good[..], &exchange, &evil].concat()), Seen::Over);
        assert_eq!(
            seen(&[&good[..], &ALERT_ACCESS_DENIED].concat()),
            Seen::Over
        );
        let encrypted = vec![CONTENT_HANDSHAKE, 3, 3, 0, 6, 1, 0, 0, 40, 9, 9];
        assert_eq!(seen(&[&good[..], &encrypted, &early].concat()), Seen::Over);
        let two = [sni(b"good.test"), sni(b"evil.test")].concat();
        let two = hello_bytes(Some(&two), 1000);
        let twice = seen(&[good, two].concat());
        assert!(matches!(twice, Seen::Malformed(_)), "{twice:?}");
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _parsed = parse(&bytes);
            let _seen = Greetings::default().feed(&bytes);
            let mut framed = vec![22, 3, 1];
            framed.extend(vector16(&bytes));
            let _parsed = parse(&framed);
        }

        #[test]
        fn a_changed_byte_never_invents_bytes_outside_the_input(
            at in 0usize..80, value in any::<u8>(), record in 1usize..80,
        ) {
            let mut bytes = hello_bytes(Some(&sni(b"good.test")), record);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            if let Parsed::Complete(ClientHello { server_name: Some(name), .. }) = parse(&bytes) {
                prop_assert!(name.len() < bytes.len());
            }
        }
    }

    #[test]
    fn fuzz_client_hello() {
        let two = [sni(b"www.good.test"), vec![0xfe, 0x0d, 0, 1, 0]].concat();
        let target = Target {
            name: "client-hello",
            samples: vec![
                hello_bytes(Some(&sni(b"good.test")), 16_000),
                hello_bytes(Some(&two), 16_000),
                hello_bytes(Some(&two), 20),
                hello_bytes(None, 16_000),
            ],
            words: &[
                b"good.test",
                &[22, 3, 1],
                &[0, 0],
                &[1, 0, 0],
                &ALERT_ACCESS_DENIED,
            ],
            tries: TRIES,
        };
        stockade_fuzz::target(&target, |bytes| {
            let whole = parse(bytes);
            for cut in [1, 5, bytes.len() / 2, bytes.len().saturating_sub(1)] {
                let part = parse(bytes.get(..cut).unwrap_or(bytes));
                // What is taken or refused early stays so; only the reason may be another one.
                let stays = match part {
                    Parsed::Partial => true,
                    Parsed::Complete(_) => part == whole,
                    Parsed::Malformed(_) => matches!(whole, Parsed::Malformed(_)),
                };
                assert!(stays, "{part:?}, then {whole:?}");
            }
            if matches!(whole, Parsed::Complete(_)) {
                let more = [bytes, b"more"].concat();
                assert_eq!(parse(&more), whole);
                assert_eq!(fed(bytes, bytes.len()), fed(bytes, 1));
            }
        });
    }

    /// Says what the second reader makes of bytes that come in pieces.
    fn fed(bytes: &[u8], step: usize) -> Seen {
        let mut greetings = Greetings::default();
        let mut seen = Seen::Open;
        for part in bytes.chunks(step) {
            seen = greetings.feed(part);
            if seen != Seen::Open {
                break;
            }
        }
        seen
    }
}
