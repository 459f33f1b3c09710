//! What is run: a start, and three kinds of work in a folder made for them.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    Lab,
    contender::{Contender, Writes},
};
use crate::process;

/// Folders times files: about the size of a checkout with its packages.
const FIND_FOLDERS: usize = 200;
const FIND_FILES_PER_FOLDER: usize = 500;
/// A middle-sized repository.
const GIT_FOLDERS: usize = 50;
const GIT_FILES_PER_FOLDER: usize = 100;
/// Enough compiler processes to see what each costs, few enough for many runs.
const BUILD_FILES: usize = 12;

/// Something to measure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    /// None measures the start of `/bin/true`; otherwise a shell line, timed inside.
    line: Option<&'static str>,
    /// Folder that it starts in, below the workspace.
    folder: &'static str,
    writes: Writes,
}

pub(super) const START: Workload = Workload {
    name: "start of /bin/true",
    line: None,
    folder: "build",
    writes: Writes::Nothing,
};

/// The same where the whole workspace has to be searched for protected paths.
pub(super) const START_LARGE: Workload = Workload {
    name: "start of /bin/true, workspace of 110,000 entries",
    line: None,
    folder: "",
    writes: Writes::Nothing,
};

/// The work inside; its time is taken inside, so the start is not in it.
pub(super) const INSIDE: &[Workload] = &[
    Workload {
        // Ten, since a single one is so short that the scheduler decides.
        name: "10 × git status, 5,000 files",
        line: Some(
            "for _ in 1 2 3 4 5 6 7 8 9 10; do git -C repository status --porcelain || exit 9; done",
        ),
        folder: "",
        writes: Writes::Nothing,
    },
    Workload {
        name: "find, 100,000 entries",
        line: Some("find tree -size +1M"),
        folder: "",
        writes: Writes::Nothing,
    },
    Workload {
        name: "make, 12 C files",
        line: Some("make -B -C build"),
        folder: "",
        writes: Writes::Workspace,
    },
];

impl Workload {
    /// Runs it once and returns how long it took.
    pub(super) fn sample(&self, contender: &Contender, lab: &Lab) -> Result<Duration> {
        let Some(line) = self.line else {
            let folder = lab.workspace.join(self.folder);
            let mut command = lab.prepare(contender.command(&folder, &["/bin/true"], self.writes));
            command
                .current_dir(&folder)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped());
            let start = Instant::now();
            let output = command
                .spawn()
                .and_then(std::process::Child::wait_with_output);
            let took = start.elapsed();
            let output = output.with_context(|| {
                format!("`{}` could not be started", process::describe(&command))
            })?;
            if !output.status.success() {
                bail!(
                    "`{}` ended with {}: {}",
                    process::describe(&command),
                    output.status,
                    String::from_utf8_lossy(&output.stderr).trim()
                );
            }
            return Ok(took);
        };
        let timed = format!(
            "start=$(date +%s%N); {{ {line}; }} >/dev/null || exit 9; end=$(date +%s%N); echo $((end-start))"
        );
        let mut command =
            lab.prepare(contender.command(&lab.workspace, &["sh", "-c", &timed], self.writes));
        let text = process::stdout(&mut command)?;
        let last = text.lines().last().unwrap_or_default().trim();
        let nanoseconds = last
            .parse()
            .with_context(|| format!("`{last}` is not a time in nanoseconds"))?;
        Ok(Duration::from_nanos(nanoseconds))
    }
}

/// Makes the folders that the workloads work in.
pub(super) fn prepare(workspace: &Path) -> Result<()> {
    fill(&workspace.join("tree"), FIND_FOLDERS, FIND_FILES_PER_FOLDER)?;
    let repository = workspace.join("repository");
    fill(&repository, GIT_FOLDERS, GIT_FILES_PER_FOLDER)?;
    for args in [
        &["init", "--quiet"][..],
        &["add", "."],
        &[
            "-c",
            "user.name=bench",
            "-c",
            "user.email=bench@lab.test",
            "commit",
            "--quiet",
            "--message",
            "files",
        ],
    ] {
        process::stdout(Command::new("git").args(args).current_dir(&repository))?;
    }
    build_files(&workspace.join("build"))
}

fn fill(folder: &Path, folders: usize, files: usize) -> Result<()> {
    for outer in 0..folders {
        let inner = folder.join(format!("d{outer}"));
        fs::create_dir_all(&inner)
            .with_context(|| format!("`{}` cannot be made", inner.display()))?;
        for file in 0..files {
            fs::write(
                inner.join(format!("f{file}.txt")),
                format!("{outer} {file}\n"),
            )
            .context("a file cannot be written")?;
        }
    }
    Ok(())
}

fn build_files(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("`{}` cannot be made", folder.display()))?;
    let of_each = |line: fn(usize) -> String| (0..BUILD_FILES).map(line).collect::<String>();
    let objects = of_each(|index| [" part", &index.to_string(), ".o"].concat());
    let calls = of_each(|index| [" + part", &index.to_string(), "(n)"].concat());
    let declarations = of_each(|index| ["int part", &index.to_string(), "(int n);\n"].concat());
    for index in 0..BUILD_FILES {
        let text = format!(
            "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n\
             int part{index}(int n) {{ return n * {index} + (int)strlen(\"x\"); }}\n"
        );
        fs::write(folder.join(format!("part{index}.c")), text)
            .context("a source cannot be written")?;
    }
    let main =
        format!("{declarations}int main(int n, char **v) {{ (void)v; return 0{calls} == -1; }}\n");
    fs::write(folder.join("main.c"), main).context("a source cannot be written")?;
    let makefile =
        format!("program: main.o{objects}\n\t$(CC) -o $@ $^\n%.o: %.c\n\t$(CC) -O1 -c -o $@ $<\n");
    fs::write(folder.join("Makefile"), makefile).context("the makefile cannot be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_workload_builds_a_program() {
        let folder = tempfile::tempdir().unwrap();
        build_files(folder.path()).unwrap();
        process::stdout(Command::new("make").arg("-C").arg(folder.path())).unwrap();
        process::stdout(&mut Command::new(folder.path().join("program"))).unwrap();
    }

    #[test]
    fn bare_work_is_timed_and_a_failure_is_an_error() {
        let lab = Lab::for_test();
        fill(&lab.workspace.join("tree"), 2, 3).unwrap();
        let find = INSIDE
            .iter()
            .find(|workload| workload.name.starts_with("find"))
            .unwrap();
        assert!(find.sample(&Contender::Bare, &lab).unwrap() > Duration::ZERO);
        let git = INSIDE
            .iter()
            .find(|workload| workload.name.contains("git status"))
            .unwrap();
        assert!(git.sample(&Contender::Bare, &lab).is_err());
        fs::create_dir(lab.workspace.join(START.folder)).unwrap();
        assert!(START.sample(&Contender::Bare, &lab).unwrap() > Duration::ZERO);
    }
}
