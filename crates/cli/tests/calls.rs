//! Every denied system call fails inside with the table's answer, and differently outside.
//!
//! The calls have arguments on which no kernel can act (bad addresses, descriptors that are not
//! open, commands that do not exist), so that outside the kernel complains about those.
#![expect(clippy::expect_used, reason = "a broken fixture must end the test")]

use std::{collections::BTreeMap, fmt::Write as _};

use stockade_plan::{CALLS, CallAction, CallSet, Debuggers, Refusals, answer};
use stockade_testkit::{
    Output, TestEnv, UNATTENDED, env::User, events::Event, kernel::call_number, run::require_tool,
};

/// An unmapped address.
const BAD: i64 = 1;

/// The filter of a session without debuggers.
const STRICT: CallSet = CallSet {
    debuggers: Debuggers::None,
    namespaces: false,
    notify: true,
    root: false,
};

/// Arguments for each denied call, such that the entry applies and nothing can happen outside.
const TRIES: &[(&str, &[i64])] = &[
    // The limit that marks the scope of a process; the last is an address whose lower half is zero.
    ("setrlimit", &[15, 0]),
    ("prlimit64", &[0, 15, 1]),
    ("prlimit64", &[0, 15, 1 << 32]),
    ("socket", &[2, 3, 1]),   // AF_INET, SOCK_RAW, IPPROTO_ICMP
    ("socket", &[16, 3, 15]), // AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT
    ("socket", &[17, 3, 0]),  // AF_PACKET, SOCK_RAW
    ("socketpair", &[16, 3, 0, BAD]),
    ("ioctl", &[0, 0x5412, BAD]),       // TIOCSTI on a pipe
    ("ioctl", &[-1, 0x5000_940E, BAD]), // BTRFS_IOC_SUBVOL_CREATE
    ("fcntl", &[-1, 1024, 0]),          // F_SETLEASE
    ("io_setup", &[0, BAD]),
    ("clone", &[0x1001_0000, 0, 0, 0, 0]), // a thread in a user namespace of its own: contradicts
    ("clone3", &[BAD, 0]),
    ("personality", &[0x0004_0000]), // ADDR_NO_RANDOMIZE, of this process alone
    ("io_uring_setup", &[0, BAD]),
    ("io_uring_enter", &[-1, 0, 0, 0, 0, 0]),
    ("io_uring_register", &[-1, 0, 0, 0]),
    ("openat2", &[-1, BAD, BAD, 24]),
    ("userfaultfd", &[-1]),
    ("bpf", &[-1, BAD, 8]),
    ("perf_event_open", &[BAD, 0, -1, -1, 0]),
    ("keyctl", &[-1, 0, 0, 0, 0]),
    ("add_key", &[BAD, BAD, 0, 0, 0]),
    ("request_key", &[BAD, BAD, 0, 0]),
    ("ptrace", &[-1, -1, 0, 0]),
    ("process_vm_readv", &[-1, BAD, 1, BAD, 1, 0]),
    ("process_vm_writev", &[-1, BAD, 1, BAD, 1, 0]),
    ("pidfd_getfd", &[-1, 0, 0]),
    ("kcmp", &[-1, -1, 0, 0, 0]),
    ("unshare", &[0]),
    ("setns", &[-1, 0]),
    ("mount", &[BAD, BAD, BAD, 0, BAD]),
    ("umount2", &[BAD, 0]),
    ("pivot_root", &[BAD, BAD]),
    ("chroot", &[BAD]),
    ("open_tree", &[-1, BAD, 0]),
    ("move_mount", &[-1, BAD, -1, BAD, 0]),
    ("fsopen", &[BAD, 0]),
    ("fsconfig", &[-1, 99, 0, 0, 0]),
    ("fsmount", &[-1, 0, 0]),
    ("fspick", &[-1, BAD, 0]),
    ("mount_setattr", &[-1, BAD, 0, BAD, 0]),
    ("open_by_handle_at", &[-1, BAD, 0]),
    ("name_to_handle_at", &[-1, BAD, BAD, BAD, 0]),
    ("fanotify_init", &[-1, 0]),
    ("init_module", &[BAD, 0, BAD]),
    ("finit_module", &[-1, BAD, 0]),
    ("delete_module", &[BAD, 0]),
    ("kexec_load", &[0, 1 << 30, BAD, 0]),
    ("kexec_file_load", &[-1, -1, 0, 0, -1]),
    ("reboot", &[0, 0, 0, 0]),
    ("swapon", &[BAD, 0]),
    ("swapoff", &[BAD]),
    ("acct", &[BAD]),
    ("quotactl", &[-1, BAD, 0, 0]),
    ("quotactl_fd", &[-1, 0, 0, 0]),
    ("syslog", &[-1, 0, 0]),
    ("settimeofday", &[BAD, 0]),
    ("clock_settime", &[99, BAD]),
    ("clock_adjtime", &[99, BAD]),
    ("adjtimex", &[BAD]),
    ("sethostname", &[BAD, -1]),
    ("setdomainname", &[BAD, -1]),
    ("vhangup", &[]),
    ("lookup_dcookie", &[0, BAD, 0]),
    ("nfsservctl", &[0, 0, 0]),
    ("iopl", &[9]),
    ("ioperm", &[-1, -1, 0]),
    ("modify_ldt", &[99, 0, 0]),
    ("migrate_pages", &[-1, 0, 0, 0]),
    ("move_pages", &[-1, 0, 0, 0, 0, 0]),
    ("prctl", &[35, 14, BAD, 0]), // PR_SET_MM_MAP of no size
    ("prctl", &[58, 0, 0, 0, 0]), // PR_GET_IO_FLUSHER
    // The bit that makes a program run as its owner, on no file.
    ("chmod", &[BAD, 0o4755]),
    ("fchmod", &[-1, 0o4755]),
    ("fchmodat", &[-1, BAD, 0o4755]),
    ("fchmodat2", &[-1, BAD, 0o4755, 0]),
    ("creat", &[BAD, 0o4755]),
    ("mknod", &[BAD, 0o4755, 0]),
    ("mknodat", &[-1, BAD, 0o4755, 0]),
];

/// Calls without a control: `vhangup` has no argument that could be wrong, and would hang up the
/// terminal of the person who runs the tests.
const NOT_OUTSIDE: &[&str] = &["vhangup"];

/// Calls that an ordinary user may try outside: their control needs no privilege. For the others,
/// the kernel's answer to an ordinary user equals the filter's, and root is the control.
const UNPRIVILEGED: &[&str] = &[
    "socketpair",
    "ioctl",
    "fcntl",
    "io_setup",
    "clone",
    "clone3",
    "personality",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "openat2",
    "keyctl",
    "add_key",
    "request_key",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "pidfd_getfd",
    "kcmp",
    "unshare",
    "setns",
    "open_tree",
    "name_to_handle_at",
    "quotactl_fd",
    "adjtimex",
    "modify_ldt",
    "migrate_pages",
    "move_pages",
    "prctl",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "creat",
    "mknod",
    "mknodat",
];

/// A program that makes the calls and prints for each its index in the list and the error number.
fn program(outside: bool) -> String {
    let mut text = String::from("$| = 1;\n");
    for (at, (name, arguments)) in TRIES.iter().enumerate() {
        if outside && NOT_OUTSIDE.contains(name) {
            continue;
        }
        let Some(number) = call_number(name) else {
            continue;
        };
        let words: Vec<String> = arguments
            .iter()
            .map(|argument| format!(", {argument}"))
            .collect();
        writeln!(
            text,
            "$! = 0; $r = syscall({number}{}); print \"{at} \", ($r == -1 ? $! + 0 : 0), \"\\n\";",
            words.concat()
        )
        .expect("text grows");
    }
    text
}

fn answers(output: &Output) -> BTreeMap<usize, i32> {
    output
        .stdout
        .lines()
        .map(|line| {
            let (at, errno) = line.split_once(' ').expect("a place and a number");
            (
                at.parse().expect("a number"),
                errno.parse().expect("a number"),
            )
        })
        .collect()
}

fn words(arguments: &[i64]) -> [u64; 6] {
    std::array::from_fn(|at| arguments.get(at).map_or(0, |word| word.cast_unsigned()))
}

const fn is_denial(action: CallAction) -> bool {
    !matches!(action, CallAction::Allow | CallAction::Notify)
}

#[test]
fn every_denial_is_tried() {
    for call in CALLS.iter().filter(|call| is_denial(call.action)) {
        let deciding = |arguments| {
            CALLS
                .iter()
                .find(|other| other.name == call.name && other.condition.applies(arguments))
        };
        assert!(
            TRIES
                .iter()
                .any(|(name, list)| *name == call.name && deciding(words(list)) == Some(call)),
            "{call:?}"
        );
    }
}

/// `None` for an action that does not deny.
fn errno(action: CallAction) -> Option<i32> {
    use rustix::io::Errno;
    let errno = match action {
        CallAction::Allow | CallAction::Notify => return None,
        CallAction::NotPermitted => Errno::PERM,
        CallAction::InvalidArgument => Errno::INVAL,
        CallAction::NoRequest => Errno::NOTTY,
        CallAction::NotImplemented => Errno::NOSYS,
        CallAction::NoProtocol => Errno::PROTONOSUPPORT,
        CallAction::NoFamily => Errno::AFNOSUPPORT,
    };
    Some(errno.raw_os_error())
}

#[test]
fn denied_calls_fail_inside_and_are_looked_at_outside() {
    let perl = require_tool("perl");
    for user in User::all() {
        let env = TestEnv::of(user.as_deref());
        let is_root = env.is_root();
        let repo = env.repo();
        let policy = env.write("none.toml", "schema = 1\n[process]\ndebuggers = \"none\"\n");
        let outside = env.command(&perl).arg("-e").arg(program(true)).success();
        let inside = env
            .stockade()
            .args(UNATTENDED)
            .arg("--policy")
            .arg(&policy)
            .arg("--")
            .arg(&perl)
            .arg("-e")
            .arg(program(false))
            .current_dir(repo.path())
            .success();
        let (outside, inside) = (answers(&outside), answers(&inside));
        let events = env.events("last");
        let events = events.iter().filter(|event| event.kind() == "call.refused");
        let call = |event: &Event| event.json["target"]["call"].as_str().map(str::to_owned);
        let events: Vec<String> = events.filter_map(call).collect();
        let refusals = Refusals::of(STRICT);
        assert_eq!(inside.len(), outside.len() + NOT_OUTSIDE.len());
        for (at, (name, arguments)) in TRIES.iter().enumerate() {
            let Some(found) = inside.get(&at) else {
                continue;
            };
            let told = refusals.find(name, words(arguments));
            let action = told.map_or_else(
                || answer(STRICT, name, words(arguments)),
                |entry| entry.action,
            );
            let expected = errno(action).expect("it is denied");
            if told.is_some() {
                let has_event = events.iter().any(|call| {
                    call == name
                        || call
                            .strip_prefix(name)
                            .is_some_and(|rest| rest.starts_with(' '))
                });
                assert!(has_event, "{name} has no event: {events:?}");
            }
            assert_eq!(*found, expected, "inside, {name} {arguments:?}");
            let controlled = is_root || UNPRIVILEGED.contains(name);
            if let Some(answer) = outside.get(&at).filter(|_| controlled) {
                assert_ne!(
                    *answer, expected,
                    "outside, as root {is_root}: {name} {arguments:?}"
                );
            }
        }
    }
}

/// Calls that no present kernel has, and its newest ones: every program is told that they do not
/// exist. Outside the kernel has some of them.
#[test]
fn new_calls_do_not_exist_inside() {
    let perl = require_tool("perl");
    let text = "for $n (463 .. 480, 600, 1000) { $! = 0; $r = syscall($n, -1, 1, 1, 0, 0, 0); \
                print \"$n\\n\" unless $r == -1 && $!{ENOSYS} }";
    for user in User::all() {
        let env = TestEnv::of(user.as_deref());
        let repo = env.repo();
        let text = format!("use Errno; {text}");
        let outside = env.command(&perl).arg("-e").arg(&text).success();
        assert_ne!(outside.stdout, "", "this kernel has none of them");
        let inside = env
            .session(repo.path())
            .arg("--")
            .arg(&perl)
            .arg("-e")
            .arg(&text)
            .success();
        assert_eq!(inside.stdout, "");
    }
}
