//! The shared state of the threads that judge, and the answer to one call.

use std::{
    collections::HashMap,
    future::Future,
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use stockade_event::{Durability, Event};
use stockade_plan::{Identity, Refusals};
use stockade_policy::{
    Access, Approvals, Beginnings, Decision, LastingRule, Policy, Request, WorkspaceSettings,
};
use stockade_sandbox::Binder;
use stockade_secrets::hide_words;
use stockade_sys::{
    notifier::{Notification, Notifier},
    seccomp::name,
};
use stockade_types::{Answerer, ApprovalId, DecisionRecord, RawText, Subject, Verdict};

use crate::{
    areas::Areas,
    calls, drafts,
    environment::StartEnvironment,
    git,
    git::Remotes,
    hands::{Callers, Hands, Masks},
    lanes,
    lanes::{Lanes, Work},
    lives::Lives,
    mount_watch::Replaced,
    places::Places,
    processes::Processes,
    program_file,
    recorder::{Recorder, SUPERVISOR, lock},
    resolve::Resolver,
    search, tracing,
    turns::Turns,
    verify,
};
use stockade_approval::{Asker, Desk, Outcome};

/// `EACCES`, for a call that policy denies.
pub(crate) const ERRNO_DENIED: i32 = 13;
/// `EPERM`, for a call that could not be judged.
pub(crate) const ERRNO_NOT_JUDGED: i32 = 1;

/// `AT_EMPTY_PATH`: the descriptor itself is meant.
pub(crate) const EMPTY_PATH: u64 = 0x1000;

/// The shared state of the notifier's threads.
pub(crate) struct Supervision {
    pub(crate) policy: Arc<Policy>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) recorder: Arc<Recorder>,
    /// Where changes are watched.
    pub(crate) areas: Areas,
    /// Whether any rule of policy is about files.
    pub(crate) restricts_files: bool,
    /// Names with which protected paths begin.
    pub(crate) beginnings: Beginnings,
    /// The protected names in shares that hold packages.
    pub(crate) in_packages: WorkspaceSettings,
    /// User and group of the session's processes.
    pub(crate) identity: Identity,
    pub(crate) masks: Masks,
    /// The calls that the filter refuses and reports to us.
    pub(crate) refusals: Refusals,
    /// Gives sockets their addresses.
    pub(crate) binder: Arc<Mutex<Binder>>,
    /// Opens of pipes that wait.
    pub(crate) pipes: AtomicUsize,
    /// Changes are made one after the other.
    pub(crate) turns: Turns,
    /// The source of the session's calls, and the destination of their answers.
    pub(crate) notifier: Notifier,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) callers: Mutex<Callers>,
    /// The targets of protected names at the start of the session.
    pub(crate) places: Arc<Places>,
    /// Protected files that the supervisor replaces on behalf of the session.
    pub(crate) replaced: Arc<Replaced>,
    /// Records the remotes that the session adds.
    pub(crate) remotes: Remotes,
    /// Pointers of git that are being written.
    pub(crate) pointers: Mutex<git::Pointers>,
    pub(crate) processes: Arc<Processes>,
    /// How processes end, and what they use.
    pub(crate) lives: Arc<Lives>,
    /// The environment that the command was started with.
    pub(crate) start: StartEnvironment,
    /// File names of the agent's own programs.
    pub(crate) agent_names: Vec<String>,
    /// Ends the session; the journal failed or the egress process is gone.
    pub(crate) abort: Box<dyn Fn(&str) + Send + Sync>,
    /// Resolver of the first caller; its root directory is that of all.
    pub(crate) root: OnceLock<Resolver>,
    pub(crate) state: Mutex<State>,
    pub(crate) files: program_file::Identities,
    /// Executions that passed and wait for their post-exec verification.
    pub(crate) second_looks: verify::SecondLooks,
    /// A program ran that may not; no call is permitted any more while the session ends.
    pub(crate) over: AtomicBool,
}

/// The parts of a session that its judging needs.
pub struct Parts {
    /// The policy that decides.
    pub policy: Arc<Policy>,
    /// The desk for questions.
    pub desk: Arc<Desk>,
    /// The writer of events.
    pub recorder: Arc<Recorder>,
    /// Where changes are watched.
    pub areas: Areas,
    /// User and group of the session's processes.
    pub identity: Identity,
    /// The calls that the filter refuses and reports.
    pub refusals: Refusals,
    /// Gives sockets their addresses.
    pub binder: Arc<Mutex<Binder>>,
    /// The targets of protected names at the start of the session.
    pub places: Arc<Places>,
    /// Protected files that the supervisor replaces on behalf of the session.
    pub replaced: Arc<Replaced>,
    /// Records the remotes that the session adds.
    pub remotes: Remotes,
    /// The processes of the session.
    pub processes: Arc<Processes>,
    /// Records how they end.
    pub lives: Arc<Lives>,
    /// The environment that the command was started with.
    pub start: StartEnvironment,
    /// Ends the session; the journal failed or the egress process is gone.
    pub abort: Box<dyn Fn(&str) + Send + Sync>,
}

impl Supervision {
    pub(crate) fn new(parts: Parts, notifier: Notifier) -> Self {
        let settings = parts.policy.settings();
        let files = program_file::Identities::new(
            parts.policy.command_names(),
            parts.policy.names_digests(),
        );
        Self {
            restricts_files: parts.policy.restricts_files(),
            beginnings: settings.workspace.beginnings(),
            in_packages: settings.workspace.within_packages(),
            agent_names: settings.preset.commands.clone(),
            files,
            policy: parts.policy,
            desk: parts.desk,
            recorder: parts.recorder,
            areas: parts.areas,
            identity: parts.identity,
            masks: Masks::default(),
            refusals: parts.refusals,
            binder: parts.binder,
            pipes: AtomicUsize::new(0),
            turns: Turns::default(),
            notifier,
            lanes: Arc::default(),
            callers: Mutex::default(),
            places: parts.places,
            replaced: parts.replaced,
            remotes: parts.remotes,
            pointers: Mutex::default(),
            processes: parts.processes,
            lives: parts.lives,
            start: parts.start,
            abort: parts.abort,
            root: OnceLock::new(),
            state: Mutex::default(),
            second_looks: verify::SecondLooks::default(),
            over: AtomicBool::new(false),
        }
    }
}

/// The memory between calls.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Changes that were recorded already: their era, and a bit for each kind, by path.
    pub(crate) changed: HashMap<Vec<u8>, (u64, u8)>,
    /// Changes of the working tree by processes of git, by process id.
    pub(crate) checkouts: HashMap<u32, git::Checkout>,
    /// Protected files that the session made.
    pub(crate) made: git::Made,
    /// Content for protected files that no answer covers yet.
    pub(crate) drafts: Vec<drafts::Draft>,
    /// The content of protected files before the session replaced them.
    pub(crate) firsts: drafts::Firsts,
    /// Settings of git as the session found them, by path; `None` if it made them.
    pub(crate) first_settings: HashMap<std::path::PathBuf, Option<Vec<u8>>>,
    /// Refused commands that their callers may still try in other directories.
    pub(crate) searches: search::Searches,
    /// Refused calls that were recorded already.
    pub(crate) told: calls::Told,
    /// Processes that must not be traced, and those that were.
    pub(crate) seals: tracing::Seals,
}

/// Recorded changes that are remembered; past this, changes are recorded again.
const CHANGED_MAX: usize = 100_000;

/// Starts the later answer to a call: it waits for a person, or for another event.
pub(crate) type Later = Box<dyn FnOnce(Caller) -> Work + Send>;

/// A call that waits, with its session.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) shared: Arc<Supervision>,
    pub(crate) call: Notification,
}

impl Caller {
    /// Whether it still waits; otherwise the result would have no receiver.
    pub(crate) fn is_waiting(&self) -> bool {
        self.shared.notifier.is_waiting(&self.call)
    }

    /// Judges a call that waited for something else, and answers it.
    pub(crate) async fn resume(self) -> Answer {
        loop {
            let judge = |hands: &mut Hands| self.shared.judge(hands, &self.call);
            match Hands::with(judge).unwrap_or(Reply::Refuse(ERRNO_NOT_JUDGED)) {
                Reply::Busy => {
                    // The judgement takes the turn itself.
                    let turn = self.shared.turns.taken().await;
                    drop(turn);
                }
                reply => return reply.answer(self).await,
            }
        }
    }
}

impl Reply {
    /// Waits for the answer. If another call has the turn there is none.
    pub(crate) async fn answer(self, caller: Caller) -> Answer {
        match self {
            Self::Now(answer) => answer,
            Self::Proceed => Answer::Proceeds,
            Self::Refuse(errno) => Answer::Fails(errno),
            Self::Later(later) => later(caller).await,
            Self::Busy => Answer::Fails(ERRNO_NOT_JUDGED),
        }
    }
}

/// Answers a call later.
pub(crate) fn later<F>(begin: impl FnOnce(Caller) -> F + Send + 'static) -> Reply
where
    F: Future<Output = Answer> + Send + 'static,
{
    Reply::Later(Box::new(|caller| Box::pin(begin(caller))))
}

/// The answer to one call.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The kernel does the call.
    Proceeds,
    /// The supervisor did it on the caller's behalf; the call returns zero.
    Returns,
    /// A file was opened on the caller's behalf; the call returns a descriptor of it.
    Opened { file: OwnedFd, close_on_exec: bool },
    /// The call fails with this error number.
    Fails(i32),
}

impl From<Result<(), i32>> for Answer {
    fn from(verdict: Result<(), i32>) -> Self {
        match verdict {
            Ok(()) => Self::Proceeds,
            Err(errno) => Self::Fails(errno),
        }
    }
}

/// The outcome of judging one call.
pub(crate) enum Reply {
    /// The kernel does the call.
    Proceed,
    /// The call fails with this error number.
    Refuse(i32),
    /// It is answered at once.
    Now(Answer),
    /// It is answered later.
    Later(Later),
    /// Another call has the turn; nothing was done yet.
    Busy,
}

impl Supervision {
    /// Answers a call. Once the session is over, no call is permitted.
    pub(crate) fn answer(&self, call: &Notification, answer: Answer) {
        let notifier = &self.notifier;
        let over = self.over.load(Ordering::Acquire);
        let answered = match answer {
            Answer::Fails(errno) => notifier.refuse(call, errno),
            _ if over => notifier.refuse(call, ERRNO_NOT_JUDGED),
            Answer::Proceeds => notifier.proceed(call),
            Answer::Returns => notifier.complete(call, 0),
            Answer::Opened {
                file,
                close_on_exec,
            } => match notifier.hand_over(call, file.as_fd(), close_on_exec) {
                Ok(Err(errno)) => notifier.refuse(call, errno),
                Ok(Ok(())) => Ok(()),
                Err(error) => Err(error),
            },
        };
        if let Err(error) = answered {
            (self.abort)(&format!("the notifier failed: {error}"));
        }
        self.second_looks.announce();
    }

    pub(crate) fn judge(&self, hands: &mut Hands, call: &Notification) -> Reply {
        let Some(call_name) = name(call.number) else {
            return Reply::Refuse(ERRNO_NOT_JUDGED);
        };
        let tid = call.tid();
        if self.settle_written(hands, tid).is_none() {
            return Reply::Busy;
        }
        if call_name == "exit_group"
            && let Some(asks) = self.ask_first(drafts::Moment::Ends, tid)
        {
            return asks;
        }
        if call_name == "exit_group" || call_name == "exit" {
            // Threads come and go; only a process is forgotten.
            if call_name == "exit_group" {
                self.forget_callers();
                if self.end_checkout(hands, tid).is_none() {
                    return Reply::Busy;
                }
            }
            if let Some(different) = self.second_looks.at_exit(tid) {
                self.judge_different(different);
            }
            let [status, ..] = call.arguments;
            let code = i32::try_from(status & 0xff).ok();
            self.lives
                .leaves(tid, code.filter(|_| call_name == "exit_group"));
            return Reply::Proceed;
        }
        if self.over.load(Ordering::Acquire) {
            return Reply::Refuse(ERRNO_NOT_JUDGED);
        }
        if let Some(refused) = self.refuse_call(call, call_name, tid) {
            return refused;
        }
        if matches!(call_name, "chown" | "lchown" | "fchown" | "fchownat") {
            return self.judge_owner(call, call_name, tid);
        }
        let Ok(resolver) = self.resolver(tid) else {
            return Reply::Refuse(ERRNO_NOT_JUDGED);
        };
        match call_name {
            "execve" | "execveat" => {
                if let Some(asks) = self.ask_first(drafts::Moment::Runs, tid) {
                    return asks;
                }
                self.forget_callers();
                self.judge_exec(&resolver, call, call_name, tid)
            }
            "ptrace" => self.judge_trace(call, tid),
            "umask" => {
                self.note_mask(tid, call);
                Reply::Proceed
            }
            _ => {
                let Some(turn) = self.turns.take() else {
                    return Reply::Busy;
                };
                let reply = self.judge_change(hands, &resolver, call, call_name);
                drop(turn);
                reply
            }
        }
    }

    /// Makes the pointers of git that were written since the last call: their writers expect them
    /// to exist. `None` if another call has the turn.
    fn settle_written(&self, hands: &mut Hands, tid: u32) -> Option<()> {
        if lock(&self.pointers).is_empty() {
            return Some(());
        }
        if let Ok(resolver) = self.resolver(tid) {
            let turn = self.turns.take()?;
            self.settle_pointers(hands, &resolver);
            drop(turn);
        }
        Some(())
    }

    /// Tells whether a rule is about changes of files, of this policy or of one that denies beside it by
    /// now.
    pub(crate) fn restricts_files(&self) -> bool {
        self.restricts_files || (self.policy.is_tightened() && self.policy.restricts_files())
    }

    /// Makes a resolver; all processes have one root, since none may change its own.
    pub(crate) fn resolver(&self, tid: u32) -> std::io::Result<Resolver> {
        if let Some(known) = self.root.get() {
            return Ok(known.for_thread(tid));
        }
        let resolver = Resolver::new(tid, self.identity.uid)?;
        Ok(self.root.get_or_init(|| resolver).for_thread(tid))
    }

    pub(crate) fn subject(&self, tid: u32) -> Subject {
        self.processes.subject(tid)
    }

    /// Journals a decision; `None` if that failed, and then the session ends.
    pub(crate) fn write(&self, event: &Event, durability: Durability) -> Option<()> {
        self.write_all(std::slice::from_ref(event), durability)
    }

    /// Journals events that belong together, with one write.
    pub(crate) fn write_all(&self, events: &[Event], durability: Durability) -> Option<()> {
        if durability == Durability::Synced {
            lanes::slow();
        }
        match self.recorder.write_all(SUPERVISOR, events, durability) {
            Ok(_) => Some(()),
            Err(error) => {
                // A call that was permitted meanwhile is not done either.
                self.over.store(true, Ordering::Release);
                (self.abort)(&format!("the journal cannot be written: {error}"));
                None
            }
        }
    }

    /// Returns the rule that would keep an answer; no rule keeps a command that has a secret.
    fn lasting(&self, request: &Request, decision: &Decision) -> Option<LastingRule> {
        match request {
            Request::Exec(exec) if hide_words(&exec.argv).is_some() => None,
            _ => self.policy.lasting(request, decision),
        }
    }

    /// Asks about `request`, whose decision was ask, and returns the outcome with the approval that
    /// was used. The caller must journal its event, on disk and before the effect.
    pub(crate) async fn ask(
        &self,
        request: &Request,
        decision: &Decision,
        caller: &Caller,
    ) -> (DecisionRecord, Option<ApprovalId>) {
        let id = self.recorder.new_decision();
        let decide = |approvals: &Approvals| self.policy.decide(request, approvals);
        let asker = Asker {
            request,
            decision,
            decision_id: id,
            revision: self.recorder.revision(),
            intent: self.recorder.says(request.subject()),
            decide: &decide,
            wanted: &|| caller.is_waiting(),
            covered: None,
            lasting: self.lasting(request, decision),
        };
        let outcome = self.desk.asked(&asker).await;
        let (last, used) = match outcome {
            Outcome::Granted { approvals, id } => (decide(&approvals), Some(id)),
            Outcome::Refused { by, reason, .. } => (refused(decision, &by, &reason), None),
        };
        (self.recorder.record(id, request, &last), used)
    }

    /// Returns a denial because the approved request no longer matches what would run.
    pub(crate) fn changed_since(&self, request: &Request, decision: &Decision) -> DecisionRecord {
        let refused = Decision {
            verdict: Verdict::Deny,
            reason: "the request is not the one that was approved: it changed meanwhile".to_owned(),
            ..decision.clone()
        };
        self.recorder
            .record(self.recorder.new_decision(), request, &refused)
    }
}

/// The decision that an unanswered or denied question turns into.
pub fn refused(decision: &Decision, by: &Answerer, reason: &str) -> Decision {
    let reason = match by {
        Answerer::Circumstance(_) => reason.to_owned(),
        Answerer::Person(_) | Answerer::People(_) | Answerer::Approval(_) | Answerer::Rule(_) => {
            format!("denied by {by}: {reason}")
        }
    };
    Decision {
        verdict: Verdict::Deny,
        answered: Some(by.clone()),
        reason,
        ..decision.clone()
    }
}

impl State {
    /// Whether a call changes only its own path.
    pub(crate) fn has_only_plain_changes(&self) -> bool {
        self.drafts.is_empty() && self.checkouts.is_empty()
    }

    /// Notes a change; `true` if it is new in this era (see [`crate::Origins::era`]).
    pub(crate) fn note_change(&mut self, path: &RawText, access: Access, era: u64) -> bool {
        if self.changed.len() >= CHANGED_MAX {
            self.changed.clear();
        }
        let path = path.as_bytes();
        // Git makes and removes its locks with every command; one record is enough.
        let kept_by_git = path.windows(6).any(|part| part == b"/.git/");
        // A path that is made again after its removal, or removed again after it was made, is news.
        let opposite = match access {
            _ if kept_by_git => 0,
            Access::Remove => bit(Access::Create) | bit(Access::Write) | bit(Access::Mode),
            Access::Create => bit(Access::Remove),
            Access::Write | Access::Rename | Access::Mode => 0,
        };
        let noted = match self.changed.get_mut(path) {
            Some((of, noted)) if *of == era => noted,
            Some(_) | None => {
                self.changed.insert(path.to_vec(), (era, bit(access)));
                return true;
            }
        };
        let known = *noted & bit(access) != 0;
        *noted = *noted & !opposite | bit(access);
        !known
    }
}

const fn bit(access: Access) -> u8 {
    match access {
        Access::Write => 1,
        Access::Create => 2,
        Access::Remove => 4,
        Access::Rename => 8,
        Access::Mode => 16,
    }
}

/// Locks the remembered state.
pub(crate) fn state(supervision: &Supervision) -> std::sync::MutexGuard<'_, State> {
    lock(&supervision.state)
}

/// Reads a descriptor argument: the kernel uses the lower half of the register, as a signed number.
pub(crate) fn descriptor(argument: u64) -> i32 {
    let low = u32::try_from(argument & 0xFFFF_FFFF).unwrap_or_default();
    i32::from_ne_bytes(low.to_ne_bytes())
}
