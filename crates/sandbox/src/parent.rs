//! The parent half: starts `__init`, does the work that only the supervisor can, and follows the
//! command.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::Pid;
use stockade_plan::{LaunchPlan, Life, Step, Unfounded};
use stockade_sys::{
    Outcome, SysError,
    cgroup::Group,
    fd,
    net::{HeldConnections, SocketDiagnosis},
    notifier::Notifier,
    pass, process,
};
use stockade_types::{Tier, chain, ignored};

use crate::binder::Binder;
use crate::gauge::Gauge;
use crate::message::{Exit, FromChild, FromParent, LaunchFailure, receive, send};

/// Signal number of SIGKILL.
const SIGNAL_KILL: i32 = 9;

/// Why a launch did not happen.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A step of the plan failed.
    #[error(transparent)]
    Step(#[from] LaunchFailure),
    /// `__init` could not be started or reached.
    #[error("cannot start the sandbox process")]
    Start(#[source] SysError),
    /// The plan states more about its boundary than its steps make.
    #[error("the plan is not what it says")]
    Unfounded(#[source] Unfounded),
    /// A session of the plan could not be ended as a whole.
    #[error("sessions of the `{0}` tier cannot be ended as a whole, so none is started")]
    Endless(Tier),
    /// `__init` ended without a reason.
    #[error("the sandbox process ended without a reason")]
    Vanished,
}

/// Standard streams of a command without a terminal.
#[derive(Debug)]
pub struct StandardStreams {
    /// Standard input.
    pub stdin: Stdio,
    /// Standard output.
    pub stdout: Stdio,
    /// Standard error.
    pub stderr: Stdio,
}

/// Descriptors made inside for the supervisor and the egress process.
#[derive(Debug, Default)]
pub struct HandedOver {
    /// Listener per TCP port.
    pub listeners: Vec<(u16, OwnedFd)>,
    /// The socket that receives name queries.
    pub names: Option<OwnedFd>,
    /// Finds the owner of a socket.
    pub diagnosis: Option<SocketDiagnosis>,
    /// Connections that wait for a decision.
    pub held: Option<HeldConnections>,
    /// Master of the session's terminal.
    pub terminal: Option<OwnedFd>,
}

/// A launch that has built its view and waits for permission to continue. Dropping it ends it.
#[derive(Debug)]
pub struct Launching {
    core: Core,
    /// What was handed over.
    pub handed_over: HandedOver,
}

/// A session whose command runs. Dropping it ends it.
#[derive(Debug)]
pub struct Session {
    core: Core,
    notifier: Option<Notifier>,
    binder: Option<Binder>,
}

#[derive(Debug)]
struct Core {
    control: OwnedFd,
    outer: Option<Child>,
    first: Option<Pid>,
    // Declared after the processes: only an empty group can be removed.
    groups: Vec<Group>,
}

/// An `__init` that waits for its plan. Dropping it ends it.
#[derive(Debug)]
pub struct Spawned(Core);

/// Starts `__init` of this same executable, which waits for a plan: it starts while the plan is
/// still being made.
///
/// Must be called from a thread that lives as long as the session: the kernel kills the session
/// when that thread ends.
///
/// # Errors
/// When no process can be started.
pub fn spawn(streams: StandardStreams) -> Result<Spawned, LaunchError> {
    Core::start(streams)
        .map(Spawned)
        .map_err(LaunchError::Start)
}

/// A launch that is building its view. Dropping it ends it.
#[derive(Debug)]
pub struct Building<'p> {
    core: Core,
    plan: &'p LaunchPlan,
}

/// Makes the child carry out `plan` up to the hand-over; [`Building::wait`] returns the result.
///
/// # Errors
/// With the failing step, the kernel's answer and a remedy, or with what the plan states about its
/// boundary but does not make; nothing is left behind.
pub fn launch(spawned: Spawned, plan: &LaunchPlan) -> Result<Building<'_>, LaunchError> {
    let Spawned(mut core) = spawned;
    plan.check().map_err(LaunchError::Unfounded)?;
    // The code below ends a session through its first process.
    match plan.boundary.life {
        Life::FirstProcess => {}
        Life::Unbound => return Err(LaunchError::Endless(plan.tier)),
    }
    if plan.fault.is_some_and(|index| index >= plan.steps.len()) {
        let source = std::io::Error::other("the plan has no such step");
        return Err(LaunchError::Start(SysError::new("inject a fault", source)));
    }
    core.join_groups(plan)?;
    core.send_plan(plan).map_err(LaunchError::Start)?;
    Ok(Building { core, plan })
}

impl Building<'_> {
    /// Waits for the hand-over.
    ///
    /// # Errors
    /// As [`launch`].
    pub fn wait(self) -> Result<Launching, LaunchError> {
        let Self { mut core, plan } = self;
        let mut handed_over = None;
        // The outer process reports the first one, whose own message may arrive earlier.
        while handed_over.is_none() || core.first.is_none() {
            let (message, fds) = core.next()?;
            match message {
                FromChild::Map { uids, gids } => {
                    core.write_maps(plan, &uids, &gids)?;
                    core.go()?;
                }
                FromChild::First { pid } => {
                    core.first = Pid::from_raw(pid);
                    core.reap_outer();
                }
                FromChild::HandOver {
                    ports,
                    names,
                    diagnosis,
                    held,
                    terminal,
                } => {
                    let mut fds = fds.into_iter();
                    handed_over = Some(HandedOver {
                        listeners: ports.into_iter().zip(fds.by_ref()).collect(),
                        names: if names { fds.next() } else { None },
                        diagnosis: if diagnosis {
                            fds.next().map(SocketDiagnosis::from_fd)
                        } else {
                            None
                        },
                        held: if held {
                            fds.next().map(HeldConnections::from_fd)
                        } else {
                            None
                        },
                        terminal: if terminal { fds.next() } else { None },
                    });
                }
                FromChild::Notifier | FromChild::Command { .. } | FromChild::Ended { .. } => {
                    return Err(LaunchError::Vanished);
                }
                FromChild::Failed { failure } => return Err(failure.into()),
            }
        }
        Ok(Launching {
            core,
            handed_over: handed_over.unwrap_or_default(),
        })
    }
}

impl Launching {
    /// Returns the id, outside, of the session's first process.
    pub fn first_process(&self) -> Option<Pid> {
        self.core.first
    }

    /// Lets the launch continue until the command's process is confined and about to be judged.
    ///
    /// # Errors
    /// As [`launch`].
    pub fn proceed(mut self) -> Result<Session, LaunchError> {
        let (binder, theirs) = Binder::pair().map_err(LaunchError::Start)?;
        send(&self.core.control, &FromParent::Go, &[theirs.as_fd()]).map_err(LaunchError::Start)?;
        drop(theirs);
        let mut command = false;
        let mut notifier = None;
        while !command || notifier.is_none() {
            let (message, mut fds) = self.core.next()?;
            match message {
                FromChild::Command { .. } => command = true,
                FromChild::Notifier => notifier = fds.pop().map(Notifier::new),
                FromChild::Failed { failure } => return Err(failure.into()),
                _ => return Err(LaunchError::Vanished),
            }
        }
        Ok(Session {
            core: self.core,
            notifier,
            binder: Some(binder),
        })
    }
}

/// News of a running session.
#[derive(Debug)]
pub enum SessionNews {
    /// The command ended.
    Ended(Exit),
    /// The command could not be executed.
    NotExecuted(LaunchFailure),
    /// Everything is gone without a message: the session was killed.
    Gone,
}

impl Session {
    /// Takes the notifier; there is one.
    pub fn take_notifier(&mut self) -> Option<Notifier> {
        self.notifier.take()
    }

    /// Takes the binder; there is one.
    pub fn take_binder(&mut self) -> Option<Binder> {
        self.binder.take()
    }

    /// Returns the id, outside, of the session's first process.
    pub fn first_process(&self) -> Option<Pid> {
        self.core.first
    }

    /// Returns the descriptor that becomes readable when [`Self::news`] has something.
    pub fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        self.core.control.as_fd()
    }

    /// Waits for the next news.
    pub fn news(&mut self) -> SessionNews {
        loop {
            match receive::<FromChild>(&self.core.control) {
                Ok(Some((FromChild::Ended { exit }, _))) => return SessionNews::Ended(exit),
                Ok(Some((FromChild::Failed { failure }, _))) => {
                    return SessionNews::NotExecuted(failure);
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return SessionNews::Gone,
            }
        }
    }

    /// Sends a signal to the command's process group.
    ///
    /// # Errors
    /// When the session is gone.
    pub fn signal(&self, number: i32) -> Outcome<()> {
        send(&self.core.control, &FromParent::Signal { number }, &[])
    }

    /// Kills every process of the session at once.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&self) -> Outcome<()> {
        match self.core.first {
            Some(first) => process::kill(first, SIGNAL_KILL),
            None => Ok(()),
        }
    }

    /// Returns a gauge of the session's cgroups.
    pub fn gauge(&self) -> Gauge {
        let directories = self.core.groups.iter().map(Group::directory);
        Gauge(directories.map(Path::to_owned).collect())
    }

    /// Returns the limits of the session's cgroups that were hit.
    pub fn limit_hits(&self) -> Vec<LimitHit> {
        let read = |file: &str| self.core.groups.iter().find_map(|g| g.get(file).ok());
        let number = |file: &str| read(file)?.trim().parse::<u64>().ok();
        let counted = |file: &str, name: &str| {
            let text = read(file)?;
            let (_, count) = text
                .lines()
                .filter_map(|line| line.split_once(' '))
                .find(|(key, _)| *key == name)?;
            count.trim().parse::<u64>().ok().filter(|count| *count > 0)
        };
        // Caches that were dropped to stay within the limit are not reported; only killed processes
        // are.
        let memory = counted("memory.oom_control", "oom_kill").and_then(|times| {
            Some(LimitHit::Memory {
                limit: number("memory.limit_in_bytes")?,
                peak: number("memory.max_usage_in_bytes")?,
                times,
            })
        });
        let processes = counted("pids.events", "max").and_then(|times| {
            Some(LimitHit::Processes {
                limit: number("pids.max")?,
                times,
            })
        });
        memory.into_iter().chain(processes).collect()
    }
}

/// A limit of the session's cgroups that was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitHit {
    /// The kernel ended processes for lack of memory.
    Memory {
        /// In bytes.
        limit: u64,
        /// The maximum that was used, in bytes.
        peak: u64,
        /// Processes that were ended.
        times: u64,
    },
    /// No further process could be started.
    Processes {
        /// Processes and threads at a time.
        limit: u64,
        /// How many could not be started.
        times: u64,
    },
}

impl Core {
    fn start(streams: StandardStreams) -> Outcome<Self> {
        let (control, theirs) = pass::packet_pair()?;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("__init")
            .env_clear()
            .stdin(streams.stdin)
            .stdout(streams.stdout)
            .stderr(streams.stderr);
        let outer = fd::spawn_with(&mut command, &[theirs.as_fd()])?;
        Ok(Self {
            control,
            outer: Some(outer),
            first: None,
            groups: Vec::new(),
        })
    }

    fn send_plan(&self, plan: &LaunchPlan) -> Outcome<()> {
        let (bytes, digest) = plan.seal().map_err(|e| SysError::new("encode plan", e))?;
        let plan = fd::sealed_memory("stockade-plan", &bytes)?;
        send(&self.control, &FromParent::Plan { digest }, &[plan.as_fd()])
    }

    fn next(&mut self) -> Result<(FromChild, Vec<OwnedFd>), LaunchError> {
        receive(&self.control)
            .map_err(LaunchError::Start)?
            .ok_or(LaunchError::Vanished)
    }

    fn go(&self) -> Result<(), LaunchError> {
        send(&self.control, &FromParent::Go, &[]).map_err(LaunchError::Start)
    }

    fn outer_pid(&self) -> Option<Pid> {
        let id = self.outer.as_ref()?.id();
        i32::try_from(id).ok().and_then(Pid::from_raw)
    }

    fn join_groups(&mut self, plan: &LaunchPlan) -> Result<(), LaunchError> {
        for (index, step) in plan.steps.iter().enumerate() {
            let Step::JoinGroup {
                parent, settings, ..
            } = step
            else {
                continue;
            };
            let joined = if plan.fault == Some(index) {
                Err(SysError::new(
                    "injected fault",
                    std::io::Error::from_raw_os_error(5),
                ))
            } else {
                self.join_group(plan, parent.as_path(), settings)
            };
            joined.map_err(|error| failed(step, index, &error))?;
        }
        Ok(())
    }

    fn join_group(
        &mut self,
        plan: &LaunchPlan,
        parent: &std::path::Path,
        settings: &[(String, String)],
    ) -> Outcome<()> {
        let group = Group::create(parent, &plan.group_name())?;
        let prepared = settings
            .iter()
            .try_for_each(|(file, value)| group.set(file, value))
            .and_then(|()| self.outer_pid().map_or(Ok(()), |pid| group.add(pid)));
        self.groups.push(group);
        prepared
    }

    /// Writes the id maps that `__init` itself may not write.
    fn write_maps(&self, plan: &LaunchPlan, uids: &[u32], gids: &[u32]) -> Result<(), LaunchError> {
        let result = self.outer_pid().map_or(Ok(()), |pid| {
            let write = |file: &str, ids: &[u32]| {
                let text = ids
                    .iter()
                    .fold(String::new(), |text, id| text + &format!("{id} {id} 1\n"));
                let path = format!("/proc/{}/{file}", pid.as_raw_nonzero());
                fs::write(&path, text).map_err(|e| SysError::on("write", path, e))
            };
            write("uid_map", uids).and_then(|()| write("gid_map", gids))
        });
        let place = plan
            .steps
            .iter()
            .enumerate()
            .find(|(_, s)| matches!(s, Step::MapIdentity { .. }));
        match (result, place) {
            (Ok(()), _) => Ok(()),
            (Err(error), Some((index, step))) => Err(failed(step, index, &error).into()),
            (Err(error), None) => Err(LaunchError::Start(error)),
        }
    }

    fn reap_outer(&mut self) {
        if let Some(mut outer) = self.outer.take() {
            // It ends right after its message; its exit code adds nothing to that.
            ignored(outer.wait(), "it may have ended");
        }
    }
}

fn failed(step: &Step, index: usize, error: &SysError) -> LaunchFailure {
    LaunchFailure {
        step: step.name(),
        index: Some(index),
        reason: chain(error),
        errno: error.errno(),
        remedy: step.remedy().to_owned(),
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Some(mut outer) = self.outer.take() {
            ignored(outer.kill(), "it may have ended");
            ignored(outer.wait(), "it may have ended");
        }
        if let Some(first) = self.first {
            ignored(process::kill(first, SIGNAL_KILL), "it may have ended");
            ignored(
                process::reap(Some(first), process::WaitMode::Block),
                "it may have ended",
            );
        }
        for group in self.groups.drain(..) {
            ignored(
                group.remove(),
                "a group that stays is empty; it costs nothing and limits nobody",
            );
        }
    }
}
