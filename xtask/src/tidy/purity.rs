//! Crates that only compute.

use proc_macro2::{TokenStream, TokenTree};

use super::{Finding, Subject, tokens::walk};

/// Their results are the audit artefact, so the same input must give the same answer.
const PURE: &[&str] = &[
    "agents", "api", "event", "policy", "plan", "detect", "replay", "shown", "trust",
];

/// Modules of the standard library that reach outside. `net` is not here: an address is a value.
const OUTSIDE: &[&str] = &["fs", "env", "process", "io", "thread"];

/// Types and crates that bring a clock, randomness or the network.
const IMPURE_WORDS: &[&str] = &[
    "SystemTime",
    "Instant",
    "rand",
    "getrandom",
    "fastrand",
    "RandomState",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
];

/// Finds uses of IO, clock, environment and randomness in crates that must not have any.
pub(super) fn impure(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in subject
        .sources
        .iter()
        .filter(|source| PURE.contains(&source.crate_name()))
    {
        for stream in source.production_tokens() {
            walk(&stream.into_iter().collect::<Vec<_>>(), &mut |trees| {
                for (line, word) in reach(trees) {
                    let message =
                        format!("`{word}` reaches outside; take the value as an argument");
                    findings.push(Finding::new(&source.path, line, message));
                }
            });
        }
    }
    findings
}

fn reach(trees: &[TokenTree]) -> Vec<(usize, String)> {
    match trees {
        [TokenTree::Ident(word), ..] if IMPURE_WORDS.iter().any(|name| word == name) => {
            vec![(word.span().start().line, word.to_string())]
        }
        [
            TokenTree::Ident(std),
            TokenTree::Punct(a),
            TokenTree::Punct(b),
            next,
            ..,
        ] if std == "std" && a.as_char() == ':' && b.as_char() == ':' => modules(next),
        _ => Vec::new(),
    }
}

fn modules(next: &TokenTree) -> Vec<(usize, String)> {
    match next {
        TokenTree::Ident(module) if OUTSIDE.iter().any(|name| module == name) => {
            vec![(module.span().start().line, format!("std::{module}"))]
        }
        TokenTree::Group(group) => heads(group.stream()).iter().flat_map(modules).collect(),
        _ => Vec::new(),
    }
}

/// The first token of each part of `{a, b::c, d}`.
fn heads(stream: TokenStream) -> Vec<TokenTree> {
    let mut heads = Vec::new();
    let mut at_start = true;
    for tree in stream {
        let is_comma = matches!(&tree, TokenTree::Punct(mark) if mark.as_char() == ',');
        if at_start && !is_comma {
            heads.push(tree);
        }
        at_start = is_comma;
    }
    heads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reaching_outside_is_found_in_pure_crates_only() {
        for (path, text, found) in [
            ("crates/policy/src/lib.rs", "use std::fs;", 1),
            (
                "crates/policy/src/lib.rs",
                "use std::{collections::BTreeMap, env::{self, vars}, thread::spawn};",
                2,
            ),
            (
                "crates/plan/src/lib.rs",
                "fn f() { std::fs::read(p); let t = SystemTime::now(); }",
                2,
            ),
            (
                "crates/plan/src/lib.rs",
                "use std::{fmt, net::IpAddr, path::Path};",
                0,
            ),
            (
                "crates/plan/src/lib.rs",
                "use std::net::{IpAddr, TcpStream};",
                1,
            ),
            (
                "crates/plan/src/lib.rs",
                "#[cfg(test)]\nmod tests {\n use std::fs;\n}",
                0,
            ),
            ("crates/runner/src/lib.rs", "use std::fs;", 0),
        ] {
            assert_eq!(
                impure(&Subject::fixture(&[(path, text)])).len(),
                found,
                "{text}"
            );
        }
    }
}
