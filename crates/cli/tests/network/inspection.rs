//! TLS that is opened, so that rules can look at the requests in it.

use stockade_testkit::{
    Output, TestEnv,
    events::{self, Event},
    lab::TlsServer,
    run::require_tool,
};

use crate::network::{allowed, for_each_user};

/// Servers of both hosts: one whose requests rules look at, and one that is passed through.
struct Lab {
    opened: TlsServer,
    spliced: TlsServer,
    policy: String,
}

impl Lab {
    /// `trusted` is whether the machine vouches for the first server.
    fn new(env: &TestEnv, trusted: Trusted) -> Self {
        let (opened, spliced) = (
            TlsServer::start(&["good.test"]),
            TlsServer::start(&["pinned.test"]),
        );
        let authority = env.write("authority.pem", opened.certificate_pem());
        let vouched = match trusted {
            Trusted::Yes => format!("upstream_ca = [\"{}\"]\n", authority.display()),
            Trusted::No => String::new(),
        };
        let text = format!(
            "schema = 1\n[network]\n{vouched}[network.hosts]\n\"good.test\" = \"127.0.0.1\"\n\
             \"other.test\" = \"127.0.0.1\"\n\"pinned.test\" = \"127.0.0.1\"\n\
             [[allow]]\nid = \"api\"\nwhat = \"net\"\nhosts = [\"good.test\", \"other.test\"]\n\
             ports = [{}]\nmethods = [\"GET\"]\npaths = [\"/allowed/**\"]\nprivate = true\n\
             [[allow]]\nid = \"pinned\"\nwhat = \"net\"\nhosts = [\"pinned.test\"]\nports = [{}]\n\
             tls = \"splice\"\nprivate = true\n",
            opened.port(),
            spliced.port()
        );
        let policy = env.write("policy.toml", &text);
        Self {
            opened,
            spliced,
            policy: policy.display().to_string(),
        }
    }

    fn run(&self, env: &TestEnv, line: &str) -> Output {
        let repo = env.repo();
        env.write(
            repo.path().join("pinned.pem"),
            self.spliced.certificate_pem(),
        );
        env.write(
            repo.path().join("origin.pem"),
            self.opened.certificate_pem(),
        );
        env.session_with(repo.path(), &["--ask", "deny"])
            .args(&["--policy".to_owned(), self.policy.clone()])
            .line(line)
            .output()
    }

    fn paths(server: &TlsServer) -> Vec<String> {
        let requests = server.requests();
        requests.iter().map(|one| one.path().to_owned()).collect()
    }
}

#[derive(Clone, Copy)]
enum Trusted {
    Yes,
    No,
}

fn refused<'r>(record: &'r [Event], rule: &str) -> Vec<&'r Event> {
    let all = record.iter();
    all.filter(|event| event.is_refusal() && event.rule() == rule)
        .collect()
}

/// Requests that a rule allows pass inside TLS with clients as they are; others are answered with the
/// decision, and nothing of them arrives. What is passed through shows the server's own certificate.
#[test]
fn rules_look_at_requests_inside_tls() {
    require_tool("curl");
    require_tool("python3");
    for_each_user(|env| {
        let lab = Lab::new(env, Trusted::Yes);
        let (opened, spliced) = (lab.opened.port(), lab.spliced.port());
        let line = format!(
            "curl -sS -m 10 https://good.test:{opened}/allowed/curl; \
             curl -sS -m 10 -w ' status %{{http_code}}\\n' https://good.test:{opened}/private; \
             curl -sS -m 10 -w ' status %{{http_code}}\\n' -d secret https://good.test:{opened}/allowed/post; \
             python3 -c 'import urllib.request as u; print(\"python\", u.urlopen(\"https://good.test:{opened}/allowed/python\").status)'; \
             curl -sS -m 10 --cacert pinned.pem https://pinned.test:{spliced}/anything; \
             curl -sS -m 10 -H 'Host: pinned.test' https://good.test:{opened}/allowed/front; \
             curl -sS -m 10 --path-as-is https://good.test:{opened}/allowed/../private; echo; \
             grep -c BEGIN $NODE_EXTRA_CA_CERTS; test -r $SSL_CERT_FILE && echo readable; \
             echo x > /run/stockade/ca-bundle.pem || echo kept; grep -l PRIVATE /run/stockade/*.pem; echo end"
        );
        let output = lab.run(env, &line);
        output
            .assert_stdout("python 200")
            .assert_stdout("\"rule\":null")
            .assert_stdout("status 403")
            .assert_stdout("\"rule\":\"name-mismatch\"")
            .assert_stdout("servers read in different ways")
            .assert_stdout("\n2\nreadable\nkept\nend\n");
        assert_eq!(
            Lab::paths(&lab.opened),
            ["/allowed/curl", "/allowed/python"],
            "{output:?}"
        );
        assert_eq!(Lab::paths(&lab.spliced), ["/anything"], "{output:?}");
        let record = env.record();
        let judged = record.iter().filter(|event| event.kind() == "http.decided");
        assert_eq!(judged.count(), 6, "{}", events::summary(&record));
    });
}

/// A client that trusts nobody but the server's own authority is refused, and the remedy names how the
/// owner lets it through.
#[test]
fn a_client_that_does_not_trust_is_told_of_splice() {
    require_tool("curl");
    for_each_user(|env| {
        let lab = Lab::new(env, Trusted::Yes);
        let port = lab.opened.port();
        let line = format!(
            "curl -sS -m 10 --cacert origin.pem https://good.test:{port}/allowed/x; echo curl $?; \
             for i in $(seq 100); do /run/stockade/why | grep splice && break; sleep 0.05; done"
        );
        let output = lab.run(env, &line);
        output
            .assert_stdout("curl 60")
            .assert_stdout("tls = \"splice\"");
        lab.opened.assert_untouched();
        let record = env.record();
        let refused = refused(&record, "tls-untrusted");
        assert_eq!(refused.len(), 1, "{}", events::summary(&record));
        assert!(
            refused[0].reason().contains("does not trust"),
            "{:?}",
            refused[0]
        );
    });
}

/// A server that nobody vouches for, or whose certificate is for another host, is not laundered: no
/// request reaches it, and the program is told why.
#[test]
fn servers_must_show_a_valid_certificate() {
    require_tool("curl");
    for (trusted, host, why) in [
        (Trusted::No, "good.test", "no authority that is trusted"),
        (Trusted::Yes, "other.test", "it is for another host"),
    ] {
        for_each_user(|env| {
            let lab = Lab::new(env, trusted);
            let port = lab.opened.port();
            let line = format!("curl -sS -m 10 https://{host}:{port}/allowed/x");
            let output = lab.run(env, &line);
            output
                .assert_stdout("server-certificate")
                .assert_stdout(why);
            assert!(lab.opened.requests().is_empty(), "{output:?}");
            let record = env.record();
            let refused = refused(&record, "server-certificate");
            assert_eq!(refused.len(), 1, "{}", events::summary(&record));
        });
    }
}

/// A session whose policy looks at no requests has no authority, and programs trust whom they trust.
#[test]
fn sessions_that_open_nothing_have_no_authority() {
    for_each_user(|env| {
        let policy = allowed(env, &["good.test"], &[443]);
        let line = "ls /run/stockade | grep -c pem; env | grep -c /run/stockade/ca; echo end";
        let repo = env.repo();
        let session = env.session_with(repo.path(), &["--ask", "deny"]);
        let output = session.args(&policy).line(line).output();
        output.assert_stdout("0\n0\nend\n");
    });
}

/// A server with a certificate of `kind`, which says how many bytes of requests it got, made by the
/// tools of the machine: rustls refuses to make what is weak.
const SERVER: &str = r"
import socket, ssl, sys
pem, count = sys.argv[1], sys.argv[2]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.set_ciphers('DEFAULT:@SECLEVEL=0')
context.load_cert_chain(pem)
listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
while True:
    raw, _ = listener.accept()
    try:
        link = context.wrap_socket(raw, server_side=True)
        while data := link.recv(65536):
            open(count, 'ab').write(data)
            if b'pgrade: websocket' in data:
                link.sendall(b'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n'
                             b'Connection: Upgrade\r\n\r\n')
                continue
            if data.startswith(b'GET'):
                link.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlab\n')
            else:
                link.sendall(data)
    except OSError:
        pass
    raw.close()
";

/// How the certificates of the table are made; `$D` is the directory, and each ends as `NAME.pem`.
const CERTIFICATES: &str = r#"
cd "$D"; umask 022
san='subjectAltName=DNS:good.test'
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=authority \
  -addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign
leaf() { # name bits digest days...
  n=$1; openssl req -newkey rsa:$2 -nodes -keyout $n.key -out $n.csr -subj /CN=good.test
  printf '%s\nbasicConstraints=CA:false\n' "$san" > $n.ext; shift 2
  openssl x509 -req -in $n.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile $n.ext -out $n.crt "$@"
  cat $n.key $n.crt > $n.pem; }
leaf good 2048 -sha256 -days 10
leaf expired 2048 -sha256 -days -1
leaf short 1024 -sha256 -days 10
leaf sha1 2048 -sha1 -days 10
san='subjectAltName=DNS:other.test'; leaf other 2048 -sha256 -days 10
openssl req -x509 -newkey rsa:2048 -nodes -keyout s.key -out s.crt -days 10 -subj /CN=good.test \
  -addext subjectAltName=DNS:good.test; cat s.key s.crt > self.pem
openssl req -x509 -newkey rsa:2048 -nodes -keyout a.key -out a.crt -days 10 -subj /CN=good.test \
  -addext subjectAltName=DNS:good.test -addext basicConstraints=critical,CA:false; cat a.key a.crt > alone.pem
"#;

/// A server of the table; it ends with the value.
struct Origin {
    child: std::process::Child,
    port: String,
}

impl Origin {
    fn start(pem: &std::path::Path, count: &std::path::Path) -> Self {
        use std::io::{BufRead as _, BufReader};
        let mut child = std::process::Command::new("python3")
            .args(["-c", SERVER])
            .args([pem, count])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("python3 is there");
        let mut port = String::new();
        let output = child.stdout.take().expect("it is piped");
        BufReader::new(output)
            .read_line(&mut port)
            .expect("it says its port");
        Self {
            child,
            port: port.trim().to_owned(),
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.child.kill().expect("it runs until now");
        self.child.wait().expect("it was started here");
    }
}

fn certificates(env: &TestEnv) -> std::path::PathBuf {
    let directory = env.root().join("certificates");
    std::fs::create_dir_all(&directory).expect("the directory is new");
    let made = std::process::Command::new("sh")
        .args(["-ec", CERTIFICATES])
        .env("D", &directory)
        .output()
        .expect("sh is there");
    assert!(made.status.success(), "{made:?}");
    directory
}

/// What programs inside say in TLS, without HTTP or with more of it than requests.
const INSIDE: &str = r"
import socket, ssl, sys, time
port = int(sys.argv[1])
def link(protocols):
    context = ssl.create_default_context()
    if protocols:
        context.set_alpn_protocols(protocols)
    raw = socket.create_connection(('good.test', port), timeout=10)
    return context.wrap_socket(raw, server_hostname='good.test')
for protocols in [None, ['imap'], ['http/1.1']]:
    with link(protocols) as one:
        one.sendall(b'\x00\x01 no http\r\n')
        print('opaque', one.recv(100), flush=True)
with link(None) as one:
    time.sleep(0.6)
    one.sendall(b'GET /late HTTP/1.1\r\nHost: good.test:%d\r\nConnection: close\r\n\r\n' % port)
    print('late', one.recv(12), flush=True)
with link(['http/1.1']) as one:
    one.sendall(b'GET /socket HTTP/1.1\r\nHost: good.test:%d\r\nConnection: Upgrade\r\n'
                b'Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n'
                b'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n' % port)
    print('switched', one.recv(12), flush=True)
    one.sendall(b'\x81\x04ping')
    got = b''
    while not got.endswith(b'ping') and (more := one.recv(100)):
        got += more
    print('socket', got[-6:], flush=True)
";

/// What is no HTTP inside TLS passes to a host that is allowed as a whole, and the record says what it
/// is; a late request is judged as any other, and a WebSocket passes.
#[test]
fn other_protocols_inside_tls_pass_and_are_recorded() {
    require_tool("openssl");
    require_tool("python3");
    let env = &TestEnv::of(None);
    let directory = certificates(env);
    let origin = Origin::start(&directory.join("good.pem"), &directory.join("count"));
    let policy = format!(
        "schema = 1\n[network]\nupstream_ca = [\"{}\"]\n[network.hosts]\n\"good.test\" = \"127.0.0.1\"\n\
         [[allow]]\nid = \"api\"\nwhat = \"net\"\nhosts = [\"good.test\"]\nports = [{}]\n\
         tls = \"inspect\"\nprivate = true\n",
        directory.join("ca.pem").display(),
        origin.port
    );
    let policy = env.write("policy.toml", &policy);
    let repo = env.repo();
    env.write(repo.path().join("inside.py"), INSIDE);
    let output = env
        .session_with(repo.path(), &["--ask", "deny"])
        .args(&["--policy".to_owned(), policy.display().to_string()])
        .line(format!("python3 inside.py {}", origin.port))
        .output();
    let opaque = "opaque b'\\x00\\x01 no http\\r\\n'\n";
    output
        .assert_stdout(&opaque.repeat(3))
        .assert_stdout("late b'HTTP/1.1 200'\n")
        .assert_stdout("switched b'HTTP/1.1 101'\n")
        .assert_stdout("socket b'\\x81\\x04ping'\n");
    let record = env.record();
    let details = |text: &str| {
        let connections = record.iter();
        let connections = connections.filter(|event| event.kind() == "connection.decided");
        connections
            .filter(|event| format!("{event:?}").contains(text))
            .count()
    };
    // The late one is not known to be HTTP when its server is connected to.
    assert_eq!(details("opaque in tls that was opened"), 4);
    assert_eq!(details("http in tls that was opened"), 1);
    let judged = record.iter().filter(|event| event.kind() == "http.decided");
    assert_eq!(judged.count(), 2, "{}", events::summary(&record));
}

/// HTTP/2 in the clear is refused with a reason, and nothing of it arrives; an offer of it beside a
/// request of HTTP/1.1 is passed over.
#[test]
fn http2_in_the_clear_is_refused() {
    require_tool("curl");
    let env = &TestEnv::of(None);
    let server = stockade_testkit::lab::HttpServer::start();
    let policy = allowed(env, &["good.test"], &[server.port()]);
    let line = format!(
        "curl -sS -m 10 --http2-prior-knowledge http://good.test:{0}/x || echo refused; \
         curl -sS -m 10 --http2 -o /dev/null -w '%{{http_version}} %{{http_code}}\\n' http://good.test:{0}/y",
        server.port()
    );
    let session = env.session_with(env.repo().path(), &["--ask", "deny"]);
    let output = session.args(&policy).line(&line).output();
    output.assert_stdout("refused\n").assert_stdout("1.1 200\n");
    let requests = server.requests();
    let paths: Vec<_> = requests.iter().map(|one| one.path().to_owned()).collect();
    assert_eq!(paths, ["/y"]);
    let record = env.record();
    assert_eq!(refused(&record, "http-framing").len(), 1);
}

/// Certificates that no client should take are not taken for any: nothing of a request arrives, and the
/// program is told why.
#[test]
fn bad_certificates_are_not_laundered() {
    require_tool("openssl");
    require_tool("python3");
    let env = &TestEnv::of(None);
    let directory = certificates(env);
    let table = [
        ("good", ""),
        ("expired", "it has expired"),
        ("self", "it is the one of an authority"),
        ("alone", "no authority that is trusted"),
        ("other", "it is for another host"),
        ("short", "its key is too short"),
        ("sha1", "too weak"),
    ];
    let origins = table.map(|(name, _)| {
        let count = directory.join(format!("{name}.count"));
        Origin::start(&directory.join(format!("{name}.pem")), &count)
    });
    let ports: Vec<&str> = origins.iter().map(|one| one.port.as_str()).collect();
    let policy = format!(
        "schema = 1\n[network]\nupstream_ca = [\"{}\"]\n[network.hosts]\n\"good.test\" = \"127.0.0.1\"\n\
         [[allow]]\nid = \"api\"\nwhat = \"net\"\nhosts = [\"good.test\"]\nports = [{}]\n\
         methods = [\"GET\"]\nprivate = true\n",
        directory.join("ca.pem").display(),
        ports.join(", ")
    );
    let policy = env.write("policy.toml", &policy);
    let lines = ports.iter().map(|port| {
        format!("curl -sS -m 10 https://good.test:{port}/x; echo; curl -sS -m 10 --http1.1 https://good.test:{port}/y; echo; ")
    });
    let output = env
        .session_with(env.repo().path(), &["--ask", "deny"])
        .args(&["--policy".to_owned(), policy.display().to_string()])
        .line(lines.collect::<String>())
        .output();
    let record = env.record();
    let refused = refused(&record, "server-certificate");
    for ((name, why), port) in table.iter().zip(&ports) {
        let count = std::fs::read(directory.join(format!("{name}.count"))).unwrap_or_default();
        let own = refused.iter().filter(|event| event.targets(port));
        if *name == "good" {
            assert!(count.starts_with(b"GET /x"), "{output:?}");
            assert_eq!(own.count(), 0);
            continue;
        }
        assert_eq!(count.len(), 0, "{name}");
        let reasons: Vec<_> = own.map(|event| event.reason().to_owned()).collect();
        assert_eq!(reasons.len(), 2, "{name}: {output:?}");
        assert!(reasons.iter().all(|one| one.contains(why)), "{reasons:?}");
    }
}
