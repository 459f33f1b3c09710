//! The home and the workspace of one try, and the user who makes it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    process,
    stage::Stage,
    user::{self, User},
};

/// Every owner's settings, so that commits can be made.
const GIT_SETTINGS: &str = "[user]\n\tname = Lab\n\temail = lab@lab.test\n[init]\n\tdefaultBranch = main\n[advice]\n\tdefaultBranchName = false\n";

/// Variables for this machine's own certificates, if it has any, as in a login on it.
const CERTIFICATES: &[&str] = &[
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
];

/// The place of the tries, which run one after the other.
pub(super) struct Ground {
    pub(super) stage: Stage,
    pub(super) account: Option<User>,
}

impl Ground {
    /// If we are root, an ordinary user makes the tries, because that is the main use.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            account: super::as_whom()?,
            stage: Stage::new()?,
        })
    }

    /// The home of the trying user.
    pub(super) fn home(&self) -> PathBuf {
        self.stage.path("home")
    }

    /// The workspace: a directory of the home.
    pub(super) fn workspace(&self) -> PathBuf {
        self.home().join("work")
    }

    /// Replaces home and workspace with empty ones; `fill` adds to the home.
    pub(super) fn renew(&self, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let home = self.home();
        if home.exists() {
            // Go writes its module cache read-only.
            drop(process::output(
                Command::new("chmod").args(["-R", "u+w"]).arg(&home),
            ));
            fs::remove_dir_all(&home)
                .with_context(|| format!("`{}` cannot be removed", home.display()))?;
        }
        self.stage.folder("home", self.account)?;
        fill(&home)?;
        self.stage.folder("home/work", self.account)?;
        fs::write(home.join(".gitconfig"), GIT_SETTINGS)
            .context("the settings of git cannot be written")?;
        if let Some(User { uid, gid }) = self.account {
            let mut chown = Command::new("chown");
            chown.args(["-R", "-h", &format!("{uid}:{gid}")]).arg(&home);
            process::stdout(&mut chown)?;
        }
        Ok(())
    }

    /// Makes a command run in the workspace as the trying user, in an ordinary login's environment.
    pub(super) fn prepare(&self, command: &mut Command) {
        let home = self.home();
        match self.account {
            Some(account) => account.apply(command, &home),
            None => user::clean_environment(command, &home),
        }
        let path = format!(
            "{0}/.local/bin:{0}/.cargo/bin:{1}",
            home.display(),
            user::SYSTEM_PATH
        );
        for name in CERTIFICATES {
            if let Some(file) = env::var_os(name) {
                command.env(name, file);
            }
        }
        command
            .env("PATH", path)
            .env("SHELL", "/bin/bash")
            .env("LANG", "C.UTF-8")
            .env("TERM", "xterm-256color")
            .current_dir(self.workspace());
    }
}
