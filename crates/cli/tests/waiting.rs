//! Calls that wait or take long: they hold no thread each, and no other process.
#![expect(clippy::expect_used, reason = "a broken fixture must end the test")]

use std::{
    fs::{self, File},
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use stockade_testkit::{
    TestEnv,
    approvals::{self, Answer, Asked},
    env::User,
    events,
    run::{Running, require_tool},
    wait,
};

/// Time that something may take which comes soon.
const SOON: Duration = Duration::from_secs(30);
/// Calls that wait for an answer, and those of them that one question or the session does not take.
const CALLS: u64 = 300;
const WAITING_MAX: u64 = 256;
/// Threads of a supervisor with a network and somebody to ask, and those that answer calls.
const THREADS_MAX: usize = 16;
/// Waits, without executing anything, until the process `$1` is within one of the calls after it.
const IS_IN: &str = "is_in() { local p=$1 n; shift; while read -r n _ < /proc/$p/syscall; do \
                     for c in \"$@\"; do [ \"$n\" = \"$c\" ] && return; done; done; }\n";
/// Where two processes go on while a third one's call takes long.
const OTHERS: &str =
    "for i in 1 2 3; do /bin/true $i || echo failed; : > beside$i || echo failed; done\n";

fn threads(pid: u32) -> usize {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    tasks.expect("the process is there").count()
}

fn waiting(asked: &[Asked]) -> u64 {
    let of = |one: &Asked| one.json.get("waiting").and_then(serde_json::Value::as_u64);
    asked.iter().filter_map(of).sum()
}

/// Returns the open questions once this many calls wait for them.
fn asked(env: &TestEnv, calls: u64) -> Vec<Asked> {
    let look = || Some(approvals::pending(env)).filter(|asked| waiting(asked) >= calls);
    wait::until(SOON, look).expect("the calls wait for an answer")
}

fn wait_for(running: &Running, text: &str) {
    let is_there = || running.stdout().contains(text);
    assert!(wait::until_true(SOON, is_there), "{}", running.stderr());
}

#[test]
fn the_count_of_threads_sees_threads() {
    let before = threads(std::process::id());
    let (stop, stopped) = mpsc::channel::<()>();
    let waiting = thread::spawn(move || stopped.recv().unwrap_or_default());
    assert_eq!(threads(std::process::id()), before + 1);
    drop(stop);
    waiting.join().expect("it ends");
}

#[test]
fn calls_that_wait_for_an_answer_hold_no_thread() {
    let env = TestEnv::of(None);
    let repo = env.repo();
    let policy = "schema = 1\n[[ask]]\nid = \"wait\"\nwhat = \"exec\"\ncommand = [\"true\", \"*\"]\n\
                  reason = \"lab\"\n";
    let policy = env.write("policy.toml", policy).display().to_string();
    let options = ["--ask", "inbox", "--policy", policy.as_str()];
    let line = format!(
        "{IS_IN}for n in 1 2 3 4 5; do for i in {{1..{}}}; do (exec /bin/true $n) & done; done; \
         wait; echo over",
        CALLS / 5
    );
    let running = env.session_with(repo.path(), &options).line(line).spawn();
    let questions = asked(&env, WAITING_MAX);
    let refused = || running.stderr().matches("Permission denied").count();
    let all = || WAITING_MAX + u64::try_from(refused()).unwrap_or_default() == CALLS;
    assert!(wait::until_true(SOON, all), "{}", running.stderr());
    let count = threads(running.pid());
    assert_eq!((waiting(&questions), questions.len()), (WAITING_MAX, 5));
    assert!(count <= THREADS_MAX, "{count} threads");
    for one in &questions {
        let scope = "session".to_owned();
        let answer = Answer::Allow { scope };
        approvals::answer(&env, &one.id, &answer).assert_success();
    }
    running.wait().assert_success().assert_stdout("over");
    let record = env.record();
    let allowed = |event: &&events::Event| {
        event.kind() == "exec.decided" && event.rule() == "wait" && event.verdict() == "allow"
    };
    let allowed = record.iter().filter(allowed).count();
    assert_eq!(u64::try_from(allowed), Ok(WAITING_MAX));
}

#[test]
fn opens_of_pipes_that_wait_hold_no_thread() {
    let env = TestEnv::of(None);
    let repo = env.repo();
    let line = format!(
        "{IS_IN}mkfifo pipe; for i in {{1..60}}; do (: > pipe) & p[$i]=$!; done\n\
         for i in ${{p[@]}}; do is_in $i 2 257; done; echo wait; read -r _ < go\n\
         exec 9<> pipe; for i in ${{p[@]}}; do wait $i || echo failed; done; echo over"
    );
    env.shell(repo.path(), "mkfifo go").assert_success();
    let running = env.session(repo.path()).line(line).spawn();
    wait_for(&running, "wait");
    let count = threads(running.pid());
    assert!(count <= THREADS_MAX, "{count} threads");
    fs::write(repo.path().join("go"), "\n").expect("it is read");
    let output = running.wait();
    output.assert_success().assert_stdout("over");
    assert!(!output.stdout.contains("failed"), "{output:?}");
}

/// A program whose content a rule may be about is hashed whole before it runs.
#[test]
fn a_program_that_is_hashed_for_long_holds_no_other_process() {
    const BYTES: u64 = 256 << 20;
    let env = TestEnv::of(None);
    let repo = env.repo();
    let policy = format!(
        "schema = 1\n[[deny]]\nid = \"other\"\nwhat = \"exec\"\ncommand = [\"**\"]\n\
         programs = [\"sha256:{}\"]\nreason = \"lab\"\n",
        "1".repeat(64)
    );
    let policy = env.write("policy.toml", &policy).display().to_string();
    env.shell(repo.path(), "cp /bin/true large && chmod +x large")
        .assert_success();
    let large = File::options().write(true).open(repo.path().join("large"));
    let large = large.expect("it was made");
    large.set_len(BYTES).expect("it has room");
    drop(large);
    let line = format!(
        "{IS_IN}./large & p=$!; is_in $p 59\n{OTHERS}read -r n _ < /proc/$p/syscall; echo still $n\n\
         wait $p && echo over"
    );
    let options = ["--ask", "deny", "--policy", policy.as_str()];
    let output = env.session_with(repo.path(), &options).line(line).output();
    output.assert_success().assert_stdout("over");
    output.assert_stdout("still 59");
    assert!(!output.stdout.contains("failed"), "{output:?}");
    let record = env.record();
    let at = |target: &str| {
        let runs = |event: &events::Event| event.kind() == "exec.decided" && event.targets(target);
        record.iter().position(runs).expect("it was recorded")
    };
    assert!(
        at("true 3") < at("shop/large"),
        "{}",
        events::summary(&record)
    );
}

/// A workspace with a directory that takes long to walk through, and a rule that has it walked.
fn walked() -> (TestEnv, stockade_testkit::Repo, String) {
    const DIRECTORIES: usize = 8;
    let env = TestEnv::of(None);
    let repo = env.repo();
    for directory in 0..DIRECTORIES {
        let directory = repo.path().join(format!("tree/{directory}"));
        fs::create_dir_all(&directory).expect("there is room");
        for file in 0..1000 {
            File::create(directory.join(file.to_string())).expect("there is room");
        }
    }
    env.own(&repo.path().join("tree"));
    let policy = "schema = 1\n[[deny]]\nid = \"kept\"\nwhat = \"file\"\npaths = [\"moved/kept/**\"]\n\
                  reason = \"lab\"\n";
    let policy = env.write("policy.toml", policy).display().to_string();
    (env, repo, policy)
}

#[test]
fn a_directory_that_is_walked_for_long_holds_no_other_process() {
    let (env, repo, policy) = walked();
    let line = format!(
        "{IS_IN}mv tree moved & p=$!; is_in $p 82 264 316\n{OTHERS}read -r n _ < /proc/$p/syscall\n\
         echo still $n; wait $p && echo over"
    );
    let options = ["--ask", "deny", "--policy", policy.as_str()];
    let output = env.session_with(repo.path(), &options).line(line).output();
    output.assert_success().assert_stdout("over");
    let still = ["still 82", "still 264", "still 316"];
    assert!(
        still.iter().any(|text| output.stdout.contains(text)),
        "{output:?}"
    );
    assert!(!output.stdout.contains("failed"), "{output:?}");
    assert!(repo.path().join("moved/7/999").exists());
    assert_moved_last(&env);
}

fn assert_moved_last(env: &TestEnv) {
    let record = env.record();
    let at = |name: &str| {
        let changed = |event: &events::Event| {
            event.kind() == "file.changed" && event.field("path").ends_with(name)
        };
        record.iter().position(changed).expect("it was recorded")
    };
    assert!(at("beside3") < at("moved"), "{}", events::summary(&record));
}

/// What comes into the directory while it is walked through was not judged.
#[test]
fn what_is_made_during_a_walk_does_not_come_along() {
    let make = [
        "mkdir tree/kept && : > tree/kept/new",
        "mkdir kept && : > kept/new && mv kept tree/kept",
        "mkdir -p tree/7/kept && : > tree/7/kept/new && mv tree/7/kept tree/kept",
    ];
    for make in make {
        let (env, repo, policy) = walked();
        let line = |beside: &str| {
            format!(
                "{IS_IN}mv tree moved & p=$!; is_in $p 82 264 316\n{beside}; echo made $?\n\
                 read -r n _ < /proc/$p/syscall; echo still $n; wait $p; echo mv $?"
            )
        };
        let options = ["--ask", "deny", "--policy", policy.as_str()];
        let run = |beside: &str| {
            let session = env.session_with(repo.path(), &options);
            let output = session.line(line(beside)).output();
            output.assert_success().assert_stdout("made 0");
            output
        };
        let output = run(make);
        output.assert_stdout("mv 1");
        assert!(repo.path().join("tree/kept/new").exists(), "{output:?}");
        assert!(!repo.path().join("moved").exists(), "{output:?}");
        let record = env.record();
        events::assert_one_refusal(&record, "moved/kept", "kept");
        // Without it the directory moves, whatever else is made beside it.
        env.shell(repo.path(), "rm -r tree/kept").assert_success();
        run("mkdir kept2 && : > kept2/new").assert_stdout("mv 0");
        assert!(repo.path().join("moved").exists());
    }
}

/// The identity in which changes are made is that of each thread, and its mask that of each caller.
#[test]
fn changes_after_a_walk_have_their_caller_s_owner_and_mask() {
    for user in User::all() {
        let env = TestEnv::of(user.as_deref());
        let repo = env.repo();
        let line = "mkfifo pipe; (umask 077; : > pipe; : > own) & (umask 022; : > pipe; : > all) & \
                    sleep 0.1; exec 9<> pipe; wait; stat -c '%a %U' own all";
        let output = env.session(repo.path()).line(line).output();
        output.assert_success();
        let modes: Vec<&str> = output
            .stdout
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert_eq!(modes, ["600", "644"], "{output:?}");
        assert_same_owner(repo.path());
    }
}

/// Programs choose the names of their threads, which stand in the texts of `/proc`.
#[test]
fn a_thread_of_any_name_does_what_others_do() {
    require_tool("python3");
    for name in [r"plain", r"\xff\xfe", r") S 1 (", r"x\nTgid:\t1"] {
        let env = TestEnv::of(None);
        let repo = env.repo();
        let text = format!(
            "import ctypes, os, threading\n\
             def work():\n    ctypes.CDLL(None).prctl(15, b\"{name}\", 0, 0, 0)\n    \
             open('made', 'w').close()\n    os.execv('/bin/echo', ['echo', 'ran'])\n\
             t = threading.Thread(target=work)\nt.start()\nt.join()\n"
        );
        env.write(repo.path().join("named.py"), &text);
        let output = env.session(repo.path()).line("python3 named.py").output();
        output.assert_success().assert_stdout("ran");
        let record = env.record();
        let made = record
            .iter()
            .find(|event| event.kind() == "file.changed" && event.field("path").ends_with("made"));
        let made = made.expect("it was recorded").json.to_string();
        assert!(made.contains("python3"), "{name}: {made}");
    }
}

fn assert_same_owner(directory: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let owner = |path: &Path| fs::metadata(path).expect("it is there").uid();
    for name in ["own", "all"] {
        assert_eq!(owner(&directory.join(name)), owner(directory));
    }
}
