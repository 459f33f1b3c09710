//! The files that workloads work on.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

use crate::process;

/// Folders times files: about the size of a checkout with its packages.
const TREE: (usize, usize) = (200, 500);
/// A middle-sized repository.
const REPOSITORY: (usize, usize) = (50, 100);
/// About what a package manager unpacks for a project.
const ARCHIVE: (usize, usize) = (100, 100);
/// Enough compiler processes to see what each costs, few enough for many runs.
const BUILD_FILES: usize = 12;
/// Lines of [`Ground::Text`]: 100 MB.
const TEXT_LINES: usize = 1_250_000;
/// One of them, with its end.
const TEXT_LINE: &[u8; 80] =
    b"The quick brown fox jumps over the lazy dog and runs on through the wood, still\n";
/// Bytes of [`Ground::Text`].
pub(super) const TEXT_BYTES: usize = TEXT_LINES * TEXT_LINE.len();

/// A folder that is prepared for workloads, and their workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ground {
    /// Nothing.
    Empty,
    /// 100,000 files in 200 folders.
    Tree,
    /// A repository with 5,000 files.
    Repository,
    /// A repository with one file, to commit to.
    Commits,
    /// `files.tar` with 10,000 files.
    Archive,
    /// A makefile and 13 C files.
    Build,
    /// `text` with 100 MB in lines.
    Text,
}

impl Ground {
    pub(super) const fn folder(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Tree => "tree",
            Self::Repository => "repository",
            Self::Commits => "commits",
            Self::Archive => "archive",
            Self::Build => "build",
            Self::Text => "text",
        }
    }

    /// Makes the files in a folder that is there and empty.
    pub(super) fn fill(self, folder: &Path) -> Result<()> {
        match self {
            Self::Empty => Ok(()),
            Self::Tree => fill(folder, TREE),
            Self::Repository => {
                fill(folder, REPOSITORY)?;
                repository_of(folder)
            }
            Self::Commits => {
                fs::write(folder.join("file"), "0\n").context("a file cannot be written")?;
                repository_of(folder)
            }
            Self::Archive => archive(folder),
            Self::Build => build_files(folder),
            Self::Text => fs::write(folder.join("text"), TEXT_LINE.repeat(TEXT_LINES))
                .context("the text cannot be written"),
        }
    }
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
fn archive(folder: &Path) -> Result<()> {
    let packed = folder.join("packed");
    fill(&packed, ARCHIVE)?;
    let mut tar = Command::new("tar");
    tar.args(["cf", "files.tar", "packed"]).current_dir(folder);
    process::stdout(&mut tar)?;
    fs::remove_dir_all(packed).context("the packed files cannot be removed")
}

fn fill(folder: &Path, (folders, files): (usize, usize)) -> Result<()> {
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
        Ground::Build.fill(folder.path()).unwrap();
        process::stdout(Command::new("make").arg("-C").arg(folder.path())).unwrap();
        process::stdout(&mut Command::new(folder.path().join("program"))).unwrap();
    }
}
