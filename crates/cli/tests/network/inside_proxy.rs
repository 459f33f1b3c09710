//! The proxy on the session's own loopback, for programs that want one: the same decisions as without.

use std::{
    fmt::Write as _,
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use stockade_testkit::{
    TestEnv,
    env::under_test,
    events::{self, Event},
    http::Request,
    lab::{HttpServer, TlsServer},
    run::require_tool,
};

use crate::network::{allowed, for_each_user};

/// The port of the proxy in these tests.
const PORT: u16 = 3128;

/// Adds the proxy to a policy of [`allowed`].
fn with_proxy(env: &TestEnv, policy: &[String; 2], more: &str) -> [String; 2] {
    let text = std::fs::read_to_string(&policy[1]).expect("the policy");
    let network = format!("[network]\ninside_proxy = {PORT}\n{more}\n[network.hosts]");
    env.write("policy.toml", &text.replace("[network.hosts]", &network));
    policy.clone()
}

/// curl reaches allowed hosts through it, whatever it speaks to it, and no other host; what it names
/// by address leads to the same host.
#[test]
fn curl_reaches_what_it_reaches_without() {
    require_tool("curl");
    for_each_user(|env| {
        let (plain, tls) = (HttpServer::start(), TlsServer::start(&["good.test"]));
        let (port, secure) = (plain.port(), tls.port());
        let policy = with_proxy(env, &allowed(env, &["good.test"], &[port, secure]), "");
        let repo = env.repo();
        env.write(repo.path().join("ca.pem"), tls.certificate_pem());
        let line = format!(
            "for way in '-x http' '-x socks5' '-x socks5h' '-p -x http'; do \
             case $way in *socks5*) proxy=${{way#-x }}; set -- ;; *-p*) proxy=http; set -- -p;; \
             *) proxy=http; set --;; esac; \
             curl -sS -m 10 $@ -x $proxy://127.0.0.1:{PORT} http://good.test:{port}/ -o /dev/null \
             -w \"$proxy %{{http_code}}\\n\"; \
             curl -sS -m 10 -x $proxy://localhost:{PORT} --cacert ca.pem \
             https://good.test:{secure}/ -o /dev/null -w \"$proxy %{{http_code}}\\n\"; \
             curl -s -m 10 $@ -x $proxy://127.0.0.1:{PORT} http://evil.test:{port}/ -o /dev/null \
             -w \"evil %{{http_code}} %{{exitcode}}\\n\"; done"
        );
        let run = env.session_with(repo.path(), &["--ask", "deny"]);
        let output = run.args(&policy).line(&line).output();
        let record = env.record();
        let shown = format!("{output:?} {}", events::summary(&record));
        let lines: Vec<&str> = output.stdout.lines().collect();
        assert_eq!(
            lines,
            [
                "http 200",
                "http 200",
                "evil 403 0",
                "socks5 200",
                "socks5 200",
                "evil 000 97",
                "socks5h 200",
                "socks5h 200",
                "evil 000 97",
                "http 200",
                "http 200",
                "evil 000 56"
            ],
            "{shown}"
        );
        assert_eq!(plain.requests().len(), 4, "{shown}");
        assert_eq!(tls.requests().len(), 4, "{shown}");
        let refused = |event: &&Event| event.is_refusal() && event.targets("evil.test");
        assert_eq!(record.iter().filter(refused).count(), 4, "{shown}");
    });
}

/// Says to the proxy what each line of a file says, and prints what it answers. A second message, where
/// there is one, is sent after the first answer.
const SCRIPT: &str = r#"
import socket, sys
for line in open(sys.argv[2]):
    name, *messages = line.split()
    got = b""
    try:
        s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10)
        for number, message in enumerate(messages):
            s.sendall(bytes.fromhex(message))
            if number + 1 < len(messages):
                got = s.recv(65536)
        last = b""
        while True:
            more = s.recv(65536)
            if not more:
                break
            last += more
        got = last or got
    except OSError as error:
        got += str(error).encode()
    text = got[:12].decode("latin-1") if got[:5] == b"HTTP/" else got[:2].hex()
    print(name, text.replace("HTTP/1.1 ", ""))
"#;

/// A request that must reach nobody, and how its answer begins: a status, or two bytes.
type Refused = (&'static str, Vec<Vec<u8>>, &'static str);

fn http(text: &str) -> Vec<Vec<u8>> {
    vec![text.as_bytes().to_vec()]
}

fn connect(target: &str) -> Vec<Vec<u8>> {
    http(&format!("CONNECT {target} HTTP/1.1\r\n\r\n"))
}

/// A greeting and a request of SOCKS 5.
fn socks(request: &[u8]) -> Vec<Vec<u8>> {
    vec![vec![5, 1, 0], request.to_vec()]
}

/// The request for a name with a command.
fn named(command: u8, name: &str, port: u16) -> Vec<u8> {
    let length = u8::try_from(name.len()).expect("a short name");
    let head = [5, command, 0, 3, length];
    [&head, name.as_bytes(), &port.to_be_bytes()].concat()
}

/// What must not be understood, by the port of a server that every one of them could be for.
fn refused(port: u16) -> Vec<Refused> {
    let kinds = [
        refused_targets(port),
        refused_tunnels(port),
        refused_requests(port),
        refused_socks(port),
    ];
    kinds.concat()
}

/// Ports and hosts of a tunnel.
fn refused_targets(port: u16) -> Vec<Refused> {
    vec![
        // Ports (N16): none, zero, one beyond 65535 that is the server's when it is cut, others.
        ("port-none", connect("good.test"), "400"),
        ("port-empty", connect("good.test:"), "400"),
        ("port-zero", connect("good.test:0"), "400"),
        (
            "port-cut",
            connect(&format!("good.test:{}", 65_536 + u32::from(port))),
            "400",
        ),
        ("port-sign", connect(&format!("good.test:+{port}")), "400"),
        ("port-ssh", connect("good.test:22"), "403"),
        ("port-mail", connect("good.test:25"), "403"),
        ("port-other", connect("good.test:9999"), "403"),
        // Hosts in all spellings of addresses (N08), and the session's own.
        ("number", connect(&format!("2130706433:{port}")), "400"),
        ("hex", connect(&format!("0x7f.1:{port}")), "400"),
        ("octal", connect(&format!("0177.0.0.1:{port}")), "400"),
        ("short", connect(&format!("127.1:{port}")), "400"),
        ("zero", connect(&format!("0:{port}")), "400"),
        ("future", connect(&format!("[v1.x]:{port}")), "400"),
        ("zone", connect(&format!("[fe80::1%25lo]:{port}")), "400"),
        ("own", connect(&format!("127.0.0.1:{port}")), "403"),
        ("own-other", connect(&format!("127.0.0.2:{port}")), "403"),
        ("own-any", connect(&format!("0.0.0.0:{port}")), "403"),
        ("own-six", connect(&format!("[::1]:{port}")), "403"),
        ("own-any-six", connect(&format!("[::]:{port}")), "403"),
        (
            "own-mapped",
            connect(&format!("[::ffff:127.0.0.1]:{port}")),
            "403",
        ),
        (
            "own-compatible",
            connect(&format!("[::127.0.0.1]:{port}")),
            "403",
        ),
        (
            "own-nat64",
            connect(&format!("[64:ff9b::7f00:1]:{port}")),
            "403",
        ),
        ("own-name", connect(&format!("localhost:{port}")), "403"),
        ("own-below", connect(&format!("x.localhost:{port}")), "403"),
        ("itself", connect(&format!("127.0.0.1:{PORT}")), "403"),
        ("single", connect(&format!("intranet:{port}")), "403"),
        ("metadata", connect("169.254.169.254:80"), "403"),
        ("synthetic", connect(&format!("198.18.77.7:{port}")), "403"),
        ("evil", connect(&format!("evil.test:{port}")), "403"),
    ]
}

/// Tunnels that are asked for in another way, and what must not be in one.
fn refused_tunnels(port: u16) -> Vec<Refused> {
    let good = format!("good.test:{port}");
    // Inside a tunnel: another host, another tunnel, HTTP/2 in clear.
    let tunnel = |inside: String| vec![connect(&good).concat(), inside.into_bytes()];
    vec![
        // Words that name two hosts, or none.
        ("user", connect(&format!("me:pw@{good}")), "400"),
        ("path", connect(&format!("{good}/x")), "400"),
        (
            "two-hosts",
            http(&format!(
                "CONNECT {good} HTTP/1.1\r\nHost: evil.test\r\n\r\n"
            )),
            "421",
        ),
        (
            "two-ports",
            http(&format!(
                "CONNECT {good} HTTP/1.1\r\nHost: good.test:1\r\n\r\n"
            )),
            "421",
        ),
        (
            "host-twice",
            http(&format!(
                "CONNECT {good} HTTP/1.1\r\nHost: {good}\r\nHost: {good}\r\n\r\n"
            )),
            "400",
        ),
        (
            "body",
            http(&format!(
                "CONNECT {good} HTTP/1.1\r\nContent-Length: 1\r\n\r\nx"
            )),
            "400",
        ),
        (
            "chunks",
            http(&format!(
                "CONNECT {good} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            )),
            "400",
        ),
        (
            "bare-lf",
            http(&format!("CONNECT {good} HTTP/1.1\n\n")),
            "400",
        ),
        (
            "small",
            http(&format!("connect {good} HTTP/1.1\r\n\r\n")),
            "400",
        ),
        (
            "in-other",
            tunnel("GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n".to_owned()),
            "421",
        ),
        (
            "in-tunnel",
            tunnel(format!("CONNECT {good} HTTP/1.1\r\n\r\n")),
            "400",
        ),
        (
            "in-prior",
            tunnel("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
            "400",
        ),
    ]
}

/// Requests that are for no proxy, or for one elsewhere.
fn refused_requests(port: u16) -> Vec<Refused> {
    let good = format!("good.test:{port}");
    let get = |target: &str, host: &str| {
        http(&format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        ))
    };
    vec![
        ("origin", get("/", &good), "400"),
        (
            "star",
            http(&format!("OPTIONS * HTTP/1.1\r\nHost: {good}\r\n\r\n")),
            "400",
        ),
        ("https", get("https://good.test/", "good.test"), "400"),
        ("ftp", get("ftp://good.test/", "good.test"), "400"),
        (
            "other-host",
            get(&format!("http://{good}/"), "evil.test"),
            "400",
        ),
        ("login", get(&format!("http://me:pw@{good}/"), &good), "400"),
        (
            "absolute-own",
            get(
                &format!("http://127.0.0.1:{port}/"),
                &format!("127.0.0.1:{port}"),
            ),
            "403",
        ),
        (
            "absolute-evil",
            get("http://evil.test/", "evil.test"),
            "403",
        ),
        ("prior", http("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "400"),
        (
            "tls",
            vec![b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00".to_vec()],
            "1503",
        ),
    ]
}

/// Requests of SOCKS.
fn refused_socks(port: u16) -> Vec<Refused> {
    let at = port.to_be_bytes();
    let v4 = |address: [u8; 4]| [&[5, 1, 0, 1][..], &address, &at].concat();
    vec![
        ("socks-bind", socks(&named(2, "good.test", port)), "0507"),
        ("socks-udp", socks(&named(3, "good.test", port)), "0507"),
        ("socks-evil", socks(&named(1, "evil.test", port)), "0502"),
        ("socks-port", socks(&named(1, "good.test", 22)), "0502"),
        ("socks-zero", socks(&named(1, "good.test", 0)), "0501"),
        ("socks-spelt", socks(&named(1, "0x7f.1", port)), "0501"),
        ("socks-empty", socks(&named(1, "", port)), "0501"),
        (
            "socks-nul",
            socks(&named(1, "good.test\0.evil.test", port)),
            "0501",
        ),
        ("socks-own", socks(&v4([127, 0, 0, 1])), "0502"),
        ("socks-any", socks(&v4([0, 0, 0, 0])), "0502"),
        ("socks-kind", socks(&[5, 1, 0, 9, 1, 1]), "0508"),
        ("socks-version", socks(&[4, 1, 0, 1]), "0501"),
        (
            "socks-reserved",
            socks(&[5, 1, 7, 1, 1, 1, 1, 1, 0, 80]),
            "0501",
        ),
        ("socks-login", vec![vec![5, 1, 2]], "05ff"),
        ("socks-nothing", vec![vec![5, 0]], "05ff"),
        (
            "socks-4",
            vec![[&[4, 1], &at[..], &[127, 0, 0, 1, 0]].concat()],
            "005b",
        ),
    ]
}

/// No port, host or protocol passes for another one (N08, N14, N16): each attempt is told so in the
/// protocol of its client, is one event, and no byte of it arrives. What is meant for the host passes.
#[test]
fn n14_n16_what_is_not_allowed_does_not_pass_as_something_else() {
    require_tool("python3");
    for_each_user(|env| {
        let server = HttpServer::start();
        let port = server.port();
        let policy = with_proxy(env, &allowed(env, &["good.test"], &[port]), "");
        let repo = env.repo();
        let cases = refused(port);
        let hex = |bytes: &Vec<u8>| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                write!(text, "{byte:02x}").expect("a string takes it");
                text
            })
        };
        let line = |name: &str, messages: &[Vec<u8>]| {
            let all: Vec<String> = messages.iter().map(hex).collect();
            format!("{name} {}\n", all.join(" "))
        };
        let attempts: String = cases
            .iter()
            .map(|(name, said, _)| line(name, said))
            .collect();
        let request =
            format!("GET / HTTP/1.1\r\nHost: good.test:{port}\r\nConnection: close\r\n\r\n");
        let tunnel = connect(&format!("good.test:{port}"));
        // The host's bytes may come with the wish.
        let controls = [
            line("later", &[tunnel[0].clone(), request.clone().into_bytes()]),
            line(
                "at-once",
                &[[tunnel[0].as_slice(), request.as_bytes()].concat()],
            ),
            line(
                "socks",
                &[
                    vec![5, 2, 2, 0],
                    named(1, "good.test", port),
                    request.into_bytes(),
                ],
            ),
        ]
        .concat();
        std::fs::write(repo.path().join("script.py"), SCRIPT).expect("the script");
        std::fs::write(repo.path().join("attempts"), attempts).expect("the attempts");
        std::fs::write(repo.path().join("controls"), controls).expect("the controls");
        let run = |file: &str| {
            let session = env.session_with(repo.path(), &["--ask", "deny"]);
            let line = format!("python3 script.py {PORT} {file}");
            session.args(&policy).line(&line).output()
        };
        let output = run("attempts");
        let expected: Vec<String> = cases
            .iter()
            .map(|(name, _, told)| format!("{name} {told}"))
            .collect();
        let told: Vec<&str> = output.stdout.lines().collect();
        let record = env.record();
        assert_eq!(told, expected, "{output:?} {}", events::summary(&record));
        assert_eq!(server.traffic().bytes_in, 0, "{output:?}");
        let denied = record.iter().filter(|event| event.is_refusal());
        assert_eq!(denied.count(), cases.len(), "{}", events::summary(&record));
        let output = run("controls");
        assert_eq!(server.requests().len(), 3, "{output:?}");
    });
}

/// Nobody but the programs of a session reaches its proxy, so it needs no token (N28): not another
/// session, not a process of the machine.
#[test]
fn n28_the_proxy_is_the_sessions_own() {
    for tool in ["curl", "python3"] {
        require_tool(tool);
    }
    for_each_user(|env| {
        let server = HttpServer::start();
        let port = server.port();
        let policy = with_proxy(env, &allowed(env, &["good.test"], &[port]), "");
        let repo = env.repo();
        let curl = format!(
            "curl -s -m 5 -o /dev/null -w '%{{http_code}} %{{exitcode}}\\n' -x http://127.0.0.1:{PORT} \
             http://good.test:{port}/"
        );
        // It says that it is up by reaching the server, and stays until its input ends.
        let waiting = env
            .session_with(repo.path(), &["--ask", "deny"])
            .args(&policy);
        let first = waiting.line(format!("{curl}; sleep 20")).spawn();
        assert_eq!(server.wait_for(1, Duration::from_secs(20)).len(), 1);
        // A process of the machine: no such listener exists.
        for address in ["127.0.0.1", "::1"] {
            let address: IpAddr = address.parse().expect("an address");
            let error =
                TcpStream::connect(SocketAddr::new(address, PORT)).expect_err("nobody is there");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        }
        // Another session without one.
        let other = env.repo_named("other");
        let plain = allowed(env, &["good.test"], &[port]);
        let run = env
            .session_with(other.path(), &["--ask", "deny"])
            .args(&plain);
        run.line(&curl).output().assert_stdout("000 7\n");
        assert_eq!(server.requests().len(), 1);
        drop(first);
    });
}

/// The port is no service and is not published, in whatever order files say so, and nothing names it that
/// does not exist.
#[test]
fn the_port_is_nothing_else() {
    let env = TestEnv::new(under_test());
    for (text, wanted) in [
        (
            "[network]\ninside_proxy = 53\n",
            "other than the session's own",
        ),
        ("[network]\ninside_proxy = 70000\n", "expected a port"),
        (
            "[network]\ninside_proxy_variables = true\n",
            "give it a port",
        ),
        (
            "[network]\ninside_proxy = 3128\n[[publish]]\nport = 3128\n",
            "is the session's own proxy",
        ),
        (
            "[network]\ninside_proxy = 3128\n[[publish]]\nport = 3128\nas = 4000\n",
            "is the session's own proxy",
        ),
        (
            "[network]\ninside_proxy = 3128\n[[publish]]\nport = 3128\nwhen = \"listening\"\n",
            "is the session's own proxy",
        ),
        (
            "[network]\ninside_proxy = 3128\n[network.services]\n\"localhost:3128\" = \"127.0.0.1:9\"\n",
            "is a service or a published port",
        ),
    ] {
        let path = env.write("policy.toml", &format!("schema = 1\n{text}"));
        let check = env.stockade().args(["policy", "check"]).arg(&path).output();
        check.assert_code(1).assert_stdout(wanted);
    }
    let path = env.write(
        "policy.toml",
        "schema = 1\n[network]\ninside_proxy = 3128\n",
    );
    env.stockade()
        .args(["policy", "check"])
        .arg(&path)
        .success();
    let repo = env.repo();
    let more = ["--ask", "deny", "--publish", "4000:3128", "--policy"];
    let run = env.session_with(repo.path(), &more).arg(&path).line("true");
    run.output().assert_stderr("is the session's own proxy");
}

/// Programs use it as they use any proxy, with one word of the policy and without a flag: requests to
/// several hosts on one connection are each for their own, and no field for proxies goes on. Rules about
/// requests hold inside tunnels, where TLS is opened.
#[test]
fn programs_use_it_by_their_variables() {
    for tool in ["curl", "git", "node", "npm", "pip3", "python3"] {
        require_tool(tool);
    }
    for_each_user(|env| {
        let (server, other) = (HttpServer::start(), HttpServer::start());
        let (port, second) = (server.port(), other.port());
        let policy = allowed(env, &["good.test", "also.test"], &[port, second]);
        let policy = with_proxy(env, &policy, "inside_proxy_variables = true");
        let repo = env.repo();
        let url = format!("http://good.test:{port}");
        let line = format!(
            "curl -sS -m 10 -U me:canary {url}/one http://also.test:{second}/two {url}/three \
             -o /dev/null -o /dev/null -o /dev/null -w '%{{http_code}}\\n'; \
             python3 -c 'import urllib.request as u; u.urlopen(\"{url}/urllib\")'; \
             git ls-remote {url}/git 2>&1; npm view --registry {url}/npm/ x 2>&1; \
             pip3 download --no-deps -i {url}/pip/ --trusted-host good.test x 2>&1; \
             node -e 'fetch(\"{url}/node\").then(a => console.log(\"node\", a.status))'; \
             python3 -m http.server -b 127.0.0.1 8123 >/dev/null 2>&1 & \
             until curl -s -o /dev/null http://localhost:8123/; do :; done; echo own server; kill $!; \
             env | grep -i _proxy | sort"
        );
        let run = env
            .session_with(repo.path(), &["--ask", "deny"])
            .args(&policy);
        let output = run.line(&line).output();
        output
            .assert_stdout("own server\n")
            .assert_stdout("node 200\n");
        output.assert_stdout(&format!("HTTPS_PROXY=http://127.0.0.1:{PORT}\n"));
        let all = [server.requests(), other.requests()].concat();
        let paths: Vec<&str> = all.iter().map(Request::path).collect();
        for path in [
            "/one", "/two", "/three", "/urllib", "/git/", "/npm/", "/pip/", "/node",
        ] {
            assert!(
                paths.iter().any(|own| own.starts_with(path)),
                "{path} {paths:?} {output:?}"
            );
        }
        let fields = format!("{all:?}").to_ascii_lowercase();
        assert!(!fields.contains("proxy-"), "{fields}");
        assert!(
            other
                .requests()
                .iter()
                .all(|request| request.path() == "/two"),
            "{paths:?}"
        );
    });
}
