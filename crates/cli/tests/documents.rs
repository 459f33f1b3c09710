//! The examples in documents are correct: policies load and their tests pass, commands exist.
#![expect(clippy::expect_used, reason = "a broken fixture must end the test")]

use std::{fs, path::PathBuf};

use stockade_testkit::{
    TestEnv,
    env::under_test,
    escape::{Action, Case, Expected, Outcome},
};

/// Returns the text of a document of the repository.
fn document(name: &str) -> String {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    let path = PathBuf::from(here).join("../..").join(name);
    fs::read_to_string(path).expect("the document exists")
}

/// Returns the blocks of `text` that are fenced as `language`.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let fence = format!("```{language}\n");
    text.split(fence.as_str())
        .skip(1)
        .filter_map(|rest| rest.split_once("```"))
        .map(|(block, _)| block)
        .collect()
}

#[test]
fn the_policies_of_the_guide_load_and_pass_their_tests() {
    let env = TestEnv::new(under_test());
    let guides = ["docs/policy.md", "docs/approvals.md"].map(document);
    let policies: Vec<&str> = guides
        .iter()
        .flat_map(|guide| blocks(guide, "toml"))
        .collect();
    assert!(policies.len() >= 3, "the guides have examples");
    for (number, text) in policies.into_iter().enumerate() {
        let layer = if text.contains("[require]") {
            "organisation"
        } else {
            "user"
        };
        let path = env.write(env.root().join(format!("example-{number}.toml")), text);
        let check = env
            .stockade()
            .args(["policy", "check", "--layer", layer])
            .arg(&path);
        check.success().assert_stdout(": good, ");
        // The positive control: a mistake in the same text is detected.
        let broken = text.replacen("schema = 1", "schema = 2", 1);
        let path = env.write(env.root().join(format!("broken-{number}.toml")), &broken);
        let check = env
            .stockade()
            .args(["policy", "check", "--layer", layer])
            .arg(&path);
        check.output().assert_code(1).assert_stdout("write 1");
    }
}

#[test]
fn commands_that_documents_name_exist() {
    let env = TestEnv::new(under_test());
    for name in ["README.md", "docs/policy.md", "CHANGELOG.md"] {
        let text = document(name);
        let spans = text.split('`').skip(1).step_by(2);
        let named: Vec<&str> = spans
            .filter_map(|span| span.strip_prefix("stockade "))
            .collect();
        for line in named {
            let words = line.split_whitespace().take_while(|word| {
                word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && !word.starts_with('-')
            });
            let help = env.stockade().args(words).arg("--help").output();
            assert!(help.code() == 0, "{name} names `stockade {line}`\n{help:?}");
        }
    }
}

/// The example of `docs/howto/add-an-attack-test.md`.
#[test]
fn a_hook_cannot_be_planted() {
    let refused = [Expected {
        kind: "file.denied",
        rule: "protected",
        target: ".git/hooks/pre-commit",
        count: 1,
    }];
    Case::new(
        "hook",
        "a git hook is written",
        Action::Snippet("echo 'echo planted' > .git/hooks/pre-commit"),
        &|scene| scene.workspace().join(".git/hooks/pre-commit").exists(),
        Outcome::Refused(&refused),
    )
    .check(&under_test());
}

/// Returns the words after `begin` on the lines of a document that begin with it.
fn words_after(text: &str, begin: &str) -> Vec<Vec<String>> {
    text.lines()
        .filter_map(|line| line.strip_prefix(begin))
        .map(|rest| rest.split_whitespace().map(str::to_owned).collect())
        .collect()
}

#[test]
fn units_and_images_start_commands_that_exist() {
    let env = TestEnv::new(under_test());
    let accepted = |words: &[String]| {
        let run = env.stockade().args(words).args(["--help"]);
        run.output().code() == 0
    };
    for unit in ["stockade-serve.service", "stockade-node.service"] {
        let text = document(&format!("packaging/{unit}"));
        let commands = words_after(&text, "ExecStart=");
        let [words] = commands.as_slice() else {
            panic!("{unit}: {commands:?}");
        };
        let (program, words) = words.split_first().expect("a program");
        assert!(program.ends_with("/bin/stockade"), "{unit}: {program}");
        assert!(accepted(words), "{unit}: {words:?}");
    }
    let image = document("packaging/Containerfile");
    let (_, words) = image.split_once("CMD ").expect("a command");
    let words: Vec<String> = serde_json::from_str(words.trim()).expect("a list");
    assert!(accepted(&words), "{words:?}");
    // The control.
    assert!(!accepted(&[
        "serve".to_owned(),
        "--no-such-option".to_owned()
    ]));
}
