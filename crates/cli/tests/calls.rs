//! Every denied system call fails inside with the answer of the table, and not so outside.
//!
//! The calls are made with arguments that no kernel can act on (bad addresses, descriptors that are
//! not open, commands that do not exist): outside the kernel complains about those.
#![expect(clippy::expect_used, reason = "a broken fixture must end the test")]

use std::{collections::BTreeMap, fmt::Write as _};

use stockade_plan::{CALLS, CallAction};
use stockade_testkit::{
    Output, TestEnv, UNATTENDED,
    env::{User, under_test},
    kernel::call_number,
    run::require_tool,
};

/// An address that nothing is mapped at.
const BAD: i64 = 1;
const NOT_PERMITTED: i32 = 1;

/// Arguments for each denied call, such that the entry applies and nothing can happen outside.
const TRIES: &[(&str, &[i64])] = &[
    ("socket", &[16, 3, 0]),               // AF_NETLINK, SOCK_RAW
    ("ioctl", &[0, 0x5412, BAD]),          // TIOCSTI on a pipe
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
    // The bit that makes a program run as its owner, on no file.
    ("chmod", &[BAD, 0o4755]),
    ("fchmod", &[-1, 0o4755]),
    ("fchmodat", &[-1, BAD, 0o4755]),
    ("fchmodat2", &[-1, BAD, 0o4755, 0]),
    ("creat", &[BAD, 0o4755]),
    ("mknod", &[BAD, 0o4755, 0]),
    ("mknodat", &[-1, BAD, 0o4755, 0]),
];

/// Calls that have no control: `vhangup` has no argument that could be wrong, and would hang up the
/// terminal of whoever runs the tests.
const NOT_OUTSIDE: &[&str] = &["vhangup"];

/// What an ordinary user may try outside: the control of these needs no privilege. For the others
/// the kernel's own answer to an ordinary user is the filter's, and root is the control.
const UNPRIVILEGED: &[&str] = &[
    "socket",
    "ioctl",
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

/// A program that makes the calls and prints the name and error number of each.
fn program(outside: bool) -> String {
    let mut text = String::from("$| = 1;\n");
    for (name, arguments) in TRIES {
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
            "$! = 0; $r = syscall({number}{}); print \"{name} \", ($r == -1 ? $! + 0 : 0), \"\\n\";",
            words.concat()
        )
        .expect("text grows");
    }
    text
}

fn answers(output: &Output) -> BTreeMap<&str, i32> {
    output
        .stdout
        .lines()
        .map(|line| {
            let (name, errno) = line.split_once(' ').expect("a name and a number");
            (name, errno.parse().expect("a number"))
        })
        .collect()
}

#[test]
fn every_denied_call_is_tried() {
    let tried: Vec<&str> = TRIES.iter().map(|(name, _)| *name).collect();
    let denied = CALLS
        .iter()
        .filter(|call| call.action != CallAction::Notify);
    for call in denied {
        assert_eq!(
            tried.iter().filter(|name| **name == call.name).count(),
            1,
            "{call:?}"
        );
    }
}

#[test]
fn denied_calls_fail_inside_and_are_looked_at_outside() {
    let perl = require_tool("perl");
    for user in User::all() {
        let env = TestEnv::new(under_test());
        let env = match &user {
            Some(user) => env.as_user(user),
            None => env,
        };
        let is_root = env.is_root();
        let repo = env.repo();
        let outside = env.command(&perl).arg("-e").arg(program(true)).success();
        let inside = env
            .stockade()
            .args(UNATTENDED)
            .arg("--")
            .arg(&perl)
            .arg("-e")
            .arg(program(false))
            .current_dir(repo.path())
            .success();
        let (outside, inside) = (answers(&outside), answers(&inside));
        assert_eq!(inside.len(), outside.len() + NOT_OUTSIDE.len());
        for call in CALLS
            .iter()
            .filter(|call| call.action != CallAction::Notify)
        {
            let Some(found) = inside.get(call.name) else {
                continue;
            };
            let expected = match call.action {
                CallAction::NotPermitted => NOT_PERMITTED,
                CallAction::NotImplemented => rustix::io::Errno::NOSYS.raw_os_error(),
                CallAction::NoFamily => rustix::io::Errno::AFNOSUPPORT.raw_os_error(),
                CallAction::Notify => panic!("{call:?} is not denied"),
            };
            assert_eq!(*found, expected, "inside, {call:?}");
            let controlled = is_root || UNPRIVILEGED.contains(&call.name);
            if let Some(answer) = outside.get(call.name).filter(|_| controlled) {
                assert_ne!(*answer, expected, "outside, as root {is_root}: {call:?}");
            }
        }
    }
}
