//! One try of a row by one contender.

use std::{
    fs::{self, File},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;

use super::{contender::Contender, ground::Ground, questions::Questions, row::Row, tools::Tools};
use crate::process;

/// Time between two checks for open questions: a person would be slower.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Time between two checks for the end.
const END_INTERVAL: Duration = Duration::from_millis(20);
/// Lines of the output that are kept to explain a failure.
const LINES_KEPT: usize = 15;

/// The result of a try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Cell {
    Works,
    /// It works after these questions.
    Asks(Vec<String>),
    /// It is closed on purpose, with the right message.
    Closed,
    /// How it ended, and the last lines of its output.
    Breaks(String),
}

/// A row and its contender.
pub(super) struct Trial<'a> {
    pub(super) row: &'a Row,
    pub(super) contender: &'a Contender,
    pub(super) ground: &'a Ground,
    pub(super) tools: &'a Tools,
}

impl Trial<'_> {
    /// Prepares, tries and checks.
    pub(super) fn run(&self) -> Result<Cell> {
        self.ground.renew(|home| self.tools.bring(self.row, home))?;
        let setup = self.outside(self.row.setup)?;
        if !setup.status.success() {
            bail!(
                "the set-up of `{}` ended with {}: {}{}",
                self.row.name,
                setup.status,
                String::from_utf8_lossy(&setup.stdout),
                String::from_utf8_lossy(&setup.stderr)
            );
        }
        let mut questions = Questions::default();
        let (status, all) = self.inside(&mut questions)?;
        let printed = tail(&all);
        let ours = matches!(self.contender, Contender::Stockade { .. });
        if ours && !self.row.closed_because.is_empty() {
            let is_said =
                !status.is_some_and(|status| status.success()) && all.contains(self.row.refusal);
            return Ok(if is_said {
                Cell::Closed
            } else {
                Cell::Breaks(format!("it does not say `{}`\n{printed}", self.row.refusal))
            });
        }
        match status {
            None => return Ok(Cell::Breaks(format!("it did not end in time\n{printed}"))),
            Some(status) if !status.success() => {
                return Ok(Cell::Breaks(format!("{}\n{printed}", ended(status))));
            }
            Some(_) => {}
        }
        let check = self.outside(self.row.check)?;
        if !check.status.success() {
            return Ok(Cell::Breaks(format!(
                "it ended with 0, and its effect is not there\n{printed}{}",
                String::from_utf8_lossy(&check.stderr)
            )));
        }
        let asked = questions.texts();
        Ok(if asked.is_empty() {
            Cell::Works
        } else {
            Cell::Asks(asked)
        })
    }

    /// Returns the versions of what is tried.
    pub(super) fn versions(&self) -> Result<Vec<String>> {
        let output = self.outside(self.row.versions)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect())
    }

    fn outside(&self, script: &str) -> Result<std::process::Output> {
        let mut command = Contender::Bare.command(&whole(script), "");
        self.ground.prepare(&mut command);
        process::output(&mut command)
    }

    /// Runs the row; `None` if it did not end in time.
    fn inside(&self, questions: &mut Questions) -> Result<(Option<ExitStatus>, String)> {
        let log = self.ground.stage.path("log");
        let file = File::create(&log).context("the log cannot be made")?;
        let twin = file.try_clone().context("the log cannot be shared")?;
        let mut command = self
            .contender
            .command(&whole(self.row.run), self.row.profile);
        self.ground.prepare(&mut command);
        command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(twin)
            .process_group(0);
        let mut child = command
            .spawn()
            .with_context(|| format!("`{}` could not be started", process::describe(&command)))?;
        let status = self.wait(&mut child, questions)?;
        let printed = fs::read(&log).unwrap_or_default();
        let printed = String::from_utf8_lossy(&printed);
        Ok((status, printed.into_owned()))
    }

    fn wait(&self, child: &mut Child, questions: &mut Questions) -> Result<Option<ExitStatus>> {
        let until = Instant::now() + Duration::from_secs(self.row.seconds);
        let mut look = Instant::now() + LOOK_INTERVAL;
        let status = loop {
            if let Some(status) = child.try_wait().context("it cannot be waited for")? {
                break Some(status);
            }
            if Instant::now() > until {
                break None;
            }
            if Instant::now() > look {
                questions.answer(self.contender, self.ground);
                look = Instant::now() + LOOK_INTERVAL;
            }
            thread::sleep(END_INTERVAL);
        };
        // Its background processes end with it.
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            // If none is left, there is nothing to end.
            _ = kill_process_group(group, Signal::KILL).ok();
        }
        if status.is_none() {
            child.wait().context("it cannot be waited for")?;
        }
        Ok(status)
    }
}

/// Returns the last lines of the output.
fn tail(printed: &str) -> String {
    let lines: Vec<&str> = printed.lines().collect();
    let kept = lines.len().saturating_sub(LINES_KEPT);
    lines.get(kept..).unwrap_or_default().join("\n")
}

fn whole(script: &str) -> String {
    format!("set -euo pipefail\n{script}")
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no status".to_owned(),
    }
}
