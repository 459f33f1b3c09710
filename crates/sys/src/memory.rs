//! Memory of another process: paths and argument vectors that a notified system call points to.

use rustix::process::Pid;

use crate::{Outcome, SysError};

/// Longest path that the kernel accepts, with its NUL byte (linux/limits.h).
pub const PATH_BYTES_MAX: usize = 4096;
/// Page size that reads are aligned to, so that a string before an unmapped page still reads.
const PAGE_BYTES: u64 = 4096;

/// Why a string of another process cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The kernel refused to read the memory.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// No NUL byte within the limit.
    #[error("a string is longer than {0} bytes")]
    TooLong(usize),
    /// More pointers than the limit.
    #[error("an argument vector has more than {0} entries")]
    TooMany(usize),
}

/// Reads up to `buffer.len()` bytes at `address` of `pid`; returns how many could be read.
///
/// # Errors
/// When nothing at all can be read there.
pub fn read(pid: Pid, address: u64, buffer: &mut [u8]) -> Outcome<usize> {
    let wrong = || SysError::new("process_vm_readv", std::io::Error::from_raw_os_error(libc::EFAULT));
    let remote_base = usize::try_from(address).map_err(|_| wrong())?;
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(remote_base),
        iov_len: buffer.len(),
    };
    // SAFETY: `local` describes the exclusively borrowed `buffer`, valid for its length; `remote`
    // is only interpreted in the other process, where the kernel checks it; both counts are 1.
    let read = unsafe {
        libc::process_vm_readv(pid.as_raw_nonzero().get(), &raw const local, 1, &raw const remote, 1, 0)
    };
    usize::try_from(read).map_err(|_| SysError::last("process_vm_readv"))
}

/// Reads the NUL-terminated string at `address`, without its NUL.
///
/// # Errors
/// When memory cannot be read or no NUL byte comes within `bytes_max`.
pub fn read_string(pid: Pid, address: u64, bytes_max: usize) -> Result<Vec<u8>, ReadError> {
    let mut text = Vec::new();
    let mut at = address;
    let mut page = [0_u8; 4096];
    while text.len() < bytes_max {
        // Stop at the page boundary: the next page may not be mapped.
        let room = usize::try_from(PAGE_BYTES - at % PAGE_BYTES).unwrap_or(1);
        // Short strings are the rule; a small first read costs less than a whole page.
        let room = if text.is_empty() { room.min(256) } else { room };
        let chunk = page.get_mut(..room).unwrap_or_default();
        let count = read(pid, at, chunk)?;
        let got = chunk.get(..count).unwrap_or_default();
        if let Some(end) = got.iter().position(|byte| *byte == 0) {
            text.extend_from_slice(got.get(..end).unwrap_or_default());
            return if text.len() < bytes_max { Ok(text) } else { Err(ReadError::TooLong(bytes_max)) };
        }
        if count == 0 {
            return Err(SysError::new(
                "process_vm_readv",
                std::io::Error::from_raw_os_error(libc::EFAULT),
            )
            .into());
        }
        text.extend_from_slice(got);
        at = at.wrapping_add(count as u64);
    }
    Err(ReadError::TooLong(bytes_max))
}

/// Reads a NULL-terminated array of string pointers (`argv`, `envp`), 64-bit layout.
///
/// # Errors
/// When memory cannot be read or a limit is passed. A null `address` is an empty vector, as the
/// kernel has it.
pub fn read_strings(
    pid: Pid,
    address: u64,
    entries_max: usize,
    bytes_max: usize,
) -> Result<Vec<Vec<u8>>, ReadError> {
    let mut strings = Vec::new();
    if address == 0 {
        return Ok(strings);
    }
    let mut budget = bytes_max;
    for index in 0..=entries_max {
        let mut pointer = [0_u8; 8];
        let at = address.wrapping_add(8 * index as u64);
        if read(pid, at, &mut pointer)? != pointer.len() {
            return Err(SysError::new(
                "process_vm_readv",
                std::io::Error::from_raw_os_error(libc::EFAULT),
            )
            .into());
        }
        let pointer = u64::from_le_bytes(pointer);
        if pointer == 0 {
            return Ok(strings);
        }
        let text = read_string(pid, pointer, budget)?;
        budget = budget.saturating_sub(text.len() + 1);
        strings.push(text);
    }
    Err(ReadError::TooMany(entries_max))
}
