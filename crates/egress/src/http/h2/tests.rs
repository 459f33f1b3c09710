//! Requests judged are requests that servers see, whatever is sent.

use bytes::Bytes;
use stockade_fuzz::Target;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::head::{Judged, read, to_h1, to_h2};
use crate::http::{
    Addressed, Head,
    h1::{head::parse_request, lines::Scanner},
};

/// Between two fields of an input.
const FIELD: u8 = 0x1e;
/// Between a name and its value.
const VALUE: u8 = 0x1f;

/// Codes fields as literals that are not indexed (RFC 7541 section 6.2.2).
fn block(input: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    for field in input.split(|byte| *byte == FIELD) {
        let mut parts = field.splitn(2, |byte| *byte == VALUE);
        block.push(0);
        for text in [parts.next(), parts.next()] {
            let text = text.unwrap_or_default();
            let text = &text[..text.len().min(126)];
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text);
        }
    }
    block.truncate(16_000);
    block
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[kind, flags, 0, 0, 0, stream]);
    frame.extend_from_slice(payload);
    frame
}

/// Waits until `words` come back.
async fn told(client: &mut DuplexStream, words: &[u8]) {
    let mut seen = Vec::new();
    while let Ok(1..) = client.read_buf(&mut seen).await {
        if seen.windows(words.len()).any(|here| here == words) {
            return;
        }
    }
}

/// Has a head read as it is of a client.
async fn accepted(input: &[u8]) -> Option<Judged> {
    let (mut client, server): (DuplexStream, DuplexStream) = duplex(1 << 17);
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend(frame(4, 0, 0, b""));
    sent.extend(frame(1, 4, 1, &block(input)));
    sent.extend(frame(6, 0, 0, b"the last"));
    client.write_all(&sent).await.ok()?;
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol();
    let mut connection = builder.handshake::<_, Bytes>(server).await.ok()?;
    let (request, _) = tokio::select! {
        biased;
        accepted = connection.accept() => accepted?.ok()?,
        // What was before it is no request.
        () = told(&mut client, b"the last") => return None,
    };
    let (parts, body) = request.into_parts();
    let (head, carried) = read(&parts, body.is_end_stream()).ok()?;
    Some(Addressed {
        host: head.host.clone(),
        port: stockade_types::Port::new(443)?,
        subject: stockade_types::Subject::default(),
        head,
        carried,
        shown: None,
        meaning: Vec::new(),
        body: None,
    })
}

/// A field as a server sees it: name and value.
type Seen = (Vec<u8>, Vec<u8>);

/// Returns what of a head a server can see, in no order; `own` are fields that carry the message.
fn seen(head: &Head, own: &[&str]) -> (String, String, Vec<u8>, Vec<Seen>) {
    let fields = head.fields.iter();
    let fields = fields.filter(|field| !own.iter().any(|name| field.is(name)));
    let lower = |name: &[u8]| name.to_ascii_lowercase();
    let mut fields: Vec<_> = fields
        .map(|field| (lower(field.name), field.value.to_vec()))
        .collect();
    fields.sort();
    let host = format!("{}:{:?}", head.host, head.port);
    (
        head.method.clone(),
        host,
        head.path.as_bytes().to_vec(),
        fields,
    )
}

/// Holds what a server of HTTP/1 reads against what was judged.
fn check_h1(judged: &Judged) {
    let text = to_h1(&judged.head, judged.carried);
    let (seen_head, length) = parse_request(&mut Scanner::default(), &text)
        .unwrap_or_else(|error| panic!("{error}: {}", text.escape_ascii()))
        .unwrap_or_else(|| panic!("no end: {}", text.escape_ascii()));
    assert_eq!(length, text.len(), "{}", text.escape_ascii());
    let own = [
        "host",
        "connection",
        "cookie",
        "transfer-encoding",
        "content-length",
        "te",
    ];
    assert_eq!(seen(&seen_head.head, &own), seen(&judged.head, &own));
}

/// The same for a server of HTTP/2.
fn check_h2(judged: &Judged) {
    let written = to_h2(&judged.head, judged.carried).unwrap_or_else(|error| panic!("{error}"));
    let (parts, ()) = written.into_parts();
    if judged.carried.websocket {
        assert_eq!(parts.method, "CONNECT");
    }
    let (again, carried) =
        read(&parts, judged.carried.is_whole).unwrap_or_else(|error| panic!("{error}: {judged:?}"));
    assert_eq!(seen(&again, &[]), seen(&judged.head, &[]));
    assert_eq!(carried, judged.carried);
}

fn samples() -> Vec<Vec<u8>> {
    let sample = |fields: &[(&str, &str)]| {
        let fields = fields.iter();
        let fields: Vec<Vec<u8>> = fields
            .map(|(name, value)| [name.as_bytes(), &[VALUE], value.as_bytes()].concat())
            .collect();
        fields.join(&FIELD)
    };
    let good = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/a/b?c=d"),
        (":authority", "good.test:8443"),
        ("content-length", "3"),
        ("te", "trailers"),
        ("cookie", "a=b"),
        ("cookie", "c=d"),
        ("x-a", "b"),
    ];
    let socket = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":path", "/socket"),
        (":authority", "good.test"),
    ];
    let bare = [
        (":method", "OPTIONS"),
        (":scheme", "https"),
        (":path", "*"),
        (":authority", "[2001:db8::1]"),
        ("host", "[2001:db8:0::1]"),
    ];
    vec![sample(&good), sample(&socket), sample(&bare)]
}

#[test]
fn fuzz_http2_request() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let samples = samples();
    for sample in &samples {
        let accepted = runtime.block_on(accepted(sample));
        assert!(accepted.is_some(), "{}", sample.escape_ascii());
    }
    let quoted = [&samples[0][..], b"\x1ex-\"\x1fb"].concat();
    assert!(runtime.block_on(accepted(&quoted)).is_none());
    let target = Target {
        name: "http2-request",
        samples,
        words: &[
            b"\r\n",
            b"\n",
            b"\0",
            b" ",
            b"\t",
            b":",
            b"\x1e",
            b"\x1f",
            b"\x1ehost\x1fgood.test",
            b"\x1e:path\x1f/evil",
            b"\x1etransfer-encoding\x1fchunked",
            b"\x1econnection\x1fclose",
            b"\x1econtent-length\x1f4",
            b" HTTP/1.1\r\nHost: evil.test\r\n\r\n",
            b"GET",
            b"https",
            b"\\",
            b"#",
            b"%2e%2e",
            b"@",
            b"\xc3\xa9",
            b"\xff",
        ],
        tries: 600,
    };
    stockade_fuzz::target(&target, |bytes| {
        if let Some(judged) = runtime.block_on(accepted(bytes)) {
            check_h2(&judged);
            if !judged.carried.websocket {
                check_h1(&judged);
            }
        }
    });
}
