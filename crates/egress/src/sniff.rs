//! What a client speaks, told from its first bytes.

use std::{io, time::Duration};

use tokio::time::timeout;

use crate::{
    first_line::{FirstLine, Line},
    limits::SNIFF_BYTES_MAX,
    stream::Stream,
    tls::{self, ClientHello, Parsed},
};

/// What a client speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    /// TLS, with its `ClientHello`.
    Tls(ClientHello),
    /// Something that begins like TLS and is not.
    BrokenTls(&'static str),
    /// HTTP/1, or something that a lenient server could take for it.
    Http,
    /// Neither.
    Opaque,
}

/// Says what `bytes` are the beginning of; `None` while more are needed.
pub(crate) fn classify(bytes: &[u8]) -> Option<Speech> {
    bytes.first()?;
    if tls::begins(bytes) {
        return match tls::parse(bytes) {
            Parsed::Complete(hello) => Some(Speech::Tls(hello)),
            Parsed::Malformed(reason) => Some(Speech::BrokenTls(reason)),
            Parsed::Partial if bytes.len() > SNIFF_BYTES_MAX => Some(Speech::BrokenTls(
                "the client hello is spread over too many records",
            )),
            Parsed::Partial => None,
        };
    }
    classify_text(bytes)
}

/// A line that may still become HTTP is waited for while it looks like it. What does not is opaque
/// at once, so that nobody waits in vain; whoever passes it on reads its [`FirstLine`] to the end.
fn classify_text(bytes: &[u8]) -> Option<Speech> {
    let first = FirstLine::of(bytes);
    match first.line() {
        Line::Http => Some(Speech::Http),
        Line::BrokenTls(why) => Some(Speech::BrokenTls(why)),
        Line::Open if first.is_plausible() => None,
        Line::Open | Line::Other => Some(Speech::Opaque),
    }
}

/// How far the wait for a client's first words came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Flight {
    /// It is known what the client speaks.
    Speaks(Speech),
    /// The client said nothing in the time it was given.
    Silent,
    /// The client began and did not finish.
    Unfinished,
    /// The client closed its side before it was clear.
    Ended,
}

impl Flight {
    /// Says what is known of a client that ended or failed after `bytes`. What began as a protocol
    /// that is known is that protocol, unfinished; nothing else is to come.
    pub(crate) fn ended(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            Self::Silent
        } else if may_be_waiting(bytes) {
            Self::Speaks(Speech::Opaque)
        } else {
            Self::Unfinished
        }
    }
}

/// How long a client is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Until its first byte.
    pub(crate) first_byte: Duration,
    /// Within a first line that does not begin like HTTP.
    pub(crate) line: Duration,
    /// For a `ClientHello` as a whole.
    pub(crate) whole: Duration,
}

/// Reads from `client` into `buffer` until it is clear what it speaks.
pub(crate) async fn first_flight(
    client: &mut Stream,
    buffer: &mut Vec<u8>,
    patience: Patience,
) -> io::Result<Flight> {
    if buffer.is_empty() {
        match timeout(patience.first_byte, client.fill(buffer, SNIFF_BYTES_MAX)).await {
            Err(_) => return Ok(Flight::Silent),
            Ok(Ok(0)) => return Ok(Flight::Ended),
            Ok(read) => drop(read?),
        }
    }
    let whole = async {
        loop {
            if let Some(speech) = classify(buffer) {
                return Ok(Flight::Speaks(speech));
            }
            let wait = if may_be_waiting(buffer) {
                patience.line
            } else {
                patience.whole
            };
            match timeout(wait, client.fill(buffer, SNIFF_BYTES_MAX)).await {
                Err(_) if wait < patience.whole => return Ok(Flight::Speaks(Speech::Opaque)),
                Err(_) => return Ok(Flight::Unfinished),
                Ok(Ok(0)) => return Ok(Flight::Ended),
                Ok(read) => drop(read?),
            }
        }
    };
    timeout(patience.whole, whole)
        .await
        .unwrap_or(Ok(Flight::Unfinished))
}

/// Tells whether a client that sent `bytes` and no more may be waiting for an answer.
fn may_be_waiting(bytes: &[u8]) -> bool {
    !tls::begins(bytes) && !FirstLine::of(bytes).begins_like_a_method()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_words_are_told_apart() {
        let table: [(&[u8], Option<Speech>); 16] = [
            (b"", None),
            (b"GE", None),
            (b"GET /", None),
            (b"GET / HTTP/1.1\r\n", Some(Speech::Http)),
            (b"GET / HTTP/1.1", Some(Speech::Http)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Speech::Http)),
            (b"\r\n\r\nGET / HTTP/1.1\r\n", Some(Speech::Http)),
            (b" \tget / http/1.1\n", Some(Speech::Http)),
            (b"GET /old\r\n", Some(Speech::Http)),
            (b"\r\n", None),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Some(Speech::Opaque)),
            (
                b"003egit-upload-pack /x\0host=good.test\0",
                Some(Speech::Opaque),
            ),
            (b"*1\r\n$4\r\nPING\r\n", Some(Speech::Opaque)),
            (b"\x00\x00\x00\x08", Some(Speech::Opaque)),
            (b"\x16\x03\x01", None),
            (b"\x16\x02\x01", Some(Speech::BrokenTls("not tls"))),
        ];
        for (bytes, expected) in table {
            assert_eq!(
                classify(bytes),
                expected,
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
        let hello = tls::tests::hello_bytes(Some(&tls::tests::sni(b"good.test")), 100);
        assert!(matches!(classify(&hello), Some(Speech::Tls(_))));
    }

    #[test]
    fn what_ends_as_it_began_is_no_other_protocol() {
        let hello = tls::tests::hello_bytes(Some(&tls::tests::sni(b"evil.test")), 100);
        for bytes in [
            &hello[..1],
            &hello[..2],
            &hello[..hello.len() - 1],
            b"GE",
            b"GET /",
            b"POST /x HTT",
            b"\xef\xbb\xbfGET /x",
            b"\0PUT /x",
        ] {
            let shown = String::from_utf8_lossy(bytes);
            assert_eq!(classify(bytes), None, "{shown:?}");
            assert_eq!(Flight::ended(bytes), Flight::Unfinished, "{shown:?}");
        }
        let opaque = Flight::Speaks(Speech::Opaque);
        for bytes in [
            &b"hello"[..],
            b"QUIT",
            b"\0\0\0\x08",
            b"{\"a\":1}",
            b"\x80\x0a",
        ] {
            assert_eq!(Flight::ended(bytes), opaque, "{bytes:?}");
        }
        assert_eq!(Flight::ended(b""), Flight::Silent);
    }

    /// What began as TLS or as a request is waited for and then refused, never passed on.
    #[tokio::test]
    async fn silence_makes_a_greeting_no_other_protocol() {
        let patience = Patience {
            first_byte: Duration::from_millis(20),
            line: Duration::from_millis(20),
            whole: Duration::from_millis(60),
        };
        let hello = tls::tests::hello_bytes(Some(&tls::tests::sni(b"evil.test")), 100);
        for (bytes, expected) in [
            (&b""[..], Flight::Silent),
            (&hello[..1], Flight::Unfinished),
            (&hello[..hello.len() - 1], Flight::Unfinished),
            (b"GET /x", Flight::Unfinished),
            (b"JDWP-Handshake", Flight::Speaks(Speech::Opaque)),
        ] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
            let (served, _) = listener.accept().await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut client, bytes)
                .await
                .unwrap();
            if !bytes.is_empty() {
                served.readable().await.unwrap();
            }
            let (mut served, mut buffer) = (Stream::Plain(served), Vec::new());
            let flight = first_flight(&mut served, &mut buffer, patience)
                .await
                .unwrap();
            assert_eq!(flight, expected, "{:?}", String::from_utf8_lossy(bytes));
            // The client is there all the time, and says no more.
            drop(client);
        }
    }

    /// Nobody waits in vain for more of what is surely no HTTP.
    #[test]
    fn what_is_no_http_to_the_eye_passes_at_once() {
        for bytes in [
            &b"<?xml version='1.0'?><stream:stream to='good.test'>"[..],
            b"{\"jsonrpc\":\"2.0\",\"method\":\"hello\"}",
            b"[1,2]",
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
            b"\x00\x00\x00\x20hello",
            b"0\x0c\x02\x01\x01`\x07\x02\x01\x03\x04\x00\x80\x00",
        ] {
            assert_eq!(classify(bytes), Some(Speech::Opaque), "{bytes:?}");
        }
        for bytes in [&b"JDWP-Handshake"[..], b"\r"] {
            assert_eq!(classify(bytes), None, "{bytes:?}");
            assert!(may_be_waiting(bytes), "{bytes:?}");
        }
    }
}
