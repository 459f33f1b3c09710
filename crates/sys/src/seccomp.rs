//! System call filters: their rules, and how they are loaded (seccomp(2)).

mod program;
#[cfg(test)]
mod tests;

use std::os::fd::{FromRawFd, OwnedFd};

pub use program::Answered;

pub use crate::syscalls::{Processor, name, number};
use crate::{Outcome, SysError};

/// When a rule applies to a call of its number. The lower halves of arguments are compared, unless it
/// says otherwise.
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
    /// When the upper half of argument `index` has one of the bits of `mask`.
    AnyUpperBit {
        /// Argument, 0 to 5.
        index: u8,
        /// Bits.
        mask: u32,
    },
    /// When argument `index`, masked with `mask`, is one of `values`.
    OneOf {
        /// Argument, 0 to 5.
        index: u8,
        /// Bits that are compared.
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

/// What the kernel does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It executes the call.
    Allow,
    /// It fails with this error number.
    Fail(u16),
    /// It asks the supervisor.
    Notify,
    /// It ends the process with SIGSYS.
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

    /// "Function not implemented", after which callers use something else.
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
    /// What happens then.
    pub action: Action,
}

/// A filter program, ready to load.
#[derive(Clone, Debug)]
pub struct Filter(Vec<libc::sock_filter>);

impl Filter {
    /// Assembles `rules`; `otherwise` applies to a call that matches none of them. A call of a
    /// foreign architecture kills its process, and x32 numbers do not exist.
    ///
    /// If the answer to a call does not depend on its arguments, the program does not read them, so
    /// that the kernel runs it for that call only once, when it is loaded.
    ///
    /// # Errors
    /// When the program would be longer than the kernel takes.
    pub fn assemble(rules: &[Rule], otherwise: Action) -> Outcome<Self> {
        program::assemble(rules, otherwise).map(Self)
    }

    /// Returns what the kernel answers to a call of this number, by running the program as it
    /// would. Returns `None` for a program that [`Self::assemble`] does not make.
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

    /// Loads the filter and returns the descriptor on which the supervisor receives calls. Only
    /// fatal signals interrupt waiting callers, so that an answered call is not repeated.
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
