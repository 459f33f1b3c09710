//! `cargo xtask test`: all tests, on a fresh machine with one command.
//!
//! As root it installs what is missing, then runs all tests as root, and those that depend on the
//! user again as an ordinary user who cannot see root's folders. As an ordinary user it reports
//! what it could not do.
//!
//! Each test runs as each user who can make a difference: those of crates that compute and nothing else
//! run once. With nextest, two tests run at a time for each processor, because most of them wait.

mod counts;
pub(crate) mod packages;
mod suite;

use std::{fmt, path::PathBuf, time::Instant};

use anyhow::Result;

use crate::{
    Outcome, agents, out, python,
    stage::Stage,
    test::{
        counts::Counts,
        suite::{As, Built},
    },
    user, workspace,
};

/// Runs the tests.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out the second run as an ordinary user
    #[arg(long)]
    only_current_user: bool,
    /// Names or parts of names of tests, handed to the test runner
    #[arg(last = true)]
    filters: Vec<String>,
}

/// One run of tests and how it ended.
struct Run {
    name: String,
    counts: Counts,
    seconds: u64,
    /// The runner reported a failure, whatever the counts say.
    failed: bool,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            passed,
            failed,
            skipped,
        } = self.counts;
        write!(
            f,
            "{:<28} {passed} passed, {failed} failed, {skipped} skipped, {} s",
            self.name, self.seconds
        )?;
        if self.failed && failed == 0 {
            write!(f, ", the runner failed")?;
        }
        Ok(())
    }
}

/// Prepares the machine, builds once and runs every suite.
pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let root = workspace::root()?;
    let mut undone = Vec::new();
    let missing = packages::ensure_for_tests()?;
    if !missing.is_empty() {
        undone.push(format!("installing {} (needs root)", missing.join(" ")));
    }
    // The run as root tries attacks as this user too, so the user must exist before any test.
    let account = if user::is_root() {
        Some(user::ensure()?)
    } else {
        None
    };
    let packages = [agents::AGENTS, agents::SERVERS].concat();
    let agents = agents::ensure(&workspace::target_dir(&root)?, &packages)?;
    python::ensure(&agents)?;
    out::note("test: building");
    let built = Built::make(&root, &args.filters)?;

    let mut runs = Vec::new();
    if let Some(account) = account {
        let who = if args.only_current_user {
            As::Root
        } else {
            As::RootFirst
        };
        runs.push(timed("as root", || built.run(who, &agents))?);
        if args.only_current_user {
            undone.push("the tests as an ordinary user (--only-current-user)".into());
        } else {
            runs.push(as_ordinary_user(account, &built, &agents)?);
        }
    } else {
        runs.push(timed("as this user", || built.run(As::User, &agents))?);
        undone.push("the tests as root (needs root)".into());
        undone.extend(
            built
                .needing_root()?
                .into_iter()
                .map(|name| format!("{name} (needs root)")),
        );
    }
    if args.filters.is_empty() {
        runs.push(timed("examples in documentation", || built.run_examples())?);
    }
    let (lines, outcome) = report(&runs, &undone);
    for line in lines {
        out::line(line);
    }
    Ok(outcome)
}

fn as_ordinary_user(account: user::User, built: &Built, agents: &std::path::Path) -> Result<Run> {
    let stage = Stage::new()?;
    let agents: PathBuf = stage.tree(agents, "agents")?;
    let staged = built.stage(&stage, account)?;
    timed(&format!("as {}", user::NAME), || {
        staged.run(As::UserNext, &agents)
    })
}

fn timed(name: &str, work: impl FnOnce() -> Result<(Counts, bool)>) -> Result<Run> {
    out::note(format_args!("test: {name}"));
    let start = Instant::now();
    let (counts, succeeded) = work()?;
    Ok(Run {
        name: name.into(),
        counts,
        seconds: start.elapsed().as_secs(),
        failed: !succeeded,
    })
}

/// Writes the closing lines, the plain count last.
fn report(runs: &[Run], undone: &[String]) -> (Vec<String>, Outcome) {
    let mut all = Counts::default();
    for run in runs {
        all += run.counts;
    }
    // A runner that failed without a failed test (a build error, no test at all) is a failure too.
    let silent = runs
        .iter()
        .filter(|run| run.failed && run.counts.failed == 0)
        .count();
    let failed = all.failed + silent;
    let mut lines: Vec<String> = runs.iter().map(Run::to_string).collect();
    lines.extend(undone.iter().map(|what| format!("not done: {what}")));
    lines.push(format!("{} passed, {failed} failed", all.passed));
    let outcome = if failed == 0 && all.passed > 0 {
        Outcome::Passed
    } else {
        Outcome::Failed
    };
    (lines, outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(passed: usize, failed: usize, runner_failed: bool) -> Run {
        Run {
            name: "x".into(),
            counts: Counts {
                passed,
                failed,
                skipped: 0,
            },
            seconds: 1,
            failed: runner_failed,
        }
    }

    #[test]
    fn only_tests_that_ran_and_passed_are_a_success() {
        for (runs, outcome, last) in [
            (
                vec![run(3, 0, false), run(1, 0, false)],
                Outcome::Passed,
                "4 passed, 0 failed",
            ),
            (vec![run(3, 1, true)], Outcome::Failed, "3 passed, 1 failed"),
            (vec![run(3, 0, true)], Outcome::Failed, "3 passed, 1 failed"),
            (
                vec![run(0, 0, false)],
                Outcome::Failed,
                "0 passed, 0 failed",
            ),
            (vec![], Outcome::Failed, "0 passed, 0 failed"),
        ] {
            let (lines, found) = report(&runs, &["x (needs root)".into()]);
            assert_eq!(
                (found, lines.last().map(String::as_str)),
                (outcome, Some(last))
            );
            assert!(lines.contains(&"not done: x (needs root)".to_owned()));
        }
    }
}
