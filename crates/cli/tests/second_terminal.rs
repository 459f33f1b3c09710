//! `stockade approvals` at a second terminal: its messages about answers, grants and sessions.
#![expect(clippy::expect_used, reason = "a broken fixture must end the test")]

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    time::Duration,
};

use stockade_testkit::{
    Output, TestEnv,
    approvals::{self, Answer},
    env::under_test,
    run::Running,
    wait,
};

/// How long a session may take to ask.
const ASK_TIMEOUT: Duration = Duration::from_secs(20);
const ASK: &str = "schema = 1\n[[ask]]\nid = \"who\"\nwhat = \"exec\"\ncommand = [\"uname\", \"**\"]\n\
                   reason = \"r\"\n";

struct Place(TestEnv);

impl Place {
    fn new() -> Self {
        Self(TestEnv::new(under_test()))
    }

    fn approvals(&self, words: &[&str]) -> Output {
        self.0.stockade().arg("approvals").args(words).output()
    }

    /// Starts a session that asks once, and returns the id of its question.
    fn asking(&self, line: &str) -> (Running, String) {
        let repo = self.0.repo();
        let policy = self.0.write("policy.toml", ASK).display().to_string();
        let options = ["--ask", "inbox", "--policy", policy.as_str()];
        let running = self
            .0
            .session_with(repo.path(), &options)
            .line(line)
            .spawn();
        let asked = || approvals::pending(&self.0).into_iter().next();
        assert!(
            wait::until_true(ASK_TIMEOUT, || asked().is_some()),
            "{}",
            running.stderr()
        );
        (running, asked().expect("it was just seen").id)
    }
}

#[test]
fn a_late_answer_learns_what_became_of_the_question() {
    let place = Place::new();
    let (running, id) = place.asking("uname; touch done; sleep 5; :");
    let deny = Answer::Deny {
        reason: "not now".to_owned(),
    };
    approvals::answer(&place.0, &id, &deny).assert_success();
    for words in [["allow", &id], ["deny", &id], ["show", &id]] {
        place
            .approvals(&words)
            .assert_code(1)
            .assert_stderr(&format!("{id} is settled: denied by inbox uid"))
            .assert_stderr("not now; an answer is final");
    }
    place
        .approvals(&["allow", "ffffffff"])
        .assert_code(1)
        .assert_stderr("nothing has the id `ffffffff`");
    drop(running);
}

#[test]
fn a_long_reason_is_cut_and_taken() {
    let place = Place::new();
    let (running, id) = place.asking("uname; /run/stockade/why");
    let reason = "漢".repeat(5_000);
    place
        .approvals(&["deny", &id, "--reason", &reason])
        .assert_success()
        .assert_stderr("cut to 500 bytes");
    let output = running.wait();
    output.assert_stdout(&"漢".repeat(166));
    assert!(!output.stdout.contains(&"漢".repeat(167)), "{output:?}");
}

#[test]
fn a_time_that_is_over_at_once_is_wrong_usage() {
    let place = Place::new();
    for scope in ["0m", "0s", "until:1"] {
        place
            .approvals(&["allow", "7f3a", "--scope", scope])
            .assert_code(2)
            .assert_stderr("would be over at once");
    }
}

#[test]
fn a_grant_ends_by_the_clock_and_is_then_called_expired() {
    let place = Place::new();
    let (running, id) = place.asking("uname; sleep 20; :");
    let allowed = place.approvals(&["allow", &id, "--scope", "2s"]);
    allowed.assert_success().assert_stdout("allowed (until ");
    let grants = || place.approvals(&["grants"]).stdout;
    let first = grants();
    assert!(first.contains(", in force"), "{first}");
    let expired = || grants().contains(", expired");
    assert!(wait::until_true(ASK_TIMEOUT, expired), "{}", grants());
    for text in [&allowed.stdout, &first, &grants()] {
        assert!(!text.contains("until:"), "{text}");
    }
    drop(running);
}

#[test]
fn a_session_that_does_not_answer_is_not_taken_for_silence() {
    let place = Place::new();
    let dir = place.0.state().join("sessions/3f2a000000000001");
    fs::create_dir_all(&dir).expect("the state is ours");
    for part in [&dir, &place.0.state().join("sessions")] {
        let mode = fs::Permissions::from_mode(0o700);
        fs::set_permissions(part, mode).expect("the state is ours");
    }
    // No process listens: the session is over.
    drop(UnixListener::bind(dir.join("control.sock")).expect("the state is ours"));
    place
        .approvals(&["list"])
        .assert_success()
        .assert_stderr("there are no open questions");
    fs::remove_file(dir.join("control.sock")).expect("the state is ours");
    // A process listens but does not answer, like a stopped supervisor.
    let listener = UnixListener::bind(dir.join("control.sock")).expect("the state is ours");
    let silent = "session 3f2a: the session does not answer";
    let list = place.approvals(&["list"]);
    list.assert_code(3).assert_stderr(silent);
    assert!(!list.stderr.contains("no open questions"), "{list:?}");
    place
        .approvals(&["allow", "7f3a"])
        .assert_code(3)
        .assert_stderr(silent);
    drop(listener);
}
