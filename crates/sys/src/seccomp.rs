//! System call filters: assembling and loading (seccomp(2)).

use std::os::fd::{FromRawFd, OwnedFd};

pub use crate::syscalls::{name, number};
use crate::{Outcome, SysError};

/// When a rule applies to a call of its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    Always,
    /// When the lower half of argument `index` has one of the bits of `mask`.
    AnyBit {
        /// Argument, 0 to 5.
        index: u8,
        /// Bits.
        mask: u32,
    },
    /// When the lower half of argument `index` is one of `values`.
    OneOf {
        /// Argument, 0 to 5.
        index: u8,
        /// Values.
        values: Vec<u32>,
    },
    /// When the lower half of argument `index` is none of `values`.
    NoneOf {
        /// Argument, 0 to 5.
        index: u8,
        /// Values.
        values: Vec<u32>,
    },
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It fails with this error number.
    Fail(u16),
    /// The supervisor is asked.
    Notify,
}

impl Action {
    /// "Operation not permitted".
    pub const fn not_permitted() -> Self {
        Self::Fail(1)
    }

    /// "Function not implemented", on which callers fall back to something else.
    pub const fn not_implemented() -> Self {
        Self::Fail(38)
    }

    /// "Address family not supported by protocol".
    pub const fn no_family() -> Self {
        Self::Fail(97)
    }
}

const _: () = assert!(libc::EPERM == 1 && libc::ENOSYS == 38 && libc::EAFNOSUPPORT == 97);

/// One rule; the first that applies decides, and a call without one is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// System call number of the native architecture.
    pub number: u32,
    /// When it applies.
    pub condition: Condition,
    /// What happens.
    pub action: Action,
}

#[cfg(target_arch = "x86_64")]
const NATIVE_ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const NATIVE_ARCHITECTURE: u32 = 0xC000_00B7;
/// First number of the x32 interface, which would pass every rule about native numbers.
const X32_FIRST: u32 = 0x4000_0000;

const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const JUMP_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;
const RETURN_ALLOW: u32 = 0x7FFF_0000;
const RETURN_ERRNO: u32 = 0x0005_0000;
const RETURN_NOTIFY: u32 = 0x7FC0_0000;
const RETURN_KILL_PROCESS: u32 = 0x8000_0000;

const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

/// Most instructions of a filter (BPF_MAXINSNS).
const INSTRUCTIONS_MAX: usize = 4096;

/// A filter program, ready to load.
#[derive(Clone, Debug)]
pub struct Filter(Vec<libc::sock_filter>);

fn instruction(code: u16, k: u32, jump_true: u8, jump_false: u8) -> libc::sock_filter {
    libc::sock_filter {
        code,
        jt: jump_true,
        jf: jump_false,
        k,
    }
}

impl Filter {
    /// Assembles `rules`: foreign architectures are killed, x32 numbers do not exist.
    ///
    /// # Errors
    /// When the program would be longer than the kernel takes.
    pub fn assemble(rules: &[Rule]) -> Outcome<Self> {
        let mut program = vec![
            instruction(LOAD_WORD, OFFSET_ARCHITECTURE, 0, 0),
            instruction(JUMP_EQUAL, NATIVE_ARCHITECTURE, 1, 0),
            instruction(RETURN, RETURN_KILL_PROCESS, 0, 0),
            instruction(LOAD_WORD, OFFSET_NUMBER, 0, 0),
        ];
        if cfg!(target_arch = "x86_64") {
            program.push(instruction(JUMP_GREATER_EQUAL, X32_FIRST, 0, 1));
            program.push(instruction(
                RETURN,
                RETURN_ERRNO | errno_bits(libc::ENOSYS),
                0,
                0,
            ));
        }
        for rule in rules {
            program.extend(block(rule)?);
        }
        program.push(instruction(RETURN, RETURN_ALLOW, 0, 0));
        if program.len() > INSTRUCTIONS_MAX {
            return Err(too_long());
        }
        Ok(Self(program))
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
        let length = u16::try_from(self.0.len()).map_err(|_| too_long())?;
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

fn too_long() -> SysError {
    SysError::new(
        "assemble filter",
        std::io::Error::other("more instructions than the kernel takes"),
    )
}

fn errno_bits(errno: i32) -> u32 {
    u32::try_from(errno).unwrap_or(1) & 0xFFFF
}

/// One rule as instructions; enters and leaves with the call number in the accumulator.
fn block(rule: &Rule) -> Outcome<Vec<libc::sock_filter>> {
    let verdict = match rule.action {
        Action::Fail(errno) => RETURN_ERRNO | u32::from(errno),
        Action::Notify => RETURN_NOTIFY,
    };
    let argument = |index: u8| OFFSET_ARGUMENTS + 8 * u32::from(index.min(5));
    let body = match &rule.condition {
        Condition::Always => vec![instruction(RETURN, verdict, 0, 0)],
        Condition::AnyBit { index, mask } => vec![
            instruction(LOAD_WORD, argument(*index), 0, 0),
            instruction(JUMP_BITS, *mask, 0, 1),
            instruction(RETURN, verdict, 0, 0),
            instruction(LOAD_WORD, OFFSET_NUMBER, 0, 0),
        ],
        Condition::OneOf { index, values } => membership(argument(*index), values, verdict, true)?,
        Condition::NoneOf { index, values } => {
            membership(argument(*index), values, verdict, false)?
        }
    };
    let skip = u8::try_from(body.len()).map_err(|_| too_long())?;
    let mut block = vec![instruction(JUMP_EQUAL, rule.number, 0, skip)];
    block.extend(body);
    Ok(block)
}

/// `values` tested one by one; `member` says whether a hit or a miss gets the verdict.
fn membership(
    offset: u32,
    values: &[u32],
    verdict: u32,
    member: bool,
) -> Outcome<Vec<libc::sock_filter>> {
    let mut body = vec![instruction(LOAD_WORD, offset, 0, 0)];
    for (index, value) in values.iter().enumerate() {
        let rest = u8::try_from(values.len() - index - 1).map_err(|_| too_long())?;
        // Layout after the tests: [miss] [hit]; each returns or reloads the number.
        body.push(instruction(JUMP_EQUAL, *value, rest + 2, 0));
    }
    let decide = instruction(RETURN, verdict, 0, 0);
    let reload = instruction(LOAD_WORD, OFFSET_NUMBER, 0, 0);
    // A miss falls through to here; it either decides or leaves by the reload below the hit.
    if member {
        body.extend([reload, instruction(0x05, 1, 0, 0), decide]);
    } else {
        body.extend([decide, decide, reload]);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::{Action, Condition, Filter, Rule};

    /// Interprets a filter as the kernel would, for one call.
    fn run(filter: &Filter, architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut accumulator = 0_u32;
        let mut at = 0_usize;
        loop {
            let op = filter.0[at];
            at += 1;
            match op.code {
                super::LOAD_WORD => {
                    accumulator = match op.k {
                        0 => number,
                        4 => architecture,
                        k => {
                            u32::try_from(arguments[((k - 16) / 8) as usize] & 0xFFFF_FFFF).unwrap()
                        }
                    }
                }
                super::RETURN => return op.k,
                0x05 => at += op.k as usize,
                code => {
                    let hit = match code {
                        super::JUMP_EQUAL => accumulator == op.k,
                        super::JUMP_GREATER_EQUAL => accumulator >= op.k,
                        super::JUMP_BITS => accumulator & op.k != 0,
                        other => panic!("unknown instruction {other:#x}"),
                    };
                    at += usize::from(if hit { op.jt } else { op.jf });
                }
            }
        }
    }

    fn call(filter: &Filter, number: u32, first: u64) -> u32 {
        run(
            filter,
            super::NATIVE_ARCHITECTURE,
            number,
            [first, 0, 0, 0, 0, 0],
        )
    }

    #[test]
    fn rules_mean_what_they_say() {
        let rule = |number, condition, action| Rule {
            number,
            condition,
            action,
        };
        let filter = Filter::assemble(&[
            rule(10, Condition::Always, Action::Fail(1)),
            rule(
                11,
                Condition::AnyBit {
                    index: 0,
                    mask: 0b110,
                },
                Action::Fail(2),
            ),
            rule(11, Condition::Always, Action::Notify),
            rule(
                12,
                Condition::OneOf {
                    index: 0,
                    values: vec![5, 7],
                },
                Action::Fail(3),
            ),
            rule(
                13,
                Condition::NoneOf {
                    index: 0,
                    values: vec![1, 2],
                },
                Action::Fail(4),
            ),
            rule(14, Condition::Always, Action::Fail(5)),
        ])
        .unwrap();
        assert_eq!(call(&filter, 9, 0), super::RETURN_ALLOW);
        assert_eq!(call(&filter, 10, 0), super::RETURN_ERRNO | 1);
        assert_eq!(call(&filter, 11, 2), super::RETURN_ERRNO | 2);
        assert_eq!(call(&filter, 11, 1), super::RETURN_NOTIFY);
        for (value, expected) in [
            (5, super::RETURN_ERRNO | 3),
            (7, super::RETURN_ERRNO | 3),
            (6, super::RETURN_ALLOW),
        ] {
            assert_eq!(call(&filter, 12, value), expected, "{value}");
        }
        for (value, expected) in [
            (1, super::RETURN_ALLOW),
            (2, super::RETURN_ALLOW),
            (3, super::RETURN_ERRNO | 4),
        ] {
            assert_eq!(call(&filter, 13, value), expected, "{value}");
        }
        // The blocks of 12 and 13 leave with the call number loaded again.
        assert_eq!(call(&filter, 14, 0), super::RETURN_ERRNO | 5);
        // Only the lower half of an argument counts, as the kernel's own ioctl and open see it.
        assert_eq!(
            call(&filter, 12, 0xFFFF_FFFF_0000_0005),
            super::RETURN_ERRNO | 3
        );
    }

    #[test]
    fn other_entries_are_closed() {
        let filter = Filter::assemble(&[]).unwrap();
        assert_eq!(
            run(&filter, 0x4000_0003, 1, [0; 6]),
            super::RETURN_KILL_PROCESS
        );
        if cfg!(target_arch = "x86_64") {
            assert_ne!(call(&filter, 0x4000_0000 + 59, 0), super::RETURN_ALLOW);
        }
    }
}
