//! The control socket of a session: how a second terminal sees and answers questions.
//!
//! The path does not exist inside the boundary. If a process of a session reaches it anyway (a
//! boundary without a mount namespace shares paths), the supervisor refuses it because of what the
//! kernel says about it: another user, a descendant of this supervisor, other namespaces or another
//! root.

use std::{
    collections::BTreeMap,
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{
            fs::{MetadataExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use io::Write;
use rustix::event::{PollFd, PollFlags, poll};
use stockade_sys::proc_text;
use stockade_types::{Person, ignored};

use super::{
    desk::Desk,
    peer::{Held, Peer, same_world},
    protocol::SOCKET_NAME,
    protocol::{COMMAND_BYTES_MAX, Command, FRAME_BYTES_MAX, Frames, QuestionLine, Reply, line_of},
};

/// Clients at one time: one person uses a few terminals. Any more are told to come back later.
const CLIENTS_MAX: usize = 16;
/// How long a client may take for one command; people type before they connect.
const COMMAND_PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may leave a reply unread before it is cut off.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);
/// How long the end of a session waits for replies that are being made: an answer can end the session, and
/// who gave it still learns that it was taken.
const LAST_REPLY_WAIT: Duration = Duration::from_secs(1);
/// How often that is looked at; a reply takes less than a millisecond.
const LAST_REPLY_SLICE: Duration = Duration::from_millis(1);
/// How often a watching client is checked when nothing changes.
const WATCH_SLICE: Duration = Duration::from_secs(1);
/// Steps up the tree of processes; deeper trees are refused.
const ANCESTORS_MAX: usize = 1024;

/// Why the inbox could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// The directory is not ours alone.
    #[error("`{path}` must be a directory of uid {uid} with mode 0700; it has {found}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The owner it must have.
        uid: u32,
        /// What it has.
        found: String,
    },
    /// A system call failed.
    #[error("cannot {step} for `{path}`")]
    System {
        /// What was tried.
        step: &'static str,
        /// The directory or socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Who may connect.
#[derive(Clone, Copy, Debug)]
pub struct InboxOptions {
    /// The one user.
    pub uid: u32,
    /// The process whose descendants are the session, and are refused.
    pub supervisor: i32,
}

impl InboxOptions {
    /// Admits the user of this process, but not its descendants.
    pub fn this_process() -> Self {
        Self {
            uid: rustix::process::geteuid().as_raw(),
            supervisor: rustix::process::getpid().as_raw_nonzero().get(),
        }
    }

    /// Decides whether `peer` may connect.
    ///
    /// # Errors
    /// The reason why it may not.
    pub fn admit(&self, peer: Peer) -> Result<(), String> {
        if peer.uid != self.uid {
            return Err(format!(
                "uid {} may not answer for uid {}",
                peer.uid, self.uid
            ));
        }
        if peer.pid <= 0 {
            return Err("a process of another process namespace may not answer".to_owned());
        }
        let mut pid = peer.pid;
        for _ in 0..ANCESTORS_MAX {
            if pid == self.supervisor {
                return Err("a process of the session may not answer for it".to_owned());
            }
            pid = parent_of(pid)?;
            if pid <= 1 {
                // Every session has its own namespaces, so a process in ours belongs to no session.
                return same_world(peer.pid);
            }
        }
        Err("the process tree is too deep to be judged".to_owned())
    }
}

/// Reads the parent of a process.
fn parent_of(pid: i32) -> Result<i32, String> {
    let read = || {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        i32::try_from(proc_text::stat(&text).ok()?.parent).ok()
    };
    read().ok_or_else(|| format!("process {pid} is gone, so it cannot be identified"))
}

type Streams = Mutex<BTreeMap<u64, UnixStream>>;

struct Shared {
    desk: Arc<Desk>,
    options: InboxOptions,
    stopping: AtomicBool,
    /// Commands whose replies are not sent yet.
    replying: AtomicUsize,
    clients: Streams,
}

/// A listening control socket; dropping it ends all its clients and removes the socket.
pub struct Inbox {
    shared: Arc<Shared>,
    path: PathBuf,
    bell: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Inbox {
    /// Opens [`SOCKET_NAME`] in `directory` and answers on its own threads.
    ///
    /// # Errors
    /// When the directory is not ours alone, or the socket cannot be made.
    pub fn open(
        directory: &Path,
        desk: Arc<Desk>,
        options: InboxOptions,
    ) -> Result<Self, InboxError> {
        let system = |step| {
            move |source| InboxError::System {
                step,
                path: directory.to_owned(),
                source,
            }
        };
        let folder = open_private(directory)?;
        let path = directory.join(SOCKET_NAME);
        // A Unix address holds 107 bytes, and a state directory may have a longer path. The
        // descriptor of the directory is short, and cannot be swapped under us either.
        let short = short_path(&folder);
        let listener = UnixListener::bind(&short).map_err(system("bind the control socket"))?;
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&short, mode).map_err(system("set the mode of the control socket"))?;
        listener
            .set_nonblocking(true)
            .map_err(system("prepare the control socket"))?;
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let bell = rustix::event::eventfd(0, flags)
            .map_err(|e| system("make a wake-up descriptor")(e.into()))?;
        let ear = bell
            .try_clone()
            .map_err(system("copy a wake-up descriptor"))?;
        let stopping = AtomicBool::new(false);
        let shared = Arc::new(Shared {
            desk,
            options,
            stopping,
            replying: AtomicUsize::new(0),
            clients: Streams::default(),
        });
        let server = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("inbox".to_owned())
            .spawn(move || accept_all(&server, &listener, &ear))
            .map_err(system("start the inbox thread"))?;
        Ok(Self {
            shared,
            path,
            bell,
            thread: Some(thread),
        })
    }

    /// Returns where the socket is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        // The write only fails if the bell has already rung.
        ignored(
            rustix::io::write(&self.bell, &1_u64.to_ne_bytes()),
            "the write fails only if the bell has rung already",
        );
        let begun = Instant::now();
        while self.shared.replying.load(Ordering::Acquire) > 0 && begun.elapsed() < LAST_REPLY_WAIT
        {
            std::thread::sleep(LAST_REPLY_SLICE);
        }
        for stream in lock(&self.shared.clients).values() {
            ignored(
                stream.shutdown(std::net::Shutdown::Both),
                "the client may be gone",
            );
        }
        if let Some(thread) = self.thread.take() {
            ignored(thread.join(), "a thread that panics aborts the process");
        }
        ignored(fs::remove_file(&self.path), "it may be gone");
    }
}

fn lock(streams: &Streams) -> std::sync::MutexGuard<'_, BTreeMap<u64, UnixStream>> {
    streams.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens a directory that no other user can enter.
pub(super) fn open_private(directory: &Path) -> Result<fs::File, InboxError> {
    let system = |source| InboxError::System {
        step: "open the session directory",
        path: directory.to_owned(),
        source,
    };
    let folder = fs::File::open(directory).map_err(system)?;
    let metadata = folder.metadata().map_err(system)?;
    let uid = rustix::process::geteuid().as_raw();
    let mode = metadata.mode() & 0o7777;
    if !metadata.is_dir() || metadata.uid() != uid || mode & 0o077 != 0 {
        let found = format!("uid {} and mode {mode:04o}", metadata.uid());
        return Err(InboxError::Directory {
            path: directory.to_owned(),
            uid,
            found,
        });
    }
    Ok(folder)
}

/// Names the socket through the descriptor of its directory.
pub(super) fn short_path(folder: &fs::File) -> PathBuf {
    PathBuf::from(format!(
        "/proc/self/fd/{}/{SOCKET_NAME}",
        folder.as_raw_fd()
    ))
}

/// Accepts until told to stop; an error of one connection is not an error of the inbox.
fn accept_all(shared: &Arc<Shared>, listener: &UnixListener, ear: &OwnedFd) {
    let mut number = 0;
    while !shared.stopping.load(Ordering::Acquire) {
        let mut ready = [
            PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(ear.as_fd(), PollFlags::IN),
        ];
        if poll(&mut ready, None).is_err() {
            continue;
        }
        let Ok((stream, _)) = listener.accept() else {
            // Out of descriptors, or gone again: do not spin.
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        number += 1;
        admit(shared, stream, number);
    }
}

/// Starts a thread for a client that may connect, and tells any other why it may not.
fn admit(shared: &Arc<Shared>, mut stream: UnixStream, number: u64) {
    // Without time limits a silent client would keep its place for ever.
    if stream.set_nonblocking(false).is_err()
        || stream.set_write_timeout(Some(WRITE_PATIENCE)).is_err()
    {
        return;
    }
    let verdict = Held::of(&stream).and_then(|held| {
        shared.options.admit(held.peer)?;
        held.still_there().map(|()| held.peer)
    });
    let peer = match verdict {
        Ok(peer) => peer,
        Err(error) => {
            ignored(
                send(&mut stream, &Reply::Refused { error }),
                "the client may be gone",
            );
            return;
        }
    };
    let Ok(copy) = stream.try_clone() else { return };
    let full = {
        let mut clients = lock(&shared.clients);
        let full = clients.len() >= CLIENTS_MAX;
        if !full {
            clients.insert(number, copy);
        }
        full
    };
    if full {
        let error = format!("{CLIENTS_MAX} clients are connected already; try again");
        ignored(
            send(&mut stream, &Reply::Refused { error }),
            "the client may be gone",
        );
        return;
    }
    let server = Arc::clone(shared);
    let spawned = std::thread::Builder::new()
        .name("inbox-client".to_owned())
        .spawn(move || {
            serve(&server, stream, peer);
            lock(&server.clients).remove(&number);
        });
    if spawned.is_err() {
        lock(&shared.clients).remove(&number);
    }
}

/// Answers one client, command by command, until it disconnects, makes an error or is too slow.
fn serve(shared: &Shared, stream: UnixStream, peer: Peer) {
    let Ok(mut out) = stream.try_clone() else {
        return;
    };
    let mut frames = Frames::new(stream, COMMAND_BYTES_MAX);
    loop {
        let line = match frames.next(COMMAND_PATIENCE) {
            Ok(Some(line)) => line,
            Ok(None) => return,
            Err(error) => {
                ignored(
                    send(
                        &mut out,
                        &Reply::Refused {
                            error: error.to_string(),
                        },
                    ),
                    "the client may be gone",
                );
                return;
            }
        };
        let sent = match serde_json::from_slice::<Command>(&line) {
            Ok(Command::Watch {}) => watch(shared, &mut out),
            Ok(command) => {
                shared.replying.fetch_add(1, Ordering::AcqRel);
                let sent = send(&mut out, &obey(&shared.desk, command, peer));
                shared.replying.fetch_sub(1, Ordering::AcqRel);
                sent
            }
            Err(error) => {
                // A peer that sends garbage is not one of our clients: it gets no second try on
                // this line.
                let error = format!("not a command: {error}");
                ignored(
                    send(&mut out, &Reply::Refused { error }),
                    "the client may be gone",
                );
                return;
            }
        };
        if sent.is_err() || shared.stopping.load(Ordering::Acquire) {
            return;
        }
    }
}

fn obey(desk: &Desk, command: Command, peer: Peer) -> Reply {
    let by = Person::Inbox { uid: peer.uid };
    let refused = |error: String| Reply::Refused { error };
    match command {
        Command::List {} | Command::Watch {} => questions(desk),
        Command::Show { id } => match desk.views().into_iter().find(|view| view.id == id) {
            Some(view) => Reply::Question {
                question: Box::new(view),
            },
            None => refused(format!("no open question has the id `{id}`")),
        },
        Command::Case { id } => match desk.case(&id) {
            Ok(case) => Reply::Case {
                case: Box::new(case),
            },
            Err(error) => refused(error.to_string()),
        },
        Command::Progress { id, progress } => match desk.progress(&id, progress) {
            Ok(()) => Reply::Done {},
            Err(error) => refused(error.to_string()),
        },
        Command::Answer { id, answer } => match desk.answer(&id, answer, by) {
            Ok(()) => Reply::Done {},
            Err(error) => refused(error.to_string()),
        },
        Command::Grants {} => Reply::Grants {
            grants: desk.grants(),
        },
        Command::Settled {} => Reply::Settled {
            settled: desk.settled(),
        },
        Command::Revoke { id } => match desk.revoke(&id, by) {
            Ok(true) => Reply::Done {},
            Ok(false) => refused(format!("no grant in force has the id `{id}`")),
            Err(error) => refused(format!("revoked, but that was not recorded: {error}")),
        },
    }
}

fn questions(desk: &Desk) -> Reply {
    Reply::Questions {
        questions: desk.views().iter().map(QuestionLine::of).collect(),
    }
}

/// Sends the open questions now and after each change, until the client disconnects.
fn watch(shared: &Shared, out: &mut UnixStream) -> io::Result<()> {
    let mut sent = None;
    let mut seen = 0;
    while !shared.stopping.load(Ordering::Acquire) {
        let reply = questions(&shared.desk);
        if sent.as_ref() != Some(&reply) {
            send(out, &reply)?;
            sent = Some(reply);
        }
        seen = shared.desk.wait_pending(seen, WATCH_SLICE);
        if is_gone(out)? {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
    }
    Ok(())
}

fn is_gone(stream: &UnixStream) -> io::Result<bool> {
    let mut ready = [PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::RDHUP)];
    poll(&mut ready, Some(&rustix::time::Timespec::default()))?;
    let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    Ok(ready.iter().any(|fd| fd.revents().intersects(gone)))
}

fn send(out: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    let mut line = line_of(reply)?;
    if line.len() > FRAME_BYTES_MAX {
        let error = format!(
            "the question is longer than {FRAME_BYTES_MAX} bytes; answer it at its own terminal"
        );
        line = line_of(&Reply::Refused { error })?;
    }
    out.write_all(&line)
}
