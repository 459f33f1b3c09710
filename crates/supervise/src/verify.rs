//! Verifies the program that really runs after an execution was permitted.
//!
//! A program with shared memory can change path and arguments between the verdict and the kernel's
//! own read of them. So the image and the arguments are read again once the execution has happened.
//! A program that differs is judged as it is: if policy allows it no harm was done; if policy would
//! have asked about it or denied it, the session ends. A process is checked soon after, and in any
//! case before it may execute another program; until then the execution counts as pending while the
//! stack has not moved. If a person allowed the execution, the variables are compared too.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use stockade_event::{Durability, Event};
use stockade_policy::{ExecRequest, Request};
use stockade_types::{ProcessId, RawText, Severity, Subject, Verdict, ignored};

use super::{
    Supervision,
    processes::shown,
    program_file::ProgramFile,
    running::{Actual, Expected, Seen, look},
};
use crate::{lanes, procfs, recorder::lock};

/// Executions that wait for their post-exec verification; if there are more, the next one waits.
const WAITING_MAX: usize = 1024;
/// How long it waits: only executions that do not happen stay longer.
const FULL_TIMEOUT: Duration = Duration::from_secs(5);
/// Permitted executions of one process that have not happened: each thread can have one in
/// progress, and a failed one stays until another happens or the process ends.
const OF_ONE_MAX: usize = 64;
/// Pauses before each check: the kernel needs well below a millisecond, a large image on a busy
/// machine more. The last pause repeats until the execution has happened or its process is gone,
/// since a program can make the kernel slow. A process that exits before the first check is checked
/// at its exit.
const PAUSES: [Duration; 6] = [
    Duration::from_micros(500),
    Duration::from_millis(2),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
];
/// Per session, executions whose process is gone and whose path now leads to a program that may not
/// run: two can come from a build that removes what it made.
const SUSPICIOUS_MAX: usize = 3;

/// Permitted executions that are not yet known to have happened.
#[derive(Default)]
pub(crate) struct SecondLooks {
    queue: Mutex<Queue>,
    /// An execution came while none was waited for, or the notifier ended.
    came: Condvar,
    /// An execution left, or a check of a process ended.
    left: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Processes that a thread checks. Their executions wait until it is known what they run; all
    /// other processes continue meanwhile.
    looked_at: HashSet<ProcessId>,
    /// Whether the thread sleeps until an execution comes; otherwise it wakes up by itself.
    idle: bool,
    closed: bool,
    /// Executions whose process was gone before its program was checked.
    unseen: Vec<Expected>,
}

struct Waiting {
    expected: Expected,
    due: Instant,
    looks: usize,
}

/// A check of a process by the current thread, until this is dropped.
struct Look<'q> {
    looks: &'q SecondLooks,
    process: ProcessId,
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        lock(&self.looks.queue).looked_at.remove(&self.process);
        self.looks.left.notify_all();
    }
}

/// A process that runs a program other than the judged one; its executions wait until this is
/// dropped.
pub(super) struct Different<'q> {
    actual: Actual,
    look: Look<'q>,
}

impl SecondLooks {
    /// Adds an execution that is about to be permitted.
    pub(super) fn expect(&self, expected: Expected) {
        let mut queue = self.not_looked_at(lock(&self.queue), expected.id);
        queue.waiting.push(Waiting {
            expected,
            due: Instant::now() + pause(0),
            looks: 0,
        });
    }

    /// Waits until no other thread checks a process.
    fn not_looked_at<'q>(
        &'q self,
        queue: MutexGuard<'q, Queue>,
        process: ProcessId,
    ) -> MutexGuard<'q, Queue> {
        if !queue.looked_at.contains(&process) {
            return queue;
        }
        drop(queue);
        lanes::slow();
        let looked_at = |queue: &mut Queue| queue.looked_at.contains(&process);
        let waited = self.left.wait_while(lock(&self.queue), looked_at);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the thread up for added executions, if it does not wake up by itself; to be called
    /// once the execution has its answer, which need not wait for this.
    pub(super) fn announce(&self) {
        let mut queue = lock(&self.queue);
        if queue.idle && !queue.waiting.is_empty() {
            queue.idle = false;
            drop(queue);
            self.came.notify_one();
        }
    }

    /// Checks a process that waits in a new execution: the last chance for its current program.
    /// Returns that program if it is not the judged one.
    pub(super) fn before_another(
        &self,
        process: ProcessId,
    ) -> Result<Option<Different<'_>>, TooMany> {
        let is_full = |queue: &Queue| queue.waiting.len() >= WAITING_MAX && !queue.closed;
        let pending = |queue: &Queue| {
            let of_it = |one: &&Waiting| one.expected.id == process;
            queue.waiting.iter().filter(of_it).count()
        };
        let mut queue = lock(&self.queue);
        if is_full(&queue) {
            drop(queue);
            lanes::slow();
            queue = lock(&self.queue);
        }
        let full = |queue: &mut Queue| is_full(queue);
        let waited = self.left.wait_timeout_while(queue, FULL_TIMEOUT, full);
        let (queue, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        let queue = self.not_looked_at(queue, process);
        if pending(&queue) == 0 && !timeout.timed_out() {
            return Ok(None);
        }
        drop(queue);
        let different = self.settle(process);
        let queue = lock(&self.queue);
        let too_many = pending(&queue) >= OF_ONE_MAX || queue.waiting.len() >= WAITING_MAX;
        if too_many && different.is_none() {
            return Err(TooMany);
        }
        Ok(different)
    }

    /// Checks the process of a thread that is about to end it: after its end its program is
    /// unknown. Returns the program if it is not the judged one.
    ///
    /// An execution of another thread may still be in progress; that one keeps waiting.
    pub(super) fn at_exit(&self, tid: u32) -> Option<Different<'_>> {
        let queue = lock(&self.queue);
        if queue.waiting.is_empty() && queue.looked_at.is_empty() {
            return None;
        }
        let of = |pid: u32| {
            let waiting = queue.waiting.iter().map(|one| &one.expected.id);
            let mut known = waiting.chain(&queue.looked_at);
            known.find(|id| id.pid == pid).copied()
        };
        let process = of(tid).or_else(|| of(procfs::identity(tid).ok()?.id.pid))?;
        drop(queue);
        self.settle(process)
    }

    /// Checks a process, and removes executions that have happened from the queue. Returns its
    /// program if none of its executions was judged as that.
    ///
    /// No execution of it is permitted meanwhile.
    fn settle(&self, process: ProcessId) -> Option<Different<'_>> {
        let mut queue = self.not_looked_at(lock(&self.queue), process);
        let of_it = |one: &mut Waiting| one.expected.id == process;
        let mut own: Vec<Waiting> = queue.waiting.extract_if(.., of_it).collect();
        if own.is_empty() {
            return None;
        }
        queue.looked_at.insert(process);
        drop(queue);
        let look = Look {
            looks: self,
            process,
        };
        let seen = look_at_all(&mut own);
        let mut queue = lock(&self.queue);
        match seen {
            SeenOfAll::NotYet => queue.waiting.append(&mut own),
            // It is unknown which of several happened, if any did.
            SeenOfAll::Gone => queue.unseen.extend(own.into_iter().map(|one| one.expected)),
            SeenOfAll::AsJudged => {}
            SeenOfAll::Different(actual) => {
                return Some(Different {
                    actual: *actual,
                    look,
                });
            }
        }
        // The drop of `look` takes the lock.
        drop(queue);
        drop(look);
        None
    }

    /// Ends the thread.
    pub(super) fn close(&self) {
        lock(&self.queue).closed = true;
        self.came.notify_one();
        self.left.notify_all();
    }

    /// Waits until checks are due, and returns their processes; `None` at the end.
    fn due(&self) -> Option<BTreeSet<ProcessId>> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.closed {
                return None;
            }
            let now = Instant::now();
            let next = queue.waiting.iter().map(|one| one.due).min();
            let left = next.map(|due| due.saturating_duration_since(now));
            queue = match left {
                Some(Duration::ZERO) => {
                    let due = queue.waiting.iter().filter(|one| one.due <= now);
                    return Some(due.map(|one| one.expected.id).collect());
                }
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

/// The joint result for the executions of one process.
enum SeenOfAll {
    NotYet,
    AsJudged,
    Different(Box<Actual>),
    Gone,
}

/// Checks the executions of one process. Of several, the others are over as soon as one has
/// happened: a process runs one program.
fn look_at_all(own: &mut [Waiting]) -> SeenOfAll {
    let mut seen = SeenOfAll::NotYet;
    for one in own {
        one.looks += 1;
        one.due = Instant::now() + pause(one.looks);
        match look(&one.expected) {
            Seen::NotYet => {}
            Seen::Different(actual) => seen = SeenOfAll::Different(actual),
            Seen::AsJudged => return SeenOfAll::AsJudged,
            Seen::Gone => return SeenOfAll::Gone,
        }
    }
    seen
}

/// More executions are in progress than a normal program has.
#[derive(Debug)]
pub(super) struct TooMany;

/// Starts the thread; it ends when the notifier does.
///
/// # Errors
/// When no thread can be started.
pub(crate) fn start(shared: &Arc<Supervision>) -> io::Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    std::thread::Builder::new()
        .name("verify".to_owned())
        .spawn(move || watch(&shared))
}

fn watch(shared: &Supervision) {
    let looks = &shared.second_looks;
    let mut suspicious = 0;
    while let Some(due) = looks.due() {
        for process in due {
            if let Some(different) = looks.settle(process) {
                shared.judge_different(different);
            }
        }
        let unseen = std::mem::take(&mut lock(&looks.queue).unseen);
        let found = shared.tell_unseen(unseen);
        suspicious += found;
        if found > 0 && suspicious >= SUSPICIOUS_MAX {
            shared.end_for_unseen(suspicious);
        }
        looks.left.notify_all();
    }
    // All processes are gone: the last permitted executions can no longer be checked.
    let mut queue = lock(&looks.queue);
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

impl Supervision {
    /// Journals executions that were not checked; returns how many of them are suspicious.
    fn tell_unseen(&self, unseen: Vec<Expected>) -> usize {
        let mut suspicious = 0;
        for one in unseen {
            let (why, is_suspicious) = self.leads_now(&one);
            suspicious += usize::from(is_suspicious);
            let request = one.request;
            let process = Subject {
                exe: request.program,
                argv: shown(&request.argv),
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

    /// Resolves the path of an unchecked execution now.
    fn leads_now(&self, expected: &Expected) -> (String, bool) {
        const GONE: &str = "its process ended before it was seen to run";
        let Some((asked, resolver)) = expected.asked.as_ref().zip(self.root.get()) else {
            return (GONE.to_owned(), false);
        };
        // Links of `/proc` that refer to the process resolve to nothing now.
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
        // The session ends whether or not this is written.
        self.write(&finding, Durability::Synced);
        (self.abort)(&format!("{title}: {detail}"));
    }

    /// Judges the program that a process really runs; the next execution of the process waits for
    /// this.
    pub(super) fn judge_different(&self, different: Different<'_>) {
        let Different { actual, look } = different;
        self.judge_again(actual);
        drop(look);
    }

    /// If it may not run, the session is over.
    fn judge_again(&self, actual: Actual) {
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
        let judged = Request::Exec(judged.clone());
        let judged = self.recorder.record(id, &judged, &decision);
        let judged = judged.target.summary();
        let detail = format!("judged `{judged}`, ran `{ran}` ({})", exe.display());
        ignored(
            self.recorder
                .write(&Event::ExecDecided { decision: record }, Durability::Synced),
            "the session ends whether or not this is written",
        );
        let finding = Event::FindingRaised {
            severity: Severity::High,
            title: "a program ran that is not the one that was judged".to_owned(),
            detail: detail.clone(),
            decisions: vec![id],
        };
        ignored(
            self.recorder.write(&finding, Durability::Synced),
            "the session ends whether or not this is written",
        );
        (self.abort)(&format!(
            "a program ran that is not the one that was judged: {detail}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _, sync::mpsc, thread};

    use stockade_policy::ExecRequest;
    use stockade_types::ProcessId;

    use super::{Expected, Look, SecondLooks};
    use crate::{procfs, recorder::lock};

    /// An execution of this process that was judged as what it runs.
    fn expected() -> Expected {
        let pid = std::process::id();
        let own = procfs::identity(pid).unwrap();
        let exe = fs::metadata("/proc/self/exe").unwrap();
        let file = (exe.dev(), exe.ino());
        Expected {
            id: own.id,
            // As it was before: the present stack is another one.
            stack: own.stack + 16,
            file,
            named: file,
            asked: None,
            content: None,
            request: ExecRequest {
                argv: procfs::command_line(pid),
                ..ExecRequest::default()
            },
            by_answer: false,
            script: false,
        }
    }

    fn other(expected: Expected) -> Expected {
        Expected {
            file: (0, 0),
            ..expected
        }
    }

    /// What is left after a look: whether it differs, how many wait on, and how many nobody saw.
    fn looked(all: Vec<Expected>) -> (bool, usize, usize) {
        let looks = SecondLooks::default();
        let process = all[0].id;
        for one in all {
            looks.expect(one);
        }
        let different = looks.settle(process).is_some();
        let queue = lock(&looks.queue);
        assert!(queue.looked_at.is_empty(), "it may go on");
        (different, queue.waiting.len(), queue.unseen.len())
    }

    #[test]
    fn what_runs_is_compared_with_what_was_judged() {
        let own = procfs::identity(std::process::id()).unwrap();
        let before = || Expected {
            stack: own.stack,
            ..other(expected())
        };
        let gone = || Expected {
            id: ProcessId {
                start: own.id.start + 1,
                ..own.id
            },
            ..other(expected())
        };
        assert_eq!(looked(vec![expected()]), (false, 0, 0));
        assert_eq!(looked(vec![other(expected())]), (true, 0, 0));
        assert_eq!(looked(vec![before()]), (false, 1, 0), "it has not happened");
        assert_eq!(
            looked(vec![gone()]),
            (false, 0, 1),
            "another process has its id"
        );
        // Of several it is enough that one was judged as that.
        assert_eq!(looked(vec![other(expected()), expected()]), (false, 0, 0));
        assert_eq!(looked(vec![before(), before()]), (false, 2, 0));
    }

    #[test]
    fn a_process_that_is_looked_at_waits_and_others_do_not() {
        let looks = SecondLooks::default();
        let process = procfs::identity(std::process::id()).unwrap().id;
        lock(&looks.queue).looked_at.insert(process);
        let look = Look {
            looks: &looks,
            process,
        };
        thread::scope(|scope| {
            let (sender, passed) = mpsc::channel();
            let looks = &looks;
            scope.spawn(move || {
                let waited = looks
                    .before_another(process)
                    .is_ok_and(|found| found.is_none());
                sender.send(waited).unwrap();
            });
            let parent = procfs::identity(std::os::unix::process::parent_id())
                .unwrap()
                .id;
            assert!(matches!(looks.before_another(parent), Ok(None)));
            assert!(passed.try_recv().is_err());
            drop(look);
            assert_eq!(passed.recv(), Ok(true));
        });
    }
}
