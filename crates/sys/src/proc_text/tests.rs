//! Texts as the kernel writes them, and as programs would like to.

use std::{os::unix::ffi::OsStrExt as _, path::Path};

use stockade_fuzz::{TRIES, Target, target};

use super::{
    Malformed, Stat, Status, arguments, children, mount, mounts, socket_inode, soft_limit, stat,
    unescaped, variables,
};

/// Fields 3 to 28 of a process that a terminal controls.
const FIELDS: &str = " S 41 7 7 34816 7 4194304 1 0 0 0 0 0 0 0 20 0 1 0 8812 9000 200 \
                      18446744073709551615 1 2 140000 0";

fn stat_of(name: &[u8]) -> Vec<u8> {
    [b"42 (", name, b")", FIELDS.as_bytes()].concat()
}

/// Names that programs give themselves.
const NAMES: [&[u8]; 7] = [
    b"sh",
    b"a b",
    b") S 1 (",
    b"))))",
    b"x\n42 (y) S 1",
    b"\xff\xfe",
    b"",
];

#[test]
fn a_name_moves_no_field() {
    let whole = Stat {
        state: b'S',
        parent: 41,
        terminal: 34_816,
        start: 8_812,
        stack: 140_000,
    };
    for name in NAMES {
        assert_eq!(stat(&stat_of(name)), Ok(whole), "{name:?}");
    }
    let text = stat_of(b"sh");
    // Cut before field 28, or with something else in a field.
    for cut in 0..text.len() - 9 {
        assert!(stat(&text[..cut]).is_err(), "{cut}");
    }
    for (was, now) in [
        (" 41 ", " x "),
        (" 8812 ", " -1 "),
        (" S ", " SS "),
        (" 34816 ", " -5 "),
    ] {
        let text = String::from_utf8(text.clone()).unwrap().replace(was, now);
        assert_eq!(stat(text.as_bytes()), Err(Malformed("stat")), "{now}");
    }
}

const STATUS: &[u8] = b"Name:\tx\\nTgid:\\t1\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t42\n\
    Pid:\t43\nTracerPid:\t0\nFDSize:\t64\nNStgid:\t42\t2\nNSpid:\t43\t3\t1\nThreads:\t2\n\
    SigPnd:\t0000000000000000\nShdPnd:\t0000000000000200\nSigBlk:\t0000000000000001\n\
    SigCgt:\tffffffffffffffff\n";

#[test]
fn fields_of_a_status_are_read_whatever_the_name() {
    for name in NAMES {
        // As the kernel writes it (`string_escape_str`).
        let name = name.escape_ascii().to_string().replace("\\x", "\\");
        let bytes = [b"Name:\t".to_vec(), name.into_bytes(), b"\xff\n".to_vec()].concat();
        let at = STATUS.iter().position(|byte| *byte == b'\n').unwrap();
        let text = [bytes.as_slice(), &STATUS[at + 1..]].concat();
        let status = Status::new(&text);
        assert_eq!(status.process(), Ok(42));
        assert_eq!(status.mask(), Ok(0o022));
        assert_eq!(status.tracer(), Ok(0));
        assert_eq!(status.threads(), Ok(2));
        assert_eq!(status.descriptor_slots(), Ok(64));
        assert_eq!(status.process_ids(), Ok(vec![42, 2]));
        assert_eq!(status.thread_ids(), Ok(vec![43, 3, 1]));
        assert_eq!(status.signals(b"ShdPnd:"), Ok(0x200));
        assert_eq!(status.signals(b"SigCgt:"), Ok(u64::MAX));
    }
    assert_eq!(Status::new(STATUS).process(), Ok(42));
}

#[test]
fn a_field_that_is_missing_or_there_twice_is_no_value() {
    let wrong = Err(Malformed("status"));
    for text in [
        "",
        "Tgid:\n",
        "Tgid:\tx\n",
        "Tgid:\t-1\n",
        "Tgid:\t+1\n",
        "Tgid:\t4294967296\n",
        "Name:\tx\nTgid:\t1\nTgid:\t42\n",
    ] {
        assert_eq!(Status::new(text.as_bytes()).process(), wrong, "{text:?}");
    }
    for text in ["Umask:\t8\n", "Umask:\t+7\n", "Umask:\t\n"] {
        assert_eq!(Status::new(text.as_bytes()).mask(), wrong, "{text:?}");
    }
    for text in ["NSpid:\n", "NSpid:\t1\tx\n", "NSpid:\t1 99999999999\n"] {
        assert!(
            Status::new(text.as_bytes()).thread_ids().is_err(),
            "{text:?}"
        );
    }
}

const LIMITS: &[u8] =
    b"Limit                     Soft Limit           Hard Limit           Units\n\
    Max file size             unlimited            unlimited            bytes\n\
    Max open files            1024                 1048576              files\n";

#[test]
fn limits_are_read_by_their_name() {
    assert_eq!(soft_limit(LIMITS, b"Max file size"), Ok(u64::MAX));
    assert_eq!(soft_limit(LIMITS, b"Max open files"), Ok(1024));
    for name in [b"Max cpu time".as_slice(), b"Limit"] {
        assert_eq!(soft_limit(LIMITS, name), Err(Malformed("limits")));
    }
}

#[test]
fn lists_are_taken_apart() {
    assert_eq!(
        arguments(b"sh\0-c\0a\nb\0\0"),
        [&b"sh"[..], b"-c", b"a\nb", b""]
    );
    assert_eq!(arguments(b"\xff\0"), [b"\xff"]);
    assert!(arguments(b"").is_empty() && arguments(b"\0").is_empty());
    let found: Vec<_> = variables(b"A=1\0=x\0none\0B=a=b\n\0").collect();
    assert_eq!(
        found,
        [(&b"A"[..], &b"1"[..]), (b"", b"x"), (b"B", b"a=b\n")]
    );
    assert_eq!(children(b"12 13 \n"), Ok(vec![12, 13]));
    assert_eq!(children(b""), Ok(Vec::new()));
    assert_eq!(children(b"12 x"), Err(Malformed("children")));
    assert_eq!(socket_inode(b"socket:[77]"), Some(77));
    for link in [
        b"pipe:[77]".as_slice(),
        b"socket:[77] (deleted)",
        b"socket:[+7]",
        b"/socket:[77]",
        b"socket:[4294967296]",
    ] {
        assert_eq!(socket_inode(link), None, "{link:?}");
    }
}

const MOUNTS: &[u8] =
    b"36 35 98:0 /mnt1 /mnt\\0402\\134x rw,noatime master:1 - ext3 /dev/root rw\n\
    37 36 0:5 / /pr\xff\\012oc rw - proc proc rw\n";

#[test]
fn mounts_are_taken_apart() {
    let found = mounts(MOUNTS).unwrap();
    let [first, second] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(
        (first.id, first.device.as_slice()),
        (36, b"98:0".as_slice())
    );
    assert_eq!(first.root, Path::new("/mnt1"));
    assert_eq!(first.at, Path::new("/mnt 2\\x"));
    assert_eq!(second.at.as_os_str().as_bytes(), b"/pr\xff\noc");
    assert_eq!(mount(b"x y"), None);
    assert_eq!(mounts(b"\n\n"), Ok(Vec::new()));
    assert_eq!(mounts(b"36 35 98:0 /\n"), Err(Malformed("mountinfo")));
    assert_eq!(unescaped(b"a\\09"), Path::new("a\\09"));
}

#[test]
fn fuzz_proc_stat() {
    let samples = NAMES.iter().map(|name| stat_of(name)).collect();
    let words: &[&[u8]] = &[
        b")",
        b"(",
        b" ",
        b"\n",
        b"-1",
        b"18446744073709551616",
        b"\xff",
    ];
    let tried = Target {
        name: "proc_stat",
        samples,
        words,
        tries: TRIES,
    };
    target(&tried, |bytes| {
        if let Ok(read) = stat(bytes) {
            // What comes in front of the name's end has no part in it.
            let at = bytes.iter().rposition(|byte| *byte == b')').unwrap();
            let again = [b"1 (x)".as_slice(), &bytes[at + 1..]].concat();
            assert_eq!(stat(&again), Ok(read));
        }
    });
}

#[test]
fn fuzz_proc_status() {
    let words: &[&[u8]] = &[
        b"Tgid:\t",
        b"Umask:\t",
        b"TracerPid:\t",
        b"NSpid:\t",
        b"\n",
        b"\t",
        b"+",
        b"\xff",
    ];
    let tried = Target {
        name: "proc_status",
        samples: vec![STATUS.to_vec(), LIMITS.to_vec()],
        words,
        tries: TRIES,
    };
    target(&tried, |bytes| {
        let status = Status::new(bytes);
        // A further line of that name never gives another value.
        let more = [bytes, b"\nTgid:\t7\nTracerPid:\t0\n"].concat();
        if status.process().is_ok() {
            assert!(Status::new(&more).process().is_err());
        }
        if status.tracer().is_ok() {
            assert!(Status::new(&more).tracer().is_err());
        }
        for ids in [status.thread_ids(), status.process_ids()]
            .into_iter()
            .flatten()
        {
            assert!(!ids.is_empty());
        }
        let masks = (status.mask(), status.threads(), status.descriptor_slots());
        let signals = status.signals(b"SigCgt:");
        let limits = soft_limit(bytes, b"Max open files");
        assert!(bytes.len() > 4 || (masks.0.is_err() && signals.is_err() && limits.is_err()));
    });
}

#[test]
fn fuzz_proc_lists() {
    let samples: Vec<Vec<u8>> = [
        b"sh\0-c\0a\nb\0\0".as_slice(),
        b"A=1\0=x\0none\0B=a=b\0",
        b"12 13 ",
        b"socket:[77]",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    let tried = Target {
        name: "proc_lists",
        samples,
        words: &[b"\0", b"=", b"socket:[", b"]", b" ", b"4294967296", b"\xff"],
        tries: TRIES,
    };
    target(&tried, |bytes| {
        let all = arguments(bytes);
        let joined = all.join(&0);
        assert_eq!(joined, bytes.strip_suffix(b"\0").unwrap_or(bytes));
        for (name, value) in variables(bytes) {
            assert!(!name.contains(&b'=') && !name.contains(&0) && !value.contains(&0));
        }
        if let Ok(ids) = children(bytes) {
            assert!(ids.len() <= bytes.len());
        }
        if let Some(inode) = socket_inode(bytes) {
            assert!(bytes.ends_with(b"]") && bytes.len() >= inode.to_string().len() + 9);
        }
    });
}

#[test]
fn fuzz_mountinfo() {
    let tried = Target {
        name: "mountinfo",
        samples: vec![MOUNTS.to_vec()],
        words: &[
            b"\\040",
            b"\\777",
            b"\\1",
            b"\\",
            b" - ",
            b"\n",
            b"18446744073709551616",
        ],
        tries: TRIES,
    };
    target(&tried, |bytes| {
        let lines = bytes.split(|byte| *byte == b'\n');
        let filled = lines.filter(|line| !line.is_empty()).count();
        if let Ok(found) = mounts(bytes) {
            assert_eq!(found.len(), filled);
        }
    });
}
