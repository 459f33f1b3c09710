//! What this machine offers to this user; each probe tries the feature itself if it can.

use std::{fs, path::Path};

use rustix::process::Pid;

use crate::process::{self, Ended, Fork, Namespace, Parentage, WaitMode, Waited};
use crate::{identity, mount};

/// Whether a feature is there, and if not, what the kernel said.
pub type Probe = Result<(), String>;

/// Runs `attempt` in a forked child of the calling single-threaded process and reports its end.
fn in_child(attempt: impl FnOnce() -> Result<(), i32>) -> Probe {
    match process::fork(Parentage::Own) {
        Err(error) => Err(format!("cannot fork: {error}")),
        Ok(Fork::Child) => {
            let code = attempt().err().unwrap_or(0);
            process::exit_now(code.clamp(0, 254))
        }
        Ok(Fork::Parent(pid)) => outcome(pid),
    }
}

fn outcome(pid: Pid) -> Probe {
    match process::reap(Some(pid), WaitMode::Block) {
        Ok(Waited::Child(_, Ended::Code(0))) => Ok(()),
        Ok(Waited::Child(_, Ended::Code(errno))) => {
            Err(std::io::Error::from_raw_os_error(errno).to_string())
        }
        Ok(Waited::Child(_, Ended::Signal(signal))) => Err(format!("killed by signal {signal}")),
        Ok(_) => Err("the probe's child was lost".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn errno(error: &crate::SysError) -> i32 {
    error.errno().unwrap_or(libc::EIO)
}

/// Tries to mount an overlay in namespaces of its own; makes both directories in `place`.
///
/// Must be called while the process has one thread.
///
/// # Errors
/// With the kernel's answer, if that cannot be done there.
pub fn overlay(place: &Path) -> Probe {
    for name in ["lower", "upper", "work"] {
        fs::create_dir(place.join(name)).map_err(|error| error.to_string())?;
    }
    let (uid, gid) = identity::own();
    in_child(|| {
        process::unshare(&[Namespace::User, Namespace::Mount]).map_err(|e| errno(&e))?;
        identity::map_self(uid, gid).map_err(|e| errno(&e))?;
        let lower = place.join("lower");
        let (upper, work) = (place.join("upper"), place.join("work"));
        mount::overlay(&lower, &upper, &work, &lower).map_err(|e| errno(&e))
    })
}

/// Tries to make all namespaces of the native tier.
///
/// Must be called while the process has one thread.
///
/// # Errors
/// With the kernel's answer, if one of them cannot be made.
pub fn namespaces() -> Probe {
    in_child(|| {
        process::unshare(&[
            Namespace::User,
            Namespace::Mount,
            Namespace::Pid,
            Namespace::Network,
            Namespace::Ipc,
            Namespace::Uts,
            Namespace::Cgroup,
        ])
        .map_err(|e| errno(&e))
    })
}

/// Tries a redirect table in a network namespace of its own.
///
/// Must be called while the process has one thread.
///
/// # Errors
/// With the kernel's answer, if the namespace, the table or the redirect cannot be made.
pub fn redirect() -> Probe {
    in_child(|| {
        process::unshare(&[Namespace::User, Namespace::Network]).map_err(|e| errno(&e))?;
        crate::net::bring_up_loopback().map_err(|e| errno(&e))?;
        crate::net::redirect_all_tcp(1).map_err(|e| errno(&e))
    })
}

/// Tries to hold first packets of connections in a network namespace of its own.
///
/// Must be called while the process has one thread.
///
/// # Errors
/// With the kernel's answer, if the namespace, the queue or the rules cannot be made.
pub fn hold() -> Probe {
    in_child(|| {
        process::unshare(&[Namespace::User, Namespace::Network]).map_err(|e| errno(&e))?;
        crate::net::bring_up_loopback().map_err(|e| errno(&e))?;
        let _queue = crate::net::HeldConnections::open().map_err(|e| errno(&e))?;
        crate::net::hold_all_tcp(&[]).map_err(|e| errno(&e))
    })
}

/// Tries to load a filter with a listener.
///
/// Must be called while the process has one thread.
///
/// # Errors
/// With the kernel's answer, if it refuses filters or their listeners.
pub fn notifier() -> Probe {
    in_child(|| {
        crate::capability::set_no_new_privileges().map_err(|e| errno(&e))?;
        let filter = crate::seccomp::Filter::assemble(&[], crate::seccomp::Action::Allow)
            .map_err(|e| errno(&e))?;
        filter.load_with_listener().map(drop).map_err(|e| errno(&e))
    })
}

/// Kernel release, for example `6.18.44`.
pub fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// Reads a one-line file below `/proc/sys`, trimmed; `None` if it does not exist.
pub fn sysctl(name: &str) -> Option<String> {
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    fs::read_to_string(path)
        .ok()
        .map(|text| text.trim().to_owned())
}
