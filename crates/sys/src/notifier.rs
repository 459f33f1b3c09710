//! The supervisor's end of a filter's listener (seccomp_unotify(2)).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::process::Pid;

use crate::{Outcome, SysError};

/// A call that waits for the supervisor's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Cookie of this call.
    pub id: u64,
    /// Calling thread as seen in the supervisor's pid namespace.
    pub thread: Pid,
    /// System call number.
    pub number: u32,
    /// Raw arguments.
    pub arguments: [u64; 6],
}

impl Notification {
    /// Returns the id of the calling thread.
    pub fn tid(&self) -> u32 {
        self.thread.as_raw_nonzero().get().unsigned_abs()
    }
}

/// The supervisor's end of a listener.
#[derive(Debug)]
pub struct Notifier(OwnedFd);

const NOTIFY_RECEIVE: libc::c_ulong = 0xC050_2100;
const NOTIFY_SEND: libc::c_ulong = 0xC018_2101;
const NOTIFY_ID_VALID: libc::c_ulong = 0x4008_2102;
const NOTIFY_ADD_DESCRIPTOR: libc::c_ulong = 0x4018_2103;
const NOTIFY_SET_FLAGS: libc::c_ulong = 0x4008_2104;
/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`: wake the other side on this processor, not on another one.
const SYNCHRONOUS_WAKE_UP: u64 = 1;
/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`.
const CONTINUE: u32 = 1;
/// `SECCOMP_ADDFD_FLAG_SEND`: the new descriptor is the call's result, in one step.
const ADD_AND_ANSWER: u32 = 2;

const _: () = assert!(size_of::<libc::seccomp_notif>() == 0x50);
const _: () = assert!(size_of::<libc::seccomp_notif_resp>() == 0x18);
const _: () = assert!(size_of::<libc::seccomp_notif_addfd>() == 0x18);

impl Notifier {
    /// Wraps a listener; turns on synchronous wake-ups if the kernel has them (Linux 6.6).
    pub fn new(listener: OwnedFd) -> Self {
        // SAFETY: NOTIF_SET_FLAGS takes its value directly, no pointer.
        let _older_kernel =
            unsafe { libc::ioctl(listener.as_raw_fd(), NOTIFY_SET_FLAGS, SYNCHRONOUS_WAKE_UP) };
        Self(listener)
    }

    /// Waits for the next call; `None` when every filtered process has ended.
    ///
    /// # Errors
    /// When the listener fails for another reason.
    pub fn receive(&self) -> Outcome<Option<Notification>> {
        loop {
            if !self.wait()? {
                return Ok(None);
            }
            // SAFETY: an all-zero seccomp_notif is what the kernel asks for.
            let mut raw: libc::seccomp_notif = unsafe { std::mem::zeroed() };
            // SAFETY: `raw` is exclusively borrowed and has the size encoded in the request.
            let result = unsafe { libc::ioctl(self.0.as_raw_fd(), NOTIFY_RECEIVE, &raw mut raw) };
            if result != 0 {
                match std::io::Error::last_os_error().raw_os_error() {
                    // The caller died or was interrupted between poll and receive.
                    Some(libc::ENOENT | libc::EINTR) => continue,
                    _ => return Err(SysError::last("SECCOMP_IOCTL_NOTIF_RECV")),
                }
            }
            // A thread outside our pid namespace has id 0: it is not ours, and its call stays
            // unanswered.
            let thread = i32::try_from(raw.pid).ok().and_then(Pid::from_raw);
            let number = u32::try_from(raw.data.nr).ok();
            if let (Some(thread), Some(number)) = (thread, number) {
                let arguments = raw.data.args;
                return Ok(Some(Notification {
                    id: raw.id,
                    thread,
                    number,
                    arguments,
                }));
            }
        }
    }

    /// Waits until there is a call (`true`) or no process is left to make one (`false`).
    fn wait(&self) -> Outcome<bool> {
        use rustix::event::{PollFd, PollFlags};
        loop {
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            match rustix::event::poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(SysError::new("poll", errno)),
                Ok(_) => {
                    let flags = fds.first().map_or(PollFlags::empty(), PollFd::revents);
                    if flags.contains(PollFlags::IN) {
                        return Ok(true);
                    }
                    if flags.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Returns whether the caller still waits; if so, the memory that was read is really its own.
    pub fn is_waiting(&self, notification: &Notification) -> bool {
        let id = notification.id;
        // SAFETY: the request reads one u64, which `id` is.
        unsafe { libc::ioctl(self.0.as_raw_fd(), NOTIFY_ID_VALID, &raw const id) == 0 }
    }

    /// Lets the kernel execute the call.
    ///
    /// # Errors
    /// When the listener fails; a caller that died meanwhile is not an error.
    pub fn proceed(&self, notification: &Notification) -> Outcome<()> {
        self.respond(notification, 0, 0, CONTINUE)
    }

    /// Answers the call with `value`; the kernel does not execute it.
    ///
    /// # Errors
    /// As [`Self::proceed`].
    pub fn complete(&self, notification: &Notification, value: i64) -> Outcome<()> {
        self.respond(notification, value, 0, 0)
    }

    /// Gives the caller a copy of `descriptor` in the lowest free place of its table; the number of
    /// that place is the result of the call. If the caller has no place left, returns the error
    /// number, and the call still waits for an answer.
    ///
    /// # Errors
    /// As [`Self::proceed`].
    pub fn hand_over(
        &self,
        notification: &Notification,
        descriptor: BorrowedFd<'_>,
        close_on_exec: bool,
    ) -> Outcome<Result<(), i32>> {
        let request = libc::seccomp_notif_addfd {
            id: notification.id,
            flags: ADD_AND_ANSWER,
            srcfd: u32::try_from(descriptor.as_raw_fd()).unwrap_or(u32::MAX),
            newfd: 0,
            newfd_flags: if close_on_exec {
                u32::try_from(libc::O_CLOEXEC).unwrap_or_default()
            } else {
                0
            },
        };
        loop {
            // SAFETY: `request` is fully initialised and has the size encoded in the request.
            let result = unsafe {
                libc::ioctl(
                    self.0.as_raw_fd(),
                    NOTIFY_ADD_DESCRIPTOR,
                    &raw const request,
                )
            };
            if result >= 0 {
                return Ok(Ok(()));
            }
            match std::io::Error::last_os_error().raw_os_error() {
                // One of our signals came while the kernel waited for the caller to take the
                // descriptor.
                Some(libc::EINTR) => {}
                // The caller is gone.
                Some(libc::ENOENT | libc::EINPROGRESS) => return Ok(Ok(())),
                Some(errno @ (libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => {
                    return Ok(Err(errno));
                }
                _ => return Err(SysError::last("SECCOMP_IOCTL_NOTIF_ADDFD")),
            }
        }
    }

    /// Makes the call fail with `errno`.
    ///
    /// # Errors
    /// As [`Self::proceed`].
    pub fn refuse(&self, notification: &Notification, errno: i32) -> Outcome<()> {
        self.respond(notification, 0, -errno.abs(), 0)
    }

    fn respond(
        &self,
        notification: &Notification,
        value: i64,
        error: i32,
        flags: u32,
    ) -> Outcome<()> {
        let response = libc::seccomp_notif_resp {
            id: notification.id,
            val: value,
            error,
            flags,
        };
        loop {
            // SAFETY: `response` is fully initialised and has the size encoded in the request.
            let result = unsafe {
                libc::ioctl(self.0.as_fd().as_raw_fd(), NOTIFY_SEND, &raw const response)
            };
            if result == 0 {
                return Ok(());
            }
            match std::io::Error::last_os_error().raw_os_error() {
                // One of our signals came while the kernel waited for its lock.
                Some(libc::EINTR) => {}
                // The caller is gone.
                Some(libc::ENOENT) => return Ok(()),
                _ => return Err(SysError::last("SECCOMP_IOCTL_NOTIF_SEND")),
            }
        }
    }
}
