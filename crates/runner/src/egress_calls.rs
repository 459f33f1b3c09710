//! The system calls that the egress process may make once it serves.

use stockade_sys::{
    Outcome,
    seccomp::{Action, Condition, Filter, Rule, number},
};

/// The calls that it makes, with the reason.
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
            "recvfrom",
            "recvmsg",
            "sendmsg",
            "sendto",
            "setsockopt",
            "shutdown",
            "write",
        ],
        "accepts, dials and relays; hears the supervisor; says on standard error why it panics",
    ),
    (&["bind"], "a socket that asks a name server has an address"),
    (
        &["epoll_ctl", "epoll_pwait", "epoll_wait"],
        "waits for its sockets and its timers",
    ),
    (&["brk", "madvise", "mremap", "munmap"], "memory of its own"),
    (&["clock_gettime"], "timers, where no page tells the time"),
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

/// Calls that the C library and the runtime try, but can do without.
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
/// The type bits in the second argument of socket(2); the other bits are flags.
const TYPE: u32 = 0xF;
/// The default, `IPPROTO_TCP`, `IPPROTO_UDP`.
const PROTOCOLS: &[u32] = &[0, 6, 17];
/// `F_GETFD`, `F_SETFD`, `F_GETFL`, `F_SETFL`.
const DESCRIPTOR_FLAGS: &[u32] = &[1, 2, 3, 4];
/// `PROT_EXEC`: all code was mapped before.
const EXECUTABLE: u32 = 4;
/// `FIONBIO`.
const NON_BLOCKING: &[u32] = &[0x5421];

/// Calls that are open only with arguments that are necessary.
const CONDITIONAL: [&str; 4] = ["fcntl", "ioctl", "mmap", "socket"];

/// Returns the names of the open calls, for a check from outside of which are needed.
pub fn egress_calls() -> impl Iterator<Item = &'static str> {
    let open = OPEN.iter().flat_map(|(names, _)| names.iter());
    open.chain(&CONDITIONAL).copied()
}

/// Returns the filter: any other call ends the process, and with it the session.
///
/// # Errors
/// When the program would be longer than the kernel accepts.
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
                "mmap",
                Condition::OneOf {
                    index: 2,
                    mask: EXECUTABLE,
                    values: vec![0],
                },
                Action::Allow,
            ),
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

#[cfg(test)]
mod tests {
    use stockade_sys::seccomp::{Action, name, number};

    use super::{egress_calls, filter};

    fn answer(name: &str, arguments: [u64; 6]) -> Action {
        let filter = filter().unwrap();
        filter
            .answer(number(name).unwrap(), arguments)
            .unwrap()
            .action
    }

    /// Any call that reaches beyond its sockets ends the process, and with it the session.
    #[test]
    fn what_reaches_further_ends_the_process() {
        for (name, arguments) in [
            ("execve", [0; 6]),
            ("clone", [0x11, 0, 0, 0, 0, 0]),
            ("clone3", [0; 6]),
            ("ptrace", [0; 6]),
            ("process_vm_readv", [0; 6]),
            ("openat2", [0; 6]),
            ("unlinkat", [0; 6]),
            ("memfd_create", [0; 6]),
            ("mprotect", [0, 4096, 4, 0, 0, 0]),
            ("mmap", [0, 4096, 5, 0x22, u64::MAX, 0]),
            ("socket", [1, 1, 0, 0, 0, 0]),
            ("socket", [16, 3, 0, 0, 0, 0]),
            ("socket", [2, 3, 1, 0, 0, 0]),
            ("ioctl", [0, 0x5412, 0, 0, 0, 0]),
            ("fcntl", [0, 1024, 0, 0, 0, 0]),
            ("listen", [0; 6]),
            ("kill", [1, 9, 0, 0, 0, 0]),
            ("pidfd_getfd", [0; 6]),
            ("io_uring_setup", [0; 6]),
        ] {
            assert_eq!(
                answer(name, arguments),
                Action::Kill,
                "{name} {arguments:?}"
            );
        }
        // Libraries try these, and continue without them.
        assert_eq!(answer("openat", [0; 6]), Action::not_permitted());
        assert_eq!(answer("socket", [2, 0x8_0801, 0, 0, 0, 0]), Action::Allow);
        assert_eq!(
            answer("mmap", [0, 4096, 3, 0x22, u64::MAX, 0]),
            Action::Allow
        );
    }

    #[test]
    fn nothing_is_open_that_is_not_named() {
        let filter = filter().unwrap();
        for number in 0..1_000 {
            let open = filter.answer(number, [0; 6]).is_some_and(|answered| {
                answered.looked_at_arguments || answered.action == Action::Allow
            });
            let named = name(number).is_some_and(|name| egress_calls().any(|it| it == name));
            assert_eq!(open, named, "{number}");
        }
    }
}
