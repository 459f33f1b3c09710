//! Heads and bodies: what is understood, and above all what is not.

use proptest::prelude::*;
use stockade_fuzz::{TRIES, Target};

use super::{
    Malformed,
    body::{Body, Framing},
    chunked::{Chunked, Manner},
    head::{RequestHead, ResponseHead, parse_request, parse_response},
    lines::Scanner,
};

fn request(text: &str) -> Result<RequestHead, &'static str> {
    match parse_request(&mut Scanner::default(), text.as_bytes()) {
        Ok(Some((head, length))) => {
            assert_eq!(length, text.len());
            Ok(head)
        }
        Ok(None) => Err("partial"),
        Err(Malformed(reason)) => Err(reason),
    }
}

fn response(text: &str, method: &str) -> Result<ResponseHead, &'static str> {
    match parse_response(&mut Scanner::default(), text.as_bytes(), method) {
        Ok(Some((head, _))) => Ok(head),
        Ok(None) => Err("partial"),
        Err(Malformed(reason)) => Err(reason),
    }
}

#[test]
fn a_plain_request_is_understood_and_passed_on_unchanged() {
    let text = "GET /a/b?c=d HTTP/1.1\r\nHost: GOOD.test.\r\nX-Odd: \u{fc} ok\r\n\r\n";
    let head = request(text).unwrap();
    assert_eq!(head.method, "GET");
    assert_eq!(head.path.as_bytes(), b"/a/b?c=d");
    assert_eq!(head.host, "good.test".parse().unwrap());
    assert_eq!((head.port, head.framing), (None, Framing::Empty));
    assert!(head.persistent && !head.websocket);
    assert_eq!(head.written(), text.as_bytes());
}

#[test]
fn absolute_form_becomes_origin_form() {
    let head = request(
        "POST HTTP://good.test:81/x HTTP/1.1\r\nHost: good.test:81\r\n\
                        Content-Length: 5\r\n\r\n",
    )
    .unwrap();
    assert_eq!(head.port, Some(81));
    assert_eq!(head.framing, Framing::Length(5));
    assert!(
        head.written()
            .starts_with(b"POST /x HTTP/1.1\r\nHost: good.test:81\r\n")
    );
    let head = request("GET http://good.test HTTP/1.0\r\nHost: good.test\r\n\r\n").unwrap();
    assert_eq!(head.written(), b"GET / HTTP/1.0\r\nHost: good.test\r\n\r\n");
    assert!(!head.persistent);
}

#[test]
fn websocket_is_the_only_upgrade() {
    let with = |lines: &str| {
        request(&format!(
            "GET /chat HTTP/1.1\r\nHost: good.test\r\n{lines}\r\n"
        ))
    };
    assert!(
        with("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n")
            .unwrap()
            .websocket
    );
    for lines in [
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\nUpgrade: websocket, h2c\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n",
    ] {
        assert!(with(lines).is_err(), "{lines}");
    }
}

/// What some clients offer with every request is passed over, and never reaches a server.
#[test]
fn an_offer_of_http2_is_passed_over() {
    let head = request(
        "POST /x HTTP/1.1\r\nHost: good.test\r\nContent-Length: 3\r\n\
         Connection: keep-alive, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABk\r\nX-Own:  a b\r\n\r\n",
    )
    .unwrap();
    assert!(!head.websocket && head.persistent);
    assert_eq!(
        String::from_utf8(head.written()).unwrap(),
        "POST /x HTTP/1.1\r\nHost: good.test\r\nContent-Length: 3\r\nX-Own: a b\r\n\
         Connection: keep-alive\r\n\r\n"
    );
    let closing = request(
        "GET / HTTP/1.1\r\nHost: good.test\r\nConnection: close, Upgrade\r\nUpgrade: h2c\r\n\r\n",
    );
    assert!(!closing.unwrap().persistent);
}

/// Heads that two readers could understand differently (attack N18), each one change away from
/// the good one in the first line of the test.
#[test]
fn smuggling_shapes_are_refused() {
    let good = "POST /x HTTP/1.1\r\nHost: good.test\r\nContent-Length: 3\r\n\r\n";
    assert!(request(good).is_ok());
    let table = [
        (
            "content-length and chunked",
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        ),
        ("two lengths", "Content-Length: 3\r\nContent-Length: 4\r\n"),
        (
            "the same length twice",
            "Content-Length: 3\r\nContent-Length: 3\r\n",
        ),
        ("a list of lengths", "Content-Length: 3, 3\r\n"),
        ("a signed length", "Content-Length: +3\r\n"),
        ("a negative length", "Content-Length: -3\r\n"),
        ("a hexadecimal length", "Content-Length: 0x3\r\n"),
        ("an underscore", "Content-Length: 1_0\r\n"),
        ("an empty length", "Content-Length: \r\n"),
        ("a huge length", "Content-Length: 99999999999999999999\r\n"),
        ("an unknown coding", "Transfer-Encoding: xchunked\r\n"),
        ("two codings", "Transfer-Encoding: gzip, chunked\r\n"),
        (
            "chunked twice",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ),
        ("quoted chunked", "Transfer-Encoding: \"chunked\"\r\n"),
        ("vertical tab", "Transfer-Encoding: \x0bchunked\r\n"),
        ("bare line feed", "Content-Length: 3\nX: y\r\n"),
        ("bare return", "X: a\rContent-Length: 3\r\n"),
        ("folded line", "X: a\r\n Content-Length: 3\r\n"),
        ("folded first line", " X: a\r\n"),
        ("space before colon", "Content-Length : 3\r\n"),
        ("tab before colon", "Transfer-Encoding\t: chunked\r\n"),
        ("no name", ": 3\r\n"),
        ("no colon", "Content-Length 3\r\n"),
        ("nul in a value", "X: a\0b\r\n"),
        ("nul in a name", "X\0: a\r\n"),
        ("escape in a value", "X: a\x1b[2K\r\n"),
        ("second host", "Host: evil.test\r\n"),
        (
            "connection drops the length",
            "Connection: content-length\r\nContent-Length: 3\r\n",
        ),
        ("connection drops the host", "Connection: close, Host\r\n"),
    ];
    for (what, lines) in table {
        let text = format!("POST /x HTTP/1.1\r\nHost: good.test\r\n{lines}\r\n");
        let read = request(&text);
        assert!(read.is_err() && read != Err("partial"), "{what}: {read:?}");
    }
}

#[test]
fn odd_request_lines_are_refused() {
    let long = format!("/{}", "a".repeat(20_000));
    for (method, target, version) in [
        ("get", "/", "HTTP/1.1"),
        ("G ET", "/", "HTTP/1.1"),
        ("", "/", "HTTP/1.1"),
        ("GET", "", "HTTP/1.1"),
        ("GET", " /", "HTTP/1.1"),
        ("GET", "/a b", "HTTP/1.1"),
        ("GET", "/a#b", "HTTP/1.1"),
        ("GET", "\\x", "HTTP/1.1"),
        ("GET", "x", "HTTP/1.1"),
        ("GET", "*", "HTTP/1.1"),
        ("GET", &long, "HTTP/1.1"),
        ("GET", "https://good.test/", "HTTP/1.1"),
        ("GET", "http://evil.test/", "HTTP/1.1"),
        ("GET", "http://good.test@evil.test/", "HTTP/1.1"),
        ("GET", "http://u:p@good.test/", "HTTP/1.1"),
        ("GET", "http://good.test:81/", "HTTP/1.1"),
        ("GET", "http://good.test?q", "HTTP/1.1"),
        ("CONNECT", "good.test:443", "HTTP/1.1"),
        ("PRI", "*", "HTTP/2.0"),
        ("GET", "/", "HTTP/1.2"),
        ("GET", "/", "http/1.1"),
        ("GET", "/", "HTTP/1.1 "),
        ("GET", "/", "HTTP/1.10"),
    ] {
        let read = request(&format!(
            "{method} {target} {version}\r\nHost: good.test\r\n\r\n"
        ));
        assert!(
            read.is_err() && read != Err("partial"),
            "{method} {target} {version}: {read:?}"
        );
    }
    assert!(request("OPTIONS * HTTP/1.1\r\nHost: good.test\r\n\r\n").is_ok());
    assert!(request("GET / HTTP/1.1\r\n\r\n").is_err(), "no host");
    assert!(
        request("\r\nGET / HTTP/1.1\r\nHost: good.test\r\n\r\n").is_err(),
        "empty line first"
    );
}

#[test]
fn hosts_are_read_in_one_way() {
    let host = |text: &str| {
        request(&format!("GET / HTTP/1.1\r\nHost: {text}\r\n\r\n"))
            .map(|h| (h.host.to_string(), h.port))
    };
    assert_eq!(host("good.test:80"), Ok(("good.test".to_owned(), Some(80))));
    assert_eq!(host("[::1]:80"), Ok(("::1".to_owned(), Some(80))));
    assert_eq!(host("10.0.0.1"), Ok(("10.0.0.1".to_owned(), None)));
    for text in [
        "",
        "good.test:",
        "good.test:x",
        "good.test:99999",
        "good.test:80:80",
        "u@good.test",
        "0x7f.1",
        "good.test, evil.test",
        "[good.test]",
        "[::1",
        "::1]",
        "good.test/",
        "2130706433",
        "[::1%25lo]",
    ] {
        // An empty port is a port that is not stated (RFC 3986 section 3.2.3).
        assert_eq!(host(text).is_err(), text != "good.test:", "{text:?}");
    }
}

#[test]
fn heads_have_bounds() {
    let many = "X: y\r\n".repeat(200);
    assert!(request(&format!("GET / HTTP/1.1\r\nHost: good.test\r\n{many}\r\n")).is_err());
    let endless = format!(
        "GET / HTTP/1.1\r\nHost: good.test\r\nX: {}",
        "y".repeat(70_000)
    );
    assert_eq!(request(&endless), Err("the head is too long"));
}

#[test]
fn responses_say_how_long_they_are() {
    let framing = |text: &str, method: &str| response(text, method).map(|head| head.framing);
    let ok = "HTTP/1.1 200 OK\r\n";
    assert_eq!(
        framing(&format!("{ok}Content-Length: 7\r\n\r\n"), "GET"),
        Ok(Framing::Length(7))
    );
    assert_eq!(
        framing(&format!("{ok}Content-Length: 7\r\n\r\n"), "HEAD"),
        Ok(Framing::Empty)
    );
    let chunked = format!("{ok}Transfer-Encoding: Chunked\r\n\r\n");
    assert_eq!(framing(&chunked, "GET"), Ok(Framing::Chunked));
    assert_eq!(
        framing(&format!("{ok}\r\n"), "GET"),
        Ok(Framing::UntilClose)
    );
    assert_eq!(
        framing(
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
            "GET"
        ),
        Ok(Framing::Empty)
    );
    assert!(!response(&format!("{ok}\r\n"), "GET").unwrap().persistent);
    assert!(
        response("HTTP/1.1 100\r\n\r\n", "GET")
            .unwrap()
            .is_interim()
    );
    for text in [
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 1\r\n\r\n",
    ] {
        assert!(response(text, "GET").is_err(), "{text:?}");
    }
}

/// Feeds `bytes` in pieces of `step`; returns how many belong to the body and whether it ended.
fn feed(manner: Manner, bytes: &[u8], step: usize) -> Result<(usize, bool), Malformed> {
    let mut chunked = Chunked::new(manner);
    let mut total = 0;
    for piece in bytes.chunks(step) {
        let taken = chunked.feed(piece)?;
        total += taken;
        if taken < piece.len() {
            break;
        }
    }
    Ok((total, chunked.is_done()))
}

#[test]
fn chunks_are_followed_to_their_end() {
    let body = b"5\r\nhello\r\n0A\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nGET / HTTP/1.1\r\n";
    let length = body.len() - b"GET / HTTP/1.1\r\n".len();
    for step in 1..body.len() {
        assert_eq!(
            feed(Manner::Strict, body, step),
            Ok((length, true)),
            "{step}"
        );
    }
}

#[test]
fn ambiguous_chunks_are_refused() {
    for (body, tolerated) in [
        (&b"5;a=b\r\nhello\r\n0\r\n\r\n"[..], true),
        (b"5 \r\nhello\r\n0\r\n\r\n", true),
        (b"0_2e\r\n", false),
        (b"0x5\r\nhello\r\n", false),
        (b"+5\r\nhello\r\n", false),
        (b"-1\r\n", false),
        (b"\r\n", false),
        (b" 5\r\nhello\r\n", false),
        (b"5\nhello\r\n", false),
        (b"5\rhello\r\n", false),
        (b"5\r\nhelloX\r\n", false),
        (b"5\r\nhello\n", false),
        (b"FFFFFFFFFFFFFFFF\r\n", false),
        (b"0\r\nX : y\r\n\r\n", false),
        (b"0\r\n folded\r\n\r\n", false),
        (b"0\r\nContent-Length: 3\r\n\r\n", true),
        (b"0\r\nX: y\n\r\n", false),
    ] {
        let text = String::from_utf8_lossy(body);
        assert!(feed(Manner::Strict, body, body.len()).is_err(), "{text:?}");
        assert_eq!(
            feed(Manner::Tolerant, body, body.len()).is_ok(),
            tolerated,
            "{text:?}"
        );
    }
}

#[test]
fn counted_bodies_take_no_byte_more() {
    let mut body = Body::new(Framing::Length(5), Manner::Strict);
    assert_eq!(body.feed(b"abc"), Ok(3));
    assert_eq!(body.feed(b"defg"), Ok(2));
    assert!(body.is_done());
    assert_eq!(body.feed(b"x"), Ok(0));
    assert!(Body::new(Framing::Empty, Manner::Strict).is_done());
}

type NameAndValue = (String, Vec<u8>);

/// A lenient reader as oracle: what we accept, it must understand in the same way.
fn oracle(text: &[u8]) -> Option<(String, String, Vec<NameAndValue>)> {
    let mut lines = text
        .strip_suffix(b"\r\n\r\n")?
        .split(|b| *b == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = String::from_utf8_lossy(lines.next()?).into_owned();
    let mut words = first.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let fields = lines.map(|line| {
        let at = line.iter().position(|b| *b == b':').unwrap_or(line.len());
        let name = String::from_utf8_lossy(&line[..at])
            .trim()
            .to_ascii_lowercase();
        let value = line.get(at + 1..).unwrap_or_default().trim_ascii().to_vec();
        (name, value)
    });
    Some((method, target, fields.collect()))
}

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "GET ",
        "POST ",
        "/x",
        " HTTP/1.1",
        "\r\n",
        "\n",
        "\r",
        "Host: good.test",
        "Host:evil.test",
        "Content-Length: 3",
        "Content-Length:4",
        "Transfer-Encoding: chunked",
        "transfer-encoding",
        ": ",
        " ",
        "\t",
        "X: y",
        "\0",
        "http://good.test",
        ",",
        "\r\n\r\n",
        "Connection: close",
    ]);
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_is_accepted_has_one_meaning(tail in pieces(), good in any::<bool>()) {
        let start = if good { "POST /x HTTP/1.1\r\nHost: good.test\r\n" } else { "" };
        let text = format!("{start}{tail}\r\n\r\n");
        if let Ok(Some((head, length))) = parse_request(&mut Scanner::default(), text.as_bytes()) {
            let (method, target, fields) = oracle(&text.as_bytes()[..length]).unwrap();
            prop_assert_eq!(&head.method, &method);
            prop_assert!(target.ends_with(&head.path.display()) || head.path.as_bytes() == b"/");
            let hosts: Vec<_> = fields.iter().filter(|(name, _)| name == "host").collect();
            prop_assert_eq!(hosts.len(), 1);
            let lengths = fields.iter().filter(|(name, _)| name == "content-length").count();
            let codings = fields.iter().filter(|(name, _)| name == "transfer-encoding").count();
            prop_assert!(lengths + codings <= 1);
            prop_assert_eq!(codings == 1, head.framing == Framing::Chunked);
            // What is sent on is read in the same way again.
            let again = head.written();
            let reread = parse_request(&mut Scanner::default(), &again).unwrap().unwrap();
            prop_assert_eq!(reread, (head, again.len()));
        }
    }

    #[test]
    fn heads_do_not_depend_on_how_they_arrive(tail in pieces(), step in 1usize..9) {
        let text = format!("POST /x HTTP/1.1\r\nHost: good.test\r\n{tail}\r\n\r\n");
        let whole = parse_request(&mut Scanner::default(), text.as_bytes());
        let mut scanner = Scanner::default();
        let mut end = 0;
        let piecemeal = loop {
            end = (end + step).min(text.len());
            match parse_request(&mut scanner, &text.as_bytes()[..end]) {
                Ok(None) if end < text.len() => {}
                other => break other,
            }
        };
        prop_assert_eq!(whole, piecemeal);
    }

    #[test]
    fn no_bytes_break_the_parsers(bytes in prop::collection::vec(any::<u8>(), 0..300), step in 1usize..50) {
        let _parsed = parse_request(&mut Scanner::default(), &bytes);
        let _parsed = parse_response(&mut Scanner::default(), &bytes, "GET");
        let fed = feed(Manner::Strict, &bytes, step);
        prop_assert!(fed.is_err() || fed.unwrap().0 <= bytes.len());
        let _fed = feed(Manner::Tolerant, &bytes, step);
    }

    #[test]
    fn any_chunking_of_any_data_passes(
        data in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
        step in 1usize..30,
    ) {
        let mut body = Vec::new();
        for chunk in &data {
            body.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            body.extend(chunk);
            body.extend(b"\r\n");
        }
        body.extend(b"0\r\n\r\n");
        prop_assert_eq!(feed(Manner::Strict, &body, step), Ok((body.len(), true)));
    }
}

const HTTP_WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r\n\r\n",
    b"GET ",
    b"CONNECT ",
    b" HTTP/1.1",
    b" HTTP/1.0",
    b"Host: good.test\r\n",
    b"Host:evil.test\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Upgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"http://evil.test/",
    b"chunked, gzip",
    b"0\r\n\r\n",
    b"ffffffffffffffff",
    b"\t",
    b"\0",
    b"%2e%2e/",
];

/// Reads a head of which more and more is there; tells what a reader of the whole is told.
fn in_pieces<T>(
    bytes: &[u8],
    step: usize,
    mut read: impl FnMut(&[u8]) -> Result<Option<T>, Malformed>,
) -> Result<Option<T>, Malformed> {
    let mut end = 0;
    while end < bytes.len() {
        end = (end + step).min(bytes.len());
        match read(&bytes[..end]) {
            Ok(None) => {}
            decided => return decided,
        }
    }
    Ok(None)
}

#[test]
fn fuzz_http_request() {
    let target = Target {
        name: "http-request",
        samples: [
            "GET /a?b=c HTTP/1.1\r\nHost: good.test\r\nAccept: */*\r\n\r\n",
            "POST http://good.test:8080/x HTTP/1.1\r\nHost: good.test:8080\r\nContent-Length: 3\r\n\r\nabc",
            "PUT /x HTTP/1.1\r\nHost: [2001:db8::1]\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "OPTIONS * HTTP/1.0\r\nHost: good.test\r\nConnection: keep-alive, upgrade\r\nUpgrade: websocket\r\n\r\n",
        ].map(|text| text.as_bytes().to_vec()).into(),
        words: HTTP_WORDS,
        tries: TRIES,
    };
    stockade_fuzz::target(&target, |bytes| {
        let whole = parse_request(&mut Scanner::default(), bytes);
        let mut scanner = Scanner::default();
        let pieces = in_pieces(bytes, 3, |part| parse_request(&mut scanner, part));
        // A fault after the first fault may be named by who sees more at once.
        assert_eq!(pieces.is_ok(), whole.is_ok(), "{pieces:?} {whole:?}");
        let Ok(Some((head, length))) = whole else {
            return;
        };
        assert_eq!(pieces, Ok(Some((head.clone(), length))));
        let (method, _, fields) = oracle(&bytes[..length]).expect("a lenient reader takes it too");
        assert_eq!(head.method, method);
        let count = |name: &str| fields.iter().filter(|(own, _)| own == name).count();
        assert_eq!(count("host"), 1);
        assert!(count("content-length") + count("transfer-encoding") <= 1);
        let again = head.to_bytes();
        let reread = parse_request(&mut Scanner::default(), &again);
        assert_eq!(reread, Ok(Some((head, again.len()))));
    });
}

#[test]
fn fuzz_http_response() {
    let target = Target {
        name: "http-response",
        samples: [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Type: text/plain\r\n\r\nabc",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.0 301 Moved\r\nLocation: http://good.test/\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nTrailer: x\r\n\r\n",
        ].map(|text| text.as_bytes().to_vec()).into(),
        words: HTTP_WORDS,
        tries: TRIES,
    };
    stockade_fuzz::target(&target, |bytes| {
        for method in ["GET", "HEAD", "CONNECT"] {
            let whole = parse_response(&mut Scanner::default(), bytes, method);
            let mut scanner = Scanner::default();
            let pieces = in_pieces(bytes, 5, |part| parse_response(&mut scanner, part, method));
            assert_eq!(pieces.is_ok(), whole.is_ok(), "{pieces:?} {whole:?}");
            if let Ok(Some(head)) = whole {
                assert!((100..=999).contains(&head.0.status));
                assert_eq!(pieces, Ok(Some(head)));
            }
        }
    });
}

#[test]
fn fuzz_http_body() {
    let target = Target {
        name: "http-body",
        samples: [
            "3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nnext",
            "3;name=\"v\"\r\nabc\r\n0\r\nTrailer: x\r\n\r\n",
            "0\r\n\r\n",
        ]
        .map(|text| text.as_bytes().to_vec())
        .into(),
        words: HTTP_WORDS,
        tries: TRIES,
    };
    let read = |bytes: &[u8], manner, step| {
        let mut body = Chunked::new(manner);
        let mut taken = 0;
        for part in bytes.chunks(step) {
            let here = body.feed(part).map_err(|Malformed(why)| why)?;
            assert!(here <= part.len());
            taken += here;
            if here < part.len() {
                assert!(body.is_done(), "bytes are left of a body that goes on");
                break;
            }
        }
        Ok::<_, &'static str>((taken, body.is_done()))
    };
    stockade_fuzz::target(&target, |bytes| {
        for manner in [Manner::Strict, Manner::Tolerant] {
            let whole = read(bytes, manner, bytes.len().max(1));
            assert_eq!(read(bytes, manner, 1), whole);
        }
        // The strict reader takes nothing that the tolerant one does not, and cuts it at the same place.
        let size = bytes.len().max(1);
        if let Ok(strict) = read(bytes, Manner::Strict, size) {
            assert_eq!(read(bytes, Manner::Tolerant, size), Ok(strict));
        }
    });
}
