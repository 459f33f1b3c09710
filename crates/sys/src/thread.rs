//! One thread acts on files with another user's identity while the rest of the process keeps its
//! own.

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::{Outcome, SysError};

/// The capabilities that override owners and modes of files (`CAP_FS_MASK`, linux/capability.h).
const FILE_CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::LINUX_IMMUTABLE)
    .union(CapabilitySet::MAC_OVERRIDE);
/// The other capabilities that such a thread keeps: it inspects processes, ends them, and starts
/// threads that take an identity in turn. It drops all others for good, because a file that it
/// opens remembers them, and the content of the file can depend on that (`f_cred`: frames in
/// `/proc/PID/pagemap`, addresses in `/proc/kallsyms`); quotas and the blocks reserved for root
/// depend on `CAP_SYS_RESOURCE` too.
const KEPT_CAPABILITIES: CapabilitySet = CapabilitySet::SYS_PTRACE
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID);

/// The user and group with whose identity the calling thread acts on files.
///
/// The kernel applies owners, modes and quotas for this identity to every path and every file, and
/// grants it none of the capabilities that override them (setfsuid(2), capabilities(7)). Only the
/// thread that made the value has the identity: the value can be neither sent nor shared.
#[derive(Debug)]
pub struct FileIdentity {
    /// The identity to change to and back from; nothing if it is the thread's own.
    switch: Option<Switch>,
    thread_bound: std::marker::PhantomData<*const ()>,
}

/// How a thread changes to the identity and back.
#[derive(Clone, Copy, Debug)]
enum Switch {
    /// To another user: the change makes the kernel drop file capabilities (capabilities(7)).
    User { uid: u32, own_uid: u32 },
    /// To the same user, who is root, without file capabilities.
    Capabilities {
        own: CapabilitySet,
        left: CapabilitySet,
    },
}

impl FileIdentity {
    /// Prepares the calling thread to act as `uid` and `gid`, and gives it a working directory and
    /// a file mode creation mask of its own.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn prepare(uid: u32, gid: u32) -> Outcome<Self> {
        // SAFETY: CLONE_FS gives this thread a copy of what it shares with others; it takes no
        // pointer, and nothing in this process counts on the sharing.
        if unsafe { libc::unshare(libc::CLONE_FS) } != 0 {
            return Err(SysError::last("unshare(CLONE_FS)"));
        }
        let own_uid = rustix::process::geteuid().as_raw();
        if own_uid != 0 {
            if own_uid != uid {
                return Err(SysError::on(
                    "act as user",
                    uid,
                    std::io::ErrorKind::PermissionDenied,
                ));
            }
            return Ok(Self::new(None));
        }
        clear_thread_groups()?;
        set_thread_file_id(libc::SYS_setfsgid, "setfsgid", gid)?;
        keep_thread_capabilities(FILE_CAPABILITIES.union(KEPT_CAPABILITIES))?;
        let switch = if uid == 0 {
            let own = thread_capabilities()?.effective;
            Switch::Capabilities {
                own,
                left: own.difference(FILE_CAPABILITIES),
            }
        } else {
            Switch::User { uid, own_uid }
        };
        Ok(Self::new(Some(switch)))
    }

    const fn new(switch: Option<Switch>) -> Self {
        Self {
            switch,
            thread_bound: std::marker::PhantomData,
        }
    }

    /// Does `work` with this identity.
    ///
    /// # Errors
    /// When the kernel refuses the change; then `work` was not run.
    pub fn act<T>(&self, work: impl FnOnce() -> T) -> Outcome<T> {
        match self.switch {
            None => Ok(work()),
            Some(Switch::User { uid, own_uid }) => {
                set_thread_file_id(libc::SYS_setfsuid, "setfsuid", uid)?;
                let done = work();
                set_thread_file_id(libc::SYS_setfsuid, "setfsuid", own_uid)?;
                Ok(done)
            }
            Some(Switch::Capabilities { own, left }) => {
                set_effective(left)?;
                let done = work();
                set_effective(own)?;
                Ok(done)
            }
        }
    }
}

/// Drops supplementary groups of the calling thread alone; the C library would do it for all
/// threads.
fn clear_thread_groups() -> Outcome<()> {
    // SAFETY: setgroups with a length of zero reads no memory.
    let result = unsafe { libc::syscall(libc::SYS_setgroups, 0_usize, std::ptr::null::<u32>()) };
    if result == 0 {
        Ok(())
    } else {
        Err(SysError::last("setgroups"))
    }
}

/// setfsuid(2) and setfsgid(2) report no failure: a second call, with an invalid id, returns the id
/// in force.
fn set_thread_file_id(call: libc::c_long, name: &'static str, id: u32) -> Outcome<()> {
    // SAFETY: the call takes one integer.
    unsafe { libc::syscall(call, id) };
    // SAFETY: as above; -1 is not a valid id, so nothing changes.
    let now = unsafe { libc::syscall(call, u32::MAX) };
    if now == libc::c_long::from(id) {
        Ok(())
    } else {
        Err(SysError::on(name, id, std::io::ErrorKind::PermissionDenied))
    }
}

fn keep_thread_capabilities(kept: CapabilitySet) -> Outcome<()> {
    let sets = thread_capabilities()?;
    set_thread_capabilities(CapabilitySets {
        effective: sets.effective.intersection(kept),
        permitted: sets.permitted.intersection(kept),
        inheritable: CapabilitySet::empty(),
    })
}

fn set_effective(effective: CapabilitySet) -> Outcome<()> {
    let sets = thread_capabilities()?;
    set_thread_capabilities(CapabilitySets { effective, ..sets })
}

/// Does `work` without the calling thread's capability to inspect processes that forbid it. A file
/// that is opened for another process then opens only if the owner of that process may open it.
///
/// # Errors
/// When the kernel refuses the change: either `work` was not run, or the capability did not come
/// back.
pub fn without_tracing<T>(work: impl FnOnce() -> T) -> Outcome<T> {
    let sets = thread_capabilities()?;
    if !sets.effective.contains(CapabilitySet::SYS_PTRACE) {
        return Ok(work());
    }
    set_thread_capabilities(CapabilitySets {
        effective: sets.effective.difference(CapabilitySet::SYS_PTRACE),
        ..sets
    })?;
    let done = work();
    set_thread_capabilities(sets)?;
    Ok(done)
}

fn thread_capabilities() -> Outcome<CapabilitySets> {
    rustix::thread::capabilities(None).map_err(|e| SysError::new("capget", e))
}

fn set_thread_capabilities(sets: CapabilitySets) -> Outcome<()> {
    rustix::thread::set_capabilities(None, sets).map_err(|e| SysError::new("capset", e))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, thread};

    use super::FileIdentity;

    #[test]
    fn needs_root_a_thread_acts_as_another_user_and_the_others_do_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let inner = dir.path().join("x");
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    let identity = FileIdentity::prepare(65534, 65534).unwrap();
                    let denied = identity.act(|| fs::write(&inner, "")).unwrap();
                    assert_eq!(denied.unwrap_err().raw_os_error(), Some(libc::EACCES));
                    fs::write(&inner, "ours").unwrap();
                })
                .join()
                .unwrap();
            scope
                .spawn(|| {
                    let identity = FileIdentity::prepare(0, 0).unwrap();
                    fs::set_permissions(&inner, fs::Permissions::from_mode(0o200)).unwrap();
                    let denied = identity.act(|| fs::read(&inner)).unwrap();
                    assert_eq!(denied.unwrap_err().raw_os_error(), Some(libc::EACCES));
                })
                .join()
                .unwrap();
        });
        assert_eq!(fs::read(&inner).unwrap(), b"ours");
    }

    #[test]
    fn a_mask_of_one_thread_is_not_that_of_the_others() {
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        rustix::process::umask(before);
        thread::spawn(|| {
            let (uid, gid) = crate::identity::own();
            FileIdentity::prepare(uid, gid).unwrap();
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o777));
        })
        .join()
        .unwrap();
        let after = rustix::process::umask(before);
        assert_eq!(after, before);
    }
}
