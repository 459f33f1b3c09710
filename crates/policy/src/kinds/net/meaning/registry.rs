//! How the paths of registries are read: which package they name, and what of it.

use serde::{Deserialize, Serialize};

/// A protocol of registries.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Ecosystem {
    /// JavaScript.
    Npm,
    /// Python.
    Pypi,
    /// Rust.
    Crates,
    /// Debian and what is made of it.
    Debian,
    /// Images of containers.
    Oci,
    /// Go.
    Go,
}

/// What of a package is asked for.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum PackagePart {
    /// A list or a description, with nothing in it that runs.
    Description,
    /// The file of this version.
    Version(String),
    /// Perhaps the file of a version.
    Unknown,
}

/// What a path names.
#[derive(Debug)]
pub(super) struct Named {
    /// The package, if it is certain.
    pub(super) name: Option<String>,
    /// Otherwise what it can be; nothing if it can be any.
    pub(super) candidates: Vec<String>,
    /// What of it.
    pub(super) part: PackagePart,
}

impl Default for Named {
    /// What could be anything.
    fn default() -> Self {
        Self {
            name: None,
            candidates: Vec::new(),
            part: PackagePart::Unknown,
        }
    }
}

impl Named {
    fn certain(name: impl Into<String>, part: PackagePart) -> Self {
        Self {
            name: Some(name.into()),
            candidates: Vec::new(),
            part,
        }
    }

    /// What is about no package in particular, or about several.
    const fn none(part: PackagePart) -> Self {
        Self {
            name: None,
            candidates: Vec::new(),
            part,
        }
    }

    /// Makes one of several names certain if there is no other.
    fn one_of(mut names: Vec<String>, part: PackagePart) -> Self {
        names.dedup();
        match names.as_slice() {
            [name] => Self::certain(name.clone(), part),
            _ => Self {
                name: None,
                candidates: names,
                part,
            },
        }
    }
}

/// Endings of files that packages come in.
const ARCHIVES: [&str; 12] = [
    ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar", ".zip", ".whl", ".egg", ".crate", ".deb",
    ".udeb", ".dsc",
];

/// Reads a path without its leading slash.
pub(super) fn read(ecosystem: Ecosystem, path: &str) -> Named {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let named = match ecosystem {
        Ecosystem::Npm => npm(&parts),
        Ecosystem::Pypi => pypi(&parts),
        Ecosystem::Crates => crates(&parts),
        Ecosystem::Debian => debian(&parts),
        Ecosystem::Oci => oci(path),
        Ecosystem::Go => go(path),
    };
    // A file such as `-1.0.whl` is of no package that can be named, and so of any.
    if named.name.as_deref() == Some("") {
        Named::default()
    } else {
        named
    }
}

fn is_archive(file: &str) -> bool {
    // Some servers do not tell small letters from large ones.
    let file = file.to_ascii_lowercase();
    ARCHIVES.iter().any(|end| file.ends_with(end))
}

/// Reads a path of which only the end of its file tells what it can be: clients install nothing that does
/// not end as an archive does, unless a registry has a service for downloads.
fn elsewhere(last: &str) -> Named {
    Named::none(if is_archive(last) || last == "download" {
        PackagePart::Unknown
    } else {
        PackagePart::Description
    })
}

/// Below a path that is not known, the name is the last part of it or, where that can be a version or a
/// tag, the one before.
fn npm(parts: &[&str]) -> Named {
    if let [front @ .., "-", file] = parts
        && let Some((name, bare, is_whole)) = npm_name(front)
        && is_archive(file)
    {
        let version = file
            .strip_suffix(".tgz")
            .unwrap_or_default()
            .strip_prefix(bare)
            .and_then(|rest| rest.strip_prefix('-'));
        let part = version.map_or(PackagePart::Unknown, |version| {
            PackagePart::Version(version.to_owned())
        });
        return if is_whole {
            Named::certain(name, part)
        } else {
            Named {
                name: None,
                candidates: vec![name],
                part,
            }
        };
    }
    let last = parts.last().copied().unwrap_or_default();
    let part = if is_archive(last) || parts.contains(&"download") {
        PackagePart::Unknown
    } else {
        PackagePart::Description
    };
    match parts {
        _ if parts.contains(&"-") || part == PackagePart::Unknown => Named::none(part),
        [name] if !name.starts_with('@') => Named::certain(*name, part),
        [scope, name] if scope.starts_with('@') => Named::certain(format!("{scope}/{name}"), part),
        [.., scope, name] if scope.starts_with('@') => Named {
            name: None,
            candidates: vec![format!("{scope}/{name}")],
            part,
        },
        [.., scope, name, _] if scope.starts_with('@') => Named {
            name: None,
            candidates: vec![format!("{scope}/{name}")],
            part,
        },
        [.., name, other] if !parts.iter().any(|part| part.starts_with('@')) => Named {
            name: None,
            candidates: vec![(*name).to_owned(), (*other).to_owned()],
            part,
        },
        _ => Named::none(part),
    }
}

/// Finds the name at the end of what is before `/-/`: whole, without its scope, and whether there is
/// nothing before it.
fn npm_name<'p>(front: &[&'p str]) -> Option<(String, &'p str, bool)> {
    match front {
        [above @ .., scope, name] if scope.starts_with('@') => {
            Some((format!("{scope}/{name}"), name, above.is_empty()))
        }
        [above @ .., name] => Some(((*name).to_owned(), name, above.is_empty())),
        [] => None,
    }
}

fn pypi(parts: &[&str]) -> Named {
    match parts {
        [.., "simple", name] | [.., "pypi", name, "json"] | [.., "pypi", name, _, "json"] => {
            Named::certain(normal(name), PackagePart::Description)
        }
        [.., "simple"] => Named::none(PackagePart::Description),
        [.., file] if parts.len() > 1 => distribution(file),
        [file] if is_archive(file) => Named::default(),
        _ => Named::none(PackagePart::Description),
    }
}

/// Writes a name of Python as the simple index does (PEP 503).
fn normal(name: &str) -> String {
    let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

/// Reads the name of a file for Python; a wheel has no `-` in the name of the package, a source can have
/// one in it and in its version.
fn distribution(file: &str) -> Named {
    let whole = file;
    let file = [".metadata", ".asc", ".provenance"]
        .iter()
        .find_map(|end| file.strip_suffix(end))
        .unwrap_or(file);
    let part = |version: &str| {
        if whole == file {
            PackagePart::Version(version.to_owned())
        } else {
            PackagePart::Description
        }
    };
    if let Some(wheel) = file.strip_suffix(".whl") {
        let mut words = wheel.split('-');
        return match (words.next(), words.next()) {
            (Some(name), Some(version)) => Named::certain(normal(name), part(version)),
            (Some(_) | None, _) => Named::default(),
        };
    }
    let ends = [".tar.gz", ".zip", ".tar.bz2", ".egg"];
    let Some(source) = ends.iter().find_map(|end| file.strip_suffix(end)) else {
        return elsewhere(file);
    };
    let splits: Vec<(&str, &str)> = source
        .match_indices('-')
        .filter_map(|(at, _)| Some((source.get(..at)?, source.get(at + 1..)?)))
        .collect();
    let begins = |(_, version): &&(&str, &str)| version.starts_with(|c: char| c.is_ascii_digit());
    let numbered: Vec<_> = splits.iter().filter(begins).collect();
    let Some((_, version)) = splits.last() else {
        return Named::default();
    };
    let names: Vec<String> = match numbered.as_slice() {
        [] => splits.iter().map(|(name, _)| normal(name)).collect(),
        some => some.iter().map(|(name, _)| normal(name)).collect(),
    };
    Named::one_of(names, part(version))
}

fn crates(parts: &[&str]) -> Named {
    let description = PackagePart::Description;
    match parts {
        [.., "crates", name, version, "download"] => {
            Named::certain(*name, PackagePart::Version((*version).to_owned()))
        }
        [.., "crates", name, _, "yank" | "unyank"] | [.., "crates", name, "owners"] => {
            Named::certain(*name, description)
        }
        [.., "1", name] if name.len() == 1 => Named::certain(*name, description),
        [.., "2", name] if name.len() == 2 => Named::certain(*name, description),
        [.., "3", a, name] if name.len() == 3 && name.starts_with(a) => {
            Named::certain(*name, description)
        }
        [.., a, b, name]
            if a.len() == 2 && b.len() == 2 && begins(name, a) && begins_at(name, 2, b) =>
        {
            Named::certain(*name, description)
        }
        [.., "config.json"] | [] => Named::none(description),
        [.., file] => {
            let Some(file) = file.strip_suffix(".crate") else {
                return elsewhere(file);
            };
            let split = file.match_indices('-').find_map(|(at, _)| {
                let (name, version) = (file.get(..at)?, file.get(at + 1..)?);
                is_version(version).then_some((name, version))
            });
            split.map_or_else(Named::default, |(name, version)| {
                Named::certain(name, PackagePart::Version(version.to_owned()))
            })
        }
    }
}

fn begins(name: &str, part: &str) -> bool {
    begins_at(name, 0, part)
}

/// Directories of an index are in lower case.
fn begins_at(name: &str, at: usize, part: &str) -> bool {
    let own = name.get(at..at + part.len());
    own.is_some_and(|own| own.eq_ignore_ascii_case(part))
}

/// Tells whether a text begins with three numbers, as versions of crates do; no name has a dot in it.
fn is_version(text: &str) -> bool {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    let is_number =
        |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    numbers.len() == 3 && numbers.iter().all(is_number)
}

fn debian(parts: &[&str]) -> Named {
    let last = parts.last().copied().unwrap_or_default();
    if !is_archive(last) && !last.contains(".tar.") && !last.contains(".diff.") {
        return Named::none(PackagePart::Description);
    }
    let mut words = last.split('_');
    match (words.next(), words.next()) {
        (Some(name), Some(version)) => {
            let part = PackagePart::Version(version.to_owned());
            let is_pool = parts.contains(&"pool");
            Named {
                name: is_pool.then(|| name.to_owned()),
                candidates: Vec::new(),
                part,
            }
        }
        (Some(_) | None, _) => Named::default(),
    }
}

fn oci(path: &str) -> Named {
    let Some((_, rest)) = path.split_once("v2/") else {
        return Named::default();
    };
    let marks = ["/manifests/", "/blobs/", "/tags/", "/referrers/"];
    let found = marks
        .iter()
        .filter_map(|mark| Some((rest.rfind(mark)?, *mark)))
        .max();
    let Some((end, mark)) = found else {
        return Named::none(if rest.is_empty() || rest.starts_with("_catalog") {
            PackagePart::Description
        } else {
            PackagePart::Unknown
        });
    };
    let what = rest.get(end + mark.len()..).unwrap_or_default();
    let part = match mark {
        "/manifests/" => PackagePart::Version(what.to_owned()),
        "/blobs/" => PackagePart::Unknown,
        _ => PackagePart::Description,
    };
    Named {
        name: rest.get(..end).map(str::to_owned),
        candidates: Vec::new(),
        part,
    }
}

fn go(path: &str) -> Named {
    let (module, rest) = match path.split_once("/@v/") {
        Some(split) => split,
        None => match path.split_once("/@latest") {
            Some((module, _)) => (module, ""),
            None if path.starts_with("sumdb/") || path.contains("/sumdb/") => {
                return Named::none(PackagePart::Description);
            }
            None => return elsewhere(path.rsplit('/').next().unwrap_or_default()),
        },
    };
    let part = rest.strip_suffix(".zip").map_or_else(
        || match rest {
            "" | "list" => PackagePart::Description,
            rest => match rest.rsplit('.').next() {
                Some("info" | "mod") => PackagePart::Description,
                Some(_) | None => PackagePart::Unknown,
            },
        },
        |version| PackagePart::Version(unescaped(version)),
    );
    // A module begins with a host; what is before that is the place of the registry.
    let mut parts = module.split('/').skip_while(|part| !part.contains('.'));
    let Some(host) = parts.next() else {
        return Named::none(part);
    };
    let module: Vec<&str> = std::iter::once(host).chain(parts).collect();
    Named::certain(unescaped(&module.join("/")), part)
}

/// Returns the path of a module, whose capitals are written with a `!` before them.
fn unescaped(module: &str) -> String {
    let mut text = String::new();
    let mut is_capital = false;
    for c in module.chars() {
        match c {
            '!' => is_capital = true,
            c if is_capital => {
                text.push(c.to_ascii_uppercase());
                is_capital = false;
            }
            c => text.push(c),
        }
    }
    text
}
