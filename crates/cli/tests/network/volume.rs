//! The number of bytes that a rule lets out in a session.

use stockade_testkit::{events, lab::HttpServer, run::require_tool};

use crate::network::{allowed, for_each_user};

/// Uploads pass as long as they fit. One that does not is refused before its first byte leaves, by
/// HTTP, by `why` and in the record; neither a new connection nor other bytes get more out.
#[test]
fn uploads_pass_as_long_as_they_fit() {
    require_tool("curl");
    require_tool("python3");
    for_each_user(|env| {
        let server = HttpServer::start();
        let port = server.port();
        let policy = allowed(env, &["good.test", "more.good.test"], &[port]);
        let text =
            std::fs::read_to_string(&policy[1]).expect("the policy") + "bytes_max = \"20kB\"\n";
        env.write("policy.toml", &text);
        let repo = env.repo();
        let raw = format!(
            "import socket\\n\
             s = socket.create_connection((\\\"more.good.test\\\", {port}))\\n\
             try:\\n s.sendall(b\\\"\\\\x01\\\" * 16000); s.recv(1); print(\\\"raw none\\\")\\n\
             except OSError as e: print(\\\"raw\\\", e.strerror)"
        );
        let line = format!(
            "head -c 8000 /dev/zero > small; head -c 30000 /dev/zero > large; \
             post() {{ curl -sS -m 10 -H 'Expect:' --data-binary @$1 http://$2:{port}/$1; echo; }}; \
             post small good.test; post large good.test; /run/stockade/why; \
             post small more.good.test; post small good.test | head -c 100; \
             printf \"{raw}\" > raw.py; python3 raw.py"
        );
        let output = env
            .session_with(repo.path(), &["--ask", "deny"])
            .args(&policy)
            .line(&line)
            .output();
        output
            .assert_stdout("\"rule\":\"bytes-max\"")
            .assert_stdout("at most 20kB may leave by the rule `lab` in a session")
            .assert_stdout("raise `bytes_max` of the rule `lab`")
            .assert_stdout("raw Connection reset by peer");
        let requests = server.requests();
        let bodies: Vec<usize> = requests.iter().map(|request| request.body.len()).collect();
        assert_eq!(bodies, [8000, 8000], "{output:?}");
        assert!(server.traffic().bytes_in <= 20_000, "{output:?}");
        let record = env.record();
        let refused = record
            .iter()
            .filter(|event| event.rule() == "bytes-max")
            .count();
        assert_eq!(refused, 3, "{}", events::summary(&record));
    });
}
