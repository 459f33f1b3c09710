//! Changes of protected files that a person is asked about, by their content.

use std::{cell::RefCell, fs, os::unix::fs::PermissionsExt as _, thread, time::Duration};

use stockade_testkit::{
    TestEnv,
    approvals::{Answer, answer_all},
    env::Repo,
    run::Output,
    wait,
};

use crate::git::{checkout, for_each_user};

/// Runs a line in a session in which a person answers; returns the questions, as they were shown.
fn answered(env: &TestEnv, repo: &Repo, line: &str, allow: bool) -> (Output, Vec<String>) {
    answered_with(env, repo, &[], line, |_| allow)
}

fn answered_with(
    env: &TestEnv,
    repo: &Repo,
    options: &[&str],
    line: &str,
    allow: impl Fn(&str) -> bool,
) -> (Output, Vec<String>) {
    let options: Vec<&str> = ["--ask", "inbox"].iter().chain(options).copied().collect();
    let running = env.session_with(repo.path(), &options).line(line).spawn();
    let shown = RefCell::new(Vec::new());
    let (output, _) = answer_all(env, running, |asked| {
        let text = env
            .stockade()
            .args(["approvals", "show", &asked.id])
            .output();
        let yes = allow(&text.stdout);
        shown.borrow_mut().push(text.stdout);
        if yes {
            Answer::Allow {
                scope: "session".to_owned(),
            }
        } else {
            Answer::Deny {
                reason: "not this".to_owned(),
            }
        }
    });
    (output, shown.into_inner())
}

/// R6: one question for a whole change of the working tree; a yes makes the change as git does
/// outside, a no changes nothing.
#[test]
fn a_change_of_the_working_tree_is_one_question() {
    let commands = [
        "git switch -q dev",
        "git merge -q dev -m merged",
        "git rebase -q dev",
        "git reset -q --hard dev",
        "git checkout dev -- .",
        "git cherry-pick dev",
        "git merge -q --ff-only dev",
        "echo 5 > other && git stash -q -u && git switch -q dev && git stash pop -q",
    ];
    // Every command in its own copy.
    let copies = |env: &TestEnv, name: &str| {
        let repo = checkout::repository(env, name);
        let lines = commands.iter().enumerate().map(|(number, command)| {
            let old = if command.contains("--ff-only") {
                format!("(cd ../{name}-r; git switch -q old);")
            } else {
                String::new()
            };
            format!("{old} cp -a ../{name}-r r{number}; (cd ../{name}-r; git switch -q main);")
        });
        let line = format!(
            "set -e; mkdir ../{name}-r; mv * .[!.]* ../{name}-r; {}",
            lines.collect::<String>()
        );
        env.shell(repo.path(), &line).assert_success();
        repo
    };
    let each = commands.iter().enumerate();
    let each = each.map(|(n, command)| format!("(cd r{n}; {command}; echo $?) 2>&1 | tail -1"));
    let line = each.collect::<Vec<_>>().join("\n");
    let state = "for r in r*; do cd $r; echo $r; git status -sb; git log --format=%s; \
        find . -path ./.git -prune -o -printf '%y %m %p\\n' | sort; \
        find . -path ./.git -prune -o -type f -exec cksum {} + | sort; find .git -name '*.lock'; \
        ls .git | grep -E 'MERGE|rebase|PICK|AUTO'; cd ..; done";
    for_each_user(|env| {
        let outside = copies(env, "outside");
        env.shell(outside.path(), &line).assert_success();
        let outside = env.shell(outside.path(), state).stdout;
        let repo = copies(env, "inside");
        let before = env.shell(repo.path(), state).stdout;
        assert_ne!(before, outside, "{line} does nothing");
        let (output, shown) = answered(env, &repo, &line, false);
        assert_eq!(shown.len(), commands.len(), "{output:?} {shown:#?}");
        let exits: Vec<&str> = output.stdout.lines().collect();
        assert!(exits.iter().all(|exit| *exit != "0"), "{exits:?}");
        // The stash contains what it saved.
        let undo = "cd r7; git stash drop -q; cd ..;";
        let after = env.shell(repo.path(), &format!("{undo} {state}")).stdout;
        assert_eq!(before, after, "{output:?}");
        let (output, shown) = answered(env, &repo, &line, true);
        assert_eq!(shown.len(), commands.len(), "{output:?} {shown:#?}");
        assert_eq!(output.stdout, "0\n".repeat(commands.len()), "{output:?}");
        assert_eq!(outside, env.shell(repo.path(), state).stdout, "{output:?}");
    });
}

/// The same files in another working tree of the workspace need no question, with or without a
/// person.
#[test]
fn copies_of_what_the_workspace_has_are_not_asked_about() {
    for_each_user(|env| {
        let repo = checkout::repository(env, "copies");
        let line = "set -e; git worktree add -q wt -B side; git -C wt status -s; cat wt/.vscode/settings.json; \
            git clone -q . copy; git -C copy status -s; cat copy/.envrc; git worktree remove wt; rm -rf copy; \
            git clone -q -b dev . other 2> /dev/null || echo refused";
        let (output, shown) = answered(env, &repo, line, false);
        assert_eq!(
            (output.stdout.as_str(), shown.len()),
            ("1\n1\nrefused\n", 1),
            "{output:?}"
        );
        let output = env.session(repo.path()).line(line).output();
        assert_eq!(output.stdout, "1\n1\nrefused\n", "{output:?}");
    });
}

/// The text of a question about the working tree, and that an answer is valid only for that
/// content.
#[test]
fn an_answer_holds_for_the_content_that_was_shown() {
    for_each_user(|env| {
        let repo = checkout::repository(env, "content");
        // Content from the start of the session returns without a question, and the second time the
        // answer still applies; content of a commit made in the session is different.
        let line = "set -e; git switch -q dev; git switch -q main; git switch -q dev; git switch -q main; \
            git worktree add -q wt -b evil; cd wt; blob=$(echo evil | git hash-object -w --stdin); \
            git update-index --add --cacheinfo 100644,$blob,.vscode/settings.json; git commit -qm evil; \
            cd ..; git worktree remove -f wt; git switch -q evil || exit 9";
        let no_evil = |text: &str| !text.contains("+ evil");
        let (output, shown) = answered_with(env, &repo, &[], line, no_evil);
        assert_eq!(output.code(), 9, "{output:?}");
        let [first, evil] = shown.as_slice() else {
            panic!("{shown:#?} {output:?}");
        };
        for text in [
            "- 1",
            "+ 2",
            "write     .vscode/settings.json",
            "  remove  ",
            "- 1",
            "create    mise.toml",
        ] {
            assert!(first.contains(text), "{text}: {first}");
        }
        assert!(evil.contains("+ evil"), "{evil}");
        let kept = env.shell(repo.path(), "cat .vscode/settings.json; git status -s");
        assert_eq!(kept.stdout, "1\n", "{kept:?}");
    });
}

/// The owner's changes meanwhile are his: nothing restores the old content without a question.
#[test]
fn what_the_owner_wrote_meanwhile_is_asked_about() {
    for_each_user(|env| {
        let repo = checkout::repository(env, "owner");
        let (ready, go) = (repo.path().join("ready"), repo.path().join("go"));
        let settings = repo.path().join(".vscode/settings.json");
        let line = "git switch -q dev; touch ready; until [ -e go ]; do sleep 0.05; done; \
            git checkout -q -f main";
        let own = thread::spawn(move || {
            let there = wait::until_true(Duration::from_secs(20), || ready.exists());
            fs::write(settings, "of the owner\n").expect("the owner may");
            fs::write(go, "").expect("the owner may");
            there
        });
        let no = |text: &str| !text.contains("of the owner");
        let (output, shown) = answered_with(env, &repo, &[], line, no);
        assert!(own.join().expect("it ends"), "{output:?}");
        assert_eq!(shown.len(), 2, "{shown:#?}");
        let kept = fs::read_to_string(repo.path().join(".vscode/settings.json"));
        assert_eq!(kept.expect("it is there"), "of the owner\n");
    });
}

/// Hooks, however they are written: one question with the code that would run, and no change
/// without a yes.
#[test]
fn a_hook_is_asked_about_by_what_is_in_it() {
    const HOOK: &str = "#!/bin/sh\necho hooked\n";
    let ways = [
        "printf '#!/bin/sh\\necho hooked\\n' > .git/hooks/pre-push && chmod +x .git/hooks/pre-push",
        "printf '#!/bin/sh\\necho hooked\\n' > x && chmod +x x && mv x .git/hooks/pre-push",
        "printf '#!/bin/sh\\necho hooked\\n' > x && install -m 755 x .git/hooks/pre-push && ls .git/hooks/pre-push",
        "python3 -c 'import os\nwith open(\".git/hooks/pre-push\", \"w\") as f: f.write(\"#!/bin/sh\\necho hooked\\n\")\n\
         os.chmod(\".git/hooks/pre-push\", os.stat(\".git/hooks/pre-push\").st_mode | 0o111)'",
        "printf '#!/bin/sh\\n' > .git/hooks/pre-push; printf 'echo hooked\\n' >> .git/hooks/pre-push; \
         chmod 755 .git/hooks/pre-push",
    ];
    let each = ways.iter().enumerate().map(|(number, way)| {
        let way = way.replace("\\\\n", "\\n");
        format!("(cd r{number} && {way}; echo $?)")
    });
    let line = each.collect::<Vec<_>>().join("\n");
    let repositories = |env: &TestEnv, name: &str| {
        let repo = env.repo_named(name);
        let make = "rm -rf .git; for n in 0 1 2 3 4; do git init -q r$n; done";
        env.shell(repo.path(), make).assert_success();
        repo
    };
    let hook =
        |repo: &Repo, number: usize| repo.path().join(format!("r{number}/.git/hooks/pre-push"));
    for_each_user(|env| {
        let yes = repositories(env, "yes");
        let (output, shown) = answered(env, &yes, &line, true);
        assert_eq!(
            output.stdout.replace(".git/hooks/pre-push\n", ""),
            "0\n0\n0\n0\n0\n",
            "{output:?}"
        );
        assert_eq!(shown.len(), ways.len(), "{shown:#?}");
        for (number, text) in shown.iter().enumerate() {
            assert!(text.contains("+ echo hooked"), "{text}");
            let hook = hook(&yes, number);
            let kept = fs::read_to_string(&hook).ok();
            assert_eq!(kept.as_deref(), Some(HOOK), "{number}");
            let mode = fs::metadata(hook).expect("it is there").permissions();
            assert_eq!(mode.mode() & 0o777, 0o755, "{number}");
        }
        let no = repositories(env, "no");
        let (refused, shown) = answered(env, &no, &line, false);
        assert_eq!(shown.len(), ways.len(), "{shown:#?}");
        let nobody = repositories(env, "nobody");
        let unasked = env.session(nobody.path()).line(&line).output();
        for (output, repo) in [(refused, no), (unasked, nobody)] {
            let exits: Vec<&str> = output.stdout.lines().collect();
            assert!(
                exits.len() == ways.len() && !exits.contains(&"0"),
                "{output:?}"
            );
            assert!(
                (0..ways.len()).all(|number| !hook(&repo, number).exists()),
                "{output:?}"
            );
        }
    });
}

/// Programs of hook managers write many files: one question, which shows each text once.
#[test]
fn hooks_of_one_program_are_one_question() {
    for_each_user(|env| {
        let repo = env.repo();
        let line = "python3 -c 'import os, subprocess\n\
            subprocess.run([\"git\", \"config\", \"core.hooksPath\", \".husky/_\"], check=True)\n\
            os.makedirs(\".husky/_\")\n\
            for name in [\"pre-commit\", \"pre-push\", \"commit-msg\"]:\n \
            open(\".husky/_/\" + name, \"w\", opener=lambda p, f: os.open(p, f, 0o755)).write(\"exit 0\\n\")'\n\
            git commit -q --allow-empty -m two && rm .husky/_/pre-push";
        let (output, shown) = answered(env, &repo, line, true);
        output.assert_success();
        let [text] = shown.as_slice() else {
            panic!("{shown:#?} {output:?}");
        };
        assert!(
            text.contains(".husky/_/pre-push, the same as .husky/_/pre-commit"),
            "{text}"
        );
        let seen = env.shell(repo.path(), "ls .husky/_; git config core.hooksPath");
        assert_eq!(seen.stdout, "commit-msg\npre-commit\n.husky/_\n");
        // Without a person the setting is refused too, because no hooks could be put at its place.
        let nobody = env.repo_named("nobody");
        let output = env.session(nobody.path()).line(line).output();
        assert_ne!(output.code(), 0, "{output:?}");
        let seen = env.shell(nobody.path(), "ls -d .husky; git config core.hooksPath");
        assert_eq!(seen.stdout, "", "{seen:?}");
    });
}

/// Code inside cannot change the shown content, nor cause questions that must not be asked.
#[test]
fn nothing_else_comes_with_an_answer() {
    const HELD: &str = "schema = 1\n[workspace]\nprotect = [\".husky/**\"]\n";
    // A line, and how often it may cause a question.
    let attacks = [
        // Another process keeps the descriptor and writes after the answer.
        (
            "python3 -c 'import os, time\nf = os.open(\".git/hooks/x\", os.O_WRONLY | os.O_CREAT, 0o755)\n\
          os.write(f, b\"good\\n\")\n\
          if os.fork() == 0:\n  \
          while os.path.getsize(\".git/hooks/x\") == 0: time.sleep(0.02)\n  \
          os.pwrite(f, b\"evil\\n\", 0)\n\
          os.close(f)\nopen(\"plain\", \"w\")\nos.wait()'",
            1,
        ),
        // A mapping outlives the descriptor.
        (
            "python3 -c 'import mmap, os\nf = os.open(\".git/hooks/x\", os.O_RDWR | os.O_CREAT, 0o755)\n\
          os.ftruncate(f, 4096)\nm = mmap.mmap(f, 4096)\nos.close(f)\nopen(\"plain\", \"w\")\nm[:4] = b\"evil\"\nos._exit(0)'",
            0,
        ),
        ("mkdir -p .claude; echo evil > .claude/settings.json", 0),
        ("mkdir -p .vscode; echo evil > .vscode/tasks.json", 0),
        ("echo evil > .envrc", 0),
        ("echo evil > .mcp.json", 0),
        ("echo evil >> .git/info/attributes", 0),
        ("echo evil > .git/objects/info/alternates", 0),
        ("echo '[core]' >> .git/config", 0),
        ("ln -s /bin/sh .git/hooks/pre-push", 0),
        ("echo evil > y; ln y .git/hooks/pre-push", 0),
        ("mkdir .husky; echo evil > .husky/pre-commit", 0),
        ("seq 100000 > .git/hooks/pre-push", 0),
        ("seq 1000 > .git/hooks/pre-push", 0),
        (
            "python3 -c 'import os\n\
          os.close(os.open(\".git/index.lock\", os.O_CREAT | os.O_WRONLY))\n\
          for p in [\".git/hooks/x\", \".git/config\", \".git/info/attributes\", \".stockade.toml\", \".husky/x\"]:\n \
          try: open(p, \"w\").write(\"evil\")\n \
          except OSError as e: print(e)\n\
          os.rename(\".git/index.lock\", \".git/index\")'",
            0,
        ),
    ];
    for_each_user(|env| {
        let policy = env.write("held.toml", HELD).display().to_string();
        for (number, (line, asked)) in attacks.iter().enumerate() {
            let repo = env.repo_named(&format!("a{number}"));
            let line = format!("{line}\n/run/stockade/why");
            let options = ["--policy", policy.as_str()];
            let (output, shown) = answered_with(env, &repo, &options, &line, |_| true);
            assert_eq!(shown.len(), *asked, "{line}: {shown:#?} {output:?}");
            if *asked == 0 {
                output.assert_stdout("was refused");
            }
            let found = env.shell(repo.path(), "grep -rl evil . | grep -v plain; ls .git/hooks | grep -v sample; git config core.bare");
            let there = if *asked == 1 { "x\nfalse\n" } else { "false\n" };
            assert_eq!(
                found.stdout.replace("./y\n", ""),
                there,
                "{line}: {output:?}"
            );
        }
    });
}
