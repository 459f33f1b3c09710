//! The place of the repository, and Cargo's facts about it.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process;

/// Finds the repository's root folder.
///
/// Cargo passes a running `xtask` the place of its manifest, so a moved clone is found too.
pub(crate) fn root() -> Result<PathBuf> {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let start = manifest
        .map_or_else(env::current_dir, Ok)
        .context("no current directory")?;
    start
        .ancestors()
        .find(|folder| folder.join("Cargo.lock").is_file())
        .map(Path::to_path_buf)
        .with_context(|| {
            format!(
                "no `Cargo.lock` above `{}`; run `cargo xtask` inside the repository",
                start.display()
            )
        })
}

/// Returns the Cargo that started us, otherwise the one on the path.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Returns the target triple of this machine.
pub(crate) fn host_triple() -> Result<String> {
    let text = process::stdout(Command::new("rustc").arg("-vV"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("`rustc -vV` names no host")
}

/// Lists the files that are tracked or new, not the ignored ones, relative to the root.
pub(crate) fn files(root: &Path) -> Result<Vec<String>> {
    let text = process::stdout(
        Command::new("git")
            .args(["-c", "core.fsmonitor=false", "ls-files", "-z"])
            .args(["--cached", "--others", "--exclude-standard"])
            .current_dir(root),
    )?;
    let names: BTreeSet<&str> = text.split('\0').filter(|name| !name.is_empty()).collect();
    Ok(names
        .into_iter()
        .filter(|name| root.join(name).is_file())
        .map(str::to_owned)
        .collect())
}

/// The packages of the workspace and the graph that Cargo resolved, reduced to names.
#[derive(Debug, Default)]
pub(crate) struct Packages {
    /// The workspace's own packages: name to its declared dependencies.
    pub(crate) members: BTreeMap<String, Vec<Dependency>>,
    /// Every package of the graph: identity to the identities of its normal dependencies.
    pub(crate) normal_edges: BTreeMap<String, Vec<String>>,
    /// Every package of the graph: identity to name.
    pub(crate) names: BTreeMap<String, String>,
}

/// One declared dependency of a workspace package.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Nothing for a normal dependency, otherwise `dev` or `build`.
    pub(crate) kind: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
    resolve: Option<Resolve>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<NodeDep>,
}

#[derive(Deserialize)]
struct NodeDep {
    pkg: String,
    dep_kinds: Vec<DepKind>,
}

#[derive(Deserialize)]
struct DepKind {
    kind: Option<String>,
}

impl Packages {
    /// Asks Cargo, without the network if that is possible.
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let platform = host_triple()?;
        let ask = |offline: bool| {
            let mut command = cargo();
            command
                .args([
                    "metadata",
                    "--format-version",
                    "1",
                    "--filter-platform",
                    &platform,
                ])
                .current_dir(root);
            if offline {
                command.arg("--offline");
            }
            process::stdout(&mut command)
        };
        // On a fresh machine the packages of the lock file are not there yet.
        let text = ask(true).or_else(|_| ask(false))?;
        Self::parse(&text)
    }

    /// Parses the answer of `cargo metadata`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let metadata: Metadata =
            serde_json::from_str(text).context("`cargo metadata` answered something unknown")?;
        let Some(resolve) = metadata.resolve else {
            bail!("`cargo metadata` resolved no graph")
        };
        let normal = |dep: &NodeDep| dep.dep_kinds.iter().any(|kind| kind.kind.is_none());
        let edges = |node: Node| {
            (
                node.id,
                node.deps
                    .into_iter()
                    .filter(normal)
                    .map(|dep| dep.pkg)
                    .collect(),
            )
        };
        let mut packages = Self {
            normal_edges: resolve.nodes.into_iter().map(edges).collect(),
            ..Self::default()
        };
        for package in metadata.packages {
            if metadata.workspace_members.contains(&package.id) {
                packages
                    .members
                    .insert(package.name.clone(), package.dependencies);
            }
            packages.names.insert(package.id, package.name);
        }
        Ok(packages)
    }

    /// Lists the names of everything that `name` contains through normal dependencies.
    pub(crate) fn tree(&self, name: &str) -> BTreeSet<&str> {
        let mut todo: Vec<&String> = self
            .names
            .iter()
            .filter(|(_, n)| *n == name)
            .map(|(id, _)| id)
            .collect();
        let mut seen = BTreeSet::new();
        while let Some(id) = todo.pop() {
            if seen.insert(id) {
                todo.extend(self.normal_edges.get(id).into_iter().flatten());
            }
        }
        seen.into_iter()
            .filter_map(|id| self.names.get(id))
            .map(String::as_str)
            .collect()
    }
}

/// Returns the folder of build results: `$CARGO_TARGET_DIR`, otherwise `target`.
pub(crate) fn target_dir(root: &Path) -> Result<PathBuf> {
    let text = process::stdout(
        cargo()
            .args([
                "metadata",
                "--format-version",
                "1",
                "--no-deps",
                "--offline",
            ])
            .current_dir(root),
    )?;
    let value: serde_json::Value =
        serde_json::from_str(&text).context("`cargo metadata` answered something unknown")?;
    value
        .get("target_directory")
        .and_then(serde_json::Value::as_str)
        .map(PathBuf::from)
        .context("`cargo metadata` names no target folder")
}
