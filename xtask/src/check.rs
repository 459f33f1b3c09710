//! `cargo xtask check`: the checks for a change while it is being made, in less than a minute.
//!
//! It starts no session: `cargo xtask test -- FILTER` runs the tests that do.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result};

use crate::{Outcome, out, process, tidy, user, workspace};

/// The crates whose tests from outside start sessions, agents or terminals: for these, only the
/// tests beside the code run.
const START_SESSIONS: [&str; 2] = ["cli", "testkit"];

/// Files that a crate includes from elsewhere: their folder or name, and the crate.
const COMPILED_IN: [(&str, &str); 2] = [("policies/", "policy"), ("docs/policy.md", "policy")];

/// Files that every crate is built from.
const FOR_ALL: [&str; 3] = ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml"];

/// The branch that a change is compared with.
const TRUNK: &str = "main";

/// Checks what has changed.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Compare with this commit [default: where the branch left `main`, or HEAD on `main`]
    #[arg(long, value_name = "COMMIT")]
    since: Option<String>,
}

/// The consequences of a list of changed files for the checks.
#[derive(Debug, Default, PartialEq, Eq)]
struct Touched {
    /// The crates whose tests run, by the names of their folders.
    crates: BTreeSet<String>,
    /// Tests from outside that changed but are not run here, as filters of test names.
    sessions: BTreeSet<String>,
    /// Whether anything that is compiled has changed.
    code: bool,
}

impl Touched {
    /// Assigns changed files to the parts to which they belong; `all` are the names of every crate.
    fn from_files(files: &[String], all: &[String]) -> Self {
        let mut touched = Self::default();
        for file in files {
            if FOR_ALL.contains(&file.as_str()) {
                touched.crates.extend(all.iter().cloned());
            }
            if let Some((_, name)) = COMPILED_IN.iter().find(|(path, _)| file.starts_with(path)) {
                touched.crates.insert((*name).to_owned());
            }
            let inside = file
                .strip_prefix("crates/")
                .and_then(|rest| rest.split_once('/'))
                .or_else(|| file.strip_prefix("xtask/").map(|rest| ("xtask", rest)));
            let Some((name, path)) = inside else {
                continue;
            };
            // Users of a removed crate must still be built.
            touched.code = true;
            if all.iter().any(|own| own == name) {
                touched.crates.insert(name.to_owned());
            }
            if START_SESSIONS.contains(&name) {
                touched.sessions.extend(module_of_test(path));
            }
        }
        touched.code |= !touched.crates.is_empty();
        touched
    }
}

/// Returns the module of a file of tests: `attacks::files` for `tests/attacks/files.rs`, `attacks` for
/// `tests/attacks/swap.c`.
fn module_of_test(path: &str) -> Option<String> {
    let path = path.strip_prefix("tests/")?;
    let path = match path.strip_suffix(".rs") {
        Some("main") => return None,
        Some(module) => module.trim_end_matches("/mod"),
        // Files that tests read are beside them.
        None => path.rsplit_once('/')?.0,
    };
    Some(path.replace('/', "::"))
}

/// Runs every check, even after a failed one.
pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let start = Instant::now();
    let root = workspace::root()?;
    let since = base(&root, args.since.as_deref())?;
    let touched = Touched::from_files(&changed(&root, &since)?, &crate_names(&root)?);
    let names: Vec<&str> = touched.crates.iter().map(String::as_str).collect();
    out::note(format_args!(
        "check: since {}, touched: {}",
        since.get(..12).unwrap_or(&since),
        if names.is_empty() {
            "no crate".to_owned()
        } else {
            names.join(" ")
        }
    ));
    let mut failed = Vec::new();
    let mut step = |name: &'static str, work: &dyn Fn() -> Result<bool>| -> Result<()> {
        let start = Instant::now();
        let good = work()?;
        let seconds = start.elapsed().as_secs_f64();
        let outcome = if good { "good" } else { "failed" };
        out::note(format_args!("check: {name}: {outcome}, {seconds:.1} s"));
        failed.extend((!good).then_some(name));
        Ok(())
    };
    step("format", &|| cargo(&root, &["fmt", "--all", "--check"]))?;
    step("tidy", &|| Ok(tidy::run()? == Outcome::Passed))?;
    if touched.code {
        // Cargo knows what depends on the changes, and checks nothing else.
        step("clippy", &|| {
            cargo(
                &root,
                &[
                    "clippy",
                    "--workspace",
                    "--all-targets",
                    "--quiet",
                    "--",
                    "-D",
                    "warnings",
                ],
            )
        })?;
        step("tests of the touched crates", &|| {
            tests(&root, &touched.crates)
        })?;
    }
    for module in &touched.sessions {
        out::line(format_args!(
            "not run: `{module}`, which starts sessions: cargo xtask test -- {module}"
        ));
    }
    let seconds = start.elapsed().as_secs();
    Ok(if failed.is_empty() {
        out::line(format_args!("check: good, {seconds} s"));
        Outcome::Passed
    } else {
        out::line(format_args!(
            "check: failed: {}, {seconds} s",
            failed.join(", ")
        ));
        Outcome::Failed
    })
}

/// Returns the commit to compare with.
fn base(root: &Path, since: Option<&str>) -> Result<String> {
    let resolve = |args: &[&str]| -> Result<String> {
        let text = process::stdout(Command::new("git").args(args).current_dir(root))?;
        Ok(text.trim().to_owned())
    };
    if let Some(since) = since {
        return resolve(&["rev-parse", "--verify", &format!("{since}^{{commit}}")])
            .with_context(|| format!("--since: `{since}` is no commit"));
    }
    // A clone of a single branch has no such name.
    resolve(&["merge-base", "HEAD", TRUNK]).or_else(|_| resolve(&["rev-parse", "HEAD"]))
}

/// Lists the files that differ from a commit, including those that are not committed or not
/// tracked.
fn changed(root: &Path, since: &str) -> Result<Vec<String>> {
    let ask = |args: &[&str]| -> Result<Vec<String>> {
        let text = process::stdout(
            Command::new("git")
                .args(["-c", "core.fsmonitor=false"])
                .args(args)
                .current_dir(root),
        )?;
        let names = text.split('\0').filter(|name| !name.is_empty());
        Ok(names.map(str::to_owned).collect())
    };
    // A moved file also changes the crate that it left.
    let mut files = ask(&["diff", "--name-only", "--no-renames", "-z", since])?;
    files.extend(ask(&["ls-files", "--others", "--exclude-standard", "-z"])?);
    Ok(files)
}

/// Lists the crates of the workspace by the names of their folders.
fn crate_names(root: &Path) -> Result<Vec<String>> {
    let mut names = vec!["xtask".to_owned()];
    for entry in std::fs::read_dir(root.join("crates")).context("`crates` cannot be read")? {
        let entry = entry.context("`crates` cannot be read")?;
        if entry.path().join("Cargo.toml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// Runs the tests of some crates.
fn tests(root: &Path, crates: &BTreeSet<String>) -> Result<bool> {
    let (beside, whole): (Vec<&String>, Vec<&String>) = crates
        .iter()
        .partition(|name| START_SESSIONS.contains(&name.as_str()));
    let mut good = true;
    for (names, targets) in [
        (whole, &["--all-targets"][..]),
        (beside, &["--lib", "--bins"][..]),
    ] {
        if names.is_empty() {
            continue;
        }
        let packages: Vec<String> = names
            .into_iter()
            .flat_map(|name| ["-p".to_owned(), package(name)])
            .collect();
        let mut args: Vec<&str> = match process::find("cargo-nextest") {
            Some(_) => vec!["nextest", "run", "--profile", profile(), "--no-tests=pass"],
            None => vec!["test", "--quiet"],
        };
        args.extend(packages.iter().map(String::as_str));
        args.extend(targets);
        good &= cargo(root, &args)?;
    }
    Ok(good)
}

fn profile() -> &'static str {
    if user::is_root() { "root" } else { "user" }
}

fn package(name: &str) -> String {
    if name == "xtask" {
        name.to_owned()
    } else {
        format!("stockade-{name}")
    }
}

/// Runs Cargo with its output shown; returns whether it succeeded.
fn cargo(root: &Path, args: &[&str]) -> Result<bool> {
    let status = workspace::cargo()
        .args(args)
        .current_dir(root)
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("`cargo {}` could not be started", args.join(" ")))?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_name_their_crates() {
        let all: Vec<String> = ["cli", "policy", "xtask"].map(str::to_owned).into();
        for (files, crates, sessions, code) in [
            (
                &["README.md", "docs/limits.md"][..],
                &[][..],
                &[][..],
                false,
            ),
            (&["crates/policy/src/a/b.rs"], &["policy"], &[], true),
            (
                &["crates/policy/tests/corpus/builtin.txt"],
                &["policy"],
                &[],
                true,
            ),
            (&["policies/codex.toml"], &["policy"], &[], true),
            (&["docs/policy.md"], &["policy"], &[], true),
            (
                &["xtask/src/main.rs", "crates/cli/src/main.rs"],
                &["cli", "xtask"],
                &[],
                true,
            ),
            (
                &["crates/cli/tests/attacks/swap.c"],
                &["cli"],
                &["attacks"],
                true,
            ),
            (
                &[
                    "crates/cli/tests/attacks/mod.rs",
                    "crates/cli/tests/main.rs",
                ],
                &["cli"],
                &["attacks"],
                true,
            ),
            (&["Cargo.lock"], &["cli", "policy", "xtask"], &[], true),
            // A removed crate has no tests any more.
            (&["crates/gone/src/lib.rs"], &[], &[], true),
        ] {
            let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
            let found = Touched::from_files(&files, &all);
            let names = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>();
            assert_eq!(names(&found.crates), crates, "{files:?}");
            assert_eq!(names(&found.sessions), sessions, "{files:?}");
            assert_eq!(found.code, code, "{files:?}");
        }
    }

    #[test]
    fn the_crates_that_start_sessions_are_there() {
        let names = crate_names(&workspace::root().unwrap()).unwrap();
        for name in START_SESSIONS
            .iter()
            .chain(COMPILED_IN.iter().map(|(_, name)| name))
        {
            assert!(names.iter().any(|known| known == name), "{name}");
        }
    }

    #[test]
    fn changes_are_found_whether_committed_or_not() {
        let place = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| {
            let mut command = Command::new("git");
            command
                .args(["-c", "user.name=a", "-c", "user.email=a@b.test"])
                .args(args);
            process::stdout(command.current_dir(place.path())).unwrap()
        };
        let write = |name: &str| std::fs::write(place.path().join(name), name).unwrap();
        git(&["init", "--quiet", "--initial-branch", TRUNK]);
        write("old");
        git(&["add", "."]);
        git(&["commit", "--quiet", "--message", "a"]);
        git(&["checkout", "--quiet", "-b", "work"]);
        git(&["mv", "old", "moved"]);
        git(&["commit", "--quiet", "--message", "b"]);
        write("new");
        let since = base(place.path(), None).unwrap();
        assert_eq!(
            changed(place.path(), &since).unwrap(),
            ["moved", "old", "new"]
        );
        let since = base(place.path(), Some("HEAD")).unwrap();
        assert_eq!(changed(place.path(), &since).unwrap(), ["new"]);
        assert!(base(place.path(), Some("nothing")).is_err());
    }
}
