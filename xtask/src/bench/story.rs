//! How long it takes to show a session of two hours, and how large its page is.

use std::{
    cell::OnceCell,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::{
    bounded,
    figures::float,
    lab::Lab,
    records::{STATE_VARIABLE, example, forget_index, hand_over_alone},
};
use crate::process;

/// Turns of the session, of 25 events each: 50,000 events.
const TURNS: u32 = 2_000;

/// What is asked of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `show`, without an index: the first time after the session.
    First,
    /// `show`.
    Timeline,
    /// `show --tree`.
    Tree,
    /// `show --html`.
    Page,
    /// The megabytes of that page.
    PageSize,
}

/// A state directory with the session, made when it is first needed.
#[derive(Default)]
pub(super) struct Story(OnceCell<(PathBuf, String)>);

impl Story {
    /// Returns the directory and the session's id, made if they are not there.
    pub(super) fn made(&self, lab: &Lab) -> Result<&(PathBuf, String)> {
        if let Some(made) = self.0.get() {
            return Ok(made);
        }
        let state = lab.workspaces.join("story");
        fs::create_dir_all(&state).context("a state directory cannot be made")?;
        hand_over_alone(&state, lab)?;
        let writer = example("invented")?;
        let writer = lab.stage.copy(&writer, "bin/invented")?;
        let mut command = Command::new(writer);
        command.arg(&state).arg(TURNS.to_string());
        let id = process::stdout(&mut lab.prepare(command, &lab.home))?;
        let id = id.trim().to_owned();
        Ok(self.0.get_or_init(|| (state, id)))
    }

    /// Shows the session once and returns the milliseconds, or the megabytes of the page.
    pub(super) fn sample(&self, form: Form, program: &Path, lab: &Lab) -> Result<f64> {
        let (state, id) = self.made(lab)?;
        let page = lab.home.join("page.html");
        let mut command = Command::new(program);
        command.args(["show", id]).env(STATE_VARIABLE, state);
        match form {
            Form::First => forget_index(state)?,
            Form::Timeline => {}
            Form::Tree => {
                command.arg("--tree");
            }
            Form::Page | Form::PageSize => {
                command.arg("--html").arg(&page);
            }
        }
        let (text, took) = bounded::run(&mut lab.prepare(command, &lab.home))?;
        match form {
            Form::First | Form::Timeline | Form::Tree => {
                ensure!(text.len() > 100_000, "it shows {} bytes", text.len());
                Ok(took.as_secs_f64() * 1e3)
            }
            Form::Page => Ok(took.as_secs_f64() * 1e3),
            Form::PageSize => {
                let about = fs::metadata(&page).context("there is no page")?;
                Ok(float(about.len()) / 1e6)
            }
        }
    }
}
