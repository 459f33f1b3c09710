//! Compiles rules to a program of the kernel's filter language (linux/filter.h).
//!
//! The assembler builds a program from its end, because every jump goes forward and needs to know
//! its target. The program finds the call number, and values of an argument, by bisection.

use std::collections::BTreeMap;

use super::{Action, Condition, Rule};
use crate::{Outcome, SysError};

#[cfg(target_arch = "x86_64")]
pub(super) const NATIVE_ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
pub(super) const NATIVE_ARCHITECTURE: u32 = 0xC000_00B7;
/// First number of the x32 interface, to which no rule about a native number applies.
pub(super) const X32_FIRST: u32 = 0x4000_0000;

pub(super) const LOAD_WORD: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_GREATER_EQUAL: u16 = 0x35;
pub(super) const JUMP_BITS: u16 = 0x45;
pub(super) const RETURN: u16 = 0x06;
pub(super) const RETURN_ALLOW: u32 = 0x7FFF_0000;
pub(super) const RETURN_ERRNO: u32 = 0x0005_0000;
pub(super) const RETURN_NOTIFY: u32 = 0x7FC0_0000;
pub(super) const RETURN_KILL_PROCESS: u32 = 0x8000_0000;

pub(super) const OFFSET_NUMBER: u32 = 0;
pub(super) const OFFSET_ARCHITECTURE: u32 = 4;
pub(super) const OFFSET_ARGUMENTS: u32 = 16;
/// Where the upper half of an argument is within it; only little-endian processors are supported.
const UPPER: u32 = 4;

/// Most instructions of a filter (BPF_MAXINSNS).
const INSTRUCTIONS_MAX: usize = 4096;
/// Longest jump of a test; the other branch may put one more instruction in between.
const JUMP_MAX: usize = 254;
/// Values compared one by one; up to this many, that takes no longer than bisection.
const LIST_MAX: usize = 3;

pub(super) fn too_long() -> SysError {
    SysError::new(
        "assemble filter",
        std::io::Error::other("more instructions than the kernel takes"),
    )
}

/// Returns the kernel's return value for `action`.
pub(super) fn verdict(action: Action) -> u32 {
    match action {
        Action::Allow => RETURN_ALLOW,
        Action::Fail(errno) => RETURN_ERRNO | u32::from(errno),
        Action::Notify => RETURN_NOTIFY,
        Action::Kill => RETURN_KILL_PROCESS,
    }
}

/// The answer to all calls from one number on, up to the next part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer<'a> {
    /// The same for all arguments.
    Fixed(u32),
    /// Decided by these rules, in this order.
    Rules(&'a [&'a Rule]),
}

/// Assembles the program; the rules of one number stay in their order.
///
/// # Errors
/// When it would be longer than the kernel takes.
pub(super) fn assemble(rules: &[Rule], otherwise: Action) -> Outcome<Vec<libc::sock_filter>> {
    let otherwise = verdict(otherwise);
    let mut by_number: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in rules.iter().filter(|rule| rule.number < X32_FIRST) {
        by_number.entry(rule.number).or_default().push(rule);
    }
    let mut parts = vec![(0, Answer::Fixed(otherwise))];
    for (number, rules) in &by_number {
        let answer = match rules.as_slice() {
            [first, ..] if first.condition == Condition::Always => {
                Answer::Fixed(verdict(first.action))
            }
            several => Answer::Rules(several),
        };
        part(&mut parts, *number, answer);
        part(&mut parts, number + 1, Answer::Fixed(otherwise));
    }
    let no_call = verdict(Action::not_implemented());
    part(&mut parts, X32_FIRST, Answer::Fixed(no_call));
    let mut assembler = Assembler::default();
    let mut starts = Vec::with_capacity(parts.len());
    for (number, answer) in parts {
        let place = match answer {
            Answer::Fixed(verdict) => Target::Return(verdict),
            Answer::Rules(rules) => Target::Place(assembler.rules(rules, otherwise)),
        };
        starts.push((number, place));
    }
    let first = assembler.bisect(&starts);
    assembler.lead_to(first);
    assembler.push(LOAD_WORD, OFFSET_NUMBER, 0, 0);
    assembler.push(RETURN, RETURN_KILL_PROCESS, 0, 0);
    assembler.push(JUMP_EQUAL, NATIVE_ARCHITECTURE, 1, 0);
    assembler.push(LOAD_WORD, OFFSET_ARCHITECTURE, 0, 0);
    assembler.finish()
}

/// Makes `what` apply from `from` on, which is no smaller than the start of any part so far.
fn part<T: PartialEq>(parts: &mut Vec<(u32, T)>, from: u32, what: T) {
    if parts.last().is_some_and(|(last, _)| *last == from) {
        parts.pop();
    }
    if parts.last().is_none_or(|(_, before)| *before != what) {
        parts.push((from, what));
    }
}

/// Number of instructions from this one to the end, both included.
type Place = usize;

/// The target of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Place(Place),
    Return(u32),
}

/// A program, built from its end.
#[derive(Default)]
struct Assembler {
    reversed: Vec<libc::sock_filter>,
    returns: BTreeMap<u32, Place>,
}

impl Assembler {
    /// Puts an instruction in front of all others.
    fn push(&mut self, code: u16, k: u32, jump_true: u8, jump_false: u8) -> Place {
        self.reversed.push(libc::sock_filter {
            code,
            jt: jump_true,
            jf: jump_false,
            k,
        });
        self.reversed.len()
    }

    /// Number of instructions that the next one would have to skip.
    fn distance(&self, place: Place) -> usize {
        self.reversed.len().saturating_sub(place)
    }

    /// Returns a place from which control reaches `target` and which a test can jump to.
    fn near(&mut self, target: Target) -> Place {
        let known = match target {
            Target::Place(place) => Some(place),
            Target::Return(verdict) => self.returns.get(&verdict).copied(),
        };
        match (known, target) {
            (Some(place), _) if self.distance(place) < JUMP_MAX => place,
            (_, Target::Return(verdict)) => {
                let place = self.push(RETURN, verdict, 0, 0);
                self.returns.insert(verdict, place);
                place
            }
            (_, Target::Place(place)) => {
                // `finish` refuses a program with a distance beyond the longest program.
                let skip = u32::try_from(self.distance(place)).unwrap_or(u32::MAX);
                self.push(JUMP, skip, 0, 0)
            }
        }
    }

    fn test(&mut self, code: u16, k: u32, yes: Target, no: Target) -> Place {
        let yes = self.near(yes);
        let no = self.near(no);
        let skip =
            |assembler: &Self, place| u8::try_from(assembler.distance(place)).unwrap_or(u8::MAX);
        let (yes, no) = (skip(self, yes), skip(self, no));
        self.push(code, k, yes, no)
    }

    /// Finds the part that contains the accumulator's value; `starts` begins with 0 and is sorted.
    fn bisect(&mut self, starts: &[(u32, Target)]) -> Target {
        let (lower, upper) = starts.split_at(starts.len() / 2);
        match (lower, upper) {
            (_, []) => Target::Return(RETURN_KILL_PROCESS),
            ([], [(_, only), ..]) => *only,
            (_, [(first, _), ..]) => {
                let upper = self.bisect(upper);
                let lower = self.bisect(lower);
                Target::Place(self.test(JUMP_GREATER_EQUAL, *first, upper, lower))
            }
        }
    }

    /// The rules of one number, in their order.
    fn rules(&mut self, rules: &[&Rule], otherwise: u32) -> Place {
        let mut next = Target::Return(otherwise);
        for rule in rules.iter().rev() {
            next = self.condition(&rule.condition, Target::Return(verdict(rule.action)), next);
        }
        self.near(next)
    }

    fn condition(&mut self, condition: &Condition, hit: Target, miss: Target) -> Target {
        match condition {
            Condition::Always => hit,
            Condition::AnyBit { index, mask } => {
                self.test(JUMP_BITS, *mask, hit, miss);
                self.load(*index)
            }
            Condition::AnyUpperBit { index, mask } => {
                self.test(JUMP_BITS, *mask, hit, miss);
                self.load_half(*index, UPPER)
            }
            Condition::OneOf {
                index,
                mask,
                values,
            } => {
                self.member(values, hit, miss);
                if *mask != u32::MAX {
                    self.push(AND, *mask, 0, 0);
                }
                self.load(*index)
            }
            Condition::NoneOf { index, values } => {
                self.member(values, miss, hit);
                self.load(*index)
            }
            Condition::All(conditions) => conditions
                .iter()
                .rev()
                .fold(hit, |next, one| self.condition(one, next, miss)),
        }
    }

    fn load(&mut self, argument: u8) -> Target {
        self.load_half(argument, 0)
    }

    /// Loads the half of an argument that begins `at` bytes behind its beginning.
    fn load_half(&mut self, argument: u8, at: u32) -> Target {
        let offset = OFFSET_ARGUMENTS + 8 * u32::from(argument.min(5)) + at;
        Target::Place(self.push(LOAD_WORD, offset, 0, 0))
    }

    /// Branches on whether the accumulator is one of `values`.
    fn member(&mut self, values: &[u32], hit: Target, miss: Target) {
        let mut values = values.to_vec();
        values.sort_unstable();
        values.dedup();
        if values.len() <= LIST_MAX {
            let mut next = miss;
            for value in values {
                next = Target::Place(self.test(JUMP_EQUAL, value, hit, next));
            }
            self.lead_to(next);
            return;
        }
        let mut starts = vec![(0, miss)];
        for value in values {
            part(&mut starts, value, hit);
            if let Some(after) = value.checked_add(1) {
                part(&mut starts, after, miss);
            }
        }
        let first = self.bisect(&starts);
        self.lead_to(first);
    }

    /// Makes the next instruction fall through to `target`.
    fn lead_to(&mut self, target: Target) {
        let place = self.near(target);
        if self.distance(place) > 0 {
            let skip = u32::try_from(self.distance(place)).unwrap_or(u32::MAX);
            self.push(JUMP, skip, 0, 0);
        }
    }

    fn finish(mut self) -> Outcome<Vec<libc::sock_filter>> {
        if self.reversed.len() > INSTRUCTIONS_MAX {
            return Err(too_long());
        }
        self.reversed.reverse();
        Ok(self.reversed)
    }
}

/// A filter's answer to one call, and its cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// What happens.
    pub action: Action,
    /// Instructions that the kernel runs for this answer.
    pub instructions: usize,
    /// Whether the program read arguments; if not, the kernel can cache the answer.
    pub looked_at_arguments: bool,
}

/// Runs a program as the kernel would for one call of the native interface; `None` if [`assemble`]
/// does not make such a program.
pub(super) fn run(
    program: &[libc::sock_filter],
    number: u32,
    arguments: [u64; 6],
) -> Option<Answered> {
    let (mut accumulator, mut looked_at_arguments) = (0_u32, false);
    let mut at = 0_usize;
    for instructions in 1..=program.len() {
        let op = program.get(at)?;
        at += 1;
        match op.code {
            LOAD_WORD => {
                accumulator = match op.k {
                    OFFSET_NUMBER => number,
                    OFFSET_ARCHITECTURE => NATIVE_ARCHITECTURE,
                    k => {
                        looked_at_arguments = true;
                        let at = k.checked_sub(OFFSET_ARGUMENTS)?;
                        let whole = arguments.get(usize::try_from(at / 8).ok()?)?;
                        let half = if at % 8 == UPPER { whole >> 32 } else { *whole };
                        u32::try_from(half & u64::from(u32::MAX)).ok()?
                    }
                }
            }
            AND => accumulator &= op.k,
            JUMP => at += usize::try_from(op.k).ok()?,
            RETURN => {
                return Some(Answered {
                    action: action(op.k)?,
                    instructions,
                    looked_at_arguments,
                });
            }
            code => {
                let hit = match code {
                    JUMP_EQUAL => accumulator == op.k,
                    JUMP_GREATER_EQUAL => accumulator >= op.k,
                    JUMP_BITS => accumulator & op.k != 0,
                    _ => return None,
                };
                at += usize::from(if hit { op.jt } else { op.jf });
            }
        }
    }
    None
}

fn action(verdict: u32) -> Option<Action> {
    match verdict {
        RETURN_ALLOW => Some(Action::Allow),
        RETURN_NOTIFY => Some(Action::Notify),
        RETURN_KILL_PROCESS => Some(Action::Kill),
        _ => {
            let errno = verdict.checked_sub(RETURN_ERRNO)?;
            u16::try_from(errno).ok().map(Action::Fail)
        }
    }
}
