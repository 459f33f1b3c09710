//! Pseudo-terminals.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::pty::OpenptFlags;

use crate::{Outcome, SysError};

/// Opens a new terminal of the devpts instance at `ptmx`; returns its master and then its slave.
///
/// # Errors
/// When the instance has no terminal left or `ptmx` is not one.
pub fn open(ptmx: &Path) -> Outcome<(OwnedFd, OwnedFd)> {
    let master = File::options()
        .read(true)
        .write(true)
        .open(ptmx)
        .map_err(|e| SysError::on("open", ptmx.display(), e))?;
    rustix::pty::unlockpt(&master).map_err(|e| SysError::new("unlockpt", e))?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)
        .map_err(|e| SysError::new("TIOCGPTPEER", e))?;
    Ok((master.into(), slave))
}

/// Starts a new session; with `terminal` it becomes the controlling terminal.
///
/// # Errors
/// When the caller leads a process group already or the terminal belongs to another session.
pub fn new_session(terminal: Option<BorrowedFd<'_>>) -> Outcome<()> {
    rustix::process::setsid().map_err(|e| SysError::new("setsid", e))?;
    if let Some(terminal) = terminal {
        rustix::process::ioctl_tiocsctty(terminal.as_fd())
            .map_err(|e| SysError::new("TIOCSCTTY", e))?;
    }
    Ok(())
}

/// Sets the size, rows and columns, of the terminal behind `master`.
///
/// # Errors
/// When it is not a terminal.
pub fn set_size(master: BorrowedFd<'_>, (rows, columns): (u16, u16)) -> Outcome<()> {
    let size = rustix::termios::Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(master, size).map_err(|e| SysError::new("TIOCSWINSZ", e))
}

/// Puts the calling process into its own group and, with a terminal, makes that group its
/// foreground group.
///
/// SIGTTOU is ignored from then on, until [`crate::process::reset_signals`]: the caller is in the
/// background when it asks.
///
/// # Errors
/// When the caller leads a session, or the terminal is not its controlling one.
pub fn foreground_group(terminal: Option<BorrowedFd<'_>>) -> Outcome<()> {
    rustix::process::setpgid(None, None).map_err(|e| SysError::new("setpgid", e))?;
    if let Some(terminal) = terminal {
        crate::process::ignore_background_output()?;
        rustix::termios::tcsetpgrp(terminal, rustix::process::getpid())
            .map_err(|e| SysError::new("tcsetpgrp", e))?;
    }
    Ok(())
}
