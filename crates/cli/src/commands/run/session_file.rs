//! The file that a caller reads the session's id from.
//!
//! It appears as a whole, under its name, and nothing that lies there is followed or written into:
//! an earlier session may have left a link.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Write as _},
    os::fd::OwnedFd,
    path::Path,
};

use anyhow::{Context as _, bail};
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};
use stockade_types::{SessionId, ignored};

/// A file that can be put in place; dropped before that, it leaves nothing.
#[derive(Debug)]
pub(crate) struct SessionFile {
    directory: OwnedFd,
    name: OsString,
    temporary: OsString,
    file: File,
    placed: bool,
}

impl SessionFile {
    /// Prepares the file at `path`. What a session of `workspace` could have made a link is not
    /// followed.
    ///
    /// # Errors
    /// When it cannot be written, or something else than a file is there.
    pub(crate) fn prepare(path: &Path, workspace: &Path) -> anyhow::Result<Self> {
        let shown = || format!("cannot write the session file `{}`", path.display());
        let Some(name) = path.file_name() else {
            bail!("{}: name a file", shown());
        };
        let directory = open_parent(path, workspace).with_context(shown)?;
        match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Err(error) => return Err(io::Error::from(error)).with_context(shown),
            Ok(there) => match FileType::from_raw_mode(there.st_mode) {
                // Nobody reads the id of an earlier session meanwhile.
                FileType::RegularFile => {
                    rustix::fs::unlinkat(&directory, name, AtFlags::empty())
                        .map_err(io::Error::from)
                        .with_context(shown)?;
                }
                kind => bail!("{}: {} is there; name another file", shown(), what(kind)),
            },
        }
        let temporary = OsString::from(format!(".stockade-session-{}", std::process::id()));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        let open = || rustix::fs::openat(&directory, &temporary, flags, mode);
        let opened = open().or_else(|error| {
            // Left by a process of the same number that was killed.
            if error == Errno::EXIST {
                rustix::fs::unlinkat(&directory, &temporary, AtFlags::empty())?;
            }
            open()
        });
        let file = File::from(opened.map_err(io::Error::from).with_context(shown)?);
        Ok(Self {
            name: name.to_owned(),
            directory,
            temporary,
            file,
            placed: false,
        })
    }

    /// Writes the id and puts the file in place.
    ///
    /// # Errors
    /// When the disk is full, or something was put there meanwhile.
    pub(crate) fn place(mut self, session: &SessionId) -> anyhow::Result<()> {
        let wrong = "cannot write the session file";
        writeln!(self.file, "{session}").context(wrong)?;
        let directory = &self.directory;
        rustix::fs::renameat(directory, &self.temporary, directory, &self.name)
            .map_err(io::Error::from)
            .context(wrong)?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for SessionFile {
    fn drop(&mut self) {
        if !self.placed {
            // It may be gone.
            ignored(
                rustix::fs::unlinkat(&self.directory, &self.temporary, AtFlags::empty()),
                "it may be gone",
            );
        }
    }
}

/// Opens the directory of `path`; below the workspace, no link is followed.
fn open_parent(path: &Path, workspace: &Path) -> io::Result<OwnedFd> {
    let current = std::env::current_dir()?;
    let path = current.join(path);
    let parent = path.parent().unwrap_or(Path::new("/"));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let workspace = current.join(workspace).canonicalize()?;
    // The outermost name of the workspace: what comes behind it a session could have made.
    let is_workspace = |place: &&Path| place.canonicalize().is_ok_and(|real| real == workspace);
    let Some(top) = parent.ancestors().filter(is_workspace).last() else {
        return Ok(rustix::fs::open(parent, flags, Mode::empty())?);
    };
    let below = parent.strip_prefix(top).map_err(io::Error::other)?;
    let top = rustix::fs::openat(CWD, top, flags, Mode::empty())?;
    let below = if below.as_os_str().is_empty() {
        OsStr::new(".")
    } else {
        below.as_os_str()
    };
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    rustix::fs::openat2(top, below, flags, Mode::empty(), resolve).map_err(|error| match error {
        Errno::LOOP => io::Error::other("a directory on the way is a link in the workspace"),
        Errno::XDEV => io::Error::other("the way leads out of the workspace; write it out"),
        error => error.into(),
    })
}

fn what(kind: FileType) -> &'static str {
    match kind {
        FileType::Symlink => "a link",
        FileType::Directory => "a directory",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::RegularFile | FileType::Unknown => "something",
    }
}
