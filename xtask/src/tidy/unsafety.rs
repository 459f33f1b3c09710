//! Where `unsafe` may be.

use proc_macro2::{TokenStream, TokenTree};

use super::{Finding, Subject, source::RustSource};

/// The only crate with unsafe code, audited alone.
const UNSAFE_CRATE: &str = "sys";

/// Finds crate roots that do not forbid unsafe code.
pub(super) fn forbidden(subject: &Subject) -> Vec<Finding> {
    let roots = subject
        .sources
        .iter()
        .filter(|source| source.is_crate_root() && source.crate_name() != UNSAFE_CRATE);
    let without = roots.filter(|source| !forbids(source));
    without
        .map(|source| Finding::new(&source.path, None, "add `#![forbid(unsafe_code)]`"))
        .collect()
}

fn forbids(source: &RustSource) -> bool {
    source.ast.attrs.iter().any(|attribute| {
        attribute.path().is_ident("forbid")
            && attribute
                .parse_args::<syn::Ident>()
                .is_ok_and(|lint| lint == "unsafe_code")
    })
}

/// Finds the word `unsafe` in code outside the one crate, in macros and tests too.
pub(super) fn used(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in subject
        .sources
        .iter()
        .filter(|source| source.crate_name() != UNSAFE_CRATE)
    {
        if let Ok(tokens) = source.text.parse::<TokenStream>() {
            let message = "uses `unsafe`; put a safe wrapper into `crates/sys`";
            let mut lines = Vec::new();
            collect(tokens, &mut lines);
            findings.extend(
                lines
                    .into_iter()
                    .map(|line| Finding::new(&source.path, line, message)),
            );
        }
    }
    findings
}

fn collect(tokens: TokenStream, lines: &mut Vec<usize>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => collect(group.stream(), lines),
            TokenTree::Ident(ident) if ident == "unsafe" => lines.push(ident.span().start().line),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_without_the_attribute_are_found() {
        for (path, text, found) in [
            ("crates/a/src/lib.rs", "//! a\n#![forbid(unsafe_code)]", 0),
            ("crates/a/src/lib.rs", "//! a\n#![deny(unsafe_code)]", 1),
            ("crates/a/src/other.rs", "", 0),
            ("crates/sys/src/lib.rs", "", 0),
        ] {
            assert_eq!(
                forbidden(&Subject::fixture(&[(path, text)])).len(),
                found,
                "{path} {text}"
            );
        }
    }

    #[test]
    fn the_word_is_found_in_macros_but_not_in_strings() {
        for (path, text, lines) in [
            (
                "crates/a/src/lib.rs",
                "fn f() {\n    unsafe { g() }\n}",
                vec![2],
            ),
            (
                "crates/a/tests/t.rs",
                "macro_rules! m { () => {\n\n unsafe {} } }",
                vec![3],
            ),
            (
                "crates/a/src/lib.rs",
                "// unsafe\nconst S: &str = \"unsafe\";",
                vec![],
            ),
            ("crates/sys/src/lib.rs", "fn f() { unsafe {} }", vec![]),
        ] {
            let found: Vec<_> = used(&Subject::fixture(&[(path, text)]))
                .into_iter()
                .filter_map(|f| f.line)
                .collect();
            assert_eq!(found, lines, "{text}");
        }
    }
}
