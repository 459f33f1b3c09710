//! Circles between the modules of one crate.
//!
//! Compared are siblings: an edge goes from module `a` to module `b` of the same parent when any
//! file under `a` names something under `b`. A parent and its own parts may know each other.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::{Item, UseTree, Visibility};

use super::{Finding, Subject, source::RustSource};

/// A module's place from its crate's root: `crate::net::dns` is `["net", "dns"]`.
type Module = Vec<String>;

/// Finds circles among sibling modules of every crate.
pub(super) fn cycles(subject: &Subject) -> Vec<Finding> {
    let mut crates: BTreeMap<&str, Vec<&RustSource>> = BTreeMap::new();
    for source in subject.sources.iter().filter(|source| !source.is_test) {
        crates
            .entry(source.folder.as_str())
            .or_default()
            .push(source);
    }
    crates
        .into_iter()
        .flat_map(|(folder, sources)| crate_cycles(folder, &sources))
        .collect()
}

fn crate_cycles(folder: &str, sources: &[&RustSource]) -> Vec<Finding> {
    let mut tree = Tree::default();
    for source in sources {
        if let Some(module) = module_of(source) {
            tree.add(&module, source);
        }
    }
    let edges = tree.sibling_edges(sources);
    edges
        .iter()
        .filter_map(|(parent, edges)| circle(edges).map(|circle| (parent, circle)))
        .map(|(parent, circle)| {
            let place = if parent.is_empty() {
                "crate".to_owned()
            } else {
                format!("crate::{}", parent.join("::"))
            };
            let message = format!(
                "modules of `{place}` depend on each other: {}; move what they share into a third",
                circle.join(" → ")
            );
            Finding::new(&format!("{folder}/src"), None, message)
        })
        .collect()
}

/// Which modules a crate has, and which names they re-export from where.
#[derive(Default)]
struct Tree {
    modules: BTreeSet<Module>,
    /// Module and name to the full path of what is re-exported.
    exports: BTreeMap<(Module, String), Module>,
}

impl Tree {
    fn add(&mut self, module: &Module, source: &RustSource) {
        self.modules.insert(module.clone());
        for item in source.production_items() {
            if let Item::Use(item) = item
                && !matches!(item.vis, Visibility::Inherited)
            {
                let mut paths = Vec::new();
                flatten(&item.tree, &mut Vec::new(), &mut paths);
                for (path, name) in paths {
                    self.exports
                        .insert((module.clone(), name), absolute(module, &path));
                }
            }
        }
    }

    /// Follows a path from the crate's root to the module that it ends in.
    fn resolve(&self, path: &[String]) -> Module {
        let mut module = Module::new();
        // A re-export leads to another path, which may lead on; a circle of them is no Rust.
        let mut rest: Vec<String> = path.to_vec();
        for _ in 0..=path.len() + self.exports.len() {
            let Some((head, tail)) = rest.split_first() else {
                break;
            };
            let mut inner = module.clone();
            inner.push(head.clone());
            if self.modules.contains(&inner) {
                (module, rest) = (inner, tail.to_vec());
            } else if let Some(target) = self.exports.get(&(module.clone(), head.clone())) {
                let mut next = target.clone();
                next.extend_from_slice(tail);
                (module, rest) = (Module::new(), next);
            } else {
                break;
            }
        }
        module
    }

    fn sibling_edges(
        &self,
        sources: &[&RustSource],
    ) -> BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> {
        let mut edges: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for source in sources {
            let Some(from) = module_of(source) else {
                continue;
            };
            let mut paths = Vec::new();
            for stream in source.production_tokens() {
                collect(stream, &mut paths);
            }
            for path in paths {
                let to = self.resolve(&absolute(&from, &path));
                let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
                if let (Some(a), Some(b), Some(parent)) =
                    (from.get(shared), to.get(shared), from.get(..shared))
                {
                    edges
                        .entry(parent.to_vec())
                        .or_default()
                        .entry(a.clone())
                        .or_default()
                        .insert(b.clone());
                }
            }
        }
        edges
    }
}

/// Names the module that a file holds; none for another binary's root.
fn module_of(source: &RustSource) -> Option<Module> {
    let rest = source
        .path
        .strip_prefix(&source.folder)?
        .strip_prefix("/src/")?
        .strip_suffix(".rs")?;
    if matches!(rest, "lib" | "main") {
        return Some(Module::new());
    }
    let rest = rest.strip_suffix("/mod").unwrap_or(rest);
    (!rest.starts_with("bin/")).then(|| rest.split('/').map(str::to_owned).collect())
}

/// Turns `crate::…`, `self::…`, `super::…` and paths of a child into a path from the root.
fn absolute(module: &Module, path: &[String]) -> Module {
    let mut at = module.clone();
    let mut rest = path;
    while let Some((head, tail)) = rest.split_first() {
        match head.as_str() {
            "crate" => at.clear(),
            "self" => {}
            "super" => drop(at.pop()),
            _ => break,
        }
        rest = tail;
    }
    at.extend_from_slice(rest);
    at
}

/// Collects every path that starts with `crate` or `super`, with use groups written out.
fn collect(stream: TokenStream, paths: &mut Vec<Vec<String>>) {
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        match tree {
            TokenTree::Group(group) => collect(group.stream(), paths),
            TokenTree::Ident(word) if word == "crate" || word == "super" => {
                let mut path = vec![word.to_string()];
                while matches!(trees.peek(), Some(TokenTree::Punct(mark)) if mark.as_char() == ':')
                {
                    trees.next();
                    match trees.peek() {
                        Some(TokenTree::Ident(next)) => {
                            path.push(next.to_string());
                            trees.next();
                        }
                        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                            for inner in group_paths(&group.stream()) {
                                paths.push([path.as_slice(), &inner].concat());
                            }
                            trees.next();
                        }
                        _ => {}
                    }
                }
                paths.push(path);
            }
            _ => {}
        }
    }
}

fn group_paths(stream: &TokenStream) -> Vec<Vec<String>> {
    let text = format!("use {{{stream}}};");
    let Ok(item) = syn::parse_str::<syn::ItemUse>(&text) else {
        return Vec::new();
    };
    let mut paths = Vec::new();
    flatten(&item.tree, &mut Vec::new(), &mut paths);
    paths.into_iter().map(|(path, _)| path).collect()
}

/// Writes a use tree out as paths, each with the name that it brings into scope.
fn flatten(tree: &UseTree, before: &mut Vec<String>, paths: &mut Vec<(Vec<String>, String)>) {
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, paths);
            before.pop();
        }
        UseTree::Name(name) => {
            let path = [before.as_slice(), &[name.ident.to_string()]].concat();
            paths.push((path, name.ident.to_string()));
        }
        UseTree::Rename(rename) => {
            let path = [before.as_slice(), &[rename.ident.to_string()]].concat();
            paths.push((path, rename.rename.to_string()));
        }
        UseTree::Glob(_) => paths.push((before.clone(), "*".into())),
        UseTree::Group(group) => group
            .items
            .iter()
            .for_each(|item| flatten(item, before, paths)),
    }
}

/// Finds one circle, its first module repeated at the end.
fn circle(edges: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    edges
        .keys()
        .find_map(|start| visit(start, edges, &mut Vec::new(), &mut done))
}

fn visit(
    at: &str,
    edges: &BTreeMap<String, BTreeSet<String>>,
    path: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(start) = path.iter().position(|seen| seen == at) {
        let mut circle = path.split_off(start);
        circle.push(at.to_owned());
        return Some(circle);
    }
    if done.contains(at) {
        return None;
    }
    path.push(at.to_owned());
    let found = edges
        .get(at)
        .into_iter()
        .flatten()
        .find_map(|next| visit(next, edges, path, done));
    if found.is_none() {
        path.pop();
        done.insert(at.to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        cycles(&Subject::fixture(files))
            .into_iter()
            .map(|finding| finding.message)
            .collect()
    }

    #[test]
    fn a_circle_of_siblings_is_found() {
        let found = found(&[
            ("crates/a/src/lib.rs", "mod x; mod y; mod z;"),
            ("crates/a/src/x.rs", "use crate::{z, y::Y};"),
            ("crates/a/src/y.rs", "fn f() { super::z::g() }"),
            ("crates/a/src/z.rs", "use crate::x::X;"),
        ]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("x → y → z → x"), "{found:?}");
    }

    #[test]
    fn a_circle_through_a_re_export_is_found() {
        let found = found(&[
            (
                "crates/a/src/lib.rs",
                "mod x; mod y; pub use x::X; pub use self::y::Y as Other;",
            ),
            ("crates/a/src/x.rs", "use crate::Other;"),
            ("crates/a/src/y.rs", "use crate::X;"),
        ]);
        assert!(
            found.iter().any(|message| message.contains("x → y → x")),
            "{found:?}"
        );
    }

    #[test]
    fn a_circle_deeper_down_is_found() {
        let found = found(&[
            ("crates/a/src/net/mod.rs", "mod p; mod q;"),
            ("crates/a/src/net/p.rs", "use super::q::Q;"),
            ("crates/a/src/net/q.rs", "use crate::net::p::P;"),
        ]);
        assert!(
            found
                .iter()
                .any(|message| message.contains("crate::net") && message.contains("p → q → p")),
            "{found:?}"
        );
    }

    #[test]
    fn parents_parts_and_tests_are_no_circle() {
        let found = found(&[
            (
                "crates/a/src/lib.rs",
                "mod net; mod z; pub struct Root; use net::p::P;",
            ),
            (
                "crates/a/src/net/mod.rs",
                "mod p; pub use p::P; pub struct Error;",
            ),
            (
                "crates/a/src/net/p.rs",
                "use super::Error; use crate::{Root, z::Z};",
            ),
            (
                "crates/a/src/z.rs",
                "#[cfg(test)]\nmod tests {\n    use crate::net::P;\n}",
            ),
            ("crates/b/src/z.rs", "use crate::net::P;"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }
}
