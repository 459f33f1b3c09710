//! Builds the tests once and runs them in place or from a stage.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read},
    num::NonZero,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{agents, out, process, stage::Stage, test::counts::Counts, user::User, workspace};

/// Part of the name of a test that only root can run; `.config/nextest.toml` knows it too.
const NEEDS_ROOT: &str = "needs_root";
/// Part of the name of a test that root cannot run.
const NEEDS_USER: &str = "needs_user";

/// The crates whose tests depend on the user who runs them. The tests of the others do not, so they
/// do not run again after a run as root.
const KNOW_USERS: [&str; 8] = [
    "approval",
    "cli",
    "runner",
    "sandbox",
    "supervise",
    "sys",
    "terminal",
    "testkit",
];
/// Tests at once for each processor. Tests of sessions and terminals wait for most of their time, so that
/// one for each processor leaves half of the machine idle.
const TESTS_PER_PROCESSOR: usize = 2;
/// Tells the tests that the same tests run as an ordinary user next, so that those that try each
/// user leave that one out.
const USER_FOLLOWS: &str = "STOCKADE_TEST_USER_FOLLOWS";

/// The user as whom a suite runs, and its place among the runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum As {
    /// As root, and no other run follows.
    Root,
    /// As root; a run as an ordinary user follows.
    RootFirst,
    /// As an ordinary user, and nothing ran before.
    User,
    /// As an ordinary user, after a run as root.
    UserNext,
}

impl As {
    const fn profile(self) -> &'static str {
        match self {
            Self::Root | Self::RootFirst => "root",
            Self::User | Self::UserNext => "user",
        }
    }

    const fn cannot_run(self) -> &'static str {
        match self {
            Self::Root | Self::RootFirst => NEEDS_USER,
            Self::User | Self::UserNext => NEEDS_ROOT,
        }
    }

    /// Returns whether this run includes the tests of a package.
    fn has(self, folder: &Path) -> bool {
        match self {
            Self::Root | Self::RootFirst | Self::User => true,
            Self::UserNext => KNOW_USERS
                .iter()
                .any(|name| folder.ends_with(Path::new("crates").join(name))),
        }
    }

    /// The same, as a filter expression of nextest.
    fn packages(self) -> Option<String> {
        match self {
            Self::Root | Self::RootFirst | Self::User => None,
            Self::UserNext => Some(
                KNOW_USERS
                    .map(|name| format!("package(stockade-{name})"))
                    .join(" or "),
            ),
        }
    }
}

/// A test program as Cargo built it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TestBinary {
    path: PathBuf,
    /// The folder of its package, in which its tests run.
    folder: PathBuf,
}

/// The place in which the tests run.
enum Place {
    /// In the repository, as the current user.
    Here,
    /// In a stage, as another user with a home there.
    Staged { account: User, home: PathBuf },
}

/// The tests of the workspace, built.
pub(super) struct Built {
    root: PathBuf,
    target: PathBuf,
    tests: Vec<TestBinary>,
    /// Our programs by name.
    programs: BTreeMap<String, PathBuf>,
    filters: Vec<String>,
    nextest: Option<PathBuf>,
    place: Place,
}

impl Built {
    /// Builds every test and program of the workspace.
    pub(super) fn make(root: &Path, filters: &[String]) -> Result<Self> {
        let mut command = workspace::cargo();
        command.args([
            "test",
            "--workspace",
            "--no-run",
            "--message-format=json-render-diagnostics",
        ]);
        command
            .current_dir(root)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        let output = command.output().context("cargo could not be started")?;
        anyhow::ensure!(output.status.success(), "the tests could not be built");
        let (tests, programs) = artifacts(&String::from_utf8_lossy(&output.stdout));
        let nextest = process::find("cargo-nextest");
        if nextest.is_none() {
            out::note(
                "test: cargo-nextest is missing, the standard harness is used; `cargo install --locked cargo-nextest`",
            );
        }
        let target = workspace::target_dir(root)?;
        Ok(Self {
            root: root.into(),
            target,
            tests,
            programs,
            filters: filters.into(),
            nextest,
            place: Place::Here,
        })
    }

    /// Puts everything that a run needs where the user can read it.
    pub(super) fn stage(&self, stage: &Stage, account: User) -> Result<Self> {
        for file in workspace::files(&self.root)? {
            stage.copy(&self.root.join(&file), Path::new("repository").join(&file))?;
        }
        let root = stage.folder("repository", None)?;
        let target = stage.folder("target", Some(account))?;
        let link = |path: &Path| -> Result<PathBuf> {
            let inside = path
                .strip_prefix(&self.target)
                .with_context(|| format!("`{}` was built elsewhere", path.display()))?;
            stage.link(path, Path::new("target").join(inside))
        };
        let tests = self.tests.iter().map(|test| {
            let folder = test
                .folder
                .strip_prefix(&self.root)
                .map_or_else(|_| test.folder.clone(), |inside| root.join(inside));
            Ok(TestBinary {
                path: link(&test.path)?,
                folder,
            })
        });
        let tests = tests.collect::<Result<_>>()?;
        let programs = self
            .programs
            .iter()
            .map(|(name, path)| Ok((name.clone(), link(path)?)))
            .collect::<Result<_>>()?;
        let nextest = self.nextest.as_ref().map(|program| -> Result<PathBuf> {
            self.describe_for_nextest(stage)?;
            stage.copy(program, "cargo-nextest")
        });
        let home = stage.folder("home", Some(account))?;
        let place = Place::Staged { account, home };
        Ok(Self {
            root,
            target,
            tests,
            programs,
            filters: self.filters.clone(),
            nextest: nextest.transpose()?,
            place,
        })
    }

    /// Writes the files that nextest needs in order to run without Cargo.
    fn describe_for_nextest(&self, stage: &Stage) -> Result<()> {
        let mut list = workspace::cargo();
        list.args([
            "nextest",
            "list",
            "--workspace",
            "--list-type",
            "binaries-only",
            "--message-format",
            "json",
        ]);
        let mut metadata = workspace::cargo();
        metadata.args(["metadata", "--format-version", "1"]);
        for (command, name) in [(&mut list, "binaries.json"), (&mut metadata, "cargo.json")] {
            let text = process::stdout(command.current_dir(&self.root))?;
            fs::write(stage.path(name), text)
                .with_context(|| format!("`{name}` cannot be written"))?;
        }
        Ok(())
    }

    /// Runs the suite; returns its counts and whether the runner succeeded.
    pub(super) fn run(&self, who: As, agents: &Path) -> Result<(Counts, bool)> {
        let mut commands = match &self.nextest {
            Some(program) => vec![self.nextest_command(program, who)],
            None => self
                .tests
                .iter()
                .filter(|test| who.has(&test.folder))
                .map(|test| self.harness_command(test, who))
                .collect(),
        };
        let (mut counts, mut succeeded) = (Counts::default(), true);
        for command in &mut commands {
            command.env(agents::VARIABLE, agents);
            if who == As::RootFirst {
                command.env(USER_FOLLOWS, "1");
            }
            for (name, path) in &self.programs {
                command.env(format!("CARGO_BIN_EXE_{name}"), path);
            }
            if let Place::Staged { account, home } = &self.place {
                command.env("INSTA_WORKSPACE_ROOT", &self.root);
                account.apply(command, home);
            }
            let (found, ended_well) = watch(command)?;
            counts += found;
            succeeded &= ended_well;
        }
        Ok((counts, succeeded))
    }

    fn nextest_command(&self, program: &Path, who: As) -> Command {
        let mut command = match self.place {
            Place::Here => workspace::cargo(),
            Place::Staged { .. } => Command::new(program),
        };
        command
            .args(["nextest", "run", "--profile", who.profile()])
            .args(["--test-threads", &tests_at_once().to_string()])
            .current_dir(&self.root);
        match &self.place {
            Place::Here => {
                command.arg("--workspace");
            }
            Place::Staged { .. } => {
                let beside = self.root.parent().unwrap_or(&self.root);
                command
                    .arg("--binaries-metadata")
                    .arg(beside.join("binaries.json"));
                command
                    .arg("--cargo-metadata")
                    .arg(beside.join("cargo.json"));
                command
                    .arg("--workspace-remap")
                    .arg(&self.root)
                    .arg("--target-dir-remap")
                    .arg(&self.target);
            }
        }
        if let Some(packages) = who.packages() {
            command.args(["--filterset", &packages]);
        }
        if !self.filters.is_empty() {
            // A filter may name only tests that root, or only an ordinary user, can run.
            command.arg("--no-tests=pass");
        }
        command.args(&self.filters);
        command
    }

    fn harness_command(&self, test: &TestBinary, who: As) -> Command {
        let mut command = Command::new(&test.path);
        command
            .current_dir(&test.folder)
            .env("CARGO_MANIFEST_DIR", &test.folder);
        command
            .args(["--skip", who.cannot_run()])
            .args(&self.filters);
        command
    }

    /// Lists the tests that only root can run.
    pub(super) fn needing_root(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for test in &self.tests {
            let mut command = Command::new(&test.path);
            let listed = process::stdout(
                command
                    .args(["--list", "--format", "terse", NEEDS_ROOT])
                    .current_dir(&test.folder),
            )?;
            names.extend(
                listed
                    .lines()
                    .filter_map(|line| line.strip_suffix(": test"))
                    .map(str::to_owned),
            );
        }
        Ok(names)
    }

    /// Runs the examples in documentation comments, which only Cargo can do.
    pub(super) fn run_examples(&self) -> Result<(Counts, bool)> {
        watch(
            workspace::cargo()
                .args(["test", "--workspace", "--doc", "--quiet"])
                .current_dir(&self.root),
        )
    }
}

/// Returns how many tests run at the same time on this machine.
fn tests_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get) * TESTS_PER_PROCESSOR
}

/// Runs a command, shows its output and counts its test results.
fn watch(command: &mut Command) -> Result<(Counts, bool)> {
    let text = process::describe(command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("`{text}` could not be started"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let counts = std::thread::scope(|scope| {
        let errors = scope.spawn(|| show(stderr));
        let mut counts = show(stdout);
        if let Ok(found) = errors.join() {
            counts += found;
        }
        counts
    });
    let status = child.wait().with_context(|| format!("`{text}` was lost"))?;
    Ok((counts, status.success()))
}

fn show(stream: Option<impl Read>) -> Counts {
    let mut counts = Counts::default();
    for line in stream
        .into_iter()
        .flat_map(|stream| BufReader::new(stream).split(b'\n'))
        .map_while(Result::ok)
    {
        let line = String::from_utf8_lossy(&line);
        if let Some(found) = Counts::parse(&line) {
            counts += found;
        }
        out::note(line);
    }
    counts
}

/// Reads Cargo's messages: the test programs, and our own programs by name.
fn artifacts(messages: &str) -> (Vec<TestBinary>, BTreeMap<String, PathBuf>) {
    let (mut tests, mut programs) = (Vec::new(), BTreeMap::new());
    for message in messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
    {
        let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
        let (Some(path), Some(manifest)) = (text("/executable"), text("/manifest_path")) else {
            continue;
        };
        let folder = Path::new(manifest)
            .parent()
            .unwrap_or(Path::new("/"))
            .to_path_buf();
        if message.pointer("/profile/test").and_then(Value::as_bool) == Some(true) {
            tests.push(TestBinary {
                path: path.into(),
                folder,
            });
        } else if let Some(name) = text("/target/name") {
            programs.insert(name.to_owned(), path.into());
        }
    }
    (tests, programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_after_root_has_the_crates_that_know_users_and_no_other() {
        let root = workspace::root().unwrap();
        let mut left_out = 0;
        for entry in fs::read_dir(root.join("crates")).unwrap() {
            let folder = entry.unwrap().path();
            let asks_who_runs = workspace::files(&root)
                .unwrap()
                .iter()
                .map(|file| root.join(file))
                .filter(|file| file.starts_with(&folder) && file.extension() == Some("rs".as_ref()))
                .any(|file| {
                    let text = fs::read_to_string(file).unwrap();
                    text.contains("User::all()") || text.contains(NEEDS_ROOT)
                });
            assert!(As::UserNext.has(&folder) || !asks_who_runs, "{folder:?}");
            assert!(As::User.has(&folder));
            left_out += usize::from(!As::UserNext.has(&folder));
        }
        assert!(left_out > 0);
        for name in KNOW_USERS {
            assert!(root.join("crates").join(name).is_dir(), "{name}");
        }
    }

    #[test]
    fn artifacts_are_told_apart() {
        let messages = [
            r#"{"reason":"compiler-artifact","manifest_path":"/r/crates/a/Cargo.toml","target":{"name":"a"},"profile":{"test":true},"executable":"/t/debug/deps/a-1"}"#,
            r#"{"reason":"compiler-artifact","manifest_path":"/r/crates/c/Cargo.toml","target":{"name":"stockade"},"profile":{"test":false},"executable":"/t/debug/stockade"}"#,
            r#"{"reason":"compiler-artifact","manifest_path":"/r/crates/b/Cargo.toml","target":{"name":"b"},"profile":{"test":false},"executable":null}"#,
            r#"{"reason":"build-finished","success":true}"#,
        ];
        let (tests, programs) = artifacts(&messages.join("\n"));
        assert_eq!(
            tests,
            [TestBinary {
                path: "/t/debug/deps/a-1".into(),
                folder: "/r/crates/a".into()
            }]
        );
        assert_eq!(
            programs,
            BTreeMap::from([("stockade".to_owned(), PathBuf::from("/t/debug/stockade"))])
        );
    }

    #[test]
    fn a_runner_is_watched_on_both_streams() {
        let script = "echo 'test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured'; echo '     Summary [ 1s] 3 tests run: 2 passed, 1 failed, 0 skipped' >&2; exit 4";
        let (counts, succeeded) = watch(Command::new("sh").args(["-c", script])).unwrap();
        assert_eq!(
            (counts, succeeded),
            (
                Counts {
                    passed: 4,
                    failed: 1,
                    skipped: 1
                },
                false
            )
        );
    }
}
