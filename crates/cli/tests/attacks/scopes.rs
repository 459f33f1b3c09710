//! Nothing that a command starts leaves its scope (family T).

use std::time::Duration;

use stockade_testkit::{events, wait};

use crate::attacks::{build, for_each_user};

/// The kernel keeps the scope of a process: the limit that says it cannot be changed, and a process
/// without parents still has it. The control is the same program outside, which changes its limit.
#[test]
fn t02_a_process_stays_in_the_scope_of_its_command() {
    for_each_user(|env| {
        let repo = env.repo();
        build(env, &repo, &[("scopes", include_str!("scopes.c"))]);
        // It changes its parent too, which is a shell.
        let outside = env
            .command("/bin/sh")
            .current_dir(repo.path())
            .args(["-c", "./scopes early; :"])
            .success();
        outside.assert_stdout("changed by setrlimit\n");
        let later = repo.path().join("later");
        wait::until(Duration::from_secs(20), || later.exists().then_some(()))
            .expect("the control goes on");
        for name in ["early", "later"] {
            std::fs::remove_file(repo.path().join(name)).unwrap();
        }
        let line =
            "/bin/true; ./scopes early; while ! test -e later; do sleep 0.05; done; sleep 0.2";
        let output = env.session(repo.path()).line(line).output();
        assert_eq!(output.assert_success().stdout, "", "nothing is changed");
        let record = env.events(&env.session_id());
        let scope_of = |what: &str| {
            let mut executed = record.iter().filter(|event| {
                event.kind() == "exec.decided"
                    && event.targets(what)
                    && !event.field("scope").is_empty()
            });
            let event = executed.next();
            let event = event.unwrap_or_else(|| panic!("{what} in {}", events::summary(&record)));
            event.field("scope").to_owned()
        };
        let own = scope_of("scopes early");
        assert_ne!(own, scope_of("/bin/true"), "each command has its own");
        for name in ["early", "later"] {
            let changes = record
                .iter()
                .filter(|event| event.kind() == "file.changed" && event.targets(name));
            let changes: Vec<_> = changes.collect();
            let [change] = changes.as_slice() else {
                panic!("one change of {name}, saw {changes:#?}");
            };
            assert_eq!(change.field("scope"), own, "{change:#?}");
        }
        assert_eq!(scope_of("echo x > later"), own);
    });
}
