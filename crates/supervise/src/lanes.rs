//! The threads that answer the calls of a session: a few, of which one leads.
//!
//! The thread that leads receives calls and answers quick ones itself: handing each call to another
//! thread would take longer than most calls do. Before slow work ([`slow`]: hash a program, walk a
//! directory, wait for the disk) it passes the lead on, and another thread receives the next calls.
//! Calls of a process that has a slow call wait for that call, in their order. A call that waits
//! for a person, for the other end of a pipe or for its turn is a task ([`Task`]), which is bound
//! to no thread. If all threads are busy, calls wait in the kernel: none passes unjudged.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, VecDeque},
    future::Future,
    io, mem,
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use stockade_approval::WAIT_SLICE;
use stockade_sys::notifier::Notification;
use stockade_types::ignored;

use crate::{Answer, procfs, recorder::lock};

/// Threads that answer calls: one receives, and three can hash, walk or wait for the disk. More
/// would not be faster, since all of these wait for the same processors and the same disk.
const THREADS_MAX: usize = 4;

/// The rest of a call that waits.
pub(crate) type Work = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Starts one more thread that serves.
type Starter = Box<dyn Fn() -> io::Result<()> + Send + Sync>;

/// What the threads share.
#[derive(Default)]
pub(crate) struct Lanes {
    state: Mutex<State>,
    changed: Condvar,
    /// Processes with a slow call in progress; read for every call.
    slow: AtomicUsize,
    starter: OnceLock<Starter>,
}

#[derive(Default)]
struct State {
    /// Whether a thread leads.
    led: bool,
    threads: usize,
    /// Threads that wait for work, or were just woken for it.
    idle: usize,
    /// Processes with a slow call in progress, and their later calls.
    slow: HashMap<u32, VecDeque<Notification>>,
    /// Tasks that can continue.
    ready: VecDeque<Arc<Task>>,
    /// All tasks, by the call that each of them answers.
    tasks: HashMap<u64, Arc<Task>>,
    timers: BTreeMap<(Instant, u64), Waker>,
    timers_made: u64,
    /// Time of the next check whether the callers of tasks still wait.
    look_at: Option<Instant>,
    closed: bool,
}

/// What a thread does next.
pub(crate) enum Next {
    /// It receives calls.
    Lead,
    /// It continues a task.
    Run(Arc<Task>),
    /// It checks whether the callers of tasks still wait.
    Look,
    /// Every process of the session has ended.
    End,
}

/// A call that waits for something.
pub(crate) struct Task {
    pub(crate) call: Notification,
    lanes: Arc<Lanes>,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    /// The remaining work; nothing while a thread does it, and at the end.
    work: Option<Work>,
    queued: bool,
    /// Whether it was woken while a thread ran it.
    woken: bool,
}

thread_local! {
    static ROLE: RefCell<Option<Role>> = const { RefCell::new(None) };
}

/// The role of the current thread in its session.
struct Role {
    lanes: Arc<Lanes>,
    /// The thread whose call is answered, while this thread leads.
    leads_for: Option<u32>,
    /// The process whose call became slow.
    passed_for: Option<u32>,
}

/// Marks the following work as slow: from here on another thread receives calls.
///
/// Does nothing if the current thread does not lead.
pub(crate) fn slow() {
    ROLE.with_borrow_mut(|role| {
        let Some(role) = role else { return };
        let Some(tid) = role.leads_for else { return };
        let process = procfs::group(tid).unwrap_or(tid);
        if role.lanes.pass(process) {
            (role.leads_for, role.passed_for) = (None, Some(process));
        }
    });
}

/// Notes that the current thread, which leads, begins with a call of thread `tid`.
pub(crate) fn begin(lanes: &Arc<Lanes>, tid: u32) {
    ROLE.with_borrow_mut(|role| match role {
        Some(role) => role.leads_for = Some(tid),
        None => {
            *role = Some(Role {
                lanes: Arc::clone(lanes),
                leads_for: Some(tid),
                passed_for: None,
            });
        }
    });
}

/// Notes that the call is done; returns its process if the lead was passed on.
pub(crate) fn end() -> Option<u32> {
    ROLE.with_borrow_mut(|role| {
        let role = role.as_mut()?;
        role.leads_for = None;
        role.passed_for.take()
    })
}

impl Lanes {
    /// Counts the first thread, and sets how more are started.
    pub(crate) fn open(&self, starter: Starter) {
        lock(&self.state).threads += 1;
        ignored(self.starter.set(starter), "the lanes are opened once");
    }

    /// Waits for work.
    pub(crate) fn next(&self) -> Next {
        let mut state = lock(&self.state);
        loop {
            if let Some(task) = state.ready.pop_front() {
                return Next::Run(task);
            }
            if state.closed {
                return Next::End;
            }
            if !state.led {
                state.led = true;
                return Next::Lead;
            }
            let now = Instant::now();
            let due = state.take_due(now);
            if !due.is_empty() {
                drop(state);
                due.into_iter().for_each(Waker::wake);
                state = lock(&self.state);
                continue;
            }
            if state.look_at.is_some_and(|at| at <= now) {
                state.look_at = Some(now + WAIT_SLICE);
                return Next::Look;
            }
            state = self.rest(state, now);
        }
    }

    fn rest<'a>(&self, mut state: MutexGuard<'a, State>, now: Instant) -> MutexGuard<'a, State> {
        let timer = state.timers.keys().next().map(|(at, _)| *at);
        let until = timer.into_iter().chain(state.look_at).min();
        state.idle += 1;
        let mut state = if let Some(at) = until {
            let left = at.saturating_duration_since(now);
            let woken = self.changed.wait_timeout(state, left);
            woken.unwrap_or_else(PoisonError::into_inner).0
        } else {
            let woken = self.changed.wait(state);
            woken.unwrap_or_else(PoisonError::into_inner)
        };
        state.idle -= 1;
        state
    }

    /// Lets another thread receive calls; `false` if there is none.
    fn pass(&self, process: u32) -> bool {
        let mut state = lock(&self.state);
        state.slow.entry(process).or_default();
        self.slow.store(state.slow.len(), Ordering::Release);
        state.led = false;
        if self.call_threads(state) {
            return true;
        }
        let mut state = lock(&self.state);
        state.slow.remove(&process);
        self.slow.store(state.slow.len(), Ordering::Release);
        state.led = true;
        false
    }

    /// Wakes a thread for the waiting work, and starts one if necessary; `false` if the current
    /// thread is the only one.
    fn call_threads(&self, mut state: MutexGuard<'_, State>) -> bool {
        let wanted = state.ready.len() + usize::from(!state.led);
        let starts = state.idle < wanted && state.threads < THREADS_MAX;
        if starts {
            state.threads += 1;
        }
        drop(state);
        self.changed.notify_one();
        // If all threads are busy, one of them takes the work later.
        if !starts || self.starter.get().is_some_and(|start| start().is_ok()) {
            return true;
        }
        let mut state = lock(&self.state);
        state.threads -= 1;
        self.changed.notify_all();
        state.threads > 1
    }

    /// Holds a call back whose process has a slow one in progress; `true` if so.
    pub(crate) fn defer(&self, call: &Notification) -> bool {
        if self.slow.load(Ordering::Acquire) == 0 {
            return false;
        }
        let Ok(process) = procfs::group(call.tid()) else {
            return false;
        };
        let mut state = lock(&self.state);
        let Some(behind) = state.slow.get_mut(&process) else {
            return false;
        };
        behind.push_back(*call);
        true
    }

    /// Returns the next held call of a process whose slow call has its answer; with none left, the
    /// process counts as all others again.
    pub(crate) fn behind(&self, process: u32) -> Option<Notification> {
        let mut state = lock(&self.state);
        let next = state.slow.get_mut(&process).and_then(VecDeque::pop_front);
        if next.is_none() {
            state.slow.remove(&process);
            self.slow.store(state.slow.len(), Ordering::Release);
        }
        next
    }

    /// Has any free thread answer a call by `work`; `false` if there is none.
    pub(crate) fn spawn(self: &Arc<Self>, call: &Notification, work: Work) -> bool {
        let task = Arc::new(Task {
            call: *call,
            lanes: Arc::clone(self),
            progress: Mutex::new(Progress {
                work: Some(work),
                queued: true,
                woken: false,
            }),
        });
        let mut state = lock(&self.state);
        state.tasks.insert(call.id, Arc::clone(&task));
        state.look_at.get_or_insert(Instant::now() + WAIT_SLICE);
        state.ready.push_back(task);
        if self.call_threads(state) {
            return true;
        }
        let mut state = lock(&self.state);
        state.ready.retain(|one| one.call.id != call.id);
        state.tasks.remove(&call.id).is_none()
    }

    fn queue(&self, task: Arc<Task>) {
        let mut state = lock(&self.state);
        state.ready.push_back(task);
        // If there is a task, there is a thread besides the one that leads.
        let _there_is = self.call_threads(state);
    }

    /// Forgets a task that has given its answer.
    pub(crate) fn forget(&self, task: &Task) {
        let mut state = lock(&self.state);
        state.tasks.remove(&task.call.id);
        if state.tasks.is_empty() {
            state.look_at = None;
        }
    }

    /// Returns the current tasks.
    pub(crate) fn tasks(&self) -> Vec<Arc<Task>> {
        lock(&self.state).tasks.values().map(Arc::clone).collect()
    }

    /// Waits for at most this time: anything that wakes the task ends the wait.
    pub(crate) fn pause(&self, time: Duration) -> impl Future<Output = ()> + Send {
        let until = Instant::now() + time;
        let mut waited = false;
        std::future::poll_fn(move |context| {
            if mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            let mut state = lock(&self.state);
            state.timers_made += 1;
            let number = state.timers_made;
            let waker = context.waker().clone();
            state.timers.insert((until, number), waker);
            drop(state);
            self.changed.notify_all();
            Poll::Pending
        })
    }

    /// Ends all threads: there are no callers any more. Tasks check that once more.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        for task in self.tasks() {
            task.wake();
        }
        self.changed.notify_all();
    }

    /// Counts a thread as ended.
    pub(crate) fn leave(&self) {
        lock(&self.state).threads -= 1;
        self.changed.notify_all();
    }

    /// Waits until all threads have ended.
    pub(crate) fn wait_until_left(&self) {
        let state = lock(&self.state);
        let some = |state: &mut State| state.threads > 0;
        let mut state = self
            .changed
            .wait_while(state, some)
            .unwrap_or_else(PoisonError::into_inner);
        let left = mem::take(&mut state.tasks);
        drop(state);
        drop(left);
    }
}

impl State {
    fn take_due(&mut self, now: Instant) -> Vec<Waker> {
        let later = self.timers.split_off(&(now, u64::MAX));
        mem::replace(&mut self.timers, later)
            .into_values()
            .collect()
    }
}

impl Task {
    /// Continues the task; returns the answer at its end.
    pub(crate) fn run(self: &Arc<Self>) -> Option<Answer> {
        let mut progress = lock(&self.progress);
        (progress.queued, progress.woken) = (false, false);
        let mut work = progress.work.take()?;
        drop(progress);
        let waker = Waker::from(Arc::clone(self));
        match work.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => {
                let mut progress = lock(&self.progress);
                progress.work = Some(work);
                progress.queued = progress.woken;
                let again = progress.queued;
                drop(progress);
                if again {
                    self.lanes.queue(Arc::clone(self));
                }
                None
            }
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let mut progress = lock(&self.progress);
        if progress.work.is_none() {
            progress.woken = true;
            return;
        }
        if mem::replace(&mut progress.queued, true) {
            return;
        }
        drop(progress);
        let lanes = Arc::clone(&self.lanes);
        lanes.queue(self);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::{Duration, Instant},
    };

    use rustix::process::Pid;
    use stockade_sys::notifier::Notification;

    use super::{Answer, Lanes, Next, THREADS_MAX, begin, end, slow};
    use crate::recorder::lock;

    fn call(id: u64, pid: u32) -> Notification {
        let thread = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
        Notification {
            id,
            thread,
            number: 0,
            arguments: [0; 6],
        }
    }

    /// Lanes whose threads are counted and do nothing; the current thread leads.
    fn lanes(starts: bool) -> (Arc<Lanes>, Arc<AtomicUsize>) {
        let lanes = Arc::new(Lanes::default());
        let started = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&started);
        lanes.open(Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
            starts.then_some(()).ok_or(io::Error::other("no thread"))
        }));
        assert!(matches!(lanes.next(), Next::Lead));
        (lanes, started)
    }

    #[test]
    fn calls_of_a_process_wait_for_its_slow_one_in_their_order() {
        let (lanes, started) = lanes(true);
        let own = std::process::id();
        begin(&lanes, own);
        assert!(!lanes.defer(&call(1, own)), "nothing is slow");
        assert_eq!(end(), None);
        begin(&lanes, own);
        slow();
        slow();
        assert_eq!(
            started.load(Ordering::Relaxed),
            1,
            "one thread has the lead"
        );
        assert!(!lock(&lanes.state).led);
        for id in 2..5 {
            assert!(lanes.defer(&call(id, own)));
        }
        assert!(!lanes.defer(&call(5, 1)), "another process");
        let process = end().unwrap();
        let mut behind = Vec::new();
        while let Some(call) = lanes.behind(process) {
            behind.push(call.id);
        }
        assert_eq!(behind, [2, 3, 4]);
        assert!(!lanes.defer(&call(6, own)), "it has its answer");
    }

    #[test]
    fn without_another_thread_nothing_is_passed_on_and_nothing_waits() {
        let (lanes, started) = lanes(false);
        begin(&lanes, std::process::id());
        slow();
        assert_eq!(end(), None);
        assert!(lock(&lanes.state).led);
        let work = Box::pin(async { Answer::Proceeds });
        assert!(!lanes.spawn(&call(1, 1), work), "the caller is refused");
        assert!(lanes.tasks().is_empty());
        assert_eq!(started.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn there_are_never_more_threads_than_are_allowed() {
        let (lanes, started) = lanes(true);
        for id in 0..20 {
            let work = Box::pin(async { Answer::Proceeds });
            assert!(lanes.spawn(&call(id, 1), work));
        }
        assert_eq!(started.load(Ordering::Relaxed), THREADS_MAX - 1);
        // All are answered, the first one first.
        for id in 0..20 {
            let Next::Run(task) = lanes.next() else {
                panic!("it is ready");
            };
            assert_eq!(task.call.id, id);
            assert!(matches!(task.run(), Some(Answer::Proceeds)));
            lanes.forget(&task);
        }
        assert!(lanes.tasks().is_empty());
    }

    #[test]
    fn a_pause_ends_with_its_time_and_the_end_of_the_session_ends_all() {
        let (lanes, _) = lanes(true);
        let (shared, begun) = (Arc::clone(&lanes), Instant::now());
        let pauses = async move {
            shared.pause(Duration::from_millis(20)).await;
            shared.pause(Duration::from_hours(1)).await;
            Answer::Returns
        };
        assert!(lanes.spawn(&call(1, 1), Box::pin(pauses)));
        for passed in [Duration::ZERO, Duration::from_millis(20)] {
            let Next::Run(task) = lanes.next() else {
                panic!("it is ready");
            };
            assert!(begun.elapsed() >= passed);
            assert!(task.run().is_none(), "it waits");
        }
        lanes.close();
        let Next::Run(task) = lanes.next() else {
            panic!("it is woken");
        };
        assert!(matches!(task.run(), Some(Answer::Returns)));
        lanes.forget(&task);
        assert!(matches!(lanes.next(), Next::End));
    }
}
