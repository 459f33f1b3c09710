//! What is run: a start, and kinds of work in a folder made for them.

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
/// About what a package manager unpacks for a middle-sized project.
const TAR_FOLDERS: usize = 200;
const TAR_FILES_PER_FOLDER: usize = 100;
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
    /// How many times as long as without a boundary it may take.
    pub(super) most: f64,
}

pub(super) const START: Workload = Workload {
    name: "start of /bin/true",
    line: None,
    folder: "build",
    writes: Writes::Nothing,
    most: f64::INFINITY,
};

/// The same where the whole workspace has to be searched for protected paths.
pub(super) const START_LARGE: Workload = Workload {
    name: "start of /bin/true, workspace of 110,000 entries",
    line: None,
    folder: "",
    writes: Writes::Nothing,
    most: f64::INFINITY,
};

/// The work inside; its time is taken inside, so the start is not in it.
pub(super) const INSIDE: &[Workload] = &[
    inside(
        // Ten, since a single one is so short that the scheduler decides.
        "10 × git status, 5,000 files",
        "for _ in 1 2 3 4 5 6 7 8 9 10; do git -C repository status --porcelain || exit 9; done",
        Writes::Nothing,
        1.05,
    ),
    inside(
        "find, 100,000 entries",
        "find tree -size +1M",
        Writes::Nothing,
        1.05,
    ),
    inside(
        "make, 12 C files",
        "make -B -C build",
        Writes::Workspace,
        1.05,
    ),
    inside(
        "tar x, 20,000 files",
        "mkdir out && tar xf files.tar -C out && rm -rf out",
        Writes::Workspace,
        1.10,
    ),
    inside(
        "500 × /bin/true",
        "i=0; while [ $i -lt 500 ]; do /bin/true; i=$((i+1)); done",
        Writes::Nothing,
        1.15,
    ),
    inside(
        "30 × git commit",
        "cd commits && for i in $(seq 30); do echo $i >> file && \
         git -c user.name=bench -c user.email=bench@lab.test commit -qam $i || exit 9; done",
        Writes::Workspace,
        1.05,
    ),
];

const fn inside(name: &'static str, line: &'static str, writes: Writes, most: f64) -> Workload {
    Workload {
        name,
        line: Some(line),
        folder: "",
        writes,
        most,
    }
}

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
    repository_of(&repository)?;
    archive(workspace)?;
    let commits = workspace.join("commits");
    fill(&commits, 1, 1)?;
    fs::write(commits.join("file"), "0\n").context("a file cannot be written")?;
    repository_of(&commits)?;
    build_files(&workspace.join("build"))
}

/// Makes a repository of what is in a folder.
fn repository_of(repository: &Path) -> Result<()> {
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
        process::stdout(Command::new("git").args(args).current_dir(repository))?;
    }
    Ok(())
}

/// Packs small files, for an unpacking that makes each of them.
fn archive(workspace: &Path) -> Result<()> {
    let packed = workspace.join("packed");
    fill(&packed, TAR_FOLDERS, TAR_FILES_PER_FOLDER)?;
    let mut tar = Command::new("tar");
    tar.args(["cf", "files.tar", "packed"])
        .current_dir(workspace);
    process::stdout(&mut tar)?;
    fs::remove_dir_all(packed).context("the packed files cannot be removed")
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
