//! Configuration and life cycle (family L), and the end of sessions (R14).

use std::{fs, time::Duration};

use stockade_testkit::{events, processes, wait};

use crate::attacks::for_each_user;

/// Time in which everything of a killed session must be gone.
const GONE: Duration = Duration::from_secs(2);

/// The repository's own files cannot widen anything, and Stockade does not read the settings in
/// them that are for other programs.
#[test]
fn l02_the_repository_is_not_trusted() {
    for_each_user(|env| {
        let repo = env.repo();
        let layer = "schema = 1\n[[allow]]\nid = \"mine\"\nwhat = \"exec\"\ncommand = [\"git\", \"push\", \"**\"]\nreason = \"trust me\"\n\
                     [environment]\npass = [\"GITHUB_TOKEN\"]\n[filesystem]\nread = [\"~/.ssh\"]\n";
        env.write(repo.path().join(".stockade.toml"), layer);
        env.write(repo.path().join(".env"), "HTTPS_PROXY=http://evil.test\n");
        let line = "env; cat ~/.ssh/id_ed25519; git push origin HEAD:refs/heads/l02; :";
        let output = env
            .session(repo.path())
            .args(["--", "/bin/sh", "-c", line])
            .output();
        env.assert_no_canary(&output.stdout);
        assert!(!output.stdout.contains("evil.test"), "{output:?}");
        assert!(!repo.origin().join("refs/heads/l02").exists(), "{output:?}");
        // Either it was refused as a whole or it had no effect; both are safe, but silence is not.
        if output.code() == 125 {
            assert!(output.stderr.contains(".stockade.toml"), "{output:?}");
        } else {
            events::assert_one_refusal(&env.record(), "git push", "push");
        }
    });
}

/// A layer can only tighten: what the organisation denies stays denied.
#[test]
fn l04_a_lower_layer_only_tightens() {
    for_each_user(|env| {
        let repo = env.repo();
        let organisation = env.write(
            "organisation.toml",
            "schema = 1\n[[deny]]\nid = \"org-no-id\"\nwhat = \"exec\"\ncommand = [\"id\", \"**\"]\nreason = \"lab\"\n",
        );
        let mine = env.write(
            "mine.toml",
            "schema = 1\n[[allow]]\nid = \"mine\"\nwhat = \"exec\"\ncommand = [\"id\", \"**\"]\nreason = \"lab\"\n",
        );
        let run = |with: bool| {
            let run = env.session(repo.path()).arg("--policy").arg(&mine);
            let run = if with {
                run.env("STOCKADE_ORG_POLICY", &organisation)
            } else {
                run
            };
            run.args(["--", "/bin/sh", "-c", "id -u > uid || rm -f uid"])
                .output()
        };
        run(false);
        assert!(repo.path().join("uid").exists(), "control");
        fs::remove_file(repo.path().join("uid")).expect("it was just seen");
        let output = run(true);
        assert!(!repo.path().join("uid").exists(), "{output:?}");
        events::assert_one_refusal(&env.record(), "id", "org-no-id");
    });
}

/// When the supervisor is killed, everything of its session ends at once; the effects that it had
/// acknowledged are in the record, which says that its end is missing.
#[test]
fn r14_killing_the_supervisor_ends_everything() {
    for_each_user(|env| {
        let repo = env.repo();
        let marker = format!("300.{}81", std::process::id());
        // It writes to no one, so that it does not end because of a closed pipe.
        let line = format!(
            "exec > /dev/null 2>&1; trap '' HUP PIPE; echo x > .mcp.json; git push origin a; (setsid sleep {marker} &); (sleep {marker} &); : > ready; \
             while :; do : > beat; sleep 0.05; rm -f beat; done"
        );
        let running = env.session(repo.path()).line(&line).spawn();
        let ready =
            || repo.path().join("ready").exists() && processes::with_argument(&marker).len() == 2;
        assert!(
            wait::until_true(Duration::from_secs(10), ready),
            "{}",
            running.stderr()
        );
        let all = processes::descendants(running.pid());
        assert!(all.len() >= 4, "{all:?}");
        processes::kill(running.pid());
        let output = running.wait();
        assert_eq!(output.code(), 128 + 9);
        let gone = || {
            all.iter().all(|pid| !is_running(*pid)) && processes::with_argument(&marker).is_empty()
        };
        assert!(
            wait::until_true(GONE, gone),
            "left: {:?}",
            all.iter().filter(|p| is_running(**p)).collect::<Vec<_>>()
        );
        let record = env.events_of_killed(&env.session_id());
        events::assert_one_refusal(&record, ".mcp.json", "protected");
        events::assert_one_refusal(&record, "git push", "push");
        let verified = env
            .stockade()
            .args(["log", "verify", &env.session_id()])
            .output();
        assert!(!verified.stdout.contains("changed"), "{verified:?}");
        assert!(!verified.stderr.contains("panicked"), "{verified:?}");
    });
}

fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// If one of our processes dies, the session ends: nothing continues unsupervised.
#[test]
fn r14_killing_the_egress_process_ends_the_session() {
    for_each_user(|env| {
        let repo = env.repo();
        let marker = format!("300.{}82", std::process::id());
        let running = env
            .session(repo.path())
            .args(["--", "/bin/sleep", &marker])
            .spawn();
        // A child between fork and exec still has the arguments of its parent, so the check
        // includes the name.
        let asleep = || {
            processes::with_argument(&marker).into_iter().any(|pid| {
                fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
            })
        };
        assert!(
            wait::until_true(Duration::from_secs(10), asleep),
            "{}",
            running.stderr()
        );
        let egress = processes::descendants(running.pid())
            .into_iter()
            .find(|pid| {
                fs::read_to_string(format!("/proc/{pid}/cmdline"))
                    .is_ok_and(|line| line.contains("__egress"))
            });
        processes::kill(egress.expect("a session has an egress process"));
        let output = running.wait();
        assert_eq!(output.code(), 137, "{output:?}");
        assert!(processes::with_argument(&marker).is_empty());
        let shown = env.stockade().args(["events", "last"]).success();
        assert!(
            shown.stdout.contains("egress process ended unexpectedly"),
            "{shown:?}"
        );
    });
}

/// A daemon does not outlive its session, however it detached itself.
#[test]
fn l06_daemons_end_with_their_session() {
    for_each_user(|env| {
        let repo = env.repo();
        let marker = format!("300.{}83", std::process::id());
        let line = format!(
            "setsid sleep {marker} > /dev/null 2>&1 & (nohup setsid sh -c 'trap \"\" TERM HUP; sleep {marker}' > /dev/null 2>&1 &) ; sleep 0.3"
        );
        env.shell(repo.path(), &line);
        assert_eq!(processes::with_argument(&marker).len(), 2, "control");
        for pid in processes::with_argument(&marker) {
            processes::kill(pid);
        }
        env.session(repo.path())
            .args(["--", "/bin/bash", "--norc", "-c", &line])
            .output();
        assert!(wait::until_true(GONE, || processes::with_argument(&marker).is_empty()));
    });
}

/// Sessions leave no process, mount or directory behind.
#[test]
fn r10_sessions_leave_nothing_behind() {
    for_each_user(|env| {
        let repo = env.repo();
        let mounts = || {
            fs::read_to_string("/proc/self/mountinfo")
                .expect("it is always there")
                .lines()
                .count()
        };
        let before = mounts();
        for _ in 0..10 {
            env.session(repo.path()).args(["--", "/bin/true"]).success();
        }
        assert_eq!(mounts(), before);
        let sessions = fs::read_dir(env.state().join("sessions")).expect("sessions were made");
        for session in sessions.flatten() {
            assert!(
                !session.path().join("root").exists(),
                "{:?}",
                session.path()
            );
        }
        assert!(processes::living_in(env.root()).is_empty());
    });
}
