//! Starts other programs, with their failures explained.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail};
use rustix::fs::{Access, access};

/// Runs a program to its end and returns its standard output as text.
pub(crate) fn stdout(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` ended with {}: {}",
            describe(command),
            output.status,
            said.trim()
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` did not print text", describe(command)))
}

/// Runs a program to its end with its output shown, and fails unless it succeeds.
pub(crate) fn show(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| not_started(command))?;
    if !status.success() {
        bail!("`{}` ended with {status}", describe(command));
    }
    Ok(())
}

/// Runs a program to its end and collects what it printed.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| not_started(command))
}

/// Finds a program on the path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    find_in(&env::var_os("PATH")?, program)
}

/// Finds a program in the folders of a path list.
pub(crate) fn find_in(path: &OsStr, program: &str) -> Option<PathBuf> {
    let is_program = |file: &PathBuf| file.is_file() && access(file, Access::EXEC_OK).is_ok();
    env::split_paths(path)
        .map(|folder| folder.join(program))
        .find(is_program)
}

/// Shows a command as a person would type it, without its environment.
pub(crate) fn describe(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

fn not_started(command: &Command) -> String {
    format!(
        "`{}` could not be started; is it installed",
        describe(command)
    )
}

/// Builds an example of the workspace and, if it is named, a program; as the tests are built, so that what
/// both need is built once.
///
/// # Errors
/// When one of them does not build.
pub(crate) fn build_with_example(root: &Path, program: Option<&str>, example: &str) -> Result<()> {
    let mut build = Command::new("cargo");
    build.args(["build", "--workspace", "--example", example]);
    if let Some(program) = program {
        build.args(["--bin", program]);
    }
    show(build.current_dir(root))
}
