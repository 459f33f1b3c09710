//! The files that belong to a program on the disk, judged by its path: no more than it needs to
//! run.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Names at the top of an installation of one language, and of nothing else.
const INSTALLATION: [&str; 25] = [
    "bin",
    "cmake",
    "compiler_compat",
    "conda-meta",
    "condabin",
    "doc",
    "docs",
    "envs",
    "etc",
    "include",
    "lib",
    "lib32",
    "lib64",
    "libexec",
    "man",
    "mkspecs",
    "pkgs",
    "plugins",
    "sbin",
    "shell",
    "share",
    "ssl",
    "sysroot",
    "x86_64-conda-linux-gnu",
    "x86_64-conda_cos6-linux-gnu",
];
/// Texts that installations have at the top.
const TEXTS: [&str; 5] = ["LICENSE", "README", "CHANGELOG", "COPYING", "components"];
/// Entries at the top that are examined; a directory with more is not an installation.
const ENTRIES_MAX: usize = 64;

/// The files that belong to a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Package {
    /// Sets of files and directories; the first permitted set is brought along.
    pub(crate) choices: Vec<Vec<PathBuf>>,
    /// Other programs of the same package.
    pub(crate) companions: Vec<PathBuf>,
}

impl Package {
    fn one(path: PathBuf) -> Self {
        Self {
            choices: vec![vec![path]],
            companions: Vec::new(),
        }
    }
}

/// Returns the files that belong to the program or link at `path`.
pub(crate) fn of(path: &Path) -> Package {
    if let Some(package) = node_package(path) {
        return Package::one(package);
    }
    let Some(directory) = path.parent() else {
        return Package::default();
    };
    // `…/share/agent/versions/1.2.3/agent`, with everything that this version loads.
    let above = directory.parent().and_then(Path::file_name);
    if above == Some(OsStr::new("versions")) {
        return Package::one(directory.to_owned());
    }
    if directory.file_name() != Some(OsStr::new("bin")) {
        return Package::default();
    }
    directory
        .parent()
        .map(|prefix| of_prefix(prefix, path.file_name().unwrap_or_default()))
        .unwrap_or_default()
}

/// Returns the package of a script in `node_modules`. A global one has its own directory with
/// everything it needs (npm-folders(5)); elsewhere packages share the modules beside them.
fn node_package(path: &Path) -> Option<PathBuf> {
    let is_modules = |p: &&Path| p.file_name() == Some(OsStr::new("node_modules"));
    let modules = path.ancestors().filter(is_modules).last()?;
    let is_global = modules.parent().and_then(Path::file_name) == Some(OsStr::new("lib"));
    if !is_global {
        return Some(modules.to_owned());
    }
    let below = path.strip_prefix(modules).ok()?;
    let mut parts = below.iter();
    let name = parts.next()?;
    let package = modules.join(name);
    let scoped = name.as_bytes().starts_with(b"@");
    match parts.next().filter(|_| scoped) {
        Some(name) => Some(package.join(name)),
        None => Some(package),
    }
}

/// Returns the files that a program in `PREFIX/bin` loads from the prefix.
fn of_prefix(prefix: &Path, name: &OsStr) -> Package {
    let lib = prefix.join("lib");
    let begins = |beginning: &[u8]| -> Vec<PathBuf> {
        let entries = fs::read_dir(&lib).into_iter().flatten().flatten();
        // A link could point anywhere; its target has its own name here.
        let found = entries.filter(|entry| {
            entry.file_name().as_bytes().starts_with(beginning)
                && entry.file_type().is_ok_and(|kind| !kind.is_symlink())
        });
        found.map(|entry| entry.path()).collect()
    };
    let exists = |name: &str| prefix.join(name).exists();
    // Without its own node, the prefix is only a place for packages, which name what they need.
    let modules = exists("lib/node_modules") && exists("bin/node");
    let python = begins(b"python3");
    let (venv, rust) = (exists("pyvenv.cfg"), exists("lib/rustlib"));
    if !venv && !modules && !rust && python.is_empty() {
        return Package::default();
    }
    let mut choices = Vec::new();
    // A virtual environment and a conda installation identify themselves.
    if venv || exists("conda-meta") || is_installation(prefix) {
        choices.push(vec![prefix.to_owned()]);
    }
    let mut narrow = python;
    narrow.extend(begins(b"libpython"));
    if rust {
        narrow.push(lib.join("rustlib"));
        narrow.extend(begins(b"librustc_driver"));
        narrow.extend(begins(b"libLLVM"));
    }
    choices.push(narrow);
    let companions = if modules && name == "node" {
        ["npm", "npx", "corepack"]
            .map(|name| prefix.join("bin").join(name))
            .into()
    } else {
        Vec::new()
    };
    Package {
        choices,
        companions,
    }
}

/// Whether a directory is the prefix of one installation and contains nothing else.
fn is_installation(prefix: &Path) -> bool {
    // The user's own prefix has many installations and much other content.
    if prefix.file_name() == Some(OsStr::new(".local")) {
        return false;
    }
    let Ok(entries) = fs::read_dir(prefix) else {
        return false;
    };
    let mut count = 0;
    for entry in entries {
        count += 1;
        let name = entry.map(|entry| entry.file_name()).unwrap_or_default();
        let is_known = name.to_str().is_some_and(|name| {
            INSTALLATION.contains(&name) || TEXTS.iter().any(|text| name.starts_with(text))
        });
        if !is_known || count > ENTRIES_MAX {
            return false;
        }
    }
    true
}
