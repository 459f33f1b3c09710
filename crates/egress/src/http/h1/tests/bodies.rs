//! Single bodies, each for what it shows.

use super::{
    super::{
        body::{Body, Framing},
        chunked::Manner,
    },
    feed,
};

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
