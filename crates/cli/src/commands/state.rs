//! `stockade state`: what agents keep between their sessions.

use std::{
    fs,
    io::{self, IsTerminal as _},
    path::Path,
};

use anyhow::Context as _;
use jiff::tz::TimeZone;
use serde::Serialize;
use stockade_policy::{Policy, builtin};
use stockade_runner::kept::{self, Kept, LoginState, Standing};
use stockade_types::RawText;

use crate::{
    archive::count,
    commands::policy::effective,
    exit::Exit,
    human::{bytes, minute, plural, safe},
    layers::LayerArgs,
    output::{Form, Output},
    state::{StateDir, StateError},
};

/// See and reset what agents keep between their sessions, and take a refreshed login over.
///
/// Each agent has a directory for each workspace. It begins with copies of your configuration and
/// login. Your changes arrive in it, and the agent's changes stay in it. Only the tokens of a login
/// come back to you, with `copy`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stockade state list
  stockade state reset codex               copies your configuration, keeps conversations
  stockade state reset ~/src/shop --all    removes everything
  stockade state copy claude               takes over a login that was refreshed inside")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List agents and workspaces, and their differences from your files
    List {
        /// An agent or a workspace [default: all]
        #[arg(value_name = "AGENT|WORKSPACE")]
        which: Option<String>,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Start again from copies of your files
    Reset {
        /// An agent or a workspace [default: the current directory]
        #[arg(value_name = "AGENT|WORKSPACE")]
        which: Option<String>,
        /// Also remove conversations and everything else
        #[arg(long)]
        all: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Copy the tokens of a login that was refreshed inside into your own file
    Copy {
        /// An agent or a workspace [default: the current directory]
        #[arg(value_name = "AGENT|WORKSPACE")]
        which: Option<String>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// One line of the list.
#[derive(Debug, Serialize)]
struct Listed {
    agent: String,
    key: String,
    workspace: Option<RawText>,
    used_unix_s: u64,
    files: u64,
    bytes: u64,
    in_use: bool,
    differences: Vec<Differs>,
    /// Files with a login that was refreshed inside.
    refreshed_logins: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Differs {
    file: String,
    standing: Standing,
}

/// Runs the command.
///
/// # Errors
/// When the state cannot be read or changed.
pub(crate) fn run(args: Args, out: &mut Output) -> anyhow::Result<Exit> {
    let all = match StateDir::open() {
        Ok(state) => kept::list(state.path()).context("cannot list what agents keep")?,
        Err(StateError::Missing(_)) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    match args.command {
        Command::List { which, json } => {
            let chosen = match which {
                Some(which) => choose(all, Some(&which)),
                None => all,
            };
            out.set_json(json);
            list(&chosen, out)
        }
        Command::Reset {
            which,
            all: everything,
            yes,
            json,
        } => {
            let chosen = choose(all, which.as_deref());
            out.set_json(json);
            let extent = if everything {
                Extent::Everything
            } else {
                Extent::Copies
            };
            reset(&chosen, extent, Consent::of(yes), out)
        }
        Command::Copy { which, yes, json } => {
            let chosen = choose(all, which.as_deref());
            out.set_json(json);
            copy(&chosen, Consent::of(yes), out)
        }
    }
}

/// How a person agrees to a command's effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consent {
    /// By `--yes`.
    Given,
    /// By an answer on the terminal.
    Asked,
}

impl Consent {
    const fn of(yes: bool) -> Self {
        if yes { Self::Given } else { Self::Asked }
    }
}

/// How much a reset removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// The copies of the user's files.
    Copies,
    /// All kept state.
    Everything,
}

/// The removed files, as `reset --json` prints them.
#[derive(Debug, Serialize)]
struct Reset<'a> {
    agent: &'a str,
    removed_files: u64,
    workspace: Option<&'a RawText>,
}

/// The changed files, as `copy --json` prints them.
#[derive(Debug, Serialize)]
struct Copied<'a> {
    agent: &'a str,
    files: Vec<String>,
    workspace: Option<&'a RawText>,
}

/// Returns the entries that an agent's name, a directory or the beginning of a key names.
fn choose(all: Vec<Kept>, which: Option<&str>) -> Vec<Kept> {
    let which = which.unwrap_or(".");
    let path = fs::canonicalize(which).ok();
    let is_meant = |kept: &Kept| {
        let workspace = kept.workspace.as_ref().map(RawText::to_os);
        let is_workspace = workspace.is_some_and(|workspace| {
            Path::new(&workspace) == Path::new(which) || path.as_deref() == Some(workspace.as_ref())
        });
        is_workspace || kept.agent == which || (which.len() >= 4 && kept.key.starts_with(which))
    };
    all.into_iter().filter(is_meant).collect()
}

/// Loads the policy of an agent's sessions.
fn policy(kept: &Kept) -> anyhow::Result<Policy> {
    let profile = builtin(&kept.agent).map(|_| kept.agent.clone());
    effective(&LayerArgs {
        profile,
        ..LayerArgs::default()
    })
}

fn environment() -> Vec<(RawText, RawText)> {
    std::env::vars_os()
        .map(|(name, value)| (RawText::from_os(&name), RawText::from_os(&value)))
        .collect()
}

fn list(chosen: &[Kept], out: &mut Output) -> anyhow::Result<Exit> {
    if chosen.is_empty() && out.form() == Form::Text {
        out.note("stockade: nothing is kept there; `stockade state list` shows what is");
        return Ok(Exit::Yes);
    }
    let zone = TimeZone::system();
    for kept in chosen {
        out.value(&listed(kept)?, |listed| listed.text(&zone))?;
    }
    Ok(Exit::Yes)
}

impl Listed {
    fn text(&self, zone: &TimeZone) -> String {
        let used = minute(self.used_unix_s.saturating_mul(1_000_000_000), zone);
        let in_use = if self.in_use { ", in use" } else { "" };
        let agent = safe(&self.agent);
        let mut lines = vec![format!(
            "{agent:<12} {used}  {:>8} in {}{in_use}  {}",
            bytes(self.bytes),
            plural(self.files, "file", "files"),
            name(self.workspace.as_ref(), &self.key)
        )];
        lines.extend(self.differences.iter().map(|Differs { file, standing }| {
            let how = match standing {
                Standing::YoursArrives => "you changed it; yours arrives at the next start",
                Standing::AgentsStays => "the agent changed its copy, which stays",
                Standing::Both => "both changed it; the agent's own stays",
            };
            format!("             {}: {how}", safe(file))
        }));
        lines.extend(self.refreshed_logins.iter().map(|file| {
            let file = safe(file);
            format!(
                "             {file}: refreshed inside; `stockade state copy {agent}` takes it over"
            )
        }));
        lines.join("\n")
    }
}

fn listed(kept: &Kept) -> anyhow::Result<Listed> {
    let policy = policy(kept)?;
    let environment = environment();
    // If the workspace is gone, its differences cannot be determined.
    let differences = kept.differences(&policy, &environment).unwrap_or_default();
    let logins = kept.logins(&policy, &environment).unwrap_or_default();
    let refreshed: Vec<String> = logins
        .into_iter()
        .filter_map(|state| match state {
            LoginState::Refreshed { file, .. } => Some(file),
            LoginState::Same | LoginState::Other { .. } => None,
        })
        .collect();
    Ok(Listed {
        agent: kept.agent.clone(),
        key: kept.key.clone(),
        workspace: kept.workspace.clone(),
        used_unix_s: kept.used_unix_s,
        files: kept.files,
        bytes: kept.bytes,
        in_use: kept.is_in_use(),
        differences: differences
            .into_iter()
            .filter(|difference| !refreshed.contains(&difference.file))
            .map(|difference| Differs {
                file: difference.file,
                standing: difference.standing,
            })
            .collect(),
        refreshed_logins: refreshed,
    })
}

/// Returns the name of a workspace, or of its directory if the workspace is not known.
fn name(workspace: Option<&RawText>, key: &str) -> String {
    workspace.map_or_else(
        || format!("workspace unknown ({})", safe(key)),
        RawText::display,
    )
}

/// Returns the name of a kept state.
fn kept_name(kept: &Kept) -> String {
    let workspace = name(kept.workspace.as_ref(), &kept.key);
    format!("{} {workspace}", safe(&kept.agent))
}

fn reset(
    chosen: &[Kept],
    extent: Extent,
    consent: Consent,
    out: &mut Output,
) -> anyhow::Result<Exit> {
    if chosen.is_empty() {
        return Ok(nothing(out));
    }
    if let Some(kept) = chosen.iter().find(|kept| kept.is_in_use()) {
        let (agent, name) = (safe(&kept.agent), name(kept.workspace.as_ref(), &kept.key));
        out.note(format!(
            "stockade: a session of {agent} uses {name}; end it first"
        ));
        return Ok(Exit::CannotTell);
    }
    let names: Vec<String> = chosen
        .iter()
        .map(|kept| format!("  {}", kept_name(kept)))
        .collect();
    let what = match extent {
        Extent::Everything => "Remove all that is kept, conversations too, of",
        Extent::Copies => "Begin again with copies of your files in",
    };
    if !confirm(&format!("{what}\n{}", names.join("\n")), consent, out) {
        return Ok(Exit::No);
    }
    for kept in chosen {
        let removed = match extent {
            Extent::Everything => {
                kept.remove()?;
                kept.files
            }
            Extent::Copies => count(kept.reset(&policy(kept)?, &environment())?),
        };
        let reset = Reset {
            agent: &kept.agent,
            removed_files: removed,
            workspace: kept.workspace.as_ref(),
        };
        out.value(&reset, |reset| {
            let files = plural(reset.removed_files, "file", "files");
            format!("{}: {files} removed", kept_name(kept))
        })?;
    }
    Ok(Exit::Yes)
}

fn copy(chosen: &[Kept], consent: Consent, out: &mut Output) -> anyhow::Result<Exit> {
    if chosen.is_empty() {
        return Ok(nothing(out));
    }
    let environment = environment();
    let mut refreshed = Vec::new();
    for kept in chosen {
        let policy = policy(kept)?;
        let mut lines = Vec::new();
        for state in kept.logins(&policy, &environment)? {
            match state {
                LoginState::Same => {}
                LoginState::Refreshed { file, fields } => {
                    lines.push(format!("  {}: {}", safe(&file), safe(&fields.join(", "))));
                }
                LoginState::Other { file, reason } => out.note(format!(
                    "stockade: nothing is taken from {} for {}: {}",
                    name(kept.workspace.as_ref(), &kept.key),
                    safe(&file),
                    safe(&reason)
                )),
            }
        }
        if !lines.is_empty() {
            refreshed.push((kept, policy, lines));
        }
    }
    let [(kept, policy, lines)] = refreshed.as_slice() else {
        let message = if refreshed.is_empty() {
            "no login was refreshed inside"
        } else {
            "logins were refreshed in more than one workspace; name the one to take"
        };
        out.note(format!("stockade: {message}"));
        for (kept, _, _) in &refreshed {
            out.note(format!("  {}", kept_name(kept)));
        }
        return Ok(if refreshed.is_empty() {
            Exit::Yes
        } else {
            Exit::Usage
        });
    };
    let question = format!(
        "Take over from {}\n{}\nWhat ran inside wrote these. Had it put the tokens of another account \
         there, your\nprompts would go to that account from then on.\nTake them over",
        kept_name(kept),
        lines.join("\n")
    );
    if !confirm(&question, consent, out) {
        return Ok(Exit::No);
    }
    let files = kept.copy_logins(policy, &environment)?;
    let copied = Copied {
        agent: &kept.agent,
        files,
        workspace: kept.workspace.as_ref(),
    };
    out.value(&copied, |copied| {
        let files = copied.files.iter();
        let lines = files.map(|file| format!("{}: tokens taken over", safe(file)));
        lines.collect::<Vec<_>>().join("\n")
    })?;
    Ok(Exit::Yes)
}

fn nothing(out: &mut Output) -> Exit {
    out.note("stockade: nothing is kept there; `stockade state list` shows what is");
    Exit::CannotTell
}

/// Asks on the terminal; without a terminal only `--yes` confirms.
fn confirm(question: &str, consent: Consent, out: &mut Output) -> bool {
    if consent == Consent::Given {
        return true;
    }
    if !io::stdin().is_terminal() {
        out.note(format!(
            "{question}?\nstockade: there is no terminal to ask on; give --yes"
        ));
        return false;
    }
    out.note(format!("{question}? [y/N]"));
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}
