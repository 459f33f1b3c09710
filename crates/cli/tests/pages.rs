//! Manual pages and completions: each command has its page, nothing hidden is offered, and shells
//! complete what exists on this machine.

use std::{fs, os::unix::fs::symlink, path::Path};

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

/// Prints bash's completions for the words after `stockade`.
const BASH: &str = "source <(stockade completions bash); COMP_WORDS=(stockade \"$@\"); COMP_CWORD=$#; \
    _stockade_values stockade \"${COMP_WORDS[COMP_CWORD]}\"; printf '%s\\n' \"${COMPREPLY[@]}\"";
/// Prints zsh's, with replacements for the functions that only its line editor has.
const ZSH: &str = "compdef() { :; }; compadd() { shift; print -l -- ${(M)@:#$words[CURRENT]*}; }; \
    _normal() { print -- \"normal $words $CURRENT\"; }; source <(stockade completions zsh); \
    _stockade() { print clap; }; words=(stockade \"$@\"); CURRENT=$#words; _stockade_values";
const FISH: &str = "stockade completions fish | source; complete -C \"stockade $argv\"";

#[test]
fn shells_complete_what_this_machine_has() {
    let env = TestEnv::new(under_test());
    let repo = env.repo();
    for name in ["demo", "$(touch ran)", "two words"] {
        let run = env.session_with(repo.path(), &["--ask", "deny", "--name", name]);
        run.line("true").output().assert_success();
    }
    let rows = env
        .stockade()
        .args(["sessions", "--json"])
        .success()
        .stdout
        .clone();
    let id = rows
        .split("\"id\":\"")
        .nth(1)
        .and_then(|rest| rest.get(..4));
    let id = id.expect("there are sessions");
    let bin = env.home().join("bin");
    fs::create_dir_all(&bin).expect("the home is ours");
    symlink(env.binary(), bin.join("stockade")).expect("it is new");
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let cases: [(&[&str], &str); 8] = [
        (&["show", "de"], "demo"),
        (&["events", ""], "last"),
        (&["log", "verify", id], id),
        (&["policy", "learn", "demo", "la"], "last"),
        (&["run", "--profile", "open"], "opencode"),
        (&["run", "--env", "HOM"], "HOME"),
        (&["rev"], ""),
        // The command after the two dashes is another program's command line.
        (&["run", "--", "gi"], "git"),
    ];
    let mut tried = 0;
    for (shell, script) in [("bash", BASH), ("zsh", ZSH), ("fish", FISH)] {
        let program = Path::new("/usr/bin").join(shell);
        if !program.exists() {
            eprintln!("not tried: `{shell}` is not on this machine");
            continue;
        }
        tried += 1;
        for (words, expected) in cases {
            let own = match shell {
                "bash" => vec!["-c", script, "bash"],
                "zsh" => vec!["-f", "-c", script, "zsh"],
                _ => vec!["-N", "-c", script],
            };
            let run = env.command(program.display().to_string());
            let run = run.current_dir(repo.path()).env("PATH", &path);
            let shown = run.args(own).args(words).output();
            let expected = match (shell, words) {
                ("zsh", ["run", "--", _]) => "normal gi 1",
                _ => expected,
            };
            shown.assert_stdout(expected);
            assert!(!shown.stdout.contains("touch"), "{shell}: {shown:?}");
        }
        assert!(!repo.path().join("ran").exists(), "{shell}");
    }
    assert!(tried > 0, "no shell is on this machine");
}
