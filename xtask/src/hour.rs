//! `cargo xtask hour`: how many questions ordinary work causes, on the first day and the next.

use std::{fs, process::Command};

use anyhow::{Context, Result, bail};

use crate::{Outcome, out, process, user, workspace};

/// The file for the table.
const PAGE: &str = "docs/questions.md";

const HEAD: &str = "# Questions of an ordinary hour

Written by `cargo xtask hour`; do not edit.

Two scripted hours run in a fresh home with default settings, each in one session with a person who
answers `always`, and again the next day. Servers have lab names. Requests to the configured hosts
stand in for package managers, scripts of the same names stand in for the clients of code hosts and
clusters, and there are no model calls. Each host of documentation takes one lasting answer, because
the requests to it are inside TLS. Without those, the command fails above 4 questions the first day
and above 1 the next day.

";

/// Counts the questions of an hour.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; only fail where there are more questions than there may be
    #[arg(long)]
    check: bool,
}

/// Runs both hours and writes the table.
pub(crate) fn run(args: &Args) -> Result<Outcome> {
    if !rustix::process::geteuid().is_root() {
        bail!("the servers need a network of their own; run it as root");
    }
    user::ensure()?;
    let root = workspace::root()?;
    let target = workspace::target_dir(&root)?;
    process::build_with_example(&root, Some("stockade"), "hour")?;
    let program = target.join("debug/examples/hour");
    let output = process::output(Command::new(program).arg(target.join("debug/stockade")))?;
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    out::line(table.trim_end());
    if !output.status.success() {
        out::note(String::from_utf8_lossy(&output.stderr).trim_end());
        return Ok(Outcome::Failed);
    }
    if !args.check {
        let page = root.join(PAGE);
        fs::write(&page, format!("{HEAD}{table}"))
            .with_context(|| format!("cannot write `{PAGE}`"))?;
    }
    Ok(Outcome::Passed)
}
