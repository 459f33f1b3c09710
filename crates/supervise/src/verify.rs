//! Looking at what really runs after an execution was let through.
//!
//! A program with shared memory can change path and arguments between the verdict and the kernel's
//! own look at them. So the image and the arguments are read again once the execution has happened.
//! What differs is judged as it is: if it may run anyway no harm was done; if it would have been
//! asked about or denied, the session ends. A process is looked at soon after, and in any case before
//! it may execute something else; until then it counts as not having happened as long as its stack
//! lies where it lay. Of what a person allowed the variables are compared too.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use stockade_event::{Durability, Event};
use stockade_policy::{ExecRequest, Request};
use stockade_types::{Digest, ProcessId, RawText, Severity, Subject, Verdict};

use super::{Supervision, program_file::ProgramFile};
use crate::{procfs, recorder::lock};

/// Executions that wait for their post-exec verification; when there are more, the next one waits.
const WAITING_MAX: usize = 1024;
/// How long it waits: only executions that do not happen stay for longer.
const FULL_TIMEOUT: Duration = Duration::from_secs(5);
/// Executions of one process that were let through and have not happened: each thread can have one
/// on its way, and one that failed stays until another happened or the process ended.
const OF_ONE_MAX: usize = 64;
/// Pauses before each look: the kernel needs well below a millisecond, a large image on a busy
/// machine more. The last one comes again until the execution has happened or its process is gone,
/// since a program can make the kernel slow. What exits before the first one is looked at then.
const PAUSES: [Duration; 6] = [
    Duration::from_micros(500),
    Duration::from_millis(2),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
];
/// Executions whose path leads to something that may not run once their process is gone, until the
/// session ends: twice can be a build that removes what it made.
const SUSPICIOUS_MAX: usize = 3;

/// An execution that was let through.
pub(crate) struct Expected {
    /// The process.
    pub(super) id: ProcessId,
    /// Where its stack began before: as long as that is so, it has not happened.
    pub(super) stack: u64,
    /// Device and inode of the judged file; of the interpreter, if it is a script.
    pub(super) file: (u64, u64),
    /// Those of the file that was named; of the script, if it is one.
    pub(super) named: (u64, u64),
    /// The absolute path that led to that, where one did.
    pub(super) asked: Option<PathBuf>,
    /// Its content, where the verdict may have depended on it and it could still change: from now
    /// on the kernel keeps it as it is.
    pub(super) content: Option<Digest>,
    /// What was judged.
    pub(super) request: ExecRequest,
    /// Whether it rests on an answer, which binds its variables too.
    pub(super) by_answer: bool,
    /// Whether the kernel puts an interpreter in front of the arguments.
    pub(super) script: bool,
}

/// Executions that were let through and were not yet seen to have happened.
#[derive(Default)]
pub(crate) struct SecondLooks {
    queue: Mutex<Queue>,
    /// Something came while nothing was waited for, or the notifier ended.
    came: Condvar,
    /// Something left.
    left: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Whether the thread sleeps until something comes; otherwise it wakes up by itself.
    idle: bool,
    closed: bool,
    /// Executions whose process was gone before anybody saw what it ran.
    unseen: Vec<Expected>,
    /// Of those, how many were suspicious.
    suspicious: usize,
}

struct Waiting {
    expected: Expected,
    due: Instant,
    looks: usize,
}

impl SecondLooks {
    /// Adds an execution that is about to be let through.
    pub(super) fn expect(&self, expected: Expected) {
        let mut queue = lock(&self.queue);
        queue.waiting.push(Waiting {
            expected,
            due: Instant::now() + pause(0),
            looks: 0,
        });
    }

    /// Wakes the thread up for what was added, where it does not wake up by itself; to be called
    /// once the execution has its answer, which need not wait for this.
    pub(super) fn announce(&self) {
        let mut queue = lock(&self.queue);
        if queue.idle && !queue.waiting.is_empty() {
            queue.idle = false;
            drop(queue);
            self.came.notify_one();
        }
    }

    /// Looks at a process that waits in a new execution, for the last time as what it runs now.
    /// Returns what it runs if that is not what was judged.
    pub(super) fn before_another(&self, process: ProcessId) -> Result<Option<Actual>, TooMany> {
        let full = |queue: &mut Queue| queue.waiting.len() >= WAITING_MAX && !queue.closed;
        let waited = self
            .left
            .wait_timeout_while(lock(&self.queue), FULL_TIMEOUT, full);
        let (mut queue, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        let pending = |queue: &Queue| {
            let of_it = |one: &&Waiting| one.expected.id == process;
            queue.waiting.iter().filter(of_it).count()
        };
        if pending(&queue) == 0 && !timeout.timed_out() {
            return Ok(None);
        }
        let actual = queue.settle(process);
        let too_many = pending(&queue) >= OF_ONE_MAX || queue.waiting.len() >= WAITING_MAX;
        if too_many && actual.is_none() {
            return Err(TooMany);
        }
        Ok(actual)
    }

    /// Looks at the process of a thread that is about to end it: once it is gone nobody can tell
    /// what it ran. Returns what it runs if that is not what was judged.
    ///
    /// An execution of another thread may still be on its way; that one waits on.
    pub(super) fn at_exit(&self, tid: u32) -> Option<Actual> {
        let mut queue = lock(&self.queue);
        if queue.waiting.is_empty() {
            return None;
        }
        let of = |pid: u32| {
            let mut waiting = queue.waiting.iter().map(|one| one.expected.id);
            waiting.find(|id| id.pid == pid)
        };
        let process = of(tid).or_else(|| of(procfs::identity(tid).ok()?.id.pid))?;
        queue.settle(process)
    }

    /// Ends the thread.
    pub(super) fn close(&self) {
        lock(&self.queue).closed = true;
        self.came.notify_one();
        self.left.notify_one();
    }

    /// Waits until a look is due; `None` at the end.
    fn due(&self) -> Option<MutexGuard<'_, Queue>> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.closed {
                return None;
            }
            let next = queue.waiting.iter().map(|one| one.due).min();
            let left = next.map(|due| due.saturating_duration_since(Instant::now()));
            queue = match left {
                Some(Duration::ZERO) => return Some(queue),
                Some(left) => {
                    let woken = self.came.wait_timeout(queue, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    queue.idle = true;
                    let woken = self.came.wait(queue);
                    let mut queue = woken.unwrap_or_else(PoisonError::into_inner);
                    queue.idle = false;
                    queue
                }
            };
        }
    }
}

/// More executions are under way than programs could mean.
#[derive(Debug)]
pub(super) struct TooMany;

impl Queue {
    /// Looks at a process: what has happened is taken off the queue. Returns what runs if none of
    /// its executions was judged as that.
    ///
    /// No execution of it can be let through meanwhile, for that takes the same lock.
    fn settle(&mut self, process: ProcessId) -> Option<Actual> {
        let mut different = None;
        let mut gone = false;
        let mut happened = false;
        for one in &mut self.waiting {
            if one.expected.id != process {
                continue;
            }
            one.looks += 1;
            one.due = Instant::now() + pause(one.looks);
            match look(&one.expected) {
                Seen::NotYet => {}
                Seen::Different(actual) => {
                    different = Some(*actual);
                    happened = true;
                }
                // Of several, one is over as soon as another is there: a process runs one program.
                Seen::AsJudged => {
                    different = None;
                    happened = true;
                    break;
                }
                Seen::Gone => {
                    different = None;
                    happened = true;
                    gone = true;
                    break;
                }
            }
        }
        if happened {
            let of_it = |one: &mut Waiting| one.expected.id == process;
            let over = self.waiting.extract_if(.., of_it);
            // Which of several happened, if any did, nobody knows.
            let unseen = over.map(|one| one.expected).filter(|_| gone);
            self.unseen.extend(unseen);
        }
        different
    }
}

/// Starts the thread; it ends when the notifier does.
///
/// # Errors
/// When there is no thread.
pub(crate) fn start(shared: &Arc<Supervision>) -> io::Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    std::thread::Builder::new()
        .name("verify".to_owned())
        .spawn(move || watch(&shared))
}

fn watch(shared: &Supervision) {
    while let Some(mut queue) = shared.second_looks.due() {
        let now = Instant::now();
        let is_due = |one: &&Waiting| one.due <= now;
        let due: Vec<ProcessId> = queue
            .waiting
            .iter()
            .filter(is_due)
            .map(|one| one.expected.id)
            .collect();
        let different: Vec<Actual> = due.iter().filter_map(|id| queue.settle(*id)).collect();
        for actual in different {
            // What such a process wants next waits for this: the queue is locked until it is known.
            shared.judge_again(actual);
        }
        let unseen = std::mem::take(&mut queue.unseen);
        let suspicious = shared.tell_unseen(unseen);
        queue.suspicious += suspicious;
        if suspicious > 0 && queue.suspicious >= SUSPICIOUS_MAX {
            shared.end_for_unseen(queue.suspicious);
        }
        drop(queue);
        shared.second_looks.left.notify_one();
    }
    // All processes are gone: what was let through last is not seen any more.
    let mut queue = lock(&shared.second_looks.queue);
    let waiting = std::mem::take(&mut queue.waiting);
    let mut unseen = std::mem::take(&mut queue.unseen);
    drop(queue);
    unseen.extend(waiting.into_iter().map(|one| one.expected));
    shared.tell_unseen(unseen);
}

fn pause(looks: usize) -> Duration {
    PAUSES
        .get(looks)
        .or(PAUSES.last())
        .copied()
        .unwrap_or_default()
}

/// What a process runs that was not judged as that.
pub(super) struct Actual {
    /// Its file; an error where it cannot be seen.
    file: io::Result<ProgramFile>,
    argv: Vec<RawText>,
    judged: ExecRequest,
}

enum Seen {
    AsJudged,
    Different(Box<Actual>),
    NotYet,
    Gone,
}

fn look(expected: &Expected) -> Seen {
    let pid = expected.id.pid;
    let hidden = match Running::of(pid) {
        Ok(running) if running.is_whole(expected) => return Seen::AsJudged,
        Ok(_) => false,
        Err(error) if is_hidden(&error) => true,
        Err(_) => return Seen::Gone,
    };
    // Only now does it matter whether it has happened, and to the same process. The kernel moves the
    // stack before the new program runs, and what is read below waits for the rest. What was judged
    // could be seen, so what cannot has come after it.
    match procfs::of_process(pid) {
        Ok(now) if now.id != expected.id => return Seen::Gone,
        Ok(_) if hidden => {}
        Ok(now) if now.stack == 0 || now.stack == expected.stack => return Seen::NotYet,
        Ok(_) => {}
        Err(_) => return Seen::Gone,
    }
    let file = ProgramFile::of_process(pid);
    let argv = match (Running::of(pid), &file) {
        (Ok(running), _) if running.is_whole(expected) => return Seen::AsJudged,
        (Ok(running), Ok(_)) => running.argv,
        (Err(error), Err(_)) if is_hidden(&error) => procfs::command_line(pid),
        _ => return Seen::Gone,
    };
    Seen::Different(Box::new(Actual {
        file,
        argv,
        judged: expected.request.clone(),
    }))
}

/// Whether the kernel keeps a process from us: it runs a file that its user may not read.
fn is_hidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// What a process runs now.
struct Running {
    /// Device and inode of its image.
    image: (u64, u64),
    argv: Vec<RawText>,
}

impl Running {
    fn of(pid: u32) -> io::Result<Self> {
        let metadata = fs::metadata(format!("/proc/{pid}/exe"))?;
        Ok(Self {
            image: (metadata.dev(), metadata.ino()),
            argv: once_there(|| procfs::command_line(pid)),
        })
    }

    fn is(&self, expected: &Expected) -> bool {
        let judged = &expected.request.argv;
        let same_arguments = if expected.script {
            // A script's arguments come after its interpreter's.
            let arguments = judged.get(1..).unwrap_or_default();
            self.argv.len() > arguments.len() && self.argv.ends_with(arguments)
        } else {
            procfs::same_command_line(&self.argv, judged)
        };
        self.image == expected.file && same_arguments
    }

    /// Whether it also has the content that was judged, and the variables where an answer binds
    /// them: they lie in memory that others can change between our look and the kernel's.
    fn is_whole(&self, expected: &Expected) -> bool {
        let content = || ProgramFile::of_process(expected.id.pid).and_then(|file| file.digest());
        self.is(expected)
            && (!expected.by_answer || environment_of(expected) == expected.request.environment)
            && expected
                .content
                .is_none_or(|judged| content().is_ok_and(|now| now == judged))
    }
}

/// How often, and after what time, what is not there yet is looked for again.
const LOOKS_MAX: usize = 20;
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// Reads arguments or variables of a process. The kernel moves the stack of an execution
/// (`setup_arg_pages`) before it says where these lie (`create_elf_tables`), and in between there
/// are none: what is empty is looked for again, for a while.
fn once_there<T>(read: impl Fn() -> Vec<T>) -> Vec<T> {
    let mut found = read();
    for _ in 0..LOOKS_MAX {
        if !found.is_empty() {
            break;
        }
        std::thread::sleep(LOOK_PAUSE);
        found = read();
    }
    found
}

/// Reads the variables that a process has, which can be none.
fn environment_of(expected: &Expected) -> Vec<(RawText, RawText)> {
    let read = || procfs::environment(expected.id.pid).unwrap_or_default();
    if expected.request.environment.is_empty() {
        read()
    } else {
        once_there(read)
    }
}

impl Supervision {
    /// Journals executions that nobody saw; returns how many of them are suspicious.
    fn tell_unseen(&self, unseen: Vec<Expected>) -> usize {
        let mut suspicious = 0;
        for one in unseen {
            let (why, is_suspicious) = self.leads_now(&one);
            suspicious += usize::from(is_suspicious);
            let request = one.request;
            let process = Subject {
                exe: request.program,
                argv: request.argv.into(),
                ..request.subject
            };
            let event = Event::ExecUnconfirmed {
                process,
                why,
                suspicious: is_suspicious,
            };
            // A failure ends the session, as for every other event.
            self.write(&event, Durability::Written);
        }
        suspicious
    }

    /// Finds out where the path of an execution that nobody saw leads now.
    fn leads_now(&self, expected: &Expected) -> (String, bool) {
        const GONE: &str = "its process ended before it was seen to run";
        let Some((asked, resolver)) = expected.asked.as_ref().zip(self.root.get()) else {
            return (GONE.to_owned(), false);
        };
        // Links of `/proc` that mean the process lead nowhere now.
        let file = match ProgramFile::at(resolver, asked) {
            Ok(file) if file.image() == expected.named => return (GONE.to_owned(), false),
            Ok(file) => file,
            Err(error) => {
                return (
                    format!("{GONE}, and its path leads nowhere ({error})"),
                    false,
                );
            }
        };
        let now = file.path.clone();
        let (_, decision) = self.decide_running(expected.request.clone(), file);
        let now = RawText::from_os(now.as_os_str());
        let allowed = decision.verdict == Verdict::Allow;
        let but = if allowed { "" } else { ", which may not run" };
        (
            format!("{GONE}, and its path leads to `{now}` now{but}"),
            !allowed,
        )
    }

    fn end_for_unseen(&self, count: usize) {
        if self.over.swap(true, Ordering::AcqRel) {
            // Another finding ends the session already.
            return;
        }
        let title = "programs that may not run replaced the judged ones";
        let detail =
            format!("{count} times a process ended before it was seen, and its path led elsewhere");
        let finding = Event::FindingRaised {
            severity: Severity::High,
            title: title.to_owned(),
            detail: detail.clone(),
            decisions: Vec::new(),
        };
        // The session ends whether or not it can be written.
        self.write(&finding, Durability::Synced);
        (self.abort)(&format!("{title}: {detail}"));
    }

    /// Judges what a process really runs; when it may not, the session is over.
    pub(super) fn judge_again(&self, actual: Actual) {
        let Actual { file, argv, judged } = actual;
        let exe = match &file {
            Ok(file) => RawText::from_os(file.path.as_os_str()),
            Err(_) => argv.first().cloned().unwrap_or_default(),
        };
        let request = ExecRequest {
            program: exe.clone(),
            invoked_as: exe.clone(),
            argv,
            ..judged.clone()
        };
        let (request, decision) = match file {
            Ok(file) => self.decide_running(request, file),
            Err(error) => Self::decide_unknown(request, &error),
        };
        if decision.verdict == Verdict::Allow {
            return;
        }
        self.over.store(true, Ordering::Release);
        let id = self.recorder.new_decision();
        let record = self.recorder.record(id, &request, &decision);
        let ran = record.target.summary();
        let judged = Request::Exec(judged.clone()).target().summary();
        let detail = format!("judged `{judged}`, ran `{ran}` ({})", exe.display());
        // The session ends whether or not these can be written.
        drop(
            self.recorder
                .write(&Event::ExecDecided { decision: record }, Durability::Synced),
        );
        let finding = Event::FindingRaised {
            severity: Severity::High,
            title: "a program ran that is not the one that was judged".to_owned(),
            detail: detail.clone(),
            decisions: vec![id],
        };
        drop(self.recorder.write(&finding, Durability::Synced));
        (self.abort)(&format!(
            "a program ran that is not the one that was judged: {detail}"
        ));
    }
}
