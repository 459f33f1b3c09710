//! Nothing that a command starts leaves its scope (family T).

use std::time::Duration;

use stockade_testkit::{
    events::{self, Event},
    run::require_tool,
    wait,
};

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

/// Where the kernel cannot keep scopes the session says so, and does not start if they are required. The
/// control is the same session without the lowered limit.
#[test]
fn t02_a_session_without_scopes_says_so() {
    for_each_user(|env| {
        require_tool("prlimit");
        let repo = env.repo();
        for (lowered, is_stated) in [(true, true), (false, false)] {
            let run = |more: &[&str]| {
                let mut words = vec![env.binary().display().to_string()];
                if lowered {
                    words.insert(0, "prlimit --rttime=1000000000000:1000000000000".to_owned());
                }
                words.push("run --ask deny".to_owned());
                words.extend(more.iter().map(|word| (*word).to_owned()));
                words.push("-- /bin/true".to_owned());
                env.shell(repo.path(), &words.join(" "))
            };
            run(&[]).assert_code(0);
            let shown = env.stockade().args(["events", "last", "--json"]).success();
            let stated = Event::parse_lines(&shown.stdout);
            let stated = stated
                .iter()
                .filter(|event| event.field("guarantee") == "scopes");
            let holds: Vec<_> = stated.map(|event| event.json.get("holds")).collect();
            assert_eq!(holds, [Some(&serde_json::Value::Bool(!is_stated))]);
            let required = run(&["--require", "scopes"]);
            if is_stated {
                required.assert_stderr("`scopes` is required");
            } else {
                required.assert_code(0);
            }
        }
    });
}
