//! `cargo xtask generate`: the reference, written by the program that it describes.

use std::{fs, io, path::Path, process::Command};

use anyhow::{Context, Result};
use similar::TextDiff;

use crate::{Outcome, out, process, workspace};

/// A generated file and the arguments of `stockade` that print it. A new file needs one more line.
const GENERATED: &[(&str, &[&str])] = &[
    ("docs/reference/cli.md", &["__reference", "cli"]),
    ("docs/reference/events.md", &["__reference", "events"]),
    (
        "docs/reference/environment.md",
        &["__reference", "environment"],
    ),
    ("docs/reference/openapi.json", &["__reference", "openapi"]),
    ("docs/reference/stockade.1", &["man"]),
];

/// Enough of a difference to see what changed; `git diff` then shows all of it.
const DIFF_LINES_MAX: usize = 20;

/// Writes the generated files.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail and name each file that is not current
    #[arg(long)]
    check: bool,
}

/// Generates every file, or checks them.
pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let root = workspace::root()?;
    let binary = build(&root)?;
    let mut stale = Vec::new();
    for (file, argv) in GENERATED {
        let text = process::stdout(Command::new(&binary).args(*argv).current_dir(&root))
            .with_context(|| format!("`{file}` could not be generated"))?;
        if apply(&root, file, &text, args.check)? {
            stale.push(*file);
        }
    }
    for file in &stale {
        out::line(format_args!(
            "{}: {file}",
            if args.check { "stale" } else { "written" }
        ));
    }
    if args.check && !stale.is_empty() {
        out::line("fix: cargo xtask generate, then commit the files");
        return Ok(Outcome::Failed);
    }
    out::line(format_args!(
        "generate: {} files are current",
        GENERATED.len()
    ));
    Ok(Outcome::Passed)
}

fn build(root: &Path) -> Result<std::path::PathBuf> {
    process::show(
        workspace::cargo()
            .args(["build", "--quiet", "--package", "stockade-cli"])
            .current_dir(root),
    )?;
    Ok(workspace::target_dir(root)?.join("debug/stockade"))
}

/// Compares one file with its text and, unless only checking, writes it. Returns whether it
/// differed.
fn apply(root: &Path, file: &str, text: &str, check: bool) -> Result<bool> {
    let path = root.join(file);
    let present = match fs::read_to_string(&path) {
        Ok(present) => present,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("`{file}` cannot be read")),
    };
    if present == text {
        return Ok(false);
    }
    if check {
        for line in difference(&present, text) {
            out::line(line);
        }
    } else {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("the folder of `{file}` cannot be made"))?;
        }
        fs::write(&path, text).with_context(|| format!("`{file}` cannot be written"))?;
    }
    Ok(true)
}

fn difference(present: &str, text: &str) -> Vec<String> {
    let diff = TextDiff::from_lines(present, text);
    let shown = diff
        .unified_diff()
        .context_radius(1)
        .header("committed", "generated")
        .to_string();
    shown
        .lines()
        .take(DIFF_LINES_MAX)
        .map(|line| format!("  {line}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_names_a_stale_file_and_leaves_it() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.md"), "old\n").unwrap();
        assert!(apply(root.path(), "a.md", "new\n", true).unwrap());
        assert_eq!(
            fs::read_to_string(root.path().join("a.md")).unwrap(),
            "old\n"
        );
        assert!(difference("old\n", "new\n").contains(&"  +new".to_owned()));
    }

    #[test]
    fn writing_makes_the_file_current() {
        let root = tempfile::tempdir().unwrap();
        assert!(apply(root.path(), "docs/new/b.md", "text\n", false).unwrap());
        assert!(!apply(root.path(), "docs/new/b.md", "text\n", true).unwrap());
    }
}
