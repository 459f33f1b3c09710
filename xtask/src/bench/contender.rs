//! What is measured: the same command bare, in our boundary and in other sandboxes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{agents, process, stage::Stage, user};

/// A way to run a command.
#[derive(Clone, Debug)]
pub(super) enum Contender {
    Bare,
    Stockade { program: PathBuf },
    Bubblewrap,
    Codex { program: PathBuf },
    SandboxRuntime { program: PathBuf, settings: PathBuf },
}

/// What a command may write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writes {
    Nothing,
    Workspace,
}

/// The contenders that are here, and the names of the others with the reason.
pub(super) struct Field {
    pub(super) present: Vec<Contender>,
    pub(super) absent: Vec<String>,
}

impl Contender {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Stockade { .. } => "stockade",
            Self::Bubblewrap => "bubblewrap",
            Self::Codex { .. } => "codex sandbox",
            Self::SandboxRuntime { .. } => "sandbox-runtime",
        }
    }

    /// Wraps a command; everyone gets the same environment, folder and user from the caller.
    pub(super) fn command(&self, workspace: &Path, argv: &[&str], writes: Writes) -> Command {
        match self {
            Self::Bare => {
                let (program, rest) = argv.split_first().unwrap_or((&"true", &[]));
                let mut command = Command::new(program);
                command.args(rest);
                command
            }
            Self::Stockade { program } => {
                let mut command = session(program, workspace);
                command.arg("--").args(argv);
                command
            }
            Self::Bubblewrap => {
                let mut command = Command::new("bwrap");
                command.args([
                    "--die-with-parent",
                    "--unshare-all",
                    "--ro-bind",
                    "/",
                    "/",
                    "--dev",
                    "/dev",
                    "--proc",
                    "/proc",
                    "--tmpfs",
                    "/tmp",
                ]);
                if writes == Writes::Workspace {
                    command.arg("--bind").arg(workspace).arg(workspace);
                }
                command.args(argv);
                command
            }
            Self::Codex { program } => {
                let mut command = Command::new(program);
                command
                    .args(["sandbox", "-c", "sandbox_mode=\"workspace-write\"", "--"])
                    .args(argv);
                command
            }
            Self::SandboxRuntime { program, settings } => {
                let mut command = Command::new(program);
                command
                    .arg("--settings")
                    .arg(settings)
                    .arg("-c")
                    .arg(shell_line(argv));
                command
            }
        }
    }
}

/// Begins a session of ours that asks nobody and says nothing; further options and `--` follow.
pub(super) fn session(program: &Path, workspace: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args(["run", "--ask", "deny", "--summary", "none", "--workspace"])
        .arg(workspace);
    command
}

impl Field {
    /// Looks for every contender and brings it to where the measuring user can run it.
    pub(super) fn gather(
        stockade: &Path,
        agents_folder: &Path,
        workspace: &Path,
        stage: &Stage,
    ) -> Result<Self> {
        let program = stage.copy(stockade, "bin/stockade")?;
        let mut field = Self {
            present: vec![Contender::Bare, Contender::Stockade { program }],
            absent: Vec::new(),
        };
        field.take(
            "bubblewrap",
            user::find_for_all("bwrap").map(|_| Contender::Bubblewrap),
            "bubblewrap is not installed",
        );
        let modules = agents_folder.join("node_modules");
        let has_modules = modules.is_dir();
        if has_modules {
            stage.tree(&modules, "node_modules")?;
        }
        let modules = stage.path("node_modules");
        let codex = native_codex(&modules).map(|program| Contender::Codex { program });
        field.take("codex sandbox", codex, "its package is not installed");
        field.take(
            "sandbox-runtime",
            sandbox_runtime(&modules, workspace, stage)?,
            "srt, socat or ripgrep is not installed",
        );
        Ok(field)
    }

    fn take(&mut self, name: &str, contender: Option<Contender>, reason: &str) {
        match contender {
            Some(contender) => self.present.push(contender),
            None => self.absent.push(format!(
                "{name}: {reason} (`cargo xtask bench --install-rivals`)"
            )),
        }
    }
}

/// The native program, without the launcher around it, so that it is measured at its best.
pub(crate) fn native_codex(modules: &Path) -> Option<PathBuf> {
    let platforms = fs::read_dir(modules.join("@openai")).ok()?;
    let vendors = platforms
        .flatten()
        .filter_map(|platform| fs::read_dir(platform.path().join("vendor")).ok());
    vendors
        .flatten()
        .flatten()
        .map(|vendor| vendor.path().join("bin/codex"))
        .find(|program| program.is_file())
}

fn sandbox_runtime(modules: &Path, workspace: &Path, stage: &Stage) -> Result<Option<Contender>> {
    let program = modules.join(".bin/srt");
    let has_all = ["node", "bwrap", "socat", "rg"]
        .iter()
        .all(|program| user::find_for_all(program).is_some());
    if !program.exists() || !has_all {
        return Ok(None);
    }
    let settings = stage.path("srt.json");
    let text = serde_json::json!({
        "network": {"allowedDomains": [], "deniedDomains": []},
        "filesystem": {"denyRead": [], "allowWrite": [workspace], "denyWrite": []},
    });
    fs::write(&settings, text.to_string())
        .context("the settings of sandbox-runtime cannot be written")?;
    Ok(Some(Contender::SandboxRuntime { program, settings }))
}

/// Quotes arguments for a shell.
pub(crate) fn shell_line(argv: &[&str]) -> String {
    let quoted: Vec<String> = argv
        .iter()
        .map(|arg| format!("'{}'", arg.replace('\'', r"'\''")))
        .collect();
    quoted.join(" ")
}

/// Says which versions were measured.
pub(super) fn versions(field: &Field) -> Vec<String> {
    let mut versions = Vec::new();
    for contender in &field.present {
        let mut ask = match contender {
            Contender::Bare => continue,
            Contender::Stockade { program } | Contender::Codex { program } => Command::new(program),
            Contender::Bubblewrap => Command::new("bwrap"),
            Contender::SandboxRuntime { .. } => {
                versions.extend(agents::versions(agents::RIVALS));
                continue;
            }
        };
        if let Ok(text) = process::stdout(ask.arg("--version")) {
            versions.push(text.trim().to_owned());
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_quoted_arguments_back() {
        let arguments = ["printf", "%s|", "a b", "it's", "$HOME", ""];
        let printed =
            process::stdout(Command::new("sh").arg("-c").arg(shell_line(&arguments))).unwrap();
        assert_eq!(printed, "a b|it's|$HOME||");
    }

    #[test]
    fn only_a_writing_workload_gets_the_workspace_from_bubblewrap() {
        let line = |writes| {
            process::describe(&Contender::Bubblewrap.command(Path::new("/ws"), &["true"], writes))
        };
        assert!(!line(Writes::Nothing).contains("/ws"));
        assert!(line(Writes::Workspace).ends_with("--bind /ws /ws true"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let stage = Stage::new().unwrap();
        let program = std::env::current_exe().unwrap();
        let field = Field::gather(
            &program,
            Path::new("/nonexistent"),
            Path::new("/ws"),
            &stage,
        )
        .unwrap();
        let names: Vec<_> = field.present.iter().map(Contender::name).collect();
        assert!(names.starts_with(&["bare", "stockade"]), "{names:?}");
        assert!(
            field
                .absent
                .iter()
                .any(|line| line.starts_with("codex sandbox: ")),
            "{:?}",
            field.absent
        );
    }
}
