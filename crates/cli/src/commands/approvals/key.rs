//! `stockade approvals key`: the key with which a person answers from this terminal.

use std::path::{Path, PathBuf};

use anyhow::bail;
use serde::Serialize;
use stockade_node::terminal::{ApproverKey, Login};

use crate::{exit::Exit, human::safe, output::Output, prompt, state::StateDir};

/// The approver key of who is signed in.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make it, and print the line by which you register it on the page of your account
    Create {
        /// Read the passphrase from the first line of a file, or of standard input for `-`
        #[arg(long, value_name = "FILE", conflicts_with = "no_passphrase")]
        passphrase_file: Option<PathBuf>,
        /// Keep it without a passphrase: whoever reads the file has the key
        #[arg(long)]
        no_passphrase: bool,
    },
    /// Print it, and whether machines know it
    Show,
    /// Remove it from this machine; revoke it on the page of your account, too
    Remove,
}

/// What is printed of a key.
#[derive(Serialize)]
struct Printed<'a> {
    key: String,
    org: &'a str,
    user: &'a str,
    sealed: bool,
    /// Whether the server says it to machines.
    known: Option<bool>,
    /// The line by which it is registered.
    line: Option<String>,
}

impl<'a> Printed<'a> {
    fn of(key: &'a ApproverKey) -> Self {
        Self {
            key: key.key.to_string(),
            org: &key.org,
            user: &key.user.0,
            sealed: key.is_sealed(),
            known: None,
            line: None,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When nobody is signed in, or the key cannot be made or read.
pub(super) fn run(command: Command, out: &mut Output) -> anyhow::Result<Exit> {
    let state = StateDir::open_or_create()?;
    match command {
        Command::Create {
            passphrase_file,
            no_passphrase,
        } => create(state.path(), passphrase_file.as_deref(), no_passphrase, out),
        Command::Show => show(state.path(), out),
        Command::Remove => {
            let key = ApproverKey::read(state.path())?;
            let printed = Printed::of(&key);
            out.value(&printed, |printed| format!("removed {}", printed.key))?;
            key.remove(state.path())?;
            out.note("revoke it on the page of your account too: copies of it still count");
            Ok(Exit::Yes)
        }
    }
}

fn create(
    state: &Path,
    file: Option<&Path>,
    no_passphrase: bool,
    out: &mut Output,
) -> anyhow::Result<Exit> {
    let login = Login::read(state)?;
    let passphrase = match (file, no_passphrase) {
        (Some(file), _) => Some(prompt::passphrase_of(file)?),
        (None, true) => None,
        (None, false) => Some(asked()?),
    };
    let (key, line) = ApproverKey::create(state, &login, passphrase.as_deref())?;
    let printed = Printed {
        line: Some(line),
        ..Printed::of(&key)
    };
    out.value(&printed, |printed| printed.line.clone().unwrap_or_default())?;
    out.note(format_args!(
        "register this line at {}/me#approver-keys; it counts once another person who manages people has approved it",
        safe(login.origin())
    ));
    Ok(Exit::Yes)
}

/// Asks twice for a new passphrase.
fn asked() -> anyhow::Result<String> {
    if !prompt::can_ask() {
        bail!("there is no terminal to ask on; give `--passphrase-file` or `--no-passphrase`");
    }
    let first = prompt::passphrase("Passphrase of the new key: ")?;
    if first.is_empty() {
        bail!("the passphrase is empty; give `--no-passphrase` for a key without one");
    }
    if prompt::passphrase("The same again: ")? != first {
        bail!("the two are not the same; nothing is made");
    }
    Ok(first)
}

fn show(state: &Path, out: &mut Output) -> anyhow::Result<Exit> {
    let key = ApproverKey::read(state)?;
    let known = match Login::read(state).and_then(|login| login.here()) {
        Ok(here) => Some(here.keys.contains(&key.key)),
        Err(error) => {
            let why = safe(&stockade_types::chain(&error));
            out.note(format_args!(
                "stockade: whether machines know it is not known: {why}"
            ));
            None
        }
    };
    let printed = Printed {
        known,
        ..Printed::of(&key)
    };
    out.value(&printed, |printed| {
        let known = match printed.known {
            Some(true) => "counts",
            Some(false) => "does not count: not registered, not approved yet, or revoked",
            None => "not known",
        };
        let sealed = if printed.sealed { "passphrase" } else { "none" };
        format!(
            "{}\n  person    {} of {}\n  sealed    {sealed}\n  state     {known}",
            printed.key,
            safe(printed.user),
            safe(printed.org)
        )
    })?;
    Ok(Exit::Yes)
}
