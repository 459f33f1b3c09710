//! Reading the record afterwards: nothing is skipped, nothing unknown is claimed, and the exit code
//! says so.
#![expect(clippy::expect_used, reason = "a broken fixture must end the test")]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;
use stockade_testkit::{Output, Repo, Run, TestEnv, env::under_test, run::Running, wait};

/// How long a session may take to start its command.
const START_TIMEOUT: Duration = Duration::from_secs(20);

struct Place(TestEnv);

impl Place {
    /// Starts a session whose command has begun and then waits.
    fn sleeping(&self) -> (Repo, Running) {
        let repo = self.0.repo();
        let running = self
            .0
            .session(repo.path())
            .line("touch begun; sleep 60")
            .spawn();
        let begun = || repo.path().join("begun").exists();
        assert!(
            wait::until_true(START_TIMEOUT, begun),
            "{}",
            running.stderr()
        );
        (repo, running)
    }

    fn new() -> Self {
        Self(TestEnv::new(under_test()))
    }

    /// Runs a line in a new session and returns the directory of its record.
    fn finished(&self, line: &str) -> PathBuf {
        let repo = self.0.repo_named(&format!("shop{}", self.sessions()));
        self.0.session(repo.path()).line(line).success();
        self.dir(&self.0.session_id())
    }

    fn dir(&self, session: &str) -> PathBuf {
        self.0.state().join("sessions").join(session)
    }

    fn sessions(&self) -> usize {
        fs::read_dir(self.0.state().join("sessions")).map_or(0, Iterator::count)
    }

    fn stockade(&self, words: &[&str]) -> Output {
        self.0.stockade().args(words).output()
    }

    /// Runs shell code in which `$STOCKADE` is the program.
    fn shell(&self, code: &str) -> Run {
        self.0
            .command("/bin/bash")
            .env("STOCKADE", self.0.binary())
            .args(["-c", code])
    }
}

fn name(dir: &Path) -> String {
    let name = dir.file_name().expect("a session has a name");
    name.to_string_lossy().into_owned()
}

#[test]
fn a_session_that_cannot_be_read_is_not_passed_over() {
    let place = Place::new();
    let good = place.finished("true");
    let hidden = place.finished("true");
    let kept = place.0.root().join("kept");
    let journal = hidden.join("journal.jsonl");
    let swaps: [(&str, &dyn Fn()); 3] = [
        ("a link for the journal", &|| {
            fs::rename(&journal, &kept).expect("the state is ours");
            symlink(good.join("journal.jsonl"), &journal).expect("the state is ours");
        }),
        ("a directory for the journal", &|| {
            fs::rename(&journal, &kept).expect("the state is ours");
            fs::create_dir(&journal).expect("the state is ours");
        }),
        ("a link for the session", &|| {
            fs::rename(&hidden, &kept).expect("the state is ours");
            symlink(&kept, &hidden).expect("the state is ours");
        }),
    ];
    for (what, swap) in swaps {
        swap();
        let all = place.stockade(&["log", "verify", "--all"]);
        all.assert_code(3)
            .assert_stdout(&format!("{}  intact", name(&good)))
            .assert_stdout(&format!("{}  cannot tell", name(&hidden)));
        let last = place.stockade(&["log", "verify"]);
        last.assert_code(3).assert_stderr(&name(&hidden));
        assert_eq!(last.stdout, "", "{what}");
        let note = format!("stockade: cannot index session {}: ", name(&hidden));
        last.assert_stderr(&note);
        place
            .stockade(&["log", "verify", &name(&hidden)])
            .assert_code(3)
            .assert_stdout("cannot tell");
        place
            .stockade(&["sessions"])
            .assert_success()
            .assert_stdout("unreadable");
        // Back to the intact original.
        if hidden.is_symlink() {
            fs::remove_file(&hidden).expect("the state is ours");
            fs::rename(&kept, &hidden).expect("the state is ours");
        } else {
            let is_link = journal.is_symlink();
            let removed = if is_link {
                fs::remove_file(&journal)
            } else {
                fs::remove_dir(&journal)
            };
            removed.expect("the state is ours");
            fs::rename(&kept, &journal).expect("the state is ours");
        }
        // Records that were read once keep their place; the index is removed so that it is rebuilt.
        for file in ["index.db", "index.db-wal", "index.db-shm"] {
            fs::remove_file(place.0.state().join(file)).ok();
        }
    }
    place.stockade(&["log", "verify", "--all"]).assert_success();
}

#[test]
fn the_record_is_read_without_an_index_that_can_be_written() {
    let place = Place::new();
    let session = place.finished("true");
    fs::create_dir(place.0.state().join("index.db")).expect("the state is ours");
    for words in [
        &["log", "verify"][..],
        &["log", "verify", "--all"],
        &["sessions"],
        &["show"],
        &["events", "last"],
    ] {
        let output = place.stockade(words);
        output.assert_success();
        assert!(!output.stdout.is_empty(), "{output:?}");
        let notes: Vec<&str> = output.stderr.lines().collect();
        assert_eq!(notes.len(), 1, "{output:?}");
        output.assert_stderr("index in memory");
        assert_eq!(output.stderr.matches("os error").count(), 1, "{output:?}");
    }
    place
        .stockade(&["log", "verify"])
        .assert_stdout(&name(&session));
}

#[test]
fn a_reader_that_is_gone_does_not_change_the_verdict() {
    let place = Place::new();
    let dir = place.finished("true");
    let verdict = || {
        let code = "set -o pipefail; (sleep 0.3; exec \"$STOCKADE\" log verify --all) | true";
        place.shell(code).output().code()
    };
    assert_eq!(verdict(), 0);
    let journal = dir.join("journal.jsonl");
    let text = fs::read_to_string(&journal).expect("the state is ours");
    let changed = text.replacen("session.started", "session.begun", 1);
    assert_ne!(text, changed);
    fs::write(&journal, changed).expect("the state is ours");
    assert_eq!(verdict(), 1);
    // A command that only prints still ends.
    let code = "set -o pipefail; \"$STOCKADE\" events | head -1 > /dev/null";
    let output = place.shell(code).output();
    assert!(output.code() == 0 || output.code() == 3, "{output:?}");
}

#[test]
fn output_that_could_not_be_written_is_no_success() {
    let place = Place::new();
    let repo = place.0.repo();
    let run = |command: &str, to: &str| {
        let code = format!("\"$STOCKADE\" run --ask deny --summary none -- {command} {to}");
        place.shell(&code).current_dir(repo.path()).output()
    };
    run("echo hi", "> /dev/full")
        .assert_code(1)
        .assert_stderr("stockade: not all output of the command could be written: No space left");
    // The command's own code takes precedence, and a missing reader is the command's own affair.
    run("bash -c 'echo hi; exit 7'", "> /dev/full").assert_code(7);
    run("echo hi", "").assert_success().assert_stdout("hi");
    run("bash -c 'sleep 0.3; echo hi || exit 5'", "| true").assert_success();
}

#[test]
fn a_session_whose_supervisor_was_killed_is_not_said_to_run() {
    let place = Place::new();
    let (_repo, running) = place.sleeping();
    let id = place.0.session_id();
    let headline = |texts: &[&str]| {
        let output = place.stockade(&["show", &id]);
        for text in texts {
            output.assert_stdout(text);
        }
    };
    let short = id.get(..4).expect("ids are longer").to_owned();
    let begin = format!("stockade: session {short} ");
    headline(&[&begin, "has not ended, bash may be running"]);
    running.signal(Signal::KILL);
    drop(running);
    let live = || place.stockade(&["sessions"]).stdout.contains("unfinished");
    assert!(wait::until_true(START_TIMEOUT, live));
    headline(&[&begin, "is unfinished, its record has no end"]);
    fs::write(place.dir(&id).join("journal.jsonl"), "").expect("the state is ours");
    headline(&[&begin, "is unfinished"]);
}

#[test]
fn a_command_that_was_refused_did_not_run() {
    let place = Place::new();
    let repo = place.0.repo();
    let policy = "schema = 1\n[[deny]]\nid = \"no-uname\"\nwhat = \"exec\"\n\
                  command = [\"uname\", \"**\"]\nreason = \"r\"\n";
    let policy = place.0.write("policy.toml", policy);
    let run = place.0.stockade().current_dir(repo.path());
    let output = run
        .args(["run", "--ask", "deny", "--policy"])
        .arg(policy)
        .line("for i in 1 2 3 4; do uname -a; done; /bin/true; :")
        .output();
    output.assert_stderr("2 processes in 1 command\n");
}

#[test]
fn the_timeline_names_what_was_asked_for() {
    let place = Place::new();
    let repo = place.0.repo();
    let policy = "schema = 1\n[[ask]]\nid = \"who\"\nwhat = \"exec\"\n\
                  command = [\"uname\", \"**\"]\nreason = \"r\"\n";
    let policy = place.0.write("policy.toml", policy).display().to_string();
    let options = ["--ask", "inbox", "--policy", policy.as_str()];
    let run = place.0.session_with(repo.path(), &options);
    let running = run.line("uname -s; :").spawn();
    let allow =
        |_: &stockade_testkit::approvals::Asked| stockade_testkit::approvals::Answer::Allow {
            scope: "10m".to_owned(),
        };
    let (output, asked) = stockade_testkit::approvals::answer_all(&place.0, running, allow);
    output.assert_success();
    assert_eq!(asked.len(), 1);
    let shown = place.stockade(&["show"]);
    shown.assert_stdout("▸ run  uname -s → 1 process");
    // The scope is a duration, not a number of milliseconds.
    shown.assert_stdout("→ allowed for ");
    assert!(!shown.stdout.contains("until:"), "{shown:?}");
}

/// The numbers of events that `stockade events --json` printed.
fn numbers(output: &str) -> Vec<u64> {
    let number = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).expect("one JSON object a line");
        let number = event.get("seq").and_then(serde_json::Value::as_u64);
        number.expect("each event has a number")
    };
    output.lines().map(number).collect()
}

#[test]
fn any_number_follow_a_session_to_its_end() {
    let place = Place::new();
    let repo = place.0.repo();
    let line =
        "touch begun; until test -e go; do sleep 0.05; done; for i in 1 2 3; do /bin/true; done";
    let running = place.0.session(repo.path()).line(line).spawn();
    let begun = || repo.path().join("begun").exists();
    assert!(
        wait::until_true(START_TIMEOUT, begun),
        "{}",
        running.stderr()
    );
    let id = place.0.session_id();
    let follower = |more: &[&str]| {
        let words = ["events", "--follow", "--json", id.as_str()];
        place.0.stockade().args(words).args(more).spawn()
    };
    let (early, only, after) = (
        follower(&[]),
        follower(&["--kind", "session.ended"]),
        follower(&["--after", "3"]),
    );
    assert!(wait::until_true(START_TIMEOUT, || {
        !early.stdout().is_empty() && !after.stdout().is_empty()
    }));
    // Without `--follow` it prints the existing events and ends.
    let so_far = place.stockade(&["events", "--json", &id]);
    so_far.assert_success();
    assert!(!so_far.stdout.contains("session.ended"), "{so_far:?}");
    fs::write(repo.path().join("go"), "").expect("the workspace is ours");
    running.wait().assert_success();
    let late = follower(&[]).wait();
    let early = early.wait();
    early.assert_success();
    assert_eq!(early.stdout, late.stdout);
    let all = numbers(&early.stdout);
    let last = u64::try_from(all.len()).expect("few");
    assert_eq!(all, (1..=last).collect::<Vec<_>>());
    assert_eq!(numbers(&only.wait().stdout), [last]);
    assert_eq!(
        numbers(&after.wait().stdout),
        (4..=last).collect::<Vec<_>>()
    );
}

#[test]
fn a_follower_says_that_the_supervisor_was_killed() {
    let place = Place::new();
    let (_repo, running) = place.sleeping();
    let words = ["events", "--follow", "--json", "last"];
    let followers = [0, 1].map(|_| place.0.stockade().args(words).spawn());
    let seen = || followers.iter().all(|one| !one.stdout().is_empty());
    assert!(wait::until_true(START_TIMEOUT, seen));
    running.signal(Signal::KILL);
    drop(running);
    for follower in followers {
        let output = follower.wait();
        output
            .assert_success()
            .assert_stderr("the supervisor of this session is gone");
        assert!(!output.stdout.contains("session.ended"), "{output:?}");
    }
}
