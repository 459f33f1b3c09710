//! One Rust file as the checks see it.

use anyhow::{Result, anyhow};
use proc_macro2::{LineColumn, Span, TokenStream, TokenTree};
use syn::{Attribute, Expr, Item, ItemMod, spanned::Spanned};

/// A parsed Rust file of the workspace.
pub(super) struct RustSource {
    /// From the repository's root, for example `crates/egress/src/dns.rs`.
    pub(super) path: String,
    /// The folder of its crate, for example `crates/egress`.
    pub(super) folder: String,
    pub(super) text: String,
    pub(super) ast: syn::File,
    /// The whole file is test code: an integration test, a bench or a module's `tests.rs`.
    pub(super) is_test: bool,
}

impl RustSource {
    /// Parses a file; an error names the file and the line.
    pub(super) fn parse(path: &str, text: &str) -> Result<Self> {
        let ast = syn::parse_file(text).map_err(|error| {
            anyhow!("{path}:{}: is not Rust: {error}", error.span().start().line)
        })?;
        Ok(Self {
            path: path.into(),
            folder: crate_folder(path),
            text: text.into(),
            ast,
            is_test: is_test_path(path),
        })
    }

    /// The name of its crate's folder, for example `egress`.
    pub(super) fn crate_name(&self) -> &str {
        self.folder.rsplit('/').next().unwrap_or_default()
    }

    /// Tells whether the file is the root of a crate.
    pub(super) fn is_crate_root(&self) -> bool {
        let rest = self.path.strip_prefix(&self.folder).unwrap_or_default();
        matches!(rest, "/src/lib.rs" | "/src/main.rs") || rest.starts_with("/src/bin/")
    }

    /// The items of the file that are part of production code.
    pub(super) fn production_items(&self) -> impl Iterator<Item = &Item> {
        let items = if self.is_test {
            &[]
        } else {
            self.ast.items.as_slice()
        };
        items.iter().filter(|item| !is_test_item(item))
    }

    /// The tokens of production code.
    pub(super) fn production_tokens(&self) -> Vec<TokenStream> {
        let Ok(stream) = self.text.parse::<TokenStream>() else {
            return Vec::new();
        };
        if self.is_test {
            return Vec::new();
        }
        // Items of `#[cfg(test)]` are cut out by their lines, so that no second parser is needed.
        let test_lines: Vec<_> = self
            .ast
            .items
            .iter()
            .filter(|item| is_test_item(item))
            .map(lines_of)
            .collect();
        let keep = |tree: &TokenTree| {
            let LineColumn { line, .. } = tree.span().start();
            !test_lines
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&line))
        };
        vec![stream.into_iter().filter(keep).collect()]
    }
}

/// First and last line of something, counted from one.
pub(super) fn lines_of(node: &impl Spanned) -> (usize, usize) {
    let span: Span = node.span();
    (span.start().line, span.end().line)
}

/// Tells whether an item is compiled for tests only.
pub(super) fn is_test_item(item: &Item) -> bool {
    attributes(item).iter().any(is_cfg_test)
}

fn is_cfg_test(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute
            .parse_args::<syn::Ident>()
            .is_ok_and(|condition| condition == "test")
}

/// The attributes of an item, none for the kinds that cannot hold code.
pub(super) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(ItemMod { attrs, .. }) => attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Tells whether an item is a table of data: a constant that holds a list.
pub(super) fn is_table(item: &Item) -> bool {
    match item {
        Item::Const(item) => is_list(&item.expr),
        Item::Static(item) => is_list(&item.expr),
        _ => false,
    }
}

/// Tells whether an expression writes a list out.
pub(super) fn is_list(expr: &Expr) -> bool {
    match expr {
        Expr::Array(_) => true,
        Expr::Reference(reference) => is_list(&reference.expr),
        Expr::Macro(call) => call.mac.path.is_ident("vec"),
        _ => false,
    }
}

fn crate_folder(path: &str) -> String {
    let take = if path.starts_with("crates/") { 2 } else { 1 };
    path.split('/').take(take).collect::<Vec<_>>().join("/")
}

fn is_test_path(path: &str) -> bool {
    let mut parts = path.split('/').skip(1);
    parts.any(|part| matches!(part, "tests" | "tests.rs" | "benches" | "fuzz" | "examples"))
        // The test kit is never part of what is shipped.
        || path.starts_with("crates/testkit/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_kinds_follow_the_path() {
        for (path, folder, root, test) in [
            ("crates/egress/src/lib.rs", "crates/egress", true, false),
            ("crates/egress/src/dns.rs", "crates/egress", false, false),
            (
                "crates/egress/src/dns/tests.rs",
                "crates/egress",
                false,
                true,
            ),
            ("crates/egress/tests/relay.rs", "crates/egress", false, true),
            ("xtask/src/test/mod.rs", "xtask", false, false),
            ("crates/testkit/src/lib.rs", "crates/testkit", true, true),
        ] {
            let source = RustSource::parse(path, "").unwrap();
            assert_eq!(
                (
                    source.folder.as_str(),
                    source.is_crate_root(),
                    source.is_test
                ),
                (folder, root, test),
                "{path}"
            );
        }
    }

    #[test]
    fn test_modules_are_not_production() {
        let text = "fn kept() {}\n#[cfg(test)]\nmod tests {\n    fn dropped() {}\n}\n";
        let source = RustSource::parse("crates/a/src/lib.rs", text).unwrap();
        let tokens = source
            .production_tokens()
            .into_iter()
            .map(|t| t.to_string())
            .collect::<String>();
        assert!(
            tokens.contains("kept") && !tokens.contains("dropped"),
            "{tokens}"
        );
        assert_eq!(source.production_items().count(), 1);
    }
}
