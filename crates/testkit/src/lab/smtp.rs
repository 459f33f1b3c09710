//! A relay of mail that takes what it is sent and remembers it, with TLS from the beginning or by STARTTLS.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{Certificate, Connection, Listener, loopback};

/// Bytes of a line that it reads.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// What a relay does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayRules {
    /// Whether TLS begins with the connection; otherwise it is offered.
    pub implicit: bool,
    /// Whether STARTTLS is offered, if TLS does not begin with the connection.
    pub offers_tls: bool,
    /// What is said in clear behind the reply to STARTTLS.
    pub injects: String,
    /// The name and password without which it takes nothing.
    pub login: Option<(String, String)>,
    /// Ways to log in that it offers.
    pub ways: String,
}

impl Default for RelayRules {
    fn default() -> Self {
        Self {
            implicit: false,
            offers_tls: true,
            injects: String::new(),
            login: None,
            ways: "PLAIN LOGIN".to_owned(),
        }
    }
}

/// A message that a relay has taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    /// The sender of the envelope.
    pub from: String,
    /// The receivers of the envelope.
    pub to: Vec<String>,
    /// The header fields, in order.
    pub headers: Vec<(String, String)>,
    /// The text, with its base64 removed.
    pub text: String,
}

impl Letter {
    /// Returns the values of a header field.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let all = self.headers.iter();
        let named = all.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }
}

#[derive(Debug, Default)]
struct Taken {
    letters: Mutex<Vec<Letter>>,
    /// Commands that came in clear.
    clear: Mutex<Vec<String>>,
}

/// A relay of mail on loopback; dropping it closes every connection.
#[derive(Debug)]
pub struct Relay {
    listener: Listener,
    taken: Arc<Taken>,
    certificate_pem: String,
}

impl Relay {
    /// Starts one for `localhost`.
    pub fn start(rules: RelayRules) -> Self {
        let certificate = Certificate::new(&["localhost"]);
        let config = Arc::new(certificate.server());
        let taken = Arc::new(Taken::default());
        let shared = Arc::clone(&taken);
        let listener = Listener::start(loopback(), move |connection| {
            let talk = Talk {
                rules: &rules,
                taken: &shared,
            };
            talk.begin(connection, Arc::clone(&config))
        });
        Self {
            listener,
            taken,
            certificate_pem: certificate.pem().to_owned(),
        }
    }

    /// Returns the port it listens on.
    pub fn port(&self) -> u16 {
        let address: SocketAddr = self.listener.address();
        address.port()
    }

    /// Returns the certificate by which it is known, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Returns what it has taken.
    pub fn letters(&self) -> Vec<Letter> {
        let letters = self.taken.letters.lock();
        letters.expect("no thread panicked with it").clone()
    }

    /// Returns the commands that came in clear.
    pub fn in_clear(&self) -> Vec<String> {
        let clear = self.taken.clear.lock();
        clear.expect("no thread panicked with it").clone()
    }
}

struct Talk<'a> {
    rules: &'a RelayRules,
    taken: &'a Taken,
}

impl Talk<'_> {
    fn begin(&self, connection: Connection, config: Arc<ServerConfig>) -> io::Result<()> {
        let secured = |connection| -> io::Result<_> {
            let session = ServerConnection::new(config).map_err(io::Error::other)?;
            Ok(StreamOwned::new(session, connection))
        };
        if self.rules.implicit {
            let mut stream = BufReader::new(secured(connection)?);
            stream.get_mut().write_all(b"220 relay.test\r\n")?;
            stream.get_mut().flush()?;
            return self.secured(&mut stream);
        }
        let mut stream = BufReader::new(connection);
        stream.get_mut().write_all(b"220 relay.test\r\n")?;
        loop {
            let Some(line) = line(&mut stream)? else {
                return Ok(());
            };
            let clear = self.taken.clear.lock();
            clear
                .expect("no thread panicked with it")
                .push(line.clone());
            let out = stream.get_mut();
            match line.split(' ').next().unwrap_or_default() {
                "EHLO" if self.rules.offers_tls => {
                    out.write_all(b"250-relay.test\r\n250 STARTTLS\r\n")?;
                }
                "EHLO" => out.write_all(b"250 relay.test\r\n")?,
                "STARTTLS" if self.rules.offers_tls => {
                    out.write_all(format!("220 go\r\n{}", self.rules.injects).as_bytes())?;
                    let mut stream = BufReader::new(secured(stream.into_inner())?);
                    return self.secured(&mut stream);
                }
                "QUIT" => return out.write_all(b"221 bye\r\n"),
                _ => out.write_all(b"530 TLS first\r\n")?,
            }
        }
    }

    fn secured<S: Read + Write>(&self, stream: &mut BufReader<S>) -> io::Result<()> {
        let mut letter = Letter::default();
        let mut is_in = self.rules.login.is_none();
        while let Some(said) = line(stream)? {
            let (word, rest) = said.split_once(' ').unwrap_or((&said, ""));
            let answer = match word {
                "EHLO" => format!(
                    "250-relay.test\r\n250-8BITMIME\r\n250 AUTH {}",
                    self.rules.ways
                ),
                "AUTH" => {
                    is_in = self.log_in(rest, stream)?;
                    let answer = if is_in { "235 in" } else { "535 no" };
                    answer.to_owned()
                }
                "MAIL" | "RCPT" | "DATA" if !is_in => "530 log in first".to_owned(),
                "MAIL" => {
                    letter.from = address(rest);
                    "250 ok".to_owned()
                }
                "RCPT" if rest.contains("nobody@") => "550 no such mailbox".to_owned(),
                "RCPT" => {
                    letter.to.push(address(rest));
                    "250 ok".to_owned()
                }
                "DATA" => {
                    stream.get_mut().write_all(b"354 go\r\n")?;
                    stream.get_mut().flush()?;
                    read(stream, &mut letter)?;
                    let letters = self.taken.letters.lock();
                    let mut letters = letters.expect("no thread panicked with it");
                    letters.push(std::mem::take(&mut letter));
                    "250 taken".to_owned()
                }
                "QUIT" => "221 bye".to_owned(),
                _ => "500 unknown".to_owned(),
            };
            stream
                .get_mut()
                .write_all(format!("{answer}\r\n").as_bytes())?;
            stream.get_mut().flush()?;
        }
        Ok(())
    }

    fn log_in<S: Read + Write>(&self, rest: &str, stream: &mut BufReader<S>) -> io::Result<bool> {
        let text = |coded: &str| {
            let bytes = STANDARD.decode(coded).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let given = if let Some(("PLAIN", both)) = rest.split_once(' ') {
            text(both)
        } else {
            let mut given = String::new();
            for _ in 0..2 {
                stream.get_mut().write_all(b"334 \r\n")?;
                stream.get_mut().flush()?;
                given.push('\0');
                given.push_str(&text(&line(stream)?.unwrap_or_default()));
            }
            given
        };
        let wanted = self.rules.login.as_ref();
        Ok(wanted.is_none_or(|(name, password)| given == format!("\0{name}\0{password}")))
    }
}

fn address(rest: &str) -> String {
    let inner = rest
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    inner.map_or(rest, |(address, _)| address).to_owned()
}

fn line(stream: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    if stream.take(LINE_BYTES_MAX).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Reads a message up to the line with a dot alone.
fn read(stream: &mut impl BufRead, letter: &mut Letter) -> io::Result<()> {
    let mut body = String::new();
    let mut in_body = false;
    while let Some(line) = line(stream)? {
        if line == "." {
            break;
        }
        let line = line.strip_prefix('.').unwrap_or(&line);
        if in_body {
            body.push_str(line);
        } else if let Some((name, value)) = line.split_once(": ") {
            letter.headers.push((name.to_owned(), value.to_owned()));
        } else {
            in_body = line.is_empty();
        }
    }
    let bytes = STANDARD.decode(&body).map_err(io::Error::other)?;
    letter.text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(())
}
