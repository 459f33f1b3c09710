//! Ways for a process to end: each end comes after the post-exec verification.

use stockade_testkit::events;

use crate::attacks::{build, count, for_each_user};

/// Writes that it ran, in one call, and ends its only thread with exit(2).
const LAST_THREAD: &str = "void _start(void) {\n\
    __asm__ volatile(\"syscall\" : : \"a\"(1), \"D\"(1), \"S\"(\"x\"), \"d\"(1) : \"rcx\", \"r11\", \"memory\");\n\
    __asm__ volatile(\"syscall\" : : \"a\"(60), \"D\"(0));\n}\n";
/// Ends as [`LAST_THREAD`] does.
const HARMLESS: &str =
    "void _start(void) { __asm__ volatile(\"syscall\" : : \"a\"(60), \"D\"(0)); }\n";
const DENIED: &str = r#"schema = 1
[[deny]]
id = "no-asked"
what = "exec"
command = ["asked1", "**"]
reason = "lab"
"#;

/// For a process with one thread, exit(2) is like exit_group(2): a denied program that used it ran
/// as often as its path was swapped, and its session continued.
#[test]
#[cfg(target_arch = "x86_64")]
fn c5_a_swapped_program_that_ends_its_last_thread_ends_the_session() {
    for_each_user(|env| {
        let repo = env.repo();
        let programs = [
            ("swap", include_str!("swap.c")),
            ("plain1", HARMLESS),
            ("asked1", LAST_THREAD),
        ];
        build(env, &repo, &programs);
        let words = ["same", "200", "program"];
        // Control: without the boundary it runs.
        let control = env
            .command(repo.path().join("swap"))
            .args(words)
            .current_dir(repo.path())
            .success();
        assert!(control.stdout.matches('x').count() > 1, "{control:?}");
        let policy = env.write("denied.toml", DENIED);
        let session = || env.session(repo.path()).arg("--policy").arg(&policy);
        let output = session().args(["--", "./swap"]).args(words).output();
        let record = env.record();
        let shown = events::summary(&record);
        assert_eq!(count(&record, "finding.raised"), 1, "{shown}");
        assert_eq!(output.code(), 137, "{output:?}");
        assert!(output.stdout.matches('x').count() <= 1, "{output:?}");
        // The benign twin: such programs run, and each is verified.
        let line = "for i in 1 2 3 4 5 6 7 8 9 10; do ./plain1 || exit 9; done; echo all";
        assert_eq!(session().line(line).success().stdout, "all\n");
        assert_eq!(count(&env.record(), "exec.unconfirmed"), 0);
    });
}
