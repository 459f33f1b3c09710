//! Who a client is, and how much it may say.

use std::{
    io,
    os::unix::net::UnixStream,
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    net::sockopt::socket_peercred,
};
use stockade_supervise::{Processes, lock};
use stockade_sys::pass;
use stockade_types::Subject;

use super::limits::{CLAIMS_PER_SECOND, OTHERS_CLAIMS_MAX, OTHERS_MAX};

/// Finds the process that connected; `None` if it has ended.
pub(crate) fn subject(stream: &UnixStream, processes: &Processes) -> io::Result<Option<Subject>> {
    let held = pass::peer(stream).map_err(io::Error::other)?;
    let pid = socket_peercred(stream)?.pid.as_raw_nonzero().get();
    let subject = processes.subject(u32::try_from(pid).unwrap_or_default());
    // As long as it is there, its number is nobody else's. Kernels before 6.5 do not say.
    if let Some(held) = held {
        let mut polled = [PollFd::new(&held, PollFlags::IN)];
        if rustix::event::poll(&mut polled, Some(&Timespec::default()))? > 0 {
            return Ok(None);
        }
    }
    Ok(Some(subject).filter(|subject| subject.id.is_some()))
}

/// Tells whether a client still waits: it has said that it says nothing more, but has not gone.
pub(crate) fn waits(stream: &UnixStream) -> bool {
    let mut polled = [PollFd::new(stream, PollFlags::empty())];
    let polled_now = rustix::event::poll(&mut polled, Some(&Timespec::default()));
    let [now] = polled;
    polled_now.is_ok() && !now.revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

/// How much is said.
#[derive(Debug)]
pub(crate) struct Measure {
    /// Clients at a time that no agent started.
    others: AtomicUsize,
    /// What they have claimed.
    claimed: AtomicU64,
    pace: Mutex<Pace>,
}

/// A place for a client that no agent started.
pub(crate) struct Place<'m>(&'m AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Default for Measure {
    fn default() -> Self {
        Self {
            others: AtomicUsize::new(0),
            claimed: AtomicU64::new(0),
            pace: Mutex::new(Pace {
                next: Instant::now(),
            }),
        }
    }
}

impl Measure {
    /// Takes a place for a client that no agent started.
    pub(crate) fn place(&self) -> Option<Place<'_>> {
        let place = Place(&self.others);
        (self.others.fetch_add(1, Ordering::AcqRel) < OTHERS_MAX).then_some(place)
    }

    /// Counts one more claim of such a client; returns how many there were before.
    pub(crate) fn claim(&self) -> u64 {
        self.claimed.fetch_add(1, Ordering::AcqRel)
    }

    /// Returns how many claims of such clients were not recorded.
    pub(crate) fn lost(&self) -> u64 {
        let claimed = self.claimed.load(Ordering::Acquire);
        claimed.saturating_sub(OTHERS_CLAIMS_MAX)
    }

    /// Waits until there is room for one more claim.
    pub(crate) fn keep_pace(&self) {
        let wait = lock(&self.pace).take(Instant::now());
        if !wait.is_zero() {
            thread::sleep(wait);
        }
    }
}

/// So many claims a second; what was not used of the last second is there still.
#[derive(Debug)]
struct Pace {
    /// When the next claim would be due if they came evenly.
    next: Instant,
}

impl Pace {
    /// Takes the next turn; returns how long it is until then.
    fn take(&mut self, now: Instant) -> Duration {
        let second = Duration::from_secs(1);
        let each = second / CLAIMS_PER_SECOND;
        let earliest = now.checked_sub(second).unwrap_or(now);
        self.next = self.next.max(earliest) + each;
        self.next.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::net::UnixStream,
        process::{Command, Stdio},
        time::{Duration, Instant},
    };

    use stockade_supervise::Processes;

    use super::{CLAIMS_PER_SECOND, Measure, OTHERS_CLAIMS_MAX, OTHERS_MAX, Pace, subject, waits};

    #[test]
    fn a_flood_is_slowed_down_and_a_burst_is_not() {
        let start = Instant::now();
        let mut pace = Pace { next: start };
        let later = start + Duration::from_secs(5);
        let burst = (0..CLAIMS_PER_SECOND).map(|_| pace.take(later)).max();
        assert_eq!(burst, Some(Duration::ZERO));
        let flood = (0..CLAIMS_PER_SECOND * 3).map(|_| pace.take(later)).max();
        assert_eq!(flood.map(|wait| wait.as_secs()), Some(3));
    }

    #[test]
    fn whoever_no_agent_started_has_few_places_and_claims() {
        let measure = Measure::default();
        let places: Vec<_> = (0..OTHERS_MAX).filter_map(|_| measure.place()).collect();
        assert_eq!(places.len(), OTHERS_MAX);
        assert!(measure.place().is_none());
        drop(places);
        assert!(measure.place().is_some());
        assert_eq!(measure.claim(), 0);
        (1..OTHERS_CLAIMS_MAX + 5).for_each(|before| assert_eq!(measure.claim(), before));
        assert_eq!(measure.lost(), 5);
    }

    /// A client is known by its process; what has ended is nobody.
    #[test]
    fn a_client_is_the_process_that_connected() {
        let folder = tempfile::tempdir().unwrap();
        let listener = super::super::inside_socket::listen(folder.path(), "hooks").unwrap();
        let processes = Processes::new(1);
        let own = UnixStream::connect(folder.path().join("hooks")).unwrap();
        let (served, _) = listener.accept().unwrap();
        let found = subject(&served, &processes).unwrap().unwrap();
        assert_eq!(found.id.unwrap().pid, std::process::id());
        own.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(waits(&served), "it still reads");
        drop(own);
        assert!(!waits(&served));
        let mut child = Command::new("python3")
            .args([
                "-c",
                "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])",
            ])
            .arg(folder.path().join("hooks"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let (gone, _) = listener.accept().unwrap();
        child.wait().unwrap();
        assert!(!matches!(subject(&gone, &processes), Ok(Some(_))));
    }
}
