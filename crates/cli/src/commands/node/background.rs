//! An agent that goes on after the command that started it.

use std::{
    env,
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use stockade_node::{Link, NODE_DIR};

/// What an agent in the background says; it is emptied at each start.
const LOG_FILE: &str = "agent.log";
/// How long the agent may take to be connected.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How a start ended.
pub(in crate::commands) enum Started {
    /// The agent is connected.
    Connected,
    /// It runs, and is not connected yet.
    Trying(PathBuf),
}

/// Starts the agent of the machine, and waits until it is connected, or for ten seconds.
///
/// # Errors
/// When it does not start.
pub(in crate::commands) fn start(state: &Path) -> anyhow::Result<Started> {
    let log = state.join(NODE_DIR).join(LOG_FILE);
    let mut options = OpenOptions::new();
    let open = options.write(true).create(true).truncate(true).mode(0o600);
    let said = open
        .open(&log)
        .with_context(|| format!("cannot write `{}`", log.display()))?;
    let own = env::current_exe().context("cannot find this program")?;
    let mut agent = Command::new(own)
        .args(["node", "run", "--detached"])
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said)
        .spawn()
        .context("cannot start the agent")?;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(ended) = agent.try_wait()? {
            bail!(
                "the agent has ended ({ended}); `{}` says why",
                log.display()
            );
        }
        let status = stockade_node::status(state)?;
        let is_connected = |link: &Link| matches!(link, Link::Connected { .. });
        if status.is_some_and(|status| status.running && is_connected(&status.link)) {
            return Ok(Started::Connected);
        }
        thread::sleep(LOOK);
    }
    Ok(Started::Trying(log))
}
