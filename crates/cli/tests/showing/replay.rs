//! The replay: in a terminal with keys, and as plain lines.

use std::time::Duration;

use stockade_testkit::{TestEnv, env::under_test, invented, tmux::Tmux};

const TIMEOUT: Duration = Duration::from_secs(20);

#[test]
fn a_session_plays_and_stops_at_what_was_refused() {
    let env = TestEnv::new(under_test());
    let id = invented::record(&env.state(), 2, &"empty\u{1b}[2J baskets".into());
    let plain = env.stockade().args(["replay", &id]).success();
    let lines: Vec<&str> = plain.stdout.lines().collect();
    assert!(lines.len() > 40, "{plain:?}");
    assert!(
        lines
            .iter()
            .any(|line| line.contains("✖ connection.decided"))
    );
    assert!(!plain.stdout.contains('\u{1b}'));
    for wrong in ["0", "fast"] {
        let output = env.stockade().args(["replay", &id, "--speed", wrong]);
        output.output().assert_code(2);
    }
    let line = format!(
        "TZ=UTC {} replay {id} --speed 0.01; stty -a | grep -o ' icanon'",
        env.binary().display()
    );
    let tmux = Tmux::start(&env, 80, 24, &line);
    tmux.wait_for("plays 0.01×", TIMEOUT);
    tmux.keys(&["Space"]);
    tmux.wait_for("paused 0.01×", TIMEOUT);
    tmux.keys(&["n"]);
    tmux.wait_for("✖ connection.decided", TIMEOUT);
    tmux.keys(&["n"]);
    tmux.wait_for("? approval.requested", TIMEOUT);
    let screen = tmux.text();
    assert!(screen.lines().all(|line| line.chars().count() <= 80));
    tmux.keys(&["+"]);
    tmux.wait_for("paused 0.02×", TIMEOUT);
    tmux.keys(&["q"]);
    // The terminal is as it was before.
    tmux.wait_for(" icanon", TIMEOUT);
}
