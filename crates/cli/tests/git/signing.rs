//! Commits of a person who signs them outside.

use crate::git::for_each_user;

const SETTINGS: &str = "[user]\n\tname = Lab Tester\n\temail = tester@good.test\n\tsigningkey = ABCD\n\
    [commit]\n\tgpgSign = true\n[tag]\n\tgpgSign = true\n[gpg]\n\tprogram = /bin/false\n";

/// Inside they are unsigned, with one line; a command that asks for a signature itself fails as it
/// does outside.
#[test]
fn commits_are_unsigned_where_the_keys_are_not() {
    for_each_user(|env| {
        let repo = env.repo();
        let line = "git commit -q --allow-empty -m inside && git tag -a v1 -m v1 && git commit -q --allow-empty --amend -m two \
                    && git log -1 --format=%s%G?";
        let plain = env.session(repo.path()).line(line).output();
        assert_eq!(
            (plain.stdout.as_str(), plain.stderr.as_str()),
            ("twoN\n", "")
        );
        let settings = env.write("home/.gitconfig", SETTINGS);
        let bare = env.shell(repo.path(), "git commit --allow-empty -m x");
        assert_eq!(bare.code(), 128, "control: {bare:?}");
        let global = env
            .session(repo.path())
            .line(format!("git tag -d v1 > /dev/null; {line}"))
            .output();
        let said = "git: commits are made unsigned; your keys are not inside";
        assert_eq!(global.stdout, "twoN\n", "{global:?}");
        assert_eq!(global.stderr.matches(said).count(), 1, "{global:?}");
        // The same if the repository sets it.
        let text = SETTINGS
            .split("[commit]")
            .next()
            .expect("it has a beginning");
        std::fs::write(settings, text).expect("it is ours");
        env.shell(repo.path(), "git config commit.gpgsign true")
            .assert_success();
        let local = env
            .session(repo.path())
            .line(format!("git tag -d v1 > /dev/null; {line}"))
            .output();
        assert_eq!(local.stdout, "twoN\n", "{local:?}");
        let asked = env
            .session(repo.path())
            .line("git commit -S --allow-empty -m x")
            .output();
        assert_eq!(asked.code(), 128, "{asked:?}");
    });
}
