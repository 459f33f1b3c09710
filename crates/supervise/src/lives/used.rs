//! What a process has used so far, read while it is there.

use std::{
    fs::File,
    io::{self, Read as _},
};

use rustix::process::Pid;
use stockade_event::Usage;
use stockade_sys::{
    end,
    proc_text::{self, Status},
};

use crate::{limits::THREADS_MAX, procfs};

/// Bytes of `/proc/PID/status`: it has some 60 lines, and a name of at most 64 bytes.
const STATUS_BYTES: usize = 4096;
/// Bytes of `/proc/PID/task/TID/io`: seven lines with a number.
const IO_BYTES: usize = 512;

/// What a process has used, and what it has in use.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    pub(super) usage: Usage,
    /// Its resident memory.
    pub(super) memory_bytes: Option<u64>,
}

impl Used {
    /// Takes a later reading. What can no longer be read stays as it was, and no count becomes less:
    /// the bytes of a thread that has ended are not read any more.
    pub(super) fn becomes(&mut self, later: Self) {
        let (own, new) = (&mut self.usage, later.usage);
        own.cpu_user_us = own.cpu_user_us.max(new.cpu_user_us);
        own.cpu_system_us = own.cpu_system_us.max(new.cpu_system_us);
        own.memory_peak_bytes = own.memory_peak_bytes.max(new.memory_peak_bytes);
        own.bytes_read = own.bytes_read.max(new.bytes_read);
        own.bytes_written = own.bytes_written.max(new.bytes_written);
        self.memory_bytes = later.memory_bytes.or(self.memory_bytes);
    }
}

/// Reads what a process has used until now. What cannot be read is not known.
pub(super) fn used(process: u32) -> Used {
    let mut buffer = [0; STATUS_BYTES];
    let text = read(&format!("/proc/{process}/status"), &mut buffer).unwrap_or_default();
    let status = Status::new(text);
    let threads = status.threads().unwrap_or(u32::MAX);
    let bytes = bytes_moved(process, threads);
    Used {
        usage: Usage {
            memory_peak_bytes: status.memory(b"VmHWM:").ok(),
            bytes_read: bytes.map(|(read, _)| read),
            bytes_written: bytes.map(|(_, written)| written),
            ..cpu(process)
        },
        memory_bytes: status.memory(b"VmRSS:").ok(),
    }
}

/// Reads the processor time of a process alone, which the kernel knows until its parent has waited.
pub(super) fn cpu(process: u32) -> Usage {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    let time = pid.and_then(end::cpu_time);
    Usage {
        cpu_user_us: time.map(|time| time.user_us),
        cpu_system_us: time.map(|time| time.system_us),
        ..Usage::default()
    }
}

/// Adds the bytes of the threads: the numbers of the whole process include those of its children.
fn bytes_moved(process: u32, threads: u32) -> Option<(u64, u64)> {
    match threads {
        1 => bytes_of(process, process),
        2..=THREADS_MAX => {
            let all = procfs::tasks(process).filter_map(|task| bytes_of(process, task));
            all.reduce(|(read, written), (more_read, more_written)| {
                (
                    read.saturating_add(more_read),
                    written.saturating_add(more_written),
                )
            })
        }
        _ => None,
    }
}

fn bytes_of(process: u32, thread: u32) -> Option<(u64, u64)> {
    let mut buffer = [0; IO_BYTES];
    let text = read(&format!("/proc/{process}/task/{thread}/io"), &mut buffer).ok()?;
    proc_text::bytes_moved(text).ok()
}

/// Reads the beginning of a text that the kernel makes at once.
fn read<'b>(path: &str, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let count = File::open(path)?.read(buffer)?;
    Ok(buffer.get(..count).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::used;

    /// What a process uses is its own, and what is read of one that is gone is nothing.
    #[test]
    fn a_process_uses_what_it_uses_itself() {
        let line = "head -c 3000000 /dev/zero >/dev/null; echo ready; read x";
        let mut child = Command::new("sh")
            .args(["-c", line])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        let found = used(child.id());
        assert!(found.memory_bytes > Some(100_000), "{found:?}");
        assert!(found.usage.memory_peak_bytes >= found.memory_bytes);
        assert!(found.usage.cpu_us() > Some(0));
        let own = found.usage.bytes_read.unwrap();
        assert!(own < 3_000_000, "its child read that: {own}");
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(used(child.id()).usage, stockade_event::Usage::default());
    }
}
