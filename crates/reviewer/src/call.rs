//! The process that talks to the model: it has the key and one question, and nothing of the session. The
//! supervisor starts one for each question and ends it when its time is over; what it prints is data.

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs as _},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde::{Deserialize, Serialize};
use stockade_policy::ModelEndpoint;
use stockade_types::ignored;

/// Bytes of a job.
const JOB_BYTES_MAX: u64 = 1 << 20;
/// Bytes of the head and of the body of an answer.
const HEAD_BYTES_MAX: usize = 16 << 10;
const BODY_BYTES_MAX: usize = 128 << 10;
/// Header fields of an answer.
const FIELDS_MAX: usize = 64;
/// Bytes of what this process prints at most: a body, each byte of which may be written with six.
pub const SAID_BYTES_MAX: u64 = 1 << 20;
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;

/// What to ask, and where.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// Where.
    pub endpoint: ModelEndpoint,
    /// What.
    pub body: String,
    /// The key, if one is needed.
    pub key: Option<String>,
    /// How long it may take, in milliseconds.
    pub timeout_ms: u64,
    /// Files with the authorities that vouch for servers; the first that can be read counts.
    pub authorities: Vec<PathBuf>,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    /// The body of an answer with status 200.
    Body(String),
    /// There was none.
    Failed(String),
}

/// Runs the process: a job on standard input, what came of it on standard output.
pub fn main() -> i32 {
    let mut text = String::new();
    let read = io::stdin().take(JOB_BYTES_MAX).read_to_string(&mut text);
    let job = match read {
        Ok(_) => serde_json::from_str::<Job>(&text).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let said = match job.and_then(|job| ask(&job)) {
        Ok(body) => Said::Body(body),
        Err(why) => Said::Failed(why),
    };
    let written = serde_json::to_vec(&said).map_err(io::Error::other);
    let written = written.and_then(|bytes| io::stdout().write_all(&bytes));
    i32::from(written.is_err())
}

/// The time that is left of a call.
struct Deadline(Instant);

impl Deadline {
    fn left(&self) -> Result<Duration, String> {
        let left = self.0.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("it took too long".to_owned());
        }
        Ok(left)
    }
}

fn ask(job: &Job) -> Result<String, String> {
    let deadline = Deadline(Instant::now() + Duration::from_millis(job.timeout_ms));
    let stream = connect(job, &deadline)?;
    let sent = request(job);
    let answer = if job.endpoint.tls {
        let name = ServerName::try_from(job.endpoint.host.clone());
        let name = name.map_err(|error| error.to_string())?;
        let connection = ClientConnection::new(Arc::new(tls(job)?), name);
        let connection = connection.map_err(|error| error.to_string())?;
        let mut stream = StreamOwned::new(connection, stream);
        exchange(&mut stream, |stream| &stream.sock, &sent, &deadline)?
    } else {
        let mut stream = stream;
        exchange(&mut stream, |stream| stream, &sent, &deadline)?
    };
    body_of(&answer)
}

fn connect(job: &Job, deadline: &Deadline) -> Result<TcpStream, String> {
    let place = (job.endpoint.host.as_str(), job.endpoint.port);
    let addresses = place.to_socket_addrs();
    let addresses = addresses.map_err(|error| format!("its name is not found: {error}"))?;
    let mut why = "it has no address".to_owned();
    for address in addresses.take(ADDRESSES_MAX) {
        match TcpStream::connect_timeout(&address, deadline.left()?) {
            Ok(stream) => return Ok(stream),
            Err(error) => why = format!("it is not reached: {error}"),
        }
    }
    Err(why)
}

fn tls(job: &Job) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for path in &job.authorities {
        let Ok(bytes) = std::fs::read(path) else {
            continue;
        };
        for certificate in CertificateDer::pem_slice_iter(&bytes).flatten() {
            ignored(
                roots.add(certificate),
                "one that cannot be read vouches for nobody",
            );
        }
        if !roots.is_empty() {
            break;
        }
    }
    if roots.is_empty() {
        return Err("this machine has no file with authorities".to_owned());
    }
    Ok(ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn request(job: &Job) -> Vec<u8> {
    let endpoint = &job.endpoint;
    let place = endpoint.to_string();
    let place = place.split_once("://").map_or("", |(_, rest)| rest);
    let host = place.split('/').next().unwrap_or_default();
    let key = job.key.as_ref();
    let key = key.map(|key| format!("authorization: Bearer {key}\r\n"));
    let head = format!(
        "POST {}/chat/completions HTTP/1.1\r\nhost: {host}\r\nuser-agent: stockade\r\n\
         content-type: application/json\r\naccept: application/json\r\naccept-encoding: identity\r\n\
         connection: close\r\n{}content-length: {}\r\n\r\n",
        endpoint.path,
        key.unwrap_or_default(),
        job.body.len()
    );
    [head.as_bytes(), job.body.as_bytes()].concat()
}

/// Sends a request and reads what comes, until the end of the connection or of the answer.
fn exchange<S: Read + Write>(
    stream: &mut S,
    socket: impl Fn(&S) -> &TcpStream,
    sent: &[u8],
    deadline: &Deadline,
) -> Result<Vec<u8>, String> {
    let failed = |error: io::Error| format!("the connection failed: {error}");
    let wait = |stream: &S| {
        let left = Some(deadline.left()?);
        let socket = socket(stream);
        let set = socket.set_read_timeout(left);
        set.and_then(|()| socket.set_write_timeout(left))
            .map_err(failed)
    };
    wait(stream)?;
    stream.write_all(sent).map_err(failed)?;
    stream.flush().map_err(failed)?;
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        wait(stream)?;
        let count = match stream.read(&mut chunk) {
            Ok(count) => count,
            // Some servers close without the goodbye of TLS; whether all is there is told by its length.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                return Err("it took too long".to_owned());
            }
            Err(error) => return Err(failed(error)),
        };
        bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if bytes.len() > HEAD_BYTES_MAX + BODY_BYTES_MAX {
            return Err(format!("its answer has more than {BODY_BYTES_MAX} bytes"));
        }
        if count == 0 || body_of(&bytes).is_ok() {
            return Ok(bytes);
        }
    }
}

/// Returns the whole body of an answer with status 200.
fn body_of(bytes: &[u8]) -> Result<String, String> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Response::new(&mut fields);
    let parsed = head.parse(bytes);
    let parsed = parsed.map_err(|error| format!("its answer is not HTTP: {error}"))?;
    let httparse::Status::Complete(length) = parsed else {
        return Err("its answer ended early".to_owned());
    };
    let status = head.code.unwrap_or_default();
    if status != 200 {
        return Err(format!("it answered with status {status}"));
    }
    let field = |name: &str| {
        let mut all = head.headers.iter();
        let found = all.find(|field| field.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    let rest = bytes.get(length..).unwrap_or_default();
    let body = if field("transfer-encoding").is_some_and(|coding| coding.trim() == "chunked") {
        unchunked(rest)?
    } else {
        let length = field("content-length").and_then(|text| text.trim().parse::<usize>().ok());
        let length = length.ok_or("its answer does not say how long it is")?;
        let body = rest.get(..length).ok_or("its answer ended early")?;
        body.to_vec()
    };
    if body.len() > BODY_BYTES_MAX {
        return Err(format!("its answer has more than {BODY_BYTES_MAX} bytes"));
    }
    String::from_utf8(body).map_err(|_| "its answer is not text".to_owned())
}

/// Takes a body out of its chunks.
fn unchunked(mut rest: &[u8]) -> Result<Vec<u8>, String> {
    const EARLY: &str = "its answer ended early";
    let mut body = Vec::new();
    loop {
        let size = httparse::parse_chunk_size(rest).map_err(|_| "its answer has a broken chunk")?;
        let httparse::Status::Complete((start, size)) = size else {
            return Err(EARLY.to_owned());
        };
        if size == 0 {
            return Ok(body);
        }
        let size = usize::try_from(size).map_err(|_| EARLY)?;
        let end = start.checked_add(size).ok_or(EARLY)?;
        let chunk = rest.get(start..end).ok_or(EARLY)?;
        body.extend_from_slice(chunk);
        rest = rest
            .get(end..)
            .and_then(|rest| rest.strip_prefix(b"\r\n"))
            .ok_or(EARLY)?;
    }
}

#[cfg(test)]
mod tests {
    use super::{Job, body_of, request};

    #[test]
    fn an_answer_is_whole_or_none() {
        let whole = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody";
        let chunks =
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n";
        for text in [whole, chunks] {
            assert_eq!(body_of(text.as_bytes()), Ok("body".to_owned()));
            // Not one byte of the body less.
            for end in 0..text.len() - 5 {
                assert!(body_of(&text.as_bytes()[..end]).is_err(), "{end}");
            }
        }
        for text in [
            "HTTP/1.1 429 Too Many\r\ncontent-length: 4\r\n\r\nbody",
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nbody",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\u{e9}",
        ] {
            let said = body_of(text.as_bytes());
            assert!(said.is_err() || text.contains('\u{e9}'), "{said:?}");
        }
        assert!(body_of(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\xff\xfe").is_err());
    }

    #[test]
    fn a_request_has_its_key_in_one_field() {
        let job = Job {
            endpoint: "https://models.test/v1".parse().expect("a URL"),
            body: "{}".to_owned(),
            key: Some("sk-1".to_owned()),
            timeout_ms: 1,
            authorities: Vec::new(),
        };
        let text = String::from_utf8(request(&job)).expect("text");
        assert!(
            text.starts_with("POST /v1/chat/completions HTTP/1.1\r\nhost: models.test:443\r\n")
        );
        assert!(
            text.contains("\r\nauthorization: Bearer sk-1\r\n") && text.ends_with("\r\n\r\n{}")
        );
    }
}
