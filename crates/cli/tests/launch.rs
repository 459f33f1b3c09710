//! Every step of a launch fails in turn: the launch stops, names the step and the remedy, the
//! command does not run, and only the record of the attempt remains.
#![expect(clippy::expect_used, reason = "a broken fixture must end the test")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use stockade_plan::{Boundary, Interfaces, LaunchPlan, Life, Protection, Root, Step};
use stockade_testkit::{
    Output, Repo, Run, TestEnv, env::User, processes, pty::Terminal, run::Running, wait,
};

/// Launches at the same time: a launch waits more than it computes, even on the smallest machines.
const BATCH: usize = 4;
/// Time in which the processes of a session must be gone after its supervisor. The kernel kills
/// them at once; their end is not synchronous.
const GONE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time in which a command in a session must be seen to run.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// The content of the directory of a session that has ended.
const RECORD: [&str; 3] = ["head", "journal.jsonl", "lock"];

/// The tests of this file examine all processes below their own; only one may do so at a time.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    let guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    // A process that a supervisor leaves behind becomes a child of this one and cannot be missed.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .expect("a process may adopt its descendants");
    guard
}

/// An environment in which launches fail.
struct Place {
    env: TestEnv,
    repo: Repo,
}

impl Place {
    fn new(user: Option<&str>) -> Self {
        let env = TestEnv::of(user);
        let repo = env.repo();
        Self { env, repo }
    }

    fn run(&self, options: &[&str]) -> Run {
        self.env
            .stockade()
            .arg("run")
            .args(options)
            .current_dir(self.repo.path())
    }

    fn plan(&self, options: &[&str]) -> LaunchPlan {
        let printed = self
            .run(options)
            .args(["--plan", "--json", "--", "/bin/true"])
            .success();
        serde_json::from_str(&printed.stdout).expect("a plan is printed as JSON")
    }

    /// Starts a session that sleeps; returns it, its id and a word of its command line.
    fn sleep(&self) -> (Running, String, String) {
        let marker = format!("3600.{}7", std::process::id());
        let session_file = self.env.root().join("session");
        drop(fs::remove_file(&session_file));
        let running = self
            .run(&["--ask", "deny", "--session-file"])
            .arg(&session_file)
            .args(["--", "/bin/sleep", &marker])
            .spawn();
        let words = format!(" /bin/sleep {marker} ");
        let is_command = |process: &String| process.ends_with(&words) && !process.contains(" run ");
        let runs = || left_processes().iter().any(is_command);
        assert!(
            wait::until_true(START_TIMEOUT, runs),
            "{}",
            running.stderr()
        );
        // The file is made before the launch and written after it.
        let written = || {
            let text = fs::read_to_string(&session_file).ok()?;
            text.strip_suffix('\n').map(str::to_owned)
        };
        let session = wait::until(START_TIMEOUT, written).expect("the session file is written");
        (running, session, marker)
    }

    /// The file that the command makes if it runs although step `index` failed.
    fn trace(&self, index: usize) -> PathBuf {
        self.repo.path().join(format!("ran-{index}"))
    }

    fn fail(&self, options: &[&str], index: usize) -> Output {
        self.run(options)
            .args(["--fail-step", &index.to_string(), "--", "/usr/bin/touch"])
            .arg(self.trace(index))
            .output()
    }

    /// Ends the test if anything but records is left of the sessions so far; returns their count.
    fn assert_only_records_left(&self) -> usize {
        assert!(
            wait::until_true(GONE_TIMEOUT, || left_processes().is_empty()),
            "left behind: {:?}",
            left_processes()
        );
        let root = self
            .env
            .root()
            .to_str()
            .expect("the path of a test is text");
        let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc is mounted");
        assert!(!mounts.contains(root), "left behind: {mounts}");
        let temporary = names(&self.env.temporary());
        assert!(temporary.is_empty(), "left behind: {temporary:?}");
        let state = names(&self.env.state());
        // The compilers' kept directory for the workspace begins empty; the date of the list of
        // removed records is the time of the last check. The clients' addresses, and facts about a
        // workspace's remotes, are kept for the next session.
        let expected = [
            "agents",
            "clients.json",
            "key",
            "pruned.jsonl",
            "running",
            "sessions",
            "workspaces",
        ]
        .map(str::to_owned);
        let known = |name: &String| expected.contains(name) || name.starts_with("index.db");
        assert!(state.iter().all(known), "left behind: {state:?}");
        let running = names(&self.env.state().join("running"));
        assert!(running.is_empty(), "left behind: {running:?}");
        let sessions = names(&self.env.state().join("sessions"));
        for session in &sessions {
            let found = names(&self.env.state().join("sessions").join(session));
            assert_eq!(found, BTreeSet::from(RECORD.map(str::to_owned)));
            assert_eq!(groups_of(session), Vec::<PathBuf>::new());
        }
        sessions.len()
    }

    /// Ends the test unless every record is intact and says that nothing was started.
    fn assert_records_verify(&self, count: usize) {
        let verified = self
            .env
            .stockade()
            .args(["log", "verify", "--all"])
            .success();
        assert_eq!(
            verified.stdout.matches("intact").count(),
            count,
            "{verified:?}"
        );
        let listed = self.env.stockade().args(["sessions", "--json"]).success();
        let not_started = |line: &&str| line.contains(r#""how":"not-started""#);
        assert_eq!(
            listed.stdout.lines().filter(not_started).count(),
            count,
            "{listed:?}"
        );
    }
}

/// Returns the names in a directory; none if there is no directory.
fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Returns the descendants of this process that are still running, with their arguments.
fn left_processes() -> Vec<String> {
    let runs = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let state = status
            .lines()
            .find_map(|line| line.strip_prefix("State:\t"));
        // An ended process stays in the list until this process, its new parent, reaps it.
        state.is_some_and(|state| !state.starts_with(['Z', 'X']))
    };
    let pids = processes::descendants(std::process::id());
    pids.into_iter()
        .filter(runs)
        .map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            format!(
                "{pid} {}",
                String::from_utf8_lossy(&line).replace('\0', " ")
            )
        })
        .collect()
}

/// Returns the control groups of a session, in every hierarchy.
fn groups_of(session: &str) -> Vec<PathBuf> {
    let name = format!("stockade-{session}");
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name() == name.as_str() {
                    found.push(entry.path());
                }
                todo.push(entry.path());
            }
        }
    }
    found
}

/// Ends the test unless the launch stopped with one reason that names the step and the remedy.
fn assert_stopped(step: &Step, index: usize, output: &Output) {
    // A command that cannot be executed is 126 by contract, and the last step is that. If the fault
    // occurs before the supervisor has seen the session begin, nothing was executed: 125.
    let codes: &[i32] = if matches!(step, Step::Execute) {
        &[125, 126]
    } else {
        &[125]
    };
    assert!(codes.contains(&output.code()), "{output:?}");
    output
        .assert_stderr(&format!("step `{}` ({index}) failed", step.name()))
        .assert_stderr(step.remedy());
    assert_eq!(output.stdout, "", "{output:?}");
    assert_eq!(output.stderr.matches("failed: ").count(), 2, "{output:?}");
}

// keeps invariant: every-step-or-nothing
#[test]
fn the_boundary_that_a_plan_states_is_there() {
    let _alone = alone();
    for user in User::all() {
        let place = Place::new(user.as_deref());
        let plan = place.plan(&["--ask", "deny"]);
        plan.check().expect("the steps make what is stated");
        let stated = Boundary {
            root: Root::Private,
            interfaces: Interfaces::Own,
            life: Life::FirstProcess,
            protection: Protection::Mounts,
        };
        assert_eq!(plan.boundary, stated);
        let text = place.run(&["--ask", "deny", "--plan", "--", "/bin/true"]);
        text.output()
            .assert_success()
            .assert_stdout(&stated.to_string());
        let kinds = ["mnt", "net", "pid"].map(|kind| format!("/proc/self/ns/{kind}"));
        let look = place.run(&["--ask", "deny", "--", "/usr/bin/readlink"]);
        let inside = look.args(&kinds).success().stdout;
        assert_eq!(inside.lines().count(), kinds.len(), "{inside}");
        for (kind, inside) in kinds.iter().zip(inside.lines()) {
            let here = fs::read_link(kind).expect("this process is in namespaces");
            assert_ne!(Path::new(inside), here, "{kind}");
        }
    }
}

#[test]
fn every_step_that_fails_stops_the_launch() {
    let _alone = alone();
    for user in User::all() {
        let place = Place::new(user.as_deref());
        let options = ["--ask", "deny", "--summary", "none"];
        let plan = place.plan(&options);
        assert!(plan.steps.len() > 50, "{plan:?}");
        let before = place.repo.snapshot();
        let next = Mutex::new(plan.steps.iter().enumerate());
        thread::scope(|scope| {
            for _ in 0..BATCH {
                scope.spawn(|| {
                    loop {
                        let taken = next.lock().expect("no thread failed").next();
                        let Some((index, step)) = taken else { break };
                        assert_stopped(step, index, &place.fail(&options, index));
                        assert!(!place.trace(index).exists(), "{step:?} was left out");
                    }
                });
            }
        });
        before.assert_unchanged();
        assert_eq!(place.assert_only_records_left(), plan.steps.len());
        place.assert_records_verify(plan.steps.len());
    }
}

#[test]
fn a_launch_without_a_fault_has_all_that_must_be_gone_after_one() {
    let _alone = alone();
    let place = Place::new(None);
    let (running, session, marker) = place.sleep();
    let session = session.as_str();
    let left = left_processes().join("\n");
    for role in ["__init", "__egress", &marker] {
        assert!(left.contains(role), "expected {role} in {left}");
    }
    let directory = place.env.state().join("sessions").join(session);
    let found = names(&directory);
    assert!(
        found.contains("root") && found.contains("inside"),
        "{found:?}"
    );
    let plan = place.plan(&["--ask", "deny"]);
    let groups = plan
        .steps
        .iter()
        .filter(|s| matches!(s, Step::JoinGroup { .. }))
        .count();
    assert_eq!(groups_of(session).len(), groups, "groups of {session}");
    running.signal(processes::Signal::TERM);
    running.wait().assert_code(128 + 15);
    assert_eq!(place.assert_only_records_left(), 1);
}

/// A killed process cannot clean up after itself; the next session does.
#[test]
fn what_a_killed_supervisor_leaves_goes_with_the_next_session() {
    let _alone = alone();
    for user in User::all() {
        let place = Place::new(user.as_deref());
        let groups = || {
            let sessions = names(&place.env.state().join("sessions"));
            sessions.iter().flat_map(|s| groups_of(s)).count()
        };
        let (killed, session, _) = place.sleep();
        let directory = place.env.state().join("sessions").join(&session);
        killed.signal(processes::Signal::KILL);
        killed.wait().assert_code(128 + 9);
        let gone = || left_processes().is_empty();
        assert!(
            wait::until_true(GONE_TIMEOUT, gone),
            "{:?}",
            left_processes()
        );
        // Control: it left something, and a running session is left alone.
        assert!(names(&directory).contains("root"));
        let left = groups();
        let (running, other, _) = place.sleep();
        let others = names(&place.env.state().join("sessions").join(other));
        assert!(others.contains("root") && others.contains("inside"));
        let now = names(&directory);
        assert!(!now.contains("root") && !now.contains("inside"), "{now:?}");
        assert_eq!(groups(), left, "as many as the running session has");
        place
            .run(&["--ask", "deny"])
            .args(["--", "/bin/true"])
            .success();
        assert_eq!(groups(), left, "the running session lost its own");
        running.signal(processes::Signal::TERM);
        running.wait().assert_code(128 + 15);
        assert_eq!(groups(), 0);
    }
}

#[test]
fn a_fault_without_a_network_or_in_a_terminal_stops_the_launch_too() {
    let _alone = alone();
    let place = Place::new(None);
    let options = ["--ask", "deny", "--summary", "none", "--offline"];
    let plan = place.plan(&options);
    let index_of = |name: &str| {
        let found = plan
            .steps
            .iter()
            .enumerate()
            .find(|(_, step)| step.name().as_str() == name);
        found.unwrap_or_else(|| panic!("no step `{name}`"))
    };
    for name in ["loopback", "hand-over", "filter-calls"] {
        let (index, step) = index_of(name);
        assert_stopped(step, index, &place.fail(&options, index));
    }
    // With a terminal there is one more step, right after the root is entered.
    let terminal = index_of("enter-root").0 + 1;
    for (index, name) in [(terminal, "terminal"), (terminal + 1, "hand-over")] {
        let command = place
            .run(&[
                "--summary",
                "none",
                "--offline",
                "--fail-step",
                &index.to_string(),
            ])
            .args(["--", "/usr/bin/touch"])
            .arg(place.trace(index))
            .into_command();
        let mut screen = Terminal::start(command, 24, 200);
        let status = screen.wait_exit(START_TIMEOUT);
        assert_eq!(status.code(), Some(125), "{}", screen.text());
        screen.wait_for(&format!("step `{name}` ({index}) failed"), START_TIMEOUT);
        assert!(!place.trace(index).exists());
    }
    let count = place.assert_only_records_left();
    assert_eq!(count, 5);
    place.assert_records_verify(count);
}
