//! The egress process: what code that took it over could still do.

use std::{collections::BTreeSet, fs, time::Duration};

use stockade_runner::egress_calls;
use stockade_testkit::{TestEnv, lab::HttpServer, processes, run::require_tool, wait};

use crate::attacks::for_each_user;

/// Calls that are open although ordinary work does not use them, with their occasion.
const RARE: &[(&str, &str)] = &[
    ("bind", "a name that a server outside is asked for"),
    ("clock_gettime", "where no page tells the time"),
    ("epoll_pwait", "instead of epoll_wait on arm64"),
    ("epoll_wait", "instead of epoll_pwait on x86-64"),
    ("exit", "the end of a thread"),
    ("getpid", "an abort"),
    ("getrandom", "more random numbers than were taken before"),
    ("getsockname", "a name that a server outside is asked for"),
    ("gettid", "an abort"),
    ("madvise", "large memory that is given back"),
    ("mremap", "large memory that grows"),
    ("munmap", "large memory that is given back"),
    ("read", "a queue of wake-ups that is full"),
    ("restart_syscall", "after it was stopped and continued"),
    ("rt_sigaction", "a panic or an abort"),
    ("rt_sigprocmask", "an abort"),
    ("rt_sigreturn", "a stack that is used up"),
    ("sched_yield", "a lock that somebody holds"),
    ("sigaltstack", "the end of the main thread"),
    ("tgkill", "an abort"),
];

/// A session with allowed and refused connections, observed from outside; returns the calls of its
/// egress process after confinement.
fn called(env: &TestEnv) -> BTreeSet<String> {
    let server = HttpServer::start();
    let port = server.port();
    let policy = env.write(
        "policy.toml",
        &format!(
            "schema = 1\n[network.hosts]\n\"good.test\" = \"127.0.0.1\"\n[[allow]]\nid = \"good\"\n\
             what = \"net\"\nhosts = [\"good.test\"]\nports = [{port}]\nprivate = true\nreason = \"lab\"\n"
        ),
    );
    let trace = env.write("trace", "");
    let line = format!(
        "curl -sS -m 10 http://good.test:{port}/ok; curl -s -m 5 http://evil.test:{port}/; \
         curl -s -m 5 telnet://127.0.0.1:1 < /dev/null; getent hosts nowhere.invalid; :"
    );
    let output = env
        .command("strace")
        .args(["-f", "-qq", "-e", "signal=none", "-o"])
        .arg(&trace)
        .arg(env.binary())
        .args(["run", "--summary", "none", "--ask", "deny", "--policy"])
        .arg(policy)
        .line(&line)
        .current_dir(env.repo().path())
        .success();
    assert_eq!(server.requests().len(), 1, "{output:?}");
    let text = fs::read_to_string(trace).expect("it was traced");
    let mut process = None;
    let mut confined = false;
    let mut called = BTreeSet::new();
    for line in text.lines() {
        let Some((id, what)) = line.split_once(char::is_whitespace) else {
            continue;
        };
        if what.contains("\"__egress\"") && what.trim_start().starts_with("execve(") {
            process = Some(id.to_owned());
        }
        if process.as_deref() != Some(id) {
            continue;
        }
        let call = what.trim_start().split('(').next().unwrap_or_default();
        if confined && call.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            called.insert(call.to_owned());
        }
        confined |= call == "seccomp";
    }
    called
}

/// Each open call is one that the process makes, or has a known occasion.
#[test]
fn n60_the_egress_process_can_do_what_it_does() {
    require_tool("strace");
    let rare: BTreeSet<&str> = RARE.iter().map(|(name, _)| *name).collect();
    for_each_user(|env| {
        let called = called(env);
        assert!(
            called.contains("connect") && called.contains("accept4"),
            "{called:?}"
        );
        let unused: Vec<&str> = egress_calls()
            .filter(|name| !called.contains(*name) && !rare.contains(name))
            .collect();
        assert_eq!(unused, Vec::<&str>::new(), "called: {called:?}");
    });
}

/// Numbers of calls (`arch/x86/entry/syscalls/syscall_64.tbl`).
#[cfg(target_arch = "x86_64")]
const GETPID: u32 = 39;
#[cfg(target_arch = "x86_64")]
const OPENAT: u32 = 257;
/// `AF_NETLINK`.
#[cfg(target_arch = "x86_64")]
const NETLINK: &str = "16";

/// Code that took the process over could only make those calls: each other one is made in the real
/// process, from the gate on, and ends it and its session. The process prevents inspection; only
/// root can still make it execute a call.
#[cfg(target_arch = "x86_64")]
#[test]
fn n60_a_call_beyond_its_own_ends_the_egress_process_needs_root() {
    require_tool("gcc");
    let env = &TestEnv::of(None);
    let repo = env.repo();
    let source = env.write("inject.c", include_str!("inject.c"));
    let inject = env.write("inject", "");
    env.command("gcc")
        .args(["-O1", "-o"])
        .arg(&inject)
        .arg(source)
        .success();
    let call = |process: u32, gate: &str, number: u32, arguments: &[&str]| {
        env.command(&inject)
            .args([&process.to_string(), gate, &number.to_string()])
            .args(arguments)
            .success()
            .stdout
    };
    let attempts: [(&str, &str, u32, &[&str]); 5] = [
        ("execve", "64", 59, &[]),
        ("ptrace", "64", 101, &[]),
        ("io_uring_setup", "64", 425, &[]),
        ("socket", "64", 41, &[NETLINK, "3", "0"]),
        // getpid(2) has number 20 there.
        ("the 32-bit gate", "32", 20, &[]),
    ];
    for (what, gate, number, arguments) in attempts {
        let session = env
            .session(repo.path())
            .args(["--", "/bin/sh", "-c", "echo ready; exec sleep 300"])
            .spawn();
        let ready = || session.stdout().contains("ready");
        assert!(
            wait::until_true(Duration::from_secs(10), ready),
            "{}",
            session.stderr()
        );
        let is_egress = |process: &u32| {
            let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0)
                .any(|word| word == b"__egress")
        };
        let mut below = processes::descendants(session.pid()).into_iter();
        let process = below.find(is_egress).expect("there is one");
        // Controls: one of its own calls is executed, one that libraries try is refused, and the
        // process survives both.
        let own = call(process, "64", GETPID, &[]);
        assert_eq!(own, format!("result {process}\n"), "{what}");
        let tried = call(process, "64", OPENAT, &[]);
        assert_eq!(tried, "result -1\n", "{what}");
        let x32 = call(process, "64", 0x4000_0000 | GETPID, &[]);
        assert_eq!(x32, "result -38\n", "{what}");
        assert_eq!(
            call(process, gate, number, arguments),
            "signal 31\n",
            "{what}"
        );
        session.wait().assert_code(137);
        let last = format!("{:?}", env.record().last());
        assert!(
            last.contains("the egress process ended unexpectedly"),
            "{last}"
        );
    }
}
