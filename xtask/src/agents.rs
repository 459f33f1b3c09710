//! The real agents, installed from the package registry at fixed versions.

use std::{
    env, fs,
    io::Read,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{out, process};

/// Names a folder that contains `node_modules/.bin`, for tests and for machines without a registry.
pub(crate) const VARIABLE: &str = "STOCKADE_TEST_AGENTS";

/// A package and the version that the tests were written against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package {
    name: &'static str,
    version: &'static str,
    /// The command, the package that contains it as a native program, by platform, and its path in
    /// there.
    native: Option<(&'static str, &'static str, &'static str)>,
}

/// The agents that the tests run.
pub(crate) const AGENTS: &[Package] = &[
    Package {
        name: "@openai/codex",
        version: "0.169.0",
        native: None,
    },
    // An install script would put its launcher in place; scripts are off, so we make the link.
    Package {
        name: "@anthropic-ai/claude-code",
        version: "2.1.197",
        native: Some(("claude", "@anthropic-ai/claude-code-linux-", "claude")),
    },
    Package {
        name: "@github/copilot",
        version: "1.0.102",
        native: None,
    },
    Package {
        name: "@qwen-code/qwen-code",
        version: "0.24.4",
        native: None,
    },
    Package {
        name: "opencode-ai",
        version: "1.18.33",
        native: Some(("opencode", "opencode-linux-", "bin/opencode")),
    },
    // No agent: it checks pages for people with disabilities.
    Package {
        name: "axe-core",
        version: "4.14.1",
        native: None,
    },
];

/// Servers that tests of the pages talk to.
pub(crate) const SERVERS: &[Package] = &[Package {
    name: "oidc-provider",
    version: "9.13.3",
    native: None,
}];

/// Agents that only the labelled run needs, besides those.
pub(crate) const JOINED: &[Package] = &[Package {
    name: "@google/gemini-cli",
    version: "0.61.0",
    native: None,
}];

/// The sandboxes with which measurements compare, besides the agents.
pub(crate) const RIVALS: &[Package] = &[Package {
    name: "@anthropic-ai/sandbox-runtime",
    version: "0.0.83",
    native: None,
}];

/// Returns the folder of the installed packages; installs missing ones into the target folder.
pub(crate) fn ensure(target: &Path, packages: &[Package]) -> Result<PathBuf> {
    let folder = folder(target);
    let missing: Vec<&Package> = packages
        .iter()
        .filter(|package| !package.is_in(&folder))
        .collect();
    if missing.is_empty() {
        return Ok(folder);
    }
    let names: Vec<String> = packages
        .iter()
        .map(|package| format!("{}@{}", package.name, package.version))
        .collect();
    if env::var_os(VARIABLE).is_some() {
        bail!(
            "`{VARIABLE}` names `{}`, which does not hold {}; install them there or unset it",
            folder.display(),
            names.join(" ")
        );
    }
    out::note(format_args!(
        "agents: installing {} (once, about 1.2 GB)",
        names.join(" ")
    ));
    fs::create_dir_all(&folder)
        .with_context(|| format!("`{}` cannot be made", folder.display()))?;
    // Without its own manifest npm would climb up and install somewhere else.
    fs::write(folder.join("package.json"), "{\"private\": true}\n")
        .context("the agents' manifest cannot be written")?;
    let mut install = Command::new("npm");
    install.args([
        "install",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--no-package-lock",
        "--loglevel",
        "error",
    ]);
    process::stdout(install.arg("--prefix").arg(&folder).args(&names).current_dir(&folder))
        .with_context(|| format!("the agents could not be installed; where no registry is reached, install {} elsewhere and name the folder in `{VARIABLE}`", names.join(" ")))?;
    for package in packages {
        package.link(&folder)?;
    }
    Ok(folder)
}

/// Returns the names of packages with their versions.
pub(crate) fn versions(packages: &[Package]) -> Vec<String> {
    packages
        .iter()
        .map(|package| format!("{} {}", package.name, package.version))
        .collect()
}

/// Returns the folder in which packages are or would be installed.
pub(crate) fn folder(target: &Path) -> PathBuf {
    env::var_os(VARIABLE).map_or_else(|| target.join("agents"), PathBuf::from)
}

impl Package {
    fn is_in(&self, folder: &Path) -> bool {
        let modules = folder.join("node_modules");
        let manifest = modules.join(self.name).join("package.json");
        let text = fs::read_to_string(manifest).unwrap_or_default();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let has_version =
            value.get("version").and_then(serde_json::Value::as_str) == Some(self.version);
        // The package's own launcher only reports that its install script did not run.
        let is_ready = |(command, _, _)| is_native(&modules.join(".bin").join(command));
        has_version && self.native.is_none_or(is_ready)
    }

    fn link(&self, folder: &Path) -> Result<()> {
        let Some((command, package, path)) = self.native else {
            return Ok(());
        };
        let platform = if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "x64"
        };
        let modules = folder.join("node_modules");
        let program = Path::new("..")
            .join(format!("{package}{platform}"))
            .join(path);
        let link = modules.join(".bin").join(command);
        if !modules.join(".bin").join(&program).is_file() {
            bail!(
                "`{package}{platform}` was not installed with `{}`; is optional installing switched off",
                self.name
            );
        }
        drop(fs::remove_file(&link));
        symlink(&program, &link).with_context(|| format!("`{}` cannot be linked", link.display()))
    }
}

/// Returns whether a file is a native program and not a script.
fn is_native(path: &Path) -> bool {
    const MAGIC: &[u8] = b"\x7fELF";
    let mut start = [0; MAGIC.len()];
    fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut start))
        .is_ok()
        && start == MAGIC
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGE: Package = Package {
        name: "@lab/agent",
        version: "1.2.3",
        native: Some(("agent", "@lab/agent-linux-", "agent")),
    };

    fn installed(version: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let module = folder.path().join("node_modules/@lab/agent");
        fs::create_dir_all(&module).unwrap();
        fs::create_dir_all(folder.path().join("node_modules/.bin")).unwrap();
        fs::write(
            module.join("package.json"),
            format!("{{\"version\": \"{version}\"}}"),
        )
        .unwrap();
        folder
    }

    #[test]
    fn only_the_fixed_version_counts_as_installed() {
        let script = Package {
            native: None,
            ..PACKAGE
        };
        assert!(script.is_in(installed("1.2.3").path()));
        assert!(!script.is_in(installed("1.2.4").path()));
        assert!(!PACKAGE.is_in(Path::new("/nonexistent")));
    }

    #[test]
    fn the_command_is_the_native_program() {
        let folder = installed("1.2.3");
        assert!(PACKAGE.link(folder.path()).is_err());
        let platform = if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "x64"
        };
        let native = folder
            .path()
            .join(format!("node_modules/@lab/agent-linux-{platform}"));
        fs::create_dir_all(&native).unwrap();
        fs::write(native.join("agent"), "\x7fELFx").unwrap();
        assert!(
            !PACKAGE.is_in(folder.path()),
            "its launcher is not the program"
        );
        PACKAGE.link(folder.path()).unwrap();
        PACKAGE.link(folder.path()).unwrap();
        assert_eq!(
            fs::read_to_string(folder.path().join("node_modules/.bin/agent")).unwrap(),
            "\x7fELFx"
        );
        assert!(PACKAGE.is_in(folder.path()));
    }
}
