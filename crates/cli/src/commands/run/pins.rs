//! What the organisation requires of every run, and what a run needs of its machine.

use std::{
    io,
    path::{Path, PathBuf},
};

use anyhow::bail;
use stockade_policy::{Policy, Sourced};
use stockade_types::AskMode;

use super::{Args, words};
use crate::{human::safe, state};

/// Below the state directory and below [`SYSTEM_DIR`]: who the machine is to its organisation.
const NODE_FILE: &str = "trust/node.json";
/// Where enrolment by root writes.
const SYSTEM_DIR: &str = "/var/lib/stockade";

/// Where it can be seen that the machine belongs to an organisation.
pub(super) struct Enrolment {
    /// By its user; none if there is no place for it.
    user: Option<PathBuf>,
    /// By root.
    system: PathBuf,
}

impl Enrolment {
    /// Returns the places of this machine.
    pub(super) fn of_this_machine() -> Self {
        Self {
            user: state::location().ok().map(|state| state.join(NODE_FILE)),
            system: Path::new(SYSTEM_DIR).join(NODE_FILE),
        }
    }

    fn is_by_root(&self) -> io::Result<bool> {
        self.system.try_exists()
    }

    fn is_enrolled(&self) -> io::Result<bool> {
        match &self.user {
            Some(user) if user.try_exists()? => Ok(true),
            _ => self.is_by_root(),
        }
    }

    fn places(&self) -> String {
        let user = self.user.iter().map(|path| path.display().to_string());
        let all: Vec<String> = user.chain([self.system.display().to_string()]).collect();
        safe(&all.join("` nor `"))
    }
}

/// Checks what the organisation requires; a stricter choice is always good enough.
///
/// # Errors
/// What is not met, with where it is required.
pub(super) fn check(
    policy: &Policy,
    args: &Args,
    ask: AskMode,
    enrolment: &Enrolment,
) -> anyhow::Result<()> {
    for (name, pin) in &policy.settings().require {
        let (actual, is_met) = match name.as_str() {
            "tier" => {
                let tier = args.tier.as_str();
                (tier, [words::AUTO, tier].contains(&pin.value.as_str()))
            }
            "mode" => {
                let mode = policy.settings().workspace.mode.value.as_str();
                (mode, mode == pin.value)
            }
            "ask" => (
                ask.as_str(),
                ask.as_str() == pin.value || ask == AskMode::Deny,
            ),
            "network" if args.offline => ("offline", true),
            "network" => ("proxied", pin.value == "proxied"),
            // What it forbids is no part of a run: answers are kept for no other session.
            "answers" => ("session", true),
            "waivers" => ("given on the command line", args.waive.is_empty()),
            // Held when the files are read: a policy that lifts something does not load.
            "unprotect" => ("none", true),
            "journal" => {
                has_journal(pin, enrolment)?;
                ("kept", true)
            }
            _ => bail!(
                "{}: `require.{name}` is not available yet; nothing can meet it",
                pin.source
            ),
        };
        if !is_met {
            let fix = if name == "ask" {
                format!("; run with `--ask {}` or `--ask deny`", pin.value)
            } else {
                String::new()
            };
            bail!(
                "{}: {name} must be `{}` and is `{actual}`{fix}",
                pin.source,
                pin.value
            );
        }
    }
    if ask == AskMode::Server && !enrolment.is_enrolled()? {
        bail!(
            "`--ask server` needs a machine that an organisation has enrolled: there is neither `{}`; \
             enrol it, or ask somebody here with `--ask tty` or `--ask inbox`",
            enrolment.places()
        );
    }
    Ok(())
}

/// Checks that the record goes where the organisation wants it.
fn has_journal(pin: &Sourced<String>, enrolment: &Enrolment) -> anyhow::Result<()> {
    match pin.value.as_str() {
        "local" => Ok(()),
        "agent" if enrolment.is_by_root()? => Ok(()),
        "server" if enrolment.is_enrolled()? => Ok(()),
        "agent" => bail!(
            "{}: require.journal is `agent`: a copy of the record under another user, which needs a machine \
             that root has enrolled, and there is no `{}`; enrol it as root, or have the organisation \
             require `local`",
            pin.source,
            safe(&enrolment.system.display().to_string())
        ),
        "server" => bail!(
            "{}: require.journal is `server`: a copy of the record on the organisation's server, which \
             needs an enrolled machine, and there is neither `{}`; enrol it, or have the organisation \
             require `local`",
            pin.source,
            enrolment.places()
        ),
        other => bail!(
            "{}: require.journal is `{}`, which this version does not know",
            pin.source,
            safe(other)
        ),
    }
}
