//! Commands that are asked about (family C): however they are started, the program is identified by
//! its content, and nothing runs before the answer.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
};

use stockade_testkit::{Repo, TestEnv, escape::Scene, events};

use crate::attacks::{
    build, for_each_user,
    matrix::{Attempt, Matrix, closed, with_policy},
};

/// A push, refused because there is no one to ask.
const fn push<'a>(name: &'a str, snippet: &'a str, target: &'a str) -> Attempt<'a> {
    closed(name, snippet).event("exec.decided", "push", target)
}

/// Makes a remote inside the workspace, so that only the decision can prevent a push; and a second
/// commit to push.
fn remote_inside(scene: &Scene) {
    let workspace = scene.workspace();
    let shell = "git clone -q --bare . remote.git && git remote add lab \"$PWD/remote.git\" && \
                 git commit -q --allow-empty -m second";
    scene.env.shell(workspace, shell).assert_success();
}

/// Names, copies, wrappers, shells and aliases do not hide what runs.
#[test]
fn c20_a_push_is_known_under_every_disguise() {
    let own_alias = "printf '[alias]\\n\\tship = push lab HEAD:refs/heads/n06\\n' >> ~/.gitconfig.new; \
                     cat ~/.gitconfig >> ~/.gitconfig.new; GIT_CONFIG_GLOBAL=~/.gitconfig.new git ship";
    let memory = r#"git_path=$(command -v git) perl -e '$fd = syscall(319, $n = "x", 0); $fd > 0 or exit 1;
        open($g, "<", $ENV{git_path}); binmode $g; local $/; $all = <$g>;
        syscall(1, $fd, $all, length $all) == length $all or exit 1;
        @a = ("git", "push", "lab", "HEAD:refs/heads/n08"); $v = pack("p4Q", @a, 0);
        @e = ("HOME=$ENV{HOME}", "PATH=$ENV{PATH}"); $e = pack("p2Q", @e, 0);
        syscall(322, $fd, $p = "", $v, $e, 0x1000); exit 1'"#;
    let attempts = [
        push("plain", "git push lab HEAD:refs/heads/n01", "n01"),
        push(
            "path",
            "\"$(command -v git)\" -C . --no-pager push lab HEAD:refs/heads/n02",
            "n02",
        ),
        push(
            "copied",
            "d=$(mktemp -d) && trap 'rm -rf $d' EXIT && cp \"$(command -v git)\" $d/ls && $d/ls push lab HEAD:refs/heads/n03",
            "n03",
        ),
        push(
            "linked",
            "ln -s \"$(command -v git)\" cat && ./cat push lab HEAD:refs/heads/n04",
            "n04",
        ),
        push(
            "renamed-argv0",
            "(exec -a ls git push lab HEAD:refs/heads/n05)",
            "n05",
        ),
        push("alias-in-file", own_alias, "n06"),
        push(
            "alias-on-line",
            "git -c alias.x='push lab HEAD:refs/heads/n07' x",
            "alias.x",
        ),
        push("memory", memory, "n08"),
        push(
            "wrapped",
            "env nice timeout 9 nohup git push lab HEAD:refs/heads/n09",
            "n09",
        ),
        push(
            "shell",
            "sh -c 'sh -c \"eval git pu\"\"sh lab HEAD:refs/heads/n10\"'",
            "n10",
        ),
        push(
            "arguments",
            "echo push lab HEAD:refs/heads/n11 | xargs git",
            "n11",
        ),
        push(
            "find",
            "find . -maxdepth 0 -exec git push lab HEAD:refs/heads/n12 \\; && [ -e remote.git/refs/heads/n12 ]",
            "n12",
        ),
        push(
            "substitution",
            "cat < <(git push lab HEAD:refs/heads/n13) && false",
            "n13",
        )
        .twin("git push lab HEAD:refs/heads/n13"),
        push(
            "arithmetic",
            "a=(1); : $((a[$(git push lab HEAD:refs/heads/n14)0])); false",
            "n14",
        )
        .twin("git push lab HEAD:refs/heads/n14"),
        push(
            "make",
            "printf 'all:\\n\\tgit push lab HEAD:refs/heads/n15\\n' | make -s -f- all",
            "n15",
        ),
        push(
            "awk",
            "awk 'BEGIN { exit(system(\"git push lab HEAD:refs/heads/n16\")) }'",
            "n16",
        ),
        push(
            "preloaded",
            "LD_PRELOAD=/none.so git push lab HEAD:refs/heads/n17",
            "n17",
        ),
    ];
    Matrix {
        tools: &["make", "awk", "xargs"],
        prepare: &remote_inside,
        may_change: &["cat", "nohup.out"],
        after: &|scene, _| {
            let heads = scene.workspace().join("remote.git/refs/heads");
            let planted = fs::read_dir(heads).expect("the remote is there").flatten();
            let planted: Vec<_> = planted.filter(|e| e.file_name() != "main").collect();
            assert!(planted.is_empty(), "{planted:?}");
        },
        ..Matrix::new("C20", &attempts)
    }
    .check();
}

/// A deny rule about a program also applies to its copies and to code that is loaded another way,
/// as far as the content can be known.
#[test]
fn k20_a_denied_program_is_denied_by_content() {
    let deny = |name: &'static str, snippet: &'static str, target: &'static str| {
        closed(name, snippet).event("exec.decided", "no-id", target)
    };
    let attempts = [
        deny("plain", "/usr/bin/id -u -n01", "-n01").twin("/usr/bin/id -u"),
        deny("copied", "cp /usr/bin/id ./harmless && ./harmless -n02", "-n02").twin("cp /usr/bin/id ./h2 && ./h2"),
        deny("hidden", "mkdir -p /tmp/a/b && cp /usr/bin/id /tmp/a/b/c && cd /tmp/a/b && ./c -n03", "-n03")
            .twin("d=$(mktemp -d) && trap 'rm -rf $d' EXIT && cp /usr/bin/id $d/c && cd $d && ./c -u"),
        deny("linked", "ln -s /usr/bin/id ./link && ./link -n04", "-n04").twin("ln -s /usr/bin/id ./link && ./link -u"),
        deny("loader", "$(loader) /usr/bin/id -u -n06", "-n06").twin("$(loader) /usr/bin/id -u"),
        deny("copied-loader", "cp $(loader) ./plain && ./plain --argv0 x /usr/bin/id -u -n07", "-n07")
            .twin("cp $(loader) ./plain && ./plain --argv0 x /usr/bin/id -u"),
        deny("memory", "perl -e '$f = syscall(319, $n = \"x\", 0); open $o, \">&=\", $f; open $i, \"/usr/bin/id\"; local $/; syswrite $o, <$i>; @a = (\"x\", \"-n08\"); $v = pack(\"p2Q\", @a, 0); $e = pack(\"Q\", 0); syscall(322, $f, $p = \"\", $v, $e, 0x1000); exit 1'", "-n08")
            .twin("perl -e '$f = syscall(319, $n = \"x\", 0); open $o, \">&=\", $f; open $i, \"/usr/bin/id\"; local $/; syswrite $o, <$i>; @a = (\"x\", \"-u\"); $v = pack(\"p2Q\", @a, 0); $e = pack(\"Q\", 0); syscall(322, $f, $p = \"\", $v, $e, 0x1000); exit 1'"),
        // Larger than the part that is read of every program.
        deny("large", "cp \"$(command -v node)\" ./large && ./large -e 0 -n09", "-n09")
            .twin("cp \"$(command -v node)\" ./large && ./large -e 0"),
        deny("descriptor", "exec 8< /usr/bin/id; perl -e '@a = (\"x\", \"-n05\"); $v = pack(\"p2Q\", @a, 0); $e = pack(\"Q\", 0); syscall(322, 8, $p = \"\", $v, $e, 0x1000); exit 1'", "-n05")
            .twin("exec 8< /usr/bin/id; perl -e '@a = (\"x\", \"-u\"); $v = pack(\"p2Q\", @a, 0); $e = pack(\"Q\", 0); syscall(322, 8, $p = \"\", $v, $e, 0x1000); exit 1'"),
    ];
    Matrix {
        options: &with_policy(DENIED),
        tools: &["node"],
        may_change: &["harmless", "large", "link", "plain"],
        ..Matrix::new("K20", &attempts)
    }
    .check();
}

/// A program that prevents inspection is still examined: it can prevent it by a call, or be a file
/// that its user may execute but not read. A program that cannot be identified does not run.
#[test]
fn k10_what_cannot_be_seen_does_not_run() {
    for_each_user(|env| {
        let repo = env.repo();
        let policy = env.write("policy.toml", DENIED);
        let copies = "cp /usr/bin/id own && printf '#!/usr/bin/id -u\n' > script && \
                      cp /usr/bin/env other && chmod 111 own script other";
        env.shell(repo.path(), copies).assert_success();
        let is_root = env.is_root();
        if env.user().is_some() {
            let other = repo.path().join("other");
            chown(other, Some(0), Some(0)).expect("root gives files away");
        }
        // Root can read every file, so the program is identified.
        let unknown = if is_root {
            "no-id"
        } else {
            "unreadable-program"
        };
        let attempts = [
            (
                r#"perl -e 'syscall(157, 4, 0) == 0 or exit 1; exec "/usr/bin/id", "-u"'"#,
                "no-id",
            ),
            ("./own -u", unknown),
            ("./script", unknown),
            ("./other /usr/bin/id -u", unknown),
        ];
        for (line, rule) in attempts {
            // Control: anyone may run it, and it prints a number.
            let outside = env.shell(repo.path(), line);
            let printed = outside.stdout.trim();
            let is_shown = !printed.is_empty() && printed.bytes().all(|b| b.is_ascii_digit());
            assert!(is_shown || line == "./script", "{line}: {outside:?}");

            let output = env
                .session(repo.path())
                .arg("--policy")
                .arg(&policy)
                .line(format!("{line}; :"))
                .success();
            assert_eq!(output.stdout, "", "{line}");
            let record = env.record();
            let refused: Vec<_> = record.iter().filter(|event| event.is_refusal()).collect();
            let all = events::summary(&record);
            assert_eq!(refused.len(), 1, "{line}: {all}");
            assert!(
                refused.iter().all(|event| event.rule() == rule),
                "{line}: {all}"
            );
        }
    });
}

/// A change that a non-inspectable process makes through a descriptor is judged as usual.
#[test]
fn k10_a_process_that_forbids_a_look_is_judged_and_works() {
    for_each_user(|env| {
        let (outside, repo) = (env.repo_named("outside"), env.repo());
        let made = |id: &str| {
            let calls = r#"syscall(157, 4, 0) == 0 or die; sysopen($d, ".", 65536) or die;
                syscall(258, fileno($d), $n = $_, 0755) == 0 and print "$_ " for ("plain", ".vscode");"#;
            match id {
                "process" => format!("perl -e '{calls}'"),
                _ => format!("perl -e 'use threads; async {{ {calls} }}->join'"),
            }
        };
        for id in ["process", "thread"] {
            let line = made(id);
            if id == "thread" && !has_thread_descriptors() {
                eprintln!("not tried: descriptors of single threads (Linux 6.9)");
                continue;
            }
            // Control: both are made, and again inside after they are removed.
            let control = env.shell(outside.path(), &line);
            assert_eq!(control.stdout, "plain .vscode ", "{id}: {control:?}");
            env.shell(outside.path(), "rmdir plain .vscode")
                .assert_success();

            let output = env.session(repo.path()).line(&line).success();
            assert_eq!(output.stdout, "plain ", "{id}");
            let record = env.record();
            events::assert_one_refusal(&record, ".vscode", "protected");
            let changed = record
                .iter()
                .any(|event| event.kind() == "file.changed" && event.targets("plain"));
            assert!(changed, "{id}: {}", events::summary(&record));
            env.shell(repo.path(), "rmdir plain").assert_success();
        }
    });
}

/// An unreadable program that replaces a judged one ends the session.
#[test]
fn k10_a_swapped_program_that_cannot_be_seen_ends_the_session() {
    for_each_user(|env| {
        let programs = [("plain1", IDLER), ("asked1", SLEEPER)];
        let words = ["same", "200", "program"];
        let hide = |repo: &Repo| {
            let asked = repo.path().join("asked1");
            if env.user().is_some() {
                chown(&asked, Some(0), Some(0)).expect("root gives files away");
            }
            let mode = fs::Permissions::from_mode(0o111);
            fs::set_permissions(asked, mode).expect("the tests own it");
        };
        let rule = if env.is_root() {
            "asked"
        } else {
            "unreadable-program"
        };
        swap_hidden(env, &programs, &words, "same", &hide, rule);
    });
}

/// Bytes that are not text are recorded unchanged, and do not affect the decision.
#[test]
fn c34_strange_bytes_are_recorded_and_not_cut() {
    for_each_user(|env| {
        let repo = env.repo();
        let line = "git push \"$(printf 'a\\033[2Jb\\377c\\nd\\r{\"verdict\":\"allow\"}')\"";
        env.session(repo.path()).line(line).output();
        let record = env.record();
        let event = stockade_testkit::events::assert_one_refusal(&record, "git push", "push");
        let text = event.json.to_string();
        assert!(!text.contains('\u{1b}'), "{text}");
        let shown = env.stockade().args(["events", &env.session_id()]).success();
        assert!(!shown.stdout.contains('\u{1b}'), "{shown:?}");
        assert!(shown.stdout.contains("\\u{1b}[2Jb"), "{shown:?}");
        env.stockade()
            .args(["log", "verify", "last"])
            .success()
            .assert_stdout("intact");
    });
}

/// A program whose arguments change between the supervisor's read and the kernel's is detected by
/// the post-exec verification; then the session ends.
#[test]
fn k08_swapped_arguments_end_the_session() {
    for_each_user(|env| {
        swap(
            env,
            &[("program", SLEEPER)],
            &["./program", "200"],
            "asked1",
        );
    });
}

/// The same if the program executes another one before the verification.
#[test]
fn k08_swapped_arguments_of_a_program_that_runs_another_end_the_session() {
    for_each_user(|env| {
        let repo = swap(env, &[("program", HASTY)], &["./program", "200"], "asked1");
        let ran = repo.path().join("asked1").exists();
        assert!(!ran, "what it wanted next was let through");
    });
}

/// The same if the program itself is swapped, but not its arguments.
#[test]
fn k08_a_swapped_program_ends_the_session() {
    for_each_user(|env| {
        let programs = [("plain1", IDLER), ("asked1", SLEEPER)];
        swap(env, &programs, &["same", "200", "program"], "same");
    });
}

/// Whether a descriptor can refer to one thread of a process (`PIDFD_THREAD`).
fn has_thread_descriptors() -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(9))
}

/// Swaps the program that is asked about with another one while it is judged, 200 times: the
/// session ends. `made` is the file that the program that is asked about makes.
fn swap(env: &TestEnv, programs: &[(&str, &str)], words: &[&str], made: &str) -> Repo {
    swap_hidden(env, programs, words, made, &|_| {}, "asked")
}

/// The same after `hide` was applied to the programs, so that `rule` is the one that refuses.
fn swap_hidden(
    env: &TestEnv,
    programs: &[(&str, &str)],
    words: &[&str],
    made: &str,
    hide: &dyn Fn(&Repo),
    rule: &str,
) -> Repo {
    let repo = env.repo();
    build(env, &repo, &[("swap", include_str!("swap.c"))]);
    build(env, &repo, programs);
    hide(&repo);
    let policy = env.write("asked.toml", ASKED);

    // Control: without the boundary the program that is asked about runs.
    env.command(repo.path().join("swap"))
        .args(words)
        .current_dir(repo.path())
        .success();
    fs::remove_file(repo.path().join(made)).expect("the race was won without the boundary");

    let output = env
        .session(repo.path())
        .arg("--policy")
        .arg(policy)
        .args(["--", "./swap"])
        .args(words)
        .output();
    let record = env.record();
    let found = record
        .iter()
        .filter(|event| event.kind() == "finding.raised")
        .count();
    let shown = events::summary(&record);
    // Among 200 tries, some were judged as one program and ran as the other.
    assert_eq!(found, 1, "nobody noticed\n{shown}");
    assert_eq!(output.code(), 137, "{output:?}");
    // Correctly judged ones were refused at once.
    let refused = record.iter().filter(|event| event.rule() == rule).count();
    assert!(refused > 0, "{shown}");
    repo
}

/// Executes at once another program, which makes a file named as its argument.
const HASTY: &str = r#"#include <unistd.h>
int main(int argc, char **argv) {
    char *next[] = { "touch", argv[argc - 1], 0 };
    return execv("/usr/bin/touch", next);
}
"#;
/// Stays for a moment.
const IDLER: &str = r"#include <unistd.h>
int main(void) { return usleep(20000); }
";
/// Makes a file named as its argument, and stays for a moment.
const SLEEPER: &str = r"#include <fcntl.h>
#include <unistd.h>
int main(int argc, char **argv) {
    close(open(argc > 1 ? argv[1] : argv[0], O_CREAT | O_WRONLY, 0600));
    usleep(20000);
    return 0;
}
";

/// Denies one program.
const DENIED: &str = r#"schema = 1
[[deny]]
id = "no-id"
what = "exec"
command = [["id", "**"], ["node", "**"]]
reason = "lab"
"#;

/// Asks about one word, as an argument and as a program.
const ASKED: &str = r#"schema = 1
[[ask]]
id = "asked"
what = "exec"
command = [["program", "asked1"], ["asked1", "**"]]
reason = "the laboratory asks"
"#;
