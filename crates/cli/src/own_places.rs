//! The places of the user's own files: the home, and the policy below the base for configuration.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::state::HOME_VARIABLE;

/// The base for configuration of all programs (XDG Base Directory Specification).
const XDG_CONFIG_VARIABLE: &str = "XDG_CONFIG_HOME";
/// The user's policy, below the base for configuration.
pub(crate) const USER_FILE: &str = "stockade/policy.toml";

/// Returns the place of the user's policy, and its form for display.
///
/// # Errors
/// When there is no home, because a policy that cannot be found must not seem to be absent.
pub(crate) fn user_file() -> anyhow::Result<(PathBuf, String)> {
    if let Some(base) = directory(XDG_CONFIG_VARIABLE) {
        let path = base.join(USER_FILE);
        let name = path.display().to_string();
        return Ok((path, name));
    }
    let home = home().with_context(|| {
        format!(
            "cannot tell where your policy is: {HOME_VARIABLE} is not an absolute path, or it is not \
             set and /etc/passwd has no home of yours; set {HOME_VARIABLE}"
        )
    })?;
    let path = home.join(".config").join(USER_FILE);
    Ok((path, format!("~/.config/{USER_FILE}")))
}

/// Returns the home that a session also uses: that of the variable, or if that is not set, that of
/// the user's account.
pub(crate) fn home() -> Option<PathBuf> {
    match std::env::var_os(HOME_VARIABLE).filter(|home| !home.is_empty()) {
        Some(_) => directory(HOME_VARIABLE),
        None => stockade_runner::account_home().filter(|home| home.is_absolute()),
    }
}

/// Returns the directory that a variable names; a relative path would depend on the current
/// directory.
pub(crate) fn directory(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}
