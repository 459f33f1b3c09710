//! A storm of random system calls: the supervisor survives it, nothing outside changes, no
//! protected name is created, and the record is intact.

use std::{fs, os::unix::fs::PermissionsExt as _};

use stockade_testkit::{env::Snapshot, run::require_tool};

use crate::attacks::for_each_user;

/// Seconds of one storm; `STOCKADE_TEST_STORM` sets another number, for a long run by hand.
const SECONDS: &str = "5";

#[test]
fn random_system_calls_change_nothing_outside() {
    let seconds = std::env::var("STOCKADE_TEST_STORM").unwrap_or_else(|_| SECONDS.to_owned());
    for_each_user(|env| {
        let repo = env.repo();
        let source = env.write("storm.c", include_str!("storm.c"));
        require_tool("gcc");
        env.command("gcc")
            .args(["-O1", "-o"])
            .arg(repo.path().join("storm"))
            .arg(source)
            .success();
        let protected = || {
            // The session may change the modes of its own directories, even to 0; the test reads
            // them as their owner would.
            for own in [repo.path().to_owned(), repo.path().join(".git")] {
                fs::set_permissions(&own, fs::Permissions::from_mode(0o755))
                    .unwrap_or_else(|e| panic!("{} is gone: {e}", own.display()));
            }
            let config =
                fs::read_to_string(repo.path().join(".git/config")).map_err(|e| e.to_string());
            let planted = [".envrc", ".vscode", ".git/hooks/pre-commit"];
            let planted = planted.map(|name| fs::symlink_metadata(repo.path().join(name)).is_ok());
            (config, planted)
        };
        let home = || Snapshot::take(env.home());
        let (before, outside) = (protected(), home());
        let line = format!("./storm 1 {seconds} & ./storm 2 {seconds}; wait");
        let timeout = std::time::Duration::from_mins(1)
            + std::time::Duration::from_secs(seconds.parse().expect("a number"));
        let output = env
            .session(repo.path())
            .timeout(timeout)
            .line(line)
            .output();
        // The supervisor answered to the end, and did not end the program itself.
        assert!(output.stdout.contains("rounds "), "{output:?}");
        assert!(!output.stderr.contains("panicked"), "{output:?}");
        assert_eq!(protected(), before, "{output:?}");
        assert_eq!(home(), outside, "{output:?}");
        env.stockade()
            .args(["log", "verify", "last"])
            .success()
            .assert_stdout("intact");
    });
}
