//! Names of hosts (N04, N06, N26): each spelling means one host for the resolver, for TLS and for
//! HTTP, the same where a rule allows and where it denies; and no rule opens hosts of strangers.

use std::collections::BTreeSet;

use stockade_testkit::{
    TestEnv, UNATTENDED, events,
    http::Response,
    lab::{HttpServer, TlsServer},
    run::require_tool,
};

use crate::attacks::for_each_user;

/// What a spelling is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    /// A host that the rules of [`PATTERNS`] name.
    Named,
    /// A host of the same zone that they do not name.
    Other,
    /// A host of another zone.
    Stranger,
    /// No name of a host.
    Nothing,
}

/// What rules name: one name, one label more, any number more, and names in other scripts.
const PATTERNS: &str = "\"good.lab.test\", \"*.one.lab.test\", \"**.any.lab.test\", \"bücher.lab.test\", \
                        \"STRAßE.lab.test.\"";

/// Each spelling by the name of its case, as the labels of a query carry it, and what it is. A comma
/// in place of a dot is a dot within a label.
const SPELLINGS: &[(&str, &str, Is)] = &[
    ("plain", "good.lab.test", Is::Named),
    ("upper", "GOOD.LAB.TEST", Is::Named),
    ("mixed", "gOoD.lAb.tEsT", Is::Named),
    ("www", "www.good.lab.test", Is::Other),
    ("below", "a.b.good.lab.test", Is::Other),
    ("before", "xgood.lab.test", Is::Other),
    ("hyphen", "x-good.lab.test", Is::Other),
    ("behind", "good.lab.test.evil.test", Is::Stranger),
    ("joined", "goodlab.test", Is::Stranger),
    ("above", "lab.test", Is::Stranger),
    ("root", "good", Is::Stranger),
    ("one-apex", "one.lab.test", Is::Other),
    ("one-below", "a.one.lab.test", Is::Named),
    ("one-upper", "A.ONE.lab.test", Is::Named),
    ("one-deep", "a.b.one.lab.test", Is::Other),
    ("one-joined", "aone.lab.test", Is::Other),
    ("any-apex", "any.lab.test", Is::Other),
    ("any-below", "a.any.lab.test", Is::Named),
    ("any-deep", "a.b.c.any.lab.test", Is::Named),
    ("any-joined", "aany.lab.test", Is::Other),
    (
        "label-63",
        "a23456789012345678901234567890123456789012345678901234567890123.any.lab.test",
        Is::Named,
    ),
    ("star", "*.one.lab.test", Is::Nothing),
    ("stars", "**.any.lab.test", Is::Nothing),
    ("dot-in-label", "good,lab,test", Is::Nothing),
    ("dot-in-first", "good,lab.test", Is::Nothing),
    ("nul", "good.lab.test\0.evil.test", Is::Nothing),
    ("nul-first", "\0good.lab.test", Is::Nothing),
    ("blank", "good .lab.test", Is::Nothing),
    ("slash", "good.lab.test/.evil.test", Is::Nothing),
    ("at", "good.lab.test@evil.test", Is::Nothing),
    ("percent", "%67ood.lab.test", Is::Nothing),
    ("hyphen-first", "-good.lab.test", Is::Nothing),
    ("number", "good.lab.test.1", Is::Nothing),
    ("hex-number", "good.lab.test.0x7f", Is::Nothing),
    // Letters of other scripts that look the same, as themselves and as A-labels.
    ("cyrillic", "g\u{43e}\u{43e}d.lab.test", Is::Nothing),
    ("cyrillic-a-label", "xn--gd-fmca.lab.test", Is::Other),
    ("umlaut", "bücher.lab.test", Is::Nothing),
    ("umlaut-a-label", "xn--bcher-kva.lab.test", Is::Named),
    ("umlaut-upper", "XN--BCHER-KVA.lab.test", Is::Named),
    ("umlaut-without", "bucher.lab.test", Is::Other),
    ("sharp", "straße.lab.test", Is::Nothing),
    ("sharp-a-label", "xn--strae-oqa.lab.test", Is::Named),
    ("sharp-as-ss", "strasse.lab.test", Is::Other),
    (
        "full-width",
        "\u{ff47}\u{ff4f}\u{ff4f}\u{ff44}.lab.test",
        Is::Nothing,
    ),
    (
        "ideographic-dot",
        "good\u{3002}lab\u{3002}test",
        Is::Nothing,
    ),
    ("full-width-dot", "good\u{ff0e}lab\u{ff0e}test", Is::Nothing),
    ("soft-hyphen", "go\u{ad}od.lab.test", Is::Nothing),
    ("joiner", "go\u{200d}od.lab.test", Is::Nothing),
    // A-labels that no name has.
    ("a-label-of-ascii", "xn--good-.lab.test", Is::Nothing),
    ("a-label-of-nothing", "xn--.lab.test", Is::Nothing),
    ("a-label-of-upper", "xn--bcher-kvb.lab.test", Is::Nothing),
    ("a-label-of-joiner", "xn--good-676a.lab.test", Is::Nothing),
    ("a-label-of-full-width", "xn--pi7cfya.lab.test", Is::Nothing),
];

/// Looks each name of a file up and asks for it at the address that it has; then names it as the host
/// of a request and in the greeting of TLS on a connection to a host that is open. Prints what was
/// answered; the servers know what arrived.
const SCRIPT: &str = r#"
import socket, ssl, struct, sys
plain, sealed, known = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
server = [line.split()[1] for line in open("/etc/resolv.conf") if line.startswith("nameserver")][0]
def look_up(labels):
    query = struct.pack(">6H", 7, 256, 1, 0, 0, 0)
    for label in labels:
        query += bytes([len(label)]) + label
    query += b"\0" + struct.pack(">2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(10)
        s.sendto(query, (server, 53))
        answer = s.recv(4096)
    if answer[3] & 15 or not answer[7]:
        return None
    return socket.inet_ntoa(answer[-4:])
def status(address, bytes):
    try:
        with socket.create_connection((address, plain), timeout=10) as s:
            s.sendall(bytes)
            return s.recv(4096)[9:12].decode() or "cut"
    except OSError:
        return "cut"
def greeted(address, name):
    # The name is put into a greeting that was made for one of the same length.
    there = b"x" * 63 + b"." + b"x" * 63 + b"." + b"x" * 63
    there = there[:len(name)].rstrip(b".") + (b"x" if there[:len(name)].endswith(b".") else b"")
    out = ssl.MemoryBIO()
    context = ssl.create_default_context()
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=there.decode())
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    try:
        with socket.create_connection((address, sealed), timeout=10) as s:
            s.sendall(out.read().replace(there, name))
            return {22: "hello", 21: "alert"}.get((s.recv(1) or b"\0")[0], "cut")
    except OSError:
        return "cut"
open_address = look_up(known.encode().split(b"."))
for line in open(sys.argv[4]):
    case, name = line.split()
    labels = [label.replace(b",", b".") for label in bytes.fromhex(name).split(b".")]
    host = b".".join(labels)
    address = look_up(labels)
    request = lambda way, host: b"GET /" + case.encode() + way + b" HTTP/1.1\r\nHost: " + host + b":" + str(plain).encode() + b"\r\nConnection: close\r\n\r\n"
    print(case, "name", "none" if address is None else status(address, request(b"/name", host)))
    print(case, "host", status(open_address, request(b"/host", host)))
    print(case, "dotted", status(open_address, request(b"/dotted", host + b".")))
    print(case, "sni", greeted(open_address, host))
odd = {
    "dots": b"good..lab.test",
    "first-dot": b".good.lab.test",
    "last-dots": b"good.lab.test..",
    "only-dot": b".",
    "colon": b"good.lab.test:",
    "user": b"good.lab.test:@evil.test",
    "bracket": b"[good.lab.test]",
    "two": b"evil.test\r\nHost: good.lab.test",
}
for case, host in odd.items():
    print(case, "host", status(open_address, b"GET /" + case.encode() + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"))
"#;

/// Policy of which the first rule is about [`PATTERNS`].
fn policy(env: &TestEnv, ports: [u16; 2], rules: &str) -> [String; 2] {
    let canonical = |name: &str| name.to_ascii_lowercase();
    let fixed: BTreeSet<String> = SPELLINGS
        .iter()
        .filter(|(_, _, is)| *is != Is::Nothing)
        .map(|(_, name, _)| format!("\"{}\" = \"127.0.0.1\"\n", canonical(name)))
        .chain(["\"free.lab.test\" = \"127.0.0.1\"\n".to_owned()])
        .collect();
    let text = format!(
        "schema = 1\n[network.hosts]\n{}{}",
        fixed.into_iter().collect::<String>(),
        rules
            .replace("PORTS", &format!("{ports:?}"))
            .replace("PATTERNS", PATTERNS)
    );
    let path = env.write("policy.toml", &text);
    ["--policy".to_owned(), path.display().to_string()]
}

/// Which of the cases arrive where rules allow `open`, and what names the host of the connection.
fn check(env: &TestEnv, rules: &str, open: &str, named: &[Is]) {
    let plain = HttpServer::with(|_| Response::text(200, "lab\n"));
    let sealed = TlsServer::start(&["good.lab.test"]);
    let ports = [plain.port(), sealed.port()];
    let repo = env.repo_named(open);
    let hex = |text: &str| {
        text.bytes()
            .fold(String::new(), |all, byte| format!("{all}{byte:02x}"))
    };
    let cases = SPELLINGS
        .iter()
        .map(|(case, name, _)| format!("{case} {}\n", hex(name)));
    env.write(repo.path().join("cases"), &cases.collect::<String>());
    env.write(repo.path().join("send.py"), SCRIPT);
    let line = format!("python3 send.py {} {} {open} cases", ports[0], ports[1]);
    let output = env
        .session(repo.path())
        .args(policy(env, ports, rules))
        .line(&line)
        .output();
    output.assert_success();
    let arrived: BTreeSet<String> = plain
        .requests()
        .iter()
        .map(|one| one.path().to_owned())
        .collect();
    let same = |name: &str| name.eq_ignore_ascii_case(open);
    let mut expected = BTreeSet::new();
    for (case, name, is) in SPELLINGS {
        if named.contains(is) {
            expected.insert(format!("/{case}/name"));
        }
        // Where names are text, a dot within a label is none.
        if same(&name.replace(',', ".")) {
            expected.insert(format!("/{case}/host"));
            expected.insert(format!("/{case}/dotted"));
        }
    }
    // A colon without a port says nothing (RFC 3986 section 3.2.3).
    if same("good.lab.test") {
        expected.insert("/colon".to_owned());
    }
    assert_eq!(arrived, expected, "{output:?}");
    let greeted: Vec<_> = sealed.hellos().into_iter().map(|hello| hello.sni).collect();
    assert!(
        greeted.iter().all(|name| name.as_deref().is_some_and(same)),
        "{greeted:?}"
    );
    let all = SPELLINGS
        .iter()
        .filter(|(_, name, _)| same(&name.replace(',', ".")));
    assert_eq!(greeted.len(), all.count(), "{output:?}");
    // What is no name is refused as that.
    let record = env.record();
    let all = events::summary(&record);
    let refused = record
        .iter()
        .filter(|event| event.rule() == "not-a-host-name");
    assert!(refused.count() > 20, "{all}");
}

#[test]
fn n04_n06_each_spelling_is_one_host_where_rules_allow_and_where_they_deny() {
    require_tool("python3");
    for_each_user(|env| {
        check(
            env,
            "[[allow]]\nid = \"lab\"\nwhat = \"net\"\nhosts = [PATTERNS]\nports = PORTS\nprivate = true\n",
            "good.lab.test",
            &[Is::Named],
        );
        // The deny is of the same names, and it wins.
        check(
            env,
            "[[allow]]\nid = \"zone\"\nwhat = \"net\"\nhosts = [\"**.lab.test\", \"good.lab.test\"]\n\
             ports = PORTS\nprivate = true\n\
             [[deny]]\nid = \"lab\"\nwhat = \"net\"\nhosts = [PATTERNS]\nreason = \"lab\"\n",
            "free.lab.test",
            &[Is::Other],
        );
    });
}

/// A rule that would open hosts of strangers is no rule: nothing starts.
#[test]
fn n26_no_rule_opens_hosts_of_strangers() {
    let wide = [
        "*",
        "**",
        "[*]",
        "*.*",
        "**.**",
        "*.com",
        "**.com",
        "*.co.uk",
        "**.github.io",
        "*.test",
        "*.",
        "**.",
        "*.good.*",
        "g*d.test",
        "good.*",
        "0.0.0.0/0",
        "::/0",
        "0.0.0.0/1",
        "128.0.0.0/1",
        "::/8",
        "0/0",
    ];
    let file = |env: &TestEnv, hosts: &[&str]| {
        let text = format!(
            "schema = 1\n[[allow]]\nid = \"some\"\nwhat = \"net\"\nhosts = {hosts:?}\nreason = \"lab\"\n"
        );
        env.write("hosts.toml", &text).display().to_string()
    };
    for_each_user(|env| {
        let repo = env.repo();
        let run = |way: &[&str]| {
            let run = env.stockade().current_dir(repo.path()).args(UNATTENDED);
            run.args(way).args(["--", "touch", "started"]).output()
        };
        let started = repo.path().join("started");
        let path = file(env, &wide);
        let checked = env.stockade().args(["policy", "check", &path]).output();
        let ran = run(&["--policy", &path]);
        for (number, host) in wide.iter().enumerate() {
            let entry = format!("allow[0].hosts[{number}]: ");
            for output in [&checked, &ran] {
                let said = output.stdout.contains(&entry) || output.stderr.contains(&entry);
                assert!(said && output.code() != 0, "{host}: {output:?}");
            }
            let alone = run(&["--allow-host", host]);
            assert_ne!(alone.code(), 0, "{host}: {alone:?}");
        }
        assert!(!started.exists());
        // Control: hosts of one owner.
        run(&[
            "--policy",
            &file(env, &["good.test", "*.good.test", "192.0.2.0/24"]),
        ])
        .assert_success();
        run(&["--allow-host", "*.good.test"]).assert_success();
        assert!(started.exists());
    });
}
