//! What the organisation requires of every run, and what a run needs of its machine.

use std::path::Path;

use anyhow::bail;
use stockade_policy::{Policy, Sourced};
use stockade_runner::enrolment::{Enrolment, NODE_FILE, SYSTEM_TRUST, USER_TRUST};
use stockade_types::AskMode;

use super::{Args, words};
use crate::{human::safe, state};

/// Checks what the organisation requires; a stricter choice is always good enough.
///
/// # Errors
/// What is not met, with where it is required.
pub(super) fn check(
    policy: &Policy,
    args: &Args,
    ask: AskMode,
    enrolment: Option<&Enrolment>,
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
    if ask == AskMode::Server && enrolment.is_none() {
        bail!(
            "`--ask server` needs a machine that an organisation has enrolled: there is neither `{}`; \
             enrol it, or ask somebody here with `--ask tty` or `--ask inbox`",
            places()
        );
    }
    Ok(())
}

/// Checks that the record goes where the organisation wants it.
fn has_journal(pin: &Sourced<String>, enrolment: Option<&Enrolment>) -> anyhow::Result<()> {
    match pin.value.as_str() {
        "local" => Ok(()),
        "agent" if enrolment.is_some_and(Enrolment::is_by_system) => Ok(()),
        "server" if enrolment.is_some() => Ok(()),
        "agent" => bail!(
            "{}: require.journal is `agent`: a copy of the record under another user, which needs a machine \
             that root has enrolled, and there is no `{}`; enrol it as root, or have the organisation \
             require `local`",
            pin.source,
            safe(&by_system())
        ),
        "server" => bail!(
            "{}: require.journal is `server`: a copy of the record on the organisation's server, which \
             needs an enrolled machine, and there is neither `{}`; enrol it, or have the organisation \
             require `local`",
            pin.source,
            places()
        ),
        other => bail!(
            "{}: require.journal is `{}`, which this version does not know",
            pin.source,
            safe(other)
        ),
    }
}

/// Where a machine that root has enrolled says so.
fn by_system() -> String {
    let path = Path::new(SYSTEM_TRUST).join(NODE_FILE);
    path.display().to_string()
}

/// Where an enrolled machine says so.
fn places() -> String {
    let user = state::location().ok();
    let user = user.map(|state| state.join(USER_TRUST).join(NODE_FILE));
    let user = user.iter().map(|path| path.display().to_string());
    let all: Vec<String> = user.chain([by_system()]).collect();
    safe(&all.join("` nor `"))
}
