//! Shared parts of the list's tests: the laboratory, a session whose questions are answered, and
//! the conditions that every session must meet, whatever ran in it.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a broken fixture must end the test"
)]

use std::{fs, path::PathBuf, time::Duration};

use stockade_testkit::{
    Output, Repo, Snapshot, TestEnv,
    approvals::{self, Answer, Asked},
    events::{self, Event},
    lab::HttpServer,
    processes, wait,
};

/// Reason with which the person at the second terminal denies.
pub(crate) const REASON: &str = "open a pull request instead";
/// Time after the end of a session in which everything that it started must be gone.
pub(crate) const GONE_TIMEOUT: Duration = Duration::from_secs(2);
/// Variable of the caller that holds a secret.
pub(crate) const SECRET: &str = "GITHUB_TOKEN";

/// The laboratory around one run: everything is fresh.
pub(crate) struct Lab {
    pub(crate) env: TestEnv,
    pub(crate) repo: Repo,
    pub(crate) stranger: HttpServer,
    /// Argument that only the daemon of this run has.
    pub(crate) daemon: String,
}

impl Lab {
    pub(crate) fn new(user: Option<&str>) -> Self {
        let env = TestEnv::of(user);
        let repo = env.repo();
        let stranger = HttpServer::start();
        let daemon = format!("3600.{}", stranger.port());
        Self {
            env,
            repo,
            stranger,
            daemon,
        }
    }

    pub(crate) fn daemons(&self) -> Vec<u32> {
        processes::with_argument(&self.daemon)
    }

    /// Kills the daemons, which only a control leaves behind.
    pub(crate) fn kill_daemons(&self) -> usize {
        let daemons = self.daemons();
        for &daemon in &daemons {
            processes::kill(daemon);
        }
        daemons.len()
    }

    /// Writes the policy of the session: a stranger that is asked about, and `more`. The command's
    /// preset decides everything else.
    pub(crate) fn policy(&self, more: &str) -> PathBuf {
        let text = format!(
            r#"schema = 1
{more}
[[ask]]
id = "lab-stranger"
what = "net"
hosts = ["stranger.test"]
ports = [{port}]
private = true
reason = "a stranger of the laboratory"

[network.hosts]
"stranger.test" = "127.0.0.1"
"model.test" = "127.0.0.1"
"#,
            port = self.stranger.port(),
        );
        self.env.write("policy.toml", &text)
    }
}

/// A session that has ended.
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) output: Output,
    pub(crate) asked: Vec<Asked>,
}

/// The differences between two sessions in one laboratory.
pub(crate) struct Wish<'a> {
    pub(crate) words: &'a [String],
    pub(crate) policy: PathBuf,
    /// Variables of the caller in addition to those that every caller has.
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) timeout: Duration,
    pub(crate) answer: Answer,
}

/// Runs words in the boundary while a person gives one answer to every question.
pub(crate) fn run(lab: &Lab, wish: Wish<'_>) -> Session {
    let session_file = lab.env.root().join("session");
    let running = lab
        .env
        .stockade()
        .envs(wish.variables)
        .current_dir(lab.repo.path())
        // Without the summary, the output contains only what a program inside could read.
        .args([
            "run",
            "--ask",
            "inbox",
            "--summary",
            "none",
            "--session-file",
        ])
        .arg(&session_file)
        .arg("--policy")
        .arg(&wish.policy)
        .arg("--")
        .args(wish.words)
        .timeout(wish.timeout)
        .spawn();
    let (output, asked) = approvals::answer_all(&lab.env, running, |_| wish.answer.clone());
    let id = fs::read_to_string(&session_file)
        .unwrap_or_else(|e| panic!("no session was started: {e}\n{output:?}"));
    let id = id.trim().to_owned();
    Session { id, output, asked }
}

/// The answer of a person who says no.
pub(crate) fn denied() -> Answer {
    Answer::Deny {
        reason: REASON.to_owned(),
    }
}

/// The state of the host before a session.
pub(crate) struct Before {
    home: Snapshot,
    tree: Snapshot,
    remote: Snapshot,
}

impl Before {
    pub(crate) fn take(lab: &Lab) -> Self {
        Self {
            home: Snapshot::take(lab.env.home()),
            tree: lab.repo.snapshot(),
            remote: Snapshot::take(lab.repo.origin()),
        }
    }

    /// Only `changed` in the workspace differs on the host, and no file that git runs does.
    pub(crate) fn assert_only_changed(&self, lab: &Lab, changed: &[&str]) {
        self.home.assert_unchanged();
        self.remote.assert_unchanged();
        self.tree.assert_only_changed(changed);
        let after = lab.repo.snapshot();
        for kept in [".git/config", ".git/hooks", ".git/hooks/pre-commit"] {
            assert_eq!(self.tree.get(kept), after.get(kept), "{kept}");
        }
        let gone = wait::until_true(GONE_TIMEOUT, || lab.daemons().is_empty());
        assert!(gone, "a daemon outlived its session: {:?}", lab.daemons());
    }
}

/// Each refusal, given as target and rule, is exactly one event, and there is no other; the record
/// shows no secret.
pub(crate) fn assert_record(lab: &Lab, session: &str, refusals: &[(&str, &str)]) -> Vec<Event> {
    let record = lab.env.events(session);
    for (target, rule) in refusals {
        let event = events::assert_one_refusal(&record, target, rule);
        assert_eq!(event.field("session"), session, "{event:#?}");
    }
    let count = record.iter().filter(|event| event.is_refusal()).count();
    assert_eq!(count, refusals.len(), "{}", events::summary(&record));
    for kind in ["session.started", "session.ended"] {
        let count = record.iter().filter(|event| event.kind() == kind).count();
        assert_eq!(count, 1, "{kind}: {}", events::summary(&record));
    }
    for event in &record {
        lab.env.assert_no_canary(&event.json.to_string());
    }
    record
}

/// The record is intact, and a single changed byte is detected.
pub(crate) fn assert_journal_is_checked(lab: &Lab, session: &str) {
    let verify = || lab.env.stockade().args(["log", "verify", "last"]).output();
    verify().assert_success().assert_stdout("intact");
    let journal = lab
        .env
        .state()
        .join("sessions")
        .join(session)
        .join("journal.jsonl");
    let original = fs::read(&journal).expect("the session has a journal");
    let mut changed = original.clone();
    let middle = changed.len() / 2;
    let byte = changed.get_mut(middle).expect("the journal is not empty");
    *byte ^= 1;
    fs::write(&journal, changed).expect("the state is writable from outside");
    verify().assert_code(1);
    fs::write(&journal, original).expect("the state is writable from outside");
    verify().assert_success();
}
