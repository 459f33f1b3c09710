//! `what = "package"`: what is asked of registries of packages, and the conditions on it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::json;
use stockade_types::{Span, Verdict};

use super::{
    registry::{self, Ecosystem, Named, PackagePart},
    words::{Choice, Names},
};
use crate::{
    fields::{Fields, File, missing},
    kinds::{Fit, is_allow},
    request_path::RequestPath,
};

/// The fields of such a rule beside those of a rule about hosts.
pub(crate) const FIELDS: [&str; 4] = ["ecosystems", "operations", "names", "younger_than"];

/// What a request asks of a registry.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// The protocol of the registry.
    pub ecosystem: Ecosystem,
    /// What is done.
    pub operation: PackageOperation,
    /// The package; `None` if the head does not name one, or not for certain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Without a name, the packages that it can be: one of these, or any if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<String>,
    /// What of the package it is.
    pub part: PackagePart,
    /// How old the version is; `None` if nobody has asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<Age>,
    /// It is this and nothing else.
    pub is_certain: bool,
}

/// How long ago a version was published.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Age {
    /// So many seconds, as its registry says.
    Seconds(u64),
    /// Nobody can tell, for this reason.
    Unknown(String),
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
        let text = std::str::from_utf8(&text).ok().filter(|_| is_plain);
        let named = text.map(|text| registry::read(ecosystem, text.trim_start_matches('/')));
        let is_certain = named.is_some();
        let Named {
            name,
            candidates,
            part,
        } = named.unwrap_or_default();
        Self {
            ecosystem,
            operation,
            name,
            candidates,
            part,
            age: None,
            is_certain,
        }
    }

    /// Tells whether rules about the age of versions are about it.
    pub fn is_version(&self) -> bool {
        self.operation == PackageOperation::Download && self.part != PackagePart::Description
    }

    pub(crate) fn in_words(&self) -> String {
        let verb = match self.operation {
            PackageOperation::Download => "download",
            PackageOperation::Publish => "publish",
        };
        let doubt = if self.is_certain { "" } else { "perhaps " };
        let what = match (&self.name, self.candidates.as_slice()) {
            (Some(name), _) => name.clone(),
            (None, []) => "something that its address does not name".to_owned(),
            (None, some) => some.join(" or "),
        };
        let version = match &self.part {
            PackagePart::Version(version) => format!(" {version}"),
            PackagePart::Description | PackagePart::Unknown => String::new(),
        };
        let age = self.age.as_ref().map(Age::in_words).unwrap_or_default();
        format!(
            "{doubt}{verb} {what}{version} ({}{age})",
            self.ecosystem.as_str()
        )
    }

    pub(crate) fn bound(&self) -> Option<String> {
        let name = self.name.as_ref().filter(|_| self.is_certain)?;
        let mut bound = vec![
            json!("package"),
            json!(self.ecosystem),
            json!(self.operation),
            json!(name),
        ];
        // Where the age of a version counts, a yes is for that version.
        bound.extend(self.age.as_ref().map(|_| json!(self.part)));
        Some(serde_json::Value::from(bound).to_string())
    }
}

impl Age {
    fn in_words(&self) -> String {
        let seconds = match self {
            Self::Seconds(seconds) => *seconds,
            Self::Unknown(why) => return format!(", of unknown age: {why}"),
        };
        let (number, unit) = match seconds {
            0..120 => (seconds, "seconds"),
            120..7200 => (seconds / 60, "minutes"),
            7200..172_800 => (seconds / 3600, "hours"),
            _ => (seconds / 86_400, "days"),
        };
        format!(", published {number} {unit} ago")
    }
}

/// Reads `/@scope%2fname`, also below another path, which is ambiguous by this one slash alone.
fn scoped(whole: &[u8]) -> (Vec<u8>, bool) {
    let nothing = (Vec::new(), false);
    let Ok(text) = std::str::from_utf8(whole) else {
        return nothing;
    };
    let Some(at) = text.find("%2f").or_else(|| text.find("%2F")) else {
        return nothing;
    };
    let (scope, rest) = text.split_at(at);
    let rest = rest.get(3..).unwrap_or_default();
    let is_scope = scope.rsplit('/').next().is_some_and(|s| s.starts_with('@'));
    let plain = format!("{scope}/{rest}");
    let is_plain = is_scope && RequestPath::new(plain.as_bytes()).ambiguity().is_none();
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
    younger_than: Option<Span>,
}

impl PackageCondition {
    pub(crate) fn read(file: &mut File<'_>, fields: &Fields<'_>, effect: Verdict) -> Self {
        missing(
            file,
            fields,
            "ecosystems",
            "say which registries they are, for example [\"npm\"]",
        );
        let younger_than = fields.parsed::<Span>(file, "younger_than");
        if let Some(at) = younger_than.as_ref().filter(|_| is_allow(effect)) {
            let message = "an allow of young versions would leave out the others; write a deny or an \
                           ask of them beside an allow";
            file.problem(&at.span, &at.field, message);
        }
        let mut operations = Choice::read(file, fields, "operations", &OPERATIONS);
        if younger_than.is_some() {
            if !operations.has(PackageOperation::Download) {
                let message = "what is published has no age; name \"download\" in `operations`";
                file.problem(&fields.span(), &fields.field("younger_than"), message);
            }
            operations = Choice(Some(vec![PackageOperation::Download]));
        }
        let Choice(ecosystems) = Choice::read(file, fields, "ecosystems", &ECOSYSTEMS);
        Self {
            ecosystems: ecosystems.unwrap_or_default(),
            operations,
            names: Names::read(file, fields, "names"),
            younger_than: younger_than.map(|at| at.value),
        }
    }

    pub(crate) fn ecosystems(&self) -> &[Ecosystem] {
        &self.ecosystems
    }

    pub(crate) fn fit(&self, effect: Verdict, package: &Package) -> Option<Fit> {
        let of_it = self.ecosystems.contains(&package.ecosystem)
            && (package.is_certain || !is_allow(effect))
            && self.operations.has(package.operation);
        (of_it && self.fits_name(effect, package) && self.fits_age(package)).then_some(Fit::Now)
    }

    fn fits_name(&self, effect: Verdict, package: &Package) -> bool {
        let fit = |name: Option<&str>| self.names.fit(effect, name);
        match (&package.name, package.candidates.as_slice()) {
            (Some(name), _) => fit(Some(name)),
            (None, []) => fit(None),
            (None, _) if self.names.is_any() => true,
            // An allow needs certainty.
            (None, some) => !is_allow(effect) && some.iter().any(|name| fit(Some(name))),
        }
    }

    /// Tells whether a version is young, or nobody can say that it is not.
    fn fits_age(&self, package: &Package) -> bool {
        let Some(least) = self.younger_than else {
            return true;
        };
        match &package.age {
            _ if !package.is_version() => false,
            Some(Age::Seconds(seconds)) => seconds.saturating_mul(1000) < least.millis(),
            Some(Age::Unknown(_)) | None => true,
        }
    }

    /// Tells whether the age of versions counts.
    pub(crate) const fn looks_at_ages(&self) -> bool {
        self.younger_than.is_some()
    }

    pub(crate) fn lies_within(&self, outer: &Self) -> bool {
        self.ecosystems
            .iter()
            .all(|one| outer.ecosystems.contains(one))
            && self.operations.lie_within(&outer.operations)
            && self.names.lie_within(&outer.names)
            && outer
                .younger_than
                .is_none_or(|outer| self.younger_than.is_some_and(|own| own <= outer))
    }
}

impl fmt::Display for PackageCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Choice(Some(self.ecosystems.clone())).write(f, "ecosystems", Ecosystem::as_str)?;
        self.operations.write(f, "operations", |one| match one {
            PackageOperation::Download => "download",
            PackageOperation::Publish => "publish",
        })?;
        self.names.write(f, "names")?;
        match self.younger_than {
            Some(span) => write!(f, "; younger than {span}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Age, Ecosystem, Package, PackagePart};
    use crate::request_path::RequestPath;

    #[test]
    fn words_say_how_old_a_version_is() {
        let path = "/demo/-/demo-1.0.0.tgz";
        let mut package =
            Package::of_head(Ecosystem::Npm, "GET", &RequestPath::new(path.as_bytes()));
        for (age, words) in [
            (None, "download demo 1.0.0 (npm)"),
            (
                Some(Age::Seconds(30)),
                "download demo 1.0.0 (npm, published 30 seconds ago)",
            ),
            (
                Some(Age::Seconds(7199)),
                "download demo 1.0.0 (npm, published 119 minutes ago)",
            ),
            (
                Some(Age::Seconds(86_400 * 3)),
                "download demo 1.0.0 (npm, published 3 days ago)",
            ),
            (
                Some(Age::Unknown("nobody knows".to_owned())),
                "download demo 1.0.0 (npm, of unknown age: nobody knows)",
            ),
        ] {
            package.age = age;
            assert_eq!(package.in_words(), words);
        }
    }

    /// Says the name, `?` or the candidates, and the version, `-` for a description or `?`.
    fn said(ecosystem: Ecosystem, path: &str) -> String {
        let package = Package::of_head(ecosystem, "GET", &RequestPath::new(path.as_bytes()));
        let name = match (package.name, package.candidates.as_slice()) {
            (Some(name), _) => name,
            (None, []) => "?".to_owned(),
            (None, some) => format!("?{}", some.join("|")),
        };
        let part = match package.part {
            PackagePart::Description => "-".to_owned(),
            PackagePart::Version(version) => version,
            PackagePart::Unknown => "?".to_owned(),
        };
        format!("{name} {part}")
    }

    /// The paths that clients ask for, what they name, and which of them are files of a version; where a
    /// path could be read in several ways, no name is certain.
    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn names_and_versions_are_found_in_the_paths_of_clients() {
        use Ecosystem::{Crates, Debian, Go, Npm, Oci, Pypi};
        for (ecosystem, path, expected) in [
            (Npm, "/left-pad", "left-pad -"),
            (Npm, "/left-pad/-/left-pad-1.0.0.tgz", "left-pad 1.0.0"),
            (
                Npm,
                "/left-pad/-/left-pad-1.0.0-rc.1.tgz",
                "left-pad 1.0.0-rc.1",
            ),
            (Npm, "/left-pad/-/other-1.0.0.tgz", "left-pad ?"),
            (Npm, "/@team/tool", "@team/tool -"),
            (Npm, "/@team%2ftool", "@team/tool -"),
            (Npm, "/@team/tool/-/tool-1.0.0.tgz", "@team/tool 1.0.0"),
            (Npm, "/npm/left-pad", "?npm|left-pad -"),
            (Npm, "/left-pad/latest", "?left-pad|latest -"),
            (Npm, "/npm/left-pad/1.0.0", "?left-pad|1.0.0 -"),
            (Npm, "/npm/@team/tool", "?@team/tool -"),
            (Npm, "/npm/@team%2ftool", "?@team/tool -"),
            (Npm, "/npm/@team/tool/latest", "?@team/tool -"),
            (
                Npm,
                "/a/npm/left-pad/-/left-pad-1.0.0.tgz",
                "?left-pad 1.0.0",
            ),
            (Npm, "/npm/@team/tool/-/tool-1.0.0.tgz", "?@team/tool 1.0.0"),
            (Npm, "/download/@team/tool/1.0.0/abcdef", "? ?"),
            (Npm, "/files/left-pad-1.0.0.tgz", "? ?"),
            (Npm, "/-/v1/search?text=x", "? -"),
            (Npm, "/npm/-/whoami", "? -"),
            (Npm, "/left-pad/-/left-pad-1.0.0.TGZ", "left-pad ?"),
            (Npm, "/x%2fy", "? ?"),
            (Npm, "/@a/b%2fc", "? ?"),
            (Pypi, "/simple/My_Tool.x/", "my-tool-x -"),
            (Pypi, "/any/place/simple/tool/", "tool -"),
            (Pypi, "/pypi/tool/json", "tool -"),
            (
                Pypi,
                "/packages/ab/cd/tool-1.0-py3-none-any.whl",
                "tool 1.0",
            ),
            (
                Pypi,
                "/packages/ab/cd/tool-1.0-py3-none-any.whl.metadata",
                "tool -",
            ),
            (Pypi, "/packages/ab/-py3-none-any.whl", "? ?"),
            (Pypi, "/packages/ab/cd/-1.0.tar.gz", "? ?"),
            (Pypi, "/simple/_/", "? ?"),
            (Pypi, "/packages/ab/cd/my-tool-1.0.tar.gz", "my-tool 1.0"),
            (
                Pypi,
                "/packages/ab/cd/tool-2-1.0.tar.gz",
                "?tool|tool-2 1.0",
            ),
            (Pypi, "/packages/ab/cd/tool", "? -"),
            (Pypi, "/packages/ab/cd/tool.tgz", "? ?"),
            (Pypi, "/tool-1.0.zip", "? ?"),
            (Pypi, "/simple/", "? -"),
            (Crates, "/se/rd/serde", "serde -"),
            (Crates, "/index/se/rd/serde", "serde -"),
            (Crates, "/ab/cd/serde", "? -"),
            (Crates, "/serde/download", "? ?"),
            (Go, "/lab.test/mod.zip", "? ?"),
            (Crates, "/3/u/url", "url -"),
            (Crates, "/api/v1/crates/serde/1.0.0/download", "serde 1.0.0"),
            (Crates, "/crates/serde/serde-1.0.0.crate", "serde 1.0.0"),
            (
                Crates,
                "/crates/md-5/md-5-0.10.6-rc.1.crate",
                "md-5 0.10.6-rc.1",
            ),
            (Crates, "/config.json", "? -"),
            (
                Debian,
                "/debian/pool/main/c/curl/curl_7.88.1-10_amd64.deb",
                "curl 7.88.1-10",
            ),
            (Debian, "/debian/dists/stable/InRelease", "? -"),
            (
                Oci,
                "/v2/library/debian/manifests/stable",
                "library/debian stable",
            ),
            (
                Oci,
                "/v2/library/debian/blobs/sha256:ab",
                "library/debian ?",
            ),
            (Oci, "/v2/library/debian/tags/list", "library/debian -"),
            (Oci, "/v2/", "? -"),
            (
                Go,
                "/lab.test/!big/mod/@v/v1.0.0.zip",
                "lab.test/Big/mod v1.0.0",
            ),
            (Go, "/any/place/lab.test/mod/@v/list", "lab.test/mod -"),
            (Go, "/lab.test/mod/@v/v1.0.0.mod", "lab.test/mod -"),
            (Go, "/lab.test/mod/@latest", "lab.test/mod -"),
            (Go, "/sumdb/latest", "? -"),
        ] {
            assert_eq!(said(ecosystem, path), expected, "{path}");
        }
    }
}
