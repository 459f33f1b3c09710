//! Calls that the filter refuses: recorded once for each program and call, counted after that, and
//! answered as the table says.
//!
//! This reads only registers, which nothing can change while the call waits.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use stockade_event::{Durability, Event};
use stockade_plan::Call;
use stockade_policy::{Control, Decision};
use stockade_sys::notifier::Notification;
use stockade_types::{DecisionRecord, RawText};

use super::{Answer, ERRNO_NOT_JUDGED, Reply, Supervision, descriptor, state};

/// Programs and calls that are remembered, about 200 bytes each; past this all is recorded anew.
const KNOWN_MAX: usize = 4096;
/// How long a refusal stays the last one of its program: after that, the session's list shows a
/// repeated one again at its end.
const REMINDED_AFTER: Duration = Duration::from_secs(1);

/// Refusals that were recorded already.
pub(super) type Told = HashMap<(RawText, String), (DecisionRecord, Instant)>;

impl Supervision {
    /// Answers a call that an entry of the filter refuses; `None` if no entry does.
    pub(super) fn refuse_call(&self, call: &Notification, name: &str, tid: u32) -> Option<Reply> {
        let entry = self.refusals.find(name, call.arguments)?;
        let errno = entry.action.errno()?;
        let told = describe(name, call.arguments);
        let written = self.tell_refusal(tid, told, |program| refusal(entry, program));
        Some(Reply::Refuse(written.map_or(ERRNO_NOT_JUDGED, |()| errno)))
    }

    /// Answers a change of owner by root of a single id: the kernel changes to ids that exist
    /// inside, and a change to any other id is skipped. Unpacking files of other owners must not
    /// fail.
    pub(super) fn judge_owner(&self, call: &Notification, name: &str, tid: u32) -> Reply {
        let at = if name == "fchownat" { 2 } else { 1 };
        let id = |index: usize| {
            let argument = call.arguments.get(index).copied().unwrap_or_default();
            // As the kernel reads it; -1 leaves the owner as it is (chown(2)).
            u32::from_ne_bytes(descriptor(argument).to_ne_bytes())
        };
        let exists = |wanted: u32, own: u32| wanted == u32::MAX || wanted == own;
        let (uid, gid) = (id(at), id(at + 1));
        if exists(uid, self.identity.uid) && exists(gid, self.identity.gid) {
            return Reply::Proceed;
        }
        let why = |_: &RawText| {
            Control::SystemCalls.denies(
                "other users do not exist inside: the owner stays, and the program is told that it \
                 was changed",
                "change owners outside the session",
            )
        };
        match self.tell_refusal(tid, format!("{name} to another user"), why) {
            Some(()) => Reply::Now(Answer::Returns),
            None => Reply::Refuse(ERRNO_NOT_JUDGED),
        }
    }

    /// Records a refused call, or counts it; `None` when that failed.
    fn tell_refusal(
        &self,
        tid: u32,
        what: String,
        decide: impl FnOnce(&RawText) -> Decision,
    ) -> Option<()> {
        let subject = self.subject(tid);
        let key = (subject.exe.clone(), what);
        if let Some((known, told)) = state(self).told.get_mut(&key) {
            if told.elapsed() >= REMINDED_AFTER {
                *told = Instant::now();
                self.recorder.remind(known);
            }
            self.recorder.count_again(known.decision);
            return Some(());
        }
        let id = self.recorder.new_decision();
        let record = self
            .recorder
            .record_call(id, subject, key.1.clone(), &decide(&key.0));
        let event = Event::CallRefused {
            decision: record.clone(),
        };
        self.write(&event, Durability::Written)?;
        let mut state = state(self);
        if state.told.len() >= KNOWN_MAX {
            state.told.clear();
        }
        state.told.insert(key, (record, Instant::now()));
        Some(())
    }
}

/// Programs that build a sandbox of namespaces for themselves, and how to make them work inside.
/// Even if a setting opens the namespaces, they still lack mounts and a root of their own.
const OWN_SANDBOXES: &[(&[&str], &str)] = &[
    (
        &[
            "brave",
            "chrome",
            "chrome-headless-shell",
            "chromium",
            "headless_shell",
            "msedge",
        ],
        "start it with `--no-sandbox`: the boundary holds it instead",
    ),
    (
        &["bwrap"],
        "switch off the sandbox of the program that started it: the boundary holds it instead",
    ),
    (
        &["nix", "nix-build", "nix-env", "nix-shell", "nix-store"],
        "give nix `--option sandbox false`: the boundary holds it instead",
    ),
    (
        &["buildah", "podman"],
        "build and run images outside the session: they need mounts, which stay closed",
    ),
];

/// How to make a program work that builds a sandbox of its own; `None` for other programs.
fn without_own_sandbox(program: &RawText) -> Option<&'static str> {
    let name = program.as_bytes().rsplit(|byte| *byte == b'/').next()?;
    let is_it = |names: &[&str]| names.iter().any(|one| one.as_bytes() == name);
    OWN_SANDBOXES
        .iter()
        .find(|(names, _)| is_it(names))
        .map(|(_, remedy)| *remedy)
}

fn refusal(entry: &Call, program: &RawText) -> Decision {
    let own = without_own_sandbox(program).filter(|_| entry.makes_namespaces());
    let remedy = match entry.opened_by() {
        _ if let Some(remedy) = own => remedy.to_owned(),
        Some(setting) => format!("say `{setting}` in a policy of yours, and start a new session"),
        None => "no policy opens it: do this outside the session".to_owned(),
    };
    Control::SystemCalls.denies(entry.why, &remedy)
}

/// Describes the call by a closed set of texts: a program must not make events by varying it.
fn describe(name: &str, arguments: [u64; 6]) -> String {
    let [first, second, third, ..] = arguments.map(|argument| argument & 0xFFFF_FFFF);
    match name {
        "socket" | "socketpair" => {
            let kind = match (first, second & 0xF, third) {
                (2 | 10, 3 | 10, _) => " (raw)".to_owned(),
                (16, _, protocol) => format!(" ({})", named(NETLINK, protocol)),
                _ => String::new(),
            };
            format!("{name} {}{kind}", named(FAMILIES, first))
        }
        "clone" | "unshare" => {
            let set = NAMESPACES.iter().filter(|(flag, _)| first & flag != 0);
            let names: Vec<&str> = set.map(|(_, name)| *name).collect();
            match names.as_slice() {
                [] => name.to_owned(),
                _ => format!("{name} ({} namespace)", names.join(", ")),
            }
        }
        _ => name.to_owned(),
    }
}

fn named(names: &[(u64, &str)], number: u64) -> String {
    /// Families and protocols are small numbers; no larger number is one of them.
    const NUMBERS_MAX: u64 = 64;
    let known = names.iter().find(|(known, _)| *known == number);
    match known {
        Some((_, name)) => (*name).to_owned(),
        None if number < NUMBERS_MAX => number.to_string(),
        None => "unknown".to_owned(),
    }
}

/// Address families (sys/socket.h).
const FAMILIES: &[(u64, &str)] = &[
    (1, "AF_UNIX"),
    (2, "AF_INET"),
    (10, "AF_INET6"),
    (16, "AF_NETLINK"),
    (17, "AF_PACKET"),
    (29, "AF_CAN"),
    (31, "AF_BLUETOOTH"),
    (38, "AF_ALG"),
    (40, "AF_VSOCK"),
    (44, "AF_XDP"),
];

/// Protocols of netlink (linux/netlink.h).
const NETLINK: &[(u64, &str)] = &[
    (0, "route"),
    (4, "sock_diag"),
    (9, "audit"),
    (10, "fib_lookup"),
    (12, "netfilter"),
    (15, "kobject_uevent"),
    (16, "generic"),
];

/// Flags of clone(2) that make namespaces (linux/sched.h).
const NAMESPACES: &[(u64, &str)] = &[
    (0x1000_0000, "user"),
    (0x0002_0000, "mount"),
    (0x2000_0000, "pid"),
    (0x4000_0000, "network"),
    (0x0800_0000, "ipc"),
    (0x0400_0000, "uts"),
    (0x0200_0000, "cgroup"),
    (0x0000_0080, "time"),
];
