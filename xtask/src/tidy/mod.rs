//! `cargo xtask tidy`: the hard rules of the code base, each a named check over data.

mod cycles;
mod discarded;
mod docs;
mod edges;
mod forgotten;
mod invariants;
mod named;
mod paths;
mod purity;
mod size;
mod source;
mod tables;
mod text;
mod tokens;
mod unsafety;
mod vendored;

use std::{fmt, fs};

use anyhow::{Context, Result};

use crate::{
    Outcome, out,
    tidy::source::RustSource,
    workspace::{self, Packages},
};

/// One rule: its name, the rule in words, and the function that finds what breaks it.
struct Check {
    name: &'static str,
    rule: &'static str,
    find: fn(&Subject) -> Vec<Finding>,
}

const CHECKS: &[Check] = &[
    Check {
        name: "crate-edges",
        rule: "crates depend only on the crates that their row in ARCHITECTURE.md names",
        find: edges::edges,
    },
    Check {
        name: "sandbox-tree",
        rule: "the sandbox crate links no tokio, hyper or SQL",
        find: edges::sandbox_tree,
    },
    Check {
        name: "workspace-lints",
        rule: "every crate takes the lints of the workspace",
        find: edges::lints,
    },
    Check {
        name: "file-length",
        rule: "a production file has at most 600 lines",
        find: size::files,
    },
    Check {
        name: "function-length",
        rule: "a function has at most 70 lines",
        find: size::functions,
    },
    Check {
        name: "forbid-unsafe",
        rule: "every crate root but sys says `#![forbid(unsafe_code)]`",
        find: unsafety::forbidden,
    },
    Check {
        name: "no-unsafe",
        rule: "only sys contains the word `unsafe`",
        find: unsafety::used,
    },
    Check {
        name: "docs-paths",
        rule: "every path that a document names exists",
        find: docs::paths,
    },
    Check {
        name: "named-tests",
        rule: "every test that a document names exists, and each case of attacks has one",
        find: named::tests,
    },
    Check {
        name: "no-doubled-row",
        rule: "no table of a document has a row twice",
        find: tables::doubled,
    },
    Check {
        name: "environment-documented",
        rule: "every environment variable is in docs/reference",
        find: docs::environment,
    },
    Check {
        name: "module-cycles",
        rule: "modules of one crate do not depend on each other in a circle",
        find: cycles::cycles,
    },
    Check {
        name: "no-build-switch",
        rule: "enforcement code is the same in tests, debug and release",
        find: tokens::build_switches,
    },
    Check {
        name: "no-discarded-result",
        rule: "a result is thrown away only with `ignored`, which says why",
        find: discarded::results,
    },
    Check {
        name: "no-ignored-test",
        rule: "no test is ignored",
        find: tokens::ignored_tests,
    },
    Check {
        name: "no-forgotten-file",
        rule: "every Rust file is part of a program, and a crate has one program of tests",
        find: forgotten::files,
    },
    Check {
        name: "runtime-test-paths",
        rule: "tests read Cargo's paths when they run, not when they are built",
        find: paths::build_time,
    },
    Check {
        name: "pure-crates",
        rule: "agents, event, policy, plan, detect, shown and trust do no IO and read no clock, environment or randomness",
        find: purity::impure,
    },
    Check {
        name: "registry-hosts",
        rule: "no file names a package registry's host",
        find: text::registry_hosts,
    },
    Check {
        name: "machine-paths",
        rule: "no file names a path of a developer's machine",
        find: text::machine_paths,
    },
    Check {
        name: "vendored-files",
        rule: "a file of others is what its source says",
        find: vendored::changed,
    },
];

/// A place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// Counted from one; none where the whole file is meant.
    line: Option<usize>,
    message: String,
}

impl Finding {
    fn new(path: &str, line: impl Into<Option<usize>>, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line: line.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.message),
            None => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

/// Everything the checks look at, read once.
#[derive(Default)]
struct Subject {
    /// Every text file that is tracked or new: path from the root, and content.
    texts: Vec<(String, String)>,
    /// Every file and folder there is, for questions whether a path exists.
    names: Vec<String>,
    sources: Vec<RustSource>,
    packages: Packages,
}

impl Subject {
    fn load() -> Result<Self> {
        let root = workspace::root()?;
        let mut files = Vec::new();
        let mut names = Vec::new();
        for name in workspace::files(&root)? {
            let bytes =
                fs::read(root.join(&name)).with_context(|| format!("`{name}` cannot be read"))?;
            if let Ok(text) = String::from_utf8(bytes) {
                files.push((name, text));
            } else {
                names.push(name);
            }
        }
        let mut subject = Self::from_files(files)?;
        subject.names.extend(names);
        subject.packages = Packages::load(&root)?;
        Ok(subject)
    }

    fn from_files(texts: Vec<(String, String)>) -> Result<Self> {
        let rust = texts.iter().filter(|(name, _)| is_rust(name));
        let sources = rust
            .map(|(name, text)| RustSource::parse(name, text))
            .collect::<Result<_>>()?;
        let names = texts.iter().map(|(name, _)| name.clone()).collect();
        Ok(Self {
            texts,
            names,
            sources,
            packages: Packages::default(),
        })
    }

    fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.names.iter().any(|name| {
            name.strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    #[cfg(test)]
    fn fixture(files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Self::from_files(files.collect()).unwrap()
    }
}

pub(crate) fn is_rust(name: &str) -> bool {
    std::path::Path::new(name)
        .extension()
        .is_some_and(|extension| extension == "rs")
}

/// Runs every check and prints what breaks a rule, then the invariants that nothing keeps.
pub(crate) fn run() -> Result<Outcome> {
    let subject = Subject::load()?;
    let mut broken = 0_usize;
    for check in CHECKS {
        let findings = (check.find)(&subject);
        broken += findings.len();
        if !findings.is_empty() {
            out::line(format_args!("{}: {}", check.name, check.rule));
            for finding in findings {
                out::line(format_args!("  {finding}"));
            }
        }
    }
    for line in invariants::report(&subject) {
        out::line(line);
    }
    out::line(format_args!(
        "tidy: {} checks over {} files, {broken} broken",
        CHECKS.len(),
        subject.names.len()
    ));
    Ok(if broken == 0 {
        Outcome::Passed
    } else {
        Outcome::Failed
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn check_names_are_unique() {
        let names: BTreeSet<_> = CHECKS.iter().map(|check| check.name).collect();
        assert_eq!(names.len(), CHECKS.len());
    }

    #[test]
    fn a_file_that_is_not_rust_is_reported_with_its_path() {
        let error = Subject::from_files(vec![("crates/a/src/lib.rs".into(), "fn (".into())])
            .err()
            .unwrap();
        assert!(
            format!("{error:#}").contains("crates/a/src/lib.rs:1"),
            "{error:#}"
        );
    }

    #[test]
    fn a_folder_exists_when_a_file_is_in_it() {
        let subject = Subject::fixture(&[("docs/a.md", "")]);
        assert!(subject.exists("docs/") && subject.exists("docs/a.md") && !subject.exists("doc"));
    }
}
