//! The supervisor opens files for the session and has more rights than it: no opened file may carry
//! these rights over, and no program can make the supervisor wait for ever.

use std::{fs, path::Path, time::Duration};

use stockade_testkit::{TestEnv, env::Repo, events::Event, processes, run::require_tool, wait};

use crate::attacks::for_each_user;

/// Threads that a supervisor has in addition to those of the waiting calls.
const THREADS_MAX: usize = 40;
/// How long the program takes to lose its writers.
const LOSING: Duration = Duration::from_secs(30);

fn program(env: &TestEnv) -> Repo {
    require_tool("gcc");
    let source = env.write("deputy.c", include_str!("deputy.c"));
    let repo = env.repo();
    env.command("gcc")
        .args(["-O1", "-pthread", "-o"])
        .arg(repo.path().join("deputy"))
        .arg(source)
        .success();
    repo
}

fn bare(env: &TestEnv, repo: &Repo, word: &str) -> String {
    let program = repo.path().join("deputy");
    let run = env.command(program).arg(word).current_dir(repo.path());
    run.success().stdout
}

fn inside(env: &TestEnv, repo: &Repo, word: &str) -> String {
    let run = env.session(repo.path()).args(["--", "./deputy", word]);
    run.success().stdout
}

/// A file remembers the capabilities of the process that opens it: sessions of root could see
/// frames of memory, and files of the first process.
#[test]
fn a_file_of_a_process_opens_with_the_rights_of_the_caller() {
    for_each_user(|env| {
        let repo = program(env);
        let seen = inside(env, &repo, "more");
        assert!(seen.contains("same /proc/self/maps"), "{seen}");
        assert!(seen.contains("same /proc/1/auxv"), "{seen}");
        let more: Vec<&str> = seen.lines().filter(|l| l.starts_with("more")).collect();
        assert!(more.is_empty(), "{more:?}");
        // The benign twin: a shell's write there with O_CREAT.
        let line = "echo 500 > /proc/self/oom_score_adj && cat /proc/self/oom_score_adj";
        let run = env.session(repo.path()).line(line).success();
        assert_eq!(run.stdout, "500\n");
    });
}

/// As root, the session of another user's workspace: the supervisor has every capability.
#[test]
fn needs_root_a_file_of_a_process_opens_with_the_rights_of_another_user() {
    for_each_user(|env| {
        if !env.is_root() {
            return;
        }
        let repo = program(env);
        // It is the user `nobody`.
        for path in [repo.path().to_path_buf(), repo.path().join("deputy")] {
            std::os::unix::fs::chown(path, Some(65_534), Some(65_534)).expect("root may");
        }
        let seen = inside(env, &repo, "more");
        assert!(seen.contains("same /proc/self/maps"), "{seen}");
        assert!(!seen.contains("more"), "{seen}");
    });
}

fn threads(pid: u32) -> usize {
    let all = processes::descendants(pid).into_iter().chain([pid]);
    let count = |pid: u32| fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    all.map(count).sum()
}

/// A writer that is killed while it waits for a reader leaves no thread of the supervisor behind,
/// even if the supervisor may not read the pipe.
#[test]
fn a_writer_of_a_pipe_that_is_killed_leaves_nothing_behind() {
    for_each_user(|env| {
        let repo = program(env);
        let run = env.session(repo.path()).args(["--", "./deputy", "lose"]);
        let running = run.spawn();
        let lost = || running.stdout().contains("lost");
        assert!(wait::until_true(LOSING, lost), "{}", running.stderr());
        let few = || threads(running.pid()) < THREADS_MAX;
        assert!(
            wait::until_true(Duration::from_secs(2), few),
            "{}",
            threads(running.pid())
        );
        running.wait().assert_success();
    });
}

/// The benign twins: pipes with a reader and a writer work, and a signal affects a wait as its
/// handler requires.
#[test]
fn waits_for_the_other_end_of_a_pipe_are_those_of_the_kernel() {
    for_each_user(|env| {
        let repo = program(env);
        let expected = bare(env, &repo, "interrupted");
        assert_eq!(expected, "break Interrupted system call\nrestart open\n");
        assert_eq!(inside(env, &repo, "interrupted"), expected);
        let line = "i=0; while [ $i -lt 50 ]; do i=$((i+1)); rm -f p; mkfifo p; \
                    (echo x > p) & cat p; (sleep 0.01; cat p) & echo x > p; wait; done | wc -l";
        let run = env.session(repo.path()).line(line).success();
        assert_eq!(run.stdout.trim(), "100");
    });
}

/// If a program has used up its descriptors, the failing call does not change a file.
#[test]
fn an_open_without_a_place_for_its_descriptor_touches_no_file() {
    for_each_user(|env| {
        let repo = program(env);
        let at = |name: &str| repo.path().join(name);
        let state = |path: &Path| fs::read_to_string(path).ok();
        for run in [bare, inside] {
            env.write(at("kept"), "content");
            assert_eq!(run(env, &repo, "full"), "1 1\n");
            assert_eq!(state(&at("kept")).as_deref(), Some("content"));
            assert_eq!(state(&at("made")), None);
        }
    });
}

/// If a connection is killed while it gets an address, the last copy is held by the supervisor or
/// the first process: neither waits until its bytes are sent.
#[test]
fn a_connection_that_waits_for_its_bytes_keeps_nobody_waiting() {
    for_each_user(|env| {
        let repo = program(env);
        assert_eq!(bare(env, &repo, "linger"), "went on\n");
        assert_eq!(inside(env, &repo, "linger"), "went on\n");
    });
}

/// Files of processes for which a process of the session must ask the kernel: the path is not read
/// again. The owner replaced the protected file, so no mount protects it any more.
#[test]
fn a_path_swapped_with_a_file_of_a_process_changes_nothing() {
    for_each_user(|env| {
        let repo = program(env);
        let at = |name: &str| repo.path().join(name);
        let config = at(".git/config");
        let swapped = |path: &Path| fs::read_to_string(path).is_ok_and(|t| t.contains("swapped"));
        env.write(at("decoy"), "decoy of some length");
        let control = env.command(at("deputy")).args(["swap", "decoy"]);
        control.current_dir(repo.path()).success();
        assert!(swapped(&at("decoy")), "the control proves nothing");
        let line = "touch ready; while [ ! -e go ]; do sleep 0.05; done; ./deputy swap .git/config";
        let running = env.session(repo.path()).line(line).spawn();
        assert!(wait::until_true(LOSING, || at("ready").exists()));
        let git = env.command("git").args(["config", "lab.owner", "yes"]);
        git.current_dir(repo.path()).success();
        env.write(at("go"), "");
        let output = running.wait();
        assert!(!swapped(&config), "{output:?}");
        let record = env.record();
        let denied = |event: &&Event| event.kind() == "file.denied" && event.targets(".git/config");
        assert!(record.iter().any(|event| denied(&event)), "{output:?}");
    });
}

/// The benign twin: a program writes its own memory, but never that of the first process.
#[test]
fn a_program_opens_its_own_memory_and_not_that_of_the_first_process() {
    for_each_user(|env| {
        let repo = program(env);
        let expected = "one\nrefused\ntwo\nrefused\n";
        assert_eq!(inside(env, &repo, "memory"), expected);
    });
}

/// A pipe that another session, or a process outside, puts in the place of a file does not block a
/// supervisor: one that opened the pipe waited for ever, through every signal except SIGKILL.
#[test]
fn a_pipe_in_the_place_of_a_file_keeps_nobody_waiting() {
    for_each_user(|env| {
        let repo = program(env);
        let session = |word| env.session(repo.path()).args(["--", "./deputy", word]);
        let other = session("flip").spawn();
        let there = || repo.path().join("second").exists();
        assert!(wait::until_true(LOSING, there), "{}", other.stderr());
        let output = session("visit").timeout(Duration::from_secs(30)).success();
        assert_eq!(output.stdout, "went on\n");
        other.wait().assert_success();
    });
}
