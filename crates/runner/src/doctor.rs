//! Examining a machine: each part that tiers are made of is tried, not guessed.

use std::path::Path;

use serde::Serialize;
use stockade_journal::{KeyError, SigningKey, layout};
use stockade_plan::{DEFAULT_TIER, Part, needs};
use stockade_sys::{cgroup, identity, landlock, probe};

use stockade_types::{Tier, ignored};

use crate::{StateProblem, check_state};

/// How a part stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It works.
    Ready,
    /// Sessions start; a guarantee is weaker or absent, and says so.
    Weaker,
    /// It does not work.
    Missing,
}

/// One part that was examined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// How it stands.
    pub state: State,
    /// Which part of a tier it is, if tiers differ in it.
    #[serde(skip)]
    pub part: Option<Part>,
    /// Whether the tier of `--tier auto` cannot do without it.
    pub required: bool,
    /// What was found.
    pub found: String,
    /// The one thing that would fix it.
    pub remedy: Option<String>,
}

/// A part without which some sessions start; what is found of it is said in `found`.
fn optional(name: &'static str, state: State, found: impl Into<String>) -> Check {
    Check {
        name,
        state,
        part: None,
        required: false,
        found: found.into(),
        remedy: None,
    }
}

fn ready(name: &'static str, found: impl Into<String>) -> Check {
    optional(name, State::Ready, found)
}

impl Check {
    /// Makes it the check of a part that tiers are made of.
    fn of(mut self, part: Part) -> Self {
        self.part = Some(part);
        self.required = needs(DEFAULT_TIER).contains(&part);
        self
    }

    /// Makes it one that every session needs.
    fn for_all(mut self) -> Self {
        self.required = true;
        self
    }

    fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// Tells whether sessions of a tier start here, as far as checks say.
pub fn works(tier: Tier, checks: &[Check]) -> bool {
    let stops = |check: &Check| match check.part {
        Some(part) => needs(tier).contains(&part),
        None => check.required,
    };
    let missing = |check: &&Check| check.state == State::Missing;
    !checks.iter().filter(missing).any(stops)
}

/// Room that a record needs at the least: that of a short session.
const FREE_BYTES_MIN: u64 = 1 << 20;

/// Examines everything, as the calling user. Must run while the process has one thread.
pub fn examine(state_dir: Option<&Path>) -> Vec<Check> {
    let namespaces = namespaces();
    let not_tried = |name| optional(name, State::Weaker, "not tried: that takes a namespace");
    let (redirect, hold) = match namespaces.state {
        State::Missing => (not_tried("redirect"), not_tried("hold")),
        State::Ready | State::Weaker => (redirect(), hold()),
    };
    vec![
        kernel(),
        namespaces,
        landlock_check(),
        notifier(),
        redirect,
        hold,
        limits(),
        disk(),
        overlays(state_dir),
        record(state_dir),
        other_tiers(),
    ]
}

fn kernel() -> Check {
    ready("kernel", probe::kernel_release())
}

fn namespaces() -> Check {
    let check = match probe::namespaces() {
        Ok(()) => ready("namespaces", "user, mount, pid, network, ipc, uts, cgroup"),
        Err(reason) => {
            let found = format!("unprivileged user namespaces: {reason}");
            optional("namespaces", State::Missing, found).with_remedy(namespace_remedy())
        }
    };
    check.of(Part::Namespaces)
}

/// Finds which of the usual switches forbids user namespaces.
fn namespace_remedy() -> String {
    let is = |name: &str, value: &str| probe::sysctl(name).as_deref() == Some(value);
    if is("kernel.unprivileged_userns_clone", "0") {
        return "sudo sysctl -w kernel.unprivileged_userns_clone=1".to_owned();
    }
    if is("user.max_user_namespaces", "0") {
        return "sudo sysctl -w user.max_user_namespaces=15000".to_owned();
    }
    if is("kernel.apparmor_restrict_unprivileged_userns", "1") {
        let own = std::env::current_exe().unwrap_or_default();
        return format!(
            "install an AppArmor profile that allows them for this program: echo 'abi <abi/4.0>, \
             include <tunables/global> profile stockade {} flags=(unconfined) {{ userns, }}' | \
             sudo tee /etc/apparmor.d/stockade && sudo apparmor_parser -r /etc/apparmor.d/stockade",
            own.display()
        );
    }
    "in a container: start it with user namespaces allowed (its seccomp profile forbids them)"
        .to_owned()
}

fn landlock_check() -> Check {
    let abi = landlock::abi();
    let (state, remedy) = match abi {
        0 | 1 => (State::Missing, Some("boot with `lsm=landlock,…`, Linux 5.19 or newer".to_owned())),
        2..=5 => (State::Weaker, Some("Linux 6.12 or newer adds scopes for signals and abstract sockets (the namespaces hold both already)".to_owned())),
        _ => (State::Ready, None),
    };
    Check {
        remedy,
        ..optional("landlock", state, format!("interface version {abi}"))
    }
    .of(Part::Landlock)
}

fn notifier() -> Check {
    let check = match probe::notifier() {
        Ok(()) => ready("notifier", "seccomp filters with user notification"),
        Err(reason) => {
            let found = format!("seccomp user notification: {reason}");
            optional("notifier", State::Missing, found)
                .with_remedy("Linux 5.19 or newer; in a container, allow seccomp(2)")
        }
    };
    check.of(Part::Notifier)
}

fn redirect() -> Check {
    match probe::redirect() {
        Ok(()) => ready(
            "redirect",
            "nf_tables: every TCP port reaches the egress process",
        ),
        Err(reason) => {
            let found = format!("nf_tables: {reason}; ports that no rule names are refused");
            optional("redirect", State::Weaker, found)
                .with_remedy("sudo modprobe nf_tables nft_redir nf_nat")
        }
    }
}

fn hold() -> Check {
    match probe::hold() {
        Ok(()) => ready(
            "hold",
            "programs learn from their own connect what cannot be reached",
        ),
        Err(reason) => {
            let found = format!(
                "nfnetlink_queue: {reason}; programs see a connection before Stockade has made it outside"
            );
            optional("hold", State::Weaker, found)
                .with_remedy("sudo modprobe nfnetlink_queue nft_queue")
        }
    }
}

fn limits() -> Check {
    let controllers: Vec<&str> = cgroup::writable_hierarchies()
        .iter()
        .map(|hierarchy| hierarchy.controller)
        .collect();
    if controllers.len() == 3 {
        return ready(
            "limits",
            "memory, processes and processor time by cgroup v1",
        );
    }
    let found = if controllers.is_empty() {
        "processes and open files by rlimits; memory and processor time are not held".to_owned()
    } else {
        format!(
            "cgroup v1 for {}; the rest by rlimits",
            controllers.join(", ")
        )
    };
    optional("limits", State::Weaker, found)
        .with_remedy("run as root, or give this user cgroups of its own")
}

fn disk() -> Check {
    optional("disk", State::Weaker, "a direct workspace has no quota")
}

/// Tries to lay one directory over another on the file system of the state directory.
fn overlays(state_dir: Option<&Path>) -> Check {
    let weaker = |found: String| {
        optional("caches", State::Weaker, found).with_remedy(
            "set STOCKADE_STATE_DIR to a directory on a local disk (not overlayfs, NFS or FUSE)",
        )
    };
    let Some(place) = state_dir.filter(|path| path.is_dir()) else {
        return ready("caches", "not tried before the first run");
    };
    let directory = place.join(format!(".overlay-{}", std::process::id()));
    let laid = std::fs::create_dir(&directory)
        .map_err(|error| error.to_string())
        .and_then(|()| probe::overlay(&directory));
    // The kernel makes one that nobody can list.
    for name in ["work/work", "work", "upper", "lower", ""] {
        ignored(
            std::fs::remove_dir(directory.join(name)),
            "what was not made is not there",
        );
    }
    match laid {
        Ok(()) => ready(
            "caches",
            "sessions add to private overlays over those of package managers",
        ),
        Err(reason) => weaker(format!(
            "what sessions add to caches of package managers is not kept: {reason}"
        )),
    }
}

fn record(state_dir: Option<&Path>) -> Check {
    let missing = |found: String| {
        optional("record", State::Missing, found)
            .for_all()
            .with_remedy("set STOCKADE_STATE_DIR to a directory that you can write")
    };
    let Some(path) = state_dir else {
        return missing("there is no place for the state directory".to_owned());
    };
    match check_state(path) {
        // The first run makes it.
        Ok(()) | Err((_, StateProblem::Missing)) => {}
        Err((path, StateProblem::Unsafe(what))) => {
            let found = missing(format!("`{}` {what}", path.display()));
            if !path.is_dir() || path.is_symlink() {
                return found;
            }
            let place = path.display();
            return found.with_remedy(format!("chmod 700 {place} && chown $(id -un) {place}"));
        }
        Err((path, StateProblem::Io(error))) => {
            return missing(format!("`{}` cannot be used: {error}", path.display()));
        }
    }
    let existing = path
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .unwrap_or(path);
    if rustix::fs::access(existing, rustix::fs::Access::WRITE_OK).is_err() {
        return missing(format!("`{}` cannot be written", existing.display()));
    }
    if let Some(check) = key_problem(path) {
        return check;
    }
    let free = rustix::fs::statvfs(existing)
        .map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
        .unwrap_or_default();
    if free < FREE_BYTES_MIN {
        return missing(format!("`{}` is on a full disk", existing.display()))
            .with_remedy("make room, or set STOCKADE_STATE_DIR to another disk");
    }
    let free = free >> 30;
    let who = identity::own().0;
    let found = format!("{}, {free} GiB free, owner uid {who}", path.display());
    ready("record", found).for_all()
}

/// Says what is wrong with the signing key, where there is one that cannot be used.
fn key_problem(state_dir: &Path) -> Option<Check> {
    let path = state_dir.join(layout::KEY_FILE);
    let error = match SigningKey::load(&path) {
        Ok(_) | Err(KeyError::Missing { .. }) => return None,
        Err(error) => error,
    };
    let remedy = format!(
        "chmod 600 {0}, or move it away: the next run makes one, and older records cannot be verified then",
        path.display()
    );
    let missing = optional("record", State::Missing, error.to_string());
    Some(missing.for_all().with_remedy(remedy))
}

fn other_tiers() -> Check {
    let available = Tier::ALL.map(Tier::as_str).join(", ");
    let found = format!("only {available} is available; landlock and oci come later");
    optional("tiers", State::Weaker, found)
}
