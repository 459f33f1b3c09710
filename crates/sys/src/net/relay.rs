//! Moving bytes between sockets inside the kernel (splice(2)).

use std::{io, os::fd::BorrowedFd};

use rustix::pipe::SpliceFlags;

/// Moves up to `bytes_max` bytes from `from` to `to`, one of which is a pipe, without waiting.
///
/// # Errors
/// `WouldBlock` when nothing can be moved now.
pub fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, bytes_max: usize) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    // SAFETY: rustix marks splice unsafe because of SPLICE_F_GIFT, which is not used.
    #[allow(unused_unsafe, reason = "whether rustix marks it unsafe depends on its version")]
    let moved = unsafe { rustix::pipe::splice(from, None, to, None, bytes_max, flags) }?;
    Ok(moved)
}
