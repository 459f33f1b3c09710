//! Files that no program is built from: a test in one of them never runs, and nobody is told.

use std::collections::BTreeSet;

use syn::{Expr, Item, ItemMod, Lit, Meta};

use super::{Finding, Subject, source::RustSource};

/// The root of the tests of a crate that has more than one file of them.
const TESTS_ROOT: &str = "tests/main.rs";

/// Finds Rust files that no root of their crate leads to, and crates with two programs of tests.
pub(super) fn files(subject: &Subject) -> Vec<Finding> {
    let folders: BTreeSet<&str> = subject
        .sources
        .iter()
        .map(|source| source.folder.as_str())
        .collect();
    folders
        .into_iter()
        .flat_map(|folder| of_crate(subject, folder))
        .collect()
}

fn of_crate(subject: &Subject, folder: &str) -> Vec<Finding> {
    let find = |path: &str| subject.sources.iter().find(|source| source.path == path);
    let own: Vec<&RustSource> = subject
        .sources
        .iter()
        .filter(|source| source.folder == folder)
        .collect();
    let roots: Vec<&RustSource> = own
        .iter()
        .copied()
        .filter(|source| is_root(subject, source))
        .collect();
    let mut reached: BTreeSet<String> = BTreeSet::new();
    let mut todo: Vec<(&RustSource, bool)> = roots.iter().map(|root| (*root, true)).collect();
    while let Some((source, owns_folder)) = todo.pop() {
        if !reached.insert(source.path.clone()) {
            continue;
        }
        let folder = folder_of_modules(&source.path, owns_folder);
        for (path, owns_folder) in modules(&source.ast.items, &source.path, &folder) {
            todo.extend(find(&path).map(|source| (source, owns_folder)));
        }
    }
    let forgotten = own.iter().filter(|source| !reached.contains(&source.path));
    let mut findings: Vec<Finding> = forgotten
        .map(|source| {
            let message =
                "no `mod` leads to this file, so it is never built; name it in its parent";
            Finding::new(&source.path, None, message)
        })
        .collect();
    let mut tests = roots
        .iter()
        .filter(|root| in_crate(root).starts_with("tests/"));
    if let (Some(_), Some(second)) = (tests.next(), tests.next()) {
        let message = format!(
            "a second program of tests; make both modules of `{folder}/{TESTS_ROOT}`, and set `autotests = false` and `[[test]]` as other crates do"
        );
        findings.push(Finding::new(&second.path, None, message));
    }
    findings
}

/// The path of a file from the folder of its crate.
fn in_crate(source: &RustSource) -> &str {
    let rest = source.path.strip_prefix(&source.folder);
    rest.unwrap_or_default().trim_start_matches('/')
}

/// Tells whether Cargo builds a program or library from this file.
fn is_root(subject: &Subject, source: &RustSource) -> bool {
    let path = in_crate(source);
    let manifest = format!("{}/Cargo.toml", source.folder);
    let manifest = subject.texts.iter().find(|(path, _)| *path == manifest);
    let named =
        |key: &str| manifest.is_some_and(|(_, text)| text.lines().any(|line| line.trim() == key));
    if path == "build.rs" || source.is_crate_root() || named(&format!("path = \"{path}\"")) {
        return true;
    }
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["tests", _] | ["tests", _, "main.rs"] => !named("autotests = false"),
        ["benches" | "examples", _] | ["benches" | "examples", _, "main.rs"] => true,
        _ => false,
    }
}

/// Returns the folder in which the modules of a file lie.
fn folder_of_modules(path: &str, owns_folder: bool) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    if owns_folder || name == "mod.rs" {
        folder.to_owned()
    } else {
        path.trim_end_matches(".rs").to_owned()
    }
}

/// Lists the files in which the modules of some items may be, and whether their own modules lie
/// beside them.
fn modules(items: &[Item], path: &str, folder: &str) -> Vec<(String, bool)> {
    let mut files = Vec::new();
    for item in items {
        let Item::Mod(module) = item else { continue };
        let inner = format!("{folder}/{}", module.ident);
        if let Some((_, items)) = &module.content {
            files.extend(modules(items, path, &inner));
        } else if let Some(named) = named_path(module) {
            // A path is counted from the folder of the file that names it.
            let beside = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            files.push((format!("{beside}/{named}"), true));
        } else {
            files.push((format!("{inner}.rs"), false));
            files.push((format!("{inner}/mod.rs"), false));
        }
    }
    files
}

/// Returns the value of `#[path = ".."]`.
fn named_path(module: &ItemMod) -> Option<String> {
    module.attrs.iter().find_map(|attribute| {
        let Meta::NameValue(pair) = &attribute.meta else {
            return None;
        };
        match &pair.value {
            Expr::Lit(value) if pair.path.is_ident("path") => match &value.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(manifest: &str, sources: &[(&str, &str)]) -> Vec<String> {
        let mut texts = vec![("crates/a/Cargo.toml", manifest)];
        texts.extend(sources);
        let findings = files(&Subject::fixture(&texts));
        findings.into_iter().map(|finding| finding.path).collect()
    }

    #[test]
    fn a_file_that_no_module_names_is_found() {
        let known = [
            ("crates/a/build.rs", ""),
            (
                "crates/a/src/lib.rs",
                "mod b; mod c; #[cfg(test)] #[path = \"tests/e.rs\"] mod tests;",
            ),
            ("crates/a/src/b.rs", "mod inner; mod here { mod deep; }"),
            ("crates/a/src/b/inner.rs", ""),
            ("crates/a/src/b/here/deep.rs", ""),
            ("crates/a/src/c/mod.rs", "mod d;"),
            ("crates/a/src/c/d.rs", ""),
            ("crates/a/src/tests/e.rs", "mod f;"),
            ("crates/a/src/tests/f.rs", ""),
            ("crates/a/src/bin/tool.rs", ""),
            ("crates/a/examples/x.rs", ""),
            ("crates/a/tests/one.rs", ""),
        ];
        assert!(found("", &known).is_empty(), "{:?}", found("", &known));
        for lost in [
            "crates/a/src/e.rs",
            "crates/a/src/c/b.rs",
            "crates/a/src/b/mod/x.rs",
        ] {
            let mut sources = known.to_vec();
            sources.push((lost, "#[test] fn never_runs() {}"));
            assert_eq!(found("", &sources), [lost]);
        }
    }

    #[test]
    fn the_tests_of_a_crate_are_one_program() {
        let own = "autotests = false\n[[test]]\nname = \"all\"\npath = \"tests/main.rs\"\n";
        let main = ("crates/a/tests/main.rs", "mod one; mod two;");
        let one = ("crates/a/tests/one.rs", "");
        let two = ("crates/a/tests/two/mod.rs", "");
        assert!(found(own, &[main, one, two]).is_empty());
        assert_eq!(
            found(own, &[("crates/a/tests/main.rs", "mod two;"), one, two]),
            [one.0]
        );
        assert_eq!(
            found("", &[one, ("crates/a/tests/two/main.rs", "")]),
            ["crates/a/tests/two/main.rs"]
        );
    }
}
