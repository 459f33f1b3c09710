//! What can never pass is refused early: a name is not known, and a connection fails at its connect.

use std::time::Duration;

use stockade_testkit::{
    approvals::{self, Answer, pending},
    events,
    lab::{Greeter, HttpServer},
    run::require_tool,
    wait,
};

use crate::network::{asked_about, for_each_user};

/// Prints what becomes of a lookup and of connect(2).
const PROBE: &str = "
import errno, socket, sys
for pair in sys.argv[1:]:
    host, port = pair.rsplit(':', 1)
    try:
        found = socket.getaddrinfo(host, int(port), socket.AF_INET, socket.SOCK_STREAM)
    except socket.gaierror as error:
        print(pair, 'unknown' if error.errno == socket.EAI_NONAME else error)
        continue
    client = socket.socket()
    client.settimeout(4)
    try:
        client.connect(found[0][4])
        print(pair, 'connected')
    except OSError as error:
        print(pair, errno.errorcode.get(error.errno, str(error)))
";

/// The address of a documentation network, which is nobody's.
const NOBODYS: &str = "203.0.113.9:80";

/// A host of which one path is allowed, one that is asked about, one that is denied, and one for a
/// single program.
fn policy(port: u16) -> String {
    format!(
        "schema = 1\n[network.hosts]\n\"good.test\" = \"127.0.0.1\"\n\"asked.test\" = \
         \"127.0.0.1\"\n\"evil.test\" = \"127.0.0.1\"\n[[allow]]\nid = \"lab\"\nwhat = \
         \"net\"\nhosts = [\"good.test\"]\nports = [{port}]\npaths = [\"/ok\"]\nprivate = \
         true\n[[ask]]\nid = \"asked\"\nwhat = \"net\"\nhosts = [\"asked.test\"]\nports = \
         [{port}]\nprivate = true\n[[deny]]\nid = \"evil\"\nwhat = \"net\"\nhosts = \
         [\"evil.test\"]\n[[allow]]\nid = \"perls\"\nwhat = \"net\"\nhosts = \
         [\"perl.test\"]\nprograms = [\"/usr/bin/perl\"]\n"
    )
}

/// Names and places that no rule can allow, or that only an answer could where nobody can be asked, are
/// refused before a program is connected. What is allowed in part is connected, and told in HTTP.
#[test]
fn what_can_never_pass_is_refused_at_connect() {
    require_tool("python3");
    for_each_user(|env| {
        let (server, other) = (HttpServer::start(), Greeter::start("hello\r\n"));
        let (port, shut) = (server.port(), other.address().port());
        let policy = env.write("policy.toml", &policy(port));
        let repo = env.repo();
        std::fs::write(repo.path().join("probe.py"), PROBE).expect("the probe");
        let pairs = format!(
            "evil.test:{port} asked.test:{port} good.test:{shut} perl.test:443 {NOBODYS} \
             169.254.169.254:80 good.test:{port}"
        );
        let line = format!(
            "python3 probe.py {pairs}; /run/stockade/why; \
             for path in ok no; do \
             curl -s -o /dev/null -w '%{{http_code}} ' http://good.test:{port}/$path; done; echo; (exec 7<>/dev/tcp/127.0.0.1/9) 2>&1 | tail -1; \
             python3 -m http.server -b 127.0.0.1 8123 >/dev/null 2>&1 & \
             until curl -s -o /dev/null http://localhost:8123/; do :; done; echo own server; kill $!; \
             grep -c ^ /run/stockade/denials.jsonl"
        );
        let with = |ask: &str| {
            let run = env.session_with(repo.path(), &["--ask", ask]);
            run.arg("--policy").arg(&policy).line(&line)
        };
        let output = with("deny").output();
        output
            .assert_stdout(&format!("evil.test:{port} unknown\n"))
            .assert_stdout(&format!("asked.test:{port} unknown\n"))
            .assert_stdout(&format!("good.test:{shut} ECONNREFUSED\n"))
            .assert_stdout("perl.test:443 ECONNREFUSED\n")
            .assert_stdout(&format!("{NOBODYS} ECONNREFUSED\n"))
            .assert_stdout("169.254.169.254:80 ECONNREFUSED\n")
            .assert_stdout(&format!("good.test:{port} connected\n"))
            .assert_stdout("200 403 \n")
            .assert_stdout("own server\n8\n");
        let record = env.record();
        let refused = |target: &str| -> Vec<&str> {
            let denied = record.iter().filter(|event| event.is_refusal());
            let denied = denied.filter(|event| event.targets(target));
            denied.map(events::Event::kind).collect()
        };
        for (target, kind) in [
            ("evil.test", "name.decided"),
            ("asked.test", "name.decided"),
            ("perl.test", "connection.decided"),
            ("203.0.113.9", "connection.decided"),
            ("169.254.169.254", "connection.decided"),
        ] {
            assert_eq!(
                refused(target),
                [kind],
                "{target}: {}",
                events::summary(&record)
            );
        }
        other.assert_untouched();
        let paths: Vec<_> = server
            .requests()
            .iter()
            .map(|r| r.path().to_owned())
            .collect();
        assert_eq!(paths, ["/ok"], "{output:?}");
    });
}

/// Where somebody can be asked, what may be asked about is known and connected, and waits there.
#[test]
fn what_may_be_asked_about_is_connected() {
    require_tool("python3");
    for_each_user(|env| {
        let server = HttpServer::start();
        let port = server.port();
        let policy = asked_about(env, "asked", port);
        let repo = env.repo();
        std::fs::write(repo.path().join("probe.py"), PROBE).expect("the probe");
        let line = format!(
            "python3 probe.py asked.test:{port} asked.test:1 unfamiliar.test:443 {NOBODYS}"
        );
        let run = env.session_with(repo.path(), &["--ask", "inbox"]);
        let output = run.arg("--policy").arg(policy).line(&line).output();
        output
            .assert_stdout(&format!("asked.test:{port} connected\n"))
            .assert_stdout("asked.test:1 ECONNREFUSED\n")
            .assert_stdout("unfamiliar.test:443 connected\n")
            .assert_stdout(&format!("{NOBODYS} ECONNREFUSED\n"));
        server.assert_untouched();
        assert!(wait::until_true(Duration::from_secs(5), || pending(env).is_empty()));
    });
}

/// A refusal is told where each client shows it to people: git behind `remote:` and `fatal:`, ssh as the
/// other side's last words, npm and pip in their message, curl as the answer.
#[test]
fn a_refusal_is_told_in_the_clients_own_protocol() {
    for tool in ["git", "ssh", "curl", "npm", "pip3"] {
        require_tool(tool);
    }
    for_each_user(|env| {
        let (server, daemon) = (HttpServer::start(), Greeter::start("hello\r\n"));
        let (port, asked) = (server.port(), daemon.address().port());
        let text = policy(port).replace(
            &format!("hosts = [\"asked.test\"]\nports = [{port}]"),
            &format!("hosts = [\"asked.test\"]\nports = [{asked}]"),
        );
        let policy = env.write("policy.toml", &text).display().to_string();
        let line = format!(
            "exec 2>&1; git ls-remote http://good.test:{port}/p.git; curl -sS \
             http://good.test:{port}/no; npm view x --registry http://good.test:{port}/ \
             --fetch-retries 0; pip3 download -d /tmp --retries 0 --trusted-host good.test -i \
             http://good.test:{port}/ x -vv; ssh -p {asked} asked.test; \
             git ls-remote git://asked.test:{asked}/p.git; true"
        );
        let repo = env.repo();
        let run = env
            .session_with(repo.path(), &["--ask", "inbox", "--policy", &policy])
            .line(&line);
        let (output, _) = approvals::answer_all(env, run.spawn(), |_| Answer::Deny {
            reason: "not today".to_owned(),
        });
        let no = format!("denied by stockade: GET good.test:{port}");
        for told in [
            format!("remote: {no}/p.git/info/refs"),
            format!("\"error\":\"{no}/no"),
            format!("403 Forbidden: {no}/x"),
            format!("{no}/x/"),
            format!(
                "fatal: remote error: denied by stockade by the rule `asked`: asked.test:{asked}: "
            ),
        ] {
            output.assert_stdout(&told);
        }
        let ssh = output
            .stdout
            .lines()
            .find(|line| line.starts_with("Received disconnect"));
        let ssh = ssh.unwrap_or_else(|| panic!("ssh says why: {output:?}"));
        assert!(
            ssh.contains("denied by stockade by the rule `asked`: asked.test")
                && ssh.contains("not today"),
            "{ssh}"
        );
        daemon.assert_untouched();
        server.assert_untouched();
    });
}
