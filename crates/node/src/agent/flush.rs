//! Waits until the server holds every journal: at the end of a job, after which the machine is gone.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{AgentError, Options, run_until};
use crate::{
    identity::{Enrolment, Places},
    scan::Scanner,
};

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Sends what the server does not hold yet, or waits for the agent that runs here to do so, for at most
/// `patience`. Returns how many bytes the server still does not hold, by the receipts beside the journals.
/// Blocks.
///
/// # Errors
/// As [`super::run`].
pub fn flush(options: Options, patience: Duration) -> Result<u64, AgentError> {
    let state = options.state.clone();
    let until = Instant::now() + patience;
    if unheld(&state)? == 0 {
        return Ok(0);
    }
    let place = state.clone();
    let held = async move {
        while Instant::now() < until {
            // A few small files; nothing else waits on this thread that is in a hurry.
            if matches!(unheld(&place), Ok(0)) {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    match run_until(options, held) {
        Ok(()) => {}
        Err(AgentError::Running) => {
            while Instant::now() < until && unheld(&state)? > 0 {
                thread::sleep(LOOK);
            }
        }
        Err(error) => return Err(error),
    }
    unheld(&state)
}

/// Returns how many bytes of journals have no receipt. It asks the files and no agent: an agent writes what
/// it does with a delay.
fn unheld(state: &Path) -> Result<u64, AgentError> {
    let places = Places::new(state);
    let enrolment = Enrolment::read(&places)?.ok_or(AgentError::NotEnrolled)?;
    let mut scanner = Scanner::new(state, enrolment.since, enrolment.servers);
    let all = scanner.scan();
    let open = |bytes: u64, held: u64| bytes.saturating_sub(held);
    Ok(all
        .iter()
        .map(|found| open(found.here.bytes, found.held))
        .sum())
}
