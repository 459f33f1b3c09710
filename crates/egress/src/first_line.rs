//! The first line of a client that does not speak TLS: could a lenient server read it as HTTP?

use crate::{
    grammar::is_token,
    limits::{HEAD_BYTES_MAX, TARGET_BYTES_MAX},
    tls::CONTENT_HANDSHAKE,
};

/// Longest word at the start of a line that may still be a method.
const WORD_BYTES_MAX: usize = 40;

/// What every version of HTTP/1 and HTTP/2 begins with; a digit follows.
const VERSION: &[u8; 5] = b"HTTP/";

/// Methods that clients send; what begins like one is waited for.
const METHODS: [&[u8]; 9] = [
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH",
];

/// What is known of a first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// More bytes may still make it HTTP.
    Open,
    /// A lenient server might read it as a request line.
    Http,
    /// The beginning of TLS, but not a `ClientHello` that names a host: why not.
    BrokenTls(&'static str),
    /// It is neither, whatever follows.
    Other,
}

/// Characters of the first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// Those of a method, and not more than any method has.
    Token,
    /// Others that can be seen, as in JSON and XML.
    Visible,
    /// Control characters, or none of ASCII.
    Binary,
}

/// Where in the line the last byte was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// In the first word, or before it.
    Word,
    /// After it.
    Rest,
    /// After the line.
    Ended,
}

/// Reads a first line as it arrives. What is [`Line::Open`] may be passed on as long as all that
/// follows is read here first: a line cut into pieces is judged as if it had come at once.
///
/// Empty lines before it, odd white space, odd methods and control characters are all passed over,
/// since they only make the strict parser refuse what some server might take.
#[derive(Debug)]
pub(crate) struct FirstLine {
    line: Line,
    /// The first bytes of all, where TLS shows.
    start: [u8; 5],
    /// A byte-order mark or NUL stands before the first word, which some servers pass over.
    junk: bool,
    bytes: usize,
    word: Vec<u8>,
    kind: Word,
    stage: Stage,
    /// The first byte that follows the first word.
    target: Option<u8>,
    /// A control character stands in the line, which no client of HTTP sends.
    control: bool,
    /// How much of [`VERSION`] the last bytes are.
    matched: usize,
    /// Nothing but a version's digits and white space followed on the last version.
    version_last: bool,
}

impl Default for FirstLine {
    fn default() -> Self {
        Self {
            line: Line::Open,
            start: [0; 5],
            junk: false,
            bytes: 0,
            word: Vec::new(),
            kind: Word::Token,
            stage: Stage::Word,
            target: None,
            control: false,
            matched: 0,
            version_last: false,
        }
    }
}

impl FirstLine {
    /// Reads the start of a connection.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut line = Self::default();
        line.feed(bytes);
        line
    }

    /// Reads on, and says what is known now.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Line {
        for byte in bytes {
            if self.line != Line::Open {
                break;
            }
            self.line = self.step(*byte);
        }
        self.line
    }

    /// Says what is known.
    pub(crate) const fn line(&self) -> Line {
        self.line
    }

    /// Tells whether a client of HTTP could have sent this, so that the rest is worth a wait.
    pub(crate) fn is_plausible(&self) -> bool {
        let clean = !self.junk || self.begins_like_a_method();
        clean && matches!(self.kind, Word::Token) && !self.control
    }

    /// Tells whether the first word is the start of a method that clients send.
    pub(crate) fn begins_like_a_method(&self) -> bool {
        let known = |method: &&[u8]| {
            if self.stage > Stage::Word {
                **method == self.word
            } else {
                method.starts_with(&self.word)
            }
        };
        !self.word.is_empty() && METHODS.iter().any(known)
    }

    fn step(&mut self, byte: u8) -> Line {
        if let Some(place) = self.start.get_mut(self.bytes) {
            *place = byte;
        }
        self.bytes += 1;
        if self.bytes == 1 && byte == CONTENT_HANDSHAKE {
            // Its `ClientHello` was read as TLS.
            return Line::Other;
        }
        if let Some(why) = self.broken_tls().filter(|_| self.bytes >= self.start.len()) {
            return Line::BrokenTls(why);
        }
        if self.stage == Stage::Word && !self.read_word(byte) {
            // Lines of nothing else are a flood, which the parser refuses.
            return if self.bytes > WORD_BYTES_MAX {
                Line::Http
            } else {
                Line::Open
            };
        }
        if self.stage > Stage::Word && !is_blank(byte) {
            self.target = self.target.or(Some(byte));
            self.control |= byte.is_ascii_control();
        }
        if self.has_version(byte) && self.is_word() {
            return Line::Http;
        }
        if byte == b'\n' {
            self.stage = Stage::Ended;
        }
        if self.stage == Stage::Ended {
            return self.at_the_end();
        }
        // Some servers end a line at a bare carriage return; to others it is white space.
        if byte == b'\r' && self.at_the_end() == Line::Http {
            return Line::Http;
        }
        // So long a line is either a long target or a flood; the parser refuses both. What is no
        // HTTP to the eye is watched for as long as a server might read on.
        if self.bytes > TARGET_BYTES_MAX && self.is_plausible() {
            return Line::Http;
        }
        if self.bytes > HEAD_BYTES_MAX {
            return Line::Other;
        }
        Line::Open
    }

    /// Reads one byte of the first word; false while it has not begun.
    fn read_word(&mut self, byte: u8) -> bool {
        // A long run of NULs is data.
        let nul = byte == 0 && self.bytes <= WORD_BYTES_MAX;
        if self.word.is_empty() && (nul || self.is_mark(byte)) {
            self.junk = true;
            return false;
        }
        if is_blank(byte) {
            if self.word.is_empty() {
                return false;
            }
            self.stage = Stage::Rest;
            return true;
        }
        let long = self.word.len() >= WORD_BYTES_MAX;
        self.kind = match self.kind {
            Word::Binary => Word::Binary,
            _ if !byte.is_ascii_graphic() => Word::Binary,
            Word::Token if is_token(byte) && !long => Word::Token,
            Word::Token | Word::Visible => Word::Visible,
        };
        if !long {
            self.word.push(byte);
        }
        true
    }

    /// Notes where versions stand; true at the digit of one.
    fn has_version(&mut self, byte: u8) -> bool {
        let found = self.matched == VERSION.len() && byte.is_ascii_digit();
        let goes_on = byte.is_ascii_digit() || byte == b'.' || is_blank(byte);
        self.version_last = found || (self.version_last && goes_on);
        let next = VERSION.get(self.matched).copied();
        self.matched = if next == Some(byte.to_ascii_uppercase()) {
            self.matched + 1
        } else {
            usize::from(byte.eq_ignore_ascii_case(&b'H'))
        };
        found
    }

    /// Tells whether the first word is one to the eye. Behind a NUL only a method is, since a binary
    /// message has text behind its length.
    fn is_word(&self) -> bool {
        self.kind != Word::Binary && (!self.junk || METHODS.contains(&self.word.as_slice()))
    }

    /// Tells whether `byte` is one of a byte-order mark in UTF-8 at the very start.
    fn is_mark(&self, byte: u8) -> bool {
        const MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
        let place = self.bytes.saturating_sub(1);
        MARK.get(place) == Some(&byte) && self.start.get(..place) == MARK.get(..place)
    }

    fn at_the_end(&self) -> Line {
        if self.broken_tls().is_some() && self.bytes < self.start.len() {
            return Line::Open;
        }
        // A binary message may well carry a version in its data, but hardly as the last word of
        // its first line. HTTP/0.9 has no version, and its only method is GET.
        let target = match self.target {
            // Behind a length of a binary message anything may follow that looks like a word.
            Some(first) => !self.junk || matches!(first, b'/' | b'*' | b'h' | b'H'),
            None => false,
        };
        let bare = self.is_word() && self.word == b"GET" && target;
        if self.version_last || bare {
            return Line::Http;
        }
        Line::Other
    }

    /// Says what is wrong with a `ClientHello` that the first bytes are, or may become: one in the form
    /// of SSL 2 (RFC 5246 appendix E.2), which names no host, or one behind another record, such
    /// as a warning, which some servers pass over.
    fn broken_tls(&self) -> Option<&'static str> {
        let at = |index: usize| self.start.get(index).filter(|_| index < self.bytes);
        if self.bytes > self.start.len() {
            return None;
        }
        let first = *at(0)?;
        let old = first >= 0x80
            && at(2).is_none_or(|kind| *kind == 1)
            && match (at(3), at(4)) {
                (Some(3) | None, _) | (Some(0), Some(2) | None) => true,
                (Some(_), _) => false,
            };
        // Versions go from 3.0 to 3.4, and a record has at most 2^14 bytes and some for the cipher
        // (RFC 8446 section 5.1 and 5.2).
        let record = (20..=24).contains(&first)
            && at(1).is_none_or(|major| *major == 3)
            && at(2).is_none_or(|minor| *minor <= 4)
            && at(3).is_none_or(|length| *length <= 0x48);
        match (old, record) {
            (true, _) => Some("it has the form of SSL 2"),
            (false, true) => Some("its first record is not of the handshake"),
            (false, false) => None,
        }
    }
}

/// What some server or other takes for white space: ASCII's, and what Python has in addition.
const fn is_blank(byte: u8) -> bool {
    matches!(byte, 9..=13 | 28..=32 | 0x85 | 0xa0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whatever_a_lenient_server_could_read_is_http() {
        let table: [&[u8]; 34] = [
            b"GET / HTTP/1.1\r\n",
            b"GET / HTTP/1.1",
            b"POST /x\x0cHTTP/1.1\r\n",
            b"GET\x0b/x\x0bHTTP/1.1\r\n",
            b"\x0bGET /x HTTP/1.1\r\n",
            b"POST\xa0/x\xa0HTTP/1.1\r\n",
            b"POST /\0x HTTP/1.1\r\n",
            b"POST /x\0HTTP/1.1\r\n",
            b"POST /xHTTP/1.1\r\n",
            b"\0GET /x HTTP/1.1\r\n",
            b"\xc2\xa0GET /x HTTP/1.1 \r\n",
            b"\xef\xbb\xbfGET /x http/1\n",
            b"<GET /x HTTP/1.1\r\n",
            b"P\x01ST /x HTTP/1.1\r\n",
            b"HHTTP/1",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\r\n\r\nGET / HTTP/1.1\r\n",
            b" \tget / http/1.1\n",
            b"GET /old\r\n",
            b"GET\x0b/old\n",
            b"\x0cGET\r/old\n",
            &[b'\r'; 64],
            // What comes before the first word, and a line that ends in a bare carriage return.
            b"\xef\xbb\xbfGET /x HTTP/1.1",
            b"\xef\xbb\xbfPOST /x HTTP/1.1 y\r\n",
            b"\xef\xbb\xbfGET /x\r\n",
            b"\xef\xbb\xbf\0 GET /x HTTP/1.1",
            b"\0POST /x HTTP/1.1",
            b"\0\0\0GET /x\r",
            b"\0\r\nGET /x HTTP/1.1",
            b"GET /x\rHost: good.test",
            b"\x01GET /x HTTP/1.1\rHost: good.test",
            b"GE\0T /x HTTP/1.1\rHost: good.test",
            b"\xc2\xa0GET /x HTTP/1.1 \r",
            b"\rGET /x HTTP/1.1\rHost: good.test\r\r",
        ];
        for bytes in table {
            let shown = String::from_utf8_lossy(bytes);
            assert_eq!(FirstLine::of(bytes).line(), Line::Http, "{shown:?}");
        }
        let long = [b"GET /".to_vec(), vec![b'a'; TARGET_BYTES_MAX]].concat();
        assert_eq!(FirstLine::of(&long).line(), Line::Http);
        let word = [vec![b'A'; 60], b" / HTTP/1.1".to_vec()].concat();
        assert_eq!(FirstLine::of(&word).line(), Line::Http);
    }

    #[test]
    fn other_protocols_are_known_or_watched() {
        const OLD: Line = Line::BrokenTls("it has the form of SSL 2");
        const RECORD: Line = Line::BrokenTls("its first record is not of the handshake");
        let table: [(&[u8], Line); 24] = [
            (b"", Line::Open),
            (b"GE", Line::Open),
            (b"GET /", Line::Open),
            (b"\r\n", Line::Open),
            (b"\x16\x03\x01", Line::Other),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Line::Other),
            (b"GET\r\n", Line::Other),
            (b"get key\r\n", Line::Other),
            (b"*1\r\n$4\r\nPING\r\n", Line::Other),
            (b"JDWP-Handshake", Line::Open),
            (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Line::Open),
            // A binary message that carries the log of a web server.
            (b"\x00\x00\x00\x50log \"GET / HTTP/1.1\" 200\n", Line::Other),
            (b"\x80\x2e\x01\x03\x01", OLD),
            (b"\x80\x0a\x01\x00\x02", OLD),
            (b"\x15\x03\x01\x00\x02\x01\x5a\x16\x03", RECORD),
            (b"\x14\x03\x03\x00\x01\x01\x16\x03", RECORD),
            (b"\x18\x03\x03\x00\x0a\n", RECORD),
            (b"\x17\x03\x00\n", Line::Open),
            (b"\x15\x04\x01\x00\x02\n", Line::Other),
            (b"\x15\x03\x01\xff\x02\n", Line::Other),
            (b"\x00\x00\x00\x09GET key\n", Line::Other),
            (b"\x00\x00\x00\x07STATUS\n", Line::Other),
            (&[0; 100], Line::Open),
            (b"\x80\x0a\x01\x07", Line::Other),
        ];
        for (bytes, expected) in table {
            let shown = String::from_utf8_lossy(bytes);
            assert_eq!(FirstLine::of(bytes).line(), expected, "{shown:?}");
        }
        let flood = [b"{".to_vec(), vec![b'a'; HEAD_BYTES_MAX]].concat();
        assert_eq!(FirstLine::of(&flood).line(), Line::Other);
    }

    proptest! {
        #[test]
        fn a_line_is_the_same_however_it_is_cut(
            bytes in prop::collection::vec(
                prop::sample::select(&b"GET /\r\n \tHTTP/1.abc\x00\x16\x03\x80\x01\xa0\x0b"[..]), 0..80),
            at in 0usize..80,
        ) {
            let (head, tail) = bytes.split_at(at.min(bytes.len()));
            let mut cut = FirstLine::of(head);
            let before = cut.line();
            let after = cut.feed(tail);
            prop_assert_eq!(after, FirstLine::of(&bytes).line());
            // Only what is open can still become something.
            prop_assert!(before == Line::Open || before == after);
        }
    }

    #[test]
    fn fuzz_first_line() {
        let target = stockade_fuzz::Target {
            name: "first-line",
            samples: [
                "GET / HTTP/1.1\r\n",
                "SSH-2.0-client\r\n",
                "\u{feff}POST /x HTTP/1.0\n",
                "hello HTTP/9 you\n",
            ]
            .map(|text| text.as_bytes().to_vec())
            .into(),
            words: &[
                b"HTTP/1",
                b"GET ",
                b" /",
                b"\r\n",
                &[22, 3, 1],
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            ],
            tries: stockade_fuzz::TRIES,
        };
        stockade_fuzz::target(&target, |bytes| {
            let whole = FirstLine::of(bytes);
            let mut pieces = FirstLine::default();
            for byte in bytes {
                let before = pieces.line();
                let now = pieces.feed(&[*byte]);
                assert!(
                    before == Line::Open || before == now,
                    "{before:?}, then {now:?}"
                );
            }
            assert_eq!(pieces.line(), whole.line());
            assert_eq!(pieces.is_plausible(), whole.is_plausible());
            // Whatever a lenient server could take for a request line is never other than HTTP.
            let line = bytes
                .split(|byte| *byte == b'\n')
                .next()
                .unwrap_or_default();
            let plain = line.starts_with(b"GET /") && !line.contains(&b'\r') && !line.contains(&0);
            assert!(!plain || whole.line() != Line::Other, "{line:?}");
        });
    }
}
