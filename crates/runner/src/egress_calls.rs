//! The system calls of the egress process once it serves; there are no others for it.

use stockade_sys::{
    Outcome,
    seccomp::{Action, Condition, Filter, Rule, number},
};

/// What it makes, with the reason.
const OPEN: &[(&[&str], &str)] = &[
    (
        &[
            "accept4",
            "close",
            "connect",
            "getpeername",
            "getsockname",
            "getsockopt",
            "read",
            "readv",
            "recvfrom",
            "recvmsg",
            "sendmsg",
            "sendto",
            "setsockopt",
            "shutdown",
            "write",
            "writev",
        ],
        "accepts, dials and relays; hears the supervisor; says on standard error why it panics",
    ),
    (&["bind"], "a socket that asks a name server has an address"),
    (
        &["epoll_ctl", "epoll_pwait", "epoll_wait", "poll", "ppoll"],
        "waits for its sockets and its timers",
    ),
    (
        &["brk", "madvise", "mmap", "mprotect", "mremap", "munmap"],
        "memory of its own",
    ),
    (
        &["clock_gettime", "clock_nanosleep", "gettimeofday"],
        "timers, where the kernel has no page for it",
    ),
    (
        &["futex", "sched_getaffinity", "sched_yield"],
        "locks, and how many processors there are",
    ),
    (&["getrandom"], "identifiers and DNS queries"),
    (
        &[
            "exit",
            "exit_group",
            "getpid",
            "gettid",
            "restart_syscall",
            "rt_sigaction",
            "rt_sigprocmask",
            "rt_sigreturn",
            "sigaltstack",
            "tgkill",
        ],
        "ends, aborts, goes on after it was stopped",
    ),
];

/// What the C library and the runtime try on the side and do without.
const REFUSED: &[&str] = &[
    "access",
    "faccessat",
    "open",
    "openat",
    "readlink",
    "readlinkat",
];

/// `AF_INET`, `AF_INET6`.
const INTERNET: &[u32] = &[2, 10];
/// `SOCK_STREAM`, `SOCK_DGRAM`.
const TYPES: &[u32] = &[1, 2];
/// Of the second argument of socket(2); the other bits are flags.
const TYPE: u32 = 0xF;
/// The default, `IPPROTO_TCP`, `IPPROTO_UDP`.
const PROTOCOLS: &[u32] = &[0, 6, 17];
/// `F_GETFD`, `F_SETFD`, `F_GETFL`, `F_SETFL`.
const DESCRIPTOR_FLAGS: &[u32] = &[1, 2, 3, 4];
/// `FIONBIO`.
const NON_BLOCKING: &[u32] = &[0x5421];

/// Returns the filter: whatever else the process tries, it ends, and with it the session.
///
/// # Errors
/// When the program would be longer than the kernel takes.
pub(crate) fn filter() -> Outcome<Filter> {
    let always = |name: &'static &'static str, action| (*name, Condition::Always, action);
    let open = OPEN.iter().flat_map(|(names, _)| names.iter());
    let socket = Condition::All(vec![
        Condition::one_of(0, INTERNET.to_vec()),
        Condition::OneOf {
            index: 1,
            mask: TYPE,
            values: TYPES.to_vec(),
        },
        Condition::one_of(2, PROTOCOLS.to_vec()),
    ]);
    let rules: Vec<Rule> = open
        .map(|name| always(name, Action::Allow))
        .chain(
            REFUSED
                .iter()
                .map(|name| always(name, Action::not_permitted())),
        )
        .chain([
            ("socket", socket, Action::Allow),
            (
                "fcntl",
                Condition::one_of(1, DESCRIPTOR_FLAGS.to_vec()),
                Action::Allow,
            ),
            (
                "ioctl",
                Condition::one_of(1, NON_BLOCKING.to_vec()),
                Action::Allow,
            ),
        ])
        .filter_map(|(name, condition, action)| {
            number(name).map(|number| Rule {
                number,
                condition,
                action,
            })
        })
        .collect();
    Filter::assemble(&rules, Action::Kill)
}
