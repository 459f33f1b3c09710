//! How long files and functions may be.

use syn::{Block, Expr, ExprArray, ImplItemFn, Item, ItemFn, ItemMod, TraitItemFn, visit::Visit};

use super::{
    Finding, Subject,
    source::{RustSource, is_list, is_table, is_test_item, lines_of},
};

/// A reader finds the way in a file of this length; beyond it a module holds two things.
const FILE_LINES_MAX: usize = 600;
/// About one screen; the same number as clippy's threshold in `clippy.toml`.
const FUNCTION_LINES_MAX: usize = 70;

/// Finds production files that are too long, tests and tables of data not counted.
pub(super) fn files(subject: &Subject) -> Vec<Finding> {
    let production = subject.sources.iter().filter(|source| !source.is_test);
    let counted = production.map(|source| (source, counted_lines(source)));
    let long = counted.filter(|(_, lines)| *lines > FILE_LINES_MAX);
    long.map(|(source, lines)| {
        Finding::new(
            &source.path,
            None,
            format!("has {lines} lines; split it where it holds two things"),
        )
    })
    .collect()
}

fn counted_lines(source: &RustSource) -> usize {
    let excepted = source
        .ast
        .items
        .iter()
        .filter(|item| is_test_item(item) || is_table(item));
    let excepted: usize = excepted.map(|item| length(lines_of(item))).sum();
    source.text.lines().count().saturating_sub(excepted)
}

/// Finds functions that are too long; blank lines, comments and lists of data are not counted.
pub(super) fn functions(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in subject.sources.iter().filter(|source| !source.is_test) {
        let mut visitor = Functions {
            source,
            findings: &mut findings,
        };
        visitor.visit_file(&source.ast);
    }
    findings
}

struct Functions<'a> {
    source: &'a RustSource,
    findings: &'a mut Vec<Finding>,
}

impl Functions<'_> {
    fn measure(&mut self, name: &syn::Ident, block: &Block) {
        let (first, last) = lines_of(block);
        let mut lists = Lists::default();
        lists.visit_block(block);
        let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
        let body = self
            .source
            .text
            .lines()
            .skip(first)
            .take(last.saturating_sub(first + 1));
        let lines = body.filter(is_code).count().saturating_sub(lists.lines);
        if lines > FUNCTION_LINES_MAX {
            let message = format!("`{name}` has {lines} lines; name its parts");
            self.findings.push(Finding::new(
                &self.source.path,
                name.span().start().line,
                message,
            ));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_test_item(&Item::Mod(item.clone())) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.measure(&item.sig.ident, &item.block);
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.measure(&item.sig.ident, &item.block);
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        if let Some(block) = &item.default {
            self.measure(&item.sig.ident, block);
        }
        syn::visit::visit_trait_item_fn(self, item);
    }
}

/// Counts the lines between the brackets of outermost lists.
#[derive(Default)]
struct Lists {
    lines: usize,
}

impl<'ast> Visit<'ast> for Lists {
    fn visit_expr_array(&mut self, array: &'ast ExprArray) {
        self.lines += length(lines_of(array)).saturating_sub(2);
    }

    fn visit_expr(&mut self, expr: &'ast Expr) {
        if let (true, Expr::Macro(call)) = (is_list(expr), expr) {
            self.lines += length(lines_of(call)).saturating_sub(2);
            return;
        }
        syn::visit::visit_expr(self, expr);
    }
}

const fn length((first, last): (usize, usize)) -> usize {
    (last + 1).saturating_sub(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_of(lines: usize) -> String {
        "struct S;\n".repeat(lines)
    }

    #[test]
    fn only_production_lines_count() {
        let tests = format!(
            "{}#[cfg(test)]\nmod tests {{\n{}}}\n",
            file_of(599),
            file_of(50)
        );
        let table = format!(
            "{}const T: &[u8] = &[\n{}];\n",
            file_of(590),
            "1,\n".repeat(50)
        );
        for (path, text, found) in [
            ("crates/a/src/lib.rs", file_of(600), 0),
            ("crates/a/src/lib.rs", file_of(601), 1),
            ("crates/a/tests/long.rs", file_of(900), 0),
            ("crates/a/src/lib.rs", tests, 0),
            ("crates/a/src/lib.rs", table, 0),
        ] {
            assert_eq!(
                files(&Subject::fixture(&[(path, &text)])).len(),
                found,
                "{path}"
            );
        }
    }

    #[test]
    fn only_code_lines_of_a_function_count() {
        let of =
            |body: String| format!("struct S;\nimpl S {{\n    fn long() {{\n{body}    }}\n}}\n");
        for (body, found) in [
            ("a();\n".repeat(70), 0),
            ("a();\n".repeat(71), 1),
            (
                format!("{}{}", "a();\n".repeat(70), "\n// why\n".repeat(9)),
                0,
            ),
            (format!("let t = [\n{}];\n", "1,\n".repeat(200)), 0),
            (format!("let t = vec![\n{}];\n", "1,\n".repeat(200)), 0),
        ] {
            assert_eq!(
                functions(&Subject::fixture(&[("crates/a/src/lib.rs", &of(body))])).len(),
                found
            );
        }
    }
}
