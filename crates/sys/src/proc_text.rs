//! The texts of `/proc` (proc(5)) that tell of a process: read from bytes, by functions that touch
//! nothing.
//!
//! Programs choose some of these bytes: their names, arguments, variables and mount points. What is
//! not as the manual says is an error, and never a value.

use std::{ffi::OsString, io, os::unix::ffi::OsStringExt, path::PathBuf, str::FromStr};

/// A text that is not what proc(5) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` of a process has another form than proc(5) says")]
pub struct Malformed(&'static str);

impl From<Malformed> for io::Error {
    fn from(malformed: Malformed) -> Self {
        Self::other(malformed)
    }
}

/// What is read of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its state, as a letter.
    pub state: u8,
    /// Its parent.
    pub parent: u32,
    /// Device number of the terminal that controls it; zero without one.
    pub terminal: u64,
    /// When it started, in clock ticks since the machine did.
    pub start: u64,
    /// Address where its stack begins.
    pub stack: u64,
}

/// Reads the beginning of `/proc/PID/stat`, as far as field 28. The name in field 2 may contain
/// anything, so the fields are counted from the last closing parenthesis: none comes after it.
///
/// # Errors
/// When a field is missing or no number.
pub fn stat(text: &[u8]) -> Result<Stat, Malformed> {
    const WRONG: Malformed = Malformed("stat");
    let name = text.iter().rposition(|byte| *byte == b')').ok_or(WRONG)?;
    let rest = text.get(name + 1..).ok_or(WRONG)?;
    let mut fields = words(rest);
    let state = match fields.next() {
        Some([state]) => *state,
        Some(_) | None => return Err(WRONG),
    };
    let parent = fields.next().and_then(number).ok_or(WRONG)?;
    let terminal: i64 = fields.nth(2).and_then(number).ok_or(WRONG)?;
    let start = fields.nth(14).and_then(number).ok_or(WRONG)?;
    let stack = fields.nth(5).and_then(number).ok_or(WRONG)?;
    Ok(Stat {
        state,
        parent,
        terminal: u64::try_from(terminal).map_err(|_| WRONG)?,
        start,
        stack,
    })
}

/// The text of `/proc/PID/status`: a line for each field.
#[derive(Clone, Copy, Debug)]
pub struct Status<'t>(&'t [u8]);

impl<'t> Status<'t> {
    /// Takes the text.
    pub const fn new(text: &'t [u8]) -> Self {
        Self(text)
    }

    /// Returns the process that the thread is of (`Tgid`).
    ///
    /// # Errors
    /// When there is no such number.
    pub fn process(self) -> Result<u32, Malformed> {
        self.number(b"Tgid:")
    }

    /// Returns the file mode creation mask (`Umask`).
    ///
    /// # Errors
    /// When there is no such number.
    pub fn mask(self) -> Result<u32, Malformed> {
        self.radix(b"Umask:", 8)
            .and_then(|mask| u32::try_from(mask).map_err(|_| Malformed("status")))
    }

    /// Returns the thread that traces this one (`TracerPid`); zero where none does.
    ///
    /// # Errors
    /// When there is no such number.
    pub fn tracer(self) -> Result<u32, Malformed> {
        self.number(b"TracerPid:")
    }

    /// Returns how many threads the process has (`Threads`).
    ///
    /// # Errors
    /// When there is no such number.
    pub fn threads(self) -> Result<u32, Malformed> {
        self.number(b"Threads:")
    }

    /// Returns a size of the memory of the process, in bytes (`VmRSS`, `VmHWM`); a process that has ended
    /// has none.
    ///
    /// # Errors
    /// When there is no such number.
    pub fn memory(self, field: &[u8]) -> Result<u64, Malformed> {
        let kilobytes = self.field(field)?.strip_suffix(b" kB");
        let kilobytes: Option<u64> = kilobytes.and_then(|text| number(text.trim_ascii()));
        let bytes = kilobytes.and_then(|kilobytes| kilobytes.checked_mul(1024));
        bytes.ok_or(Malformed("status"))
    }

    /// Returns how many descriptors the table of the process has room for (`FDSize`).
    ///
    /// # Errors
    /// When there is no such number.
    pub fn descriptor_slots(self) -> Result<u32, Malformed> {
        self.number(b"FDSize:")
    }

    /// Returns the ids of the thread, that in the reader's namespace first (`NSpid`).
    ///
    /// # Errors
    /// When there is no such list.
    pub fn thread_ids(self) -> Result<Vec<i32>, Malformed> {
        self.numbers(b"NSpid:")
    }

    /// Returns the ids of the process, that in the reader's namespace first (`NStgid`).
    ///
    /// # Errors
    /// When there is no such list.
    pub fn process_ids(self) -> Result<Vec<i32>, Malformed> {
        self.numbers(b"NStgid:")
    }

    /// Returns a set of signals, the first one in the lowest bit (`SigPnd`, `ShdPnd`, `SigBlk`,
    /// `SigCgt`).
    ///
    /// # Errors
    /// When there is no such set.
    pub fn signals(self, field: &[u8]) -> Result<u64, Malformed> {
        self.radix(field, 16)
    }

    /// Returns what stands behind the name of a field, which exactly one line begins with: line ends
    /// in the name of a thread are written as `\n`.
    fn field(self, name: &[u8]) -> Result<&'t [u8], Malformed> {
        let mut found = lines(self.0).filter_map(|line| line.strip_prefix(name));
        match (found.next(), found.next()) {
            (Some(value), None) => Ok(value.trim_ascii()),
            (None | Some(_), _) => Err(Malformed("status")),
        }
    }

    fn number(self, name: &[u8]) -> Result<u32, Malformed> {
        number(self.field(name)?).ok_or(Malformed("status"))
    }

    fn radix(self, name: &[u8], radix: u32) -> Result<u64, Malformed> {
        let text = std::str::from_utf8(self.field(name)?);
        let digits = text.ok().filter(|text| !text.starts_with(['+', '-']));
        digits
            .and_then(|digits| u64::from_str_radix(digits, radix).ok())
            .ok_or(Malformed("status"))
    }

    fn numbers(self, name: &[u8]) -> Result<Vec<i32>, Malformed> {
        let all: Option<Vec<i32>> = words(self.field(name)?).map(number).collect();
        all.filter(|ids| !ids.is_empty()).ok_or(Malformed("status"))
    }
}

/// Reads a soft limit in `/proc/PID/limits` by its name (`Max open files`); the largest number where
/// there is none.
///
/// # Errors
/// When there is no such line, or no number in it.
pub fn soft_limit(text: &[u8], name: &[u8]) -> Result<u64, Malformed> {
    const WRONG: Malformed = Malformed("limits");
    let line = lines(text).find_map(|line| line.strip_prefix(name));
    match words(line.ok_or(WRONG)?).next() {
        Some(b"unlimited") => Ok(u64::MAX),
        Some(text) => number(text).ok_or(WRONG),
        None => Err(WRONG),
    }
}

/// Reads which bytes were read and written, in `/proc/PID/task/TID/io` (`rchar`, `wchar`).
///
/// # Errors
/// When one of the two is missing or no number.
pub fn bytes_moved(text: &[u8]) -> Result<(u64, u64), Malformed> {
    let field = |name: &[u8]| {
        let line = lines(text).find_map(|line| line.strip_prefix(name));
        line.and_then(|value| number(value.trim_ascii()))
    };
    let both = field(b"rchar:").zip(field(b"wchar:"));
    both.ok_or(Malformed("io"))
}

/// Reads `/proc/PID/task/TID/children`.
///
/// # Errors
/// When something in it is no process id.
pub fn children(text: &[u8]) -> Result<Vec<u32>, Malformed> {
    let all: Option<Vec<u32>> = words(text).map(number).collect();
    all.ok_or(Malformed("children"))
}

/// Takes `/proc/PID/cmdline` apart; a process without arguments has none, and an empty one is one.
pub fn arguments(text: &[u8]) -> Vec<&[u8]> {
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    if text.is_empty() {
        return Vec::new();
    }
    text.split(|byte| *byte == 0).collect()
}

/// Takes `/proc/PID/environ` apart. What has no `=` is no variable: no program gets it by a name
/// (getenv(3)).
pub fn variables(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    text.split(|byte| *byte == 0).filter_map(variable)
}

/// Splits `NAME=value`.
pub fn variable(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = entry.iter().position(|byte| *byte == b'=')?;
    Some((entry.get(..at)?, entry.get(at + 1..)?))
}

/// Reads the text of a link in `/proc/PID/fd` to a socket, `socket:[INODE]`; `None` where it leads to
/// something else.
pub fn socket_inode(link: &[u8]) -> Option<u32> {
    number(link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?)
}

/// One mount of `/proc/PID/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number, the same in every view of it.
    pub id: u64,
    /// `major:minor` of the file system.
    pub device: Vec<u8>,
    /// What of the file system is mounted.
    pub root: PathBuf,
    /// Where.
    pub at: PathBuf,
}

/// Reads `/proc/PID/mountinfo`.
///
/// # Errors
/// When a line is not `ID PARENT MAJOR:MINOR ROOT POINT …`.
pub fn mounts(text: &[u8]) -> Result<Vec<Mount>, Malformed> {
    let whole = lines(text).filter(|line| !line.is_empty());
    let all: Option<Vec<Mount>> = whole.map(mount).collect();
    all.ok_or(Malformed("mountinfo"))
}

/// Reads how a process ended that its parent has not waited for, as wait(2) tells it: field 52, the last
/// one, of `/proc/PID/stat`.
///
/// # Errors
/// When it is missing or no number.
pub fn exit_status(text: &[u8]) -> Result<i32, Malformed> {
    const WRONG: Malformed = Malformed("stat");
    let name = text.iter().rposition(|byte| *byte == b')').ok_or(WRONG)?;
    let mut fields = words(text.get(name + 1..).ok_or(WRONG)?);
    fields.nth(49).and_then(number).ok_or(WRONG)
}

fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let _parent: u64 = number(fields.next()?)?;
    let device = fields.next()?.to_vec();
    let root = unescaped(fields.next()?);
    let at = unescaped(fields.next()?);
    Some(Mount {
        id,
        device,
        root,
        at,
    })
}

/// Takes back `\040` and the like, which stand for blanks, line ends and backslashes.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = after
            .split_at_checked(3)
            .filter(|_| *first == b'\\')
            .and_then(|(digits, after)| {
                let digits = std::str::from_utf8(digits).ok()?;
                Some((u8::from_str_radix(digits, 8).ok()?, after))
            });
        let (byte, after) = code.unwrap_or((*first, after));
        bytes.push(byte);
        rest = after;
    }
    PathBuf::from(OsString::from_vec(bytes))
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let parts = text.split(u8::is_ascii_whitespace);
    parts.filter(|part| !part.is_empty())
}

/// Reads a number as the kernel writes it: digits, and a minus where it can be negative.
fn number<N: FromStr>(text: &[u8]) -> Option<N> {
    let text = std::str::from_utf8(text).ok()?;
    let plain = text.starts_with(|first: char| first.is_ascii_digit() || first == '-');
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
