//! Requests that two readers could read in two ways, or that name another host than their connection
//! (N08, N10, N14, N18, N50), in clear and inside TLS that is opened: raw bytes, of which no request
//! arrives.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use stockade_testkit::{
    TestEnv, events,
    http::Response,
    lab::{HttpServer, TlsServer},
    run::require_tool,
};

use crate::attacks::for_each_user;

/// What comes before the name of a case in its path, where its rule allows it.
const OK: &str = "/ok/";

/// Sends what each line of a file says to both ports, and prints the status of the first answers.
const SCRIPT: &str = r#"
import socket, ssl, sys
context = ssl.create_default_context()
for line in open(sys.argv[3]):
    name, data = line.split()
    for way, port in (("clear", int(sys.argv[1])), ("tls", int(sys.argv[2]))):
        got = b""
        try:
            s = socket.create_connection(("good.test", port), timeout=10)
            if way == "tls":
                s = context.wrap_socket(s, server_hostname="good.test")
            s.sendall(bytes.fromhex(data))
            while True:
                more = s.recv(65536)
                if not more:
                    break
                got += more
        except OSError:
            pass
        codes = [part[:3].decode() for part in got.split(b"HTTP/1.1 ")[1:] if part[:3].isdigit()]
        print(name, way, ",".join(codes) or "none")
"#;

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: good.test\r\n{fields}Connection: close\r\n\r\n")
}

fn post(fields: &str, body: &str) -> String {
    format!("POST /ok/post HTTP/1.1\r\nHost: good.test\r\n{fields}Connection: close\r\n\r\n{body}")
}

fn host(host: &str) -> String {
    format!("GET /ok/host HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

/// A body in chunks.
const CODED: &str = "Transfer-Encoding: chunked\r\n";

/// Each case by its name, with the statuses with which it may be refused.
fn refused() -> Vec<(&'static str, String, &'static [&'static str])> {
    const SHAPE: &[&str] = &["400", "none"];
    const HOST: &[&str] = &["421", "400"];
    const JUDGED: &[&str] = &["403", "400"];
    let shapes = [
        // A length and a coding, and lengths that differ.
        ("cl-te", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        ("te-cl", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n")),
        ("two-lengths", post("Content-Length: 4\r\nContent-Length: 5\r\n", "abcde")),
        ("listed-lengths", post("Content-Length: 4, 5\r\n", "abcde")),
        ("signed-length", post("Content-Length: +5\r\n", "abcde")),
        ("hex-length", post("Content-Length: 0x5\r\n", "abcde")),
        ("negative-length", post("Content-Length: -1\r\n", "abcde")),
        ("empty-length", post("Content-Length:\r\n", "abcde")),
        ("huge-length", post("Content-Length: 18446744073709551621\r\n", "abcde")),
        // Codings that are not quite `chunked`.
        ("te-other", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n")),
        ("te-identity", post("Transfer-Encoding: identity\r\n", "0\r\n\r\n")),
        ("te-twice", post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n")),
        ("te-first", post("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n")),
        ("te-vertical-tab", post("Transfer-Encoding: \u{b}chunked\r\n", "0\r\n\r\n")),
        ("te-blank-before-colon", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n")),
        ("te-quoted", post("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n")),
        ("te-old", "POST /ok/post HTTP/1.0\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned()),
        // Lines.
        ("bare-lf", "GET /ok/lf HTTP/1.1\nHost: good.test\n\n".to_owned()),
        ("bare-lf-field", get("/ok/lf", "X: a\nY: b\r\n")),
        ("bare-cr-field", get("/ok/cr", "X: a\rY: b\r\n")),
        ("folded", get("/ok/fold", "X: a\r\n b\r\n")),
        ("folded-first", "GET /ok/fold HTTP/1.1\r\n Host: evil.test\r\nHost: good.test\r\n\r\n".to_owned()),
        ("nul", get("/ok/nul", "X: a\0b\r\n")),
        ("no-colon", get("/ok/colon", "X\r\n")),
        ("no-name", get("/ok/name", ": a\r\n")),
        ("blank-in-name", get("/ok/name", "X Y: a\r\n")),
        ("tab-request-line", "GET\t/ok/tab\tHTTP/1.1\r\nHost: good.test\r\n\r\n".to_owned()),
        ("two-blanks", "GET  /ok/blank HTTP/1.1\r\nHost: good.test\r\n\r\n".to_owned()),
        ("blank-in-target", "GET /ok/a b HTTP/1.1\r\nHost: good.test\r\n\r\n".to_owned()),
        ("fragment", get("/ok/a#b", "")),
        // Versions and protocols.
        ("version-0.9", "GET /ok/old\r\n\r\n".to_owned()),
        ("version-1.2", "GET /ok/new HTTP/1.2\r\nHost: good.test\r\n\r\n".to_owned()),
        ("version-lower", "GET /ok/new http/1.1\r\nHost: good.test\r\n\r\n".to_owned()),
        ("preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("upgrade-other", get("/ok/up", "Connection: Upgrade\r\nUpgrade: other\r\n")),
        ("connect", "CONNECT good.test:443 HTTP/1.1\r\nHost: good.test:443\r\n\r\n".to_owned()),
        ("lower-method", "get /ok/method HTTP/1.1\r\nHost: good.test\r\n\r\n".to_owned()),
        // Chunks.
        ("chunk-prefix", post(CODED, "0x5\r\nabcde\r\n0\r\n\r\n")),
        ("chunk-underscore", post(CODED, "0_5\r\nabcde\r\n0\r\n\r\n")),
        ("chunk-signed", post(CODED, "+5\r\nabcde\r\n0\r\n\r\n")),
        ("chunk-blank", post(CODED, "5 \r\nabcde\r\n0\r\n\r\n")),
        ("chunk-extension", post(CODED, "5;a=b\r\nabcde\r\n0\r\n\r\n")),
        ("chunk-extension-lf", post(CODED, "5;\nabcde\r\n0\r\n\r\n")),
        ("chunk-bare-lf", post(CODED, "5\nabcde\n0\n\n")),
        ("chunk-long", post(CODED, "5\r\nabcdefg\r\n0\r\n\r\n")),
        ("chunk-huge", post(CODED, "10000000000000005\r\nabcde\r\n0\r\n\r\n")),
        ("chunk-trailer", post(CODED, "0\r\nContent-Length: 5\r\n\r\n")),
        // What servers and proxies of the world are known to read in their own way.
        ("method-odd", "G=<>:;T /ok/method HTTP/1.1\r\nHost: good.test\r\n\r\n".to_owned()),
        ("target-odd", "GET ! HTTP/1.1\r\nHost: good.test\r\n\r\n".to_owned()),
        ("version-long", "GET /ok/new HTTP/1.32\r\nHost: good.test\r\n\r\n".to_owned()),
        ("version-cr", "GET /ok/new HTTP/\r\r1.1\r\nHost: good.test\r\n\r\n".to_owned()),
        ("lf-request-line", "GET /ok/lf\nHTTP/1.1\r\nHost: good.test\r\n\r\n".to_owned()),
        ("length-underscore", post("Content-Length: 0_5\r\n", "abcde")),
        ("length-suffix", post("Content-Length: 5Z\r\n", "abcde")),
        ("length-no-colon", post("Content-Length 5\r\n", "abcde")),
        ("length-blank-before-colon", post("Content-Length : 5\r\n", "abcde")),
        ("length-empty-first", post("Content-Length:\r\nContent-Length: 5\r\n", "abcde")),
        ("length-name-end", post("Content-Length\u{85}: 5\r\n", "abcde")),
        ("te-fields", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        ("te-empty-member", post("Transfer-Encoding: ,chunked\r\n", "0\r\n\r\n")),
        ("te-empty-member-cl", post("Transfer-Encoding: ,chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n")),
        ("te-no-break-space", post("Transfer-Encoding: \u{a0}chunked\u{a0}\r\n", "0\r\n\r\n")),
        ("te-other-alphabet", post("Transfer-Encoding: \u{ff}chunked\r\n", "0\r\n\r\n")),
        ("name-over-lines", post("Transfer-\r\nEncoding: chunked\r\n", "0\r\n\r\n")),
        ("name-not-ascii", get("/ok/name", "\u{ef}oo: bar\r\n")),
        ("name-signs", get("/ok/name", "(),/;<=>?@[]{}: a\r\n")),
        ("name-control", get("/ok/name", "A\u{1}: a\r\n")),
        ("name-and-value-empty", get("/ok/name", ":\r\n")),
        ("tab-first", "GET /ok/tab HTTP/1.1\r\n\tContent-Length: 1\r\nHost: good.test\r\n\r\nX".to_owned()),
        ("value-lf-first", get("/ok/lf", "Useless:\n\nGET /ok/x HTTP/1.1\r\n")),
        ("value-nul-last", get("/ok/nul", "X: a\0\r\n")),
        ("host-nul", host("good.test\0.evil.test")),
        ("end-cr", "GET /ok/end HTTP/1.1\r\nHost: good.test\r\n\rZGET /ok/x HTTP/1.1\r\n\r\n".to_owned()),
        ("chunk-empty", post(CODED, "\r\n\r\n")),
        ("chunk-word", post(CODED, "INVALID!!!\r\n\r\n")),
        ("chunk-suffix", post(CODED, "1these\r\nZ\r\n0\r\n\r\n")),
        ("chunk-blanks-first", post(CODED, "     0\r\n\r\n")),
        ("chunk-negative", post(CODED, "-0x0\r\n\r\n")),
        ("chunk-cr", post(CODED, "5\r\r;ABCD\r\n0\r\n\r\n")),
        ("chunk-extension-cr", post(CODED, "1;a=b\r\rZ\r\n0\r\n\r\n")),
        ("chunk-data-lf", post(CODED, "5\r\nabcde\n0\r\n\r\n")),
        ("chunk-data-end", post(CODED, "5\r\nabcdeXX0\r\n\r\n")),
        ("chunk-last-end", post(CODED, "0\r\nXXPOST /ok/x HTTP/1.1\r\n\r\n")),
    ];
    let hosts = [
        ("host-other", host("evil.test")),
        ("host-port", host("good.test:1")),
        ("host-user", host("good.test@evil.test")),
        ("host-metadata", host("169.254.169.254")),
        ("host-metadata-name", host("metadata.google.internal")),
        ("host-loopback", host("127.0.0.1")),
        ("host-number", host("2130706433")),
        ("host-mapped", host("[::ffff:127.0.0.1]")),
        ("host-below", host("a.good.test")),
        ("host-list", host("good.test, evil.test")),
        (
            "host-none",
            "GET /ok/host HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(),
        ),
        ("host-twice", get("/ok/host", "Host: evil.test\r\n")),
        ("absolute-other", get("http://evil.test/ok/host", "")),
        (
            "absolute-metadata",
            "GET http://169.254.169.254/ok/x HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n".to_owned(),
        ),
        (
            "absolute-user",
            get("http://good.test@evil.test/ok/host", ""),
        ),
    ];
    let judged = [
        (
            "trace",
            "TRACE /ok/echo HTTP/1.1\r\nHost: good.test\r\n\r\n".to_owned(),
        ),
        (
            "track",
            "TRACK /ok/echo HTTP/1.1\r\nHost: good.test\r\n\r\n".to_owned(),
        ),
        (
            "override-method",
            get("/ok/x", "X-HTTP-Method-Override: DELETE\r\n"),
        ),
        (
            "override-path",
            get("/ok/x", "X-Original-URL: /private\r\n"),
        ),
        ("path-private", get("/private", "")),
        ("path-dots", get("/ok/../private", "")),
        ("path-encoded-dots", get("/ok/%2e%2e/private", "")),
        ("path-mixed-dots", get("/ok/.%2E/private", "")),
        ("path-encoded-slash", get("/ok%2fprivate", "")),
        ("path-encoded-twice", get("/ok/%252e%252e/private", "")),
        ("path-backslash", get("/ok\\..\\private", "")),
        ("path-encoded-backslash", get("/ok/..%5cprivate", "")),
        ("path-empty-segment", get("/ok//private", "")),
        ("path-parameter", get("/ok/..;/private", "")),
        ("path-nul", get("/ok/x%00", "")),
        ("path-not-ascii", get("/ok/\u{ff0e}\u{ff0e}/private", "")),
    ];
    let of = |table: Vec<(&'static str, String)>, expected| {
        table
            .into_iter()
            .map(move |(name, bytes)| (name, bytes, expected))
    };
    let mut all: Vec<_> = of(shapes.into(), SHAPE).collect();
    all.extend(of(hosts.into(), HOST));
    all.extend(of(judged.into(), JUDGED));
    all
}

/// What has one meaning passes, in the same session and from the same programs; of two requests in one
/// piece each is judged.
fn passing() -> Vec<(&'static str, String, &'static str)> {
    vec![
        ("get", get("/ok/get", ""), "200"),
        (
            "old",
            "GET /ok/old HTTP/1.0\r\nHost: good.test\r\n\r\n".to_owned(),
            "200",
        ),
        ("length", post("Content-Length: 5\r\n", "abcde"), "200"),
        ("chunks", post(CODED, "5\r\nabcde\r\n0\r\n\r\n"), "200"),
        ("absolute", get("http://good.test/ok/absolute", ""), "200"),
        (
            "h2c",
            get(
                "/ok/h2c",
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
            ),
            "200",
        ),
        (
            "second",
            format!(
                "GET /ok/first HTTP/1.1\r\nHost: good.test\r\n\r\n{}",
                host("evil.test")
            ),
            "200,421",
        ),
    ]
}

fn policy(env: &TestEnv, plain: &HttpServer, sealed: &TlsServer) -> [String; 2] {
    let authority = env.write("authority.pem", sealed.certificate_pem());
    let text = format!(
        "schema = 1\n[network]\nupstream_ca = [\"{}\"]\n[network.hosts]\n\"good.test\" = \
         \"127.0.0.1\"\n[[allow]]\nid = \"lab\"\nwhat = \"net\"\nhosts = [\"good.test\"]\n\
         ports = [{}, {}]\nprivate = true\npaths = [\"{OK}**\"]\n",
        authority.display(),
        plain.port(),
        sealed.port()
    );
    let path = env.write("policy.toml", &text);
    ["--policy".to_owned(), path.display().to_string()]
}

/// Each of these bytes reaches a server that nothing stands before.
fn control(bytes: &str) {
    let server = HttpServer::start();
    let mut client = TcpStream::connect(server.address()).expect("the lab listens");
    client
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a socket");
    client.write_all(bytes.as_bytes()).expect("the lab reads");
    client.shutdown(Shutdown::Write).expect("a socket");
    // Whatever it answers, it has read what was sent.
    drop(client.read_to_end(&mut Vec::new()));
    let arrived = server.traffic().bytes_in;
    assert!(arrived >= bytes.len() as u64, "{bytes:?}");
}

#[test]
fn n18_no_request_with_two_meanings_arrives() {
    require_tool("python3");
    let (refused, passing) = (refused(), passing());
    for (_, bytes, _) in &refused {
        control(bytes);
    }
    for_each_user(|env| {
        let plain = HttpServer::with(|_| Response::text(200, "lab\n"));
        let sealed = TlsServer::start(&["good.test"]);
        let policy = policy(env, &plain, &sealed);
        let repo = env.repo();
        let hex = |bytes: &str| {
            bytes
                .bytes()
                .fold(String::new(), |all, byte| format!("{all}{byte:02x}"))
        };
        let both = refused.iter().map(|(name, bytes, _)| (name, bytes));
        let both = both.chain(passing.iter().map(|(name, bytes, _)| (name, bytes)));
        let cases = both.map(|(name, bytes)| format!("{name} {}\n", hex(bytes)));
        env.write(repo.path().join("cases"), &cases.collect::<String>());
        env.write(repo.path().join("send.py"), SCRIPT);
        let line = format!("python3 send.py {} {} cases", plain.port(), sealed.port());
        let output = env
            .session_with(repo.path(), &["--ask", "deny"])
            .args(&policy)
            .line(&line)
            .output();
        let has = |line: &str| output.stdout.lines().any(|one| one == line);
        let mut wrong = Vec::new();
        for way in ["clear", "tls"] {
            for (name, _, expected) in &refused {
                if !expected
                    .iter()
                    .any(|code| has(&format!("{name} {way} {code}")))
                {
                    wrong.push(format!("{name} {way}: not {expected:?}"));
                }
            }
            for (name, _, expected) in &passing {
                if !has(&format!("{name} {way} {expected}")) {
                    wrong.push(format!("{name} {way}: not {expected}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}\n{output:?}");
        let expected = ["get", "old", "post", "post", "absolute", "h2c", "first"];
        for arrived in [plain.requests(), sealed.requests()] {
            let arrived: Vec<String> = arrived.iter().map(|one| one.path().to_owned()).collect();
            assert_eq!(
                arrived,
                expected.map(|name| format!("{OK}{name}")),
                "{output:?}"
            );
        }
        let record = env.record();
        let refusals = record.iter().filter(|event| event.is_refusal()).count();
        assert_eq!(
            refusals,
            2 * (refused.len() + 1),
            "{}",
            events::summary(&record)
        );
    });
}

/// A redirect is another request: to a host that no rule names, to metadata and to a file none is made.
#[test]
fn n20_redirects_lead_nowhere_else() {
    require_tool("curl");
    for_each_user(|env| {
        let evil = HttpServer::start();
        let to = evil.port();
        let places = [
            format!("http://evil.test:{to}/"),
            format!("http://127.0.0.1:{to}/"),
            format!("http://[::ffff:127.0.0.1]:{to}/"),
            "http://169.254.169.254/latest/meta-data/".to_owned(),
            "http://metadata.google.internal/".to_owned(),
            "file:///etc/hostname".to_owned(),
        ];
        let answers = places.clone();
        let plain = HttpServer::with(move |request| {
            let number = request
                .path()
                .rsplit('/')
                .next()
                .and_then(|end| end.parse::<usize>().ok());
            match number.and_then(|number| answers.get(number)) {
                Some(place) => Response::text(302, "elsewhere\n").header("Location", place),
                None => Response::text(200, "lab\n"),
            }
        });
        let sealed = TlsServer::start(&["good.test"]);
        let policy = policy(env, &plain, &sealed);
        let port = plain.port();
        let asked = (0..places.len()).map(|number| format!("{OK}{number}"));
        let each = asked.clone().map(|path| {
            format!(
                "curl -sSL -m 5 -o /dev/null -H 'Authorization: Bearer abc' \
                 http://good.test:{port}{path}"
            )
        });
        let line = each.collect::<Vec<_>>().join("; ");
        let control = format!(
            "curl -sSL -m 5 -o /dev/null --resolve good.test:{port}:127.0.0.1 --resolve evil.test:{to}:127.0.0.1 http://good.test:{port}{OK}0"
        );
        env.command("bash").args(["-c", &control]).success();
        let before = evil.traffic().bytes_in;
        assert!(before > 0, "the control leads there");
        let repo = env.repo();
        let output = env
            .session_with(repo.path(), &["--ask", "deny"])
            .args(&policy)
            .line(&line)
            .output();
        let arrived: Vec<String> = plain
            .requests()
            .iter()
            .map(|one| one.path().to_owned())
            .collect();
        let expected: Vec<String> = std::iter::once(format!("{OK}0")).chain(asked).collect();
        assert_eq!(arrived, expected, "{output:?}");
        assert_eq!(evil.traffic().bytes_in, before, "{output:?}");
    });
}
