//! The session's own network (N34): no interface, address, route or filter of it changes, and no other
//! network is entered; sockets of the machine (N30); and what ordinary clients need of a network (N42).

use std::{
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram, UnixListener},
    },
    sync::Mutex,
    time::Duration,
};

use stockade_testkit::{
    env::User,
    escape::Scene,
    events,
    http::Response,
    lab::{HttpServer, TlsServer},
    run::require_tool,
};

use crate::attacks::{
    for_each_user,
    matrix::{Matrix, closed},
};

/// What root can do to a network is not done from inside, and neither is a network of one's own made.
#[test]
fn n34_the_sessions_network_is_not_changed() {
    let attempts = [
        closed("bridge", "ip link add lab0 type bridge").twin("ns 'ip link add lab0 type bridge'"),
        closed("pair", "ip link add lab0 type veth peer name lab1")
            .twin("ns 'ip link add lab0 type veth peer name lab1'"),
        closed("down", "ip link set lo down").twin("ns 'ip link set lo up && ip link set lo down'"),
        closed("address", "ip address add 192.0.2.1/32 dev lo")
            .twin("ns 'ip address add 192.0.2.1/32 dev lo'"),
        closed("route", "ip route add 192.0.2.0/24 dev lo")
            .twin("ns 'ip link set lo up && ip route add 192.0.2.0/24 dev lo'"),
        closed("rule", "ip rule add from all lookup 7 priority 7")
            .twin("ns 'ip rule add from all lookup 7 priority 7'"),
        // An empty route table would make every address foreign.
        closed("local", "ip route flush table local && ! ip route show table local | grep -q .")
            .twin("ns 'ip link set lo up && ip route flush table local && ! ip route show table local | grep -q .'"),
        closed("filter", "iptables -F OUTPUT").twin("ns 'iptables -F OUTPUT'"),
        closed("redirect", "iptables -t nat -F").twin("ns 'iptables -t nat -F'"),
        closed("shaping", "tc qdisc add dev lo root handle 1: pfifo")
            .twin("ns 'ip link set lo up && tc qdisc add dev lo root handle 1: pfifo'"),
        closed("forwarding", "echo 1 > /proc/sys/net/ipv4/ip_forward")
            .twin("ns 'echo 1 > /proc/sys/net/ipv4/ip_forward'"),
        // Cloning devices have no file inside; that there are files is the control.
        closed("device", "[ -e /dev/net/tun ] || [ -e /dev/vhost-net ] || [ -e /dev/vsock ]")
            .twin("[ -e /dev/null ]"),
        closed("own-network", "unshare --user --map-root-user --net true"),
        closed("another-network", "nsenter --net=/proc/1/ns/net true")
            .twin("ns 'nsenter --net=/proc/self/ns/net true'"),
        closed("by-descriptor", "exec 7< /proc/self/ns/net && sys 308 7 1073741824")
            .twin("ns 'exec 7< /proc/self/ns/net && sys 308 7 1073741824'"),
    ];
    Matrix {
        tools: &["ip", "iptables", "tc", "nsenter"],
        ..Matrix::new("N34", &attempts)
    }
    .check();
}

/// Sockets of the machine's programs, by path and by abstract name, get no connection and no datagram.
#[test]
fn n30_sockets_of_the_machine_are_out_of_reach() {
    let send = |kind: &str, address: &str, call: &str| {
        format!(
            "perl -MSocket -e 'socket($s, AF_UNIX, {kind}, 0) or exit 1; $a = {address}; {call} or exit 1' \"$LAB\""
        )
    };
    let (path, name) = (
        "pack_sockaddr_un(\"$ARGV[0]/KIND\")",
        "pack(\"Sa*\", 1, \"\\0$ARGV[0]/KIND\")",
    );
    let (stream, datagram) = ("connect($s, $a)", "defined(send($s, \"data\", 0, $a))");
    let lines = [
        (
            "stream",
            send("SOCK_STREAM", &path.replace("KIND", "docker.sock"), stream),
        ),
        (
            "datagram",
            send("SOCK_DGRAM", &path.replace("KIND", "notify"), datagram),
        ),
        (
            "abstract-stream",
            send("SOCK_STREAM", &name.replace("KIND", "dbus"), stream),
        ),
        (
            "abstract-datagram",
            send("SOCK_DGRAM", &name.replace("KIND", "log"), datagram),
        ),
        (
            "connected-datagram",
            send(
                "SOCK_DGRAM",
                &name.replace("KIND", "log"),
                "connect($s, $a) and syswrite($s, \"data\")",
            ),
        ),
        (
            "through-root",
            send(
                "SOCK_STREAM",
                &path
                    .replace("$ARGV[0]", "/proc/self/root/$ARGV[0]")
                    .replace("KIND", "docker.sock"),
                stream,
            ),
        ),
        (
            "through-link",
            format!(
                "ln -sfn \"$LAB\" link && cd link && {}",
                send("SOCK_STREAM", "pack_sockaddr_un(\"docker.sock\")", stream)
            ),
        ),
    ];
    let attempts: Vec<_> = lines
        .iter()
        .map(|(name, line)| closed(name, line))
        .collect();
    let listening: Mutex<Vec<UnixListener>> = Mutex::default();
    let receiving: Mutex<Vec<UnixDatagram>> = Mutex::default();
    Matrix {
        prepare: &|scene: &Scene| {
            let root = scene.env.root();
            let named = |name: &str| {
                SocketAddr::from_abstract_name(format!("{}/{name}", root.display()))
                    .expect("it is short")
            };
            let listeners = [
                UnixListener::bind(root.join("docker.sock")).expect("the directory is ours"),
                UnixListener::bind_addr(&named("dbus")).expect("the name is ours"),
            ];
            let receivers = [
                UnixDatagram::bind(root.join("notify")).expect("the directory is ours"),
                UnixDatagram::bind_addr(&named("log")).expect("the name is ours"),
            ];
            for name in ["docker.sock", "notify"] {
                scene.env.own(&root.join(name));
            }
            listening.lock().expect("one thread").extend(listeners);
            receiving.lock().expect("one thread").extend(receivers);
        },
        variables: &|scene| vec![("LAB".into(), scene.env.root().display().to_string())],
        may_change: &["link"],
        ..Matrix::new("N30", &attempts)
    }
    .check();
    // Only the controls arrived.
    let users = User::all().len();
    let mut accepted = 0;
    for listener in listening.lock().expect("one thread").iter() {
        listener.set_nonblocking(true).expect("it is a socket");
        accepted += listener.incoming().take_while(Result::is_ok).count();
    }
    let mut received = 0;
    for receiver in receiving.lock().expect("one thread").iter() {
        receiver.set_nonblocking(true).expect("it is a socket");
        received += std::iter::repeat_with(|| receiver.recv(&mut [0; 8]))
            .take_while(Result::is_ok)
            .count();
    }
    assert_eq!((accepted, received), (4 * users, 3 * users));
}

/// What ordinary clients need: many connections at once, much data in both directions, a host that has
/// only an address of IPv6, an answer that is long in coming, in clear and inside TLS.
#[test]
fn n42_ordinary_loads_pass() {
    const LARGE: usize = 48 << 20;
    const MANY: usize = 100;
    require_tool("curl");
    for_each_user(|env| {
        let answer = |request: &stockade_testkit::http::Request| match request.path() {
            "/large" => Response::text(200, "x".repeat(LARGE)),
            "/late" => {
                std::thread::sleep(Duration::from_secs(4));
                Response::text(200, "late")
            }
            _ => Response::text(200, format!("{}\n", request.body.len())),
        };
        let plain = HttpServer::with(answer);
        let six = HttpServer::on(([0, 0, 0, 0, 0, 0, 0, 1], plain.port()).into(), answer);
        let sealed = TlsServer::with(&["good.test"], answer);
        let authority = env.write("authority.pem", sealed.certificate_pem());
        let (http, https) = (plain.port(), sealed.port());
        let text = format!(
            "schema = 1\n[network]\nupstream_ca = [\"{}\"]\n[network.hosts]\n\"good.test\" = \"127.0.0.1\"\n\
             \"six.test\" = \"::1\"\n[[allow]]\nid = \"lab\"\nwhat = \"net\"\nhosts = [\"good.test\", \"six.test\"]\n\
             ports = [{http}, {https}]\ntls = \"inspect\"\nprivate = true\n",
            authority.display()
        );
        let policy = env.write("policy.toml", &text).display().to_string();
        let get = "curl -fsS -m 50";
        let line = format!(
            "{get} http://good.test:{http}/late & {get} https://good.test:{https}/late & \
             head -c {LARGE} /dev/zero > sent; \
             for to in http://good.test:{http} https://good.test:{https}; do \
             {get} $to/large | wc -c; {get} --data-binary @sent $to/sent; \
             {get} -Z --parallel-max {MANY} --parallel-immediate --no-keepalive \"$to/many/[1-{MANY}]\" | wc -l; done; \
             {get} http://six.test:{http}/six; wait"
        );
        let repo = env.repo();
        let output = env
            .session_with(repo.path(), &["--ask", "deny", "--policy", &policy])
            .line(&line)
            .timeout(Duration::from_mins(2))
            .output();
        let both = format!("{LARGE}\n{LARGE}\n{MANY}\n");
        let got = output.stdout.replace("late", "");
        assert_eq!(got, format!("{both}{both}0\n"), "{output:?}");
        assert_eq!(output.stdout.matches("late").count(), 2, "{output:?}");
        assert_eq!(
            (plain.requests().len(), sealed.requests().len()),
            (MANY + 3, MANY + 3)
        );
        assert_eq!(six.requests().len(), 1);
        let record = env.record();
        assert!(
            !record.iter().any(events::Event::is_refusal),
            "{}",
            events::summary(&record)
        );
    });
}
