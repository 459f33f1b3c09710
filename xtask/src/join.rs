//! `cargo xtask join`: how often the record names the right tool call, counted with real agents.

use std::{fs, process::Command};

use anyhow::{Context, Result};

use crate::{Outcome, agents, out, process, user, workspace};

/// The file for the tables.
const PAGE: &str = "docs/join.md";

const HEAD: &str = "# How often the record names the right tool call

Written by `cargo xtask join`; do not edit. [Policy](policy.md) says what the record knows exactly and
what it infers.

Each agent is the real one, in a session of its own, and is driven by a model of the laboratory that
plays one script. The script has calls of the shell one by one and several in one answer, the agent's
own tools for files, a server that goes on in the background, a daemon that leaves its parents, a build,
a script that edits files, the same command twice with different effects, connections that are allowed
and denied, a push that a person allows, and a sub-agent that does the same beside the agent.

**The label.** Each call has a mark that stands in all that only it causes: names of files, arguments,
names of hosts. An effect with a mark is of that call, whatever the record says. An effect without a
mark has the marks of the processes that it came of, as the kernel knows them. An effect with no mark,
or with those of two calls, has no label and is not counted; the last table says how many there were.
Effects are executions, changes of files, look-ups of names, connections and their ends, requests,
refusals, questions and their answers.

**The count.** *Right*: `cause.call` is the call of the label. *Wrong*: it is another one. *None*: there
is none. Precision is right of those that name a call, recall is right of all, *exact* is the share of
those that name a call whose `certainty` is `exact` and which are right, *wrongly exact* are those that
are `exact` and wrong. The agent's own connections to its model are of no call: one that names a call is
wrong. The command fails below a precision of 99 %, a recall of 98 %, 90 % exact, or with fewer than 300
effects, one that is wrongly exact, a call that is missing in the record, or a call of a sub-agent that does
not name the call which started it.

**What it does not show.** A script is more regular than a person's work. Two calls that say the same at
the same time cannot be told apart by anyone and are not in the script. What is wrong in the claims of an
agent that lies is not counted here: tests of attacks try that. Hooks and exports are on as the presets
have them: they change no effect's call here, because the traffic says the same. Gemini CLI calls no hook, and
exports its calls without ids, so that each is in the record a second time, as a claim that nothing came of.
AgentSight, which joins the same halves as root by heuristics, could not be put beside this: its helper needs
a newer C library than the machine had.

";

/// Counts how effects of real agents are joined to tool calls.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; only fail where a target is missed
    #[arg(long)]
    check: bool,
    /// Only these agents; nothing is written
    agents: Vec<String>,
}

/// Runs the agents and writes the tables.
pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let root = workspace::root()?;
    let target = workspace::target_dir(&root)?;
    if rustix::process::geteuid().is_root() {
        user::ensure()?;
    }
    let packages = [agents::AGENTS, agents::JOINED].concat();
    let installed = agents::ensure(&target, &packages)?;
    process::build_with_example(&root, Some("stockade"), "join")?;
    let output = process::output(
        Command::new(target.join("debug/examples/join"))
            .arg(target.join("debug/stockade"))
            .args(&args.agents)
            .env(agents::VARIABLE, installed),
    )?;
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    out::line(table.trim_end());
    if !output.status.success() {
        out::note(String::from_utf8_lossy(&output.stderr).trim_end());
        return Ok(Outcome::Failed);
    }
    if !args.check && args.agents.is_empty() {
        let versions = agents::versions(&packages).join(", ");
        let page = root.join(PAGE);
        fs::write(&page, format!("{HEAD}Packages: {versions}.\n\n{table}"))
            .with_context(|| format!("cannot write `{PAGE}`"))?;
    }
    Ok(Outcome::Passed)
}
