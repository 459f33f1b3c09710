//! The lives of the processes of a session: how each one that executed a program ended, and what it
//! used; the same for each command of the agent; and what the session uses as a whole.
//!
//! A process waits in the notifier when it executes a program, and when it ends by itself. At the first
//! it gets a descriptor, which tells of its end and keeps how it ended; at the second it is read what
//! it has used. A process that a signal ends says nothing: what is known of it is the last sample, and
//! what the kernel still says until its parent has waited. Nothing here needs a privilege, and no call
//! waits for it longer than for that one read.

mod samples;
mod scopes;
mod used;

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{EventfdFlags, Timespec, epoll, eventfd},
    process::Pid,
};
use stockade_event::{Durability, Event, Usage};
use stockade_sys::{
    end,
    process::{self, Ended},
};
use stockade_types::{ProcessId, Subject, chain, ignored};

use crate::{
    limits::{ENDS_AT_ONCE, LIVES_MAX, SAMPLED_MAX},
    procfs,
    recorder::{Recorder, SUPERVISOR, lock},
};
use samples::Samples;
use scopes::Scopes;
use used::{Used, used};

pub use samples::GroupUse;

/// What the bell rings with; processes have higher numbers.
const BELL: u64 = 0;

/// The lives of a session's processes.
pub struct Lives {
    epoll: OwnedFd,
    /// Ends the thread.
    bell: OwnedFd,
    /// How many processes may have a descriptor.
    most: usize,
    table: Mutex<Table>,
}

struct Table {
    lives: HashMap<u64, Life>,
    /// The last one of each process number: a number can be reused before its end is taken.
    of: HashMap<u32, u64>,
    last: u64,
    scopes: Scopes,
    samples: Samples,
    /// Processes that got no descriptor, and that the journal does not mention yet.
    unseen: u64,
}

/// A process that has executed a program.
struct Life {
    id: ProcessId,
    subject: Subject,
    pidfd: OwnedFd,
    since: Instant,
    /// The command that it belongs to, 0 for none.
    scope: u32,
    /// The exit code that it asked for.
    code: Option<i32>,
    used: Used,
    /// When that was read; none for what it had used as it ended.
    read: Option<Instant>,
}

impl Lives {
    /// Makes an empty table.
    ///
    /// # Errors
    /// When the kernel gives no descriptors for it.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC)?;
        let ring = epoll::EventData::new_u64(BELL);
        epoll::add(&epoll, &bell, ring, epoll::EventFlags::IN)?;
        let files = process::present_limit(process::Limit::OpenFiles);
        let half = usize::try_from(files / 2).unwrap_or(usize::MAX);
        Ok(Self {
            epoll,
            bell,
            most: LIVES_MAX.min(half),
            table: Mutex::new(Table {
                lives: HashMap::new(),
                of: HashMap::new(),
                last: BELL,
                scopes: Scopes::default(),
                samples: Samples::new(Instant::now()),
                unseen: 0,
            }),
        })
    }

    /// Takes a process that is about to execute a program in `scope`, while it waits for that.
    ///
    /// `waits` says whether it still does: only then its number is certainly its own.
    pub(crate) fn begins(&self, process: &Subject, scope: u32, waits: impl Fn() -> bool) {
        let Some(id) = process.id else { return };
        let mut table = lock(&self.table);
        if table.goes_on(id, process, scope) {
            return;
        }
        if table.lives.len() >= self.most {
            table.unseen += 1;
            return;
        }
        let pid = i32::try_from(id.pid).ok().and_then(Pid::from_raw);
        let opened = pid.and_then(|pid| process::pidfd(pid).ok());
        let token = table.last + 1;
        let watched = opened.filter(|pidfd| {
            let data = epoll::EventData::new_u64(token);
            waits() && epoll::add(&self.epoll, pidfd, data, epoll::EventFlags::IN).is_ok()
        });
        let Some(pidfd) = watched else {
            // It was killed while it waited, and so executes nothing; or there is no descriptor left.
            table.unseen += u64::from(waits());
            return;
        };
        let now = Instant::now();
        table.last = token;
        table.of.insert(id.pid, token);
        table.scopes.begins(scope, process, now);
        table.lives.insert(
            token,
            Life {
                id,
                subject: process.clone(),
                pidfd,
                since: now,
                scope,
                code: None,
                used: Used::default(),
                read: Some(now),
            },
        );
    }

    /// Reads what a process has used whose thread `tid` is about to end it with `code`; or only the
    /// thread, without one.
    pub(crate) fn leaves(&self, tid: u32, code: Option<i32>) {
        let known = |pid: u32| lock(&self.table).of.get(&pid).copied();
        let (pid, token) = match known(tid) {
            Some(token) => (tid, token),
            None if code.is_none() || is_leader(tid) => return,
            None => {
                let Ok(pid) = procfs::group(tid) else { return };
                let Some(token) = known(pid) else { return };
                (pid, token)
            }
        };
        let now = used(pid);
        let mut table = lock(&self.table);
        if let Some(life) = table.lives.get_mut(&token) {
            life.used.becomes(now);
            life.code = code;
            life.read = code.is_none().then(Instant::now);
        }
    }

    /// Notes what the session's control group says, as long as there is one.
    pub fn look_at_group(&self, group: GroupUse) {
        lock(&self.table).samples.group(group);
    }

    /// Ends the thread, once it has recorded all ends.
    pub fn close(&self) {
        ignored(
            rustix::io::write(&self.bell, &1_u64.to_ne_bytes()),
            "it fails only if it has been rung more often than a number can count",
        );
    }

    /// Starts the thread that records ends and samples, until [`Lives::close`].
    ///
    /// `group` reads the session's control group, if it has one; `abort` ends the session for lack of
    /// its record.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn start(
        self: &Arc<Self>,
        recorder: Arc<Recorder>,
        group: Box<dyn Fn() -> Option<GroupUse> + Send>,
        abort: Box<dyn Fn(&str) + Send>,
    ) -> io::Result<JoinHandle<()>> {
        let lives = Arc::clone(self);
        thread::Builder::new()
            .name("lives".to_owned())
            .spawn(move || {
                if let Err(error) = lives.follow(&recorder, &*group) {
                    abort(&error);
                }
            })
    }

    fn follow(
        &self,
        recorder: &Recorder,
        group: &dyn Fn() -> Option<GroupUse>,
    ) -> Result<(), String> {
        let mut came = Vec::with_capacity(ENDS_AT_ONCE);
        let mut closing = false;
        loop {
            let due = lock(&self.table).due();
            let pause = due.saturating_duration_since(Instant::now());
            wait(
                &self.epoll,
                &mut came,
                if closing { Duration::ZERO } else { pause },
            )?;
            let tokens: Vec<u64> = came.drain(..).map(|event| event.data.u64()).collect();
            let ends = tokens.iter().filter_map(|token| self.end(*token));
            let mut events: Vec<Event> = ends.collect();
            let is_last = closing && events.is_empty();
            closing |= tokens.contains(&BELL);
            if !closing && lock(&self.table).samples.is_due(Instant::now()) {
                if let Some(group) = group() {
                    self.look_at_group(group);
                }
                self.read_all();
            }
            events.extend(lock(&self.table).tell(self.most, is_last));
            if !events.is_empty() {
                recorder
                    .write_all(SUPERVISOR, &events, Durability::Written)
                    .map_err(|error| format!("the journal cannot be written: {}", chain(&error)))?;
                recorder.origins().forget_ended(&events);
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Takes the end of a process.
    fn end(&self, token: u64) -> Option<Event> {
        let mut table = lock(&self.table);
        let mut life = table.lives.remove(&token)?;
        if table.of.get(&life.id.pid) == Some(&token) {
            table.of.remove(&life.id.pid);
        }
        drop(table);
        let now = Instant::now();
        let (ended, age) = life.last(now);
        let mut table = lock(&self.table);
        table.samples.ended(&life.used.usage);
        table.scopes.ends(&life, ended, now);
        drop(table);
        let (code, signal) = as_fields(ended);
        Some(Event::ProcessEnded {
            process: life.subject,
            code,
            signal,
            duration_ms: millis(now.saturating_duration_since(life.since)),
            usage: life.used.usage,
            usage_age_ms: age.map(millis),
        })
    }

    /// Reads what processes have used, for the sample and in case that a signal ends them.
    fn read_all(&self) {
        let table = lock(&self.table);
        let mut all: Vec<(u64, u32, Option<Instant>)> = table
            .lives
            .iter()
            .map(|(token, life)| (*token, life.id.pid, life.read))
            .collect();
        drop(table);
        // Those first that have not been read for longest.
        all.sort_unstable_by_key(|(_, _, read)| *read);
        for (token, pid, _) in all.into_iter().take(SAMPLED_MAX) {
            let now = used(pid);
            let mut table = lock(&self.table);
            // What one has used as it ended stays.
            if let Some(life) = table.lives.get_mut(&token)
                && life.read.is_some()
                && end::has_its_number(life.pidfd.as_fd())
            {
                life.used.becomes(now);
                life.read = Some(Instant::now());
            }
        }
    }
}

impl Table {
    /// Notes a further execution of a process; `false` if it is its first.
    fn goes_on(&mut self, id: ProcessId, subject: &Subject, scope: u32) -> bool {
        let Self {
            lives, of, scopes, ..
        } = self;
        let known = of.get(&id.pid).and_then(|token| lives.get_mut(token));
        let Some(life) = known.filter(|life| life.id == id) else {
            return false;
        };
        life.subject.clone_from(subject);
        if life.scope != scope {
            let now = Instant::now();
            scopes.leaves(life, now);
            scopes.begins(scope, subject, now);
            life.scope = scope;
        }
        true
    }

    /// Returns when there is something to tell, if no process ends before.
    fn due(&self) -> Instant {
        let sample = self.samples.due();
        self.scopes.due().map_or(sample, |due| due.min(sample))
    }

    /// Says what there is to say beside ends: all of it, if this is the last time.
    fn tell(&mut self, most: usize, is_last: bool) -> Vec<Event> {
        let now = Instant::now();
        if is_last {
            // Every process of the session is gone, so these should have been told.
            self.unseen += u64::try_from(self.lives.len()).unwrap_or(u64::MAX);
            self.lives.clear();
        }
        let mut events = self.scopes.ended(now, is_last);
        if is_last || self.samples.is_due(now) {
            let running = self.lives.values().map(|life| &life.used);
            events.extend(self.samples.take(running, now, is_last));
            if self.unseen > 0 {
                events.push(Event::EventsLost {
                    source: SUPERVISOR.to_owned(),
                    count: std::mem::take(&mut self.unseen),
                    reason: format!(
                        "of at most {most} processes at a time the end is known, so for others \
                         there is no process.ended"
                    ),
                });
            }
        }
        events
    }
}

impl Life {
    /// Finds out how it ended and what it had used; returns how long ago that was, if it is a sample.
    fn last(&mut self, now: Instant) -> (Option<Ended>, Option<Duration>) {
        let pidfd = self.pidfd.as_fd();
        let mut ended = end::of_reaped(pidfd);
        if ended.is_none() {
            // Its parent has not waited for it yet, or the kernel keeps nothing after that.
            let status = procfs::exit_status(self.id);
            let last = self.read.is_some().then(|| used(self.id.pid));
            if end::has_its_number(pidfd) {
                ended = status.ok().map(end::ended);
                if let Some(last) = last {
                    self.used.becomes(last);
                }
            } else {
                ended = end::of_reaped(pidfd);
            }
        }
        let asked = self.code.map(Ended::Code);
        let is_known = self.used.usage != Usage::default();
        let read = self.read.filter(|_| is_known);
        (
            ended.or(asked),
            read.map(|read| now.saturating_duration_since(read)),
        )
    }
}

fn is_leader(tid: u32) -> bool {
    let pid = i32::try_from(tid).ok().and_then(Pid::from_raw);
    pid.is_some_and(process::is_leader)
}

fn as_fields(ended: Option<Ended>) -> (Option<i32>, Option<i32>) {
    match ended {
        Some(Ended::Code(code)) => (Some(code), None),
        Some(Ended::Signal(signal)) => (None, Some(signal)),
        None => (None, None),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Waits for ends, for the bell, or until the time is over.
fn wait(epoll: &OwnedFd, came: &mut Vec<epoll::Event>, pause: Duration) -> Result<(), String> {
    let pause = Timespec::try_from(pause).map_err(|error| error.to_string())?;
    loop {
        return match epoll::wait(epoll, spare_capacity(came), Some(&pause)) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => Err(format!(
                "the ends of processes cannot be waited for: {errno}"
            )),
            Ok(_) => Ok(()),
        };
    }
}
