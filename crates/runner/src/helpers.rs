//! The two processes that a session needs besides ours: started before anything else is found out,
//! since coming up takes them as long as that takes us.

use std::{os::unix::net::UnixStream, path::Path, process::Stdio};

use stockade_policy::{HostSets, Source};
use stockade_sandbox::{Spawned, StandardStreams, spawn};
use stockade_types::RawText;

use crate::{RunError, egress_process::EgressProcess, parts::PipeEnds};

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
        terminal: bool,
        offline: bool,
        environment: &[(RawText, RawText)],
    ) -> Result<Self, RunError> {
        refuse_nesting(environment)?;
        // First what takes longer and is waited for.
        let sandbox = Sandbox::start(terminal)?;
        let egress = if offline {
            None
        } else {
            Some(EgressProcess::start(sources, host_sets)?)
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
    pub(crate) pipes: Option<PipeEnds>,
}

impl Sandbox {
    pub(crate) fn start(terminal: bool) -> Result<Self, RunError> {
        let (streams, pipes) = streams(terminal)?;
        Ok(Self {
            process: spawn(streams)?,
            pipes,
        })
    }
}

fn streams(terminal: bool) -> Result<(StandardStreams, Option<PipeEnds>), RunError> {
    if terminal {
        let null = StandardStreams {
            stdin: Stdio::null(),
            stdout: Stdio::null(),
            stderr: Stdio::null(),
        };
        return Ok((null, None));
    }
    let pipe = || {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|errno| RunError::Supervisor(errno.into()))
    };
    let (stdin_read, stdin) = pipe()?;
    let (stdout, stdout_write) = pipe()?;
    let (stderr, stderr_write) = pipe()?;
    let theirs = StandardStreams {
        stdin: stdin_read.into(),
        stdout: stdout_write.into(),
        stderr: stderr_write.into(),
    };
    Ok((
        theirs,
        Some(PipeEnds {
            stdin,
            stdout,
            stderr,
        }),
    ))
}
