//! Tests that documents name.

use std::collections::HashSet;

use syn::{Item, ItemFn, visit::Visit};

use super::{Finding, Subject, docs};

/// The document with a row for each case of families of attacks, and the numbers of their cases.
const CASES: (&str, &[(char, &[usize])]) = (
    "docs/attacks.md",
    &[
        (
            'N',
            &[
                2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42,
            ],
        ),
        ('S', &[2, 4, 6, 8, 10, 12]),
        ('T', &[1, 2, 6, 8, 10, 12]),
    ],
);

/// Fewer underscores are in names of fields and settings too.
const UNDERSCORES_MIN: usize = 4;

/// Finds tests that a document names and that do not exist, and cases of attacks without a row.
pub(super) fn tests(subject: &Subject) -> Vec<Finding> {
    let functions = functions(subject);
    let documents = subject
        .texts
        .iter()
        .filter(|(path, _)| docs::is_document(path));
    let mut findings = Vec::new();
    for (path, text) in documents {
        for (index, line) in docs::prose(text) {
            let spans = docs::code_spans(line).into_iter();
            let missing = spans.filter(|span| is_test(span) && !functions.contains(*span));
            findings.extend(missing.map(|name| {
                let message =
                    format!("there is no test `{name}`; name the one that took its place");
                Finding::new(path, index + 1, message)
            }));
        }
        if path == CASES.0 {
            findings.extend(cases_without_a_test(path, text));
        }
    }
    findings
}

fn cases_without_a_test(path: &str, text: &str) -> Vec<Finding> {
    let has_row = |case: &str| {
        let begins = format!("| {case} |");
        text.lines()
            .filter(|line| line.starts_with(&begins))
            .any(|line| docs::code_spans(line).into_iter().any(is_test))
    };
    let all = CASES.1.iter();
    let all =
        all.flat_map(|(family, numbers)| numbers.iter().map(move |n| format!("{family}{n:02}")));
    all.filter(|case| !has_row(case))
        .map(|case| Finding::new(path, None, format!("case {case} has no row with a test")))
        .collect()
}

/// Tells whether a code span is the name of a test: as `n02_datagrams_do_not_leave`, or any name that is
/// a sentence.
fn is_test(span: &str) -> bool {
    let is_name = span
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let is_case = matches!(
        span.as_bytes(),
        [b'a'..=b'z', b'0'..=b'9', b'0'..=b'9', b'_', ..]
    );
    is_name && (is_case || span.matches('_').count() >= UNDERSCORES_MIN)
}

/// Returns the names of all functions of the workspace.
fn functions(subject: &Subject) -> HashSet<String> {
    let mut found = Functions::default();
    for source in &subject.sources {
        found.visit_file(&source.ast);
    }
    found.0
}

#[derive(Default)]
struct Functions(HashSet<String>);

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.0.insert(function.sig.ident.to_string());
    }

    fn visit_item(&mut self, item: &'ast Item) {
        // Tests that a macro makes have their names in its call.
        if let Item::Macro(call) = item {
            let words = call.mac.tokens.to_string();
            let words = words.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            self.0
                .extend(words.filter(|word| is_test(word)).map(str::to_owned));
        }
        syn::visit::visit_item(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_a_document_names_exists() {
        let source =
            "#[test]\nfn n02_it_holds() {}\nmod tests { fn a_sentence_of_five_words() {} }";
        let document = "`n02_it_holds`, `a_sentence_of_five_words`, `bytes_max_of_rule`\n\
                        `n02_it_is_gone` and `another_sentence_of_five_words`\n```\n`n09_x_y`\n```\n";
        let subject = Subject::fixture(&[("crates/a/src/lib.rs", source), ("docs/a.md", document)]);
        let lines: Vec<_> = tests(&subject)
            .into_iter()
            .map(|one| (one.line, one.message))
            .collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines.iter().all(|(line, _)| *line == Some(2)), "{lines:?}");
    }

    #[test]
    fn every_case_of_attacks_has_a_test() {
        let all: String = (1..=21)
            .map(|n| format!("| N{:02} | x | `n02_it_holds` |\n", 2 * n))
            .chain((1..=5).map(|n| format!("| S{:02} | x | `n02_it_holds` |\n", 2 * n)))
            .chain([1, 2, 6, 8, 10].map(|n| format!("| T{n:02} | x | `n02_it_holds` |\n")))
            .collect();
        let text = format!("{all}| S12 | x | none |\n");
        let subject = Subject::fixture(&[
            ("crates/a/src/lib.rs", "fn n02_it_holds() {}"),
            (CASES.0, &text),
        ]);
        let messages: Vec<_> = tests(&subject).into_iter().map(|one| one.message).collect();
        let missing = ["S12", "T12"].map(|case| format!("case {case} has no row with a test"));
        assert_eq!(messages, missing);
    }
}
