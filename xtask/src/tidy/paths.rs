//! Paths that are fixed when a test is built.

use proc_macro2::{TokenStream, TokenTree};

use super::{Finding, Subject, tokens::walk};

/// Tests also run as another user, from a copy, where the folders of the build cannot be read.
const BUILD_TIME: &[&str] = &[
    "CARGO_MANIFEST_DIR",
    "CARGO_BIN_EXE_",
    "CARGO_TARGET_TMPDIR",
    "OUT_DIR",
];

/// Finds `env!` on variables whose value is a path of the build.
pub(super) fn build_time(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &subject.sources {
        let Ok(stream) = source.text.parse::<TokenStream>() else {
            continue;
        };
        walk(&stream.into_iter().collect::<Vec<_>>(), &mut |trees| {
            let [
                TokenTree::Ident(word),
                TokenTree::Punct(mark),
                TokenTree::Group(group),
                ..,
            ] = trees
            else {
                return;
            };
            if mark.as_char() != '!' || (word != "env" && word != "option_env") {
                return;
            }
            let argument = group.stream().to_string();
            if let Some(name) = BUILD_TIME
                .iter()
                .find(|name| argument.starts_with(&format!("\"{name}")))
            {
                let message = format!(
                    "`{word}!` fixes `{name}` at build time; read it with `std::env::var_os`"
                );
                findings.push(Finding::new(
                    &source.path,
                    word.span().start().line,
                    message,
                ));
            }
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_the_build_are_found() {
        for (text, found) in [
            (r#"const A: &str = env!("CARGO_MANIFEST_DIR");"#, 1),
            (
                r#"fn f() { let b = concat!(option_env!("CARGO_BIN_EXE_stockade"), "x"); }"#,
                1,
            ),
            (r#"const A: &str = env!("CARGO_PKG_VERSION");"#, 0),
            (r#"fn f() { std::env::var_os("CARGO_MANIFEST_DIR"); }"#, 0),
        ] {
            assert_eq!(
                build_time(&Subject::fixture(&[("crates/a/tests/t.rs", text)])).len(),
                found,
                "{text}"
            );
        }
    }
}
