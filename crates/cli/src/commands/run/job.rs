//! A run on the machine of a job: the agent runs beside it, and the run does not end before the server holds the
//! record, because the machine is gone afterwards.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use stockade_node::{Options, flush, is_of_job};
use stockade_types::{chain, ignored};

use crate::{
    commands::node::facts,
    human::{bytes, safe},
    output::Output,
    state::StateDir,
};

/// How long a run waits at most until the server holds the record.
const PATIENCE: Duration = Duration::from_mins(1);

/// The agent of a job, for one run; dropping it ends it.
pub(super) struct Job {
    state: PathBuf,
    agent: Option<Child>,
}

impl Job {
    /// Starts the agent if this is the machine of a job. Without it the record is sent at the end alone, and
    /// questions that people in roles have to answer are denied.
    pub(super) fn begin(state: &StateDir, out: &mut Output) -> Option<Self> {
        match is_of_job(state.path()) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                let why = safe(&chain(&error));
                out.note(format_args!(
                    "stockade: the enrolment cannot be read: {why}"
                ));
                return None;
            }
        }
        let program = std::env::current_exe();
        let started = program.and_then(|program| {
            let mut agent = Command::new(program);
            agent.args(["node", "run"]).stdin(Stdio::null());
            agent.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
        });
        if let Err(error) = &started {
            out.note(format_args!("stockade: the agent does not start: {error}"));
        }
        Some(Self {
            state: state.path().to_owned(),
            agent: started.ok(),
        })
    }

    /// Waits until the server holds the record, and says what it does not hold in time. The exit code of the
    /// run stays that of its command.
    pub(super) fn finish(self, out: &mut Output) {
        let options = Options {
            state: self.state.clone(),
            facts: facts(&self.state),
            tell: Arc::new(|_| {}),
        };
        let words = match flush(options, PATIENCE) {
            Ok(0) => return,
            Ok(open) => format!(
                "the server does not hold {} after {} s",
                bytes(open),
                PATIENCE.as_secs()
            ),
            Err(error) => format!("the record was not sent: {}", chain(&error)),
        };
        let state = self.state.display();
        out.note(safe(&format!("stockade: {words}; it stays in {state}")));
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            ignored(
                agent.kill(),
                "it has ended by itself, for example because another one runs",
            );
            ignored(agent.wait(), "nothing waits for it any more");
        }
    }
}
