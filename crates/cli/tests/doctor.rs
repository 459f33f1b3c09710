//! `stockade doctor` reports what works here and how to fix the rest; and if a supervisor is
//! killed, nothing that it had acknowledged is lost.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a broken fixture must end the test"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use stockade_testkit::{
    Output, Repo, Run, TestEnv,
    env::User,
    kernel::{Feature, without},
    processes, wait,
};

/// Parts that the native tier needs.
const REQUIRED: [&str; 5] = ["namespaces", "landlock", "notifier", "record", "policy"];
/// All parts, in the order of the report.
const PARTS: [&str; 13] = [
    "kernel",
    "namespaces",
    "landlock",
    "notifier",
    "redirect",
    "hold",
    "limits",
    "disk",
    "caches",
    "record",
    "tiers",
    "policy",
    "here",
];
/// Time in which a command in a session must be seen to work.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Time in which all processes must be gone after their supervisor was killed.
const GONE_TIMEOUT: Duration = Duration::from_secs(5);

fn ordinary() -> TestEnv {
    let is_root = rustix::process::geteuid().is_root();
    TestEnv::of(is_root.then(User::ordinary_name).as_deref())
}

fn uid_of(env: &TestEnv) -> u32 {
    env.user()
        .map_or_else(|| rustix::process::geteuid().as_raw(), |user| user.uid)
}

/// A report, as JSON.
struct Report(Value);

impl Report {
    fn of(output: &Output) -> Self {
        Self(serde_json::from_str(&output.stdout).expect("the report is one JSON object"))
    }

    fn native(&self) -> bool {
        self.0
            .get("native")
            .and_then(Value::as_bool)
            .expect("the report has a verdict")
    }

    fn checks(&self) -> &[Value] {
        self.0
            .get("checks")
            .and_then(Value::as_array)
            .expect("the report has checks")
    }

    fn check(&self, name: &str) -> &Value {
        let found = self
            .checks()
            .iter()
            .find(|check| text(check, "name") == name);
        found.unwrap_or_else(|| panic!("no check `{name}` in {}", self.0))
    }

    fn state(&self, name: &str) -> &str {
        text(self.check(name), "state")
    }
}

fn text<'a>(check: &'a Value, field: &str) -> &'a str {
    check.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn a_machine_that_has_everything_is_ready() {
    for user in User::all() {
        let env = TestEnv::of(user.as_deref());
        let repo = env.repo();
        let doctor = || env.stockade().current_dir(repo.path()).arg("doctor");
        let shown = doctor().success();
        assert_eq!(shown.stderr, "");
        let first = shown.stdout.lines().next().unwrap_or_default();
        assert_eq!(
            first,
            format!("native       ready, as uid {}", uid_of(&env))
        );
        let report = Report::of(&doctor().arg("--json").success());
        assert!(report.native());
        let names: Vec<&str> = report
            .checks()
            .iter()
            .map(|check| text(check, "name"))
            .collect();
        assert_eq!(names, PARTS);
        for check in report.checks() {
            let name = text(check, "name");
            let required = check.get("required").and_then(Value::as_bool);
            assert_eq!(required, Some(REQUIRED.contains(&name)), "{check}");
            assert_ne!(text(check, "state"), "missing", "{check}");
            // The text has the same content: name, state and finding; then the remedy.
            let line = format!(
                "{name:<12} {:<8} {}",
                text(check, "state"),
                text(check, "found")
            );
            let stable = line.split(" GiB").next().unwrap_or_default();
            assert!(
                shown
                    .stdout
                    .contains(stable.trim_end_matches(char::is_numeric)),
                "{line}"
            );
            if let Some(remedy) = check.get("remedy").and_then(Value::as_str) {
                assert!(shown.stdout.contains(&format!("→ {remedy}\n")), "{shown:?}");
            }
        }
        // It only checks: nothing is made at the place of the state.
        assert!(!env.state().join("sessions").exists());
    }
}

#[test]
fn what_is_missing_is_named_with_its_remedy() {
    let cases = [
        (Feature::Landlock, "landlock", "missing", "lsm=landlock"),
        (
            Feature::Namespaces,
            "namespaces",
            "missing",
            "user namespaces allowed",
        ),
        (Feature::Filters, "notifier", "missing", "allow seccomp(2)"),
        (
            Feature::Redirect,
            "redirect",
            "weaker",
            "modprobe nf_tables",
        ),
        (
            Feature::Redirect,
            "hold",
            "weaker",
            "modprobe nfnetlink_queue",
        ),
    ];
    for user in User::all() {
        let env = TestEnv::of(user.as_deref());
        let repo = env.repo();
        for (feature, name, state, remedy) in cases {
            let run = |json: bool| {
                let run = env.stockade().current_dir(repo.path()).arg("doctor");
                let run = if json { run.arg("--json") } else { run };
                without(feature, move || run.output())
            };
            let (printed, shown) = (run(true), run(false));
            let report = Report::of(&printed);
            let ready = state != "missing";
            assert_eq!(report.native(), ready, "without {feature:?}: {printed:?}");
            printed.assert_code(i32::from(!ready));
            shown.assert_code(i32::from(!ready));
            assert_eq!(
                report.state(name),
                state,
                "without {feature:?}: {printed:?}"
            );
            assert!(
                text(report.check(name), "remedy").contains(remedy),
                "{printed:?}"
            );
            shown.assert_stdout(if ready {
                "native       ready"
            } else {
                "native       not ready"
            });
            shown.assert_stdout(&format!("{name:<12} {state}"));
            shown.assert_stdout(remedy);
            // Only missing parts are called missing.
            let missing = report
                .checks()
                .iter()
                .filter(|check| text(check, "state") == "missing");
            let missing: Vec<&str> = missing.map(|check| text(check, "name")).collect();
            let expected: Vec<&str> = if ready { Vec::new() } else { vec![name] };
            assert_eq!(missing, expected, "without {feature:?}");
        }
    }
}

#[test]
fn user_namespaces_that_are_used_up_are_told_with_the_switch() {
    let env = ordinary();
    let run = |limit: &str| {
        let script = format!("echo {limit} > /proc/sys/user/max_user_namespaces && exec \"$@\"");
        env.command("unshare")
            .args([
                "--user",
                "--map-user=1001",
                "--map-group=1001",
                "--keep-caps",
            ])
            .args(["/bin/sh", "-c", &script, "sh"])
            .arg(env.binary())
            .arg("doctor")
            .output()
    };
    let used_up = run("0");
    used_up
        .assert_code(1)
        .assert_stdout("native       not ready")
        .assert_stdout("namespaces   missing")
        .assert_stdout("→ sudo sysctl -w user.max_user_namespaces=15000")
        .assert_stdout("redirect     weaker   not tried");
    run("100")
        .assert_code(0)
        .assert_stdout("namespaces   ready");
}

#[test]
fn a_place_for_the_record_that_cannot_be_written_is_missing() {
    let env = ordinary();
    let closed = env.write("closed/file", "x");
    let closed = closed.parent().expect("it has one");
    let look = |mode: u32| {
        fs::set_permissions(closed, fs::Permissions::from_mode(mode)).expect("it is ours");
        let place = closed.join("state");
        env.stockade()
            .arg("doctor")
            .env("STOCKADE_STATE_DIR", place)
            .output()
    };
    look(0o500)
        .assert_code(1)
        .assert_stdout("record       missing")
        .assert_stdout("→ set STOCKADE_STATE_DIR to a directory that you can write");
    look(0o700)
        .assert_code(0)
        .assert_stdout("record       ready");
}

/// `doctor` and `run` agree about the state directory.
#[test]
fn a_state_directory_that_runs_refuse_is_missing() {
    use std::os::unix::fs::PermissionsExt;
    let env = ordinary();
    let repo = env.repo();
    let run = || env.session(repo.path()).args(["--", "/bin/true"]).output();
    run().assert_code(0);
    let sessions = env.state().join("sessions");
    for open in [env.state(), sessions] {
        for (mode, code) in [(0o755, 125), (0o770, 125), (0o700, 0)] {
            fs::set_permissions(&open, fs::Permissions::from_mode(mode)).expect("it is ours");
            run().assert_code(code);
            let looked = env.stockade().arg("doctor").output();
            if code == 0 {
                looked.assert_code(0).assert_stdout("record       ready");
            } else {
                looked
                    .assert_code(1)
                    .assert_stdout("record       missing")
                    .assert_stdout("→ chmod 700");
            }
        }
    }
}

/// If anything prevents a run from starting, `doctor` does not call the machine ready, and gives
/// the same reason.
#[test]
fn what_runs_refuse_is_not_ready() {
    let env = ordinary();
    let repo = env.repo();
    let home = env.home();
    let made = |name: &str| {
        let path = home.join(name);
        fs::create_dir_all(&path).expect("the home is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("it is ours");
        path
    };
    let with_key = made("with-key");
    env.write(with_key.join("key"), "no key");
    env.own(&with_key);
    let file = env.write("a-file", "");
    let link = home.join("a-link");
    std::os::unix::fs::symlink(made("behind"), &link).expect("the home is ours");
    let full = Path::new("/dev/full/state").to_owned();
    let text = |path: &Path| path.display().to_string();
    let cases: Vec<(&str, String, &str)> = vec![
        ("HOME", String::new(), "set STOCKADE_STATE_DIR"),
        ("HOME", "relative".to_owned(), "absolute path"),
        (
            "XDG_STATE_HOME",
            "relative".to_owned(),
            "not an absolute path",
        ),
        (
            "STOCKADE_STATE_DIR",
            "relative".to_owned(),
            "not an absolute path",
        ),
        ("STOCKADE_STATE_DIR", text(&file), "not a directory"),
        ("STOCKADE_STATE_DIR", text(&link), "symbolic link"),
        ("STOCKADE_STATE_DIR", text(&full), "not a directory"),
        ("STOCKADE_STATE_DIR", text(&with_key), "signing key"),
        (
            "STOCKADE_STATE_DIR",
            text(&repo.path().join("state")),
            "overlaps",
        ),
    ];
    for (name, value, why) in &cases {
        // Empty the variable with precedence when a variable is tested that it would override.
        let with = |run: Run| match *name {
            "STOCKADE_STATE_DIR" => run.env(name, value),
            _ => run.env("STOCKADE_STATE_DIR", "").env(name, value),
        };
        let run = env.stockade().current_dir(repo.path());
        with(run.args(["run", "--", "/bin/true"]))
            .output()
            .assert_code(125);
        let looked = with(env.stockade().current_dir(repo.path()).arg("doctor")).output();
        let is_told = looked
            .stdout
            .lines()
            .any(|line| line.contains(" missing ") && line.contains(why));
        assert!(is_told, "{name}={value}: {looked:?}");
        // A problem with one directory is not a problem of the machine.
        looked.assert_code(i32::from(*why != "overlaps"));
    }
    env.write(home.join(".config/stockade/policy.toml"), "schema = 9\n");
    let in_repo = |words: &[&str]| env.stockade().current_dir(repo.path()).args(words).output();
    in_repo(&["run", "--", "/bin/true"]).assert_code(125);
    in_repo(&["doctor"])
        .assert_code(1)
        .assert_stdout("policy       missing");
}

/// A session that makes files until its supervisor is killed.
struct Victim<'a> {
    env: &'a TestEnv,
    repo: &'a Repo,
}

impl Victim<'_> {
    /// Kills the supervisor after `count` files were made; returns how many exist in the end.
    fn kill_after(&self, count: usize) -> usize {
        let made = self.repo.path().join("made");
        let marker = format!("loop-{}-{count}", std::process::id());
        let script = "mkdir made; i=0; while :; do : > made/$i; i=$((i+1)); done";
        let mut running = self
            .env
            .stockade()
            .args([
                "run", "--ask", "deny", "--", "/bin/sh", "-c", script, &marker,
            ])
            .current_dir(self.repo.path())
            .spawn();
        let reached = || files(&made) >= count;
        assert!(
            wait::until_true(START_TIMEOUT, reached),
            "{}",
            running.stderr()
        );
        processes::kill(running.pid());
        assert!(wait::until_true(GONE_TIMEOUT, || running.is_over()));
        let gone = || processes::with_argument(&marker).is_empty();
        assert!(
            wait::until_true(GONE_TIMEOUT, gone),
            "the command outlives its supervisor"
        );
        running.wait().assert_code(128 + 9);
        let count = files(&made);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(files(&made), count, "something still writes");
        count
    }
}

/// Removes the empty control groups that root's killed supervisors could not remove.
fn remove_groups(env: &TestEnv) {
    let sessions = fs::read_dir(env.state().join("sessions"))
        .into_iter()
        .flatten()
        .flatten();
    for session in sessions {
        let name = format!("stockade-{}", session.file_name().to_string_lossy());
        for group in directories_named(&name) {
            fs::remove_dir(&group).unwrap_or_else(|e| panic!("{}: {e}", group.display()));
        }
    }
}

fn directories_named(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = todo.pop() {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        for entry in entries.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())) {
            if entry.file_name() == name {
                found.push(entry.path());
            }
            todo.push(entry.path());
        }
    }
    found
}

/// Whether a process exists and has not ended; it does not matter which process waits for it.
fn runs(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let state = status
        .lines()
        .find_map(|line| line.strip_prefix("State:\t"));
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}

fn files(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

fn journal(env: &TestEnv, session: &str) -> PathBuf {
    env.state()
        .join("sessions")
        .join(session)
        .join("journal.jsonl")
}

// keeps invariant: record-first
#[test]
fn a_killed_supervisor_leaves_an_unfinished_record_of_every_effect() {
    for user in User::all() {
        let env = TestEnv::of(user.as_deref());
        for (round, count) in [1, 13, 77, 200].into_iter().enumerate() {
            let repo = env.repo_named(&format!("shop-{round}"));
            let made = Victim {
                env: &env,
                repo: &repo,
            }
            .kill_after(count);
            let verified = env
                .stockade()
                .args(["log", "verify", "last", "--json"])
                .output();
            let verdict: Value =
                serde_json::from_str(&verified.stdout).expect("the verdict is one JSON object");
            assert_eq!(text(&verdict, "verdict"), "unfinished", "{verified:?}");
            assert_eq!(
                verdict.get("running"),
                Some(&Value::Bool(false)),
                "{verified:?}"
            );
            // The journal contains every file that the command was told about, because a call
            // returns only after its event. One more file can have been made by a call that never
            // returned.
            let session = text(&verdict, "session");
            let directory = repo.path().join("made").to_string_lossy().into_owned();
            let events = env.events_of_killed(session);
            let recorded = events
                .iter()
                .filter(|e| e.kind() == "file.changed" && e.targets(&directory));
            let recorded = recorded.count();
            assert!(
                recorded >= made,
                "{made} files and their directory, {recorded} records"
            );
            // With one byte less, it is no longer the record of this session.
            let path = journal(&env, session);
            let mut bytes = fs::read(&path).expect("the journal exists");
            let middle = bytes.len() / 2;
            let byte = bytes.get_mut(middle).expect("the journal is not empty");
            *byte ^= 1;
            fs::write(&path, bytes).expect("the test may write");
            let flipped = env.stockade().args(["log", "verify", session]).output();
            flipped.assert_code(1).assert_stdout("broken");
        }
        remove_groups(&env);
    }
}

#[test]
fn a_supervisor_killed_while_it_starts_leaves_nothing_that_runs() {
    for user in User::all() {
        killed_while_it_starts(&TestEnv::of(user.as_deref()));
    }
}

fn killed_while_it_starts(env: &TestEnv) {
    let repo = env.repo();
    for after_ms in [5, 15, 30, 45, 60, 80, 110, 150] {
        let marker = format!("3600.{}{after_ms}", std::process::id());
        let mut running = env
            .stockade()
            .args(["run", "--ask", "deny", "--", "/bin/sleep", &marker])
            .current_dir(repo.path())
            .spawn();
        std::thread::sleep(Duration::from_millis(after_ms));
        let below = processes::descendants(running.pid());
        processes::kill(running.pid());
        assert!(wait::until_true(GONE_TIMEOUT, || running.is_over()));
        let left = || {
            below.iter().filter(|pid| runs(**pid)).count() + processes::with_argument(&marker).len()
        };
        assert!(
            wait::until_true(GONE_TIMEOUT, || left() == 0),
            "after {after_ms} ms: {below:?}"
        );
    }
    // Each record is a prefix that verifies as one.
    let verified = env.stockade().args(["log", "verify", "--all"]).output();
    assert!(!verified.stdout.contains("broken"), "{verified:?}");
    assert!(
        !verified.stdout.contains("intact"),
        "no session ended: {verified:?}"
    );
    env.stockade()
        .args(["run", "--ask", "deny", "--", "/bin/true"])
        .current_dir(repo.path())
        .success();
    remove_groups(env);
}
