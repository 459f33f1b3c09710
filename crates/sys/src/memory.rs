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
    let wrong = || {
        SysError::new(
            "process_vm_readv",
            std::io::Error::from_raw_os_error(libc::EFAULT),
        )
    };
    let remote_base = usize::try_from(address).map_err(|_| wrong())?;
    let local = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let remote = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(remote_base),
        iov_len: buffer.len(),
    };
    // SAFETY: `local` describes the exclusively borrowed `buffer`, valid for its length; `remote`
    // is only interpreted in the other process, where the kernel checks it; both counts are 1.
    let read = unsafe {
        libc::process_vm_readv(
            pid.as_raw_nonzero().get(),
            &raw const local,
            1,
            &raw const remote,
            1,
            0,
        )
    };
    usize::try_from(read).map_err(|_| SysError::last("process_vm_readv"))
}

/// The last piece that was read: strings of one vector usually lie next to each other, so that one
/// call reads many of them.
struct Window {
    pid: Pid,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn new(pid: Pid) -> Self {
        Self {
            pid,
            start: 0,
            bytes: Vec::new(),
        }
    }

    /// Returns the known bytes from `address` on. If there are none, it reads up to the end of the
    /// page, because the next page may not be mapped.
    fn at(&mut self, address: u64) -> Result<&[u8], ReadError> {
        let offset = address
            .checked_sub(self.start)
            .and_then(|o| usize::try_from(o).ok());
        let known = offset.filter(|offset| *offset < self.bytes.len());
        let offset = if let Some(offset) = known {
            offset
        } else {
            let room = usize::try_from(PAGE_BYTES - address % PAGE_BYTES).unwrap_or(1);
            self.bytes.resize(room, 0);
            let count = read(self.pid, address, &mut self.bytes)?;
            self.bytes.truncate(count);
            self.start = address;
            if count == 0 {
                return Err(unreadable().into());
            }
            0
        };
        Ok(self.bytes.get(offset..).unwrap_or_default())
    }

    /// Reads a string into `text`, replacing its contents.
    fn string(
        &mut self,
        address: u64,
        bytes_max: usize,
        text: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        text.clear();
        let mut at = address;
        while text.len() < bytes_max {
            let piece = self.at(at)?;
            if let Some(end) = piece.iter().position(|byte| *byte == 0) {
                text.extend_from_slice(piece.get(..end).unwrap_or_default());
                let fits = text.len() < bytes_max;
                return if fits {
                    Ok(())
                } else {
                    Err(ReadError::TooLong(bytes_max))
                };
            }
            at = at.wrapping_add(piece.len() as u64);
            text.extend_from_slice(piece);
        }
        Err(ReadError::TooLong(bytes_max))
    }

    fn pointer(&mut self, address: u64) -> Result<u64, ReadError> {
        if let Some(whole) = self.at(address)?.first_chunk() {
            return Ok(u64::from_le_bytes(*whole));
        }
        let mut bytes = [0_u8; 8];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = *self
                .at(address.wrapping_add(index as u64))?
                .first()
                .unwrap_or(&0);
        }
        Ok(u64::from_le_bytes(bytes))
    }
}

fn unreadable() -> SysError {
    SysError::new(
        "process_vm_readv",
        std::io::Error::from_raw_os_error(libc::EFAULT),
    )
}

/// Reads the NUL-terminated string at `address`, without its NUL.
///
/// # Errors
/// When memory cannot be read or no NUL byte comes within `bytes_max`.
pub fn read_string(pid: Pid, address: u64, bytes_max: usize) -> Result<Vec<u8>, ReadError> {
    let mut text = Vec::new();
    Window::new(pid).string(address, bytes_max, &mut text)?;
    Ok(text)
}

/// Reads a NULL-terminated array of string pointers (`argv`, `envp`), 64-bit layout, and returns
/// the strings that `wanted` picks; the limits apply to all of them.
///
/// # Errors
/// When memory cannot be read or a limit is exceeded. A null `address` is an empty vector, as for
/// the kernel.
pub fn read_strings(
    pid: Pid,
    address: u64,
    entries_max: usize,
    bytes_max: usize,
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<Vec<Vec<u8>>, ReadError> {
    let mut strings = Vec::new();
    if address == 0 {
        return Ok(strings);
    }
    let (mut pointers, mut texts) = (Window::new(pid), Window::new(pid));
    let mut budget = bytes_max;
    let mut text = Vec::new();
    for index in 0..=entries_max {
        let pointer = pointers.pointer(address.wrapping_add(8 * index as u64))?;
        if pointer == 0 {
            return Ok(strings);
        }
        texts.string(pointer, budget, &mut text)?;
        budget = budget.saturating_sub(text.len() + 1);
        if wanted(&text) {
            strings.push(text.clone());
        }
    }
    Err(ReadError::TooMany(entries_max))
}

#[cfg(test)]
mod tests {
    use rustix::process::Pid;

    use super::{ReadError, read_string, read_strings};

    fn own() -> Pid {
        rustix::process::getpid()
    }

    #[test]
    fn vectors_are_read_whole_wherever_their_strings_lie() {
        let texts: Vec<Vec<u8>> = (0..700_usize)
            .map(|n| vec![b'a' + u8::try_from(n % 26).unwrap(); n * 7 % 5000])
            .collect();
        let held: Vec<Vec<u8>> = texts
            .iter()
            .map(|text| [text.as_slice(), b"\0"].concat())
            .collect();
        let mut pointers: Vec<u64> = held
            .iter()
            .map(|t| t.as_ptr().expose_provenance() as u64)
            .collect();
        pointers.push(0);
        let at = pointers.as_ptr().expose_provenance() as u64;
        let all = |_: &[u8]| true;
        assert_eq!(read_strings(own(), at, 1000, 4 << 20, all).unwrap(), texts);
        let short = |text: &[u8]| text.len() < 7;
        assert_eq!(
            read_strings(own(), at, 1000, 4 << 20, short).unwrap(),
            [b"".as_slice()],
        );
        assert!(matches!(
            read_strings(own(), at, 10, 4 << 20, all),
            Err(ReadError::TooMany(10))
        ));
        assert!(matches!(
            read_strings(own(), at, 1000, 100, all),
            Err(ReadError::TooLong(_))
        ));
        assert!(read_strings(own(), 0, 10, 10, all).unwrap().is_empty());
        assert!(matches!(
            read_strings(own(), 8, 10, 10, all),
            Err(ReadError::Sys(_))
        ));
        assert!(read_string(own(), 1, 10).is_err());
    }
}
