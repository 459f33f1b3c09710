//! The mounts of a namespace as the kernel lists them (`/proc/PID/mountinfo`, proc(5)).

use std::{collections::HashSet, ffi::OsString, fs, io, os::unix::ffi::OsStringExt, path::PathBuf};

use rustix::io::Errno;

/// One mount.
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

/// The mounts that a session sees. They are fixed before its command starts.
#[derive(Debug)]
pub struct SessionMounts(HashSet<u64>);

impl SessionMounts {
    /// Reads the mounts of the namespace that thread `tid` is in.
    ///
    /// # Errors
    /// When it is gone or cannot be read.
    pub fn of(tid: u32) -> io::Result<Self> {
        let mounts = read(&format!("/proc/{tid}/mountinfo"))?;
        Ok(Self(mounts.into_iter().map(|mount| mount.id).collect()))
    }

    /// Refuses what does not lie in the session's view: nothing is done there in anybody's name,
    /// whatever led there. `None` is a mount that the kernel does not tell.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn require(&self, mount: Option<u64>) -> io::Result<()> {
        if mount.is_some_and(|id| self.0.contains(&id)) {
            Ok(())
        } else {
            Err(Errno::ACCESS.into())
        }
    }
}

/// Reads the list in a file of that kind.
///
/// # Errors
/// When it cannot be read or is not what proc(5) says.
pub fn read(path: &str) -> io::Result<Vec<Mount>> {
    fs::read(path).map(|text| parse(&text))
}

/// Reads each line; passes over what has another form.
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n')
        .filter_map(mount)
        .collect()
}

/// Reads `ID PARENT MAJOR:MINOR ROOT POINT …`.
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = fields.nth(1)?.to_vec();
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{mount, parse, unescaped};

    #[test]
    fn a_line_is_taken_apart() {
        let line = b"36 35 98:0 /mnt1 /mnt\\0402\\134x rw,noatime master:1 - ext3 /dev/root rw";
        let found = mount(line).unwrap();
        assert_eq!(
            (found.id, found.device.as_slice()),
            (36, b"98:0".as_slice())
        );
        assert_eq!(found.root, Path::new("/mnt1"));
        assert_eq!(found.at, Path::new("/mnt 2\\x"));
        assert_eq!(mount(b"x y"), None);
        assert!(parse(b"\n\n").is_empty());
        assert_eq!(unescaped(b"a\\09"), Path::new("a\\09"));
    }

    #[test]
    fn fuzz_mountinfo() {
        let target = stockade_fuzz::Target {
            name: "mountinfo",
            samples: vec![
                b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw\n37 36 0:5 / /proc rw - proc proc rw\n".to_vec(),
            ],
            words: &[b"\\040", b"\\777", b"\\1", b"\\", b" - ", b"\n", b"18446744073709551616"],
            tries: stockade_fuzz::TRIES,
        };
        stockade_fuzz::target(&target, |bytes| {
            let lines = bytes.split(|byte| *byte == b'\n').count();
            assert!(parse(bytes).len() <= lines);
        });
    }
}
