//! Secrets in what leaves: recorded where rules look at requests, refused where a rule says so.

use stockade_testkit::{
    Output, TestEnv, events,
    http::{Request, Response},
    lab::{HttpServer, TlsServer},
    run::require_tool,
};

use crate::network::{for_each_user, http2};

/// A token of a known format that nobody has, in two parts so that no scanner of sources finds it.
const TOKEN: (&str, &str) = ("ghp_", "k3Xv9QmZ2rT7bNw4Yc8LpD1sHf6GjA5uEoKq");

/// The same server twice, in clear and inside TLS.
struct Lab {
    plain: HttpServer,
    sealed: TlsServer,
    policy: String,
}

impl Lab {
    /// `more` is what the rule says about content.
    fn new(env: &TestEnv, more: &str) -> Self {
        let plain = HttpServer::with(|_| Response::text(200, "lab\n"));
        let sealed = TlsServer::start(&["good.test"]);
        let authority = env.write("authority.pem", sealed.certificate_pem());
        let text = format!(
            "schema = 1\n[network]\nupstream_ca = [\"{}\"]\n[network.hosts]\n\
             \"good.test\" = \"127.0.0.1\"\n[[allow]]\nid = \"lab\"\nwhat = \"net\"\n\
             hosts = [\"good.test\"]\nports = [{}, {}]\nprivate = true\n{more}",
            authority.display(),
            plain.port(),
            sealed.port()
        );
        let policy = env.write("policy.toml", &text).display().to_string();
        Self {
            plain,
            sealed,
            policy,
        }
    }

    /// Runs `send` of the script for every form of the token, in clear and inside TLS.
    fn run(&self, env: &TestEnv) -> Output {
        require_tool("python3");
        let repo = env.repo();
        env.write(repo.path().join("send.py"), SCRIPT);
        // In a file: arguments are part of the record.
        env.write(repo.path().join("token"), &[TOKEN.0, TOKEN.1].concat());
        let (plain, sealed) = (self.plain.port(), self.sealed.port());
        let line = format!("python3 send.py {plain} {sealed} token; /run/stockade/why");
        env.session_with(repo.path(), &["--ask", "deny"])
            .args(&["--policy".to_owned(), self.policy.clone()])
            .line(&line)
            .output()
    }

    fn requests(&self) -> Vec<Request> {
        let mut all = self.plain.requests();
        all.extend(self.sealed.requests());
        all
    }
}

/// Sends the token in every place and form, and something else; prints the status of each.
const SCRIPT: &str = r#"
import base64, gzip, http.client, ssl, sys, urllib.parse
plain, sealed, token = int(sys.argv[1]), int(sys.argv[2]), open(sys.argv[3]).read()
raw = token.encode()
def pieces(data, size):
    return (data[at:at + size] for at in range(0, len(data), size))
cases = {
    "path": ("GET", "/x?key=" + token, None, {}),
    "escaped-path": ("GET", "/x?key=" + "".join("%%%02x" % b for b in raw), None, {}),
    "field": ("GET", "/field", None, {"X-Note": "a " + token}),
    "basic": ("GET", "/basic", None, {"Authorization": "Basic " + base64.b64encode(b"me:" + raw).decode()}),
    "body": ("POST", "/body", b'{"a": "' + raw + b'"}', {}),
    "base64": ("POST", "/base64", base64.b64encode(b"some text: " + raw), {}),
    "hex": ("POST", "/hex", raw.hex().encode(), {}),
    "gzip": ("POST", "/gzip", gzip.compress(b"x" * 5000 + raw), {"Content-Encoding": "gzip"}),
    "plain-gzip": ("POST", "/plain-gzip", gzip.compress(b"x" * 5000 + raw), {}),
    "chunks": ("POST", "/chunks", pieces(b"before " + raw + b" after", 3), {}),
    "late": ("POST", "/late", b"y" * 300000 + raw, {}),
    "good": ("POST", "/good", b'{"sha": "' + raw.hex()[:40].encode().replace(b"6", b"0") + b'"}', {}),
}
for port, make in ((plain, http.client.HTTPConnection), (sealed, http.client.HTTPSConnection)):
    for name, (method, path, body, fields) in cases.items():
        if not isinstance(body, (bytes, type(None))):
            body = pieces(b"before " + raw + b" after", 3)
        try:
            client = make("good.test", port, timeout=10)
            client.request(method, path, body, fields)
            print(name, client.getresponse().status)
        except OSError as error:
            print(name, "cut")
"#;

const CASES: [&str; 11] = [
    "path",
    "escaped-path",
    "field",
    "basic",
    "body",
    "base64",
    "hex",
    "gzip",
    "plain-gzip",
    "chunks",
    "late",
];

/// Returns how many lines of what the script printed are exactly `line`.
fn lines(output: &Output, line: &str) -> usize {
    output.stdout.lines().filter(|one| *one == line).count()
}

fn assert_no_token(env: &TestEnv) {
    let record = env.record();
    let text = format!("{record:?}");
    assert!(!text.contains(TOKEN.1), "an event has the secret");
}

/// Every secret that leaves by requests is an event that says what, where and in which form, but not
/// the secret; everything arrives.
#[test]
fn secrets_that_leave_are_recorded() {
    for_each_user(|env| {
        let lab = Lab::new(env, "tls = \"inspect\"\n");
        let output = lab.run(env);
        for case in CASES.iter().chain(&["good"]) {
            let arrived = lines(&output, &format!("{case} 200"));
            assert_eq!(arrived, 2, "{case}: {output:?}");
        }
        assert_eq!(lab.requests().len(), 2 * (CASES.len() + 1));
        let record = env.record();
        let sent: Vec<_> = record
            .iter()
            .filter(|event| event.kind() == "secret.sent")
            .map(|event| event.json.to_string())
            .collect();
        // The body is one place, and the secret in it the same one, whatever its form: of each host and
        // port once.
        for place in ["path", "field X-Note", "field Authorization", "body"] {
            let place = format!("\"place\":\"{place}\"");
            let found = sent.iter().filter(|event| event.contains(&place));
            assert_eq!(found.count(), 2, "{place}: {sent:#?}");
        }
        assert!(
            sent.iter().all(|event| event.contains("github-token")),
            "{sent:#?}"
        );
        assert_no_token(env);
    });
}

/// Where a rule denies them, no request with a secret arrives, and none of its head where the head has
/// it; of a body nothing of the secret. What has none passes.
#[test]
fn no_secret_leaves_by_a_rule_that_denies_them() {
    for_each_user(|env| {
        let lab = Lab::new(env, "content = \"deny\"\n");
        let output = lab.run(env);
        for case in CASES {
            let refused = ["403", "cut"].map(|end| lines(&output, &format!("{case} {end}")));
            assert_eq!(refused.iter().sum::<usize>(), 2, "{case}: {output:?}");
        }
        assert_eq!(lines(&output, "good 200"), 2, "{output:?}");
        output.assert_stdout("content = \"record\"");
        let paths: Vec<String> = lab
            .requests()
            .iter()
            .map(|one| one.path().to_owned())
            .collect();
        assert_eq!(paths, ["/good", "/good"], "{output:?}");
        let record = env.record();
        let refused = record
            .iter()
            .filter(|event| event.rule() == "content")
            .count();
        assert_eq!(refused, 2 * CASES.len(), "{}", events::summary(&record));
        assert_no_token(env);
    });
}

/// What cannot be read does not pass a rule that denies secrets: other codings, bytes that are no HTTP,
/// and a WebSocket.
#[test]
fn what_cannot_be_searched_does_not_leave() {
    require_tool("curl");
    require_tool("python3");
    for_each_user(|env| {
        let lab = Lab::new(env, "content = \"deny\"\n");
        let port = lab.plain.port();
        let line = format!(
            "curl -sS -m 10 -H 'Content-Encoding: br' -d x http://good.test:{port}/br; \
             curl -sS -m 10 -H 'Content-Encoding: gzip' -d nothing-that-is-packed http://good.test:{port}/bad; \
             curl -sS -m 10 -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
             -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' http://good.test:{port}/ws; \
             python3 -c 'import socket; s = socket.create_connection((\"good.test\", {port})); \
             s.settimeout(10); s.sendall(bytes([1, 2, 3, 10])); print(s.recv(9))' 2>&1 | tail -1"
        );
        let repo = env.repo();
        let output = env
            .session_with(repo.path(), &["--ask", "deny"])
            .args(&["--policy".to_owned(), lab.policy.clone()])
            .line(&line)
            .output();
        output
            .assert_stdout("its `Content-Encoding` is not `gzip`")
            .assert_stdout("its gzip is not valid")
            .assert_stdout("what is said on a WebSocket")
            .assert_stdout("Connection reset by peer");
        assert!(lab.requests().is_empty(), "{output:?}");
    });
}

/// The same over HTTP/2: heads and bodies with a secret do not arrive, whatever their form; other streams
/// of the connection do.
#[test]
fn no_secret_leaves_over_http2() {
    require_tool("curl");
    for_each_user(|env| {
        let lab = http2::Lab::new(env, "content = \"deny\"\n");
        let repo = env.repo();
        let token = [TOKEN.0, TOKEN.1].concat();
        env.write(repo.path().join("token"), &token);
        env.write(repo.path().join("field"), &format!("x-note: {token}"));
        let paths = ["a", &token, "b"].map(|last| {
            let port = lab.two.port();
            format!("url = https://good.test:{port}/allowed/{last}\noutput = /dev/null\n")
        });
        env.write(repo.path().join("paths"), &paths.concat());
        let body = |what: &str| {
            format!(
                "{what} | curl -sS -m 10 --http2 -w '%{{http_version}} %{{http_code}}\\n' -o /dev/null --data-binary @- $TO/echo; "
            )
        };
        let line = [
            format!("TO=https://good.test:{}; ", lab.two.port()),
            "curl -sS -m 10 --http2 -w '%{http_code}\\n' -K paths; ".to_owned(),
            "curl -sS -m 10 --http2 -w '%{http_code}\\n' -o /dev/null -H @field $TO/allowed/field; ".to_owned(),
            body("cat token"),
            body("base64 token"),
            body("od -An -v -tx1 token | tr -d ' \\n'"),
            body("gzip -c token"),
            body("{ head -c 300000 /dev/zero; cat token; }"),
            body("echo good"),
        ]
        .concat();
        let output = env
            .session_with(repo.path(), &["--ask", "deny", "--policy", &lab.policy])
            .line(&line)
            .output();
        let lines: Vec<&str> = output.stdout.lines().collect();
        assert_eq!(lines[..4], ["200", "403", "200", "403"], "{output:?}");
        assert_eq!(lines.last(), Some(&"2 200"), "{output:?}");
        // A server that answers at once may have the head of its answer through when the secret comes.
        let refused = lines[4..9].iter().filter(|line| **line == "2 403").count();
        let cut = output
            .stderr
            .matches("was not closed cleanly: CANCEL")
            .count();
        assert_eq!(refused + cut, 5, "{output:?}");
        let requests = lab.two.requests();
        let whole = requests.iter().filter(|one| one.body == b"good\n");
        assert_eq!(whole.count(), 1, "{output:?}");
        // Of a body that has the secret at its end, what comes before it may have arrived.
        for one in requests {
            let text = format!("{one:?}");
            assert!(
                !text.contains(TOKEN.1) && !String::from_utf8_lossy(&one.body).contains(TOKEN.1),
                "{text}"
            );
        }
        let record = env.record();
        let refused = record.iter().filter(|event| event.rule() == "content");
        assert_eq!(refused.count(), 7, "{}", events::summary(&record));
        assert_no_token(env);
    });
}

/// What policy keeps from the session, variables and hidden files, is looked for too: it does not leave in
/// any form where no secret may, is recorded elsewhere, and the record does not have it.
#[test]
fn what_the_session_does_not_have_does_not_leave() {
    const VARIABLE: &str = "vAr9-Kq2mZx7Lw4-kept-outside";
    const FILE: &str = "fIl3/Qz8+Nv5Ty1Rb6Wm0Jd4Gh7Sx2Pc9Ku";
    require_tool("python3");
    for_each_user(|env| {
        for (more, leaves) in [
            ("content = \"deny\"\n", false),
            ("tls = \"inspect\"\n", true),
        ] {
            let lab = Lab::new(env, more);
            let aws =
                format!("[default]\naws_access_key_id = none\naws_secret_access_key = {FILE}\n");
            env.write(env.home().join(".aws/credentials"), &aws);
            let repo = env.repo_named(if leaves { "record" } else { "deny" });
            // As if the agent had it from elsewhere.
            env.write(repo.path().join("values"), &format!("{VARIABLE}\n{FILE}\n"));
            env.write(repo.path().join("forms.py"), FORMS);
            let line = format!("python3 forms.py {}", lab.plain.port());
            let output = env
                .session_with(repo.path(), &["--ask", "deny", "--policy", &lab.policy])
                .line(&line)
                .env("DEPLOY_TOKEN", VARIABLE)
                .env("EDITOR_THEME", "not-A-s3cret-though-l0ng")
                .output();
            let expected = if leaves { "200" } else { "refused" };
            // Two values in five forms each, and one that is kept from nobody.
            assert_eq!(
                lines(&output, expected),
                if leaves { 11 } else { 10 },
                "{output:?}"
            );
            assert_eq!(
                lab.requests().len(),
                if leaves { 11 } else { 1 },
                "{output:?}"
            );
            let record = env.record();
            let text = format!("{record:?}");
            assert!(
                text.contains("variable `DEPLOY_TOKEN`") && text.contains("/.aws/credentials`"),
                "{text}"
            );
            assert!(
                !text.contains(VARIABLE) && !text.contains(FILE),
                "an event has the value"
            );
            let kind = if leaves {
                "secret.sent"
            } else {
                "http.decided"
            };
            let count = record.iter().filter(|event| {
                event.kind() == kind && event.json.to_string().contains("DEPLOY_TOKEN")
            });
            assert!(count.count() > 0, "{}", events::summary(&record));
        }
    });
}

/// Sends each line of a file in each form, and something that is no secret.
const FORMS: &str = r#"
import base64, gzip, http.client, sys, urllib.parse
def send(body):
    client = http.client.HTTPConnection("good.test", int(sys.argv[1]), timeout=10)
    try:
        client.request("POST", "/x", body)
        print(client.getresponse().status == 200 and "200" or "refused")
    except OSError:
        print("refused")
for value in open("values", "rb").read().split():
    escaped = "".join("%%%02X" % byte for byte in value).encode()
    for body in (value, base64.b64encode(b"ab" + value), value.hex().encode(), escaped, gzip.compress(value)):
        send(b"x=" + body if body[:1] != b"\x1f" else body)
send(b"not-A-s3cret-though-l0ng")
"#;
