//! The record: its size, and how long it takes to read those of ten thousand sessions.

use std::{
    cell::OnceCell,
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};

use super::{
    bounded,
    contender::{self, Contender},
    figures::float,
    ground::Ground,
    lab::Lab,
};
use crate::{agents, out, process, workspace};

/// Sessions whose records are read.
const SESSIONS: u32 = 10_000;
/// Where a state directory has its sessions.
const SESSIONS_FOLDER: &str = "sessions";
/// Names the state directory to the program.
pub(super) const STATE_VARIABLE: &str = "STOCKADE_STATE_DIR";
/// A session of the middle kind: a few programs, a repository, a refusal.
const TYPICAL: &str = "git status --porcelain | head -3; ls > /dev/null; for i in 1 2 3 4 5; do \
    echo $i > made; rm made; done; cat /etc/shadow 2> /dev/null; true";

/// What is asked about ten thousand sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// `sessions`, without an index.
    First,
    /// `sessions`.
    List,
    /// `show last`.
    Last,
    /// `log verify --all`.
    Verify,
}

/// A state directory with many sessions, made when it is first needed.
#[derive(Default)]
pub(super) struct Archive(OnceCell<PathBuf>);

impl Archive {
    /// Returns the directory, made if it is not there.
    pub(super) fn state(&self, program: &Path, lab: &Lab) -> Result<&Path> {
        if let Some(state) = self.0.get() {
            return Ok(state);
        }
        let made = make(program, lab)?;
        Ok(self.0.get_or_init(|| made))
    }

    /// Asks once and returns the milliseconds.
    pub(super) fn sample(&self, question: Question, program: &Path, lab: &Lab) -> Result<f64> {
        let state = self.state(program, lab)?;
        let words: &[&str] = match question {
            Question::First | Question::List => &["sessions"],
            Question::Last => &["show", "last"],
            Question::Verify => &["log", "verify", "--all"],
        };
        if question == Question::First {
            forget_index(state)?;
        }
        let mut command = Command::new(program);
        command.args(words).env(STATE_VARIABLE, state);
        let (text, took) = bounded::run(&mut lab.prepare(command, &lab.home))?;
        ensure!(!text.is_empty(), "`{}` printed nothing", words.join(" "));
        Ok(took.as_secs_f64() * 1e3)
    }
}

/// Removes the index of a state directory.
pub(super) fn forget_index(state: &Path) -> Result<()> {
    let names = ["index.db", "index.db-wal", "index.db-shm"];
    names.iter().try_for_each(|name| remove(&state.join(name)))
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("`{}` cannot be removed", file.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Records one real session, and has its events written again under other names by the writer that
/// sessions have.
fn make(program: &Path, lab: &Lab) -> Result<PathBuf> {
    let folder = lab.ground(Ground::Repository)?;
    let state = lab.workspaces.join("state");
    fs::create_dir_all(&state).context("a state directory cannot be made")?;
    hand_over_alone(&state, lab)?;
    session(program, lab, &folder, &state, &["sh", "-c", TYPICAL])?;
    out::note(format_args!("bench: making {SESSIONS} records"));
    let generator = example("sessions")?;
    let generator = lab.stage.copy(&generator, "bin/sessions")?;
    let mut command = Command::new(generator);
    command.arg(&state).arg(SESSIONS.to_string());
    process::stdout(&mut lab.prepare(command, &folder))?;
    Ok(state)
}

/// Gives a state directory to the measuring user, who lets nobody else look.
pub(super) fn hand_over_alone(state: &Path, lab: &Lab) -> Result<()> {
    fs::set_permissions(state, Permissions::from_mode(0o700))
        .context("a state directory cannot be closed to others")?;
    lab.hand_over(state)
}

/// Builds an example of the workspace and returns its program.
pub(super) fn example(name: &str) -> Result<PathBuf> {
    let root = workspace::root()?;
    process::build_with_example(&root, None, name)?;
    Ok(workspace::target_dir(&root)?
        .join("debug/examples")
        .join(name))
}

/// Runs one session with a state directory of its own.
fn session(program: &Path, lab: &Lab, folder: &Path, state: &Path, argv: &[&str]) -> Result<()> {
    let mut command = contender::session(program, folder);
    command.arg("--").args(argv).env(STATE_VARIABLE, state);
    bounded::run(&mut lab.prepare(command, folder)).map(drop)
}

/// Returns the kilobytes of record that unpacking ten thousand files leaves once it is compressed,
/// which happens within an hour after the end or with `stockade prune`.
pub(super) fn of_tree_kb(contender: &Contender, lab: &Lab) -> Result<f64> {
    let Contender::Stockade { program } = contender else {
        anyhow::bail!("{} keeps no record", contender.name())
    };
    let folder = lab.ground(Ground::Archive)?;
    let state = tempfile::tempdir_in(&lab.workspaces).context("no state directory")?;
    hand_over_alone(state.path(), lab)?;
    let line = "mkdir out && tar xf files.tar -C out";
    session(program, lab, &folder, state.path(), &["sh", "-c", line])?;
    fs::remove_dir_all(folder.join("out")).context("unpacked files cannot be removed")?;
    age(&state.path().join(SESSIONS_FOLDER))?;
    let mut prune = Command::new(program);
    prune.arg("prune").env(STATE_VARIABLE, state.path());
    bounded::run(&mut lab.prepare(prune, &folder))?;
    Ok(bytes_below(&state.path().join(SESSIONS_FOLDER))? / 1e3)
}

/// Builds the program that has Codex do its calls.
pub(super) fn build_agent() -> Result<PathBuf> {
    example("record")
}

/// Returns the kilobytes of record of a session of Codex with five calls of a tool.
pub(super) fn of_agent_kb(program: &Path, agents_folder: &Path) -> Result<f64> {
    let runner = build_agent()?;
    let mut command = Command::new(runner);
    command.arg(program).env(agents::VARIABLE, agents_folder);
    let (text, _) = bounded::run(&mut command)?;
    let last = text.lines().last().unwrap_or_default();
    let folder_bytes: f64 = last
        .parse()
        .with_context(|| format!("`{last}` is not a number of bytes"))?;
    Ok(folder_bytes / 1e3)
}

/// Makes everything below a folder two minutes old: what is a minute old may still be a session that
/// begins, which no one compresses.
fn age(folder: &Path) -> Result<()> {
    let then = SystemTime::now() - Duration::from_mins(2);
    let entries =
        fs::read_dir(folder).with_context(|| format!("`{}` cannot be read", folder.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            age(&path)?;
        }
        File::open(&path)
            .and_then(|file| file.set_modified(then))
            .with_context(|| format!("`{}` cannot be made older", path.display()))?;
    }
    Ok(())
}

/// Sums the sizes of all files below a folder.
fn bytes_below(folder: &Path) -> Result<f64> {
    let mut sum = 0.0;
    for entry in fs::read_dir(folder)
        .with_context(|| format!("`{}` cannot be read", folder.display()))?
        .flatten()
    {
        let path = entry.path();
        let about = fs::symlink_metadata(&path)
            .with_context(|| format!("`{}` cannot be read", path.display()))?;
        if about.is_dir() {
            sum += bytes_below(&path)?;
        } else {
            sum += float(about.len());
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_summed_below_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        fs::write(folder.path().join("a"), "12").unwrap();
        fs::write(folder.path().join("inner/b"), "345").unwrap();
        assert!((bytes_below(folder.path()).unwrap() - 5.0).abs() < f64::EPSILON);
    }

    #[test]
    fn an_index_that_is_not_there_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        remove(&folder.path().join("index.db")).unwrap();
        fs::create_dir(folder.path().join("full")).unwrap();
        assert!(remove(&folder.path().join("full")).is_err());
    }
}
