//! Capabilities: these functions only drop them.

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::{Outcome, SysError};

/// Highest capability number that could exist (`cap_valid`, linux/capability.h uses 64 bits).
const CAPABILITY_MAX: u32 = 63;

/// Empties the bounding, ambient, inheritable, permitted and effective sets of the calling thread.
///
/// # Errors
/// When the kernel refuses; the thread may then still hold some of its capabilities.
pub fn drop_all() -> Outcome<()> {
    for number in 0..=CAPABILITY_MAX {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::capability_is_in_bounding_set(capability) {
            // Numbers above the kernel's last capability give EINVAL, so none is left to drop.
            Err(rustix::io::Errno::INVAL) => break,
            Err(errno) => return Err(SysError::on("read bounding set", number, errno)),
            Ok(false) => {}
            Ok(true) => rustix::thread::remove_capability_from_bounding_set(capability)
                .map_err(|e| SysError::on("drop from bounding set", number, e))?,
        }
    }
    rustix::thread::clear_ambient_capability_set()
        .map_err(|e| SysError::new("clear ambient capabilities", e))?;
    let empty = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: empty,
        permitted: empty,
        inheritable: empty,
    };
    rustix::thread::set_capabilities(None, sets).map_err(|e| SysError::new("capset", e))
}

/// Returns whether the calling thread has no capability left, permitted or effective.
///
/// # Errors
/// When the kernel refuses.
pub fn effective_is_empty() -> Outcome<bool> {
    let sets = rustix::thread::capabilities(None).map_err(|e| SysError::new("capget", e))?;
    Ok(sets.effective.is_empty() && sets.permitted.is_empty())
}

/// Runs `change`, which gives up user 0, without losing the capabilities that later steps of a
/// launch need to give up themselves (`SECBIT_KEEP_CAPS`, capabilities(7)).
///
/// # Errors
/// When `change` fails or the kernel refuses.
pub fn keep_across_identity(change: impl FnOnce() -> Outcome<()>) -> Outcome<()> {
    rustix::thread::set_keep_capabilities(true)
        .map_err(|e| SysError::new("prctl(PR_SET_KEEPCAPS)", e))?;
    change()?;
    let mut sets = rustix::thread::capabilities(None).map_err(|e| SysError::new("capget", e))?;
    sets.effective = sets.permitted;
    rustix::thread::set_capabilities(None, sets).map_err(|e| SysError::new("capset", e))?;
    rustix::thread::set_keep_capabilities(false)
        .map_err(|e| SysError::new("prctl(PR_SET_KEEPCAPS)", e))
}

/// Forbids the calling thread and its descendants to gain privileges by `execve` (no_new_privs,
/// prctl(2)).
///
/// # Errors
/// When the kernel refuses.
pub fn set_no_new_privileges() -> Outcome<()> {
    rustix::thread::set_no_new_privs(true).map_err(|e| SysError::new("set no_new_privs", e))?;
    match rustix::thread::no_new_privs() {
        Ok(true) => Ok(()),
        Ok(false) => Err(SysError::new(
            "read back no_new_privs",
            std::io::Error::other("it is not set"),
        )),
        Err(errno) => Err(SysError::new("read back no_new_privs", errno)),
    }
}
