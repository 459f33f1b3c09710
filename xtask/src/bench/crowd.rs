//! Many sessions at once: how long until all of them run, and what each takes of memory.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    bounded,
    contender::{Contender, Writes},
    ground::Ground,
    lab::Lab,
    memory,
};
use crate::process;

/// Sessions at once.
const SESSIONS: u32 = 100;
/// Longer than a hundred starts take on a machine with two busy cores.
const START_LONGEST: Duration = Duration::from_mins(1);
/// Time in which those that have started come to rest.
const SETTLE: Duration = Duration::from_millis(1500);
/// Each says that it runs, and goes on until its input ends.
const LINE: &str = "echo runs; read line";

/// What is asked of a crowd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Milliseconds from the first start until the last one runs, and until all have ended.
    Time,
    /// Megabytes of one session's supervisors.
    Memory,
}

/// Starts a hundred, waits until all run, and lets them end; one that fails fails the sample.
pub(super) fn sample(asked: Asked, contender: &Contender, lab: &Lab) -> Result<f64> {
    let folder = lab.ground(Ground::Build)?;
    let began = Instant::now();
    let mut crowd = Crowd(Vec::new());
    for _ in 0..SESSIONS {
        let command = contender.command(&folder, &["sh", "-c", LINE], Writes::Nothing);
        let mut command = lab.prepare(command, &folder);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("`{}` could not be started", process::describe(&command)))?;
        crowd.0.push(child);
    }
    crowd.wait_until_all_run(began)?;
    let megabytes = match asked {
        Asked::Time => 0.0,
        Asked::Memory => {
            thread::sleep(SETTLE);
            let roots: Vec<u32> = crowd.0.iter().map(Child::id).collect();
            memory::sum_mb(&roots)? / f64::from(SESSIONS)
        }
    };
    crowd.end()?;
    Ok(match asked {
        Asked::Time => began.elapsed().as_secs_f64() * 1e3,
        Asked::Memory => megabytes,
    })
}

/// Those that run; dropping it kills them.
struct Crowd(Vec<Child>);

impl Crowd {
    fn wait_until_all_run(&mut self, began: Instant) -> Result<()> {
        let (says, hears) = std::sync::mpsc::channel();
        for child in &mut self.0 {
            let output = child.stdout.take().context("its output is a pipe")?;
            let says = says.clone();
            thread::spawn(move || {
                let mut line = String::new();
                let read = BufReader::new(output).read_line(&mut line);
                // Nobody listens any more once one of them has failed.
                says.send(read.is_ok() && line == "runs\n").ok();
            });
        }
        for number in 0..self.0.len() {
            let rest = START_LONGEST.saturating_sub(began.elapsed());
            match hears.recv_timeout(rest) {
                Ok(true) => {}
                Ok(false) => bail!("one of {SESSIONS} did not start its command"),
                Err(_) => bail!(
                    "{number} of {SESSIONS} ran after {} s",
                    START_LONGEST.as_secs()
                ),
            }
        }
        Ok(())
    }

    fn end(mut self) -> Result<()> {
        for child in &mut self.0 {
            drop(child.stdin.take());
        }
        for child in &mut self.0 {
            let status = child.wait().context("a child can be waited for")?;
            // `read` returns 1 at the end of its input.
            ensure!(
                status.code() == Some(1),
                "one of {SESSIONS} ended with {status}"
            );
        }
        Ok(())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.0 {
            if matches!(child.try_wait(), Ok(None)) {
                if let Ok(group) = bounded::group_of(child) {
                    bounded::kill(group);
                }
                child.wait().ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_bare_shells_run_at_once_and_have_no_supervisor() {
        let lab = Lab::for_test();
        assert!(sample(Asked::Time, &Contender::Bare, &lab).unwrap() > 0.0);
        let megabytes = sample(Asked::Memory, &Contender::Bare, &lab).unwrap();
        assert!(megabytes.abs() < f64::EPSILON, "{megabytes}");
    }

    #[test]
    fn one_that_does_not_start_fails_the_sample() {
        let lab = Lab::for_test();
        let ours = Contender::Stockade {
            program: "/bin/false".into(),
        };
        let error = sample(Asked::Time, &ours, &lab).unwrap_err();
        assert!(error.to_string().contains("did not start"), "{error}");
    }
}
