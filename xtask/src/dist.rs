//! `cargo xtask dist`: the one static binary, and the proof that it needs nothing else.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{elf, out, process, user, workspace};

/// Builds, checks, and copies the program to `target/dist`; returns its path.
pub(crate) fn run() -> Result<PathBuf> {
    let root = workspace::root()?;
    let target = workspace::target_dir(&root)?;
    let built = build(&root, &target)?;
    let bytes =
        fs::read(&built).with_context(|| format!("`{}` cannot be read", built.display()))?;
    alone(&bytes)?;
    let version = starts_in_empty_root(&built)?;

    let folder = target.join("dist");
    fs::create_dir_all(&folder)
        .with_context(|| format!("`{}` cannot be made", folder.display()))?;
    let program = folder.join("stockade");
    fs::copy(&built, &program)
        .with_context(|| format!("`{}` cannot be written", program.display()))?;
    let digest = hex(&Sha256::digest(&bytes));
    fs::write(
        folder.join("stockade.sha256"),
        format!("{digest}  stockade\n"),
    )
    .context("the digest cannot be written")?;
    out::line(format_args!(
        "{} {version}, {} bytes, static, runs in an empty root\nsha256 {digest}",
        program.display(),
        bytes.len()
    ));
    Ok(program)
}

fn build(root: &Path, target: &Path) -> Result<PathBuf> {
    let triple = workspace::host_triple()?;
    if !triple.ends_with("-linux-gnu") && !triple.ends_with("-linux-musl") {
        bail!("`{triple}` is not a Linux target");
    }
    out::note("dist: building");
    // With the target named, the flags do not apply to procedural macros, which must be dynamic.
    let mut command = workspace::cargo();
    command.args([
        "build",
        "--release",
        "--locked",
        "--package",
        "stockade-cli",
        "--bin",
        "stockade",
        "--target",
        &triple,
    ]);
    process::show(
        command
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .current_dir(root),
    )?;
    Ok(target.join(triple).join("release/stockade"))
}

fn alone(program: &[u8]) -> Result<()> {
    let needs = elf::needs(program).context("the built program cannot be read")?;
    if needs != elf::Needs::default() {
        bail!(
            "the program is not static: loader {}, libraries {}",
            needs.interpreter,
            needs.libraries
        );
    }
    Ok(())
}

/// Starts the program in an empty root: no library, no `/proc`, no `/etc`.
fn starts_in_empty_root(program: &Path) -> Result<String> {
    let empty = tempfile::tempdir().context("no temporary folder could be made")?;
    fs::copy(program, empty.path().join("stockade")).context("the program cannot be copied")?;
    let mut command = if user::is_root() {
        Command::new("chroot")
    } else {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "chroot"]);
        command
    };
    let version = process::stdout(command.arg(empty.path()).args(["/stockade", "--version"]))
        .context("the program does not start in an empty root")?;
    Ok(version.trim().to_owned())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 0x0f)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_is_refused() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(alone(&own).unwrap_err().to_string().contains("not static"));
    }

    #[test]
    fn a_program_that_needs_a_loader_does_not_start_alone() {
        let error = starts_in_empty_root(Path::new("/bin/sh")).unwrap_err();
        assert!(error.to_string().contains("empty root"), "{error:#}");
    }

    #[test]
    fn digests_are_written_in_hexadecimal() {
        assert_eq!(hex(&[0, 0xab, 7]), "00ab07");
    }
}
