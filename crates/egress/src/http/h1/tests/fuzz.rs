//! The readers against changed inputs.

use stockade_fuzz::{TRIES, Target};

use super::{
    super::{
        Malformed,
        chunked::{Chunked, Manner},
        head::{parse_request, parse_response},
        lines::Scanner,
        proxied::{Wish, read_wish},
    },
    oracle,
};

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
        assert_eq!(head.head.method, method);
        let count = |name: &str| fields.iter().filter(|(own, _)| own == name).count();
        assert_eq!(count("host"), 1);
        assert!(count("content-length") + count("transfer-encoding") <= 1);
        let again = head.written();
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

#[test]
fn fuzz_proxy_request() {
    let target = Target {
        name: "proxy-request",
        samples: [
            "CONNECT good.test:443 HTTP/1.1\r\nHost: good.test:443\r\n\r\n",
            "CONNECT [2001:db8::1]:8443 HTTP/1.0\r\nProxy-Authorization: Basic eDp5\r\n\r\nmore",
            "GET http://good.test:8080/x HTTP/1.1\r\nHost: good.test:8080\r\n\r\n",
            "POST http://good.test HTTP/1.1\r\nHost: good.test\r\nContent-Length: 3\r\n\r\nabc",
        ]
        .map(|text| text.as_bytes().to_vec())
        .into(),
        words: HTTP_WORDS,
        tries: TRIES,
    };
    stockade_fuzz::target(&target, |bytes| {
        let whole = read_wish(&mut Scanner::default(), bytes);
        let mut scanner = Scanner::default();
        let mut pieces = Ok(None);
        for end in 0..=bytes.len() {
            pieces = read_wish(&mut scanner, &bytes[..end]);
            if !matches!(pieces, Ok(None)) {
                break;
            }
        }
        assert_eq!(pieces.is_ok(), whole.is_ok(), "{pieces:?} {whole:?}");
        let Ok(Some(wish)) = whole else {
            return;
        };
        assert_eq!(pieces, Ok(Some(wish.clone())));
        let (to, length) = match wish {
            Wish::Tunnel { to, length, .. } => (to, length),
            Wish::Request { to } => (to, bytes.len()),
        };
        assert!(length <= bytes.len());
        // Where it leads stands in the first line.
        let line = bytes.split(|byte| *byte == b'\n').next();
        let line = String::from_utf8_lossy(line.unwrap_or_default());
        let port = line.contains(&format!("{}", to.1)) || line.contains(":0");
        assert!(port || to.1 == 80, "{line:?}");
        assert_eq!(to.0.to_string().parse(), Ok(to.0));
    });
}
