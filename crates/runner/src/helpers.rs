//! The two processes that a session needs besides ours: started before anything else is found out,
//! since coming up takes them as long as that takes us.

use std::{
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::Stdio,
};

use stockade_plan::{Network, Stream, Streams};
use stockade_policy::{HostSets, Source};
use stockade_sandbox::{Spawned, StandardStreams, spawn};
use stockade_types::RawText;

use crate::{
    RunError, credentials, egress_process::EgressProcess, parts::PipeEnds, proxy_variables,
};

/// The processes of a session that is not there yet: one waits for its plan, the other for its
/// listeners. Dropping it ends both.
#[derive(Debug)]
pub struct Helpers {
    pub(crate) sandbox: Sandbox,
    pub(crate) egress: Option<(EgressProcess, UnixStream)>,
}

impl Helpers {
    /// Starts them; the egress process loads the policy of `sources` for itself. Nothing is started
    /// where `environment`, that of the caller, is that of a session.
    ///
    /// Must be called from the thread that calls [`crate::start`].
    ///
    /// # Errors
    /// When one of them cannot be started, and inside a session.
    pub fn start(
        sources: &[Source],
        host_sets: &HostSets,
        wanted: Streams,
        network: Network,
        environment: &[(RawText, RawText)],
    ) -> Result<Self, RunError> {
        refuse_nesting(environment)?;
        // First what takes longer and is waited for.
        let sandbox = Sandbox::start(wanted)?;
        let egress = match network {
            Network::Isolated => None,
            Network::Proxied => {
                let proxies = proxy_variables::read(environment);
                let outside = credentials::outside(environment);
                Some(EgressProcess::start(sources, host_sets, proxies, outside)?)
            }
        };
        Ok(Self { sandbox, egress })
    }
}

/// Fails inside a session: there cannot be another one in it.
pub(crate) fn refuse_nesting(environment: &[(RawText, RawText)]) -> Result<(), RunError> {
    let outer = environment
        .iter()
        .find(|(name, _)| name.as_bytes() == b"STOCKADE_SESSION");
    match outer {
        Some((_, outer)) if Path::new("/run/stockade/boundary.md").exists() => {
            Err(RunError::Nested(outer.display()))
        }
        _ => Ok(()),
    }
}

/// The process that becomes the sandbox, and our ends of the command's streams.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) process: Spawned,
    pub(crate) pipes: PipeEnds,
}

impl Sandbox {
    pub(crate) fn start(wanted: Streams) -> Result<Self, RunError> {
        let (streams, pipes) = streams(wanted)?;
        Ok(Self {
            process: spawn(streams)?,
            pipes,
        })
    }
}

/// Makes a pipe for each stream that is one. What becomes the session's terminal is nothing until
/// then.
fn streams(wanted: Streams) -> Result<(StandardStreams, PipeEnds), RunError> {
    let mut theirs = StandardStreams {
        stdin: Stdio::null(),
        stdout: Stdio::null(),
        stderr: Stdio::null(),
    };
    let mut ours = PipeEnds::default();
    if wanted.stdin == Stream::Pipe {
        let (read, write) = pipe()?;
        theirs.stdin = read.into();
        ours.stdin = Some(write);
    }
    let mut output = None;
    if wanted.stdout == Stream::Pipe {
        let (read, write) = pipe()?;
        output = Some(write.try_clone().map_err(RunError::Supervisor)?);
        theirs.stdout = write.into();
        ours.stdout = Some(read);
    }
    match (wanted.stderr, output) {
        (Stream::Output, Some(write)) => theirs.stderr = write.into(),
        (Stream::Pipe | Stream::Output, _) => {
            let (read, write) = pipe()?;
            theirs.stderr = write.into();
            ours.stderr = Some(read);
        }
        (Stream::Terminal, _) => {}
    }
    Ok((theirs, ours))
}

fn pipe() -> Result<(OwnedFd, OwnedFd), RunError> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| RunError::Supervisor(errno.into()))
}
