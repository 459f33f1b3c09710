//! What a client speaks, told from its first bytes.

use std::{io, time::Duration};

use tokio::{net::TcpStream, time::timeout};

use crate::{
    limits::{HANDSHAKE_WAIT, SNIFF_BYTES_MAX, TARGET_BYTES_MAX},
    relay::fill_now,
    tls::{self, ClientHello, Parsed},
};

/// What a client speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    /// TLS, with its greeting.
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
    if bytes.first()? == &22 {
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

/// Longest word at the start of a line that may still be a method.
const WORD_BYTES_MAX: usize = 40;

/// A line counts as HTTP if a server might read it as a request line: empty lines before it,
/// odd white space and odd methods included, since those only make the strict parser refuse it.
fn classify_text(bytes: &[u8]) -> Option<Speech> {
    let start = bytes
        .iter()
        .position(|byte| !matches!(byte, b'\r' | b'\n' | b' ' | b'\t'));
    let text = match start {
        Some(start) => bytes.get(start..).unwrap_or_default(),
        None if bytes.len() > WORD_BYTES_MAX => return Some(Speech::Http),
        None => return None,
    };
    let word = text
        .iter()
        .take_while(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    let word_length = word.clone().count();
    let is_word = word.clone().all(|byte| matches!(byte, 33..=126));
    if !is_word || word_length > WORD_BYTES_MAX {
        return Some(Speech::Opaque);
    }
    // A NUL ends the line as well: binary protocols have them early, HTTP has none.
    let line_end = text.iter().position(|byte| matches!(byte, b'\n' | 0));
    let line = text
        .get(..line_end.unwrap_or(text.len()))
        .unwrap_or_default();
    if contains_version(line) {
        return Some(Speech::Http);
    }
    if line_end.is_some() {
        // HTTP/0.9 has no version, and its methods are these.
        let bare = line.starts_with(b"GET ") || line.starts_with(b"GET\t");
        return Some(if bare { Speech::Http } else { Speech::Opaque });
    }
    // So long a line without an end is either a long target or a flood; the parser refuses both.
    (line.len() > TARGET_BYTES_MAX).then_some(Speech::Http)
}

fn contains_version(line: &[u8]) -> bool {
    line.windows(6).any(|part| {
        matches!(part.first(), Some(b' ' | b'\t'))
            && part
                .get(1..)
                .is_some_and(|rest| rest.eq_ignore_ascii_case(b"HTTP/"))
    })
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

/// Reads from `client` into `buffer` until it is clear what it speaks. `patience` is how long the
/// first byte may take.
pub(crate) async fn first_flight(
    client: &TcpStream,
    buffer: &mut Vec<u8>,
    patience: Duration,
) -> io::Result<Flight> {
    if buffer.is_empty() {
        match timeout(patience, more(client, buffer)).await {
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
            if more(client, buffer).await? == 0 {
                return Ok(Flight::Ended);
            }
        }
    };
    timeout(HANDSHAKE_WAIT, whole)
        .await
        .unwrap_or(Ok(Flight::Unfinished))
}

async fn more(client: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        client.readable().await?;
        match fill_now(|scratch| client.try_read(scratch), buffer, SNIFF_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        assert_eq!(classify(&[b'\r'; 64]), Some(Speech::Http));
        let long = [b"GET /".to_vec(), vec![b'a'; TARGET_BYTES_MAX]].concat();
        assert_eq!(classify(&long), Some(Speech::Http));
        let hello = tls::tests::hello_bytes(Some(&tls::tests::sni(b"good.test")), 100);
        assert!(matches!(classify(&hello), Some(Speech::Tls(_))));
    }

    proptest! {
        #[test]
        fn the_answer_does_not_depend_on_how_bytes_arrive(
            bytes in prop::collection::vec(
                prop::sample::select(&b"GET /\r\n \tHTTP/1.abc\x00\x16\x03\x80"[..]), 0..80),
        ) {
            let mut first = None;
            for end in 0..=bytes.len() {
                let now = classify(bytes.get(..end).unwrap_or_default());
                if first.is_none() {
                    first = now;
                }
            }
            // What is opaque at first stays opaque: more bytes cannot turn it into HTTP.
            if first == Some(Speech::Opaque) {
                prop_assert_eq!(classify(&bytes), Some(Speech::Opaque));
            }
        }
    }
}
