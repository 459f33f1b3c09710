//! A run that cannot work does not start: exit code 125, 126 or 127, one clear reason with the next
//! step, nothing on standard output, and no execution.
#![expect(clippy::expect_used, reason = "a broken fixture must end the test")]

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use stockade_testkit::{
    Output, Repo, Run, TestEnv, UNATTENDED,
    env::User,
    events::Event,
    kernel::{Feature, without},
    run::require_tool,
};

/// A repository in its own environment, and a command that leaves a trace if it runs.
struct Place {
    env: TestEnv,
    repo: Repo,
}

impl Place {
    /// As the user who runs the tests.
    fn new() -> Self {
        Self::of(None)
    }

    /// As an ordinary user, to whom permissions apply.
    fn ordinary() -> Self {
        let is_root = rustix::process::geteuid().is_root();
        Self::of(is_root.then(User::ordinary_name).as_deref())
    }

    fn of(user: Option<&str>) -> Self {
        let env = TestEnv::of(user);
        let repo = env.repo();
        Self { env, repo }
    }

    /// `run` in the repository, before its options.
    fn run(&self) -> Run {
        self.env
            .stockade()
            .args(UNATTENDED)
            .current_dir(self.repo.path())
    }

    fn trace(&self) -> PathBuf {
        self.repo.path().join("trace")
    }

    /// The words that leave the trace.
    fn leave_trace(&self) -> Vec<String> {
        let trace = self.trace().to_string_lossy().into_owned();
        ["--", "/usr/bin/touch", &trace].map(str::to_owned).to_vec()
    }

    /// Ends the test unless the run is refused with `code` and one reason that contains every text.
    fn assert_refused(&self, run: Run, code: i32, texts: &[&str]) -> Output {
        let output = run.output();
        output.assert_code(code);
        assert_one_reason(&output, texts);
        assert!(!self.trace().exists(), "the command ran: {output:?}");
        output
    }

    /// Ends the test unless the refused run now works: the positive control.
    fn assert_works(&self, run: Run) {
        run.args(self.leave_trace()).success();
        assert!(self.trace().exists(), "the command did not run");
        fs::remove_file(self.trace()).expect("the trace is ours");
    }

    fn sessions(&self) -> usize {
        fs::read_dir(self.env.state().join("sessions")).map_or(0, Iterator::count)
    }

    /// A shell in its own mount namespace, as its root; `"$@"` runs as the user 1001 there.
    fn in_namespace(&self, script: &str, words: &[&str]) -> Run {
        require_tool("unshare");
        let run = self.env.stockade().current_dir(self.repo.path());
        let outer = run.into_command();
        let mut wrapped = self
            .env
            .as_root_of("--mount", script)
            .arg(outer.get_program())
            .args(words)
            .current_dir(self.repo.path());
        for (name, value) in outer.get_envs() {
            wrapped = wrapped.env(name, value.unwrap_or_default());
        }
        wrapped
    }
}

#[track_caller]
fn assert_one_reason(output: &Output, texts: &[&str]) {
    assert_eq!(output.stdout, "", "{output:?}");
    for text in texts {
        output.assert_stderr(text);
    }
    let begins = |line: &&str| line.starts_with("stockade: ") || line.starts_with("error: ");
    // The notes on what the command brings along are not reasons.
    let lines = output
        .stderr
        .lines()
        .filter(|line| !line.contains("also visible"));
    let reasons = lines.filter(begins).count();
    assert_eq!(reasons, 1, "expected one reason: {output:?}");
    assert!(!output.stderr.contains("panicked"), "{output:?}");
}

/// A policy with six mistakes.
const SIX: &str = r#"schema = 1

[limits]
memory = "lots"
proceses = 512

[[allow]]
id = "x"
what = "net"
hosts = ["*.co.uk"]
reason = "r"

[[deny]]
id = "x"
what = "netz"
reason = "r"

[[ask]]
id = "y"
what = "exec"
command = []
reason = "r"
"#;
const SIX_PROBLEMS: [&str; 6] = [
    ":4:10  limits.memory: `lots` is not a size; write for example \"4GiB\"",
    ":5:1  limits.proceses: unknown key; did you mean `processes`?",
    ":10:10  allow[0].hosts[0]: `*.co.uk` is a public suffix and would match strangers; name the domain",
    ":14:6  deny[0].id: `x` is already used at line 8",
    ":15:8  deny[0].what: `netz` is not one of net, git, package, forge, model, exec, file, tool; did you mean `net`?",
    ":21:11  ask[0].command: the list is empty; name the program",
];

#[test]
fn six_mistakes_in_a_policy_are_reported_together_and_nothing_starts() {
    let place = Place::new();
    let given = place.env.write("team.toml", SIX);
    let user = place.env.home().join(".config/stockade/policy.toml");
    let run = place
        .run()
        .arg("--policy")
        .arg(&given)
        .args(place.leave_trace());
    let output = place.assert_refused(run, 125, &["6 errors in the policy, nothing started"]);
    let expected: Vec<String> = SIX_PROBLEMS
        .iter()
        .map(|problem| format!("{}{problem}", given.display()))
        .collect();
    let lines: Vec<&str> = output.stderr.lines().take(SIX_PROBLEMS.len()).collect();
    assert_eq!(lines, expected);
    assert_eq!(place.sessions(), 0, "nothing starts, not even a record");
    // The user's own file and the dry run are checked in the same way.
    place.env.write("home/.config/stockade/policy.toml", SIX);
    let run = place.run().args(place.leave_trace());
    let output = place.assert_refused(run, 125, &["6 errors in the policy"]);
    for problem in SIX_PROBLEMS {
        output.assert_stderr(&format!("policy.toml{problem}"));
    }
    let planned = place.run().args(["--plan", "--", "/bin/true"]);
    place.assert_refused(planned, 125, &["6 errors in the policy"]);
    fs::remove_file(user).expect("the file was just written");
    place.assert_works(place.run());
}

#[test]
fn a_policy_that_cannot_be_read_is_named() {
    let place = Place::new();
    let cases: [(&[&str], &[&str]); 3] = [
        (
            &["--policy", "none.toml"],
            &["cannot read the policy `none.toml`", "No such file"],
        ),
        (&["--policy", "."], &["cannot read the policy `.`"]),
        (
            &["--profile", "codx"],
            &["there is no preset `codx`", "codex"],
        ),
    ];
    for (options, texts) in cases {
        let run = place.run().args(options).args(place.leave_trace());
        place.assert_refused(run, 125, texts);
    }
    assert_eq!(place.sessions(), 0);
}

#[test]
fn a_workspace_that_would_open_the_boundary_is_refused() {
    let place = Place::new();
    let (env, repo) = (&place.env, &place.repo);
    let file = repo.path().join("README.md");
    let inner_state = repo.path().join("state");
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let home = "is or contains your home directory";
    let system = "is a system directory; use --workspace with a project directory";
    let shared = "is shared by every user; use a directory below it";
    let secrets = "is, holds or lies in a store of secrets";
    let own = "overlaps Stockade's own state directory; set STOCKADE_STATE_DIR elsewhere";
    let cases = [
        (path(&env.home()), home),
        (path(env.root()), home),
        ("/".to_owned(), home),
        ("/usr".to_owned(), system),
        ("/usr/lib".to_owned(), system),
        ("/etc".to_owned(), system),
        ("/proc/self".to_owned(), system),
        ("/dev/shm".to_owned(), system),
        ("/sys/devices".to_owned(), system),
        ("/run".to_owned(), system),
        ("/tmp".to_owned(), shared),
        ("/home".to_owned(), shared),
        (path(&env.home().join(".ssh")), secrets),
        (path(&env.home().join(".config")), secrets),
        (path(&env.state()), own),
        ("no/such/place".to_owned(), "No such file or directory"),
        (path(&file), "Not a directory"),
    ];
    for (workspace, text) in cases {
        let run = place
            .run()
            .args(["--workspace", &workspace])
            .args(place.leave_trace());
        let output = place.assert_refused(run, 125, &["the workspace `", text]);
        assert_next_step(&output);
    }
    let run = place
        .run()
        .env("STOCKADE_STATE_DIR", &inner_state)
        .args(place.leave_trace());
    place.assert_refused(run, 125, &["the workspace `", own]);
    let deeper = inner_state.join("a");
    fs::create_dir_all(&deeper).expect("the repository is writable");
    env.own(&deeper);
    place.assert_works(place.run());
    // A directory of the project works too, whichever way it is named.
    let run = place
        .run()
        .arg("--workspace")
        .arg(&deeper)
        .current_dir(env.home());
    run.args(["--", "/bin/pwd"])
        .success()
        .assert_stdout(&path(&deeper));
}

/// Ends the test unless the reason says what to do.
fn assert_next_step(output: &Output) {
    let says = [
        "use --workspace",
        "use a directory",
        "set STOCKADE_STATE_DIR",
        "with --workspace",
    ];
    assert!(
        says.iter().any(|text| output.stderr.contains(text)),
        "no next step: {output:?}"
    );
}

#[test]
fn a_workspace_without_permission_is_refused() {
    let place = Place::ordinary();
    let closed = place.env.write("closed/file", "x");
    let closed = closed.parent().expect("it has one");
    for (mode, readable) in [(0o000, false), (0o300, false), (0o700, true)] {
        fs::set_permissions(closed, fs::Permissions::from_mode(mode)).expect("it is ours");
        let run = place.run().arg("--workspace").arg(closed);
        if readable {
            run.args(["--", "/bin/true"]).success();
        } else {
            let texts = [
                "Permission denied",
                "give a directory that you may read with --workspace",
            ];
            place.assert_refused(run.args(place.leave_trace()), 125, &texts);
        }
    }
}

/// A command, its exit code, and the texts of its message.
const COMMANDS: &[(&str, i32, &[&str])] = &[
    (
        "no-such-command",
        127,
        &[
            "`no-such-command` was not found in PATH",
            "check the spelling",
        ],
    ),
    (
        "./absent",
        127,
        &["`./absent` was not found\n", "check the spelling"],
    ),
    ("", 127, &["`` was not found"]),
    (
        "./plain",
        126,
        &[
            "/plain` cannot be executed: permission denied",
            "check its permissions",
        ],
    ),
    (
        "./dir",
        126,
        &[
            "/dir` cannot be executed: is a directory",
            "name a program in it",
        ],
    ),
    (
        "/usr/bin",
        126,
        &["`/usr/bin` cannot be executed: is a directory"],
    ),
    (
        "./garbage",
        126,
        &[
            "step `execute`",
            "Exec format error",
            "check the command's name",
        ],
    ),
    (
        "./lost",
        127,
        &[
            "step `execute`",
            "No such file or directory",
            "its interpreter",
        ],
    ),
];

#[test]
fn commands_that_cannot_run_are_told_apart() {
    let place = Place::new();
    let write = |name: &str, text: &str, mode: u32| {
        let path = place.env.write(place.repo.path().join(name), text);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    write("plain", "text", 0o644);
    write("garbage", "no program", 0o755);
    write("lost", "#!/no/such/interpreter\n", 0o755);
    write("good", "#!/bin/sh\nexit 3\n", 0o755);
    write("dir/file", "x", 0o644);
    for (command, code, texts) in COMMANDS {
        place.assert_refused(place.run().args(["--", command]), *code, texts);
    }
    let good = place.run().args(["--", "./good"]).output();
    good.assert_code(3);
    assert_eq!((good.stdout.as_str(), good.stderr.as_str()), ("", ""));
}

#[test]
fn a_denied_command_is_126_with_its_rule() {
    let place = Place::new();
    let policy = "schema = 1\n[[deny]]\nid = \"no-touch\"\nwhat = \"exec\"\n\
                  command = [\"touch\", \"**\"]\nreason = \"leave it as it is\"\n";
    let policy = place.env.write("deny.toml", policy);
    let run = place
        .run()
        .arg("--policy")
        .arg(&policy)
        .args(place.leave_trace());
    place.assert_refused(
        run,
        126,
        &[
            "was refused (deny no-touch): leave it as it is",
            "change the rule at ",
        ],
    );
    let shown = place.env.stockade().args(["show", "last"]).success();
    shown.assert_stdout("no-touch");
    let summary = place
        .env
        .stockade()
        .args(["run", "--ask", "deny", "--policy"]);
    let run = summary
        .arg(&policy)
        .args(place.leave_trace())
        .current_dir(place.repo.path());
    run.output().assert_code(126).assert_stderr("deny no-touch");
    place.assert_works(place.run());
}

#[test]
fn options_that_cannot_hold_are_refused() {
    let place = Place::new();
    let guarantees = "expected files, processes, network, secrets, limits";
    let cases: [(&[&str], &[&str]); 14] = [
        (
            &["--ask", "tty"],
            &["`--ask tty` needs a terminal", "use `--ask inbox`"],
        ),
        (
            &["--ask", "nobody"],
            &["invalid value 'nobody'", "tty, inbox, server, deny"],
        ),
        (&["--tier", "strong"], &["`strong` is not a tier", "native"]),
        (
            &["--tier", "landlock"],
            &["tier `landlock` is not available yet; use `native`"],
        ),
        (
            &["--tier", "oci:runc"],
            &["tier `oci:runc` is not available yet; use `native`"],
        ),
        (
            &["--tier", "none"],
            &["tier `none` is not available yet; use `native`"],
        ),
        (
            &["--review"],
            &["review workspace is not available yet; run without --review"],
        ),
        (&["--waive", "nothing=why"], &["'nothing=why'", guarantees]),
        (&["--waive", "disk-quota"], &["expected GUARANTEE=REASON"]),
        (&["--waive", "disk-quota= "], &["a waiver needs a reason"]),
        (&["--require", "luck"], &["'luck'", guarantees]),
        (
            &["--require", "disk-quota"],
            &["`disk-quota` is required", "without that --require"],
        ),
        (
            &["--no-such-option"],
            &["unexpected argument '--no-such-option'", "--help"],
        ),
        (
            &["--session-file", "/nonexistent/id"],
            &["cannot write the session file `/nonexistent/id`"],
        ),
    ];
    for (options, texts) in cases {
        let run = place
            .env
            .stockade()
            .args(["run", "--summary", "none"])
            .args(options);
        let run = run.args(place.leave_trace()).current_dir(place.repo.path());
        place.assert_refused(run, 125, texts);
    }
    let nothing = place.env.stockade().arg("run").output();
    nothing.assert_code(125);
    assert_one_reason(&nothing, &["<CMD>"]);
    assert_eq!(place.sessions(), 0, "nothing started, not even a record");
    place.assert_works(place.run().args(["--require", "files", "--tier", "native"]));
}

#[test]
fn a_session_in_a_session_is_refused() {
    let place = Place::new();
    let inner = place.env.binary().to_string_lossy().into_owned();
    let run = place
        .run()
        .args(["--", &inner, "run"])
        .args(place.leave_trace());
    let texts = [
        "this is inside Stockade session `",
        "do not nest, run the command directly",
    ];
    place.assert_refused(run, 125, &texts);
}

#[test]
fn a_state_directory_that_others_could_touch_is_refused() {
    let place = Place::new();
    let state = place.env.state();
    place.assert_works(place.run());
    let before = place.sessions();
    let mode = |mode: u32| {
        fs::set_permissions(&state, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    for wrong in [0o755, 0o770, 0o701] {
        mode(wrong);
        let text = format!("has mode {wrong:04o}; run chmod 700 on it");
        place.assert_refused(place.run().args(place.leave_trace()), 125, &[&text]);
    }
    mode(0o700);
    let link = place.env.root().join("link");
    symlink(&state, &link).expect("the directory is ours");
    let file = place.env.write("file", "x");
    let cases = [
        (link.as_path(), "is a symbolic link"),
        (file.as_path(), "File exists"),
        (
            Path::new("here"),
            "`here` in STOCKADE_STATE_DIR is not an absolute path",
        ),
    ];
    for (path, text) in cases {
        let run = place
            .run()
            .env("STOCKADE_STATE_DIR", path)
            .args(place.leave_trace());
        place.assert_refused(run, 125, &[text]);
    }
    fs::rename(state.join("sessions"), state.join("moved")).expect("the directory is ours");
    symlink(state.join("moved"), state.join("sessions")).expect("the directory is ours");
    let run = place.run().args(place.leave_trace());
    place.assert_refused(run, 125, &["sessions", "is a symbolic link"]);
    fs::remove_file(state.join("sessions")).expect("the link is ours");
    fs::rename(state.join("moved"), state.join("sessions")).expect("the directory is ours");
    assert_eq!(
        place.sessions(),
        before,
        "nothing started, not even a record"
    );
    place.assert_works(place.run());
}

#[test]
fn needs_root_a_state_directory_of_somebody_else_is_refused() {
    let place = Place::new();
    place.assert_works(place.run());
    let uid = User::find(&User::ordinary_name()).uid;
    chown(place.env.state(), Some(uid), None).expect("root gives files away");
    let text = format!("belongs to user {uid}, not to 0");
    place.assert_refused(place.run().args(place.leave_trace()), 125, &[&text]);
    chown(place.env.state(), Some(0), None).expect("root takes files");
    place.assert_works(place.run());
}

#[test]
fn a_state_directory_that_cannot_be_written_is_refused() {
    let place = Place::ordinary();
    let closed = place.env.write("closed/file", "x");
    let closed = closed.parent().expect("it has one");
    fs::set_permissions(closed, fs::Permissions::from_mode(0o500)).expect("it is ours");
    let state = closed.join("state");
    let run = |place: &Place| place.run().env("STOCKADE_STATE_DIR", &state);
    let texts = ["cannot use the state directory `", "Permission denied"];
    place.assert_refused(run(&place).args(place.leave_trace()), 125, &texts);
    fs::set_permissions(closed, fs::Permissions::from_mode(0o700)).expect("it is ours");
    place.assert_works(run(&place));
    // The directory itself is writable, but not its content.
    fs::set_permissions(state.join("sessions"), fs::Permissions::from_mode(0o500))
        .expect("it is ours");
    let texts = [
        "cannot make the session directory `",
        "Permission denied",
        "STOCKADE_STATE_DIR",
    ];
    place.assert_refused(run(&place).args(place.leave_trace()), 125, &texts);
}

#[test]
fn a_key_that_is_none_is_refused() {
    let place = Place::new();
    place.assert_works(place.run());
    let key = place.env.state().join("key");
    let good = fs::read(&key).expect("the first run made it");
    let refused = |texts: &[&str]| {
        place.assert_refused(place.run().args(place.leave_trace()), 125, texts);
    };
    for broken in [&b"garbage\n"[..], b"", &good[..good.len() / 2]] {
        fs::write(&key, broken).expect("it is ours");
        refused(&["is not a signing key; move it away and a new one is created"]);
    }
    fs::write(&key, &good).expect("it is ours");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("it is ours");
    refused(&["has mode 0644; expected a plain file of yours with mode 0600"]);
    fs::remove_file(&key).expect("it is ours");
    let elsewhere = place.env.write("elsewhere", "");
    fs::write(&elsewhere, &good).expect("it is ours");
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o600)).expect("it is ours");
    symlink(&elsewhere, &key).expect("the directory is ours");
    refused(&["the signing key `", "expected a plain file of yours"]);
    fs::remove_file(&key).expect("it is ours");
    fs::rename(&elsewhere, &key).expect("it is ours");
    place.assert_works(place.run());
}

/// Mounts a small disk of `$SIZE` at the place of the state, fills it if `$FILL` says so, runs the
/// command as an ordinary user, and copies the record to `$OUT`.
const ON_A_SMALL_DISK: &str = r#"
    mount -t tmpfs -o "size=$SIZE,mode=700" none "$STOCKADE_STATE_DIR" || exit 99
    if [ -n "$FILL" ]; then cat /dev/zero > "$STOCKADE_STATE_DIR/fill" 2>/dev/null; fi
    unshare --user --map-user=1001 --map-group=1001 "$@"
    code=$?
    cp -r "$STOCKADE_STATE_DIR/." "$OUT/" || exit 98
    exit $code"#;

/// Files that the command tries to make: far more than a small disk has room to record.
const FILES: usize = 2000;

fn on_a_small_disk(place: &Place, size: &str, fill: &str, words: &[&str]) -> (Run, PathBuf) {
    let out = place.env.root().join("out");
    fs::create_dir_all(&out).expect("the directory is ours");
    place.env.own(&out);
    let mut all = vec!["run", "--ask", "deny", "--"];
    all.extend(words);
    let run = place.in_namespace(ON_A_SMALL_DISK, &all);
    (
        run.env("SIZE", size).env("FILL", fill).env("OUT", &out),
        out,
    )
}

#[test]
fn a_full_disk_refuses_the_session() {
    let place = Place::ordinary();
    let trace = place.trace().to_string_lossy().into_owned();
    let words = ["/usr/bin/touch", &trace];
    // Nothing fits; the key fits but no directory; the directory fits but no journal.
    for (size, fill) in [("64k", "yes"), ("8k", ""), ("12k", "")] {
        let (run, out) = on_a_small_disk(&place, size, fill, &words);
        let texts = [
            "No space left on device",
            "make room or set STOCKADE_STATE_DIR",
        ];
        place.assert_refused(run, 125, &texts);
        let left = fs::read_dir(out.join("sessions")).map_or(0, Iterator::count);
        assert_eq!(
            left, 0,
            "a record that could not begin is taken away, {size}"
        );
        fs::remove_dir_all(out).expect("the directory is ours");
    }
    let (run, _) = on_a_small_disk(&place, "4m", "", &words);
    run.success();
    assert!(place.trace().exists(), "with room it runs");
}

// keeps invariant: no-record-no-permit
#[test]
fn a_disk_that_fills_up_denies_and_ends_the_session() {
    let place = Place::ordinary();
    let script = format!(
        "i=0; while [ $i -lt {FILES} ]; do : > made-$i; i=$((i+1)); done; echo reached the end"
    );
    let words = ["/bin/sh", "-c", &script];
    let (run, out) = on_a_small_disk(&place, "128k", "", &words);
    let output = run.output();
    output
        .assert_code(128 + 9)
        .assert_stderr("the session was ended: ")
        .assert_stderr("No space left on device")
        // The recorded part is reported, up to the line that did not fit.
        .assert_stderr(" ended, killed by stockade")
        .assert_stderr("  changed    ")
        .assert_stderr("without a closing signature");
    assert_eq!(output.stdout, "", "the command was ended: {output:?}");
    let made = made_files(place.repo.path());
    assert!(made > 0 && made < FILES, "{made} files, {output:?}");
    // Every file that a program was told about is in the journal: the one whose record did not fit
    // was made, but its call failed.
    let session = fs::read_dir(out.join("sessions"))
        .expect("it was copied")
        .flatten()
        .next();
    let journal = session
        .expect("one session was started")
        .path()
        .join("journal.jsonl");
    let text = fs::read_to_string(&journal).expect("the journal is text");
    let recorded = text
        .lines()
        .filter(|line| line.contains("\"file.changed\"") && line.contains("made-"))
        .count();
    assert!(recorded + 1 >= made, "{made} files and {recorded} records");
    let (run, _) = on_a_small_disk(&place, "8m", "", &words);
    run.success().assert_stdout("reached the end");
    assert_eq!(made_files(place.repo.path()), FILES);
}

fn made_files(directory: &Path) -> usize {
    let entries = fs::read_dir(directory)
        .expect("the workspace exists")
        .flatten();
    entries
        .filter(|e| e.file_name().to_string_lossy().starts_with("made-"))
        .count()
}

#[test]
fn a_read_only_state_directory_refuses_the_session() {
    let place = Place::ordinary();
    place.assert_works(place.run());
    let script = r#"
        mount --bind "$STOCKADE_STATE_DIR" "$STOCKADE_STATE_DIR" || exit 99
        mount -o remount,bind,ro "$STOCKADE_STATE_DIR" || exit 98
        exec unshare --user --map-user=1001 --map-group=1001 "$@""#;
    let trace = place.trace().to_string_lossy().into_owned();
    let words = ["run", "--ask", "deny", "--", "/usr/bin/touch", &trace];
    let run = place.in_namespace(script, &words);
    let texts = [
        "Read-only file system",
        "set STOCKADE_STATE_DIR to a directory that can be written",
    ];
    place.assert_refused(run, 125, &texts);
}

#[test]
fn a_kernel_without_a_feature_starts_nothing() {
    let place = Place::new();
    let cases: [(Feature, &[&str]); 3] = [
        (
            Feature::Landlock,
            &["the native tier needs Landlock", "lsm=landlock"],
        ),
        (
            Feature::Namespaces,
            &[
                "step `enter-namespaces`",
                "Operation not permitted",
                "`stockade doctor` tells which",
            ],
        ),
        (
            Feature::Filters,
            &[
                "seccomp",
                "Function not implemented",
                "`stockade doctor` says what is missing",
            ],
        ),
    ];
    for (feature, texts) in cases {
        let run = place.run().args(place.leave_trace());
        let output = without(feature, move || run.output());
        output.assert_code(125);
        assert_one_reason(&output, texts);
        assert!(
            !place.trace().exists(),
            "the command ran without {feature:?}"
        );
    }
    place.assert_works(place.run());
}

#[test]
fn a_kernel_without_a_redirect_holds_the_network_by_its_ports() {
    let place = Place::new();
    let words = place.leave_trace();
    let run = place.run().args(&words);
    without(Feature::Redirect, move || run.success());
    assert!(place.trace().exists(), "the session runs");
    let stated: Vec<Event> = place.env.events("last");
    let network = stated
        .iter()
        .find(|e| e.kind() == "guarantee.stated" && e.field("guarantee") == "network")
        .expect("the guarantee is stated");
    assert_eq!(
        network.field("how"),
        "no interface but loopback; ports that no rule names are refused"
    );
}

#[test]
fn user_namespaces_that_are_used_up_start_nothing() {
    let place = Place::ordinary();
    let trace = place.trace().to_string_lossy().into_owned();
    // The limit applies to this namespace alone; the machine's does not change.
    let run = |limit: &str| {
        let script = format!("echo {limit} > /proc/sys/user/max_user_namespaces && exec \"$@\"");
        let words = [
            "run",
            "--ask",
            "deny",
            "--summary",
            "none",
            "--",
            "/usr/bin/touch",
            &trace,
        ];
        let ids = ["--map-user=1001", "--map-group=1001", "--keep-caps"];
        place
            .env
            .command("unshare")
            .arg("--user")
            .args(ids)
            .args(["/bin/sh", "-c", &script, "sh"])
            .arg(place.env.binary())
            .args(words)
            .current_dir(place.repo.path())
    };
    let texts = [
        "step `enter-namespaces`",
        "No space left on device",
        "allow unprivileged user namespaces",
    ];
    place.assert_refused(run("0"), 125, &texts);
    run("100").success();
    assert!(place.trace().exists(), "with room it runs");
}
