//! Results that are thrown away without a reason.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::{Finding, Subject};

/// The file of the function that discards results for a reason.
const HOME: &str = "crates/types/src/ignored.rs";
/// Production code that still discards results with `drop`; it must not grow.
const LATER: &[&str] = &["crates/egress/src/"];

/// Finds values that calls return and nobody looks at: `drop(call())` and `call().ok();`.
pub(super) fn results(subject: &Subject) -> Vec<Finding> {
    let is_held = |path: &str| {
        path.starts_with("crates/")
            && path != HOME
            && !LATER.iter().any(|later| path.starts_with(later))
    };
    let sources = subject.sources.iter();
    let mut findings = Vec::new();
    for source in sources.filter(|source| is_held(&source.path) && !is_of_tests(&source.path)) {
        for stream in source.production_tokens() {
            walk(stream, &mut |line, what| {
                let message = format!(
                    "{what} throws a result away; write `ignored(…, \"why its failure changes \
                     nothing\")`, or give what is no result a name first"
                );
                findings.push(Finding::new(&source.path, line, message));
            });
        }
    }
    findings
}

/// Tells whether a crate serves tests only.
fn is_of_tests(path: &str) -> bool {
    ["crates/testkit/", "crates/fuzz/"]
        .iter()
        .any(|folder| path.starts_with(folder))
}

fn walk(stream: TokenStream, found: &mut dyn FnMut(usize, &str)) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    for (index, tree) in trees.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|at| trees.get(at));
        if let (TokenTree::Ident(word), Some(TokenTree::Group(group))) =
            (tree, trees.get(index + 1))
            && word == "drop"
            && group.delimiter() == Delimiter::Parenthesis
            && !is_named(before)
            && is_call(group.stream())
        {
            found(word.span().start().line, "`drop` of a call");
        }
    }
    for statement in trees.split(|tree| is_punct(Some(tree), ';')) {
        if let [
            ..,
            TokenTree::Punct(dot),
            TokenTree::Ident(word),
            TokenTree::Group(group),
        ] = statement
            && dot.as_char() == '.'
            && word == "ok"
            && group.stream().is_empty()
            && !keeps(statement)
            && ends_here(&trees, statement)
        {
            found(word.span().start().line, "`.ok();`");
        }
    }
    for tree in trees {
        if let TokenTree::Group(group) = tree {
            walk(group.stream(), found);
        }
    }
}

/// Tells whether what stands before `drop` makes it something else: a definition or a method.
fn is_named(before: Option<&TokenTree>) -> bool {
    let is_fn = matches!(before, Some(TokenTree::Ident(word)) if word == "fn");
    is_fn || is_punct(before, '.')
}

/// Tells whether an expression ends in a call or in `.await`; `?` has looked at the result.
fn is_call(expression: TokenStream) -> bool {
    let mut trees: Vec<TokenTree> = expression.into_iter().collect();
    if is_punct(trees.last(), ',') {
        trees.pop();
    }
    match trees.as_slice() {
        [.., TokenTree::Ident(word)] => trees.len() > 1 && word == "await",
        [_, .., TokenTree::Group(group)] => group.delimiter() == Delimiter::Parenthesis,
        _ => false,
    }
}

/// Tells whether the value of a statement goes somewhere.
fn keeps(statement: &[TokenTree]) -> bool {
    let first = statement.first();
    let words = ["let", "return", "const", "static", "break"];
    let is_kept =
        matches!(first, Some(TokenTree::Ident(word)) if words.iter().any(|kept| word == kept));
    is_kept || statement.iter().any(|tree| is_punct(Some(tree), '='))
}

/// Tells whether a statement has its semicolon: the last expression of a block has a value.
fn ends_here(trees: &[TokenTree], statement: &[TokenTree]) -> bool {
    let end = statement.as_ptr_range().end;
    trees.as_ptr_range().end != end
}

fn is_punct(tree: Option<&TokenTree>, mark: char) -> bool {
    matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, body: &str) -> Vec<Option<usize>> {
        let text = format!("fn f() {{\n{body}\n}}\n");
        let subject = Subject::from_files(vec![(path.to_owned(), text)]);
        let found = results(&subject.unwrap_or_default());
        found.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_result_is_discarded_with_a_reason_or_not_at_all() {
        let path = "crates/cli/src/main.rs";
        for discarded in [
            "drop(send(1));",
            "drop(socket.shutdown(How::Both));",
            "drop(writeln!(out, \"x\"));",
            "drop(\n    send(1),\n);",
            "match x { _ => drop(send(1)) }",
            "if x { drop(send(1)); }",
            "self.sink.send(1).ok();",
            "if x { send(1).ok(); }",
            "let later = async { drop(send(1).await); };",
        ] {
            assert_eq!(lines(path, discarded).len(), 1, "{discarded}");
        }
        for kept in [
            "drop(guard);",
            "drop(self.guard);",
            "drop(words.next()?);",
            "drop((one, two));",
            "ignored(send(1), \"nobody waits\");",
            "let value = send(1).ok();",
            "value = send(1).ok();",
            "return send(1).ok();",
            "send(1).ok()",
            "items.for_each(drop);",
            "hands.drop(one(1));",
        ] {
            assert_eq!(lines(path, kept), [], "{kept}");
        }
        let discarded = "drop(send(1));";
        let egress = "crates/egress/src/lib.rs";
        for later in [egress, "crates/testkit/src/lib.rs", "xtask/src/main.rs"] {
            assert_eq!(lines(later, discarded), [], "{later}");
        }
    }
}
