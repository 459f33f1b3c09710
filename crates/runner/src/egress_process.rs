//! The egress process: started by the supervisor, confined by itself, fed with listeners.

use std::{
    fs::File,
    io::Read,
    net::{IpAddr, SocketAddr},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, Command, Stdio},
    task::{Context, Poll},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::Pid,
};
use serde::{Deserialize, Serialize};
use stockade_egress::{
    Config, Datagram, Datagrams, HeldCredential, Knowledge, ListenerKind, ProxyVariables, Sockets,
    Withheld,
};
use stockade_journal::SPOOL_BYTES_MAX;
use stockade_plan::{LaunchPlan, Step};
use stockade_policy::{HostSets, Outside, Source};
use stockade_sys::{
    Outcome, SysError, capability,
    end::{self, CpuTime},
    fd, identity, landlock, net, pass, process,
};
use stockade_types::{AskMode, Digest, HostName, RuleId, Secret, ignored};

use crate::RunError;

/// Largest configuration: a policy with ten thousand rules is about 2 MB.
const CONFIG_BYTES_MAX: u64 = 64 << 20;
/// Descriptors: two for each of the most connections that are served at once, and some more.
const DESCRIPTORS_MAX: u64 = 21_000;
/// How long it may take to end; it bounds itself by less.
const FINISH_WAIT: Timespec = Timespec {
    tv_sec: 2,
    tv_nsec: 0,
};
/// User that the egress process becomes when root starts it (`nobody` everywhere).
const NOBODY: u32 = 65_534;
/// What the supervisor says before the control conversation begins.
#[derive(Debug, Serialize, Deserialize)]
enum Handoff {
    /// The process is confined and loaded its policy, which has this revision; with the certificate of
    /// the authority by which it opens TLS, in PEM, if it does.
    Ready(Digest, Option<String>),
    /// It could not.
    Failed(String),
    /// Here are the listeners, in this order, then the name socket and the spool, then, if TLS is opened, the
    /// authorities that vouch for servers and the credentials; `user:password` for the proxy; and who
    /// can be asked.
    Listeners(Vec<ListenerKind>, Option<String>, AskMode),
}

/// The secrets of a session on their way.
#[derive(Serialize, Deserialize)]
struct Secrets {
    credentials: Vec<Carried>,
    /// Each with what it is.
    withheld: Vec<(String, String)>,
}

/// A credential on its way.
#[derive(Serialize, Deserialize)]
struct Carried {
    id: RuleId,
    placeholder: String,
    value: String,
}

/// The supervisor's side of a started egress process. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct EgressProcess {
    child: Child,
    handoff: OwnedFd,
}

impl EgressProcess {
    /// Starts the process, which confines itself and loads its policy.
    pub(crate) fn start(
        sources: &[Source],
        host_sets: &HostSets,
        proxies: ProxyVariables,
        outside: Outside,
    ) -> Result<(Self, UnixStream), RunError> {
        let config = Config {
            policy_sources: sources.to_vec(),
            host_sets: host_sets.clone(),
            resolvers: resolvers(),
            hosts_file: hosts_file(),
            proxies,
            outside,
        };
        let bytes = serde_json::to_vec(&config).map_err(|e| RunError::Egress(e.to_string()))?;
        let sys = |error: SysError| RunError::Egress(format!("{error}: {}", error.source));
        let config = fd::sealed_memory("stockade-egress", &bytes).map_err(sys)?;
        let (control, their_control) = pass::stream_pair().map_err(sys)?;
        let (handoff, their_handoff) = pass::packet_pair().map_err(sys)?;
        let theirs: [BorrowedFd<'_>; 3] =
            [config.as_fd(), their_control.as_fd(), their_handoff.as_fd()];
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("__egress")
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // A Ctrl-C at our terminal is for the command, which may well go on after it.
            .process_group(0);
        let child = fd::spawn_with(&mut command, &theirs).map_err(sys)?;
        Ok((Self { child, handoff }, control))
    }

    /// Waits until the process is confined; `revision` is that of the session's policy, by which it
    /// must judge too.
    pub(crate) fn wait(&self, revision: Digest) -> Result<Ready<'_>, RunError> {
        let sys = |error: SysError| RunError::Egress(format!("{error}: {}", error.source));
        let (bytes, _) = pass::receive(&self.handoff).map_err(sys)?;
        match serde_json::from_slice(&bytes) {
            Ok(Handoff::Ready(own, certificate)) if own == revision => Ok(Ready {
                process: self,
                certificate,
            }),
            Ok(Handoff::Ready(..)) => {
                Err(RunError::Egress("it has loaded another policy".to_owned()))
            }
            Ok(Handoff::Failed(reason)) => Err(RunError::Egress(reason)),
            _ => Err(RunError::Egress("it ended before it was ready".to_owned())),
        }
    }

    /// Waits, for a bounded time, until a process that was told to finish has: until then it has the
    /// ends of its connections recorded.
    pub(crate) fn finishes_in_time(&self) -> bool {
        let mut fds = [PollFd::new(&self.handoff, PollFlags::IN)];
        // Its end of the hand-over closes with it.
        let ended = rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&FINISH_WAIT)));
        ended.is_ok_and(|count| count > 0)
    }

    /// Returns the processor time that it used so far; `None` if it is gone.
    pub(crate) fn cpu_time(&self) -> Option<CpuTime> {
        end::cpu_time(Pid::from_child(&self.child))
    }

    /// Tells whether the process is gone; while a session runs it must not be.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

/// A process that is confined and judges by the session's policy: only such a one gets the listeners.
#[derive(Debug)]
pub(crate) struct Ready<'p> {
    process: &'p EgressProcess,
    /// The certificate of its authority in PEM, if it opens TLS.
    pub(crate) certificate: Option<String>,
}

impl Ready<'_> {
    /// Gives it the listeners, who can be asked, the credentials and what else the session must not send,
    /// and if it opens TLS the authorities that vouch for servers, in PEM.
    pub(crate) fn hand_over(
        self,
        listeners: &[(ListenerKind, OwnedFd)],
        names: &OwnedFd,
        spool: &File,
        (login, ask): (Option<&Secret<String>>, AskMode),
        (roots, secrets): (Option<&str>, &(Vec<HeldCredential>, Vec<Withheld>)),
    ) -> Result<(), RunError> {
        let sys = |error: SysError| RunError::Egress(format!("{error}: {}", error.source));
        let roots = roots
            .map(|roots| fd::sealed_memory("stockade-roots", roots.as_bytes()))
            .transpose()
            .map_err(sys)?;
        let secrets = carried(&secrets.0, &secrets.1)?;
        let kinds = listeners.iter().map(|(kind, _)| *kind).collect();
        let login = login.map(|login| login.expose().clone());
        let message = serde_json::to_vec(&Handoff::Listeners(kinds, login, ask))
            .map_err(|e| RunError::Egress(e.to_string()))?;
        let fds: Vec<_> = listeners
            .iter()
            .map(|(_, fd)| fd)
            .map(AsFd::as_fd)
            .chain([names.as_fd(), spool.as_fd(), secrets.as_fd()])
            .chain(roots.iter().map(AsFd::as_fd))
            .collect();
        pass::send(&self.process.handoff, &message, &fds).map_err(sys)
    }
}

/// Puts secrets into memory that only who has its descriptor can read.
fn carried(credentials: &[HeldCredential], withheld: &[Withheld]) -> Result<OwnedFd, RunError> {
    let credentials = credentials.iter().map(|one| Carried {
        id: one.id.clone(),
        placeholder: one.placeholder.clone(),
        value: one.value.expose().clone(),
    });
    let withheld = withheld
        .iter()
        .map(|one| (one.kind.clone(), one.value.expose().clone()));
    let all = Secrets {
        credentials: credentials.collect(),
        withheld: withheld.collect(),
    };
    let bytes = serde_json::to_vec(&all).map_err(|e| RunError::Egress(e.to_string()))?;
    fd::sealed_memory("stockade-secrets", &bytes)
        .map_err(|error| RunError::Egress(format!("{error}: {}", error.source)))
}

/// Says of each listener how its connections tell where they wanted to go.
pub(crate) fn kinds(
    plan: &LaunchPlan,
    listeners: Vec<(u16, OwnedFd)>,
) -> Vec<(ListenerKind, OwnedFd)> {
    let redirect = plan.steps.iter().find_map(|step| match step {
        Step::Redirect { port } => Some(*port),
        _ => None,
    });
    listeners
        .into_iter()
        .map(|(port, fd)| {
            let kind = match port {
                53 => ListenerKind::DnsTcp,
                _ if Some(port) == redirect => ListenerKind::Redirected,
                _ => ListenerKind::Direct,
            };
            (kind, fd)
        })
        .collect()
}

impl Drop for EgressProcess {
    fn drop(&mut self) {
        ignored(self.child.kill(), "it may have ended");
        ignored(self.child.wait(), "it may have ended");
    }
}

/// Reads the name servers of the machine (resolv.conf(5)).
fn resolvers() -> Vec<SocketAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let mut found: Vec<SocketAddr> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().parse::<IpAddr>().ok())
        .map(|address| SocketAddr::new(address, 53))
        .collect();
    if found.is_empty() {
        // resolv.conf(5): without an entry the name server is on the local machine.
        found.push(SocketAddr::from(([127, 0, 0, 1], 53)));
    }
    found
}

/// Reads the names of `/etc/hosts` that are valid host names.
fn hosts_file() -> Vec<(HostName, IpAddr)> {
    let text = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_ascii_whitespace();
            let address: IpAddr = words.next()?.parse().ok()?;
            Some(
                words
                    .filter_map(|w| w.parse().ok())
                    .map(move |n| (n, address))
                    .collect::<Vec<_>>(),
            )
        })
        .flatten()
        .collect()
}

/// Runs the `__egress` role: `arguments` are the descriptors of the configuration, the control
/// connection and the hand-over.
pub fn egress_main(arguments: &[String]) -> i32 {
    let Some([config, control, handoff]) = inherited(arguments) else {
        return 125;
    };
    let ready = prepare(config);
    let message = match &ready {
        Ok((knowledge, _)) => {
            let certificate = knowledge.certificate().map(ToOwned::to_owned);
            Handoff::Ready(knowledge.revision(), certificate)
        }
        Err(reason) => Handoff::Failed(reason.clone()),
    };
    let Ok(bytes) = serde_json::to_vec(&message) else {
        return 125;
    };
    if pass::send(&handoff, &bytes, &[]).is_err() {
        return 125;
    }
    let Ok((knowledge, runtime)) = ready else {
        return 125;
    };
    match runtime.block_on(serve(knowledge, UnixStream::from(control), &handoff)) {
        Ok(()) => 0,
        Err(_) => 125,
    }
}

fn inherited(arguments: &[String]) -> Option<[OwnedFd; 3]> {
    let numbers: Vec<i32> = arguments
        .iter()
        .map(|a| a.parse().ok())
        .collect::<Option<_>>()?;
    let [config, control, handoff] = numbers.try_into().ok()?;
    Some([
        fd::take_inherited(config).ok()?,
        fd::take_inherited(control).ok()?,
        fd::take_inherited(handoff).ok()?,
    ])
}

/// Reads the configuration, takes every power away that serving does not need, and loads the policy.
fn prepare(config: OwnedFd) -> Result<(Knowledge, tokio::runtime::Runtime), String> {
    let mut bytes = Vec::new();
    File::from(config)
        .take(CONFIG_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|e| format!("cannot read its configuration: {e}"))?;
    let config: Config =
        serde_json::from_slice(&bytes).map_err(|e| format!("bad configuration: {e}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|e| format!("no runtime: {e}"))?;
    confine().map_err(|e| format!("cannot confine itself: {e}: {}", e.source))?;
    let knowledge = config.load().map_err(|e| stockade_types::chain(&e))?;
    Ok((knowledge, runtime))
}

fn confine() -> Outcome<()> {
    process::die_with_parent()?;
    if identity::own().0 == 0 {
        identity::become_user(NOBODY, NOBODY)?;
        // A changed identity clears the wish to die with the parent (prctl(2)).
        process::die_with_parent()?;
    }
    identity::forbid_inspection()?;
    process::limit(process::Limit::Core, 1)?;
    process::limit(process::Limit::FileSize, SPOOL_BYTES_MAX)?;
    process::limit(process::Limit::OpenFiles, DESCRIPTORS_MAX)?;
    if !capability::effective_is_empty()? {
        capability::drop_all()?;
    }
    capability::set_no_new_privileges()?;
    let abi = landlock::abi();
    if abi > 0 {
        landlock::restrict(abi, &[])?;
    }
    crate::egress_calls::filter()?.load()
}

async fn serve(knowledge: Knowledge, control: UnixStream, handoff: &OwnedFd) -> Result<(), String> {
    let (bytes, fds) = pass::receive(handoff).map_err(|e| e.to_string())?;
    let Ok(Handoff::Listeners(kinds, login, ask)) = serde_json::from_slice(&bytes) else {
        return Err("no listeners".to_owned());
    };
    let mut fds = fds.into_iter();
    let tcp = kinds
        .into_iter()
        .zip(fds.by_ref())
        .map(|(kind, fd)| (std::net::TcpListener::from(fd), kind))
        .collect();
    let names = fds.next().ok_or("no name socket")?;
    let names = NameSocket::new(names).map_err(|e| e.to_string())?;
    let spool = fds.next().ok_or("no spool")?;
    let secrets = read(fds.next(), "secrets")?;
    let secrets: Secrets =
        serde_json::from_slice(&secrets).map_err(|e| format!("bad secrets: {e}"))?;
    let roots = read(fds.next(), "authorities")?;
    let credentials = secrets.credentials.into_iter().map(|one| HeldCredential {
        id: one.id,
        placeholder: one.placeholder,
        value: Secret::new(one.value),
    });
    let withheld = secrets.withheld.into_iter().map(|(kind, value)| Withheld {
        kind,
        value: Secret::new(value),
    });
    let sockets = Sockets {
        tcp,
        udp: vec![Box::new(names)],
        control,
        spool: Some(File::from(spool)),
        original_destination: Box::new(|stream| net::original_destination(stream.as_fd())),
        proxy_login: login.map(Secret::new),
        roots,
        ask,
        credentials: credentials.collect(),
        withheld: withheld.collect(),
    };
    stockade_egress::serve(knowledge, sockets)
        .await
        .map_err(|e| e.to_string())
}

/// Reads what a descriptor leads to; nothing, where there is none.
fn read(memory: Option<OwnedFd>, what: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    if let Some(memory) = memory {
        let mut memory = File::from(memory).take(CONFIG_BYTES_MAX);
        memory
            .read_to_end(&mut bytes)
            .map_err(|e| format!("cannot read the {what}: {e}"))?;
    }
    Ok(bytes)
}

/// The name socket: answers leave from the address that was asked.
struct NameSocket(tokio::net::UdpSocket);

impl NameSocket {
    fn new(fd: OwnedFd) -> std::io::Result<Self> {
        let socket = std::net::UdpSocket::from(fd);
        socket.set_nonblocking(true)?;
        tokio::net::UdpSocket::from_std(socket).map(Self)
    }
}

impl Datagrams for NameSocket {
    fn poll_receive(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<std::io::Result<Datagram>> {
        loop {
            std::task::ready!(self.0.poll_recv_ready(context))?;
            let received = self.0.try_io(tokio::io::Interest::READABLE, || {
                net::receive_datagram(self.0.as_fd(), buffer)
            });
            match received {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(datagram) => {
                    return Poll::Ready(Ok(Datagram {
                        bytes: datagram.length,
                        peer: datagram.peer,
                        local: SocketAddr::new(datagram.local, 53),
                    }));
                }
            }
        }
    }

    fn try_send(&self, bytes: &[u8], peer: SocketAddr, local: SocketAddr) -> std::io::Result<()> {
        net::send_datagram(self.0.as_fd(), bytes, peer, local.ip())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use stockade_sys::pass;
    use stockade_types::Digest;

    use super::{EgressProcess, Handoff};

    #[test]
    fn a_process_with_another_policy_gets_no_listener() {
        for (own, same) in [("policy", true), ("another", false)] {
            let (handoff, theirs) = pass::packet_pair().unwrap();
            let process = EgressProcess {
                child: Command::new("true").spawn().unwrap(),
                handoff,
            };
            let ready = Handoff::Ready(Digest::of(own.as_bytes()), None);
            let ready = serde_json::to_vec(&ready).unwrap();
            pass::send(&theirs, &ready, &[]).unwrap();
            let (names, _other) = pass::packet_pair().unwrap();
            let ready = process.wait(Digest::of(b"policy"));
            let handed = ready.and_then(|ready| {
                ready.hand_over(
                    &[],
                    &names,
                    &tempfile::tempfile().unwrap(),
                    (None, stockade_types::AskMode::Deny),
                    (None, &(Vec::new(), Vec::new())),
                )
            });
            assert_eq!(handed.is_ok(), same, "{handed:?}");
            drop(process);
            let got = pass::receive(&theirs).map(|(_, fds)| fds.len());
            // The name socket, the spool, and the secrets.
            assert_eq!(got.unwrap_or_default(), if same { 3 } else { 0 });
        }
    }
}
