//! Single heads, each for what it shows.

use super::{super::body::Framing, request, response};

#[test]
fn a_plain_request_is_understood_and_passed_on_unchanged() {
    let text = "GET /a/b?c=d HTTP/1.1\r\nHost: GOOD.test.\r\nX-Odd: \u{fc} ok\r\n\r\n";
    let head = request(text).unwrap();
    assert_eq!(head.head.method, "GET");
    assert_eq!(head.head.path.as_bytes(), b"/a/b?c=d");
    assert_eq!(head.head.host, "good.test".parse().unwrap());
    assert_eq!(
        (head.head.port, head.carried.framing),
        (None, Framing::Empty)
    );
    assert!(head.carried.persistent && !head.carried.websocket);
    assert_eq!(head.written(), text.as_bytes());
}

#[test]
fn absolute_form_becomes_origin_form() {
    let head = request(
        "POST HTTP://good.test:81/x HTTP/1.1\r\nHost: good.test:81\r\n\
                        Content-Length: 5\r\n\r\n",
    )
    .unwrap();
    assert_eq!(head.head.port, Some(81));
    assert_eq!(head.carried.framing, Framing::Length(5));
    assert!(
        head.written()
            .starts_with(b"POST /x HTTP/1.1\r\nHost: good.test:81\r\n")
    );
    let head = request("GET http://good.test HTTP/1.0\r\nHost: good.test\r\n\r\n").unwrap();
    assert_eq!(head.written(), b"GET / HTTP/1.0\r\nHost: good.test\r\n\r\n");
    assert!(!head.carried.persistent);
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
            .carried
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
    assert!(!head.carried.websocket && head.carried.persistent);
    assert_eq!(
        String::from_utf8(head.written()).unwrap(),
        "POST /x HTTP/1.1\r\nHost: good.test\r\nContent-Length: 3\r\nX-Own: a b\r\n\
         Connection: keep-alive\r\n\r\n"
    );
    let closing = request(
        "GET / HTTP/1.1\r\nHost: good.test\r\nConnection: close, Upgrade\r\nUpgrade: h2c\r\n\r\n",
    );
    assert!(!closing.unwrap().carried.persistent);
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
            .map(|h| (h.head.host.to_string(), h.head.port))
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
