//! A socket that the session sees below `/run/stockade`, and the threads that answer its clients.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd,
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use stockade_types::ignored;

/// How long clients may take to notice that the session is over.
const CLIENTS_GONE: Duration = Duration::from_secs(1);
/// Pause between two looks whether they have.
const LOOK: Duration = Duration::from_millis(1);
/// Pause after `accept` fails because there are no descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// How clients are answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Staff {
    /// Names of the thread that accepts, and of those that answer.
    pub(crate) names: (&'static str, &'static str),
    /// Clients at a time, each with a thread; more are turned away.
    pub(crate) clients_max: usize,
    /// Stack of a thread for one client.
    pub(crate) stack_bytes: usize,
}

/// Opens a socket of this name in the directory that the session sees.
pub(crate) fn listen(directory: &Path, name: &str) -> io::Result<UnixListener> {
    // A Unix address holds 107 bytes, and a state directory may have a longer path.
    let folder = File::open(directory)?;
    let short = format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
    let listener = UnixListener::bind(&short)?;
    // The session may run as another user; nobody else enters the directory of the session.
    fs::set_permissions(short, fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// A socket whose clients are answered; dropping it, once the session's processes are gone, turns new
/// ones away and lets the others end.
pub(crate) struct Serving {
    is_over: Arc<AtomicBool>,
    /// Clients that are answered now.
    count: Arc<AtomicUsize>,
    door: UnixListener,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    /// Answers each client on a thread of its own.
    ///
    /// # Errors
    /// When there is no thread that accepts.
    pub(crate) fn start(
        listener: UnixListener,
        staff: Staff,
        answer: impl Fn(UnixStream) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let door = listener.try_clone()?;
        let count = Arc::new(AtomicUsize::new(0));
        let (over, there) = (Arc::clone(&is_over), Arc::clone(&count));
        let (name, _) = staff.names;
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || serve(&listener, staff, (&over, &there), &Arc::new(answer)))?;
        Ok(Self {
            is_over,
            count,
            door,
            thread: Some(thread),
        })
    }
}

/// Answers clients until the session is over.
fn serve<A: Fn(UnixStream) + Send + Sync + 'static>(
    listener: &UnixListener,
    staff: Staff,
    (is_over, count): (&AtomicBool, &Arc<AtomicUsize>),
    answer: &Arc<A>,
) {
    while !is_over.load(Ordering::Acquire) {
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(PAUSE);
            continue;
        };
        if count.fetch_add(1, Ordering::AcqRel) >= staff.clients_max {
            count.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let (answer, own) = (Arc::clone(answer), Arc::clone(count));
        let (_, name) = staff.names;
        let spawned = thread::Builder::new()
            .name(name.to_owned())
            .stack_size(staff.stack_bytes)
            .spawn(move || {
                answer(stream);
                own.fetch_sub(1, Ordering::AcqRel);
            });
        if spawned.is_err() {
            count.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // `accept` then returns.
        ignored(
            rustix::net::shutdown(&self.door, rustix::net::Shutdown::Both),
            "the next client would end it too",
        );
        if let Some(thread) = self.thread.take() {
            ignored(
                thread.join(),
                "a thread that panics aborts the whole process",
            );
        }
        // Nobody writes to a record that has ended.
        let until = Instant::now() + CLIENTS_GONE;
        while self.count.load(Ordering::Acquire) > 0 && Instant::now() < until {
            thread::sleep(LOOK);
        }
    }
}
