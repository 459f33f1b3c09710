//! User and group identity: these functions only reduce privileges.

use std::fs;

use rustix::process::DumpableBehavior;

use crate::{Outcome, SysError};

/// Becomes `uid` and `gid` for good, without supplementary groups, and stays inspectable by its
/// own user (a changed identity makes a process non-dumpable, and then its own `/proc/self` files
/// belong to root and its id maps could not be written).
///
/// # Errors
/// When the caller lacks the privilege.
pub fn become_user(uid: u32, gid: u32) -> Outcome<()> {
    // SAFETY: setgroups with a length of zero reads no memory.
    if unsafe { libc::setgroups(0, std::ptr::null()) } != 0 {
        return Err(SysError::last("setgroups"));
    }
    // SAFETY: setresgid takes three integers.
    if unsafe { libc::setresgid(gid, gid, gid) } != 0 {
        return Err(SysError::on(
            "setresgid",
            gid,
            std::io::Error::last_os_error(),
        ));
    }
    // SAFETY: setresuid takes three integers.
    if unsafe { libc::setresuid(uid, uid, uid) } != 0 {
        return Err(SysError::on(
            "setresuid",
            uid,
            std::io::Error::last_os_error(),
        ));
    }
    set_dumpable(DumpableBehavior::Dumpable)
}

/// Returns the effective user and group of the caller.
pub fn own() -> (u32, u32) {
    (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    )
}

/// Forbids other processes of the same user to inspect this one (prctl(2), `PR_SET_DUMPABLE`).
///
/// # Errors
/// When the kernel refuses.
pub fn forbid_inspection() -> Outcome<()> {
    set_dumpable(DumpableBehavior::NotDumpable)
}

fn set_dumpable(behaviour: DumpableBehavior) -> Outcome<()> {
    rustix::process::set_dumpable_behavior(behaviour)
        .map_err(|e| SysError::new("prctl(PR_SET_DUMPABLE)", e))
}

/// Maps the one user and group onto themselves in the caller's fresh user namespace, with
/// `setgroups` forbidden as user_namespaces(7) asks of unprivileged callers.
///
/// # Errors
/// When a map cannot be written.
pub fn map_self(uid: u32, gid: u32) -> Outcome<()> {
    let write = |path: &'static str, text: String| {
        fs::write(path, text).map_err(|e| SysError::on("write", path, e))
    };
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("{uid} {uid} 1\n"))?;
    write("/proc/self/gid_map", format!("{gid} {gid} 1\n"))
}
