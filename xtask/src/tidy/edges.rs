//! Which crate may depend on which.

use super::{Finding, Subject};

const PREFIX: &str = "stockade-";

/// What each crate may depend on beside `types`, which all may use: the table of the architecture.
const ALLOWED: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("event", &[]),
    ("policy", &[]),
    ("sys", &[]),
    ("plan", &["policy"]),
    ("egress", &["policy", "event"]),
    ("detect", &["event"]),
    ("store", &["event"]),
    ("api", &["event"]),
    ("sandbox", &["plan", "sys", "event"]),
    ("control", &["api", "store", "detect", "policy", "event"]),
    (
        "runner",
        &["plan", "policy", "egress", "sandbox", "event", "sys"],
    ),
    // `event` because the command line prints and verifies journals.
    (
        "cli",
        &[
            "runner", "control", "api", "policy", "plan", "store", "event",
        ],
    ),
    ("testkit", ANYTHING),
    ("xtask", &[]),
];

/// Used by tests only, so it may see everything.
const ANYTHING: &[&str] = &["*"];

/// What must not be in the privileged crate's tree: large, asynchronous or a database.
const NOT_IN_SANDBOX: &[&str] = &["tokio", "hyper", "sqlx", "sqlx-core", "libsqlite3-sys"];

/// Finds dependencies between our crates that the table does not allow.
pub(super) fn edges(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (package, dependencies) in &subject.packages.members {
        let name = short(package);
        let manifest = manifest(name);
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            findings.push(Finding::new(&manifest, None, format!("crate `{name}` is not in the table; add it to the architecture and to `ALLOWED` of the tidy check, with a reason")));
            continue;
        };
        for dependency in dependencies
            .iter()
            .filter(|dependency| dependency.name.starts_with(PREFIX))
        {
            let target = short(&dependency.name);
            let is_dev = dependency.kind.as_deref() == Some("dev");
            let may = *allowed == ANYTHING
                || target == "types"
                || allowed.contains(&target)
                || (is_dev && target == "testkit");
            if !may {
                let may_use = if allowed.is_empty() {
                    "types".to_owned()
                } else {
                    format!("types {}", allowed.join(" "))
                };
                findings.push(Finding::new(
                    &manifest,
                    None,
                    format!("`{name}` depends on `{target}`; it may use {may_use}"),
                ));
            }
        }
    }
    findings
}

/// Finds heavy crates in the tree of the privileged crate.
pub(super) fn sandbox_tree(subject: &Subject) -> Vec<Finding> {
    let tree = subject.packages.tree("stockade-sandbox");
    let heavy = NOT_IN_SANDBOX.iter().filter(|name| tree.contains(*name));
    heavy.map(|name| Finding::new(&manifest("sandbox"), None, format!("`{name}` is in its tree; see `cargo tree -p stockade-sandbox -e normal -i {name}`"))).collect()
}

/// Finds crates whose manifest does not take the lints of the workspace.
pub(super) fn lints(subject: &Subject) -> Vec<Finding> {
    let manifests = subject
        .texts
        .iter()
        .filter(|(path, _)| path.ends_with("/Cargo.toml") && !path.contains("/fuzz/"));
    let without = manifests.filter(|(_, text)| {
        let text: String = text.split_whitespace().collect();
        !text.contains("[lints]workspace=true")
    });
    without
        .map(|(path, _)| Finding::new(path, None, "add `[lints]` with `workspace = true`"))
        .collect()
}

fn short(package: &str) -> &str {
    package.strip_prefix(PREFIX).unwrap_or(package)
}

fn manifest(name: &str) -> String {
    if name == "xtask" {
        "xtask/Cargo.toml".into()
    } else {
        format!("crates/{name}/Cargo.toml")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Dependency, Packages};

    fn with_edge(from: &str, to: &str, kind: Option<&str>) -> Subject {
        let dependency = Dependency {
            name: to.into(),
            kind: kind.map(Into::into),
        };
        let members = [(from.to_owned(), vec![dependency])].into();
        Subject {
            packages: Packages {
                members,
                ..Packages::default()
            },
            ..Subject::default()
        }
    }

    #[test]
    fn only_edges_of_the_table_pass() {
        for (from, to, kind, ok) in [
            ("stockade-plan", "stockade-policy", None, true),
            ("stockade-plan", "stockade-sys", None, false),
            ("stockade-plan", "stockade-sys", Some("dev"), false),
            ("stockade-plan", "stockade-testkit", Some("dev"), true),
            ("stockade-plan", "stockade-testkit", None, false),
            ("stockade-egress", "stockade-types", None, true),
            ("stockade-testkit", "stockade-runner", None, true),
            ("stockade-new", "serde", None, false),
        ] {
            assert_eq!(
                edges(&with_edge(from, to, kind)).is_empty(),
                ok,
                "{from} -> {to} {kind:?}"
            );
        }
    }

    #[test]
    fn a_heavy_crate_deep_in_the_tree_is_found() {
        let metadata = r#"{
            "packages": [
                {"id": "s", "name": "stockade-sandbox", "dependencies": []},
                {"id": "m", "name": "middle", "dependencies": []},
                {"id": "t", "name": "tokio", "dependencies": []}],
            "workspace_members": ["s"],
            "resolve": {"nodes": [
                {"id": "s", "deps": [{"pkg": "m", "dep_kinds": [{"kind": null}]}]},
                {"id": "m", "deps": [{"pkg": "t", "dep_kinds": [{"kind": KIND}]}]},
                {"id": "t", "deps": []}]}}"#;
        for (kind, found) in [("null", 1), (r#""dev""#, 0)] {
            let packages = Packages::parse(&metadata.replace("KIND", kind)).unwrap();
            let subject = Subject {
                packages,
                ..Subject::default()
            };
            assert_eq!(sandbox_tree(&subject).len(), found, "{kind}");
        }
    }

    #[test]
    fn a_manifest_without_the_lints_is_found() {
        let subject = Subject::fixture(&[
            ("crates/a/Cargo.toml", "[lints]\nworkspace = true\n"),
            ("crates/b/Cargo.toml", "[package]\n"),
        ]);
        let found: Vec<_> = lints(&subject)
            .into_iter()
            .map(|finding| finding.path)
            .collect();
        assert_eq!(found, ["crates/b/Cargo.toml"]);
    }
}
