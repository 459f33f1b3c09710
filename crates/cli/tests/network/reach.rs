//! Connections that cannot be made are reported with their true cause.

use std::time::Duration;

use stockade_testkit::{
    approvals::pending,
    events,
    kernel::{Feature, without},
    lab::{Greeter, HttpServer},
    run::require_tool,
    wait,
};

use crate::network::{allowed, asked_about, closed_port, for_each_user};

/// Prints the result of connect(2), blocking and non-blocking.
const CONNECT: &str = "
import asyncio, errno, socket, sys
def blocking(host, port):
    try:
        socket.create_connection((socket.gethostbyname(host), port)).close()
        return 'connected'
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
async def waiting(host, port):
    try:
        client = socket.socket()
        client.setblocking(False)
        address = socket.gethostbyname(host), port
        await asyncio.get_running_loop().sock_connect(client, address)
        client.close()
        return 'connected'
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
for host, port in (pair.split(':') for pair in sys.argv[1:]):
    print(host, blocking(host, int(port)), asyncio.run(waiting(host, int(port))))
";

/// A program learns from its own connect that no server listens, or that there is no such host, as
/// it would without the boundary; so do the record, `why` and the summary.
#[test]
fn a_connection_that_cannot_be_made_is_told_as_what_it_is() {
    require_tool("python3");
    for_each_user(|env| {
        let server = HttpServer::start();
        let (open, shut) = (server.port(), closed_port());
        let policy = allowed(
            env,
            &["good.test", "down.test", "missing.test"],
            &[open, shut],
        );
        let probe = env.write("probe.py", CONNECT);
        let repo = env.repo();
        std::fs::copy(&probe, repo.path().join("probe.py")).expect("a copy");
        let line = format!(
            "python3 probe.py good.test:{open} down.test:{shut} missing.test:{open}; \
             /run/stockade/why; curl -s http://down.test:{shut}/; echo curl $?"
        );
        let output = env
            .stockade()
            .args([
                "run",
                "--ask",
                "deny",
                "--summary",
                "text",
                "--session-file",
            ])
            .arg(env.root().join("session"))
            .args(policy)
            .current_dir(repo.path())
            .line(&line)
            .output();
        output
            .assert_stdout("good.test connected connected\n")
            .assert_stdout("down.test ECONNREFUSED ECONNREFUSED\n")
            .assert_stdout("missing.test EHOSTUNREACH EHOSTUNREACH\n")
            .assert_stdout("curl 7\n")
            .assert_stdout(&format!("network missing.test:{open} was not reached: "))
            .assert_stderr(&format!("down.test:{shut} 4× (connection refused)"));
        assert!(
            !output.stderr.contains("connected  down.test"),
            "{output:?}"
        );
        let record = env.record();
        let failed = |host: &str| -> Vec<String> {
            let closed = record
                .iter()
                .filter(|event| event.kind() == "connection.closed" && event.field("host") == host);
            closed
                .map(|event| event.field("failed").to_owned())
                .collect()
        };
        assert_eq!(failed("down.test"), ["connection refused"; 4]);
        assert_eq!(
            failed("good.test"),
            ["", ""],
            "{}",
            events::summary(&record)
        );
    });
}

/// If the kernel cannot hold first packets, a program is connected before its host is; the response
/// in its own protocol, the record and `why` still say what happened.
#[test]
fn without_holding_a_failure_is_told_after_connect() {
    require_tool("curl");
    for_each_user(|env| {
        let server = HttpServer::start();
        let (open, shut) = (server.port(), closed_port());
        let policy = allowed(env, &["good.test", "down.test"], &[open, shut]);
        let line = format!(
            "(exec 7<>/dev/tcp/down.test/{shut}) && echo connected; \
             curl -sS -o answer -w '%{{http_code}}\\n' http://down.test:{shut}/; \
             curl -sS -w '%{{http_code}}\\n' http://good.test:{open}/; /run/stockade/why"
        );
        let repo = env.repo();
        let run = env.session(repo.path()).args(policy).line(&line);
        let output = without(Feature::Redirect, move || run.output());
        output
            .assert_stdout("connected\n")
            .assert_stdout("502\n")
            .assert_stdout("200\n")
            .assert_stdout(&format!(
                "network down.test:{shut} was not reached: connection refused"
            ));
        let record = env.record();
        let failed = |event: &&events::Event| {
            event.kind() == "connection.closed" && event.field("failed") == "connection refused"
        };
        assert!(
            record.iter().any(|event| failed(&event)),
            "{}",
            events::summary(&record)
        );
    });
}

/// A server that speaks first is heard, and no byte of a client is sent before its connection is
/// made.
#[test]
fn who_speaks_first_does_not_matter() {
    for_each_user(|env| {
        let server = Greeter::start("220 hello\r\n");
        let port = server.address().port();
        let policy = allowed(env, &["good.test"], &[port]);
        let line = format!(
            "exec 7<>/dev/tcp/good.test/{port}; read -r word rest <&7; echo \"$word\"; \
             echo QUIT >&7; sleep 0.3"
        );
        let repo = env.repo();
        let output = env.session(repo.path()).args(policy).line(&line).output();
        output.assert_stdout("220\n");
        assert!(server.received().starts_with(b"QUIT"), "{output:?}");
    });
}

/// `why` names an open question, until its program gives up.
#[test]
fn open_questions_are_named_inside() {
    for_each_user(|env| {
        let server = HttpServer::start();
        let port = server.port();
        let policy = asked_about(env, "svc", port);
        let line = format!(
            "curl -sS -m 3 -d create http://svc.test:{port}/pr & sleep 1; /run/stockade/why; \
             wait; sleep 1; echo after; /run/stockade/why"
        );
        let repo = env.repo();
        let output = env
            .stockade()
            .args(["run", "--ask", "inbox", "--summary", "none", "--policy"])
            .arg(policy)
            .line(&line)
            .current_dir(repo.path())
            .output();
        let (before, after) = output.stdout.split_once("after").expect("both halves");
        let asked = format!("waiting net svc.test:{port}");
        assert!(before.contains(&asked), "{output:?}");
        assert!(!after.contains(&asked), "{output:?}");
        // An answer that comes now has no effect.
        assert!(wait::until_true(Duration::from_secs(5), || pending(env).is_empty()));
        assert_eq!(server.requests().len(), 0, "{output:?}");
    });
}
