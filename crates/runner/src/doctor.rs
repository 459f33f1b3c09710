//! Examining a machine: each part of the native tier is tried, not guessed.

use std::path::Path;

use serde::Serialize;
use stockade_journal::{KeyError, SigningKey, layout};
use stockade_sys::{cgroup, identity, landlock, probe};

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
    /// Whether the native tier cannot do without it.
    pub required: bool,
    /// What was found.
    pub found: String,
    /// The one thing that would fix it.
    pub remedy: Option<String>,
}

fn ready(name: &'static str, required: bool, found: impl Into<String>) -> Check {
    Check {
        name,
        state: State::Ready,
        required,
        found: found.into(),
        remedy: None,
    }
}

/// Room that a record needs at the least: that of a short session.
const FREE_BYTES_MIN: u64 = 1 << 20;

/// Examines everything, as the calling user. Must run while the process has one thread.
pub fn examine(state_dir: Option<&Path>) -> Vec<Check> {
    let namespaces = namespaces();
    let not_tried = |name| Check {
        name,
        state: State::Weaker,
        required: false,
        found: "not tried: that takes a namespace".to_owned(),
        remedy: None,
    };
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
    ready("kernel", false, probe::kernel_release())
}

fn namespaces() -> Check {
    match probe::namespaces() {
        Ok(()) => ready(
            "namespaces",
            true,
            "user, mount, pid, network, ipc, uts, cgroup",
        ),
        Err(reason) => Check {
            name: "namespaces",
            state: State::Missing,
            required: true,
            found: format!("unprivileged user namespaces: {reason}"),
            remedy: Some(namespace_remedy()),
        },
    }
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
        name: "landlock",
        state,
        required: true,
        found: format!("interface version {abi}"),
        remedy,
    }
}

fn notifier() -> Check {
    match probe::notifier() {
        Ok(()) => ready("notifier", true, "seccomp filters with user notification"),
        Err(reason) => Check {
            name: "notifier",
            state: State::Missing,
            required: true,
            found: format!("seccomp user notification: {reason}"),
            remedy: Some("Linux 5.19 or newer; in a container, allow seccomp(2)".to_owned()),
        },
    }
}

fn redirect() -> Check {
    match probe::redirect() {
        Ok(()) => ready(
            "redirect",
            false,
            "nf_tables: every TCP port reaches the egress process",
        ),
        Err(reason) => Check {
            name: "redirect",
            state: State::Weaker,
            required: false,
            found: format!("nf_tables: {reason}; ports that no rule names are refused"),
            remedy: Some("sudo modprobe nf_tables nft_redir nf_nat".to_owned()),
        },
    }
}

fn hold() -> Check {
    match probe::hold() {
        Ok(()) => ready(
            "hold",
            false,
            "programs learn from their own connect what cannot be reached",
        ),
        Err(reason) => Check {
            name: "hold",
            state: State::Weaker,
            required: false,
            found: format!(
                "nfnetlink_queue: {reason}; programs are connected before their host is"
            ),
            remedy: Some("sudo modprobe nfnetlink_queue nft_queue".to_owned()),
        },
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
            false,
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
    Check {
        name: "limits",
        state: State::Weaker,
        required: false,
        found,
        remedy: Some("run as root, or give this user cgroups of its own".to_owned()),
    }
}

fn disk() -> Check {
    Check {
        name: "disk",
        state: State::Weaker,
        required: false,
        found: "a direct workspace has no quota".to_owned(),
        remedy: None,
    }
}

/// Tries to lay one directory over another on the file system of the state directory.
fn overlays(state_dir: Option<&Path>) -> Check {
    let weaker = |found: String| Check {
        name: "caches",
        state: State::Weaker,
        required: false,
        found,
        remedy: Some(
            "set STOCKADE_STATE_DIR to a directory on a local disk (not overlayfs, NFS or FUSE)"
                .to_owned(),
        ),
    };
    let Some(place) = state_dir.filter(|path| path.is_dir()) else {
        return ready("caches", false, "not tried before the first run");
    };
    let directory = place.join(format!(".overlay-{}", std::process::id()));
    let laid = std::fs::create_dir(&directory)
        .map_err(|error| error.to_string())
        .and_then(|()| probe::overlay(&directory));
    // The kernel makes one that nobody can list.
    for name in ["work/work", "work", "upper", "lower", ""] {
        drop(std::fs::remove_dir(directory.join(name)));
    }
    match laid {
        Ok(()) => ready(
            "caches",
            false,
            "sessions add to private overlays over those of package managers",
        ),
        Err(reason) => weaker(format!(
            "what sessions add to caches of package managers is not kept: {reason}"
        )),
    }
}

fn record(state_dir: Option<&Path>) -> Check {
    let missing = |found: String| Check {
        name: "record",
        state: State::Missing,
        required: true,
        found,
        remedy: Some("set STOCKADE_STATE_DIR to a directory that you can write".to_owned()),
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
            return Check {
                remedy: Some(format!(
                    "chmod 700 {0} && chown $(id -un) {0}",
                    path.display()
                )),
                ..found
            };
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
        return Check {
            remedy: Some("make room, or set STOCKADE_STATE_DIR to another disk".to_owned()),
            ..missing(format!("`{}` is on a full disk", existing.display()))
        };
    }
    let free = free >> 30;
    let who = identity::own().0;
    ready(
        "record",
        true,
        format!("{}, {free} GiB free, owner uid {who}", path.display()),
    )
}

/// Says what is wrong with the signing key, where there is one that cannot be used.
fn key_problem(state_dir: &Path) -> Option<Check> {
    let path = state_dir.join(layout::KEY_FILE);
    let error = match SigningKey::load(&path) {
        Ok(_) | Err(KeyError::Missing { .. }) => return None,
        Err(error) => error,
    };
    Some(Check {
        name: "record",
        state: State::Missing,
        required: true,
        found: error.to_string(),
        remedy: Some(format!(
            "chmod 600 {0}, or move it away: the next run makes one, and older records cannot be verified then",
            path.display()
        )),
    })
}

fn other_tiers() -> Check {
    Check {
        name: "tiers",
        state: State::Weaker,
        required: false,
        found: "only native is available; landlock and oci come later".to_owned(),
        remedy: None,
    }
}
