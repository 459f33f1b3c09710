//! A name server that records every question and answers from a script (RFC 1035).

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use super::{Connection, Listener};

/// Largest message over UDP that a client may announce (EDNS, RFC 6891).
const MESSAGE_BYTES_MAX: usize = 4096;
/// Tries to find a port that is free for both UDP and TCP; another process seldom takes one of them
/// in between.
const PORT_TRIES: usize = 20;
/// Lifetime of an answer in seconds: zero, so that no client caches an answer that a test changes.
const TTL_SECONDS: u32 = 0;

const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_AAAA: u16 = 28;
const RCODE_SERVFAIL: u8 = 2;
const RCODE_NXDOMAIN: u8 = 3;

/// A question that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsQuery {
    /// Name in lower case without the final dot.
    pub name: String,
    /// Type as a number (1 is A, 28 is AAAA).
    pub kind: u16,
    /// Whether it came over TCP.
    pub tcp: bool,
}

/// The server's answer to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsAnswer {
    /// These addresses, as far as they are of the type that was asked for.
    Addresses(Vec<IpAddr>),
    /// An alias and the addresses of its target.
    Alias(String, Vec<IpAddr>),
    /// The name does not exist.
    NoSuchName,
    /// The server failed.
    Failure,
    /// An answer to a different question, as a forger would send.
    Forged(Vec<IpAddr>),
    /// Over UDP an empty answer with the truncation bit; over TCP these addresses.
    Truncated(Vec<IpAddr>),
    /// No answer.
    Silence,
}

/// A name server on one port of 127.0.0.1, UDP and TCP.
pub struct DnsServer {
    address: SocketAddr,
    script: Arc<Script>,
    stop: Arc<AtomicBool>,
    answering: Option<JoinHandle<()>>,
    tcp: Listener,
}

#[derive(Debug, Default)]
struct Script {
    answers: Mutex<HashMap<String, VecDeque<DnsAnswer>>>,
    queries: Mutex<Vec<DnsQuery>>,
}

impl DnsServer {
    /// Starts a server; each name has its answers in order, and the last one stays. Names without
    /// answers do not exist.
    pub fn start(answers: &[(&str, &[DnsAnswer])]) -> Self {
        let answers = answers
            .iter()
            .map(|(name, answers)| (name.to_ascii_lowercase(), answers.iter().cloned().collect()))
            .collect();
        let script = Arc::new(Script {
            answers: Mutex::new(answers),
            ..Script::default()
        });
        let (udp, tcp) = bind_both(&script);
        let address = tcp.address();
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&script), Arc::clone(&stop));
        let answering = Some(thread::spawn(move || answer_udp(&udp, &shared, &stopped)));
        Self {
            address,
            script,
            stop,
            answering,
            tcp,
        }
    }

    /// Returns the address it listens on, for UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns every question so far.
    pub fn queries(&self) -> Vec<DnsQuery> {
        self.script
            .queries
            .lock()
            .expect("no thread panicked with the record")
            .clone()
    }

    /// Ends the test unless no question and no connection reached this server.
    pub fn assert_untouched(&self) {
        let (queries, traffic) = (self.queries(), self.tcp.traffic());
        super::assert_untouched("name server", self.address, traffic, &queries);
        assert!(
            queries.is_empty(),
            "expected that no name is asked for, saw {queries:?}"
        );
    }
}

impl fmt::Debug for DnsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsServer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) {
            drop(socket.send_to(&[], self.address));
        }
        if let Some(thread) = self.answering.take() {
            drop(thread.join());
        }
    }
}

impl Script {
    fn answer(&self, message: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let question = Question::parse(message)?;
        let query = DnsQuery {
            name: question.name.clone(),
            kind: question.kind,
            tcp,
        };
        self.queries
            .lock()
            .expect("no thread panicked with the record")
            .push(query);
        let mut answers = self
            .answers
            .lock()
            .expect("no thread panicked with the script");
        let left = answers.get_mut(&question.name);
        let answer = left.map_or(Some(DnsAnswer::NoSuchName), |left| {
            // The last answer is repeated.
            if left.len() > 1 {
                left.pop_front()
            } else {
                left.front().cloned()
            }
        })?;
        question.reply(&answer, tcp)
    }
}

struct Question {
    id: [u8; 2],
    name: String,
    kind: u16,
    /// The question section as it came, for the answer.
    section: Vec<u8>,
}

impl Question {
    fn parse(message: &[u8]) -> Option<Self> {
        let id = message.get(..2)?.try_into().ok()?;
        let body = message.get(12..)?;
        let mut labels: Vec<String> = Vec::new();
        let mut at = 0;
        loop {
            let length = usize::from(*body.get(at)?);
            let label = body.get(at + 1..at + 1 + length)?;
            at += 1 + length;
            if length == 0 {
                break;
            }
            labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        }
        let kind = u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?);
        Some(Self {
            id,
            name: labels.join("."),
            kind,
            section: body.get(..at + 4)?.to_vec(),
        })
    }

    fn reply(&self, answer: &DnsAnswer, tcp: bool) -> Option<Vec<u8>> {
        let reply = match answer {
            DnsAnswer::Silence => return None,
            DnsAnswer::NoSuchName => self.message(RCODE_NXDOMAIN, false, &self.section, &[]),
            DnsAnswer::Failure => self.message(RCODE_SERVFAIL, false, &self.section, &[]),
            DnsAnswer::Truncated(_) if !tcp => self.message(0, true, &self.section, &[]),
            DnsAnswer::Addresses(all) | DnsAnswer::Truncated(all) => {
                self.message(0, false, &self.section, &self.records(&[0xC0, 12], all))
            }
            DnsAnswer::Alias(target, all) => {
                let target = encode_name(target);
                let mut records = vec![record(&[0xC0, 12], TYPE_CNAME, &target)];
                records.extend(self.records(&target, all));
                self.message(0, false, &self.section, &records)
            }
            DnsAnswer::Forged(all) => {
                let mut section = encode_name("forged.test");
                section.extend(self.kind.to_be_bytes());
                section.extend([0, 1]);
                self.message(0, false, &section, &self.records(&[0xC0, 12], all))
            }
        };
        Some(reply)
    }

    fn records(&self, owner: &[u8], addresses: &[IpAddr]) -> Vec<Vec<u8>> {
        addresses
            .iter()
            .filter_map(|address| match (address, self.kind) {
                (IpAddr::V4(v4), TYPE_A) => Some(record(owner, TYPE_A, &v4.octets())),
                (IpAddr::V6(v6), TYPE_AAAA) => Some(record(owner, TYPE_AAAA, &v6.octets())),
                _ => None,
            })
            .collect()
    }

    fn message(&self, rcode: u8, truncated: bool, section: &[u8], records: &[Vec<u8>]) -> Vec<u8> {
        let count = u16::try_from(records.len()).expect("a script has few records");
        let mut message = self.id.to_vec();
        // Response, recursion desired and available.
        message.extend([0x81 | if truncated { 0x02 } else { 0 }, 0x80 | rcode]);
        message.extend([0, 1]);
        message.extend(count.to_be_bytes());
        message.extend([0; 4]);
        message.extend(section);
        message.extend(records.concat());
        message
    }
}

fn record(owner: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("a name or an address is short");
    let mut record = owner.to_vec();
    record.extend(kind.to_be_bytes());
    record.extend([0, 1]);
    record.extend(TTL_SECONDS.to_be_bytes());
    record.extend(length.to_be_bytes());
    record.extend(data);
    record
}

fn encode_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).expect("a label has at most 63 bytes"));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

fn bind_both(script: &Arc<Script>) -> (UdpSocket, Listener) {
    for _ in 0..PORT_TRIES {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port for UDP");
        let address = udp.local_addr().expect("a socket has an address");
        // Tried first, because the listener itself treats a port in use as a broken test.
        if std::net::TcpListener::bind(address).is_ok() {
            let script = Arc::clone(script);
            let tcp = Listener::start(address, move |mut c| answer_tcp(&mut c, &script));
            return (udp, tcp);
        }
    }
    panic!("expected a port that is free for UDP and TCP, found none in {PORT_TRIES} tries");
}

fn answer_udp(socket: &UdpSocket, script: &Script, stop: &AtomicBool) {
    let mut buffer = [0; MESSAGE_BYTES_MAX];
    loop {
        let received = socket.recv_from(&mut buffer);
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok((length, peer)) = received else {
            continue;
        };
        let message = buffer.get(..length).unwrap_or_default();
        if let Some(reply) = script.answer(message, false) {
            // If a client is already gone, the server has not failed.
            drop(socket.send_to(&reply, peer));
        }
    }
}

fn answer_tcp(connection: &mut Connection, script: &Script) -> io::Result<()> {
    loop {
        let mut length = [0; 2];
        connection.read_exact(&mut length)?;
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        connection.read_exact(&mut message)?;
        if let Some(reply) = script.answer(&message, true) {
            let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
            connection.write_all(&[&length.to_be_bytes(), reply.as_slice()].concat())?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{Ipv4Addr, TcpStream, UdpSocket},
        time::Duration,
    };

    use super::{DnsAnswer, DnsServer, TYPE_A, TYPE_AAAA, encode_name};

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(encode_name(name));
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    fn ask(server: &DnsServer, name: &str, kind: u16) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        socket
            .send_to(&question(name, kind), server.address())
            .unwrap();
        let mut reply = [0; 512];
        let (length, _) = socket.recv_from(&mut reply).ok()?;
        Some(reply[..length].to_vec())
    }

    #[test]
    fn answers_come_in_order_and_the_last_one_stays() {
        let good = DnsAnswer::Addresses(vec!["192.0.2.1".parse().unwrap()]);
        let bad = DnsAnswer::Addresses(vec!["127.0.0.1".parse().unwrap()]);
        let server = DnsServer::start(&[("flip.test", &[good, bad])]);
        server.assert_untouched();
        let tails: Vec<Vec<u8>> = (0..3)
            .map(|_| ask(&server, "Flip.Test", TYPE_A).unwrap())
            .map(|reply| reply[reply.len() - 4..].to_vec())
            .collect();
        assert_eq!(
            tails,
            [vec![192, 0, 2, 1], vec![127, 0, 0, 1], vec![127, 0, 0, 1]]
        );
        let names: Vec<String> = server.queries().into_iter().map(|q| q.name).collect();
        assert_eq!(names, ["flip.test"; 3]);
    }

    #[test]
    fn the_other_answers_are_what_they_say() {
        let address = vec!["192.0.2.1".parse().unwrap()];
        let server = DnsServer::start(&[
            (
                "alias.test",
                &[DnsAnswer::Alias("evil.test".into(), address.clone())],
            ),
            ("broken.test", &[DnsAnswer::Failure]),
            ("quiet.test", &[DnsAnswer::Silence]),
            ("long.test", &[DnsAnswer::Truncated(address.clone())]),
            ("forged.example", &[DnsAnswer::Forged(address)]),
        ]);
        let rcode = |name: &str| ask(&server, name, TYPE_A).unwrap()[3] & 0xF;
        assert_eq!((rcode("broken.test"), rcode("unknown.test")), (2, 3));
        assert_eq!(ask(&server, "quiet.test", TYPE_A), None);
        let alias = ask(&server, "alias.test", TYPE_A).unwrap();
        assert_eq!(alias[7], 2, "two records");
        assert_eq!(
            ask(&server, "alias.test", TYPE_AAAA).unwrap()[7],
            1,
            "the alias only"
        );
        let forged = ask(&server, "forged.example", TYPE_A).unwrap();
        assert!(forged.windows(6).any(|w| w == b"forged") && !forged.ends_with(b"example"));
        assert_eq!(
            ask(&server, "long.test", TYPE_A).unwrap()[2] & 2,
            2,
            "truncated"
        );

        let mut stream = TcpStream::connect(server.address()).unwrap();
        let message = question("long.test", TYPE_A);
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length[..], &message].concat()).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut reply).unwrap();
        assert!(reply.ends_with(&[192, 0, 2, 1]));
        assert!(server.queries().last().unwrap().tcp);
    }
}
