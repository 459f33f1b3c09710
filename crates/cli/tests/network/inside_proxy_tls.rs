//! TLS through the proxy inside: what a tunnel is for, what its TLS names and what its requests name
//! is one host.

use stockade_testkit::{
    events::{self, Event},
    lab::TlsServer,
    run::require_tool,
};

use crate::network::for_each_user;

/// Makes one attempt: the host of the tunnel, the name that its TLS announces (`-` for none) and the host
/// of its request; prints the status of the answer, or that there was none.
const CLIENT: &str = r#"
import socket, ssl, sys
proxy, port = 3128, sys.argv[1]
for line in open(sys.argv[2]):
    label, tunnel, sni, host = line.split()
    status = "none"
    try:
        s = socket.create_connection(("127.0.0.1", proxy), timeout=10)
        s.sendall(f"CONNECT {tunnel}:{port} HTTP/1.1\r\n\r\n".encode())
        said = b""
        while not said.endswith(b"\r\n\r\n"):
            more = s.recv(1)
            if not more:
                break
            said += more
        status = said[9:12].decode() or "none"
        if status == "200":
            status = "none"
            trust = ssl._create_unverified_context()
            t = trust.wrap_socket(s, server_hostname=None if sni == "-" else sni)
            t.sendall(f"GET /{label} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
            status = t.recv(12)[9:12].decode() or "none"
    except OSError:
        pass
    print(label, status)
"#;

/// Label, tunnel, announced name, host of the request, and the answer. `opened.test` is read, and
/// `spliced.test` passes sealed; nothing is allowed for `evil.test`, which is the same server.
const ATTEMPTS: [[&str; 5]; 11] = [
    ["good", "opened.test", "opened.test", "opened.test", "200"],
    [
        "sealed",
        "spliced.test",
        "spliced.test",
        "spliced.test",
        "200",
    ],
    ["announced", "opened.test", "evil.test", "evil.test", "none"],
    [
        "sealed-announced",
        "spliced.test",
        "evil.test",
        "evil.test",
        "none",
    ],
    [
        "crossed",
        "opened.test",
        "spliced.test",
        "spliced.test",
        "none",
    ],
    ["nameless", "opened.test", "-", "opened.test", "none"],
    [
        "sealed-nameless",
        "spliced.test",
        "-",
        "spliced.test",
        "none",
    ],
    ["fronted", "opened.test", "opened.test", "evil.test", "421"],
    [
        "fronted-crossed",
        "opened.test",
        "opened.test",
        "spliced.test",
        "421",
    ],
    ["method", "opened.test", "opened.test", "opened.test", "403"],
    ["denied", "evil.test", "opened.test", "opened.test", "403"],
];

/// A tunnel leads where it was asked to (N14): what is announced or asked for inside it is the same host,
/// or nothing of it arrives, and each attempt is one event.
#[test]
fn n14_a_tunnel_is_for_one_host() {
    require_tool("python3");
    for_each_user(|env| {
        let hosts = ["opened.test", "spliced.test", "evil.test"];
        let server = TlsServer::start(&hosts);
        let port = server.port();
        let authority = env.write("authority.pem", server.certificate_pem());
        let text = format!(
            "schema = 1\n[network]\ninside_proxy = 3128\nupstream_ca = [\"{}\"]\n[network.hosts]\n\
             \"opened.test\" = \"127.0.0.1\"\n\"spliced.test\" = \"127.0.0.1\"\n\"evil.test\" = \"127.0.0.1\"\n\
             [[allow]]\nid = \"opened\"\nwhat = \"net\"\nhosts = [\"opened.test\"]\nports = [{port}]\n\
             private = true\nmethods = [\"GET\"]\n\
             [[deny]]\nid = \"method\"\nwhat = \"net\"\nhosts = [\"opened.test\"]\nports = [{port}]\npaths = [\"/method\"]\nreason = \"lab\"\n\
             [[allow]]\nid = \"spliced\"\nwhat = \"net\"\nhosts = [\"spliced.test\"]\nports = [{port}]\n\
             private = true\ntls = \"splice\"\n",
            authority.display()
        );
        let policy = env.write("policy.toml", &text).display().to_string();
        let repo = env.repo();
        env.write(repo.path().join("client.py"), CLIENT);
        let attempts: Vec<String> = ATTEMPTS.iter().map(|one| one[..4].join(" ")).collect();
        env.write(repo.path().join("attempts"), &attempts.join("\n"));
        let output = env
            .session_with(repo.path(), &["--ask", "deny"])
            .args(&["--policy".to_owned(), policy])
            .line(format!("python3 client.py {port} attempts"))
            .output();
        let answers: Vec<String> = ATTEMPTS
            .iter()
            .map(|[label, _, _, _, answer]| format!("{label} {answer}\n"))
            .collect();
        assert_eq!(output.stdout, answers.concat(), "{output:?}");
        let arrived: Vec<String> = server
            .requests()
            .iter()
            .map(|request| request.path().to_owned())
            .collect();
        assert_eq!(arrived, ["/good", "/sealed"]);
        let record = env.record();
        let refused = record.iter().filter(|event| Event::is_refusal(event));
        assert_eq!(
            refused.count(),
            ATTEMPTS.len() - 2,
            "{}",
            events::summary(&record)
        );
    });
}
