//! Which crate may depend on which: the table of crates in `ARCHITECTURE.md`, and no second one.

use super::{Finding, Subject};

const PREFIX: &str = "stockade-";

/// The document with the table of crates: the row of a crate names all that it may depend on.
const TABLE: &str = "ARCHITECTURE.md";
/// The first cells of that table.
const TABLE_HEAD: [&str; 4] = ["level", "crate", "what", "depends on"];
/// What the row of a crate says that only tests use, so that it may see everything.
const TESTS_ONLY: &str = "tests only";

/// One row of the table.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    name: String,
    /// Crates of a level depend on lower levels only; what is no part of the product has none.
    level: Option<u32>,
    may_use: MayUse,
}

#[derive(Debug, PartialEq, Eq)]
enum MayUse {
    Anything,
    /// These, and `types`.
    Named(Vec<String>),
}

/// Reads the table of crates.
fn table(subject: &Subject) -> Vec<Row> {
    let text = subject.texts.iter().find(|(path, _)| *path == TABLE);
    let lines = text.map_or("", |(_, text)| text.as_str()).lines();
    let cells = |line: &str| -> Vec<String> {
        let cells = line.trim().trim_matches('|').split('|');
        cells.map(|cell| cell.trim().replace('`', "")).collect()
    };
    lines
        .skip_while(|line| cells(line) != TABLE_HEAD)
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| match cells(line).as_slice() {
            [level, name, _, uses] => Some(Row {
                name: name.clone(),
                level: level.parse().ok(),
                may_use: match uses.as_str() {
                    TESTS_ONLY => MayUse::Anything,
                    "–" => MayUse::Named(Vec::new()),
                    names => MayUse::Named(names.split(", ").map(str::to_owned).collect()),
                },
            }),
            _ => None,
        })
        .collect()
}

/// What must not be in the privileged crate's tree: large, asynchronous or a database.
const NOT_IN_SANDBOX: &[&str] = &["tokio", "hyper", "sqlx", "sqlx-core", "libsqlite3-sys"];

/// Finds dependencies between our crates that the table does not allow, and rows of the table that
/// lead up.
pub(super) fn edges(subject: &Subject) -> Vec<Finding> {
    let table = table(subject);
    let is_for_tests = |name: &str| {
        table
            .iter()
            .any(|row| row.name == name && row.may_use == MayUse::Anything)
    };
    let mut findings: Vec<Finding> = table.iter().flat_map(|row| upwards(row, &table)).collect();
    for (package, dependencies) in &subject.packages.members {
        let name = short(package);
        let Some(row) = table.iter().find(|row| row.name == name) else {
            let message = format!(
                "crate `{name}` has no row in the table of crates in {TABLE}; add it, with a reason"
            );
            findings.push(Finding::new(&manifest(name), None, message));
            continue;
        };
        let ours = dependencies
            .iter()
            .filter(|dependency| dependency.name.starts_with(PREFIX));
        for dependency in ours {
            let target = short(&dependency.name);
            let is_dev = dependency.kind.as_deref() == Some("dev");
            let MayUse::Named(may_use) = &row.may_use else {
                continue;
            };
            let may = target == "types"
                || may_use.iter().any(|known| known == target)
                || (is_dev && is_for_tests(target));
            if !may {
                let message = format!(
                    "`{name}` depends on `{target}`; its row in {TABLE} names types {}",
                    may_use.join(" ")
                );
                findings.push(Finding::new(&manifest(name), None, message));
            }
        }
    }
    findings
}

/// Finds crates of a row that stand on its own level or above.
fn upwards(row: &Row, table: &[Row]) -> Vec<Finding> {
    let (Some(level), MayUse::Named(may_use)) = (row.level, &row.may_use) else {
        return Vec::new();
    };
    let below = |name: &String| {
        let other = table.iter().find(|other| other.name == *name);
        other.is_some_and(|other| other.level < Some(level))
    };
    may_use
        .iter()
        .filter(|name| !below(name))
        .map(|name| {
            let message = format!(
                "`{}` of level {level} names `{name}`, which is not below",
                row.name
            );
            Finding::new(TABLE, None, message)
        })
        .collect()
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

    const ROWS: &str = "# Code map\n\n| level | crate | what | depends on |\n|---|---|---|---|\n\
        | 0 | `types` | a | – |\n| 1 | `policy` | b | – |\n| 1 | `sys` | c | – |\n\
        | 2 | `plan` | d | policy |\n| – | `testkit` | e | tests only |\n\n| 3 | `late` | f | – |\n";

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
            ..Subject::fixture(&[(TABLE, ROWS)])
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
            ("stockade-policy", "stockade-types", None, true),
            ("stockade-testkit", "stockade-plan", None, true),
            ("stockade-late", "serde", None, false),
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
    fn a_row_that_leads_up_is_found() {
        for (from, to) in [
            ("| – |\n| 1 | `sys`", "| plan |\n| 1 | `sys`"),
            ("| d | policy", "| d | absent"),
        ] {
            let text = ROWS.replace(from, to);
            assert_ne!(text, ROWS);
            assert_eq!(
                edges(&Subject::fixture(&[(TABLE, &text)])).len(),
                1,
                "{text}"
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
