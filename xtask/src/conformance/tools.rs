//! The programs that rows need: installed if a registry can be reached, otherwise reported.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    agents,
    conformance::row::{Need, Row},
    out, process,
    test::packages,
    user,
};

/// The installed programs, and those that could not be installed.
pub(super) struct Tools {
    folder: PathBuf,
    agents: PathBuf,
    missing: BTreeMap<Need, String>,
}

impl Tools {
    /// Installs what the rows need into the target folder and, as root, from Debian.
    pub(super) fn install(target: &Path, rows: &[Row]) -> Result<Self> {
        let mut tools = Self {
            folder: target.join("conformance"),
            agents: agents::folder(target),
            missing: BTreeMap::new(),
        };
        fs::create_dir_all(&tools.folder)
            .with_context(|| format!("`{}` cannot be made", tools.folder.display()))?;
        let mut needs: Vec<Need> = rows.iter().flat_map(|row| row.needs).copied().collect();
        needs.sort_unstable();
        needs.dedup();
        system(&needs);
        for need in needs {
            if let Err(error) = tools.one(target, need) {
                tools.missing.insert(need, format!("{error:#}"));
            }
        }
        Ok(tools)
    }

    fn one(&self, target: &Path, need: Need) -> Result<()> {
        match need {
            Need::System(program, package) => user::find_for_all(program)
                .map(drop)
                .with_context(|| format!("`{program}` is not here; install {package}")),
            Need::Npm(names) => self.npm(names),
            Need::Pip(names) => self.pip(names),
            Need::Rust => toolchain().map(drop),
            Need::Agent(_) => agents::ensure(target, agents::AGENTS).map(drop),
        }
    }

    fn npm(&self, names: &[&str]) -> Result<()> {
        let prefix = self.prefix(names);
        if prefix.join("bin").is_dir() {
            return Ok(());
        }
        out::note(format_args!("conformance: installing {}", names.join(" ")));
        let mut install = Command::new("npm");
        install
            .args(["install", "--global", "--ignore-scripts", "--no-audit"])
            .args(["--no-fund", "--loglevel", "error", "--prefix"])
            .arg(&prefix)
            .args(names);
        process::stdout(&mut install).map(drop)
    }

    fn pip(&self, names: &[&str]) -> Result<()> {
        let prefix = self.prefix(names);
        if prefix.join("bin").is_dir() {
            return Ok(());
        }
        out::note(format_args!("conformance: installing {}", names.join(" ")));
        let mut install = Command::new("/usr/bin/python3");
        install
            .args(["-m", "pip", "install", "--quiet", "--user"])
            .args(["--break-system-packages", "--no-warn-script-location"])
            .args(["--root-user-action", "ignore", "--ignore-installed"])
            .env("PYTHONUSERBASE", &prefix)
            .args(names);
        process::stdout(&mut install).map(drop)
    }

    fn prefix(&self, names: &[&str]) -> PathBuf {
        let name: String = names
            .join("+")
            .chars()
            .map(|letter| if letter == '/' { '_' } else { letter })
            .collect();
        self.folder.join(name)
    }

    /// Lists what a row lacks; empty if it can be tried.
    pub(super) fn missing(&self, row: &Row) -> Vec<String> {
        row.needs
            .iter()
            .filter_map(|need| self.missing.get(need).cloned())
            .collect()
    }

    /// Puts the tools of a row into a home, with their files as links.
    pub(super) fn bring(&self, row: &Row, home: &Path) -> Result<()> {
        for need in row.needs {
            match need {
                Need::System(..) => {}
                Need::Npm(names) | Need::Pip(names) => {
                    tree(&self.prefix(names), &home.join(".local"))?;
                }
                Need::Rust => bring_toolchain(home)?,
                Need::Agent(name) => self.bring_agent(name, home)?,
            }
        }
        Ok(())
    }

    fn bring_agent(&self, name: &str, home: &Path) -> Result<()> {
        let modules = home.join(".local/lib/node_modules");
        tree(&self.agents.join("node_modules"), &modules)?;
        let bin = home.join(".local/bin");
        fs::create_dir_all(&bin).with_context(|| format!("`{}` cannot be made", bin.display()))?;
        let program = fs::read_link(modules.join(".bin").join(name))
            .with_context(|| format!("`{name}` is not installed"))?;
        let program = Path::new("../lib/node_modules/.bin").join(program);
        std::os::unix::fs::symlink(program, bin.join(name))
            .with_context(|| format!("`{name}` cannot be linked"))
    }
}

/// Installs all Debian packages at once.
fn system(needs: &[Need]) {
    let programs: Vec<(&str, &str)> = needs
        .iter()
        .filter_map(|need| match need {
            Need::System(program, package) => Some((*program, *package)),
            Need::Npm(_) | Need::Pip(_) | Need::Rust | Need::Agent(_) => None,
        })
        .collect();
    if let Err(error) = packages::ensure(&programs) {
        out::note(format_args!("conformance: {error:#}"));
    }
}

/// Copies a folder's content into another one. Links are not possible: the home later gets another
/// owner, and so would the machine's own files.
fn tree(source: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("`{}` cannot be made", target.display()))?;
    let content = source.join(".");
    let mut copy = Command::new("cp");
    copy.args(["-a", "--reflink=auto"])
        .arg(&content)
        .arg(target);
    process::stdout(&mut copy)?;
    Ok(())
}

/// Returns the folder of the toolchain that builds this project.
fn toolchain() -> Result<PathBuf> {
    let root = process::stdout(Command::new("rustc").args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(root.trim()))
}

/// Lays the toolchain out as rustup does, without its documentation.
fn bring_toolchain(home: &Path) -> Result<()> {
    let source = toolchain()?;
    let name = source.file_name().context("the toolchain has no name")?;
    let target = home.join(".rustup/toolchains").join(name);
    for part in ["bin", "lib", "libexec"] {
        if source.join(part).is_dir() {
            tree(&source.join(part), &target.join(part))?;
        }
    }
    let settings = format!(
        "version = \"12\"\ndefault_toolchain = \"{}\"\nprofile = \"minimal\"\n[overrides]\n",
        name.to_string_lossy()
    );
    fs::create_dir_all(home.join(".rustup/update-hashes"))
        .context("the folder of rustup cannot be made")?;
    fs::write(home.join(".rustup/settings.toml"), settings)
        .context("the settings of rustup cannot be written")?;
    let bin = home.join(".cargo/bin");
    fs::create_dir_all(&bin).with_context(|| format!("`{}` cannot be made", bin.display()))?;
    let own = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let rustup = own.join(".cargo/bin/rustup");
    fs::copy(&rustup, bin.join("rustup"))
        .with_context(|| format!("`{}` is not there", rustup.display()))?;
    for proxy in [
        "cargo",
        "rustc",
        "rustfmt",
        "rustdoc",
        "cargo-clippy",
        "clippy-driver",
        "cargo-fmt",
    ] {
        std::os::unix::fs::symlink("rustup", bin.join(proxy))
            .with_context(|| format!("`{proxy}` cannot be linked"))?;
    }
    Ok(())
}
