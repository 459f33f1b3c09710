//! Looking at what really runs after an execution was let through.
//!
//! A program with shared memory can change path and arguments between the verdict and the kernel's
//! own look at them. So the image and the arguments are read again once the execution has happened.
//! What differs is judged as it is: if it may run anyway no harm was done; if it would have been
//! asked about or denied, the session ends.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use stockade_event::{Durability, Event};
use stockade_policy::{Approvals, ExecRequest, Request};
use stockade_types::{ProcessId, RawText, Verdict};

use super::Supervision;
use crate::{RunError, procfs};

/// Executions that wait for their second look; when it is full the notifier waits, nothing is lost.
const QUEUE_MAX: usize = 1024;
/// When an execution is looked at: the kernel needs well below a millisecond, a large image on a
/// busy machine more.
const LOOKS: [Duration; 5] = [
    Duration::from_micros(500),
    Duration::from_millis(2),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(200),
];

/// An execution that was let through.
pub(crate) struct Expected {
    /// The process.
    pub(super) id: ProcessId,
    /// Device and inode of what it ran before.
    pub(super) before: Option<(u64, u64)>,
    /// Device and inode of the judged file; of the interpreter, if it is a script.
    pub(super) file: (u64, u64),
    /// What was judged.
    pub(super) request: ExecRequest,
    /// Whether the kernel puts an interpreter in front of the arguments.
    pub(super) script: bool,
}

struct Waiting {
    expected: Expected,
    since: Instant,
    looks: usize,
}

/// Gives executions to the thread that looks at them.
pub(crate) type Expectations = SyncSender<Expected>;

/// Makes the queue between the notifier and [`start`].
pub(crate) fn queue() -> (Expectations, Receiver<Expected>) {
    sync_channel(QUEUE_MAX)
}

/// Starts the thread; it ends when the notifier does.
///
/// # Errors
/// When there is no thread.
pub(crate) fn start(
    shared: &Arc<Supervision>,
    expectations: Receiver<Expected>,
) -> Result<JoinHandle<()>, RunError> {
    let shared = Arc::clone(shared);
    std::thread::Builder::new()
        .name("verify".to_owned())
        .spawn(move || watch(&shared, &expectations))
        .map_err(RunError::Supervisor)
}

fn watch(shared: &Supervision, expectations: &Receiver<Expected>) {
    let mut waiting: Vec<Waiting> = Vec::new();
    loop {
        let received = match next_look(&waiting) {
            None => expectations
                .recv()
                .map_err(|_| RecvTimeoutError::Disconnected),
            Some(pause) => expectations.recv_timeout(pause),
        };
        match received {
            Ok(expected) => supersede(&mut waiting, expected),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let (mut different, kept) = look_at_all(waiting);
        waiting = kept;
        // A process that was let through once more in the meantime runs that now. It was put into
        // the queue before it could run, so it is there by now if that is the reason.
        while let Ok(expected) = expectations.try_recv() {
            different.retain(|one| one.id != expected.id);
            supersede(&mut waiting, expected);
        }
        for one in different {
            shared.judge_again(&one);
        }
    }
}

/// Adds an execution; what the same process was to run before is over.
fn supersede(waiting: &mut Vec<Waiting>, expected: Expected) {
    waiting.retain(|one| one.expected.id != expected.id);
    waiting.push(Waiting {
        expected,
        since: Instant::now(),
        looks: 0,
    });
}

/// Looks at what is due; returns what runs something else, and what must be looked at again.
fn look_at_all(waiting: Vec<Waiting>) -> (Vec<Expected>, Vec<Waiting>) {
    let mut different = Vec::new();
    let mut kept = Vec::new();
    for mut one in waiting {
        if one.since.elapsed() < delay(one.looks) {
            kept.push(one);
            continue;
        }
        one.looks += 1;
        let last = one.looks >= LOOKS.len();
        match look(&one.expected) {
            Seen::AsJudged | Seen::Gone => {}
            Seen::NotYet if !last => kept.push(one),
            Seen::NotYet | Seen::Different => different.push(one.expected),
        }
    }
    (different, kept)
}

fn delay(looks: usize) -> Duration {
    LOOKS
        .get(looks)
        .or(LOOKS.last())
        .copied()
        .unwrap_or_default()
}

fn next_look(waiting: &[Waiting]) -> Option<Duration> {
    waiting
        .iter()
        .map(|one| delay(one.looks).saturating_sub(one.since.elapsed()))
        .min()
}

enum Seen {
    AsJudged,
    Different,
    NotYet,
    Gone,
}

fn look(expected: &Expected) -> Seen {
    let pid = expected.id.pid;
    let Ok(metadata) = fs::metadata(format!("/proc/{pid}/exe")) else {
        return Seen::Gone;
    };
    let image = (metadata.dev(), metadata.ino());
    let argv = procfs::command_line(pid);
    // A script's arguments come after its interpreter's.
    let tail = |argv: &[RawText], skip: usize| argv.get(skip..).unwrap_or_default().to_vec();
    let same_arguments = if expected.script {
        let arguments = tail(&expected.request.argv, 1);
        argv.len() > arguments.len() && argv.ends_with(&arguments)
    } else {
        procfs::same_command_line(&argv, &expected.request.argv)
    };
    if image == expected.file && same_arguments {
        return Seen::AsJudged;
    }
    // Only now does it matter whether this still is the same process.
    if procfs::start_time(pid).ok() != Some(expected.id.start) {
        return Seen::Gone;
    }
    if Some(image) == expected.before {
        Seen::NotYet
    } else {
        Seen::Different
    }
}

impl Supervision {
    /// Judges what a process really runs.
    fn judge_again(&self, expected: &Expected) {
        let pid = expected.id.pid;
        let exe = procfs::link(pid, "exe");
        let argv = procfs::command_line(pid);
        if exe.as_bytes().is_empty() || argv.is_empty() {
            return;
        }
        let actual = ExecRequest {
            program: exe.clone(),
            invoked_as: exe.clone(),
            digest: None,
            argv,
            ..expected.request.clone()
        };
        let request = Request::Exec(actual);
        let decision = self.policy.decide(&request, &Approvals::none());
        if decision.verdict == Verdict::Allow {
            return;
        }
        let id = self.recorder.new_decision();
        let record = self.recorder.record(id, &request, &decision);
        let ran = record.target.summary();
        let judged = Request::Exec(expected.request.clone()).target().summary();
        let detail = format!("judged `{judged}`, ran `{ran}` ({})", exe.display());
        // The session ends whether or not these can be written.
        drop(
            self.recorder
                .write(&Event::ExecDecided { decision: record }, Durability::Synced),
        );
        let finding = Event::FindingRaised {
            severity: "high".to_owned(),
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
