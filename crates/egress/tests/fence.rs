//! Nothing but the gate makes a socket to a server, and so nothing else can write to one.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What makes a socket, or a stream of one.
const MAKERS: [&str; 8] = [
    "TcpStream::connect",
    "TcpSocket",
    "from_std",
    "from_raw_fd",
    "Stream::Plain(",
    "Stream::tls(",
    "client::Builder",
    "client::handshake",
];

/// Where each of them stands, and what is made there.
const MADE: [(&str, &str, &str); 11] = [
    ("datagrams.rs", "from_std", "the name socket of the session"),
    (
        "dns/resolver.rs",
        "TcpStream::connect",
        "the way to a name server, after the decision",
    ),
    ("gate.rs", "Stream::Plain(", "the way to a server"),
    ("gate.rs", "Stream::tls(", "the same inside TLS"),
    ("gate.rs", "TcpStream::connect", "the way to a server"),
    (
        "gate/streams.rs",
        "client::Builder",
        "requests side by side to a server",
    ),
    (
        "http/otlp/mod.rs",
        "Stream::Plain(",
        "an exporter that was accepted",
    ),
    ("lib.rs", "from_std", "the control connection"),
    (
        "inspection.rs",
        "Stream::tls(",
        "the same client inside TLS",
    ),
    ("listen.rs", "Stream::Plain(", "a client that was accepted"),
    (
        "listen.rs",
        "from_std",
        "a listener that the supervisor made",
    ),
];

#[test]
fn only_the_gate_makes_sockets_to_servers() {
    let source = source();
    let mut found = BTreeSet::new();
    for file in files(&source) {
        let text = fs::read_to_string(&file).unwrap();
        // Tests of a module come last and make what they need.
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let name = file.strip_prefix(&source).unwrap().display().to_string();
        let made = MAKERS.into_iter().filter(|maker| text.contains(maker));
        found.extend(made.map(|maker| (name.clone(), maker)));
    }
    let expected = MADE.map(|(file, maker, _)| (file.to_owned(), maker));
    assert_eq!(found, BTreeSet::from(expected));
}

/// No other file can take a socket out of the gate.
#[test]
fn the_gate_keeps_its_sockets() {
    for (file, private) in [
        ("gate.rs", "pub(crate) struct Connected(Stream);"),
        ("gate.rs", "    stream: Stream,\n"),
        ("gate.rs", "    to: Writer<'a>,\n"),
        ("gate/streams.rs", "pub(crate) struct Driver(Connection<"),
        ("gate/streams.rs", "    requests: SendRequest<Bytes>,\n"),
        ("gate/streams.rs", "    to: SendStream<Bytes>,\n"),
    ] {
        let text = fs::read_to_string(source().join(file)).unwrap();
        assert!(text.contains(private), "{private}");
    }
}

fn source() -> PathBuf {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    Path::new(&own).join("src")
}

fn files(below: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(below).into_iter().flatten().flatten();
    let mut all = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        if !path.is_dir() {
            all.push(path);
        } else if !path.ends_with("tests") {
            all.extend(files(&path));
        }
    }
    all.retain(|path| !path.ends_with("tests.rs"));
    all
}
