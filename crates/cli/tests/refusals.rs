//! Every refusal that the supervisor can know is reported: to the session, at the end of the run,
//! and in the record. Each is tested together with the same action when it is permitted.

use std::{fs, os::unix::fs::MetadataExt as _};

use stockade_testkit::{
    Output, Repo, TestEnv, env::under_test, events::Event, kernel::call_number, run::require_tool,
};

fn for_each_user(check: impl Fn(&TestEnv, &Repo)) {
    TestEnv::each(|env, repo| check(&env, &repo));
}

/// Runs a shell command line with the summary for people.
fn told(env: &TestEnv, repo: &Repo, policy: &str, line: &str) -> Output {
    let policy = env.write("told.toml", &format!("schema = 1\n{policy}"));
    let run = env.stockade().args(["run", "--ask", "deny", "--policy"]);
    run.arg(policy)
        .args(["--", "/bin/sh", "-c", line])
        .current_dir(repo.path())
        .output()
}

fn refused(record: &[Event], kind: &str) -> Vec<Event> {
    let all = record.iter().filter(|event| event.kind() == kind);
    all.cloned().collect()
}

#[test]
fn a_refused_call_is_told_with_the_one_step() {
    let perl = require_tool("perl");
    let trace = call_number("kcmp").unwrap();
    let line = format!(
        "{} -e '$! = 0; syscall({trace}, 16, $$, 0, 0); print $! + 0, \"\\n\"'; /run/stockade/why",
        perl.display()
    );
    for_each_user(|env, repo| {
        let output = told(env, repo, "", &line);
        output
            .assert_success()
            .assert_stdout("1\n")
            .assert_stdout("call kcmp was refused")
            .assert_stdout("rule    system-calls")
            .assert_stdout("process.debuggers = \"all\"");
        output
            .assert_stderr("refused    1: kcmp (deny system-calls)")
            .assert_stderr("process.debuggers = \"all\"");
        let shown = env.stockade().args(["show", "last"]).success();
        shown.assert_stdout("✖ call kcmp denied (system-calls) ← perl");
        // If a policy opens it, the kernel answers that there is no such process (ESRCH).
        let output = told(env, repo, "[process]\ndebuggers = \"all\"\n", &line);
        output
            .assert_stdout("3\n")
            .assert_stdout("no refusal is recorded");
        assert_eq!(refused(&env.events("last"), "call.refused"), []);
    });
}

/// The text that a session reads first is short and true; it names the file with the rest.
#[test]
fn what_a_session_is_told_is_short_and_true() {
    for_each_user(|env, repo| {
        for profile in ["generic", "codex", "claude", "opencode"] {
            let line = "cat /run/stockade/boundary.md; wc -c < /run/stockade/boundary.md > size; \
                        cat /run/stockade/boundary-details.md > details";
            let run = env.session_with(repo.path(), &["--ask", "inbox", "--profile", profile]);
            let told = run.line(line).output();
            let of_repo = |name: &str| {
                let text = fs::read_to_string(repo.path().join(name));
                text.unwrap_or_default()
            };
            let size: u64 = of_repo("size").trim().parse().unwrap_or(u64::MAX);
            assert!(size < 3000, "{profile}: {size} B: {}", told.stdout);
            told.assert_stdout(&repo.path().display().to_string())
                .assert_stdout("/run/stockade/why")
                .assert_stdout("`push` (publishes code)")
                .assert_stdout("the call waits")
                .assert_stdout("/run/stockade/boundary-details.md");
            let details = of_repo("details");
            assert!(details.contains("git push **"), "{profile}: {details}");
        }
    });
}

#[test]
fn what_is_not_seen_is_said() {
    for_each_user(|env, repo| {
        let output = told(env, repo, "", "cat /nowhere; /run/stockade/why");
        output
            .assert_stdout("no refusal is recorded")
            .assert_stdout("not seen here");
    });
}

#[test]
fn a_program_with_a_sandbox_of_its_own_is_told_its_switch() {
    require_tool("unshare");
    for (name, remedy) in [
        ("chromium", "`--no-sandbox`"),
        ("bwrap", "switch off the sandbox of the program"),
        ("nix-build", "--option sandbox false"),
        ("unshare", "process.namespaces = true"),
    ] {
        let line =
            format!("cp $(command -v unshare) ./{name}; ./{name} -Ur true; /run/stockade/why");
        for_each_user(|env, repo| {
            let output = told(env, repo, "", &line);
            output
                .assert_stdout("(user namespace) was refused")
                .assert_stdout(remedy);
        });
    }
}

/// Whatever a program varies, its refusals are one event for each call, and counted.
#[test]
fn a_flood_of_refused_calls_is_counted() {
    let perl = require_tool("perl");
    let number = |name| call_number(name).unwrap();
    let text = format!(
        "for $i (1 .. 2000) {{ syscall({}, $i % 40, $i, $i, 0); syscall({}, 4000 + $i); \
         syscall({}, 17 + $i * 100, 3, $i); }}",
        number("kcmp"),
        number("personality"),
        number("socket"),
    );
    for_each_user(|env, repo| {
        let run = env.session(repo.path()).arg("--").arg(&perl);
        run.arg("-e").arg(&text).success();
        let record = env.events("last");
        let calls = refused(&record, "call.refused");
        let names: Vec<&str> = calls
            .iter()
            .filter_map(|event| event.json["target"]["call"].as_str())
            .collect();
        assert_eq!(names, ["kcmp", "personality", "socket unknown"]);
        let repeats = refused(&record, "refusal.repeated");
        let counted: u64 = repeats
            .iter()
            .filter_map(|event| event.json["count"].as_u64())
            .sum();
        assert_eq!(counted, 3 * 1999);
        let end = record.last().unwrap();
        assert_eq!(end.json["counts"]["denials"], 6000);
    });
}

#[test]
fn a_read_only_place_is_told_with_its_path() {
    for_each_user(|env, repo| {
        let notes = env.home().join("notes");
        std::fs::create_dir_all(&notes).unwrap();
        env.write(notes.join("tool"), "x");
        env.own(&notes);
        let line = "mkdir ~/notes/new; echo x > ~/notes/tool; rm ~/notes/tool; \
                    /run/stockade/why";
        let output = told(env, repo, "[filesystem]\nread = [\"~/notes\"]\n", line);
        output
            .assert_stdout("file remove")
            .assert_stdout("notes/tool was refused")
            .assert_stdout("rule    read-only")
            .assert_stdout("filesystem.write");
        output
            .assert_stderr("refused    3:")
            .assert_stderr("(deny read-only)");
        let events = refused(&env.events("last"), "file.denied");
        let access = |event: &Event| event.json["target"]["access"].as_str().map(str::to_owned);
        let access: Vec<_> = events.iter().filter_map(access).collect();
        assert_eq!(access, ["create", "write", "remove"]);
        // If a policy makes it writable it happens, and nothing is reported.
        let policy = "[filesystem]\nwrite = [\"~/notes\"]\n";
        let output = told(env, repo, policy, line);
        output.assert_stdout("no refusal is recorded");
        assert!(notes.join("new").is_dir() && !notes.join("tool").exists());
        assert_eq!(refused(&env.events("last"), "file.denied"), []);
    });
}

/// What the machine itself refuses to this user is not a refusal by the boundary.
#[test]
fn what_is_refused_outside_as_well_is_not_told() {
    for_each_user(|env, repo| {
        let line = "mkdir /usr/new; mkdir -p ~/.local/bin/x/y; mkdir /usr/lib/__pycache__; \
                    rm ~/closed/file; : > ~/closed/other";
        let setup = "mkdir -p ~/closed; : > ~/closed/file; chmod 500 ~/closed; ";
        told(env, repo, "", &format!("{setup}{line}"));
        let events = refused(&env.events("last"), "file.denied");
        let paths: Vec<&str> = events
            .iter()
            .filter_map(|event| event.json["target"]["path"].as_str())
            .collect();
        let expected: &[&str] = if env.is_root() { &["/usr/new"] } else { &[] };
        assert_eq!(paths, expected);
    });
}

/// Root is one user inside; archives with other owners unpack, and no file gets another owner.
#[test]
fn archives_with_other_owners_unpack_as_root() {
    let env = TestEnv::new(under_test());
    if !env.is_root() {
        return;
    }
    let repo = env.repo();
    let pack = "mkdir t && echo x > t/f && tar --owner=1234 --group=1234 -cf t.tar t && rm -r t && \
                mkdir .vscode && echo 1 > .vscode/settings.json";
    env.shell(repo.path(), pack).assert_success();
    let owner = |name: &str| {
        repo.path()
            .join(name)
            .metadata()
            .map(|stat| stat.uid())
            .ok()
    };
    // Control: outside it gets another owner.
    env.shell(repo.path(), "tar xf t.tar").assert_success();
    assert_eq!(owner("t/f"), Some(1234));
    env.shell(repo.path(), "rm -r t").assert_success();
    let line = "tar xf t.tar && tar xf t.tar && cp -a t u && chown 0:0 t/f && chown -R 1234 t && \
                chown 1234 .vscode/settings.json; echo code $?; stat -c %u t/f";
    let output = told(&env, &repo, "", line);
    output.assert_success().assert_stdout("code 0\n0\n");
    output.assert_stderr("fchown to another user");
    for name in ["t/f", "u/f", ".vscode/settings.json"] {
        assert_eq!(owner(name), Some(0), "{name}");
    }
    let calls = refused(&env.events("last"), "call.refused");
    assert!(calls.len() <= 6, "{calls:?}");
}

/// For an ordinary user the kernel answers, as outside.
#[test]
fn ordinary_users_change_no_owner() {
    for_each_user(|env, repo| {
        if env.is_root() {
            return;
        }
        let output = told(
            env,
            repo,
            "",
            "chown 1234 lines.txt; : > f; chown 1234 f; echo code $?",
        );
        output.assert_stdout("code 1\n");
        assert_eq!(refused(&env.events("last"), "call.refused"), []);
    });
}
