//! Floods: memory, processes, output and executions stop at their limit, and only there.

use std::time::Duration;

use stockade_testkit::{
    Repo, TestEnv, UNATTENDED, events,
    events::Event,
    processes,
    run::{Output, require_tool},
    wait,
};

use crate::attacks::for_each_user;

/// Limits of a process apply without a group: open files, core dumps, message queues.
#[test]
fn r02_a_process_has_limits() {
    for_each_user(|env| {
        let repo = env.repo();
        let policy = env.write("policy.toml", "schema = 1\n[limits]\nopen_files = 64\n");
        let many =
            "for n in $(seq 10 200); do eval \"exec $n< README.md\" || exit 1; done; echo many";
        let core = "ulimit -c unlimited && echo cores";
        let queue = "perl -e '$a = pack(\"q8\", 0, 10, 10); $n = \"stockade.$$\"; $q = syscall(240, $n, 0101, 0600, $a); $q < 0 or syscall(241, $n) < 0 or print \"queue\\n\"'";
        let line = format!("({many}); ({core}); ({queue}); :");
        let bash = |run: stockade_testkit::Run| {
            run.current_dir(repo.path())
                .args(["/bin/bash", "--norc", "-c", &line])
                .success()
                .stdout
        };
        // Control: if the tests have limits of their own, these are not smaller.
        let outside = bash(env.command("/usr/bin/env"));
        assert_eq!(outside, "many\ncores\nqueue\n");
        let inside = bash(
            env.stockade()
                .args(UNATTENDED)
                .arg("--policy")
                .arg(policy)
                .arg("--"),
        );
        assert_eq!(inside, "");
    });
}

/// A fork bomb reaches the limit of processes, and the session still ends as a whole.
#[test]
fn r02_a_fork_bomb_is_contained() {
    for_each_user(|env| {
        let repo = env.repo();
        let policy = env.write(
            "policy.toml",
            "schema = 1\n[limits]\nprocesses = 60\nwall_time = \"3s\"\n",
        );
        let marker = format!("300.{}73", std::process::id());
        let line = format!("for i in $(seq 200); do sleep {marker} & done; wait");
        let running = env
            .session(repo.path())
            .arg("--policy")
            .arg(policy)
            .line(&line)
            .spawn();
        let mut most = 0;
        wait::until_true(Duration::from_secs(3), || {
            most = most.max(processes::with_argument(&marker).len());
            most > 60
        });
        let output = running.wait();
        assert!(most <= 60, "{most} processes ran");
        assert!(
            most > 0 || !output.stderr.is_empty(),
            "nothing ran: {output:?}"
        );
        let gone = || processes::with_argument(&marker).is_empty();
        assert!(wait::until_true(Duration::from_secs(2), gone), "{output:?}");
    });
}

/// Runs a line under a policy, and returns what it printed and its record.
fn run(env: &TestEnv, repo: &Repo, limits: &str, line: &str) -> (Output, Vec<Event>) {
    let policy = env.write("policy.toml", &format!("schema = 1\n{limits}"));
    let output = env
        .session(repo.path())
        .arg("--policy")
        .arg(policy)
        .line(line)
        .output();
    let record = env.record();
    (output, record)
}

/// Memory stops at the session's limit, whether it is a program's own, in `/tmp` or in `/dev/shm`,
/// and the record says so. If the caller can make no groups, the session says that the limit is not
/// enforced.
#[test]
fn r02_memory_is_limited() {
    require_tool("perl");
    let floods = [
        "perl -e '$x = \"x\" x (200 << 20); print length($x)'",
        "dd if=/dev/zero of=/tmp/flood bs=1M count=200 2> /dev/null && stat -c %s /tmp/flood; rm -f /tmp/flood",
        "dd if=/dev/zero of=/dev/shm/flood bs=1M count=200 2> /dev/null && stat -c %s /dev/shm/flood; rm -f /dev/shm/flood",
    ];
    for_each_user(|env| {
        let repo = env.repo();
        for flood in floods {
            // Control: the machine has that much.
            let outside = env.shell(env.root(), flood);
            assert_eq!(outside.stdout.trim(), "209715200", "{outside:?}");
            let (output, record) = run(env, &repo, "[limits]\nmemory = \"100MiB\"\n", flood);
            let all = events::summary(&record);
            let of_groups = |event: &&Event| {
                event.kind() == "guarantee.stated" && event.field("guarantee") == "group-limits"
            };
            let stated = record.iter().find(of_groups).expect("it is stated");
            let reached = |event: &&Event| {
                event.kind() == "limit.reached" && event.field("limit") == "memory"
            };
            let reached = record.iter().filter(reached).count();
            if stated.json.get("holds") == Some(&true.into()) {
                assert_eq!(output.stdout, "", "{flood}: {output:?}");
                assert_ne!(output.code(), 0, "{flood}: {output:?}");
                assert_eq!(reached, 1, "{flood}: {all}");
            } else {
                assert!(!stated.field("missing").is_empty(), "{stated:?}");
                assert_eq!(reached, 0, "{flood}: {all}");
            }
        }
    });
}

/// Names of the maximum length, and directories deeper than a path can express: each change is
/// recorded or refused, and neither the end of the session nor the start of the next one suffers.
#[test]
fn r04_long_names_and_deep_trees_are_bounded() {
    const NAMES: usize = 500;
    require_tool("perl");
    let flood = format!(
        r#"perl -e 'for (1..{NAMES}) {{ open($f, ">", $_ . "n" x (255 - length)) or die }}
           $p = "d" x 200; for (1..60) {{ mkdir $p or last; chdir $p; $deep++ }} print $deep'"#
    );
    for_each_user(|env| {
        let (outside, inside) = (env.repo_named("outside"), env.repo());
        // Control: the machine allows them.
        let control = env.shell(outside.path(), &flood);
        assert_eq!(control.stdout, "60", "{control:?}");
        let (output, record) = run(env, &inside, "", &flood);
        output.assert_success();
        let deep: usize = output.stdout.parse().expect("a number");
        assert!(
            (1..22).contains(&deep),
            "a path has 4,095 bytes: {output:?}"
        );
        let changed = record
            .iter()
            .filter(|event| event.kind() == "file.changed")
            .count();
        assert_eq!(changed, NAMES + deep, "{}", events::summary(&record));
        // The tree from outside is deeper than the search for protected files goes.
        env.session(outside.path()).line("true").success();
        env.stockade()
            .args(["log", "verify", "last"])
            .success()
            .assert_stdout("intact");
    });
}

/// No program inside gets processor time or memory before the rest of the machine, whichever user
/// started it. Without the boundary only root could.
#[test]
fn r06_priority_is_not_raised() {
    const ATTEMPTS: [&str; 4] = [
        "chrt --fifo 1 true",
        "chrt --deadline --sched-runtime 1000000 --sched-period 10000000 0 true",
        "renice -n -5 -p $$",
        "echo -1000 > /proc/self/oom_score_adj",
    ];
    for tool in ["chrt", "renice"] {
        require_tool(tool);
    }
    for_each_user(|env| {
        let repo = env.repo();
        let mut raised = 0;
        for attempt in ATTEMPTS {
            let line = format!("({attempt}) > /dev/null 2>&1 && echo raised; :");
            let outside = env.shell(repo.path(), &line);
            raised += usize::from(outside.stdout.trim() == "raised");
            let (output, _) = run(env, &repo, "", &line);
            output.assert_success();
            assert_eq!(output.stdout, "", "{attempt}");
        }
        // Control; root of a container may lack one right or another.
        assert!(raised > 0 || !env.is_root(), "root raised nothing outside");
    });
}

/// A flood of output arrives unchanged, however long its lines are, and is not kept in memory.
#[test]
fn r08_output_is_neither_cut_nor_kept() {
    const BYTES: usize = 100_000_000;
    require_tool("prlimit");
    for_each_user(|env| {
        let repo = env.repo();
        let flood = format!("head -c {BYTES} /dev/zero");
        let sum = |before: &str| {
            let line = format!("{before}{flood} | cksum");
            env.command("/bin/sh")
                .args(["-c", &line])
                .env("OWN", env.binary())
                .current_dir(repo.path())
                .success()
                .stdout
        };
        let limited = format!(
            "prlimit --data={} \"$OWN\" run --ask deny --summary none -- ",
            BYTES / 2
        );
        assert_eq!(sum(&limited), sum(""));
    });
}

/// Executions in quick succession are all judged, and every refusal is recorded.
#[test]
fn r12_no_refusal_is_lost_in_a_flood() {
    const EACH: usize = 250;
    const AT_A_TIME: usize = 4;
    for_each_user(|env| {
        let rule = "[[deny]]\nid = \"no-id\"\nwhat = \"exec\"\ncommand = [\"id\", \"**\"]\nreason = \"lab\"\n";
        let line = format!(
            "flood() {{ for n in $(seq {EACH}); do id -u $1.$n; /bin/true; done; }}; \
             for part in $(seq {AT_A_TIME}); do flood $part 2> /dev/null & done; wait"
        );
        let (output, record) = run(env, &env.repo(), rule, &line);
        output.assert_success();
        assert_eq!(output.stdout, "");
        let mut refused: Vec<String> = record
            .iter()
            .filter(|event| event.is_refusal() && event.rule() == "no-id")
            .map(|event| event.json["target"]["argv"].to_string())
            .collect();
        assert_eq!(refused.len(), EACH * AT_A_TIME, "{}", refused.len());
        refused.sort();
        refused.dedup();
        assert_eq!(
            refused.len(),
            EACH * AT_A_TIME,
            "one was told twice, another never"
        );
        let started = record.iter().filter(|event| {
            event.kind() == "process.started" && event.json["process"]["argv"][0] == "/bin/true"
        });
        assert_eq!(started.count(), EACH * AT_A_TIME);
    });
}
