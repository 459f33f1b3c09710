//! The program that runs is the one that was judged: the file by its content, a script by what the
//! kernel reads of it.

use std::fs;

use stockade_testkit::{TestEnv, escape::Scene, events, run::require_tool};
use stockade_types::Digest;

use crate::attacks::{
    for_each_user,
    matrix::{Attempt, Matrix, closed, with_policy},
};

/// Denies one program by its name.
const DENIED: &str = "schema = 1\n[[deny]]\nid = \"no-id\"\nwhat = \"exec\"\ncommand = [\"id\", \"**\"]\nreason = \"lab\"\n";

/// The kernel parses the first line of a script in its own way, and a loader named there loads what
/// it is given.
#[test]
fn k20_a_script_runs_what_the_kernel_reads() {
    fn script<'a>(path: &'a str, write: &'a str) -> Attempt<'a> {
        closed(path.trim_start_matches("./"), write).event("exec.decided", "no-id", path)
    }
    const RULES: &str = r#"schema = 1
[[deny]]
id = "no-id"
what = "exec"
command = ["id", "**", "-u", "**"]
reason = "lab"
"#;
    // The kernel uses 255 bytes.
    let long = |name: &str, program: &str| {
        format!(
            r##"perl -e 'open($f, ">", "{name}"); $l = "#!{program}"; print $f $l, " " x (253 - length $l), "-ux\n"' && chmod +x {name} && ./{name}"##
        )
    };
    let (id, truth) = (long("s03", "/usr/bin/id"), long("s03", "/usr/bin/true"));
    let attempts = [
        script("./s01", r"printf '#!/usr/bin/id -u\n' > s01 && chmod +x s01 && ./s01")
            .twin(r"printf '#!/usr/bin/true -u\n' > s01 && chmod +x s01 && ./s01"),
        script("./s02", r"printf '#! \t/usr/bin/id -u\0x\n' > s02 && chmod +x s02 && ./s02")
            .twin(r"printf '#! \t/usr/bin/true -u\0x\n' > s02 && chmod +x s02 && ./s02"),
        script("./s03", &id).twin(&truth),
        script("./s04", r"printf '#!%s /usr/bin/id\n' $(loader) > s04 && chmod +x s04 && ./s04 -u")
            .twin(r"printf '#!%s /usr/bin/true\n' $(loader) > s04 && chmod +x s04 && ./s04"),
        // The kernel starts `ok` with a form feed, not `ok`.
        script("./s05", r"cp /usr/bin/true ok && ln -s /usr/bin/id $'ok\f' && printf '#!./ok\f -u\n' > s05 && chmod +x s05 && ./s05")
            .twin(r"ln -s /usr/bin/true $'ok\f' && printf '#!./ok\f -u\n' > s05 && chmod +x s05 && ./s05"),
    ];
    Matrix {
        options: &with_policy(RULES),
        may_change: &["s01", "s02", "s03", "s04", "s05", "ok", "ok\u{c}"],
        ..Matrix::new("K20", &attempts)
    }
    .check();
}

/// A program matches all names by which rules call it: a longer one of the system, another path to
/// it.
#[test]
fn k20_a_denied_program_is_denied_by_its_other_names() {
    const RULES: &str = r#"schema = 1
[[deny]]
id = "named"
what = "exec"
command = [["python3", "**"], ["/bin/id", "**"], ["/usr/bin/sort", "**"]]
reason = "lab"
"#;
    let deny = |name, snippet, target| closed(name, snippet).event("exec.decided", "named", target);
    let mut attempts = vec![
        deny("path", "/usr/bin/id -u", "/usr/bin/id"),
        deny(
            "copy-of-path",
            "cp /usr/bin/sort copied && ./copied /dev/null",
            "copied",
        ),
        deny(
            "linked-path",
            "ln -s /usr/bin/sort linked && ./linked /dev/null",
            "linked",
        ),
    ];
    let python = fs::canonicalize("/usr/bin/python3").unwrap_or_default();
    let longer = python.to_string_lossy().into_owned();
    let line = format!("{longer} -c 'exit(0)'");
    if longer.starts_with("/usr/bin/python3.") {
        attempts.push(deny("longer-name", &line, &longer));
    } else {
        eprintln!(
            "not tried: a name in a rule that is short for another (`python3` is `{longer}`)"
        );
    }
    Matrix {
        options: &with_policy(RULES),
        may_change: &["copied", "linked"],
        ..Matrix::new("K20", &attempts)
    }
    .check();
}

/// A rule about a directory applies to the directory of the thread that executes.
#[test]
fn k20_a_thread_has_a_directory_of_its_own() {
    const RULES: &str = r#"schema = 1
[[deny]]
id = "not-there"
what = "exec"
command = ["id", "**"]
cwd = ["**/prod"]
reason = "lab"
"#;
    require_tool("gcc");
    let build = |scene: &Scene| {
        let source = scene.env.write("cwd.c", include_str!("cwd.c"));
        scene
            .env
            .command("gcc")
            .args(["-O1", "-o"])
            .arg(scene.workspace().join("cwd"))
            .arg(source)
            .success();
    };
    let attempts = [
        closed("plain", "mkdir -p prod; cd prod; /usr/bin/id --group").event(
            "exec.decided",
            "not-there",
            "--group",
        ),
        closed("thread", "mkdir -p prod; ./cwd prod /usr/bin/id --user").event(
            "exec.decided",
            "not-there",
            "--user",
        ),
    ];
    Matrix {
        options: &with_policy(RULES),
        prepare: &build,
        may_change: &["prod"],
        ..Matrix::new("K20", &attempts)
    }
    .check();
}

/// Content that changes through a mapping leaves no trace in the times of its file, so it is read
/// at every execution, and again when it runs.
#[test]
fn k20_content_that_changed_unseen_is_read_again() {
    for_each_user(|env| {
        let repo = programs(env);
        let evil = fs::read(repo.path().join("evil")).expect("it was just made");
        let digest = Digest::of(&evil);
        let rule = format!(
            "schema = 1\n[[deny]]\nid = \"no-evil\"\nwhat = \"exec\"\ncommand = [\"**\"]\nprograms = [\"sha256:{digest}\"]\nreason = \"lab\"\n"
        );
        let policy = env.write("policy.toml", &rule);
        for while_judged in ["", "race"] {
            let line = format!(
                "./remap /tmp/program-$PPID ./good ./evil {while_judged}; rm -f /tmp/program-$PPID"
            );
            // Control: without the boundary the other program runs.
            let outside = env.shell(repo.path(), &line);
            assert!(outside.stdout.contains("evil"), "{outside:?}");

            let output = env
                .session(repo.path())
                .arg("--policy")
                .arg(&policy)
                .line(&line)
                .output();
            let record = env.record();
            let all = events::summary(&record);
            let found = record
                .iter()
                .filter(|event| event.kind() == "finding.raised")
                .count();
            let refused = record
                .iter()
                .filter(|event| event.is_refusal() && event.rule() == "no-evil")
                .count();
            if while_judged.is_empty() {
                assert_eq!(output.stdout, "", "{all}");
                assert_eq!((refused, found), (1, 0), "{all}");
            } else {
                // It was refused each time, or was detected when it ran, and then the session
                // ended. If it was killed before it could write, the finding is about an unverified
                // execution; both can be found at the same time.
                let ran = output.stdout.matches("evil").count();
                assert!(found <= 2, "{output:?}\n{all}");
                assert!(ran == 0 || found > 0, "{output:?}\n{all}");
                assert!(refused > 0, "the race was never run: {output:?}\n{all}");
            }
        }
        // A program of the system can also be identified by its content.
        let id = fs::read("/usr/bin/id").expect("every machine has it");
        let rule = rule.replace(&digest.to_string(), &Digest::of(&id).to_string());
        let policy = env.write("policy.toml", &rule);
        let output = env
            .session(repo.path())
            .arg("--policy")
            .arg(policy)
            .line("id -u; cp /usr/bin/id own; ./own -u; true")
            .success();
        assert_eq!(output.stdout, "");
        let refused = env.record();
        let refused = refused.iter().filter(|event| event.is_refusal()).count();
        assert_eq!(refused, 2);
    });
}

/// Makes two programs of one size that print which they are, and the one that swaps them.
fn programs(env: &TestEnv) -> stockade_testkit::Repo {
    require_tool("gcc");
    let repo = env.repo();
    let sources = [
        ("remap", include_str!("remap.c").to_owned()),
        ("good", TELLER.to_owned()),
        ("evil", TELLER.replace("good", "evil")),
    ];
    for (name, text) in sources {
        let source = env.write(format!("{name}.c"), &text);
        env.command("gcc")
            .args(["-O1", "-static", "-pthread", "-Wl,--build-id=none", "-o"])
            .arg(repo.path().join(name))
            .arg(source)
            .success();
    }
    repo
}

/// Prints its name, and stays for a moment.
const TELLER: &str = r#"#include <unistd.h>
int main(void) {
    write(1, "good\n", 5);
    return usleep(20000);
}
"#;

/// A file that a process can only reach through its own `/proc` link runs, and is judged.
#[test]
fn k20_what_has_no_path_is_judged_by_content() {
    let memory = |name: &str| {
        format!(
            r#"perl -e '$f = syscall(319, $n = "x", 0); open $o, ">&=", $f; open $i, "{name}"; {{ local $/; syswrite $o, <$i>; }} exec {{ "/proc/self/fd/$f" }} "x", "-u"; exit 1'"#
        )
    };
    let removed = |name: &str| {
        format!(
            "d=$(mktemp -d) && cp {name} $d/x && exec 7< $d/x && rm -r $d && perl -e 'exec {{ \"/proc/self/fd/7\" }} \"x\", \"-u\"; exit 1' 7<&7"
        )
    };
    for_each_user(|env| {
        let repo = env.repo();
        let policy = env.write("policy.toml", DENIED);
        for way in [&memory as &dyn Fn(&str) -> String, &removed] {
            let session = |line: &str| {
                env.session(repo.path())
                    .arg("--policy")
                    .arg(&policy)
                    .line(line)
                    .output()
            };
            let outside = env.shell(repo.path(), &way("/usr/bin/id"));
            assert!(!outside.stdout.is_empty(), "{outside:?}");
            let refused = session(&way("/usr/bin/id"));
            assert_eq!(refused.stdout, "", "{refused:?}");
            events::assert_one_refusal(&env.record(), "-u", "no-id");
            // Another program runs in this way as it does without the boundary.
            let other = session(&way("/usr/bin/env"));
            assert!(
                other.stderr.contains("option") || other.stdout.contains("PATH"),
                "{other:?}"
            );
            let refusals = env.record();
            let refusals = refusals.iter().filter(|event| event.is_refusal()).count();
            assert_eq!(refusals, 0, "{other:?}");
        }
    });
}
