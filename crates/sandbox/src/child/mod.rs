//! The child half: one `match` over the steps, in the order of the plan.

mod confine;
mod first;
mod view;

pub use confine::{call_filter, call_rules};

use std::{
    fs::File,
    io::Read,
    os::fd::{AsFd, OwnedFd, RawFd},
};

use stockade_plan::{LaunchPlan, Namespace, PLAN_VERSION, Step, StepName, Stream, Streams};
use stockade_sys::{
    Outcome, SysError, fd, identity,
    mount::BindAccess,
    net::{self, Families, HeldConnections, SocketDiagnosis},
    process::{self, Fork, Parentage},
    pty,
};
use stockade_types::{AbsPath, Digest, chain, ignored};

use crate::message::{FromChild, FromParent, LaunchFailure, receive, send};

/// Largest plan; ours are about 20 kB, an environment can be large.
const PLAN_BYTES_MAX: u64 = 8 << 20;

/// The session's own terminal.
struct Terminal {
    master: OwnedFd,
    slave: OwnedFd,
    streams: Streams,
}

/// The results of the steps so far.
struct State {
    plan: LaunchPlan,
    control: OwnedFd,
    view: view::View,
    listeners: Vec<(u16, OwnedFd)>,
    names: Option<OwnedFd>,
    diagnosis: Option<OwnedFd>,
    held: Option<OwnedFd>,
    families: Families,
    terminal: Option<Terminal>,
    /// The channel for the supervisor's requests to the binder.
    binder: Option<OwnedFd>,
}

/// Runs the `__init` role: the one argument is the control descriptor, over which the plan comes.
/// Returns only if the launch could not even report its failure.
pub fn main(arguments: &[String]) -> i32 {
    let Some(control) = parse(arguments) else {
        return EXIT_UNUSABLE;
    };
    let Ok(control) = fd::take_inherited(control) else {
        return EXIT_UNUSABLE;
    };
    let plan = match receive_plan(&control) {
        Ok(Some(plan)) => plan,
        // The supervisor found that there is nothing to launch.
        Ok(None) => return EXIT_UNUSABLE,
        Err(error) => {
            report(
                &control,
                StepName::ReadPlan,
                None,
                "this is a fault of Stockade",
                &error,
            );
            return EXIT_UNUSABLE;
        }
    };
    let code = run(&mut State {
        plan,
        control,
        view: view::View::default(),
        listeners: Vec::new(),
        names: None,
        diagnosis: None,
        held: None,
        families: Families::Four,
        terminal: None,
        binder: None,
    });
    // The runtime's work at the end of a process is meant for one that was not forked: its thread
    // now has another id, and the C library would abort because of that.
    process::exit_now(code)
}

/// Exit code of an `__init` that cannot continue; its supervisor reports the reason that it
/// received.
const EXIT_UNUSABLE: i32 = 125;

fn parse(arguments: &[String]) -> Option<RawFd> {
    match arguments {
        [control] => control.parse().ok(),
        _ => None,
    }
}

/// Waits for the plan; `None` when the supervisor is gone.
fn receive_plan(control: &OwnedFd) -> Outcome<Option<LaunchPlan>> {
    let Some((message, mut fds)) = receive::<FromParent>(control)? else {
        return Ok(None);
    };
    match (message, fds.pop()) {
        (FromParent::Plan { digest }, Some(plan)) => read_plan(plan, digest).map(Some),
        _ => Err(SysError::new(
            "read plan",
            std::io::Error::other("there is no plan"),
        )),
    }
}

pub(crate) fn read_plan(plan: OwnedFd, digest: Digest) -> Outcome<LaunchPlan> {
    let mut bytes = Vec::new();
    let invalid = |text: &str| SysError::new("read plan", std::io::Error::other(text.to_owned()));
    File::from(plan)
        .take(PLAN_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|e| SysError::new("read plan", e))?;
    if Digest::of(&bytes) != digest {
        return Err(invalid("the plan is not the one that was sealed"));
    }
    let plan: LaunchPlan = serde_json::from_slice(&bytes)
        .map_err(|e| invalid(&format!("unknown content in the plan: {e}")))?;
    if plan.version != PLAN_VERSION {
        return Err(invalid("the plan has another version"));
    }
    // Readers of the boundary rely on it.
    plan.check()
        .map_err(|unfounded| invalid(&unfounded.to_string()))?;
    Ok(plan)
}

fn report(control: &OwnedFd, step: StepName, index: Option<usize>, remedy: &str, error: &SysError) {
    let failure = LaunchFailure {
        step,
        index,
        reason: chain(error),
        errno: error.errno(),
        remedy: remedy.to_owned(),
    };
    ignored(
        send(control, &FromChild::Failed { failure }, &[]),
        "the supervisor may be gone, and there is nobody else to tell",
    );
}

/// The effect of a step on the steps after it.
enum Flow {
    /// Continue.
    Next,
    /// This process's part is over.
    Exit(i32),
}

fn run(state: &mut State) -> i32 {
    let steps = state.plan.steps.clone();
    for (index, step) in steps.iter().enumerate() {
        let result = if state.plan.fault == Some(index) {
            Err(SysError::new(
                "injected fault",
                std::io::Error::from_raw_os_error(5),
            ))
        } else {
            apply(state, step)
        };
        match result {
            Ok(Flow::Next) => {}
            Ok(Flow::Exit(code)) => return code,
            Err(error) => {
                report(
                    &state.control,
                    step.name(),
                    Some(index),
                    step.remedy(),
                    &error,
                );
                return EXIT_UNUSABLE;
            }
        }
    }
    EXIT_UNUSABLE
}

fn apply(state: &mut State, step: &Step) -> Outcome<Flow> {
    let identity = state.plan.identity;
    match step {
        // The supervisor did this before it sent `Go`.
        Step::JoinGroup { .. } => {}
        Step::EnterNamespaces { namespaces } => enter(namespaces)?,
        Step::MapIdentity { uids, gids } => state.map_identity(uids, gids)?,
        Step::StartFirstProcess => return state.start_first_process(),
        Step::DieWithSupervisor => process::die_with_parent()?,
        Step::HostName { name } => process::set_host_name(name)?,
        Step::SharedCount { name, most } => process::share_at_most(name, *most)?,
        Step::PrivateMounts => stockade_sys::mount::make_private()?,
        Step::NewRoot { at } => state.view.new_root(at)?,
        Step::Symlink { path, target } => state.view.symlink(path, target)?,
        Step::File { path, contents } => state.view.file(path, contents)?,
        Step::Bind {
            from,
            path,
            read_only,
            devices,
        } => {
            let (read_only, devices) = (*read_only, *devices);
            let access = BindAccess { read_only, devices };
            state.view.bind(from, path, access)?;
        }
        Step::Overlay { over, upper } => state.overlay(over, upper.as_ref())?,
        Step::OverlayPart(part) => state.view.overlay_part(part, identity)?,
        Step::Tmpfs {
            path,
            mode,
            executable,
            owner,
        } => {
            state
                .view
                .tmpfs(path, *mode, *executable, *owner, identity)?;
        }
        Step::Processes { path } => state.view.processes(path)?,
        Step::Terminals { path } => state.view.terminals(path)?,
        Step::ReadOnly { path } => state.view.read_only(path)?,
        Step::Protect { path, read_only } => state.view.protect(path, *read_only)?,
        Step::Cover { path } => state.view.cover(path)?,
        Step::Mask { path } => state.view.mask(path)?,
        Step::SealRoot => state.view.seal()?,
        Step::EnterRoot => state.view.enter()?,
        Step::Loopback => net::bring_up_loopback()?,
        Step::RouteEverything => state.families = net::route_everything_to_loopback()?,
        Step::Listen { ports, local } => state.listen(ports, local)?,
        Step::Redirect { port } => net::redirect_all_tcp(*port)?,
        Step::Hold { local } => state.hold(local)?,
        Step::Terminal { size, streams } => state.open_terminal(*size, *streams)?,
        Step::HandOver => state.hand_over()?,
        Step::BecomeUser {
            uid,
            gid,
            drop_groups,
        } => {
            confine::become_user(*uid, *gid, *drop_groups)?;
        }
        Step::StartCommand => return first::start_command(state),
        Step::NewSession => pty::new_session(state.terminal_slave())?,
        Step::ForegroundGroup => pty::foreground_group(state.terminal_slave())?,
        Step::ResourceLimit { limit, value } => confine::resource_limit(*limit, *value)?,
        Step::DropCapabilities => confine::drop_capabilities()?,
        Step::NoNewPrivileges => stockade_sys::capability::set_no_new_privileges()?,
        Step::RestrictPaths { abi, rules } => confine::restrict_paths(*abi, rules)?,
        Step::FilterCalls { set } => confine::filter_calls(*set, &state.control)?,
        Step::CloseDescriptors => state.close_descriptors()?,
        Step::Execute => return Err(confine::execute(&state.plan.command)),
    }
    Ok(Flow::Next)
}

fn enter(namespaces: &[Namespace]) -> Outcome<()> {
    let wanted: Vec<_> = namespaces.iter().map(|n| namespace(*n)).collect();
    process::unshare(&wanted)
}

const fn namespace(namespace: Namespace) -> process::Namespace {
    match namespace {
        Namespace::User => process::Namespace::User,
        Namespace::Mount => process::Namespace::Mount,
        Namespace::Pid => process::Namespace::Pid,
        Namespace::Network => process::Namespace::Network,
        Namespace::Ipc => process::Namespace::Ipc,
        Namespace::Uts => process::Namespace::Uts,
        Namespace::Cgroup => process::Namespace::Cgroup,
    }
}

impl State {
    fn overlay(&mut self, over: &AbsPath, upper: Option<&AbsPath>) -> Outcome<()> {
        let identity = self.plan.identity;
        self.view.overlay(over, upper, identity)
    }

    fn wait_for_go(&self) -> Outcome<Option<OwnedFd>> {
        match receive::<FromParent>(&self.control)? {
            Some((FromParent::Go, mut fds)) => Ok(fds.pop()),
            _ => Err(SysError::new(
                "wait for the supervisor",
                std::io::ErrorKind::BrokenPipe,
            )),
        }
    }

    fn map_identity(&self, uids: &[u32], gids: &[u32]) -> Outcome<()> {
        // An ordinary user may only map itself, and only from inside; the supervisor writes root's
        // maps.
        if let ([uid], [gid]) = (uids, gids)
            && *uid != 0
        {
            return identity::map_self(*uid, *gid);
        }
        let request = FromChild::Map {
            uids: uids.to_vec(),
            gids: gids.to_vec(),
        };
        send(&self.control, &request, &[])?;
        self.wait_for_go().map(drop)
    }

    /// The outer process ends here; its sibling continues as process 1 of the session.
    fn start_first_process(&self) -> Outcome<Flow> {
        match process::fork(Parentage::Sibling)? {
            Fork::Child => Ok(Flow::Next),
            Fork::Parent(pid) => {
                let pid = pid.as_raw_nonzero().get();
                send(&self.control, &FromChild::First { pid }, &[])?;
                Ok(Flow::Exit(0))
            }
        }
    }

    fn listen(&mut self, ports: &[u16], local: &[u16]) -> Outcome<()> {
        for port in ports {
            self.listeners
                .push((*port, net::listen(*port, self.families)?));
        }
        for port in local {
            let listeners = net::listen_local(*port, self.families)?.into_iter();
            self.listeners.extend(listeners.map(|fd| (*port, fd)));
        }
        self.names = Some(net::dns_socket(self.families)?);
        self.diagnosis = Some(SocketDiagnosis::open()?.into_fd());
        Ok(())
    }

    fn hold(&mut self, local: &[u16]) -> Outcome<()> {
        // The queue comes first: without one, held packets would be dropped.
        self.held = Some(HeldConnections::open()?.into_fd());
        net::hold_all_tcp(local)
    }

    fn open_terminal(&mut self, size: (u16, u16), streams: Streams) -> Outcome<()> {
        let (master, slave) = pty::open(std::path::Path::new("/dev/pts/ptmx"))?;
        pty::set_size(master.as_fd(), size)?;
        self.terminal = Some(Terminal {
            master,
            slave,
            streams,
        });
        Ok(())
    }

    fn terminal_slave(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.terminal
            .as_ref()
            .map(|terminal| terminal.slave.as_fd())
    }

    fn hand_over(&mut self) -> Outcome<()> {
        let ports = self.listeners.iter().map(|(port, _)| *port).collect();
        let master = self.terminal.as_ref().map(|terminal| &terminal.master);
        let message = FromChild::HandOver {
            ports,
            names: self.names.is_some(),
            diagnosis: self.diagnosis.is_some(),
            held: self.held.is_some(),
            terminal: master.is_some(),
        };
        let fds: Vec<_> = self
            .listeners
            .iter()
            .map(|(_, fd)| fd)
            .chain(&self.names)
            .chain(&self.diagnosis)
            .chain(&self.held)
            .chain(master)
            .map(AsFd::as_fd)
            .collect();
        send(&self.control, &message, &fds)?;
        self.listeners.clear();
        self.names = None;
        self.diagnosis = None;
        self.held = None;
        self.binder = self.wait_for_go()?;
        Ok(())
    }

    fn close_descriptors(&mut self) -> Outcome<()> {
        if let Some(terminal) = self.terminal.take() {
            let Streams {
                stdin,
                stdout,
                stderr,
            } = terminal.streams;
            let is_terminal = [stdin, stdout, stderr].map(|stream| stream == Stream::Terminal);
            fd::set_standard_streams(terminal.slave.as_fd(), is_terminal)?;
        }
        // The execution closes everything else; if it fails, the control socket reports that.
        fd::close_on_exec()
    }

    /// Closes descriptors that were only needed to build the view.
    fn let_go(&mut self) {
        let Self {
            plan: _,
            control: _,
            view,
            listeners,
            names,
            diagnosis,
            held,
            families: _,
            terminal,
            binder: _,
        } = self;
        *view = view::View::default();
        listeners.clear();
        (*names, *diagnosis, *held) = (None, None, None);
        *terminal = None;
    }
}
