//! Frames of HTTP/2 that no client would send.

use stockade_testkit::{TestEnv, events, lab::H2Server, run::require_tool};

use crate::network::{for_each_user, http2::Lab};

const FRAMES: &str = include_str!("frames.py");

fn run(env: &TestEnv, lab: &Lab, what: &str) -> String {
    require_tool("python3");
    let repo = env.repo();
    env.write(repo.path().join("frames.py"), FRAMES);
    let line = format!("python3 frames.py {} {what}", lab.two.port());
    let session = env.session_with(repo.path(), &["--ask", "deny"]);
    let output = session
        .args(&["--policy".to_owned(), lab.policy.clone()])
        .line(&line)
        .output();
    assert_eq!(output.stderr, "", "{output:?}");
    output.stdout
}

fn arrived(server: &H2Server) -> usize {
    server.requests().len()
}

/// What is no request of HTTP/2, or would be another request to a server of HTTP/1, does not arrive.
#[test]
fn n18_what_has_no_single_meaning_does_not_arrive() {
    for_each_user(|env| {
        let lab = Lab::new(env, "");
        let said = run(env, &lab, "malformed");
        let mut lines = said.lines();
        assert_eq!(lines.next(), Some("good 200"));
        let others: Vec<_> = lines.collect();
        assert_eq!(others.len(), 53, "{said}");
        let passed = others.iter().filter(|line| line.ends_with("200"));
        assert_eq!(passed.count(), 0, "{said}");
        // A body that is longer or shorter than its head says is found out on the way: its request
        // never becomes whole.
        let requests = lab.two.requests();
        let whole = requests
            .iter()
            .filter(|one| one.ended.as_deref() == Some("whole"));
        assert_eq!(whole.count(), 1, "{requests:#?}");
        let begun = requests.iter().filter(|one| one.path != "/allowed/x");
        assert_eq!(begun.count(), 0, "{requests:#?}");
        let record = env.record();
        let of = |rule: &str| record.iter().filter(|event| event.rule() == rule).count();
        assert!(of("http-framing") > 20, "{}", events::summary(&record));
        assert_eq!(of("name-mismatch"), 2, "{}", events::summary(&record));
    });
}

/// Floods end their connection and no other, and do not reach the server.
#[test]
fn n36_floods_are_bounded() {
    for_each_user(|env| {
        let lab = Lab::new(env, "");
        let said = run(env, &lab, "floods");
        for line in [
            "rapid-reset goaway 11",
            "slow-reset goaway 11",
            "continuation goaway 11",
            "empty-continuation goaway 11",
            "hpack-bomb goaway 11",
            "empty-data goaway 11",
            "settings stopped",
            "ping stopped",
            "window no data heads",
            "after 200",
        ] {
            assert!(said.lines().any(|one| one == line), "{line}\n{said}");
        }
        // Those that were let through before the bound was reached, and the twenty that stand still.
        assert!(arrived(&lab.two) < 400, "{}", arrived(&lab.two));
    });
}
