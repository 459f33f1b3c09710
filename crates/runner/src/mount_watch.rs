//! Notices when a mount of the session goes: somebody outside replaced the file below it.
//!
//! A mount holds a protected file that existed at the start. If the owner's editor or git replaces
//! that file by a rename, the kernel takes the mount away in every namespace. From then on the
//! change notifier alone holds the name, as it holds names that did not exist at the start.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io::{self, Read as _, Seek as _},
    os::{fd::AsFd, fd::BorrowedFd, unix::ffi::OsStringExt as _},
    path::PathBuf,
};

/// The mounts of one session.
#[derive(Debug)]
pub(crate) struct MountWatch {
    file: File,
    known: BTreeMap<u64, PathBuf>,
}

impl MountWatch {
    /// Reads the mounts of the namespace that process `pid` is in.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn new(pid: u32) -> io::Result<Self> {
        let mut file = File::open(format!("/proc/{pid}/mountinfo"))?;
        let known = read(&mut file)?;
        Ok(Self { file, known })
    }

    /// Returns the descriptor that has an exceptional condition when mounts have changed (proc(5),
    /// `/proc/PID/mounts`).
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Returns where mounts lay that have gone since the last call; nothing once the session ends.
    pub(crate) fn gone(&mut self) -> Vec<PathBuf> {
        let Ok(now) = read(&mut self.file) else {
            return Vec::new();
        };
        if now.is_empty() {
            return Vec::new();
        }
        let gone = self.known.iter().filter(|(id, _)| !now.contains_key(id));
        let gone = gone.map(|(_, path)| path.clone()).collect();
        self.known = now;
        gone
    }
}

fn read(file: &mut File) -> io::Result<BTreeMap<u64, PathBuf>> {
    let mut text = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut text)?;
    Ok(text
        .split(|byte| *byte == b'\n')
        .filter_map(mount)
        .collect())
}

/// Reads the id (field 1) and the mount point (field 5) of a line.
fn mount(line: &[u8]) -> Option<(u64, PathBuf)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    Some((id, unescape(fields.nth(3)?)))
}

/// Blanks, tabs, newlines and backslashes are written as three octal digits.
fn unescape(text: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match escaped.filter(|_| *byte == b'\\') {
            Some(value) => {
                path.push(value);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                path.push(*byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(path))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{MountWatch, mount};

    #[test]
    fn a_line_has_its_id_and_its_place() {
        let line = b"36 35 98:0 /mnt1 /mnt\\0402\\134x rw,noatime master:1 - ext3 /dev/root rw";
        let (id, path) = mount(line).unwrap();
        assert_eq!((id, path.as_path()), (36, Path::new("/mnt 2\\x")));
        assert_eq!(mount(b"x y"), None);
        assert_eq!(mount(b""), None);
    }

    #[test]
    fn nothing_goes_where_nothing_happens() {
        let mut watch = MountWatch::new(std::process::id()).unwrap();
        assert!(watch.known.values().any(|path| path == Path::new("/")));
        assert!(watch.gone().is_empty());
    }
}
