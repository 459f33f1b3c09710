//! A running session: its threads, its clock, its end.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec};
use stockade_egress::wire::FromSupervisor;
use stockade_event::{Durability, Event, SessionOutcome, Usage};
use stockade_plan::{Interfaces, LaunchPlan, Streams};
use stockade_policy::{Policy, RecordTerminal};
use stockade_sandbox::{Exit, LaunchFailure, LimitHit, Session, SessionNews};
use stockade_sys::end::{self, CpuTime};
use stockade_types::{AbsPath, LimitName, RawText, SessionId, chain, ignored};

use crate::{
    RunError, TerminalReaders,
    controller::Controller,
    egress_process::EgressProcess,
    ending::{Ending, KillReason},
    inside_socket::Serving,
    listening::{Listening, Opening},
    parts::{Parts, PipeEnds},
    publish::Doors,
    recording::{self, RecordedTerminal, TerminalRecording},
    session_dir::{Clean, SessionDir},
    threads::{
        EgressReplies, comparing, desk, group_use, open_doors, process_number, start_hooks,
        start_lives, start_network, start_notifier, start_ssh, watch_mounts,
    },
    tightening::Tightening,
};
use stockade_approval::{Desk, Inbox, InboxOptions};
use stockade_supervise::{Lives, MountWatch, Processes, Recorder, lock};
use stockade_types::AskMode;

/// How often the journal is signed and synced.
const TICK: Duration = Duration::from_secs(1);
/// How often it is said how often a candidate was compared.
const COMPARED: Duration = Duration::from_mins(1);
/// How long a command may take to end after a request to do so.
const GRACE: Duration = Duration::from_secs(5);
/// Signal numbers.
const SIGNAL_TERMINATE: i32 = 15;

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The outcome in its record.
    pub outcome: SessionOutcome,
    /// Exit code of `run`.
    pub code: u8,
    /// Set when the command could not be executed.
    pub not_executed: Option<LaunchFailure>,
    /// Set when the end could not be recorded.
    pub unrecorded: Option<String>,
    /// Lines for the person who starts the session.
    pub notes: Vec<String>,
}

/// A session whose command runs.
pub struct Running {
    parts: Parts,
    directory: SessionDir,
    recorder: Arc<Recorder>,
    desk: Arc<Desk>,
    inbox: Inbox,
    controller: Controller,
    bell: OwnedFd,
    notifier: Option<JoinHandle<()>>,
    /// What records the ends of processes, and its thread.
    lives: (Arc<Lives>, JoinHandle<()>),
    network: Option<JoinHandle<()>>,
    egress_replies: EgressReplies,
    /// The sockets inside that the supervisor answers.
    serving: Vec<Serving>,
    mounts: Option<MountWatch>,
    /// Present if a person can be asked about ports.
    listening: Option<Listening>,
    recording: Option<TerminalRecording>,
    /// Present if the machine belongs to an organisation.
    tightening: Option<Tightening>,
    /// When it was last said how often a candidate was compared.
    compared: Instant,
    started: Instant,
}

impl Running {
    pub(crate) fn new(
        mut parts: Parts,
        directory: SessionDir,
        recorder: Arc<Recorder>,
    ) -> Result<Self, RunError> {
        let (controller, bell) = Controller::new()?;
        let egress_replies = Arc::new(Mutex::new(None));
        let desk = desk(&parts, &recorder, &egress_replies)?;
        let processes = Arc::new(Processes::new(process_number(
            parts.session.first_process(),
        )));
        let mounts = watch_mounts(&parts);
        // Before the first verdict, so that a candidate is compared with all of them.
        let tightening = Tightening::begin(&parts, &recorder)?;
        // The command waits for its first verdict while everything else starts.
        let doors = open_doors(&mut parts)?;
        let lives = Arc::new(Lives::new().map_err(RunError::Supervisor)?);
        let ends = start_lives(&parts, &recorder, &controller, &lives)?;
        let notifier = start_notifier(
            &mut parts,
            &desk,
            &recorder,
            &controller,
            (&processes, &lives),
            &doors,
        )?;
        let comparing = comparing(&parts, &desk, &recorder, &controller);
        let network = start_network(
            &mut parts,
            &comparing,
            &recorder,
            &controller,
            &egress_replies,
            &processes,
        )?;
        let ssh = start_ssh(&mut parts, &recorder, &controller, &processes)?;
        let hooks = start_hooks(&mut parts, &recorder, &controller, &processes, comparing)?;
        // Also if nobody is asked: an order to end the session finds its supervisor there.
        let inbox = Inbox::open(
            directory.path().as_path(),
            Arc::clone(&desk),
            InboxOptions::this_process(),
        )
        .map_err(|e| RunError::Supervisor(std::io::Error::other(e)))?;
        let listening = listening(&parts, (&desk, &recorder, &processes), doors);
        Ok(Self {
            parts,
            directory,
            recorder,
            desk,
            inbox,
            controller,
            bell,
            notifier: Some(notifier),
            lives: (lives, ends),
            network,
            egress_replies,
            serving: ssh.into_iter().chain(hooks).collect(),
            mounts,
            listening,
            recording: None,
            tightening,
            compared: Instant::now(),
            started: Instant::now(),
        })
    }

    /// Returns the session's id.
    pub const fn session(&self) -> &SessionId {
        &self.parts.plan.session
    }

    /// Returns the workspace.
    pub const fn workspace(&self) -> &AbsPath {
        &self.parts.workspace
    }

    /// Returns the plan that was executed.
    pub const fn plan(&self) -> &LaunchPlan {
        &self.parts.plan
    }

    /// Returns the desk on which questions wait.
    pub fn desk(&self) -> Arc<Desk> {
        Arc::clone(&self.desk)
    }

    /// Returns the handle with which to signal or end the session.
    pub fn controller(&self) -> Controller {
        self.controller.clone()
    }

    /// Returns the session's first process, outside.
    pub fn first_process(&self) -> Option<rustix::process::Pid> {
        self.parts.session.first_process()
    }

    /// Returns the command's own process, outside: the first child of the first process.
    pub fn command_process(&self) -> Option<rustix::process::Pid> {
        let first = process_number(self.first_process());
        let command = stockade_supervise::descendants(first, 2).get(1).copied()?;
        i32::try_from(command)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
    }

    /// Watches for programs that read from the session's terminal, given its master.
    ///
    /// # Errors
    /// When it cannot be watched, or its other side is gone.
    pub fn terminal_readers(
        &self,
        master: BorrowedFd<'_>,
        streams: Streams,
    ) -> io::Result<TerminalReaders> {
        TerminalReaders::watch(process_number(self.first_process()), master, streams)
    }

    /// Takes the master of the session's terminal.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.parts.terminal.take()
    }

    /// Takes the ends of the command's pipes.
    pub fn take_pipes(&mut self) -> PipeEnds {
        std::mem::take(&mut self.parts.pipes)
    }

    /// Whether policy has the terminal recorded, and whose word that is.
    pub fn records_terminal(&self) -> Option<&str> {
        let set = &self.parts.policy.settings().record.terminal;
        (set.value == RecordTerminal::On).then_some(set.source.as_str())
    }

    /// Begins to record what the session shows on a terminal, if policy asks for it.
    ///
    /// # Errors
    /// When the recording cannot be made.
    pub fn record_terminal(
        &mut self,
        terminal: &RecordedTerminal,
    ) -> io::Result<Option<TerminalRecording>> {
        if self.records_terminal().is_some() {
            let directory = self.directory.path().as_path();
            self.recording = Some(TerminalRecording::begin(directory, terminal)?);
        }
        Ok(self.recording.clone())
    }

    /// Follows the session to its end; afterwards no process of it runs and its record is closed.
    pub fn wait(self) -> Ended {
        self.wait_then(|| ()).0
    }

    /// As [`Running::wait`]; calls `last` when no process of the session is left and its record is still
    /// open. What it shows on the terminal then is the last of the recording.
    pub fn wait_then<T>(mut self, last: impl FnOnce() -> T) -> (Ended, T) {
        let ending = self.follow();
        self.desk.close();
        self.finish(ending, last)
    }

    fn follow(&mut self) -> Ending {
        let mut checked = Instant::now();
        let wall_time = self.wall_time();
        let mut deadline = wall_time.and_then(|limit| self.started.checked_add(limit));
        let mut stopping: Option<KillReason> = None;
        loop {
            let over = self.poll_session();
            let orders = std::mem::take(&mut *lock(&self.controller.orders));
            // Check this first: a command that was refused for lack of a record may end by itself.
            if let Some(reason) = orders.abort {
                return self.kill(KillReason::Ordered(reason));
            }
            if over {
                return self.news(stopping);
            }
            for signal in orders.signals {
                ignored(
                    self.parts.session.signal(signal),
                    "it fails only if the session is gone, which the next poll reports",
                );
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                if let Some(reason) = stopping {
                    return self.kill(reason);
                }
                self.record_wall_limit(wall_time.unwrap_or_default());
                stopping = Some(KillReason::WallTime);
                ignored(
                    self.parts.session.signal(SIGNAL_TERMINATE),
                    "the session is killed after `GRACE` in any case",
                );
                deadline = Some(Instant::now() + GRACE);
            }
            if checked.elapsed() >= TICK {
                checked = Instant::now();
                if let Some(reason) = self.tick() {
                    return self.kill(reason);
                }
            }
        }
    }

    /// Returns how long the session may take.
    fn wall_time(&self) -> Option<Duration> {
        let limits = &self.parts.policy.settings().limits;
        Some(limits.wall_time.as_ref()?.value.duration())
    }

    fn record_wall_limit(&self, limit: Duration) {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let event = Event::LimitReached {
            limit: LimitName::WallTime,
            configured: millis(limit),
            usage: millis(self.started.elapsed()),
            detail: "the session was ended".to_owned(),
        };
        ignored(
            self.recorder.write(&event, Durability::Synced),
            "the session ends whether or not this is written",
        );
    }

    /// Waits for news of the session, an order, or the next tick; `true` for news.
    fn poll_session(&mut self) -> bool {
        let descriptor = self.parts.session.descriptor();
        let mounts = self.mounts.as_ref().map(MountWatch::descriptor);
        let mut fds = vec![
            PollFd::new(&descriptor, PollFlags::IN),
            PollFd::new(&self.bell, PollFlags::IN),
        ];
        fds.extend(mounts.as_ref().map(|fd| PollFd::new(fd, PollFlags::PRI)));
        let timeout = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        if rustix::event::poll(&mut fds, Some(&timeout)).is_err() {
            return false;
        }
        let ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
        let (session, bell, mounts) = (ready(0), ready(1), ready(2));
        drop(fds);
        if mounts {
            self.note_replaced();
        }
        if bell {
            let mut buffer = [0_u8; 64];
            while rustix::io::read(&self.bell, &mut buffer).is_ok_and(|count| count > 0) {}
        }
        session
    }

    /// Records protected files that were replaced from outside: their mounts are gone, and the
    /// notifier protects them by name.
    fn note_replaced(&mut self) {
        let gone = self.mounts.as_mut().map(MountWatch::gone);
        let events: Vec<Event> = gone
            .into_iter()
            .flatten()
            .filter(|path| !self.parts.replaced.takes(path))
            .map(|path| Event::OperatorActed {
                action: "replace".to_owned(),
                by: "outside".to_owned(),
                detail: format!(
                    "{} was replaced from outside; it stays protected by name",
                    RawText::from_os(path.as_os_str()).display()
                ),
            })
            .collect();
        for event in events {
            ignored(
                self.recorder.write(&event, Durability::Written),
                "the next verdict discovers a failed journal, and is then a deny",
            );
        }
    }

    /// Does the work of every second; a returned reason ends the session.
    fn tick(&mut self) -> Option<KillReason> {
        if let Err(error) = self.recorder.checkpoint() {
            return Some(KillReason::Journal(chain(&error)));
        }
        if let Some((process, _)) = &mut self.parts.egress
            && process.has_ended()
        {
            return Some(KillReason::EgressGone);
        }
        if let Some(listening) = &mut self.listening {
            listening.look();
        }
        if let Some(tightening) = &mut self.tightening
            && let Err(why) = tightening.look(&self.recorder, &self.egress_replies)
        {
            return Some(KillReason::Ordered(why));
        }
        if self.compared.elapsed() >= COMPARED {
            self.compared = Instant::now();
            let event = self.recorder.compared();
            let event = event.map(|counts| Event::PolicyCompared { counts });
            let written = event.map(|event| self.recorder.write(&event, Durability::Written));
            if let Some(Err(error)) = written {
                return Some(KillReason::Journal(chain(&error)));
            }
        }
        None
    }

    fn news(&mut self, stopping: Option<KillReason>) -> Ending {
        let news = self.parts.session.news();
        if let Some(reason) = stopping {
            return Ending::Killed(reason);
        }
        match news {
            SessionNews::Ended(Exit::Code(code)) => Ending::Exited(code),
            SessionNews::Ended(Exit::Signal(signal)) => Ending::Signaled(signal),
            SessionNews::NotExecuted(failure) => Ending::NotExecuted(failure),
            SessionNews::Gone => Ending::Killed(KillReason::Outside),
        }
    }

    fn kill(&self, reason: KillReason) -> Ending {
        ignored(
            self.parts.session.kill(),
            "`finish` drops the session, which kills it too",
        );
        Ending::Killed(reason)
    }

    /// Shuts everything down in order, and closes the record.
    fn finish<T>(self, ending: Ending, last: impl FnOnce() -> T) -> (Ended, T) {
        let Self {
            parts,
            directory,
            recorder,
            inbox,
            notifier,
            lives,
            network,
            egress_replies,
            serving,
            listening,
            recording,
            started,
            ..
        } = self;
        let limits = limit_events(&parts.session);
        let (lives, ends) = lives;
        if let Some(group) = group_use(&parts.session.gauge()) {
            lives.look_at_group(group);
        }
        let agent = &parts.policy.settings().preset.name;
        let (in_use, logins) = (parts.in_use, parts.logins);
        ignored(parts.session.kill(), "the drop of the session kills it too");
        // It reports the connections that are still open while the rest is shut down.
        let told = lock(&egress_replies)
            .as_ref()
            .is_some_and(|replies| replies.send(&FromSupervisor::Finish).is_ok());
        // Every process of the session is gone when this returns.
        drop(parts.session);
        // So no client of it is left.
        drop(serving);
        // Another session of the workspace may now use its overlays.
        drop(parts.caches);
        join(notifier);
        let last = last();
        let recorded = recorded(&parts.policy, recording.as_ref());
        lives.close();
        join(Some(ends));
        drop(inbox);
        let mut egress = parts.egress.map(|(process, _)| process);
        // It is asked while it is there: it ends by itself.
        let egress_cpu = egress.as_ref().and_then(EgressProcess::cpu_time);
        if !told || !egress.as_ref().is_some_and(EgressProcess::finishes_in_time) {
            // The drop kills it; what it did not report is lost.
            egress = None;
        }
        join(network);
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut events = limits;
        events.extend(recorded.clone());
        let compared = recorder.compared();
        events.extend(compared.map(|counts| Event::PolicyCompared { counts }));
        events.push(Event::SessionEnded {
            outcome: ending.outcome(),
            duration_ms,
            counts: recorder.counts(),
            own_usage: Some(own_usage(egress_cpu)),
        });
        let unrecorded = close(&recorder, &events);
        directory.clean(Clean::MountPoint);
        // No process of the session is left that could write there.
        let mut notes = in_use.map_or_else(Vec::new, |kept| kept.told(agent));
        notes.extend(logins.told());
        notes.extend(listening.into_iter().flat_map(Listening::told));
        notes.extend(recorded.as_ref().and_then(recording::told));
        // Its end takes time, and nothing waits for it.
        drop(egress);
        let ended = Ended {
            code: ending.exit_code(),
            outcome: ending.outcome(),
            not_executed: match ending {
                Ending::NotExecuted(failure) => Some(failure),
                Ending::Exited(_) | Ending::Signaled(_) | Ending::Killed(_) => None,
            },
            unrecorded,
            notes,
        };
        (ended, last)
    }
}

/// Watches for servers if a person can be asked and ports may be published.
fn listening(
    parts: &Parts,
    (desk, recorder, processes): (&Arc<Desk>, &Arc<Recorder>, &Arc<Processes>),
    doors: Doors,
) -> Option<Listening> {
    let may_publish = parts.policy.settings().network.may_publish.value;
    // A network that is shared with the machine has no ports to publish.
    let has_own = parts.plan.boundary.interfaces == Interfaces::Own;
    (parts.ask != AskMode::Deny && may_publish && has_own).then(|| {
        let opening = Opening {
            policy: Arc::clone(&parts.policy),
            desk: Arc::clone(desk),
            recorder: Arc::clone(recorder),
            processes: Arc::clone(processes),
            doors,
            told: Mutex::default(),
        };
        Listening::new(&parts.plan, opening)
    })
}

/// Writes the last events and closes the journal; returns why that could not be done.
fn close(recorder: &Recorder, events: &[Event]) -> Option<String> {
    let mut unrecorded = None;
    for event in events {
        if let Err(error) = recorder.write(event, Durability::Written) {
            unrecorded = Some(chain(&error));
        }
    }
    if let Err(error) = recorder.finish() {
        unrecorded.get_or_insert_with(|| chain(&error));
    }
    unrecorded
}

/// Ends a recording; returns the event for it, if policy asks for one.
fn recorded(policy: &Policy, recording: Option<&TerminalRecording>) -> Option<Event> {
    let is_on = policy.settings().record.terminal.value == RecordTerminal::On;
    is_on.then(|| recording.map_or_else(recording::without_terminal, TerminalRecording::finish))
}

fn join(handle: Option<JoinHandle<()>>) {
    if let Some(handle) = handle {
        ignored(
            handle.join(),
            "a thread that panics aborts the whole process",
        );
    }
}

/// Returns events for the limits of the session's cgroups that were hit.
fn limit_events(session: &Session) -> Vec<Event> {
    let event = |hit| match hit {
        LimitHit::Memory { limit, peak, times } => Event::LimitReached {
            limit: LimitName::Memory,
            configured: limit,
            usage: peak,
            detail: format!("the kernel ended processes, {times} in all"),
        },
        LimitHit::Processes { limit, times } => Event::LimitReached {
            limit: LimitName::Processes,
            configured: limit,
            usage: limit,
            detail: format!("{times} more could not be started"),
        },
    };
    session.limit_hits().into_iter().map(event).collect()
}

/// Returns what this process used, and the egress process so far.
fn own_usage(egress: Option<CpuTime>) -> Usage {
    let mut usage = Usage::default();
    let supervisor = end::cpu_time(rustix::process::getpid());
    for cpu in [supervisor, egress].into_iter().flatten() {
        usage.add(&Usage {
            cpu_user_us: Some(cpu.user_us),
            cpu_system_us: Some(cpu.system_us),
            ..Usage::default()
        });
    }
    usage
}
