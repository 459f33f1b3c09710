//! The ordinary user as whom tests and measurements run when we are root.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::process;

/// Its name; [`ensure`] makes it on a machine that does not have it.
pub(crate) const NAME: &str = "stockade-test";

/// Where an ordinary user finds programs: not the private folders that may be in root's path.
pub(crate) const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// Variables of the caller that an ordinary user's processes may see.
const PASSED_ON: &[&str] = &["LANG", "LC_ALL", "TERM", "CI", "RUST_BACKTRACE", "NO_COLOR"];

/// An account of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl User {
    /// Makes a command run as this user with its own home and a clean environment.
    pub(crate) fn apply(self, command: &mut Command, home: &Path) {
        clean_environment(command, home);
        command
            .uid(self.uid)
            .gid(self.gid)
            .env("USER", NAME)
            .env("LOGNAME", NAME);
    }
}

/// Keeps for a command only the variables set for it, the harmless ones of ours, and a home.
pub(crate) fn clean_environment(command: &mut Command, home: &Path) {
    let kept: Vec<_> = command
        .get_envs()
        .map(|(key, value)| (key.to_owned(), value.map(ToOwned::to_owned)))
        .collect();
    command
        .env_clear()
        .env("PATH", SYSTEM_PATH)
        .env("HOME", home)
        .env("SHELL", "/bin/sh");
    for name in PASSED_ON {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    for (key, value) in kept {
        if let Some(value) = value {
            command.env(key, value);
        }
    }
}

/// Returns whether we are root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Looks the test user up, and makes it if it is missing. Needs root.
pub(crate) fn ensure() -> Result<User> {
    if let Some(user) = lookup()? {
        return Ok(user);
    }
    process::stdout(Command::new("useradd").args(["--create-home", "--shell", "/bin/sh", NAME]))
        .with_context(|| format!("the user `{NAME}` could not be made"))?;
    match lookup()? {
        Some(user) => Ok(user),
        None => bail!("`useradd` made no user `{NAME}`; make it by hand"),
    }
}

fn lookup() -> Result<Option<User>> {
    let output = process::output(Command::new("getent").args(["passwd", NAME]))?;
    // 2 is getent's "no such key".
    match output.status.code() {
        Some(0) => parse(&String::from_utf8_lossy(&output.stdout)).map(Some),
        Some(2) => Ok(None),
        _ => bail!("`getent passwd {NAME}` ended with {}", output.status),
    }
}

/// Reads a line of passwd(5).
fn parse(line: &str) -> Result<User> {
    let fields: Vec<&str> = line.trim().split(':').collect();
    let [_, _, uid, gid, ..] = fields.as_slice() else {
        bail!("`{line}` is not a line of passwd(5)")
    };
    let user = User {
        uid: uid.parse().context("the uid is not a number")?,
        gid: gid.parse().context("the gid is not a number")?,
    };
    if user.uid == 0 || user.gid == 0 {
        bail!("the user `{NAME}` has root's rights; remove it, so that it is made anew");
    }
    Ok(user)
}

/// Finds a program in a place in which every user finds it.
pub(crate) fn find_for_all(program: &str) -> Option<PathBuf> {
    process::find_in(SYSTEM_PATH.as_ref(), program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_read_and_root_refused() {
        assert_eq!(
            parse("stockade-test:x:1001:1002::/home/x:/bin/sh\n").unwrap(),
            User {
                uid: 1001,
                gid: 1002
            }
        );
        for bad in ["x:x:0:5::/:/", "x:x:5:0::/:/", "x:x:a:5::/:/", ""] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_command_keeps_only_what_was_set_for_it() {
        let mut command = Command::new("true");
        command.env("KEPT", "1").env_remove("GONE");
        User { uid: 7, gid: 7 }.apply(&mut command, Path::new("/h"));
        let names: Vec<_> = command
            .get_envs()
            .filter_map(|(key, _)| key.to_str())
            .collect();
        assert!(
            names.contains(&"KEPT") && names.contains(&"HOME") && !names.contains(&"GONE"),
            "{names:?}"
        );
        assert!(!names.contains(&"CARGO_MANIFEST_DIR"));
    }
}
