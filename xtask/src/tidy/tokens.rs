//! Words and attributes that may not stand in code.

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};

use super::{Finding, Subject};

/// Crates that enforce something: what is tested must be what runs.
const ENFORCEMENT: &[&str] = &[
    "sys",
    "plan",
    "sandbox",
    "egress",
    "policy",
    "approval",
    "shown",
    "supervise",
    "runner",
];

/// Checks that disappear from a release build.
const DEBUG_ONLY: &[&str] = &[
    "debug_assertions",
    "debug_assert",
    "debug_assert_eq",
    "debug_assert_ne",
];

/// Finds code of enforcement crates that depends on how it was built.
pub(super) fn build_switches(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in subject
        .sources
        .iter()
        .filter(|source| ENFORCEMENT.contains(&source.crate_name()))
    {
        for stream in source.production_tokens() {
            walk(&stream.into_iter().collect::<Vec<_>>(), &mut |trees| {
                if let Some((line, what)) = switch(trees) {
                    let message =
                        format!("{what} makes builds differ; use the same code in all of them");
                    findings.push(Finding::new(&source.path, line, message));
                }
            });
        }
    }
    findings
}

/// Looks at the start of a token list for something that only some builds have.
fn switch(trees: &[TokenTree]) -> Option<(usize, String)> {
    let [TokenTree::Ident(word), rest @ ..] = trees else {
        return None;
    };
    let line = word.span().start().line;
    if DEBUG_ONLY.iter().any(|name| word == name) {
        return Some((line, format!("`{word}`")));
    }
    let conditions = match rest {
        [TokenTree::Punct(mark), TokenTree::Group(group), ..]
            if mark.as_char() == '!' && word == "cfg" =>
        {
            group
        }
        [TokenTree::Group(group), ..] if word == "cfg" || word == "cfg_attr" => group,
        _ => return None,
    };
    let is_macro = matches!(rest.first(), Some(TokenTree::Punct(_)));
    let mut words = Vec::new();
    idents(conditions.stream(), &mut words);
    let has = |name: &str| words.iter().any(|word| word == name);
    if has("feature") {
        return Some((line, "a feature".into()));
    }
    // A plain `#[cfg(test)]` on a module of tests is the one use that changes nothing.
    (has("test") && (is_macro || has("not"))).then(|| (line, "`cfg` on `test`".into()))
}

/// Finds tests that are not run.
pub(super) fn ignored_tests(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &subject.sources {
        let Ok(stream) = source.text.parse::<TokenStream>() else {
            continue;
        };
        walk(&stream.into_iter().collect::<Vec<_>>(), &mut |trees| {
            if let [TokenTree::Punct(mark), TokenTree::Group(group), ..] = trees
                && mark.as_char() == '#'
                && group.delimiter() == Delimiter::Bracket
                && has_ignore(group)
            {
                let message = "the test is ignored; make it pass or remove it";
                findings.push(Finding::new(
                    &source.path,
                    mark.span().start().line,
                    message,
                ));
            }
        });
    }
    findings
}

fn has_ignore(group: &Group) -> bool {
    let mut words = Vec::new();
    idents(group.stream(), &mut words);
    match words.as_slice() {
        [first, ..] if first == "ignore" => true,
        [first, rest @ ..] if first == "cfg_attr" => rest.iter().any(|word| word == "ignore"),
        _ => false,
    }
}

/// Calls `look` with every suffix of every token list, inner groups included.
pub(super) fn walk(trees: &[TokenTree], look: &mut impl FnMut(&[TokenTree])) {
    for start in 0..trees.len() {
        let Some(rest) = trees.get(start..) else {
            return;
        };
        look(rest);
        if let Some(TokenTree::Group(group)) = rest.first() {
            walk(&group.stream().into_iter().collect::<Vec<_>>(), look);
        }
    }
}

fn idents(stream: TokenStream, words: &mut Vec<Ident>) {
    for tree in stream {
        match tree {
            TokenTree::Ident(word) => words.push(word),
            TokenTree::Group(group) => idents(group.stream(), words),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_found_in_enforcement_crates_only() {
        for (path, text, found) in [
            ("crates/plan/src/lib.rs", "fn f() -> bool { cfg!(test) }", 1),
            (
                "crates/plan/src/lib.rs",
                "#[cfg(debug_assertions)] fn f() {}",
                1,
            ),
            (
                "crates/sys/src/lib.rs",
                "fn f() { debug_assert!(true); }",
                1,
            ),
            (
                "crates/sandbox/src/lib.rs",
                "#[cfg(not(test))] fn f() {}",
                1,
            ),
            (
                "crates/egress/src/lib.rs",
                "#[cfg(feature = \"weak\")] fn f() {}",
                1,
            ),
            (
                "crates/egress/src/lib.rs",
                "#[cfg(target_os = \"linux\")] fn f() {}",
                0,
            ),
            (
                "crates/egress/src/lib.rs",
                "#[cfg(test)]\nmod tests {\n fn f() { cfg!(test); }\n}",
                0,
            ),
            (
                "crates/cli/src/main.rs",
                "fn f() { debug_assert!(true); }",
                0,
            ),
        ] {
            assert_eq!(
                build_switches(&Subject::fixture(&[(path, text)])).len(),
                found,
                "{text}"
            );
        }
    }

    #[test]
    fn ignored_tests_are_found() {
        for (attribute, found) in [
            ("ignore", 1),
            ("ignore = \"slow\"", 1),
            ("cfg_attr(unix, ignore)", 1),
            ("test", 0),
        ] {
            let text = format!("mod tests {{\n#[{attribute}]\nfn ignore() {{}}\n}}");
            assert_eq!(
                ignored_tests(&Subject::fixture(&[("crates/a/tests/t.rs", &text)])).len(),
                found,
                "{attribute}"
            );
        }
    }
}
