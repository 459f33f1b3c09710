//! System call filters: rules, and loading them (seccomp(2)).

mod program;
#[cfg(test)]
mod tests;

use std::os::fd::{FromRawFd, OwnedFd};

pub use program::Answered;

pub use crate::syscalls::{Processor, name, number};
use crate::{Outcome, SysError};

/// When a rule applies to a call of its number. Compared are the lower halves of arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    Always,
    /// When argument `index` has one of the bits of `mask`.
    AnyBit {
        /// Argument, 0 to 5.
        index: u8,
        /// Bits.
        mask: u32,
    },
    /// When argument `index`, as far as `mask` shows it, is one of `values`.
    OneOf {
        /// Argument, 0 to 5.
        index: u8,
        /// Bits that count.
        mask: u32,
        /// Values.
        values: Vec<u32>,
    },
    /// When argument `index` is none of `values`.
    NoneOf {
        /// Argument, 0 to 5.
        index: u8,
        /// Values.
        values: Vec<u32>,
    },
    /// When each of these applies.
    All(Vec<Condition>),
}

impl Condition {
    /// The argument `index` is one of `values`.
    pub const fn one_of(index: u8, values: Vec<u32>) -> Self {
        Self::OneOf {
            index,
            mask: u32::MAX,
            values,
        }
    }
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The kernel does it.
    Allow,
    /// It fails with this error number.
    Fail(u16),
    /// The supervisor is asked.
    Notify,
    /// The process is ended with SIGSYS.
    Kill,
}

impl Action {
    /// "Operation not permitted".
    pub const fn not_permitted() -> Self {
        Self::Fail(1)
    }

    /// "Invalid argument".
    pub const fn invalid_argument() -> Self {
        Self::Fail(22)
    }

    /// "Inappropriate ioctl for device".
    pub const fn no_request() -> Self {
        Self::Fail(25)
    }

    /// "Function not implemented", on which callers fall back to something else.
    pub const fn not_implemented() -> Self {
        Self::Fail(38)
    }

    /// "Protocol not supported".
    pub const fn no_protocol() -> Self {
        Self::Fail(93)
    }

    /// "Address family not supported by protocol".
    pub const fn no_family() -> Self {
        Self::Fail(97)
    }
}

const _: () = assert!(
    libc::EPERM == 1
        && libc::EINVAL == 22
        && libc::ENOTTY == 25
        && libc::ENOSYS == 38
        && libc::EPROTONOSUPPORT == 93
        && libc::EAFNOSUPPORT == 97
);

/// One rule; the first that applies decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// System call number of the native architecture.
    pub number: u32,
    /// When it applies.
    pub condition: Condition,
    /// What happens.
    pub action: Action,
}

/// A filter program, ready to load.
#[derive(Clone, Debug)]
pub struct Filter(Vec<libc::sock_filter>);

impl Filter {
    /// Assembles `rules`; `otherwise` happens to a call that none of them applies to. Foreign
    /// architectures are killed, x32 numbers do not exist.
    ///
    /// Calls whose answer does not depend on their arguments are answered without a look at them,
    /// so that the kernel runs the program for them only once, when it is loaded.
    ///
    /// # Errors
    /// When the program would be longer than the kernel takes.
    pub fn assemble(rules: &[Rule], otherwise: Action) -> Outcome<Self> {
        program::assemble(rules, otherwise).map(Self)
    }

    /// Returns what the kernel answers to a call of this number, by running the program as it would.
    /// Returns `None` for a program that no rules make.
    pub fn answer(&self, number: u32, arguments: [u64; 6]) -> Option<Answered> {
        program::run(&self.0, number, arguments)
    }

    /// Loads the filter into the calling thread. `no_new_privs` must be set.
    ///
    /// # Errors
    /// When the kernel refuses the program.
    pub fn load(&self) -> Outcome<()> {
        self.install(0).map(|_| ())
    }

    /// Loads the filter and returns the descriptor on which the supervisor receives calls. Waiting
    /// callers can only be interrupted by fatal signals, so that an answered call is not repeated.
    ///
    /// # Errors
    /// EBUSY when the thread has a listener already, or as [`Self::load`].
    pub fn load_with_listener(&self) -> Outcome<OwnedFd> {
        let flags =
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
        let fd = self.install(flags)?;
        // SAFETY: with NEW_LISTENER the kernel returned a fresh descriptor to us alone.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    fn install(&self, flags: libc::c_ulong) -> Outcome<i32> {
        let length = u16::try_from(self.0.len()).map_err(|_| program::too_long())?;
        let program = libc::sock_fprog {
            len: length,
            filter: self.0.as_ptr().cast_mut(),
        };
        // SAFETY: `program` points to `length` initialised instructions, which the kernel copies
        // and does not write to.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const program,
            )
        };
        i32::try_from(result)
            .ok()
            .filter(|fd| *fd >= 0)
            .ok_or_else(|| SysError::last("seccomp(SET_MODE_FILTER)"))
    }
}
