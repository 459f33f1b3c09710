//! `cargo xtask fuzz`: every reader of bytes from outside, with mutated inputs, for minutes.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};

use crate::{Outcome, out, process, workspace};

/// The prefix of every target's name: targets are tests, which try a few inputs in each run.
const PREFIX: &str = "fuzz_";

/// Lets targets go on with changed inputs.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long each target goes on
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    minutes: u64,
    /// Make the same inputs again as a run that printed this number [default: a fresh one]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Name or part of a name of the targets
    #[arg(value_name = "TARGET")]
    target: Option<String>,
}

/// Runs the targets, as many at once as there are processors.
pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let root = workspace::root()?;
    let seed = args.seed.map_or_else(fresh_seed, Ok)?;
    out::line(format_args!(
        "fuzz: {} minutes for each target, seed {seed}",
        args.minutes
    ));
    let packages = workspace::Packages::load(&root)?;
    let with_targets = packages.members.iter().filter(|(_, dependencies)| {
        let mut names = dependencies.iter().map(|dependency| &dependency.name);
        names.any(|name| name == "stockade-fuzz")
    });
    let with_targets = with_targets.flat_map(|(name, _)| ["--package", name]);
    let mut cargo = workspace::cargo();
    cargo
        .args(["nextest", "run", "--profile", "fuzz"])
        .args(with_targets)
        .args(["--filterset", &filter(args.target.as_deref())])
        .env("STOCKADE_FUZZ_SECONDS", (args.minutes * 60).to_string());
    let again = format!(
        "fuzz: the same inputs again: cargo xtask fuzz --seed {seed}; what failed is kept below `fuzz` of its crate"
    );
    with_seed(cargo, &root, seed, &again)
}

/// Runs nextest with a seed for the targets, and prints `again` if a test fails.
pub(crate) fn with_seed(
    mut cargo: Command,
    root: &Path,
    seed: u64,
    again: &str,
) -> Result<Outcome> {
    anyhow::ensure!(
        process::find("cargo-nextest").is_some(),
        "cargo-nextest is missing; `cargo install --locked cargo-nextest`"
    );
    let status = cargo
        .env("STOCKADE_FUZZ_SEED", seed.to_string())
        .current_dir(root)
        .stdin(Stdio::null())
        .status()
        .context("cargo could not be started")?;
    if status.success() {
        return Ok(Outcome::Passed);
    }
    out::line(again);
    Ok(Outcome::Failed)
}

/// Returns nextest's expression for some targets.
pub(crate) fn filter(target: Option<&str>) -> String {
    let name = target.unwrap_or_default().replace('-', "_");
    format!("test(/(^|::){PREFIX}[a-z0-9_]*{name}/)")
}

/// Returns a number that is different in each run.
pub(crate) fn fresh_seed() -> Result<u64> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock stands before 1970")?;
    // Twenty digits are hard to copy by hand, and this number is not a secret.
    Ok((now.as_secs() << 10 | u64::from(now.subsec_millis())) & 0xffff_ffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_found_by_a_part_of_their_name() {
        assert_eq!(filter(None), "test(/(^|::)fuzz_[a-z0-9_]*/)");
        assert_eq!(
            filter(Some("dns-query")),
            "test(/(^|::)fuzz_[a-z0-9_]*dns_query/)"
        );
    }

    /// Every target has a unique name, which is its folder of kept inputs, and the prefix for which
    /// `cargo xtask fuzz` searches.
    #[test]
    fn every_target_is_a_test_that_is_found() {
        let root = workspace::root().unwrap();
        let call = ["stockade_fuzz", "target("].join("::");
        let mut targets = 0;
        for file in workspace::files(&root).unwrap() {
            if !crate::tidy::is_rust(&file) {
                continue;
            }
            let text = std::fs::read_to_string(root.join(&file)).unwrap();
            let calls = text.matches(&call).count();
            let tests = text.matches(&format!("fn {PREFIX}")).count();
            if calls > 0 {
                assert_eq!(calls, tests, "{file}");
                targets += calls;
            }
        }
        assert!(targets >= 12, "{targets}");
    }
}
