//! The settings of a policy apply inside: each is tried with and without it.

use std::{collections::BTreeSet, fs, time::Duration};

use stockade_testkit::{Output, Repo, TestEnv, events::Event, processes, run::require_tool, wait};

/// A workspace, and the output of a shell command line in it under a policy.
struct Place {
    env: TestEnv,
    repo: Repo,
}

impl Place {
    /// Makes one for every user that the tests can become.
    fn each(body: impl Fn(&Self)) {
        TestEnv::each(|env, repo| body(&Self { env, repo }));
    }

    fn run(&self, policy: &str, line: &str) -> Output {
        let policy = self
            .env
            .write("policy.toml", &format!("schema = 1\n{policy}"));
        self.env
            .session(self.repo.path())
            .envs([("LAB_ONE", "1"), ("LAB_TOKEN", "2"), ("LAB_SECRET", "3")])
            .arg("--policy")
            .arg(policy)
            .line(line)
            .output()
    }

    fn says(&self, policy: &str, line: &str) -> String {
        self.run(policy, line).stdout.trim().to_owned()
    }

    fn is_root(&self) -> bool {
        let root = rustix::process::geteuid().is_root();
        self.env.user().map_or(root, |user| user.uid == 0)
    }
}

/// `[filesystem]`: readable directories exist, writable ones are the host's, hidden ones are empty.
#[test]
fn directories_of_the_host_are_shown_shared_and_hidden() {
    Place::each(|place| {
        let env = &place.env;
        for name in ["read/plain", "read/secret", "write/old", "other/plain"] {
            env.write(format!("data/{name}"), "from outside\n");
        }
        let data = env.root().join("data").display().to_string();
        let policy = format!(
            "[filesystem]\nread = [\"{data}/read\"]\nwrite = [\"{data}/write\"]\nhide = [\"{data}/read/secret\"]\n"
        );
        let line = format!(
            "cat {data}/*/* 2> /dev/null; echo inside > {data}/write/new; echo inside > {data}/read/new; \
             echo inside > {data}/read/plain; :"
        );
        assert_eq!(place.says("", &line), "", "without the policy");
        let output = place.run(&policy, &line);
        assert_eq!(output.stdout, "from outside\n".repeat(2), "{output:?}");
        let read = |name: &str| fs::read_to_string(env.root().join("data").join(name)).ok();
        assert_eq!(read("write/new").as_deref(), Some("inside\n"));
        assert_eq!(read("read/new"), None);
        assert_eq!(read("read/plain").as_deref(), Some("from outside\n"));
    });
}

/// `[environment]`: a pattern passes only variables that do not look like secrets, a name passes
/// any.
#[test]
fn variables_pass_and_are_set() {
    Place::each(|place| {
        let line = "echo ${LAB_ONE-none} ${LAB_TOKEN-none} ${LAB_SECRET-none} ${FIXED-none}";
        assert_eq!(place.says("", line), "none none none none");
        let policy =
            "[environment]\npass = [\"LAB_*\", \"LAB_TOKEN\"]\nset = { FIXED = \"word\" }\n";
        assert_eq!(place.says(policy, line), "1 2 none word");
    });
}

/// Variables name the committer if there is no `~/.gitconfig`, as in a container: commits made
/// inside have that name.
#[test]
fn who_commits_passes_with_nothing_configured() {
    Place::each(|place| {
        let line = "git -c user.useConfigOnly=true var GIT_AUTHOR_IDENT | cut -d' ' -f1-3; echo ${CFLAGS-none}";
        let run = place.env.session(place.repo.path()).line(line);
        let output = run
            .env("GIT_AUTHOR_NAME", "Some One")
            .env("GIT_AUTHOR_EMAIL", "one@good.test")
            .env("CFLAGS", "-O2 -g")
            .output();
        output.assert_stdout("Some One <one@good.test>\n-O2 -g\n");
    });
}

/// `process.debuggers`: another process of the session can be traced.
#[test]
fn debuggers_trace_where_policy_lets_them() {
    require_tool("perl");
    Place::each(|place| {
        // PTRACE_SEIZE (0x4206), which does not stop what it traces.
        let line = "sleep 30 & perl -e 'print syscall(101, 0x4206, $ARGV[0] + 0, 0, 0) == 0 ? \"traced\" : \"refused\"' $!; kill $!";
        let says = |word| place.says(&format!("[process]\ndebuggers = \"{word}\"\n"), line);
        assert_eq!(says("none"), "refused");
        assert_eq!(says("own"), "traced");
        assert_eq!(says("all"), "traced");
        assert_eq!(place.says("", line), "traced");
    });
}

/// `process.namespaces`: an ordinary user's program becomes root of its own namespace. Mounts stay
/// forbidden in it, and the workspace is judged as usual.
#[test]
fn namespaces_open_where_policy_lets_them() {
    require_tool("unshare");
    Place::each(|place| {
        let become_root = "unshare --user --map-root-user id -u";
        let open = "[process]\nnamespaces = true\n";
        assert_eq!(place.says("", become_root), "");
        // The kernel maps no uid 0 for a process without a capability over it (user_namespaces(7)).
        let expected = if place.is_root() { "" } else { "0" };
        assert_eq!(place.says(open, become_root), expected);
        let inside = "unshare --user --mount --propagation unchanged --pid --fork --net sh -c \
                      'echo in; mount -t tmpfs none /mnt && echo mounted; echo x > .mcp.json && echo written'";
        assert_eq!(place.says(open, inside), "in");
        assert!(!place.repo.path().join(".mcp.json").exists());
    });
}

/// `limits.cpus`: the group of the session has its quota; if there is no group, the session says
/// so.
#[test]
fn processor_time_is_limited() {
    Place::each(|place| {
        let policy = place
            .env
            .write("policy.toml", "schema = 1\n[limits]\ncpus = 0.5\n");
        let running = place
            .env
            .session(place.repo.path())
            .arg("--policy")
            .arg(policy)
            .line(": > ready; while [ ! -e seen ]; do sleep 0.05; done")
            .spawn();
        let ready = || place.repo.path().join("ready").exists();
        assert!(wait::until_true(Duration::from_secs(10), ready));
        let quotas: BTreeSet<String> = processes::descendants(running.pid())
            .into_iter()
            .filter_map(quota)
            .collect();
        place.env.write(place.repo.path().join("seen"), "");
        running.wait().assert_success();
        let record = place.env.record();
        let of_groups = |event: &&Event| {
            event.kind() == "guarantee.stated" && event.field("guarantee") == "group-limits"
        };
        let stated = record.iter().find(of_groups).expect("it is stated");
        if stated.json.get("holds") == Some(&true.into()) {
            assert!(quotas.contains("50000 of 100000"), "{quotas:?}");
        } else {
            assert!(!stated.field("missing").is_empty(), "{stated:?}");
        }
    });
}

/// Reads how much processor time of a period, in microseconds, the group of a process may use.
fn quota(pid: u32) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = groups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|c| c == "cpu").then_some(path)
    })?;
    let read = |file: &str| fs::read_to_string(format!("/sys/fs/cgroup/cpu{path}/{file}")).ok();
    let (quota, period) = (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?);
    Some(format!("{} of {}", quota.trim(), period.trim()))
}
