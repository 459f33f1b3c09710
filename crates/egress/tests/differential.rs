//! Requests that were judged are the requests that real servers saw, whatever bytes a program sends.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests: helpers outside `#[test]` may fail as tests do"
)]

use std::{
    cell::Cell,
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde::Deserialize;
use stockade_event::Event;
use stockade_fuzz::Target;
use stockade_types::Verdict;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::lab::{Host, Lab, PATIENCE};

const SERVERS: &str = include_str!("differential.js");
/// The name in inputs.
const NAME: &[u8] = b"good.test";
/// As many as inputs in an ordinary run, with some to spare.
const NAMES: usize = 500;

/// Inputs in an ordinary run, each of which is a connection or two: some seconds in a debug build.
const TRIES: usize = 400;

/// After so long without an answer, none is expected any more.
const SILENCE: Duration = Duration::from_millis(60);

/// Which requests there were, how often: method, path and host.
type Requests = BTreeMap<(String, String, String), usize>;

/// A request that a server saw.
#[derive(Debug, Deserialize)]
struct Saw {
    server: String,
    method: String,
    url: String,
    host: String,
}

/// Servers in a process of their own.
struct Origins {
    process: Child,
    /// Of the strict server, the lenient one, that of HTTP/2 and that of HTTP/1 inside TLS.
    ports: [u16; 4],
    certificate: String,
    saw: Arc<Mutex<Vec<Saw>>>,
}

impl Origins {
    fn start() -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(names().collect::<Vec<_>>()).unwrap();
        // This test needs node.
        let mut process = Command::new("node")
            .args(["-e", SERVERS])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let certificate = cert.pem();
        let both = format!("{}{certificate}", signing_key.serialize_pem());
        let mut input = process.stdin.take().unwrap();
        input.write_all(both.as_bytes()).unwrap();
        drop(input);
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ports = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let saw = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&saw);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                shared
                    .lock()
                    .unwrap()
                    .push(serde_json::from_str(&line).unwrap());
            }
        });
        Self {
            process,
            ports,
            certificate,
            saw,
        }
    }

    /// Returns what a server saw.
    fn seen(&self, server: &str) -> Requests {
        let saw = self.saw.lock().unwrap();
        let own = saw.iter().filter(|one| one.server == server);
        count(own.map(|one| (one.method.clone(), path(&one.url), bare(&one.host))))
    }
}

impl Drop for Origins {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Returns names of equal length. What a server of HTTP/1 speaks is known after the first connection to
/// its name, and nothing is translated for it from then on: so each input has a name of its own.
fn names() -> impl Iterator<Item = String> {
    (0..NAMES).map(|number| format!("h{number:03}.test"))
}

/// Puts a name in the place of the one that all inputs are made with.
fn renamed(bytes: &[u8], name: &str) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let places = bytes.windows(NAME.len()).enumerate();
    let places: Vec<usize> = places
        .filter(|(_, part)| part == &NAME)
        .map(|(at, _)| at)
        .collect();
    for at in places {
        bytes[at..at + NAME.len()].copy_from_slice(name.as_bytes());
    }
    bytes
}

fn count(requests: impl Iterator<Item = (String, String, String)>) -> Requests {
    let mut all = Requests::new();
    for request in requests {
        *all.entry(request).or_default() += 1;
    }
    all
}

/// Returns the path of a target: a server may be sent the whole address.
fn path(target: &str) -> String {
    let Some((_, rest)) = target.split_once("://") else {
        return target.to_owned();
    };
    rest.find(['/', '?'])
        .map_or_else(|| "/".to_owned(), |at| rest[at..].to_owned())
}

/// Returns the host without its port and in the form in which it is judged.
fn bare(host: &str) -> String {
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// An egress process before the servers.
struct Place {
    lab: Lab,
    origins: Origins,
}

impl Place {
    async fn start() -> Self {
        let origins = Origins::start();
        let [strict, lenient, two, one] = origins.ports;
        // Where a host is open as a whole, what is no HTTP passes unread: so rules look at requests.
        let lines: Vec<String> = names()
            .map(|name| format!("\"{name}\" = \"127.0.0.1\"\n"))
            .collect();
        let policy = format!(
            "[network.hosts]\n{}[[allow]]\nid = \"requests\"\nwhat = \"net\"\n\
             hosts = {:?}\nports = [{strict}, {lenient}, {two}, {one}]\nprivate = true\n\
             methods = [\"GET\", \"HEAD\", \"POST\", \"PUT\", \"OPTIONS\", \"DELETE\", \"PATCH\"]\n",
            lines.concat(),
            names().collect::<Vec<_>>(),
        );
        let host = Host {
            resolvers: vec![],
            hosts_file: vec![],
        };
        let roots = origins.certificate.clone().into_bytes();
        let lab = Lab::start_trusting(&policy, host, roots).await;
        Self { lab, origins }
    }

    /// Returns the requests to a port that were let through.
    fn judged(&self, port: u16) -> Requests {
        let events = self.lab.supervisor.events();
        let decisions = events.iter().filter_map(|event| match event {
            Event::HttpDecided { decision } => Some(decision),
            _ => None,
        });
        let allowed =
            decisions.filter(|one| one.verdict == Verdict::Allow && one.target.port == Some(port));
        count(allowed.map(|one| {
            let target = &one.target;
            let path = target
                .path
                .as_ref()
                .map(|path| String::from_utf8_lossy(path.as_bytes()).into_owned());
            (
                target.method.clone().unwrap_or_default(),
                path.unwrap_or_default(),
                target.host.clone().unwrap_or_default(),
            )
        }))
    }

    /// Sends bytes in clear, and reads until the other side ends.
    async fn send(&self, name: &str, port: u16, bytes: &[u8]) {
        let mut client = self.lab.connect(name, port).await;
        drop(client.write_all(bytes).await);
        drop(client.shutdown().await);
        drop(
            timeout(PATIENCE, client.read_to_end(&mut Vec::new()))
                .await
                .unwrap(),
        );
    }

    /// Sends bytes of HTTP/2 inside TLS.
    async fn send_sealed(&self, name: &str, port: u16, bytes: &[u8]) {
        let mut client = self.lab.secured(name, port).await;
        // Having said that it goes, it is closed once all requests have their answers; if the bytes left
        // an unfinished frame, nothing more comes.
        let going = frame(7, 0, 0, &[0; 8]);
        drop(client.write_all(&[bytes, &going].concat()).await);
        drop(client.flush().await);
        let mut buffer = [0; 4096];
        while let Ok(Ok(1..)) = timeout(SILENCE, client.read(&mut buffer)).await {}
    }

    /// Ends the test if a server has seen what was not let through.
    fn check(&self, of: usize, server: &str) {
        let judged = self.judged(self.origins.ports[of]);
        let seen = self.origins.seen(server);
        for (request, times) in &seen {
            let allowed = judged.get(request).copied().unwrap_or_default();
            assert!(
                *times <= allowed,
                "{server} saw {request:?} {times} times, and {allowed} were let through"
            );
        }
    }
}

/// Requests of HTTP/1, one and several on a connection.
fn requests() -> Vec<Vec<u8>> {
    let end = "GET /end HTTP/1.1\r\nHost: good.test\r\nConnection: close\r\n\r\n";
    [
        "GET /a?b=c HTTP/1.1\r\nHost: good.test\r\nAccept: */*\r\n\r\n",
        "POST /length HTTP/1.1\r\nHost: good.test\r\nContent-Length: 28\r\n\r\nGET /inner HTTP/1.1\r\n\r\nabcdef",
        "POST /chunks HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\n\r\n\
         1c\r\nGET /inner HTTP/1.1\r\n\r\nabcdef\r\n0\r\n\r\n",
        "PUT /trailer HTTP/1.1\r\nHost: GOOD.test\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n\
         3\r\nabc\r\n0\r\nX: y\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: good.test\r\nContent-Length: 0\r\n\r\n",
        "HEAD http://good.test/whole HTTP/1.1\r\nHost: good.test\r\n\r\n",
        "GET /old HTTP/1.0\r\nHost: good.test\r\nConnection: keep-alive\r\n\r\n",
        "POST /expect HTTP/1.1\r\nHost: good.test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        "GET /up HTTP/1.1\r\nHost: good.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        "DELETE /quoted?a=%20%22 HTTP/1.1\r\nHost: good.test:80\r\nCookie: a=b; c=d\r\n\r\n",
    ]
    .iter()
    .map(|one| [one, end].concat().into_bytes())
    .collect()
}

const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\r\n ",
    b" HTTP/1.1\r\n",
    b"GET /other HTTP/1.1\r\nHost: good.test\r\n\r\n",
    b"Host: evil.test\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length:\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: ,chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive, transfer-encoding\r\n",
    b"Upgrade: h2c\r\n",
    b"0\r\n\r\n",
    b"1;a=b\r\nz\r\n",
    b"0x",
    b"_",
    b"\xa0",
    b"\x85",
    b"\0",
    b"\x0b",
    b"http://evil.test/",
    b"chunked",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

/// Compares after each input, so that the one that makes a difference is kept.
struct Comparison {
    runtime: Runtime,
    place: Place,
    all: Vec<String>,
    inputs: Cell<usize>,
    servers: [(usize, &'static str); 2],
}

impl Comparison {
    fn start(servers: [(usize, &'static str); 2]) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let place = runtime.block_on(Place::start());
        Self {
            runtime,
            place,
            all: names().collect(),
            inputs: Cell::new(0),
            servers,
        }
    }

    fn input(&self, bytes: &[u8], send: &impl AsyncFn(&Place, &str, u16, &[u8])) {
        let place = &self.place;
        let name = &self.all[self.inputs.get() % NAMES];
        self.inputs.set(self.inputs.get() + 1);
        let bytes = renamed(bytes, name);
        for (number, server) in self.servers {
            let port = place.origins.ports[number];
            self.runtime.block_on(send(place, name, port, &bytes));
            place.check(number, server);
        }
    }

    fn finish(&self, samples: usize) {
        let place = &self.place;
        for (number, server) in self.servers {
            let judged: usize = place.judged(place.origins.ports[number]).values().sum();
            let seen: usize = place.origins.seen(server).values().sum();
            // A request whose end is missing or wrong can be let through and still not reach its server.
            let lost = judged - seen;
            let counts = format!("{server}: {judged} let through, {seen} seen");
            assert!(seen > 2 * samples, "{counts}");
            assert!(lost * 10 <= judged, "{counts}");
        }
    }
}

#[test]
fn fuzz_requests_to_servers_of_http1() {
    let target = Target {
        name: "differential-http1",
        samples: requests(),
        words: WORDS,
        tries: TRIES,
    };
    let comparison = Comparison::start([(0, "strict"), (1, "lenient")]);
    stockade_fuzz::target(&target, |bytes| comparison.input(bytes, &Place::send));
    comparison.finish(target.samples.len());
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [head.as_slice(), payload].concat()
}

/// Writes fields as literals that are not indexed.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let field = |(name, value): &(&str, &str)| [&[0], text(name).as_slice(), &text(value)].concat();
    fields.iter().flat_map(field).collect()
}

/// Connections of HTTP/2, each with several requests.
fn connections() -> Vec<Vec<u8>> {
    let named = |method: &str, path: &str, more: &[(&str, &str)]| {
        let own = [
            (":method", method),
            (":scheme", "https"),
            (":path", path),
            (":authority", "good.test"),
        ];
        block(&[own.as_slice(), more].concat())
    };
    let start = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
        &frame(4, 0, 0, &[]),
    ]
    .concat();
    let end = frame(1, 5, 9, &named("GET", "/end", &[]));
    let get = named("GET", "/a?b=c", &[("accept", "*/*"), ("cookie", "a=b")]);
    let post = named(
        "POST",
        "/post",
        &[("content-length", "5"), ("x-forwarded-host", "evil.test")],
    );
    [
        frame(1, 5, 1, &get),
        [frame(1, 4, 1, &post), frame(0, 1, 1, b"12345")].concat(),
        [
            frame(1, 4, 1, &named("PUT", "/two", &[])),
            frame(0, 0, 1, b"GET /inner HTTP/1.1\r\n\r\n"),
            frame(0, 1, 1, b"0\r\n\r\n"),
        ]
        .concat(),
        [
            frame(1, 4, 1, &named("POST", "/end", &[("te", "trailers")])),
            frame(0, 0, 1, b"abc"),
            frame(1, 5, 1, &block(&[("x", "y")])),
        ]
        .concat(),
        [frame(1, 1, 1, &get[..20]), frame(9, 4, 1, &get[20..])].concat(),
        [
            frame(1, 5, 1, &get),
            frame(1, 5, 3, &get),
            frame(3, 0, 3, &8_u32.to_be_bytes()),
            frame(6, 0, 0, b"12345678"),
        ]
        .concat(),
        [
            frame(
                1,
                0x2d,
                1,
                &[&[2, 0, 0, 0, 0, 16], get.as_slice(), &[0, 0]].concat(),
            ),
            frame(8, 0, 0, &[0, 0, 1, 0]),
        ]
        .concat(),
    ]
    .iter()
    .map(|one| [start.as_slice(), one, &end].concat())
    .collect()
}

/// The same with HTTP/2, to a server of HTTP/2 and, translated, to one of HTTP/1.
#[test]
fn fuzz_requests_to_servers_of_http2() {
    let words: Vec<Vec<u8>> = [
        block(&[("transfer-encoding", "chunked")]),
        block(&[("content-length", "3")]),
        block(&[("host", "evil.test")]),
        block(&[(":path", "/other")]),
        block(&[("x", "a\r\nGET /other HTTP/1.1\r\n\r\n")]),
        block(&[("connection", "upgrade")]),
        block(&[(":protocol", "websocket")]),
        frame(0, 1, 1, b"12345"),
        frame(
            1,
            5,
            11,
            &block(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/more"),
                (":authority", "evil.test"),
            ]),
        ),
        frame(3, 0, 1, &[0, 0, 0, 8]),
        frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]),
        frame(9, 4, 1, &[]),
        b"\r\n".to_vec(),
        b" HTTP/1.1\r\n".to_vec(),
        vec![0x82, 0x87, 0x84],
    ]
    .into();
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let target = Target {
        name: "differential-http2",
        samples: connections(),
        words: &words,
        tries: TRIES,
    };
    let comparison = Comparison::start([(2, "two"), (3, "one")]);
    stockade_fuzz::target(&target, |bytes| {
        comparison.input(bytes, &Place::send_sealed);
    });
    comparison.finish(target.samples.len());
}
