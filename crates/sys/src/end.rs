//! What a process used, and how it ended, for somebody who is not its parent.

use std::{
    mem::MaybeUninit,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use rustix::process::Pid;

use crate::process::Ended;

/// `PIDFD_GET_INFO`, `_IOWR(0xFF, 11, struct pidfd_info)` with the size that every kernel knows.
const GET_INFO: libc::c_ulong = 0xC040_FF0B;
/// `PIDFD_INFO_EXIT`.
const INFO_EXIT: u64 = 1 << 3;

/// `struct pidfd_info` (linux/pidfd.h), as far as every kernel fills it.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_status: i32,
}

const _: () = assert!(size_of::<PidfdInfo>() == 64);

/// Processor time of a process with all its threads, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// In the program.
    pub user_us: u64,
    /// In the kernel.
    pub system_us: u64,
}

/// Takes apart what wait(2) tells of an end.
pub const fn ended(status: i32) -> Ended {
    match status & 0x7f {
        0 => Ended::Code(status >> 8 & 0xff),
        signal => Ended::Signal(signal),
    }
}

/// Returns how the process of a pidfd ended, once its parent has waited for it; `None` before, and
/// before Linux 6.15, which does not keep it.
pub fn of_reaped(pidfd: BorrowedFd<'_>) -> Option<Ended> {
    let mut info = PidfdInfo {
        mask: INFO_EXIT,
        ..PidfdInfo::default()
    };
    // SAFETY: `info` is exclusively borrowed and has the size encoded in the request.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO, &raw mut info) };
    (result == 0 && info.mask & INFO_EXIT != 0).then(|| ended(info.exit_status))
}

/// Returns whether the process of a pidfd is still known by its number: it runs, or its parent has not
/// waited for it yet.
pub fn has_its_number(pidfd: BorrowedFd<'_>) -> bool {
    // SAFETY: pidfd_send_signal takes integers and a pointer that may be null; signal 0 only checks.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            0,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    result == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// Returns the processor time of a process; `None` if it is gone.
///
/// The sum is that of the scheduler. How it divides is an estimate of the kernel's clock ticks, as in
/// getrusage(2).
pub fn cpu_time(process: Pid) -> Option<CpuTime> {
    /// `CPUCLOCK_PROF`: all ticks.
    const BOTH: i32 = 0;
    /// `CPUCLOCK_VIRT`: those in the program.
    const USER: i32 = 1;
    /// `CPUCLOCK_SCHED`: what the scheduler measured.
    const SCHEDULER: i32 = 2;
    let total = clock_ns(process, SCHEDULER)?;
    let ticks = clock_ns(process, BOTH)?;
    let in_program = clock_ns(process, USER)?.min(ticks);
    let user = match ticks {
        0 => total,
        ticks => {
            let part = u128::from(total) * u128::from(in_program) / u128::from(ticks);
            u64::try_from(part).unwrap_or(total)
        }
    };
    Some(CpuTime {
        user_us: user / 1000,
        system_us: (total - user) / 1000,
    })
}

/// Reads a processor clock of a process (clock_getcpuclockid(3)), in nanoseconds.
fn clock_ns(process: Pid, kind: i32) -> Option<u64> {
    let clock = !process.as_raw_nonzero().get() << 3 | kind;
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the call takes an integer and a pointer to a timespec, which lives through it.
    let result = unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) };
    if result != 0 {
        return None;
    }
    // SAFETY: the call succeeded, and so has written it.
    let time = unsafe { time.assume_init() };
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let nanos = u64::try_from(time.tv_nsec).ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use std::{
        os::fd::AsFd as _,
        process::{Child, Command},
    };

    use rustix::process::Pid;

    use super::{cpu_time, ended, has_its_number, of_reaped};
    use crate::process::{Ended, pidfd};

    fn shell(line: &str) -> (Child, Pid) {
        let child = Command::new("sh").args(["-c", line]).spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        (child, pid)
    }

    /// Whether the kernel keeps how a process ended (Linux 6.15), by what it says of its version.
    fn keeps_ends() -> bool {
        let name = rustix::system::uname();
        let mut parts = name.release().to_str().unwrap().split('.');
        let mut next = || parts.next().unwrap().parse::<u32>().unwrap();
        (next(), next()) >= (6, 15)
    }

    #[test]
    fn an_end_is_known_after_the_parent_has_waited() {
        for (line, expected) in [
            ("exit 0", Ended::Code(0)),
            ("exit 255", Ended::Code(255)),
            ("kill -9 $$", Ended::Signal(9)),
            ("kill -ABRT $$", Ended::Signal(6)),
        ] {
            let (mut child, pid) = shell(line);
            let fd = pidfd(pid).unwrap();
            assert!(has_its_number(fd.as_fd()), "nobody has waited yet");
            child.wait().unwrap();
            assert!(!has_its_number(fd.as_fd()), "{line}");
            let found = of_reaped(fd.as_fd());
            assert_eq!(found, keeps_ends().then_some(expected), "{line}");
        }
        let own = pidfd(rustix::process::getpid()).unwrap();
        assert_eq!(of_reaped(own.as_fd()), None);
        assert_eq!(ended(0x8b), Ended::Signal(11), "with a core dump");
    }

    #[test]
    fn processor_time_is_that_of_the_process() {
        let (mut child, pid) = shell("i=0; while test $i -lt 100000; do i=$((i+1)); done; read x");
        let mut last = 0;
        for _ in 0..3000 {
            let time = cpu_time(pid).unwrap();
            last = time.user_us + time.system_us;
            if last > 20_000 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(last > 20_000, "{last}");
        child.kill().unwrap();
        assert!(cpu_time(pid).is_some(), "until its parent has waited");
        child.wait().unwrap();
        assert_eq!(cpu_time(pid), None);
    }
}
