//! Every call that changes paths, with the values read from it.

use std::{collections::BTreeSet, ffi::CString};

use stockade_plan::{CALLS, CallAction};
use stockade_sys::notifier::Notification;

use super::{Call, Change, Named, Part, read};
use crate::resolve::{AT_FDCWD, Last};

/// Calls that the notifier answers and that change no path by themselves.
const OTHERS: [&str; 10] = [
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "ptrace",
    "umask",
    "chown",
    "lchown",
    "fchown",
    "fchownat",
];
const CREATE: u64 = 0o100;
const EXCLUSIVE: u64 = 0o200;
const TRUNCATE: u64 = 0o1000;
const NO_FOLLOW: u64 = super::FLAG_NO_FOLLOW as u64;
const PATH: u64 = 0o10_000_000;
const TEMPORARY: u64 = 0o20_200_000;
/// `AT_FDCWD` as it stands in a register.
const HERE: u64 = 0xFFFF_FF9C;
/// An address at which nothing is.
const NOWHERE: u64 = 8;

/// The memory that calls point to: this process is the caller.
struct Memory {
    from: CString,
    to: CString,
    slash: CString,
    empty: CString,
    long: CString,
    named: Vec<u8>,
    abstracted: Vec<u8>,
    network: Vec<u8>,
}

impl Memory {
    fn new() -> Self {
        let text = |bytes: &[u8]| CString::new(bytes).unwrap();
        let address = |family: u16, rest: &[u8]| [&family.to_ne_bytes(), rest].concat();
        Self {
            from: text(b"/w/\xfffrom"),
            to: text(b"to"),
            slash: text(b"d/"),
            empty: text(b""),
            long: text(&[b'x'; 5000]),
            named: address(1, b"s.sock\0rest"),
            abstracted: address(1, b"\0hidden"),
            network: address(2, &[0; 14]),
        }
    }
}

fn notification(arguments: &[u64]) -> Notification {
    let mut all = [0; 6];
    for (at, argument) in arguments.iter().enumerate() {
        all[at] = *argument;
    }
    Notification {
        id: 1,
        thread: rustix::process::getpid(),
        number: 0,
        arguments: all,
    }
}

/// One line for a call: the operation, and each path with its access and its properties.
fn shown(call: &Call) -> String {
    let deed = format!("{:?}", call.deed);
    let changes = call.changes.iter().map(|change: &Change| {
        let at = match &change.at {
            Named::Path { directory, path } if *directory == AT_FDCWD => {
                path.escape_ascii().to_string()
            }
            Named::Path { directory, path } => format!("{directory}:{}", path.escape_ascii()),
            Named::Descriptor(descriptor) => format!("#{descriptor}"),
        };
        let marks = [
            (change.last == Last::Follow, " followed"),
            (change.file, " file"),
            (change.fresh, " fresh"),
            (change.part == Part::Leaves, " leaves"),
            (change.part == Part::Shared, " shared"),
        ];
        let marks: String = marks
            .into_iter()
            .filter_map(|(holds, mark)| holds.then_some(mark))
            .collect();
        format!("; {} {at}{marks}", change.access.as_str())
    });
    deed + &changes.collect::<String>()
}

/// A call with its arguments, and the values read from it or the error number of its caller.
type Case = (&'static str, Vec<u64>, Result<&'static str, i32>);

fn opens(memory: &Memory) -> Vec<Case> {
    let [from, to, slash] =
        [&memory.from, &memory.to, &memory.slash].map(|text| text.as_ptr() as u64);
    vec![
        (
            "openat",
            vec![5, from, CREATE | 1, 0o644],
            Ok("Open { flags: 65, mode: 420 }; create 5:/w/\\xfffrom followed file"),
        ),
        (
            "openat",
            vec![HERE, to, CREATE | EXCLUSIVE | 1, 0o644],
            Ok("Open { flags: 193, mode: 420 }; create to file fresh"),
        ),
        (
            "openat",
            // The upper half of a register means nothing.
            vec![0xFFFF_FFFF_0000_0005, to, 0xFFFF_FFFF_0000_0002],
            Ok("Open { flags: 2, mode: 0 }; write 5:to followed file"),
        ),
        ("openat", vec![HERE, to, PATH | CREATE], Ok("Nothing")),
        ("openat", vec![HERE, to, CREATE, 0o4755], Err(1)),
        (
            "open",
            vec![from, TRUNCATE | 1],
            Ok("Open { flags: 513, mode: 0 }; write /w/\\xfffrom followed file"),
        ),
        (
            "open",
            vec![to, TEMPORARY | 2, 0o600],
            Ok("Open { flags: 4259842, mode: 384 }; write to followed"),
        ),
        ("open", vec![to, TEMPORARY | 2, 0o4600], Err(1)),
        (
            "creat",
            vec![slash, 0o600],
            Ok("Open { flags: 577, mode: 384 }; create d/ followed file"),
        ),
    ]
}

/// A call may name a link in the last component itself, unless a slash follows it.
#[test]
fn an_open_without_following_keeps_the_link_but_for_a_slash() {
    let memory = Memory::new();
    for (path, last) in [(&memory.to, Last::Keep), (&memory.slash, Last::Follow)] {
        let call = notification(&[path.as_ptr() as u64, NO_FOLLOW | 1]);
        let read = read(&call, "open").unwrap();
        assert_eq!(read.changes.first().map(|change| change.last), Some(last));
    }
}

fn names(memory: &Memory) -> Vec<Case> {
    let [from, to, slash, empty] =
        [&memory.from, &memory.to, &memory.slash, &memory.empty].map(|text| text.as_ptr() as u64);
    let renamed = |flags: u64| vec![3, from, 4, to, flags];
    vec![
        (
            "rename",
            vec![from, to],
            Ok("Rename { flags: 0 }; rename /w/\\xfffrom leaves; rename to"),
        ),
        (
            "renameat",
            renamed(2),
            Ok("Rename { flags: 0 }; rename 3:/w/\\xfffrom leaves; rename 4:to"),
        ),
        (
            "renameat2",
            renamed(2),
            Ok("Rename { flags: 2 }; rename 3:/w/\\xfffrom leaves; rename 4:to"),
        ),
        ("renameat2", renamed(3), Err(22)),
        ("renameat2", renamed(8), Err(22)),
        (
            "link",
            vec![slash, to],
            Ok("Link; write d/ followed shared; create to file fresh"),
        ),
        (
            "linkat",
            vec![3, from, 4, to, 0],
            Ok("Link; write 3:/w/\\xfffrom shared; create 4:to file fresh"),
        ),
        (
            "linkat",
            vec![3, from, 4, to, 0x400],
            Ok("Link; write 3:/w/\\xfffrom followed shared; create 4:to file fresh"),
        ),
        ("linkat", vec![3, empty, 4, to, 0x1000], Err(2)),
        ("linkat", vec![3, from, 4, to, 0x200], Err(22)),
        (
            "symlink",
            vec![to, from],
            Ok("Symlink { text: [116, 111] }; rename /w/\\xfffrom fresh"),
        ),
        (
            "symlinkat",
            vec![to, 7, from],
            Ok("Symlink { text: [116, 111] }; rename 7:/w/\\xfffrom fresh"),
        ),
        (
            "unlink",
            vec![to],
            Ok("Remove { directory: false }; remove to"),
        ),
        (
            "rmdir",
            vec![slash],
            Ok("Remove { directory: true }; remove d/"),
        ),
        (
            "unlinkat",
            vec![7, to, 0],
            Ok("Remove { directory: false }; remove 7:to"),
        ),
        (
            "unlinkat",
            vec![7, to, 0x200],
            Ok("Remove { directory: true }; remove 7:to"),
        ),
        ("unlinkat", vec![7, to, 0x400], Err(22)),
    ]
}

fn files(memory: &Memory) -> Vec<Case> {
    let [to, slash, empty] =
        [&memory.to, &memory.slash, &memory.empty].map(|text| text.as_ptr() as u64);
    vec![
        (
            "truncate",
            vec![to, 10],
            Ok("Truncate { length: 10 }; write to followed file"),
        ),
        ("truncate", vec![to, u64::MAX], Err(22)),
        (
            "mkdir",
            vec![slash, 0o755],
            Ok("Directory { mode: 493 }; create d/ fresh"),
        ),
        (
            "mkdirat",
            vec![7, to, 0o700],
            Ok("Directory { mode: 448 }; create 7:to fresh"),
        ),
        (
            "mknod",
            vec![to, 0o10_644, 9],
            Ok("Node { mode: 4516, device: 9 }; create to file fresh"),
        ),
        (
            "mknodat",
            vec![7, to, 0o10_644, 9],
            Ok("Node { mode: 4516, device: 9 }; create 7:to file fresh"),
        ),
        (
            "chmod",
            vec![to, 0o600],
            Ok("Mode { mode: 384 }; mode to followed"),
        ),
        (
            "fchmodat",
            vec![7, to, 0o600],
            Ok("Mode { mode: 384 }; mode 7:to followed"),
        ),
        (
            "fchmodat2",
            vec![7, to, 0o600, 0x100],
            Ok("Mode { mode: 384 }; mode 7:to"),
        ),
        (
            "fchmodat2",
            vec![7, empty, 0o600, 0x1000],
            Ok("Mode { mode: 384 }; mode #7 followed"),
        ),
        ("fchmodat2", vec![7, to, 0o600, 0x400], Err(22)),
    ]
}

fn addresses(memory: &Memory) -> Vec<Case> {
    let bind = |address: &[u8]| {
        let length = address.len() as u64;
        vec![9, address.as_ptr() as u64, length]
    };
    vec![
        (
            "bind",
            bind(&memory.named),
            Ok(
                "Bind { socket: 9, address: [1, 0, 115, 46, 115, 111, 99, 107, 0, 114, 101, 115, \
                 116] }; create s.sock file fresh",
            ),
        ),
        (
            "bind",
            bind(&memory.abstracted),
            Ok("Bind { socket: 9, address: [1, 0, 0, 104, 105, 100, 100, 101, 110] }"),
        ),
        (
            "bind",
            bind(&memory.network),
            Ok("Bind { socket: 9, address: [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] }"),
        ),
        ("bind", vec![9, memory.named.as_ptr() as u64, 129], Err(22)),
    ]
}

#[test]
fn every_call_that_changes_paths_is_read_as_the_kernel_reads_it() {
    let memory = Memory::new();
    let cases = [
        opens(&memory),
        names(&memory),
        files(&memory),
        addresses(&memory),
    ]
    .concat();
    for (name, arguments, expected) in &cases {
        let found = read(&notification(arguments), name);
        let found = found.as_ref().map(shown);
        let found = found.as_ref().map(String::as_str).map_err(|errno| **errno);
        assert_eq!(found, *expected, "{name} {arguments:x?}");
    }
    let tried: BTreeSet<&str> = cases.iter().map(|(name, ..)| *name).collect();
    let answered = CALLS
        .iter()
        .filter(|call| call.action == CallAction::Notify);
    let changing: BTreeSet<&str> = answered
        .map(|call| call.name)
        .filter(|name| !OTHERS.contains(name))
        .collect();
    assert_eq!(
        tried, changing,
        "a call that has no case, or a case without a call"
    );
}

#[test]
fn what_cannot_be_read_is_answered_as_the_kernel_does() {
    let memory = Memory::new();
    let long = memory.long.as_ptr() as u64;
    for call in CALLS
        .iter()
        .filter(|call| call.action == CallAction::Notify)
    {
        let name = call.name;
        if OTHERS.contains(&name) {
            continue;
        }
        // All paths, flags that every call takes, and a short address.
        let pointing = |to: u64| match name {
            "open" | "creat" | "truncate" | "mkdir" | "mknod" | "chmod" | "unlink" | "rmdir" => {
                vec![to, 1]
            }
            "rename" | "link" | "symlink" => vec![to, to],
            "symlinkat" => vec![to, 7, to],
            _ => vec![7, to, 7, to],
        };
        let nowhere = match name {
            "unlinkat" | "fchmodat2" => vec![7, NOWHERE, 0, 0],
            _ => pointing(NOWHERE),
        };
        assert_eq!(read(&notification(&nowhere), name), Err(14), "{name}");
        if name != "bind" {
            let arguments = match name {
                "unlinkat" | "fchmodat2" => vec![7, long, 0, 0],
                _ => pointing(long),
            };
            assert_eq!(read(&notification(&arguments), name), Err(36), "{name}");
        }
    }
    assert_eq!(
        read(&notification(&[]), "pwrite64"),
        Err(1),
        "no such change"
    );
}
