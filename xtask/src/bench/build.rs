//! What the release costs to build: only on request, since it takes minutes.

use std::{collections::BTreeSet, time::Instant};

use anyhow::{Context, Result};

use super::figures::float;
use crate::{process, workspace};

/// Builds the release in an empty folder and returns the seconds.
pub(super) fn seconds() -> Result<f64> {
    let root = workspace::root()?;
    let target = workspace::target_dir(&root)?;
    let folder = tempfile::tempdir_in(&target).context("no folder for the build")?;
    let mut build = workspace::cargo();
    build
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            "stockade-cli",
        ])
        .args(["--bin", "stockade", "--target-dir"])
        .arg(folder.path())
        .current_dir(&root);
    let start = Instant::now();
    process::show(&mut build)?;
    Ok(start.elapsed().as_secs_f64())
}

/// Counts the crates that the release is built from, those of its build included.
pub(super) fn crates() -> Result<f64> {
    let root = workspace::root()?;
    let mut tree = workspace::cargo();
    tree.args(["tree", "--locked", "--package", "stockade-cli"])
        .args(["--edges", "normal,build", "--prefix", "none"])
        .args(["--format", "{p}"])
        .current_dir(&root);
    Ok(distinct(&process::stdout(&mut tree)?))
}

fn distinct(tree: &str) -> f64 {
    let crates: BTreeSet<Vec<&str>> = tree
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.split(' ').take(2).collect())
        .collect();
    float(crates.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_counts_once_and_each_of_its_versions() {
        let tree = "a v1 (/x)\nb v1\nb v2\n\nb v1 (*)\nc v1 (proc-macro)\n";
        assert!((distinct(tree) - 4.0).abs() < f64::EPSILON);
    }
}
