//! The owner's changes outside while a session runs are his: they stay, nothing ends, and protected
//! names that he adds are protected from then on.

use std::{fs, path::Path, time::Duration};

use stockade_testkit::{
    TestEnv,
    env::Repo,
    events,
    lab::HttpServer,
    run::{Output, require_tool},
    wait,
};

use crate::attacks::for_each_user;

/// Time in which a session starts, on a busy machine.
const START: Duration = Duration::from_secs(20);

/// Runs `inside` in a session after `outside` has happened on the host while the session ran.
fn meanwhile(env: &TestEnv, repo: &Repo, outside: &str, inside: &str) -> Output {
    let line = format!(
        ": > ready; while [ ! -e go ]; do sleep 0.02; done; {inside}; sleep 1.2; : > went-on"
    );
    let running = env.session(repo.path()).line(line).spawn();
    let ready = repo.path().join("ready");
    assert!(
        wait::until_true(START, || ready.exists()),
        "it did not start"
    );
    env.shell(repo.path(), outside).assert_success();
    env.write(repo.path().join("go"), "");
    let output = running.wait();
    assert!(repo.path().join("went-on").exists(), "{output:?}");
    output.assert_code(0);
    let record = env.record();
    assert!(
        !record.iter().any(|event| event.kind() == "finding.raised"),
        "{}",
        events::summary(&record)
    );
    output
}

/// R1: worktrees, repositories, editors' folders and configuration that the owner makes.
#[test]
fn what_the_owner_makes_meanwhile_is_left_alone() {
    for_each_user(|env| {
        let repo = env.repo();
        let outside = "git worktree add -q wt -b feature; git init -q lib; \
             (cd lib; git commit -q --allow-empty -m lib); mkdir -p .vscode .idea; \
             echo '{}' > .vscode/settings.json; echo use > .envrc; echo '{}' > .mcp.json; \
             git config user.nickname owner; echo exit > .git/hooks/pre-push";
        meanwhile(env, &repo, outside, "echo agent > note; git status");
        let checks = "test \"$(git -C wt branch --show-current)\" = feature; \
             test -f lib/.git/config; test -d lib/.git/hooks; test -f .vscode/settings.json; \
             test -f .envrc; test -f .mcp.json; test \"$(git config user.nickname)\" = owner; \
             test -f .git/hooks/pre-push; test \"$(cat note)\" = agent";
        for check in checks.split("; ") {
            env.shell(repo.path(), check).assert_success();
        }
    });
}

/// A directory without a repository, in which the owner makes one.
#[test]
fn a_repository_that_the_owner_makes_meanwhile_stays() {
    for_each_user(|env| {
        let folder = env.repo();
        let path = folder.path().to_owned();
        env.shell(&path, "rm -rf .git").assert_success();
        meanwhile(
            env,
            &folder,
            "git init -q; git add note || true; git commit -q --allow-empty -m mine",
            "git log --oneline",
        );
        env.shell(&path, "git log --oneline | grep -q mine")
            .assert_success();
    });
}

/// F62: the owner replaces a protected file by a rename, which removes the session's mount. Its
/// name stays protected, and so do names that he adds.
#[test]
fn f62_what_the_owner_replaces_or_adds_is_protected_from_then_on() {
    let attacks = [
        "echo '[core] fsmonitor = evil' >> .git/config",
        "mv .git/config .git/other",
        "rm -f .git/config",
        "ln .git/config linked && echo evil >> linked",
        "echo evil > .git/hooks/pre-push",
        "echo evil >> lib/.git/config",
        "mv lib/.git lib/x && echo evil >> lib/x/config && mv lib/x lib/.git",
        "echo evil > wt/.git",
        "echo evil >> .envrc",
        "chmod 777 .envrc",
        "perl -e 'open(F, \"+<\", \".envrc\") or exit 1; truncate(F, 0)'",
    ];
    for_each_user(|env| {
        let repo = env.repo();
        // The control: each attack works without the boundary.
        for (number, attack) in attacks.iter().enumerate() {
            let control = env.repo_named(&format!("control-{number}"));
            env.shell(control.path(), OWNER).assert_success();
            let before = state(control.path());
            env.shell(control.path(), attack);
            assert_ne!(before, state(control.path()), "{attack} does nothing");
        }
        let all = attacks.join("; ");
        meanwhile(env, &repo, OWNER, &format!("( {all} ) 2> errors"));
        let expected = env.repo_named("expected");
        env.shell(expected.path(), OWNER).assert_success();
        let (seen, wanted) = (state(repo.path()), state(expected.path()));
        assert_eq!(seen, wanted);
        let record = env.record();
        let replaced = record.iter().any(|event| {
            event.kind() == "operator.acted" && event.field("detail").contains(".git/config")
        });
        assert!(replaced, "{}", events::summary(&record));
    });
}

/// The owner's actions in those tests.
const OWNER: &str = "git config user.nickname owner; git worktree add -q wt -b feature; \
     git init -q lib; echo use > .envrc";

/// The protected files of a repository, by name, with mode and content.
fn state(top: &Path) -> Vec<(String, u32, String)> {
    use std::os::unix::fs::PermissionsExt as _;
    let name = top.file_name().expect("it has a name").to_string_lossy();
    [
        ".git/config",
        ".git/hooks/pre-push",
        "lib/.git/config",
        "wt/.git",
        ".envrc",
    ]
    .into_iter()
    .map(|path| {
        let file = top.join(path);
        let mode = fs::metadata(&file).map_or(0, |found| found.permissions().mode());
        let text = fs::read_to_string(&file).unwrap_or_default();
        // The repositories contain their own names, which differ.
        (path.to_owned(), mode, text.replace(&*name, "NAME"))
    })
    .collect()
}

/// Protection applies in directories that policy makes writable apart from the workspace, whether
/// or not the names exist.
#[test]
fn r03_protected_names_hold_in_writable_shares() {
    for_each_user(|env| {
        let repo = env.repo();
        let share = env.repo_named("share");
        let policy = env.write(
            "share.toml",
            &format!(
                "schema = 1\n[filesystem]\nwrite = [\"{}\"]\n",
                share.path().display()
            ),
        );
        let attacks = "echo evil > .git/hooks/pre-commit; echo evil >> .git/config; mkdir .vscode; \
             echo evil > .envrc; mkdir x; ln -s /tmp x/.git; echo fine > ordinary; \
             git commit -q --allow-empty -m inside";
        let line = format!("cd {} && {{ {attacks}; }}", share.path().display());
        let options = ["--policy", policy.to_str().expect("a plain path")];
        env.session_with(repo.path(), &options).line(line).output();
        let here = |path: &str| share.path().join(path);
        for absent in [".git/hooks/pre-commit", ".vscode", ".envrc", "x/.git"] {
            assert!(fs::symlink_metadata(here(absent)).is_err(), "{absent}");
        }
        let config = fs::read_to_string(here(".git/config")).expect("it is there");
        assert!(!config.contains("evil"), "{config}");
        assert!(here("ordinary").exists());
        share
            .git(env, &["log", "-1", "--format=%s"])
            .assert_stdout("inside");
        // Without the boundary all of it can be made.
        env.shell(share.path(), &attacks.replace("mkdir x; ", ""));
        for present in [".git/hooks/pre-commit", ".vscode", ".envrc", "x/.git"] {
            assert!(fs::symlink_metadata(here(present)).is_ok(), "{present}");
        }
    });
}

/// N38: a session keeps the policy with which it began. What the owner writes into its files meanwhile
/// opens nothing, a text that is no policy closes nothing, and there is no moment without rules.
#[test]
fn n38_a_changed_policy_changes_no_running_session() {
    require_tool("curl");
    for_each_user(|env| {
        let (server, repo) = (HttpServer::start(), env.repo());
        let port = server.port();
        let policy = |host: &str| {
            format!(
                "schema = 1\n[network.hosts]\n\"good.test\" = \"127.0.0.1\"\n\"evil.test\" = \
                 \"127.0.0.1\"\n[[allow]]\nid = \"lab\"\nwhat = \"net\"\nhosts = [\"{host}\"]\n\
                 ports = [{port}]\nprivate = true\n"
            )
        };
        let user = env.home().join(".config/stockade/policy.toml");
        let given = env.write("given.toml", &policy("good.test"));
        let get = |host: &str, path: &str| {
            format!("curl -fsS -m 10 -o /dev/null http://{host}:{port}/{path}")
        };
        // One connection begins before the change and goes on after it; each request has its answer before
        // the command goes on.
        let kept = format!(
            "exec 7<> /dev/tcp/good.test/{port}; \
             ask() {{ printf 'GET /%s HTTP/1.1\\r\\nHost: good.test:{port}\\r\\n\\r\\n' $1 >&7; \
             while read -r -t 10 answer <&7; do case $answer in *HTTP/1.1*) break;; esac; done; }}; "
        );
        let line = format!(
            "{kept} ask before; {}; : > ready; while [ ! -e go ]; do sleep 0.02; done; {}; {}; ask after; : > done",
            get("evil.test", "first"),
            get("evil.test", "changed"),
            get("good.test", "good")
        );
        let running = env
            .session(repo.path())
            .args(["--policy".into(), given.display().to_string()])
            .line(line)
            .spawn();
        let ready = repo.path().join("ready");
        assert!(
            wait::until_true(START, || ready.exists()),
            "{}",
            running.stderr()
        );
        fs::write(&given, policy("evil.test")).expect("it is the owner's");
        env.write(&user, "schema = 1\n[[allow]]\nwhat = \"none\"\n");
        env.write(repo.path().join("go"), "");
        let output = running.wait();
        assert!(repo.path().join("done").exists(), "{output:?}");
        let arrived = |server: &HttpServer| {
            let requests = server.requests();
            let paths = requests.iter().map(|one| one.path().to_owned());
            paths.collect::<Vec<_>>()
        };
        assert_eq!(
            arrived(&server),
            ["/before", "/good", "/after"],
            "{output:?}"
        );
        // The control: the next session has the new policy.
        fs::remove_file(&user).expect("it was just written");
        let next = env
            .session(repo.path())
            .args(["--policy".into(), given.display().to_string()])
            .line(format!(
                "{}; {}",
                get("evil.test", "next"),
                get("good.test", "closed")
            ));
        next.output();
        let last = arrived(&server).split_off(3);
        assert_eq!(last, ["/next"]);
    });
}
