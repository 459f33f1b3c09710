//! Manual pages and completions: each command has its page, and nothing hidden is offered.

use stockade_testkit::{TestEnv, env::under_test};

#[test]
fn every_command_has_its_manual_page() {
    let env = TestEnv::new(under_test());
    let page = |words: &[&str]| env.stockade().arg("man").args(words).output();
    page(&[]).assert_success().assert_stdout(".TH stockade 1");
    let run = page(&["run"]);
    run.assert_success()
        .assert_stdout(".TH stockade-run 1")
        .assert_stdout("session\\-file");
    assert!(!run.stdout.contains("fail\\-step"), "{run:?}");
    page(&["policy", "test"])
        .assert_success()
        .assert_stdout(".TH stockade-policy-test 1");
    for words in [&["nope"][..], &["__bench"], &["run", "nope"]] {
        page(words)
            .assert_code(2)
            .assert_stderr("there is no command");
    }
}

#[test]
fn completions_offer_nothing_hidden() {
    let env = TestEnv::new(under_test());
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = env.stockade().args(["completions", shell]).output();
        output.assert_success().assert_stdout("session-file");
        for hidden in ["__reference", "__bench", "fail-step"] {
            assert!(!output.stdout.contains(hidden), "{shell}: {hidden}");
        }
    }
}
