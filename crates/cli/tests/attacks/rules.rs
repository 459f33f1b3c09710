//! Rules about files apply to the changed file, whatever name or way is used.

use std::fs;

use stockade_testkit::{escape::Scene, events, run::require_tool};

use crate::attacks::{
    for_each_user,
    matrix::{Matrix, closed, with_policy},
};

/// Denies changes below every directory of that name.
const KEEP: &str = "schema = 1\n[[deny]]\nid = \"keep\"\nwhat = \"file\"\npaths = [\"keep/**\"]\nreason = \"lab\"\n";

/// A second name for a file, and a new name for a directory above it, change which rules apply.
#[test]
fn f34_a_rule_holds_under_other_names() {
    let attempts = [
        closed("plain", "echo x > p01/keep/f").event("file.denied", "keep", "p01/keep/f"),
        closed("link", "sys 86 p02/keep/f p02/alias && echo x > p02/alias").event(
            "file.denied",
            "keep",
            "p02/keep/f",
        ),
        closed("link-at", "ln p03/keep/f p03/alias && echo x > p03/alias").event(
            "file.denied",
            "keep",
            "p03/keep/f",
        ),
        closed(
            "link-of-link",
            "ln -s keep/f p04/soft; sys 265 -100 p04/soft -100 p04/alias 1024",
        )
        .event("file.denied", "keep", "p04/keep/f"),
        closed(
            "link-of-descriptor",
            "exec 9< p05/keep/f; sys 265 -100 /proc/self/fd/9 -100 p05/alias 1024",
        )
        .event("file.denied", "keep", "p05/keep/f"),
        // Kernels before 6.10 allow this to no program inside.
        closed(
            "link-of-nothing",
            "exec 9< p06/keep/f; sys 265 9 '' -100 p06/alias 4096",
        )
        .twin("exec 9< p06/keep/f; sys 265 -100 /proc/self/fd/9 -100 p06/alias 1024"),
        closed("directory", "mv p07/keep p07/other && echo x > p07/other/f").event(
            "file.denied",
            "keep",
            "p07/keep/f",
        ),
        closed("above", "mv p08 q08 && echo x > q08/keep/f").event(
            "file.denied",
            "keep",
            "p08/keep/f",
        ),
        closed(
            "into-place",
            "mkdir -p p09/new && echo x > p09/new/g && mv p09/new p09/deeper/keep",
        )
        .event("file.denied", "keep", "p09/deeper/keep/g"),
        closed(
            "removed",
            "mkdir p11/d; exec 9< p11/d; rmdir p11/d; echo x > /proc/self/fd/9/../keep/f",
        )
        .event("file.denied", "keep", "p11/keep/f"),
        closed("socket", "perl -e 'use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, pack_sockaddr_un(\"p12/keep/s\")) or exit 1'")
            .event("file.denied", "keep", "p12/keep/s"),
        // The length of the address cuts the path.
        closed("socket-cut", "perl -e 'use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0); syscall(49, fileno(S), $a = pack(\"S a*\", 1, \"p13/keep/s-\"), 12) == 0 or exit 1'")
            .event("file.denied", "keep", "p13/keep/s"),
        closed(
            "exchange",
            "mkdir p10/new; sys 316 -100 p10/new -100 p10/keep 2",
        )
        .event("file.denied", "keep", "p10/keep/f"),
    ];
    let prepare = |scene: &Scene| {
        for number in 1..=13 {
            let path = scene.workspace().join(format!("p{number:02}/keep/f"));
            scene.env.write(path, "kept\n");
        }
        scene.env.write(scene.workspace().join("p09/deeper/f"), "");
    };
    Matrix {
        prepare: &prepare,
        options: &with_policy(KEEP),
        may_change: &["p04/soft", "p09/new", "p09/new/**", "p10/new", "p11"],
        ..Matrix::new("F34", &attempts)
    }
    .check();
}

/// Namespaces that the session makes have no `/proc` of their own: `self` is still the outer
/// process.
#[test]
fn f34_a_rule_holds_in_namespaces_of_the_session() {
    require_tool("unshare");
    for_each_user(|env| {
        if env.is_root() {
            eprintln!("not tried as root: the kernel maps no root there");
            return;
        }
        let repo = env.repo();
        env.write(repo.path().join("below/keep/f"), "kept\n");
        let text = format!("{KEEP}[process]\nnamespaces = true\n");
        let policy = env.write("policy.toml", &text);
        let line = "cd below && unshare -r -p -f /bin/sh -c 'echo x > /proc/self/cwd/keep/f'";
        env.shell(repo.path(), line).assert_success();
        env.write(repo.path().join("below/keep/f"), "kept\n");
        let output = env
            .session(repo.path())
            .arg("--policy")
            .arg(policy)
            .line(line)
            .output();
        assert_ne!(output.code(), 0, "{output:?}");
        let kept = fs::read_to_string(repo.path().join("below/keep/f")).ok();
        assert_eq!(kept.as_deref(), Some("kept\n"), "{output:?}");
        events::assert_one_refusal(&env.record(), "below/keep/f", "keep");
    });
}

/// A change that did not happen is not recorded, and a name may end like the kernel's mark for
/// removed files.
#[test]
fn f40_what_did_not_happen_is_not_recorded() {
    for_each_user(|env| {
        let repo = env.repo();
        let line = "perl -e 'rename(\"nope\", \"a\"); link(\"nope\", \"b\")'; \
                    mkdir 'c (deleted)'; mkdir 'c (deleted)'; mkdir .; ln -s d README.md; ln README.md test.sh; \
                    cd 'c (deleted)' && echo x > d && cat d";
        let output = env.session(repo.path()).line(line).success();
        assert_eq!(output.stdout, "x\n", "{output:?}");
        let record = env.record();
        let changed: Vec<_> = record
            .iter()
            .filter(|event| event.kind() == "file.changed")
            .collect();
        let all = events::summary(&record);
        assert_eq!(changed.len(), 2, "{all}");
        assert!(
            changed.iter().all(|event| event.targets("c (deleted)")),
            "{all}"
        );
    });
}

/// A directory that cannot be read cannot be moved; one that no rule is about moves as usual.
#[test]
fn f34_only_what_can_be_judged_moves() {
    for_each_user(|env| {
        let repo = env.repo();
        for path in ["a/keep/f", "b/plain/f", "b/linked"] {
            env.write(repo.path().join(path), "kept\n");
        }
        let policy = env.write("policy.toml", KEEP);
        let line = "chmod 0 a/keep; mv a c; chmod 755 a/keep; mv b d && ln d/linked d/second";
        env.session(repo.path())
            .arg("--policy")
            .arg(policy)
            .args(["--", "/bin/sh", "-c", line])
            .success();
        let record = env.record();
        let all = events::summary(&record);
        let kept = fs::read_to_string(repo.path().join("a/keep/f")).ok();
        assert_eq!(kept.as_deref(), Some("kept\n"), "{all}");
        let refused = record.iter().filter(|event| event.is_refusal()).count();
        assert_eq!(refused, 1, "{all}");
        // A second name is not a change of the first.
        let changed = |path: &str| {
            let of = |event: &&events::Event| event.kind() == "file.changed" && event.targets(path);
            record.iter().filter(of).count()
        };
        assert_eq!((changed("d/linked"), changed("d/second")), (0, 1), "{all}");
        for moved in ["d/plain/f", "d/linked", "d/second"] {
            assert!(repo.path().join(moved).exists(), "{moved}: {all}");
        }
    });
}
