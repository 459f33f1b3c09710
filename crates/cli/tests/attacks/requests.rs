//! Single requests and first bytes (family N): a path that servers read in different ways matches
//! no rule, and a connection keeps the protocol with which it began.

use stockade_testkit::{
    TestEnv,
    env::User,
    escape::{Action, Case, Control, Outcome, Scene},
    http::{Request, Response},
    lab::{HttpServer, TcpEcho},
};

use crate::attacks::matrix::{Matrix, closed};

/// One host with certain paths allowed, one with certain paths denied and the rest allowed, and one
/// without paths; all are the laboratory.
fn policy(env: &TestEnv, port: u16) -> Vec<String> {
    let rule = |verdict: &str, id: &str, hosts: &str, more: &str| {
        let private = if verdict == "deny" {
            ""
        } else {
            "private = true\n"
        };
        format!(
            "[[{verdict}]]\nid = \"{id}\"\nwhat = \"net\"\nhosts = [{hosts}]\nports = [{port}]\n\
             {private}{more}reason = \"lab\"\n"
        )
    };
    let text = [
        "schema = 1\n[network.hosts]\n\"allowed.test\" = \"127.0.0.1\"\n\
         \"denied.test\" = \"127.0.0.1\"\n\"whole.test\" = \"127.0.0.1\"\n"
            .to_owned(),
        GREETED
            .map(|host| format!("\"{host}\" = \"127.0.0.1\"\n"))
            .concat(),
        rule(
            "allow",
            "public",
            "\"allowed.test\"",
            "paths = [\"/public/**\"]\n",
        ),
        rule(
            "allow",
            "whole",
            "\"denied.test\", \"whole.test\", \"**.greeted.test\"",
            "",
        ),
        rule(
            "deny",
            "admin",
            "\"denied.test\"",
            "paths = [\"/admin/**\"]\n",
        ),
    ]
    .concat();
    vec![
        "--policy".into(),
        env.write("policy.toml", &text).display().to_string(),
    ]
}

/// Names of the laboratory that are allowed as a whole, one for each first message.
const GREETED: [&str; 7] = [
    "a.greeted.test",
    "b.greeted.test",
    "c.greeted.test",
    "d.greeted.test",
    "e.greeted.test",
    "f.greeted.test",
    "g.greeted.test",
];

/// A request by curl, which sends the path unchanged.
fn curl(host: &str, port: u16, path: &str, more: &str) -> String {
    format!("curl -gfsS -m 5 --path-as-is {more} 'http://{host}:{port}{path}'")
}

/// Every spelling of a path that some server reads as another one, and fields that name another
/// one.
#[test]
fn n50_paths_with_two_meanings_pass_no_rule_about_paths() {
    let server = HttpServer::start();
    let port = server.port();
    let allowed = [
        ("parameter", "/public/..;/admin"),
        ("encoded-parameter", "/public/..%3b/admin"),
        ("over-long", "/public/%c0%ae%c0%ae/admin"),
        ("encoded-slash", "/public/..%2fadmin"),
        ("encoded-backslash", "/public/..%5cadmin"),
        ("twice", "/public/%252e%252e/admin"),
        ("dots", "/public/../admin"),
        ("encoded-dots", "/public/%2e%2e/admin"),
        ("full-width", "/public/%ef%bc%8e%ef%bc%8e/admin"),
        ("empty", "/public//x"),
        ("nul", "/public/x%00"),
    ];
    let denied = [
        ("deny-parameter", "/admin;x/y"),
        ("deny-blank", "/admin%20/y"),
        ("deny-dot", "/admin./y"),
        ("deny-up", "/x/..;/admin/y"),
        ("deny-nul", "/admin%00/y"),
        ("deny-case", "/ADMIN/y"),
        ("deny-itself", "/admin?itself"),
        ("deny-scoped", "/@scope%2fname"),
    ];
    let field = "-H 'X-Original-URL: /admin/y'";
    let lines: Vec<(&str, String, String, &str, &str)> = allowed
        .iter()
        .map(|(name, path)| (*name, *path, "allowed.test", "", ""))
        .chain(
            denied
                .iter()
                .map(|(name, path)| (*name, *path, "denied.test", "", "admin")),
        )
        .chain([
            ("field", "/public/x", "allowed.test", field, "http-framing"),
            ("deny-field", "/y", "denied.test", field, "http-framing"),
        ])
        .map(|(name, path, host, more, rule)| {
            let twin = curl("127.0.0.1", port, path, more);
            (name, curl(host, port, path, more), twin, path, rule)
        })
        .collect();
    let attempts: Vec<_> = lines
        .iter()
        .map(|(name, line, twin, path, rule)| {
            closed(name, line)
                .twin(twin)
                .event("http.decided", rule, path)
        })
        .collect();
    Matrix {
        tools: &["curl"],
        options: &|scene: &Scene| policy(&scene.env, port),
        ..Matrix::new("N50", &attempts)
    }
    .check();
    let users = User::all().len();
    assert_eq!(
        server.requests().len(),
        attempts.len() * users,
        "only the controls arrived"
    );
}

/// Ordinary encoded paths match rules about paths, and any path passes if no rule has paths.
#[test]
fn n50_ordinary_paths_pass() {
    let paths = [
        ("allowed.test", "/public/x"),
        ("allowed.test", "/public/a%20b"),
        ("allowed.test", "/public/%2B+c"),
        ("allowed.test", "/public/caf%C3%A9"),
        ("allowed.test", "/public/@scope/name"),
        ("allowed.test", "/public/x?next=/../admin;a%2fb"),
        ("denied.test", "/public/a%20b"),
        ("denied.test", "/administration"),
        ("whole.test", "/@scope%2fname"),
        ("whole.test", "/a;b/c%00d"),
    ];
    let server = HttpServer::with(|_| Response::text(200, "lab\n"));
    let port = server.port();
    let inside: Vec<String> = paths
        .iter()
        .map(|(host, path)| curl(host, port, path, ""))
        .collect();
    let outside: Vec<String> = paths
        .iter()
        .map(|(_, path)| curl("127.0.0.1", port, path, ""))
        .collect();
    let (inside, outside) = (inside.join(" && "), outside.join(" && "));
    let seen = std::cell::Cell::new(0);
    Case {
        tools: &["curl"],
        control: Control::Twin(Action::Snippet(&outside)),
        options: &|scene| policy(&scene.env, port),
        prepare: &|_| seen.set(server.requests().len()),
        ..Case::new(
            "N50",
            "ordinary paths are asked for",
            Action::Snippet(&inside),
            &|_| server.requests().len() == seen.get() + paths.len(),
            Outcome::Works,
        )
    }
    .check(&crate::attacks::binary());
}

/// npm requests a package with a scope through an encoded slash, which passes if no rule has paths.
#[test]
fn n50_npm_finds_packages_with_a_scope() {
    let package = serde_json::json!({
        "name": "@lab/thing",
        "dist-tags": {"latest": "1.2.3"},
        "versions": {"1.2.3": {"name": "@lab/thing", "version": "1.2.3"}},
    });
    let server = HttpServer::with(move |_| Response::json(200, &package));
    let port = server.port();
    let line = |host: &str| {
        format!(
            "npm view @lab/thing version --registry http://{host}:{port}/ --cache ./cache \
             --update-notifier false --fetch-retries 0 | grep -x 1.2.3"
        )
    };
    let (inside, outside) = (line("whole.test"), line("127.0.0.1"));
    let seen = std::cell::Cell::new(0);
    Case {
        tools: &["npm"],
        control: Control::Twin(Action::Snippet(&outside)),
        options: &|scene| policy(&scene.env, port),
        prepare: &|_| seen.set(server.requests().len()),
        ..Case::new(
            "N50",
            "a package with a scope is asked for",
            Action::Snippet(&inside),
            &|_| {
                let requests = server.requests();
                let new = requests.iter().skip(seen.get());
                new.map(Request::path).eq(["/@lab%2fthing"])
            },
            Outcome::Works,
        )
    }
    .check(&crate::attacks::binary());
}

/// A cut first message does not become another protocol, nor does a request after bytes that some
/// servers skip: none of it arrives.
#[test]
fn n52_what_begins_as_a_protocol_is_that_protocol() {
    let echo = TcpEcho::start();
    let port = echo.address().port();
    // Sends bytes and the end, and succeeds if any byte comes back.
    let say = |host: &str, bytes: &str| {
        format!(
            "perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(\"{host}:{port}\") or exit 1; \
             $s->send({bytes}); shutdown($s, 1); $s->timeout(5); sysread($s, $b, 9) or exit 1; \
             exit($b =~ /^HTTP|^\\x15\\x03\\x03/ ? 1 : 0)'"
        )
    };
    let cases = [
        (
            "cut-greeting",
            "pack(\"H*\", \"1603010200010001fc0303\")",
            "greeting-unfinished",
        ),
        ("one-byte", "\"\\x16\"", "greeting-unfinished"),
        ("cut-request", "\"GET /x\"", "greeting-unfinished"),
        (
            "warning-first",
            "pack(\"H*\", \"1503010002015a160301\")",
            "tls-malformed",
        ),
        (
            "mark",
            "\"\\xef\\xbb\\xbfGET /x HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n\"",
            "http-framing",
        ),
        (
            "nul",
            "\"\\0GET /x HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n\"",
            "http-framing",
        ),
        (
            "bare-cr",
            "\"\\0GET /x HTTP/1.1\\rHost: x\\r\\r\"",
            "http-framing",
        ),
    ];
    let lines: Vec<(&str, String, String, &str, &str)> = cases
        .iter()
        .zip(GREETED)
        .map(|((name, bytes, rule), host)| {
            (
                *name,
                say(host, bytes),
                say("127.0.0.1", bytes),
                *rule,
                host,
            )
        })
        .collect();
    let attempts: Vec<_> = lines
        .iter()
        .map(|(name, line, twin, rule, host)| {
            closed(name, line)
                .twin(twin)
                .event("connection.decided", rule, host)
        })
        .collect();
    let seen = std::cell::Cell::new(0);
    Matrix {
        options: &|scene: &Scene| {
            seen.set(echo.traffic().bytes_in);
            policy(&scene.env, port)
        },
        after: &|_, output| assert_eq!(echo.traffic().bytes_in, seen.get(), "{output:?}"),
        ..Matrix::new("N52", &attempts)
    }
    .check();
}
