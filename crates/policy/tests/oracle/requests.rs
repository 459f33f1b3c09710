//! Requests as data, with their properties known in advance.

use proptest::{prelude::Strategy, sample::select};
use stockade_policy::{
    Access, ExecRequest, FileRequest, HttpRequest, NameRequest, NetRequest, Request,
};
use stockade_types::{Digest, Host, Port, RawText, Subject};

use super::draft::DIGEST;

/// Hosts of requests, with the class of each: `p`ublic, pr`i`vate, `n`ever reached.
pub(crate) const HOSTS: [(&str, char); 12] = [
    ("a.test", 'p'),
    ("www.a.test", 'p'),
    ("b.a.test", 'p'),
    ("c.b.a.test", 'p'),
    ("d.test", 'p'),
    ("z.test", 'p'),
    ("metadata.google.internal", 'n'),
    ("203.0.113.7", 'n'),
    ("169.254.169.254", 'n'),
    ("8.8.8.8", 'p'),
    ("10.0.0.1", 'i'),
    ("2600:1::7", 'p'),
];

/// Targets of HTTP requests, each with its path decoded once; `None` if servers disagree.
pub(crate) const TARGETS: [(&str, Option<&str>); 10] = [
    ("/", Some("/")),
    ("/public", Some("/public")),
    ("/public/", Some("/public/")),
    ("/public/x", Some("/public/x")),
    ("/public/%78?y=1", Some("/public/x")),
    ("/PUBLIC/x", Some("/PUBLIC/x")),
    ("/admin", Some("/admin")),
    ("/public/../admin", None),
    ("/public/x;y", None),
    ("//admin", None),
];

/// Executables of connecting programs; the last two are unknown programs.
const PROGRAMS: [&str; 5] = [
    "/usr/bin/curl",
    "/opt/tool/fetch",
    "/usr/bin/git",
    "/usr/bin/curl (deleted)",
    "",
];

fn subject(exe: &str) -> Subject {
    Subject {
        exe: RawText::from(exe),
        ..Subject::default()
    }
}

fn endpoint() -> impl Strategy<Value = (Host, Port, Subject)> {
    let hosts = HOSTS.map(|(host, _)| host).to_vec();
    // Names below one domain match rules most often.
    let hosts = [hosts, vec!["a.test", "b.a.test", "8.8.8.8", "10.0.0.1"]].concat();
    let ports = select(vec![80, 80, 443, 8080]);
    (select(hosts), ports, select(PROGRAMS.to_vec())).prop_map(|(host, port, exe)| {
        let port = Port::new(port).unwrap();
        (host.parse().unwrap(), port, subject(exe))
    })
}

fn net() -> impl Strategy<Value = Request> {
    endpoint().prop_map(|(host, port, subject)| {
        Request::Net(NetRequest {
            host,
            port,
            subject,
        })
    })
}

fn http() -> impl Strategy<Value = Request> {
    let targets = TARGETS.map(|(target, _)| target).to_vec();
    let methods = select(vec!["GET", "POST", "get"]);
    let parts = (endpoint(), methods, select(targets));
    parts.prop_map(|((host, port, subject), method, path)| {
        Request::Http(HttpRequest {
            host,
            port,
            method: method.to_owned(),
            path: RawText::from(path),
            meaning: Vec::new(),
            shown: None,
            subject,
        })
    })
}

fn name() -> impl Strategy<Value = Request> {
    let names = select(vec![
        "a.test",
        "b.a.test",
        "d.test",
        "z.test",
        "metadata.google.internal",
    ]);
    names.prop_map(|name| {
        Request::Name(NameRequest {
            name: name.parse().unwrap(),
            subject: Subject::default(),
        })
    })
}

fn exec() -> impl Strategy<Value = Request> {
    let line = select(vec![
        "git status",
        "git push",
        "git push origin",
        "git push origin agent/x",
        "git push origin agent/x:main",
        "git push origin --force",
        "git push origin --force-with-lease",
        "git push -n",
        "git push origin -n",
        "git push -n --force",
        "git -c a=b push",
        "git -c a=b push -n",
        "git --unknown push -n",
        "git --unknown push origin",
        "ls x",
        "npm push",
    ]);
    // The file, the path in the call, another name of it, and its digest.
    let file = select(vec![
        ("", "", "", ""),
        ("", "", "", DIGEST),
        ("/tmp/copy", "/tmp/copy", "git", DIGEST),
        ("/tmp/copy", "/tmp/git", "", ""),
        ("/usr/bin/git", "/tmp/harmless", "", DIGEST),
        ("/tmp/tool", "/tmp/tool", "/usr/bin/git", ""),
    ]);
    let place = select(vec!["/workspace", "/workspace/src", "/tmp"]);
    let variables = select(vec![
        vec![],
        vec![("CI", "1")],
        vec![("CI", "2"), ("HOME", "/")],
    ]);
    (line, file, place, variables).prop_map(|(line, file, cwd, variables)| {
        let argv: Vec<RawText> = line.split(' ').map(RawText::from).collect();
        let usual = format!("/usr/bin/{}", argv[0].display());
        let or_usual = |text: &str| RawText::from(if text.is_empty() { &usual } else { text });
        let (program, invoked, alias, digest) = file;
        let hex = digest.strip_prefix("sha256:");
        Request::Exec(ExecRequest {
            program: or_usual(program),
            invoked_as: or_usual(invoked),
            aliases: (!alias.is_empty())
                .then(|| alias.to_owned())
                .into_iter()
                .collect(),
            digest: hex.map(|hex| hex.parse::<Digest>().unwrap()),
            argv,
            cwd: RawText::from(cwd),
            environment: variables
                .into_iter()
                .map(|(name, value)| (RawText::from(name), RawText::from(value)))
                .collect(),
            ..ExecRequest::default()
        })
    })
}

fn file() -> impl Strategy<Value = Request> {
    let place = select(vec![
        ("/workspace/src/a", Some("src/a")),
        ("/workspace/SRC/b.rs", Some("SRC/b.rs")),
        ("/workspace/x.RS", Some("x.RS")),
        ("/etc/x", None),
    ]);
    (place, select(Access::ALL.to_vec())).prop_map(|((path, relative), access)| {
        Request::File(FileRequest {
            path: RawText::from(path),
            workspace_relative: relative.map(RawText::from),
            access,
            content: None,
            subject: subject("/usr/bin/git"),
        })
    })
}

pub(crate) fn requests() -> impl Strategy<Value = Request> {
    proptest::prop_oneof![3 => net(), 3 => http(), 1 => name(), 4 => exec(), 1 => file()]
}

/// Returns a request on the connection that is asked for.
pub(crate) fn carried(connection: &Request) -> Option<Request> {
    let Request::Net(net) = connection else {
        return None;
    };
    Some(Request::Http(HttpRequest {
        host: net.host.clone(),
        port: net.port,
        method: "GET".to_owned(),
        path: RawText::from("/public/x"),
        meaning: Vec::new(),
        shown: None,
        subject: net.subject.clone(),
    }))
}
