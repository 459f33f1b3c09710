//! `what = "package"`: registries of packages.

use std::fmt;

use serde::{Deserialize, Serialize};
use stockade_types::Verdict;

use super::words::{Choice, Names};
use crate::{
    fields::{Fields, File, missing},
    kinds::{Fit, is_allow},
    request_path::RequestPath,
};

/// The fields of such a rule beside those of a rule about hosts.
pub(crate) const FIELDS: [&str; 3] = ["ecosystems", "operations", "names"];

/// What a request asks of a registry.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// The protocol of the registry.
    pub ecosystem: Ecosystem,
    /// What is done.
    pub operation: PackageOperation,
    /// The package; `None` if the head does not name one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// It is this and nothing else.
    pub is_certain: bool,
}

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

/// What is done with a package.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum PackageOperation {
    /// A list, a description or the package itself is read.
    Download,
    /// Something is put there, changed or taken away.
    Publish,
}

const ECOSYSTEMS: [(&str, Ecosystem); 6] = [
    ("npm", Ecosystem::Npm),
    ("pypi", Ecosystem::Pypi),
    ("crates", Ecosystem::Crates),
    ("debian", Ecosystem::Debian),
    ("oci", Ecosystem::Oci),
    ("go", Ecosystem::Go),
];

const OPERATIONS: [(&str, PackageOperation); 2] = [
    ("download", PackageOperation::Download),
    ("publish", PackageOperation::Publish),
];

impl Ecosystem {
    pub(crate) fn as_str(self) -> &'static str {
        let found = ECOSYSTEMS.iter().find(|(_, one)| *one == self);
        found.map_or("", |(word, _)| word)
    }

    /// Finds the package in a path without its leading slash.
    fn name(self, path: &str) -> Option<String> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match self {
            // Of a longer path nobody can tell what is the package, and what the place of the registry.
            Self::Npm => match parts.as_slice() {
                [scope, name] | [scope, name, "-", _] if scope.starts_with('@') => {
                    Some(format!("{scope}/{name}"))
                }
                ["-", ..] => None,
                [name] | [name, "-", _] if !name.starts_with('@') => Some((*name).to_owned()),
                _ => None,
            },
            Self::Pypi => match parts.as_slice() {
                [.., "simple", name]
                | [.., "pypi", name, "json"]
                | [.., "pypi", name, _, "json"] => Some(normal(name)),
                [.., file] if parts.len() > 1 => distribution(file),
                _ => None,
            },
            Self::Crates => match parts.as_slice() {
                [.., "crates", name, _, "download" | "yank" | "unyank"]
                | [.., "crates", name, "owners"]
                | ["1" | "2", name]
                | ["3", _, name] => Some((*name).to_owned()),
                [a, b, name] if a.len() == 2 && b.len() == 2 && name.starts_with(a) => {
                    Some((*name).to_owned())
                }
                [.., file] => {
                    let (name, _) = file.strip_suffix(".crate")?.rsplit_once('-')?;
                    Some(name.to_owned())
                }
                [] => None,
            },
            Self::Debian => {
                let file = parts.last().filter(|_| parts.contains(&"pool"))?;
                let (name, _) = file.split_once('_')?;
                Some(name.to_owned())
            }
            Self::Oci => {
                let (_, rest) = path.split_once("v2/")?;
                let end = ["/manifests/", "/blobs/", "/tags/", "/referrers/"]
                    .iter()
                    .filter_map(|mark| rest.rfind(mark))
                    .max()?;
                rest.get(..end).map(str::to_owned)
            }
            Self::Go => {
                let (module, _) = path
                    .split_once("/@v/")
                    .or_else(|| path.split_once("/@latest"))?;
                // A module begins with a host; what is before that is the place of the registry.
                let mut parts = module.split('/').skip_while(|part| !part.contains('.'));
                let host = parts.next()?;
                let module: Vec<&str> = std::iter::once(host).chain(parts).collect();
                Some(unescaped(&module.join("/")))
            }
        }
    }
}

/// Writes a name of Python as the simple index does (PEP 503).
fn normal(name: &str) -> String {
    let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

/// Finds the name in that of a file for Python; a wheel has no `-` in it, a source has its version last.
fn distribution(file: &str) -> Option<String> {
    let file = file.trim_end_matches(".metadata");
    if let Some(wheel) = file.strip_suffix(".whl") {
        return wheel.split_once('-').map(|(name, _)| normal(name));
    }
    let source = [".tar.gz", ".zip", ".tar.bz2"]
        .iter()
        .find_map(|end| file.strip_suffix(end))?;
    source.rsplit_once('-').map(|(name, _)| normal(name))
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

impl Package {
    /// Reads the head of a request to a registry of a known protocol.
    pub(crate) fn of_head(ecosystem: Ecosystem, method: &str, path: &RequestPath<'_>) -> Self {
        let reads = matches!(method, "GET" | "HEAD");
        let operation = if reads {
            PackageOperation::Download
        } else {
            PackageOperation::Publish
        };
        let (text, is_plain) = match (path.ambiguity(), ecosystem) {
            (None, _) => (path.plain().to_vec(), true),
            // npm writes the slash of a scope in its own way, and its registries read it so.
            (Some(_), Ecosystem::Npm) => scoped(path.whole()),
            (Some(_), _) => (Vec::new(), false),
        };
        let text = std::str::from_utf8(&text).ok();
        let name = text.and_then(|text| ecosystem.name(text.trim_start_matches('/')));
        Self {
            ecosystem,
            operation,
            name: name.filter(|_| is_plain),
            is_certain: is_plain && text.is_some(),
        }
    }

    pub(crate) fn in_words(&self) -> String {
        let verb = match self.operation {
            PackageOperation::Download => "download",
            PackageOperation::Publish => "publish",
        };
        let doubt = if self.is_certain { "" } else { "perhaps " };
        let what = self
            .name
            .as_deref()
            .unwrap_or("something that its address does not name");
        format!("{doubt}{verb} {what} ({})", self.ecosystem.as_str())
    }

    pub(crate) fn bound(&self) -> Option<String> {
        let name = self.name.as_ref().filter(|_| self.is_certain)?;
        Some(serde_json::json!(["package", self.ecosystem, self.operation, name]).to_string())
    }
}

/// Reads `/@scope%2fname`, which is ambiguous by this one slash alone.
fn scoped(whole: &[u8]) -> (Vec<u8>, bool) {
    let Ok(text) = std::str::from_utf8(whole) else {
        return (Vec::new(), false);
    };
    let at = text
        .starts_with("/@")
        .then(|| text.find("%2f").or_else(|| text.find("%2F")));
    let Some(Some(at)) = at else {
        return (Vec::new(), false);
    };
    let (scope, rest) = text.split_at(at);
    let rest = rest.get(3..).unwrap_or_default();
    let plain = format!("{scope}/{rest}");
    let is_plain = !scope.get(1..).unwrap_or_default().contains('/')
        && RequestPath::new(plain.as_bytes()).ambiguity().is_none();
    let end = plain.find('?').unwrap_or(plain.len());
    (
        plain.get(..end).unwrap_or_default().as_bytes().to_vec(),
        is_plain,
    )
}

/// The conditions of a rule.
#[derive(Clone, Debug)]
pub(crate) struct PackageCondition {
    ecosystems: Vec<Ecosystem>,
    operations: Choice<PackageOperation>,
    names: Names,
}

impl PackageCondition {
    pub(crate) fn read(file: &mut File<'_>, fields: &Fields<'_>) -> Self {
        missing(
            file,
            fields,
            "ecosystems",
            "say which registries they are, for example [\"npm\"]",
        );
        let Choice(ecosystems) = Choice::read(file, fields, "ecosystems", &ECOSYSTEMS);
        Self {
            ecosystems: ecosystems.unwrap_or_default(),
            operations: Choice::read(file, fields, "operations", &OPERATIONS),
            names: Names::read(file, fields, "names"),
        }
    }

    pub(crate) fn ecosystems(&self) -> &[Ecosystem] {
        &self.ecosystems
    }

    pub(crate) fn fit(&self, effect: Verdict, package: &Package) -> Option<Fit> {
        let of_it = self.ecosystems.contains(&package.ecosystem)
            && (package.is_certain || !is_allow(effect))
            && self.operations.has(package.operation);
        (of_it && self.names.fit(effect, package.name.as_deref())).then_some(Fit::Now)
    }

    pub(crate) fn lies_within(&self, outer: &Self) -> bool {
        self.ecosystems
            .iter()
            .all(|one| outer.ecosystems.contains(one))
            && self.operations.lie_within(&outer.operations)
            && self.names.lie_within(&outer.names)
    }
}

impl fmt::Display for PackageCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Choice(Some(self.ecosystems.clone())).write(f, "ecosystems", Ecosystem::as_str)?;
        self.operations.write(f, "operations", |one| match one {
            PackageOperation::Download => "download",
            PackageOperation::Publish => "publish",
        })?;
        self.names.write(f, "names")
    }
}

#[cfg(test)]
mod tests {
    use super::{Ecosystem, Package};
    use crate::request_path::RequestPath;

    /// The paths that clients ask for, and names in them; where a path could be read in two ways, no name
    /// is certain, so that a deny of any name matches.
    #[test]
    fn names_are_found_in_the_paths_of_clients() {
        use Ecosystem::{Crates, Debian, Go, Npm, Oci, Pypi};
        for (ecosystem, path, name) in [
            (Npm, "/left-pad", Some("left-pad")),
            (Npm, "/left-pad/-/left-pad-1.0.0.tgz", Some("left-pad")),
            (Npm, "/@team/tool", Some("@team/tool")),
            (Npm, "/@team%2ftool", Some("@team/tool")),
            (Npm, "/@team/tool/-/tool-1.0.0.tgz", Some("@team/tool")),
            (Npm, "/npm/left-pad", None),
            (Npm, "/repository/npm/left-pad/-/left-pad-1.0.0.tgz", None),
            (Npm, "/-/v1/search?text=x", None),
            (Npm, "/x%2fy", None),
            (Pypi, "/simple/My_Tool.x/", Some("my-tool-x")),
            (Pypi, "/any/place/simple/tool/", Some("tool")),
            (Pypi, "/pypi/tool/json", Some("tool")),
            (
                Pypi,
                "/packages/ab/cd/tool-1.0-py3-none-any.whl",
                Some("tool"),
            ),
            (Pypi, "/packages/ab/cd/my-tool-1.0.tar.gz", Some("my-tool")),
            (Pypi, "/simple/", None),
            (Crates, "/se/rd/serde", Some("serde")),
            (Crates, "/3/u/url", Some("url")),
            (Crates, "/api/v1/crates/serde/1.0.0/download", Some("serde")),
            (Crates, "/crates/serde/serde-1.0.0.crate", Some("serde")),
            (Crates, "/config.json", None),
            (
                Debian,
                "/debian/pool/main/c/curl/curl_7.88.1-10_amd64.deb",
                Some("curl"),
            ),
            (Debian, "/debian/dists/stable/InRelease", None),
            (
                Oci,
                "/v2/library/debian/manifests/stable",
                Some("library/debian"),
            ),
            (
                Oci,
                "/v2/library/debian/blobs/sha256:ab",
                Some("library/debian"),
            ),
            (Oci, "/v2/", None),
            (
                Go,
                "/lab.test/!big/mod/@v/v1.0.0.zip",
                Some("lab.test/Big/mod"),
            ),
            (Go, "/any/place/lab.test/mod/@v/list", Some("lab.test/mod")),
            (Go, "/lab.test/mod/@latest", Some("lab.test/mod")),
            (Go, "/sumdb/latest", None),
        ] {
            let package = Package::of_head(ecosystem, "GET", &RequestPath::new(path.as_bytes()));
            assert_eq!(package.name.as_deref(), name, "{path}");
        }
    }
}
