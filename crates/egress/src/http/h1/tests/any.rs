//! What holds for any head and any body.

use proptest::prelude::*;

use super::{
    super::{
        body::Framing,
        chunked::Manner,
        head::{parse_request, parse_response},
        lines::Scanner,
    },
    feed, oracle,
};

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
            prop_assert_eq!(&head.head.method, &method);
            prop_assert!(target.ends_with(&head.head.path.display()) || head.head.path.as_bytes() == b"/");
            let hosts: Vec<_> = fields.iter().filter(|(name, _)| name == "host").collect();
            prop_assert_eq!(hosts.len(), 1);
            let lengths = fields.iter().filter(|(name, _)| name == "content-length").count();
            let codings = fields.iter().filter(|(name, _)| name == "transfer-encoding").count();
            prop_assert!(lengths + codings <= 1);
            prop_assert_eq!(codings == 1, head.carried.framing == Framing::Chunked);
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
