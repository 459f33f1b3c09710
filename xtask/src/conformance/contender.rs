//! The ways in which a row is tried.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{ground::Ground, network};
use crate::{agents, bench::contender as rivals, process, test::packages, user};

/// A way to run a command.
pub(super) enum Contender {
    Bare,
    Stockade { program: PathBuf },
    Codex { program: PathBuf },
    SandboxRuntime { program: PathBuf, settings: PathBuf },
}

/// The contenders that exist here, and the names of the others with the reason.
pub(super) struct Field {
    pub(super) present: Vec<Contender>,
    pub(super) absent: Vec<String>,
    pub(super) versions: Vec<String>,
}

impl Contender {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Stockade { .. } => "stockade",
            Self::Codex { .. } => "codex sandbox",
            Self::SandboxRuntime { .. } => "sandbox-runtime",
        }
    }

    pub(super) const fn is_bare(&self) -> bool {
        matches!(self, Self::Bare)
    }

    /// Wraps a script: ours without configuration, the others in their usual configuration for work
    /// that needs the network.
    pub(super) fn command(&self, script: &str, profile: &str) -> Command {
        let argv = ["bash", "-c", script];
        match self {
            Self::Bare => {
                let mut command = Command::new("bash");
                command.args(["-c", script]);
                command
            }
            Self::Stockade { program } => {
                let mut command = Command::new(program);
                command.args(["run", "--ask", "inbox"]);
                if !profile.is_empty() {
                    command.args(["--profile", profile]);
                }
                command.arg("--").args(argv);
                command
            }
            Self::Codex { program } => {
                let mut command = Command::new(program);
                command
                    .args(["sandbox", "-c", "sandbox_mode=\"workspace-write\""])
                    .args(["-c", "sandbox_workspace_write.network_access=true", "--"])
                    .args(argv);
                command
            }
            Self::SandboxRuntime { program, settings } => {
                let mut command = Command::new(program);
                command
                    .arg("--settings")
                    .arg(settings)
                    .arg("-c")
                    .arg(rivals::shell_line(&argv));
                command
            }
        }
    }
}

impl Field {
    /// Puts every contender where the trying user can run it.
    pub(super) fn gather(
        program: &Path,
        target: &Path,
        ground: &Ground,
        ours: bool,
    ) -> Result<Self> {
        let program = ground.stage.copy(program, "bin/stockade")?;
        let mut field = Self {
            present: vec![Contender::Bare, Contender::Stockade { program }],
            absent: Vec::new(),
            versions: Vec::new(),
        };
        if ours {
            return Ok(field);
        }
        if let Err(error) = install(target) {
            field
                .absent
                .push(format!("codex sandbox, sandbox-runtime: {error:#}"));
            return Ok(field);
        }
        ground
            .stage
            .tree(&agents::folder(target).join("node_modules"), "node_modules")?;
        let modules = ground.stage.path("node_modules");
        match rivals::native_codex(&modules) {
            Some(program) => {
                let version = process::stdout(Command::new(&program).arg("--version"))?;
                field.versions.push(version.trim().to_owned());
                field.present.push(Contender::Codex { program });
            }
            None => field
                .absent
                .push("codex sandbox: its program is not in its package".to_owned()),
        }
        let has_all = ["node", "bwrap", "socat", "rg"]
            .iter()
            .all(|program| user::find_for_all(program).is_some());
        if has_all {
            let settings = ground.stage.path("srt.json");
            fs::write(&settings, srt_settings(target, ground).to_string())
                .context("the settings of sandbox-runtime cannot be written")?;
            let program = modules.join(".bin/srt");
            field.versions.extend(agents::versions(agents::RIVALS));
            field
                .present
                .push(Contender::SandboxRuntime { program, settings });
        } else {
            field
                .absent
                .push("sandbox-runtime: socat or ripgrep is not installed".to_owned());
        }
        Ok(field)
    }
}

/// Installs the other sandboxes and their dependencies.
pub(super) fn install(target: &Path) -> Result<()> {
    let missing = packages::ensure(packages::RIVALS)?;
    if !missing.is_empty() {
        bail!("install {} first; that needs root", missing.join(" "));
    }
    agents::ensure(target, &[agents::AGENTS, agents::RIVALS].concat()).map(drop)
}

/// The settings from its documents: the project and `/tmp` are writable, the registries reachable.
fn srt_settings(target: &Path, ground: &Ground) -> serde_json::Value {
    serde_json::json!({
        "network": {"allowedDomains": network::registries(target), "deniedDomains": [], "allowLocalBinding": true},
        "filesystem": {"denyRead": [], "allowWrite": [ground.workspace(), "/tmp"], "denyWrite": []},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_tried_with_nothing_configured() {
        let ours = Contender::Stockade {
            program: "/s".into(),
        };
        assert_eq!(
            process::describe(&ours.command("x", "")),
            "/s run --ask inbox -- bash -c x"
        );
    }
}
