//! Exports over HTTP/1 (OTLP specification, OTLP/HTTP).

use stockade_agents::otlp::{Encoding, Signal};
use tokio::time::timeout;

use super::{Exporter, Refused, body::Body};
use crate::{
    http::h1::{
        Malformed, Scanner,
        body::{self, Framing},
        chunked::{Manner, Piece},
        head::{RequestHead, parse_request},
        linger,
    },
    limits::{EXPORT_WAIT, HEAD_READ_BYTES, KEEP_ALIVE_WAIT, REFUSAL_WAIT},
    stream::Stream,
};

const JSON: &str = "application/json";
const BINARY: &str = "application/x-protobuf";

/// What a client is told.
#[derive(Clone, Copy)]
enum Told {
    Taken(Encoding),
    Refused(Refused),
    /// There is nothing at that path.
    NotThere,
    /// The form is not known.
    Form,
    /// The connection is not to be used on.
    NotRead(&'static str),
}

impl Told {
    const fn line(self) -> &'static str {
        match self {
            Self::Taken(_) => "200 OK",
            Self::Refused(Refused::TooMuch) => "429 Too Many Requests",
            Self::Refused(Refused::TooLong) => "413 Content Too Large",
            Self::Refused(Refused::Malformed(_)) | Self::NotRead(_) => "400 Bad Request",
            Self::NotThere => "404 Not Found",
            Self::Form => "415 Unsupported Media Type",
        }
    }

    fn body(self) -> String {
        match self {
            // What was exported is all taken: an empty message in either form.
            Self::Taken(Encoding::Binary) => String::new(),
            Self::Taken(Encoding::Json) => "{}".to_owned(),
            Self::Refused(why) => why.why().to_owned(),
            Self::NotThere => {
                "exports are taken at /v1/logs, /v1/traces and /v1/metrics".to_owned()
            }
            Self::Form => format!("an export is {BINARY} or {JSON}"),
            Self::NotRead(why) => why.to_owned(),
        }
    }

    const fn kind(self) -> &'static str {
        match self {
            Self::Taken(Encoding::Binary) => BINARY,
            Self::Taken(Encoding::Json) => JSON,
            Self::Refused(_) | Self::NotThere | Self::Form | Self::NotRead(_) => {
                "text/plain; charset=utf-8"
            }
        }
    }
}

/// Serves the exports of a connection, one after the other.
pub(super) async fn serve(exporter: &mut Exporter<'_>, stream: &mut Stream, mut read: Vec<u8>) {
    loop {
        let one = timeout(EXPORT_WAIT, request(exporter, stream, &mut read));
        let Ok(Some(told)) = one.await else {
            return;
        };
        if let Told::Refused(why) = told {
            exporter.receiver.refused(why);
        }
        let (line, kind, body) = (told.line(), told.kind(), told.body());
        let goes_on = matches!(told, Told::Taken(_));
        let after = if goes_on { "" } else { "Connection: close\r\n" };
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {line}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{after}\r\n{body}"
        );
        let sent = timeout(REFUSAL_WAIT, stream.write_all(answer.as_bytes()));
        if !matches!(sent.await, Ok(Ok(()))) {
            return;
        }
        if !goes_on {
            return linger(stream).await;
        }
        if read.is_empty() {
            let next = timeout(KEEP_ALIVE_WAIT, stream.fill(&mut read, HEAD_READ_BYTES));
            if !matches!(next.await, Ok(Ok(1..))) {
                return;
            }
        }
    }
}

/// Reads one request and takes what it exports; `None` if the client ends before it does.
async fn request(
    exporter: &mut Exporter<'_>,
    stream: &mut Stream,
    read: &mut Vec<u8>,
) -> Option<Told> {
    let mut scanner = Scanner::default();
    let RequestHead { head, carried } = loop {
        match parse_request(&mut scanner, read) {
            Ok(Some((head, length))) => {
                read.drain(..length);
                break head;
            }
            Ok(None) => {}
            Err(Malformed(why)) => return Some(Told::NotRead(why)),
        }
        more(stream, read).await?;
    };
    let path = head.path.as_bytes();
    let signal = match path.split(|byte| *byte == b'?').next() {
        Some(b"/v1/logs") => Signal::Logs,
        Some(b"/v1/traces") => Signal::Traces,
        Some(b"/v1/metrics") => Signal::Metrics,
        _ => return Some(Told::NotThere),
    };
    if head.method != "POST" {
        return Some(Told::NotThere);
    }
    let field = |name: &str| {
        let found = head.fields.iter().find(|field| field.is(name));
        found.map(|field| field.value.to_vec()).unwrap_or_default()
    };
    let form = field("content-type").to_ascii_lowercase();
    let encoding = match form.split(|byte| *byte == b';').next() {
        Some(form) if form.trim_ascii() == JSON.as_bytes() => Encoding::Json,
        Some(form) if form.trim_ascii() == BINARY.as_bytes() => Encoding::Binary,
        _ => return Some(Told::Form),
    };
    if field("expect").eq_ignore_ascii_case(b"100-continue") {
        stream
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            .await
            .ok()?;
    }
    let body = Body::new(exporter.receiver.room(), &field("content-encoding"));
    let held = match body {
        Ok(body) => content(stream, read, carried.framing, body).await?,
        Err(refused) => Err(refused),
    };
    let taken = match held {
        Ok(held) => exporter.export(signal, encoding, held).await,
        Err(refused) => Err(refused),
    };
    Some(match taken {
        Ok(()) => Told::Taken(encoding),
        Err(refused) => Told::Refused(refused),
    })
}

/// Reads a body, or as much of it as shows that it is not taken.
async fn content(
    stream: &mut Stream,
    read: &mut Vec<u8>,
    framing: Framing,
    mut to: Body,
) -> Option<Result<super::body::Held, Refused>> {
    let mut body = body::Body::new(framing, Manner::Strict);
    while !body.is_done() {
        if read.is_empty() {
            more(stream, read).await?;
        }
        let mut fed = Ok(());
        let used = body.read(read, |piece| {
            if let (Piece::Data(bytes), Ok(())) = (piece, fed) {
                fed = to.feed(bytes);
            }
        });
        let Ok(used) = used else {
            return Some(Err(Refused::Malformed("its chunks cannot be read")));
        };
        if let Err(refused) = fed {
            return Some(Err(refused));
        }
        read.drain(..used);
    }
    Some(to.finish())
}

/// Reads on; `None` at the end.
async fn more(stream: &mut Stream, read: &mut Vec<u8>) -> Option<()> {
    matches!(stream.fill(read, HEAD_READ_BYTES).await, Ok(1..)).then_some(())
}
