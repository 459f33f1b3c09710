//! Resources that the kernel counts for each user: a session gets a part of them (family R).

use std::{fs, path::Path, time::Duration};

use stockade_testkit::{TestEnv, run::require_tool, wait};

use crate::attacks::for_each_user;

/// Takes as many as it can get, at most `$MOST`, prints how many, and keeps them.
const HOLD: &str = r#"
use strict; $| = 1; my ($what, $most) = @ARGV; my ($n, @held) = 0;
while ($n < $most) {
    if ($what eq "instances") { last if syscall(294, 0) < 0 }
    elsif ($what eq "timers") { my $id = pack("q", 0); last if syscall(222, 0, 0, $id) < 0 }
    elsif ($what eq "terminals") { open(my $f, "+<", "/dev/ptmx") or last; push @held, $f }
    $n++;
}
print "$n\n"; <STDIN>;
"#;

struct Count {
    what: &'static str,
    /// The most that a session gets.
    part: u64,
    /// One more than the part that any session may have: outside, anyone can have that much.
    tried: u64,
}

fn number(path: &str) -> u64 {
    let text = fs::read_to_string(path).expect("the kernel has the setting");
    text.trim().parse().expect("a number")
}

fn script(env: &TestEnv, directory: &Path, name: &str, text: &str) {
    let path = directory.join(name);
    fs::write(&path, text).expect("the workspace is ours");
    env.own(&path);
}

/// Resources that the session and the caller would have to share are bounded, so that the caller
/// has the rest while the session takes all it can.
#[test]
fn r51_a_session_takes_only_a_part_of_what_the_user_has() {
    require_tool("perl");
    let instances = number("/proc/sys/fs/inotify/max_user_instances") / 4;
    let counts = [
        Count {
            what: "instances",
            part: instances,
            tried: instances + 1,
        },
        Count {
            what: "timers",
            part: 4_096,
            tried: 4_097,
        },
        Count {
            what: "terminals",
            part: 256,
            tried: 257,
        },
    ];
    for_each_user(|env| {
        let repo = env.repo();
        script(env, repo.path(), "hold.pl", HOLD);
        for count in &counts {
            let tried = count.tried.to_string();
            let outside = env
                .command("/usr/bin/perl")
                .args(["hold.pl", count.what, &tried])
                .current_dir(repo.path())
                .success();
            assert_eq!(outside.stdout.trim(), tried, "control of {}", count.what);
            let holding = env
                .session(repo.path())
                .args(["--", "/usr/bin/perl", "hold.pl", count.what, "1000000"])
                .spawn();
            let said = || !holding.stdout().is_empty();
            assert!(
                wait::until_true(Duration::from_secs(20), said),
                "{}",
                holding.stderr()
            );
            let meanwhile = env
                .command("/usr/bin/perl")
                .args(["hold.pl", count.what, "1"])
                .current_dir(repo.path())
                .success();
            assert_eq!(meanwhile.stdout, "1\n", "{} for the caller", count.what);
            let output = holding.wait();
            let got: u64 = output.stdout.trim().parse().expect("a number");
            assert!(got > 0 && got <= count.part, "{}: {output:?}", count.what);
        }
        assert_eq!(
            watches(env),
            Some(number("/proc/sys/fs/inotify/max_user_watches") / 2)
        );
    });
}

/// Returns the maximum number of watches of a session, as the kernel reports it inside.
fn watches(env: &TestEnv) -> Option<u64> {
    let inside = env
        .session(env.repo_named("watches").path())
        .args(["--", "/bin/cat", "/proc/sys/user/max_inotify_watches"])
        .success();
    inside.stdout.trim().parse().ok()
}

/// A policy can set the number of watches of a session.
#[test]
fn r51_watches_are_what_policy_says() {
    require_tool("perl");
    let watch = r#"perl -e '$f = syscall(294, 0);
        for (1..60) { $p = "/tmp/w$_"; open($h, ">", $p); $n++ if syscall(254, $f, $p, 2) >= 0 } print "$n\n"'"#;
    for_each_user(|env| {
        let repo = env.repo();
        let policy = env.write("policy.toml", "schema = 1\n[limits]\nwatches = 50\n");
        let session = || env.session(repo.path());
        session().line(watch).success().assert_stdout("60");
        let bounded = session().arg("--policy").arg(policy).line(watch).success();
        assert_eq!(bounded.stdout, "50\n", "{bounded:?}");
    });
}

/// If policy lets a session make namespaces, their number is limited.
#[test]
fn r51_namespaces_are_bounded_where_they_are_allowed() {
    require_tool("perl");
    // Each child makes one, reports it, and keeps it until the last one has tried.
    let make = r#"perl -e 'pipe($r, $w); pipe($s, $t);
        for (1..260) { if (!fork) { close $t; syswrite($w, "x") if syscall(272, 0x10000000) >= 0;
            close $w; sysread($s, $_, 1); exit } }
        close $w; 1 while sysread($r, $all, 4096, length $all); print length $all, "\n"; close $t; 1 while wait > 0'"#;
    for_each_user(|env| {
        let repo = env.repo();
        let policy = env.write("policy.toml", "schema = 1\n[process]\nnamespaces = true\n");
        let outside = env.shell(repo.path(), make);
        assert_eq!(outside.stdout, "260\n", "{outside:?}");
        let inside = env
            .session(repo.path())
            .arg("--policy")
            .arg(policy)
            .line(make);
        assert_eq!(inside.success().stdout, "256\n");
    });
}

/// A development server that watches ten thousand files works, with a few other watchers beside it.
#[test]
fn r51_a_large_project_can_be_watched() {
    require_tool("node");
    let text = r#"
        const fs = require("fs"); let seen = 0;
        for (let i = 0; i < 10000; i++) { fs.writeFileSync(`/tmp/f${i}`, ""); }
        for (let i = 0; i < 10000; i++) {
            fs.watch(`/tmp/f${i}`, () => { if (++seen === 1) { console.log("changed"); process.exit(0); } });
        }
        fs.writeFileSync("/tmp/f9999", "x");
    "#;
    for_each_user(|env| {
        let repo = env.repo();
        script(env, repo.path(), "watch.js", text);
        let line = "for i in 1 2 3 4 5; do tail -f README.md > /dev/null & done; node watch.js";
        let output = env.session(repo.path()).line(line).success();
        assert_eq!(output.stdout, "changed\n", "{output:?}");
    });
}

/// All private directories together have one limit: half of the memory.
#[test]
fn r55_private_directories_share_one_bound() {
    let look = "stat -f -c '%i %b %S' /tmp /var/tmp /dev/shm ~ | sort -u | wc -l; \
        stat -f -c '%b %S' /tmp; head -c 8M /dev/zero > /tmp/f; stat -f -c '%f' /dev/shm; \
        rm /tmp/f; stat -f -c '%f' /dev/shm";
    for_each_user(|env| {
        let output = env.session(env.repo().path()).line(look).success();
        let numbers: Vec<u64> = output
            .stdout
            .split_whitespace()
            .map(|word| word.parse().expect("a number"))
            .collect();
        let &[systems, blocks, size, while_full, after] = numbers.as_slice() else {
            panic!("{output:?}");
        };
        assert_eq!(systems, 1, "{output:?}");
        let memory = fs::read_to_string("/proc/meminfo").expect("it is there");
        let total: u64 = memory
            .split_whitespace()
            .nth(1)
            .and_then(|word| word.parse().ok())
            .expect("MemTotal comes first");
        // The kernel rounds up to pages.
        assert!(blocks * size / 1024 <= total / 2 + 4, "{output:?}");
        assert!(while_full + 2_000 <= after, "{output:?}");
    });
}

/// No core file is written, and no crash handler of the machine is started: to prevent the latter,
/// the limit must not be 0 (core(5)).
#[test]
fn k17_no_crash_of_a_session_is_dumped() {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").expect("it is there");
    for_each_user(|env| {
        let crash =
            "ulimit -c unlimited 2> /dev/null; sh -c 'kill -SEGV $$'; ls core* 2> /dev/null; :";
        let outside = env.repo_named("outside");
        let control = env.shell(outside.path(), crash);
        // On a machine with a crash handler, skip the control.
        if !pattern.starts_with(['|', '/', '@']) {
            assert!(control.stdout.contains("core"), "control: {control:?}");
        }
        let inside = env.repo();
        let output = env.session(inside.path()).line(crash).success();
        assert!(!output.stdout.contains("core"), "{output:?}");
        let limit = env
            .session(inside.path())
            .args(["--", "/bin/grep", "core", "/proc/self/limits"])
            .success();
        let words: Vec<&str> = limit.stdout.split_whitespace().collect();
        assert_eq!(words, ["Max", "core", "file", "size", "1", "1", "bytes"]);
    });
}
