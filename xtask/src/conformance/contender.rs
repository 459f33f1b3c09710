//! The ways in which a row is tried.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::ground::Ground;
use crate::{agents, bench::contender as rivals, process, test::packages, user};

/// A way to run a command.
pub(super) enum Contender {
    Bare,
    Stockade { program: PathBuf },
    Codex { program: PathBuf },
    SandboxRuntime { program: PathBuf, settings: PathBuf },
}

/// The contenders that are here, and the names of the others with the reason.
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

    /// Wraps a script: ours with nothing configured, the others as they are used for work that
    /// needs the network.
    pub(super) fn command(&self, script: &str) -> Command {
        let argv = ["bash", "-c", script];
        match self {
            Self::Bare => {
                let mut command = Command::new("bash");
                command.args(["-c", script]);
                command
            }
            Self::Stockade { program } => {
                let mut command = Command::new(program);
                command.args(["run", "--ask", "inbox", "--"]).args(argv);
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
    /// Brings every contender to where the trying user can run it.
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
        drop(packages::ensure(packages::RIVALS));
        let installed = agents::ensure(target, &[agents::AGENTS, agents::RIVALS].concat());
        if let Err(error) = installed {
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
            fs::write(&settings, srt_settings(ground).to_string())
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

/// What its documents show: the project and `/tmp` can be written, the registries reached.
fn srt_settings(ground: &Ground) -> serde_json::Value {
    serde_json::json!({
        "network": {"allowedDomains": registries(), "deniedDomains": [], "allowLocalBinding": true},
        "filesystem": {"denyRead": [], "allowWrite": [ground.workspace(), "/tmp"], "denyWrite": []},
    })
}

/// The hosts of the package registries, as the installed clients name them.
fn registries() -> Vec<String> {
    let mut npm = Command::new("npm");
    npm.args(["config", "get", "registry"]);
    let mut pip = Command::new("/usr/bin/python3");
    pip.args([
        "-c",
        "from pip._internal.models.index import PyPI as i; print(i.simple_url); print('https://' + i.file_storage_domain)",
    ]);
    let mut hosts: Vec<String> = [npm, pip]
        .iter_mut()
        .filter_map(|client| process::stdout(client).ok())
        .flat_map(|text| text.lines().filter_map(host_of).collect::<Vec<_>>())
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

fn host_of(address: &str) -> Option<String> {
    let (_, rest) = address.trim().split_once("://")?;
    let host = rest.split(['/', ':']).next()?;
    (!host.is_empty()).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_from_addresses() {
        assert_eq!(
            host_of("https://registry.test/x/"),
            Some("registry.test".to_owned())
        );
        assert_eq!(
            host_of("http://registry.test:4873/\n"),
            Some("registry.test".to_owned())
        );
        assert_eq!(host_of("undefined"), None);
    }

    #[test]
    fn ours_is_tried_with_nothing_configured() {
        let ours = Contender::Stockade {
            program: "/s".into(),
        };
        assert_eq!(
            process::describe(&ours.command("x")),
            "/s run --ask inbox -- bash -c x"
        );
    }
}
