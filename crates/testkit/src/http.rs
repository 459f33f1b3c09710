//! The small part of HTTP/1.1 that the servers of the laboratory need (RFC 9112).

use std::io::{self, BufRead, Read, Write};

use serde_json::Value;

/// Largest head of a request: twice the limit of common servers, so that a test can send too much
/// to the product without the laboratory failing first.
const HEAD_BYTES_MAX: usize = 128 * 1024;
/// Most header fields of one request.
const HEADERS_MAX: usize = 256;
/// Largest body: an agent posts its whole context with every turn, a few hundred kilobytes.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Method as written.
    pub method: String,
    /// Request target as written: path and query, or an absolute URL.
    pub target: String,
    /// Header fields in order; names as written.
    pub headers: Vec<(String, String)>,
    /// Body, with chunked coding removed.
    pub body: Vec<u8>,
}

impl Request {
    /// Returns the first value of a header field; names are compared without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Returns the target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Returns the body as JSON, or null if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Returns the body as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn chunked(&self) -> bool {
        self.header("transfer-encoding")
            .is_some_and(|v| v.eq_ignore_ascii_case("chunked"))
    }

    pub(crate) fn keep_alive(&self) -> bool {
        !self
            .header("connection")
            .is_some_and(|v| v.eq_ignore_ascii_case("close"))
    }
}

/// An answer with a body of known length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header fields other than `Content-Length` and `Connection`.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Response {
    /// Makes a plain-text answer.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        let body = body.into().into_bytes();
        Self {
            status,
            headers: vec![("Content-Type".into(), "text/plain".into())],
            body,
        }
    }

    /// Makes a JSON answer.
    pub fn json(status: u16, body: &Value) -> Self {
        let headers = vec![("Content-Type".into(), "application/json".into())];
        Self {
            status,
            headers,
            body: body.to_string().into_bytes(),
        }
    }

    /// Adds a header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes the answer.
    ///
    /// # Errors
    /// When the peer cannot be written to.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        // In one write: small writes would suffer the delays of Nagle's algorithm.
        let mut bytes = Vec::new();
        write!(bytes, "HTTP/1.1 {} Laboratory\r\n", self.status)?;
        for (name, value) in &self.headers {
            write!(bytes, "{name}: {value}\r\n")?;
        }
        write!(bytes, "Content-Length: {}\r\n\r\n", self.body.len())?;
        bytes.extend(&self.body);
        out.write_all(&bytes)?;
        out.flush()
    }
}

/// Server-sent events (WHATWG HTML, section 9.2) as a chunked answer.
#[derive(Debug)]
pub struct EventStream<'a, W: Write> {
    out: &'a mut W,
}

impl<'a, W: Write> EventStream<'a, W> {
    /// Writes the head of the answer.
    ///
    /// # Errors
    /// When the peer cannot be written to.
    pub fn start(out: &'a mut W) -> io::Result<Self> {
        out.write_all(
            b"HTTP/1.1 200 Laboratory\r\nContent-Type: text/event-stream\r\n\
              Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n",
        )?;
        Ok(Self { out })
    }

    /// Writes one event; some clients take none that has a name, so that an empty one is not sent.
    ///
    /// # Errors
    /// When the peer cannot be written to.
    pub fn send(&mut self, event: &str, data: &Value) -> io::Result<()> {
        let name = match event {
            "" => String::new(),
            event => format!("event: {event}\n"),
        };
        let text = format!("{name}data: {data}\n\n");
        write!(self.out, "{:x}\r\n{text}\r\n", text.len())?;
        self.out.flush()
    }

    /// Writes the end of the answer.
    ///
    /// # Errors
    /// When the peer cannot be written to.
    pub fn finish(self) -> io::Result<()> {
        self.out.write_all(b"0\r\n\r\n")?;
        self.out.flush()
    }
}

/// Reads the next request; `None` when the peer has closed between two requests.
///
/// # Errors
/// When the peer cannot be read, closes in mid-request, or sends something that is not HTTP/1.1 or
/// exceeds the bounds of this module.
pub fn read(input: &mut impl BufRead, interim: &mut impl Write) -> io::Result<Option<Request>> {
    let Some(head) = read_head(input)? else {
        return Ok(None);
    };
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    let complete = parsed
        .parse(&head)
        .map_err(|e| invalid(&format!("not HTTP/1.1: {e}")))?;
    if complete.is_partial() {
        return Err(invalid("the head of the request is not complete"));
    }
    let mut request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        target: parsed.path.unwrap_or_default().to_owned(),
        headers: parsed
            .headers
            .iter()
            .map(|h| {
                (
                    h.name.to_owned(),
                    String::from_utf8_lossy(h.value).into_owned(),
                )
            })
            .collect(),
        body: Vec::new(),
    };
    if request
        .header("expect")
        .is_some_and(|v| v.eq_ignore_ascii_case("100-continue"))
    {
        interim.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        interim.flush()?;
    }
    request.body = if request.chunked() {
        read_chunked(input)?
    } else {
        let bytes = request
            .header("content-length")
            .map_or(Ok(0), str::parse::<usize>);
        read_exactly(
            input,
            bytes.map_err(|_| invalid("`Content-Length` is not a number"))?,
        )?
    };
    Ok(Some(request))
}

/// Answers requests on one connection until the peer closes it or requests that.
///
/// # Errors
/// When the peer cannot be read or written, or does not speak HTTP/1.1.
pub fn serve(
    input: &mut impl BufRead,
    out: &mut impl Write,
    mut answer: impl FnMut(Request) -> Response,
) -> io::Result<()> {
    while let Some(request) = read(input, out)? {
        let keep_alive = request.keep_alive();
        answer(request).write(out)?;
        if !keep_alive {
            break;
        }
    }
    Ok(())
}

fn read_head(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let room = u64::try_from(HEAD_BYTES_MAX - head.len()).unwrap_or(0);
        let read = input.by_ref().take(room).read_until(b'\n', &mut head)?;
        if read == 0 && head.is_empty() {
            return Ok(None);
        }
        if read == 0 {
            return Err(invalid(
                "the head of the request ends early or is too large",
            ));
        }
    }
    Ok(Some(head))
}

fn read_chunked(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        input.read_line(&mut line)?;
        let digits = line.trim().split(';').next().unwrap_or_default();
        let bytes = usize::from_str_radix(digits, 16)
            .map_err(|_| invalid(&format!("`{digits}` is not the size of a chunk")))?;
        if body.len().saturating_add(bytes) > BODY_BYTES_MAX {
            return Err(invalid("the body is too large"));
        }
        body.extend_from_slice(&read_exactly(input, bytes)?);
        let mut end = String::new();
        input.read_line(&mut end)?;
        if bytes == 0 {
            return Ok(body);
        }
    }
}

fn read_exactly(input: &mut impl BufRead, bytes: usize) -> io::Result<Vec<u8>> {
    if bytes > BODY_BYTES_MAX {
        return Err(invalid("the body is too large"));
    }
    let mut body = vec![0; bytes];
    input.read_exact(&mut body)?;
    Ok(body)
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{EventStream, Request, Response, read, serve};
    use serde_json::json;

    fn parse(text: &str) -> std::io::Result<Option<Request>> {
        read(&mut text.as_bytes(), &mut Vec::new())
    }

    #[test]
    fn bodies_of_both_framings_arrive() {
        let sized = parse("POST /a?b=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcREST");
        let sized = sized.unwrap().unwrap();
        assert_eq!((sized.path(), sized.text().as_str()), ("/a", "abc"));
        assert_eq!(sized.header("HOST"), Some("x"));
        let chunks = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
                      2\r\n{}\r\n1;x=y\r\n \r\n0\r\n\r\n";
        assert_eq!(parse(chunks).unwrap().unwrap().json(), json!({}));
    }

    #[test]
    fn what_is_not_a_request_is_an_error() {
        assert_eq!(parse("").unwrap(), None);
        for text in [
            "GET / HT",
            "\u{1}\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_connection_carries_several_requests_and_closes_when_asked() {
        let mut input =
            "GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\nConnection: close\r\n\r\nGET /3".as_bytes();
        let mut out = Vec::new();
        let mut seen = Vec::new();
        serve(&mut input, &mut out, |request| {
            seen.push(request.target);
            Response::text(200, "ok")
        })
        .unwrap();
        assert_eq!(seen, ["/1", "/2"]);
        assert_eq!(
            String::from_utf8(out)
                .unwrap()
                .matches("\r\n\r\nok")
                .count(),
            2
        );
    }

    #[test]
    fn events_are_chunks() {
        let mut out = Vec::new();
        let mut stream = EventStream::start(&mut out).unwrap();
        stream.send("x", &json!(1)).unwrap();
        stream.finish().unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.ends_with("12\r\nevent: x\ndata: 1\n\n\r\n0\r\n\r\n"),
            "{text}"
        );
    }
}
