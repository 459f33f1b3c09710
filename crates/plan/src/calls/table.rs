//! What is not simply open, as data, and why.

use super::{Call, CallAction, CallCondition, Switch, requests};

/// Every flag of clone(2) that makes a namespace (linux/sched.h).
const NAMESPACE_FLAGS: u32 = 0x7E02_0080;
/// `O_WRONLY | O_RDWR | O_CREAT | O_TRUNC` and the bit of `O_TMPFILE`.
const WRITE_FLAGS: u32 = 0o1 | 0o2 | 0o100 | 0o1000 | 0o20_000_000;
/// `AF_UNIX`.
const LOCAL: &[u32] = &[1];
/// `AF_INET`, `AF_INET6`.
const INTERNET: &[u32] = &[2, 10];
/// `AF_NETLINK`.
const NETLINK: &[u32] = &[16];
/// `NETLINK_ROUTE`.
const ROUTE: &[u32] = &[0];
/// Of the second argument of socket(2); the other bits are flags.
const SOCKET_TYPE: u32 = 0xF;
/// `SOCK_STREAM`, `SOCK_DGRAM`, `SOCK_SEQPACKET`.
const LOCAL_TYPES: &[u32] = &[1, 2, 5];
/// `SOCK_STREAM`.
const STREAM: &[u32] = &[1];
/// `SOCK_DGRAM`.
const DATAGRAM: &[u32] = &[2];
/// `SOCK_RAW`, `SOCK_PACKET`.
const RAW: &[u32] = &[3, 10];
/// The default, and `IPPROTO_TCP`.
const TCP: &[u32] = &[0, 6];
/// The default, and `IPPROTO_UDP`.
const UDP: &[u32] = &[0, 17];
/// `TIOCSTI`, `TIOCLINUX`, `TIOCCONS`, `TIOCSETD`, `TIOCVHANGUP`: input pushed into a terminal, line
/// disciplines, and the terminals of others.
const TERMINAL_REQUESTS: &[u32] = &[0x5412, 0x541C, 0x541D, 0x5423, 0x5437];
/// `PTRACE_TRACEME`, `PTRACE_ATTACH`, `PTRACE_SEIZE`: the requests with which tracing begins. All
/// others are about processes that are traced by the caller already (ptrace(2)), and children that
/// the kernel adds by itself are those of such a process.
const ATTACHING: &[u32] = &[0, 16, 0x4206];
/// `RLIMIT_RTTIME`, in which the kernel keeps the command that a process belongs to (ADR 0036).
const COMMAND_MARK: &[u32] = &[15];
/// `PR_SET_MM`.
const MEMORY_MAP_REQUESTS: &[u32] = &[35];
/// `PER_LINUX`, and the query.
const PERSONALITIES: &[u32] = &[0, 0xFFFF_FFFF];

pub(super) const fn call(
    name: &'static str,
    condition: CallCondition,
    action: CallAction,
    switch: Switch,
    why: &'static str,
) -> Call {
    Call {
        name,
        condition,
        action,
        why,
        switch,
    }
}

const fn deny(name: &'static str, why: &'static str) -> Call {
    call(
        name,
        CallCondition::Always,
        CallAction::NotPermitted,
        Switch::Always,
        why,
    )
}

const fn tracing(name: &'static str, why: &'static str) -> Call {
    call(
        name,
        CallCondition::Always,
        CallAction::NotPermitted,
        Switch::UnlessAllTraced,
        why,
    )
}

const fn looking(name: &'static str, why: &'static str) -> Call {
    call(
        name,
        CallCondition::Always,
        CallAction::NotPermitted,
        Switch::IfNoneTraced,
        why,
    )
}

const fn nesting(name: &'static str, why: &'static str) -> Call {
    call(
        name,
        CallCondition::Always,
        CallAction::NotPermitted,
        Switch::UnlessNamespaces,
        why,
    )
}

const fn socket(condition: CallCondition, action: CallAction, why: &'static str) -> Call {
    call("socket", condition, action, Switch::Always, why)
}

/// A change of the owner, which the kernel refuses to root of a single id.
const fn owner(name: &'static str) -> Call {
    call(
        name,
        CallCondition::Always,
        CallAction::Notify,
        Switch::IfRoot,
        "other users do not exist inside; programs that unpack as root fail over that",
    )
}

const fn ask(name: &'static str, why: &'static str) -> Call {
    call(
        name,
        CallCondition::Always,
        CallAction::Notify,
        Switch::IfNotify,
        why,
    )
}

/// The bit of a mode that makes a program run as its owner.
const SETUID: u32 = 0o4000;

/// A mode with the set-user-id bit.
const fn setuid(name: &'static str, argument: u8) -> Call {
    call(
        name,
        CallCondition::AnyBit(argument, SETUID),
        CallAction::NotPermitted,
        Switch::Always,
        "a program that runs as its owner would work for every user of the machine",
    )
}

/// A change of the limit that marks a command.
const fn mark(name: &'static str, condition: CallCondition) -> Call {
    call(
        name,
        condition,
        CallAction::NotPermitted,
        Switch::Always,
        "this limit, which nothing else uses, says which command a process belongs to",
    )
}

const MOUNTS: &str = "the view is fixed at launch";
const TIME: &str = "the clock belongs to the machine";
const MODULES: &str = "kernel code is loaded by the machine's owner";
const CHANGE: &str = "a change of a path, recorded and checked against protected paths";

/// What is not simply open, denials first.
pub const CALLS: &[Call] = &[
    // First, since programs make it most and its arguments have to be looked at each time.
    call(
        "openat",
        CallCondition::AnyBit(2, WRITE_FLAGS),
        CallAction::Notify,
        Switch::IfNotify,
        CHANGE,
    ),
    socket(
        CallCondition::All(&[
            CallCondition::OneOf(0, LOCAL),
            CallCondition::MaskedOneOf(1, SOCKET_TYPE, LOCAL_TYPES),
        ]),
        CallAction::Allow,
        "between processes of the session",
    ),
    socket(
        CallCondition::All(&[
            CallCondition::OneOf(0, INTERNET),
            CallCondition::MaskedOneOf(1, SOCKET_TYPE, STREAM),
            CallCondition::OneOf(2, TCP),
        ]),
        CallAction::Allow,
        "TCP, which leads to the egress process",
    ),
    socket(
        CallCondition::All(&[
            CallCondition::OneOf(0, INTERNET),
            CallCondition::MaskedOneOf(1, SOCKET_TYPE, DATAGRAM),
            CallCondition::OneOf(2, UDP),
        ]),
        CallAction::Allow,
        "UDP, for names and between processes of the session",
    ),
    socket(
        CallCondition::All(&[
            CallCondition::OneOf(0, NETLINK),
            CallCondition::OneOf(2, ROUTE),
        ]),
        CallAction::Allow,
        "lists the interfaces of the session's own network; changes need a capability",
    ),
    socket(
        CallCondition::All(&[
            CallCondition::OneOf(0, INTERNET),
            CallCondition::MaskedOneOf(1, SOCKET_TYPE, RAW),
        ]),
        CallAction::NotPermitted,
        "forges and reads packets of others",
    ),
    socket(
        CallCondition::OneOf(0, &[2, 10, 16]),
        CallAction::NoProtocol,
        "protocols that the egress process does not judge, and kernel code that nothing needs",
    ),
    socket(
        CallCondition::Always,
        CallAction::NoFamily,
        "no packet, vsock, kernel crypto and other families",
    ),
    call(
        "socketpair",
        CallCondition::NoneOf(0, LOCAL),
        CallAction::NoFamily,
        Switch::Always,
        "only local sockets come in pairs; the other families would only run kernel code",
    ),
    call(
        "ioctl",
        CallCondition::OneOf(1, TERMINAL_REQUESTS),
        CallAction::NotPermitted,
        Switch::Always,
        "no input may be faked on a terminal, none taken from others",
    ),
    call(
        "ioctl",
        CallCondition::NoneOf(1, requests::IOCTL),
        CallAction::NoRequest,
        Switch::Always,
        "requests make names on some file systems and drive devices; see `requests.rs`",
    ),
    call(
        "fcntl",
        CallCondition::NoneOf(1, requests::FCNTL),
        CallAction::InvalidArgument,
        Switch::Always,
        "leases and notices make programs outside wait and tell what they do",
    ),
    call(
        "clone",
        CallCondition::AnyBit(0, NAMESPACE_FLAGS),
        CallAction::NotPermitted,
        Switch::UnlessNamespaces,
        "a new user namespace opens kernel surface that only root has otherwise",
    ),
    call(
        "clone3",
        CallCondition::Always,
        CallAction::NotImplemented,
        Switch::UnlessNamespaces,
        "its flags are behind a pointer; libc falls back to clone",
    ),
    call(
        "personality",
        CallCondition::NoneOf(0, PERSONALITIES),
        CallAction::NotPermitted,
        Switch::UnlessAllTraced,
        "switches off address randomisation",
    ),
    call(
        "io_uring_setup",
        CallCondition::Always,
        CallAction::NotImplemented,
        Switch::Always,
        "does file and network work that no filter sees",
    ),
    call(
        "io_uring_enter",
        CallCondition::Always,
        CallAction::NotImplemented,
        Switch::Always,
        "as io_uring_setup, for an inherited ring",
    ),
    call(
        "io_uring_register",
        CallCondition::Always,
        CallAction::NotImplemented,
        Switch::Always,
        "as io_uring_setup, for an inherited ring",
    ),
    call(
        "io_setup",
        CallCondition::Always,
        CallAction::NotImplemented,
        Switch::Always,
        "contexts are counted for the whole machine; callers fall back to threads",
    ),
    mark("setrlimit", CallCondition::OneOf(0, COMMAND_MARK)),
    // With a null pointer it only tells the limit.
    mark(
        "prlimit64",
        CallCondition::All(&[
            CallCondition::OneOf(1, COMMAND_MARK),
            CallCondition::AnyBit(2, u32::MAX),
        ]),
    ),
    mark(
        "prlimit64",
        CallCondition::All(&[
            CallCondition::OneOf(1, COMMAND_MARK),
            CallCondition::AnyUpperBit(2, u32::MAX),
        ]),
    ),
    setuid("chmod", 1),
    setuid("fchmod", 1),
    setuid("fchmodat", 2),
    setuid("fchmodat2", 2),
    setuid("creat", 1),
    setuid("mknod", 1),
    setuid("mknodat", 2),
    call(
        "openat2",
        CallCondition::Always,
        CallAction::NotImplemented,
        Switch::Always,
        "its flags are behind a pointer, where they can change after a look; callers fall back to openat",
    ),
    deny(
        "userfaultfd",
        "stops the kernel inside a copy, a tool for exploits",
    ),
    deny("bpf", "programs in the kernel"),
    tracing(
        "perf_event_open",
        "measures and samples other programs and the kernel",
    ),
    deny("keyctl", "keyrings are not namespaced by user"),
    deny("add_key", "keyrings are not namespaced by user"),
    deny("request_key", "keyrings are not namespaced by user"),
    looking("ptrace", "takes over other processes of the session"),
    call(
        "ptrace",
        CallCondition::OneOf(0, ATTACHING),
        CallAction::Notify,
        Switch::IfOwnTraced,
        "begins to trace; who is traced already can only be traced on",
    ),
    looking("process_vm_readv", "reads other processes"),
    tracing("process_vm_writev", "writes other processes"),
    tracing("pidfd_getfd", "takes descriptors of other processes"),
    tracing("kcmp", "compares kernel objects of other processes"),
    nesting("unshare", "new namespaces"),
    deny("setns", "enters other namespaces"),
    deny("mount", MOUNTS),
    deny("umount2", MOUNTS),
    deny("pivot_root", MOUNTS),
    deny("chroot", MOUNTS),
    deny("open_tree", MOUNTS),
    deny("move_mount", MOUNTS),
    deny("fsopen", MOUNTS),
    deny("fsconfig", MOUNTS),
    deny("fsmount", MOUNTS),
    deny("fspick", MOUNTS),
    deny("mount_setattr", MOUNTS),
    deny("open_by_handle_at", "opens files without a path"),
    deny(
        "name_to_handle_at",
        "makes the handles for open_by_handle_at",
    ),
    deny(
        "fanotify_init",
        "watches and delays other programs' file access",
    ),
    deny("init_module", MODULES),
    deny("finit_module", MODULES),
    deny("delete_module", MODULES),
    deny("kexec_load", "replaces the kernel"),
    deny("kexec_file_load", "replaces the kernel"),
    deny("reboot", "stops the machine"),
    deny("swapon", "the machine's memory"),
    deny("swapoff", "the machine's memory"),
    call(
        "prctl",
        CallCondition::OneOf(0, MEMORY_MAP_REQUESTS),
        CallAction::NotPermitted,
        Switch::Always,
        "shows another command line and stack than a process has",
    ),
    call(
        "prctl",
        CallCondition::NoneOf(0, requests::PRCTL),
        CallAction::InvalidArgument,
        Switch::Always,
        "other options change what the machine shares; see `requests.rs`",
    ),
    deny("acct", "the machine's accounting"),
    deny("quotactl", "the machine's quotas"),
    deny("quotactl_fd", "the machine's quotas"),
    deny("syslog", "the kernel's messages"),
    deny("settimeofday", TIME),
    deny("clock_settime", TIME),
    deny("clock_adjtime", TIME),
    deny("adjtimex", TIME),
    deny("sethostname", "the session's name is fixed"),
    deny("setdomainname", "the session's name is fixed"),
    deny("vhangup", "hangs up a terminal"),
    deny("lookup_dcookie", "kernel profiling"),
    deny("nfsservctl", "removed from kernels, open on old ones"),
    deny("iopl", "port access"),
    deny("ioperm", "port access"),
    deny("modify_ldt", "descriptor tables, a source of kernel faults"),
    deny("migrate_pages", "moves memory of other processes"),
    deny("move_pages", "moves memory of other processes"),
    ask("execve", "every program is judged before it runs"),
    ask("execveat", "every program is judged before it runs"),
    ask(
        "exit",
        "the last thread of a process can end it like this; as exit_group",
    ),
    ask(
        "exit_group",
        "what a process ran is looked at before it is gone",
    ),
    call(
        "open",
        CallCondition::AnyBit(1, WRITE_FLAGS),
        CallAction::Notify,
        Switch::IfNotify,
        CHANGE,
    ),
    ask(
        "umask",
        "what the supervisor makes for a program has the mode that its mask leaves",
    ),
    ask("creat", CHANGE),
    ask("truncate", CHANGE),
    ask("rename", CHANGE),
    ask("renameat", CHANGE),
    ask("renameat2", CHANGE),
    ask("link", CHANGE),
    ask("linkat", CHANGE),
    ask("symlink", CHANGE),
    ask("symlinkat", CHANGE),
    ask("mkdir", CHANGE),
    ask("mkdirat", CHANGE),
    ask("mknod", CHANGE),
    ask("mknodat", CHANGE),
    ask("bind", "a socket with a path makes a file"),
    ask("unlink", CHANGE),
    ask("unlinkat", CHANGE),
    ask("rmdir", CHANGE),
    ask("chmod", CHANGE),
    ask("fchmodat", CHANGE),
    ask("fchmodat2", CHANGE),
    owner("chown"),
    owner("lchown"),
    owner("fchown"),
    owner("fchownat"),
];
