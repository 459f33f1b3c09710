//! The plan for fixed facts, word for word; and everything that must not get one.
#![expect(clippy::unwrap_used, reason = "tests")]

use stockade_fuzz::Target;
use stockade_plan::{
    Boundary, CacheFact, CacheKind, CgroupFact, CredentialFacts, EntryKind, HostFacts, Interfaces,
    LaunchPlan, Life, LinkFact, Namespace, Network, PlanError, ProgramFacts, ProtectedEntry,
    RunSpec, ShareFact, SharedCounts, ShownFact, StateFact, Step, Streams, SystemEntry, Upper,
    check_workspace, compile,
};
use stockade_policy::{HostSets, Origin, Policy, Source, load};
use stockade_types::{AbsPath, GuaranteeName, RawText, SessionId, Tier};

fn path(text: &str) -> AbsPath {
    AbsPath::new(text).unwrap()
}

fn policy(text: &str) -> Policy {
    let text = format!("schema = 1\n{text}");
    let source = Source {
        origin: Origin::Session,
        name: "test.toml".to_owned(),
        text,
    };
    load(&[source], &HostSets::default()).unwrap()
}

/// A policy with a value for everything that a plan depends on.
fn full_policy() -> Policy {
    policy(
        r#"
        [workspace]
        protect = [".git/config", ".git/hooks/**"]
        [filesystem]
        read = ["~/.gitconfig"]
        [environment]
        pass = ["LANG", "CARGO_*"]
        set = { EDITOR = "false" }
        [limits]
        memory = "4GiB"
        processes = 512
        cpus = 1.5
        disk = "10GiB"
        open_files = 4096
        watches = 20000
        [[allow]]
        id = "good"
        what = "net"
        hosts = ["good.test"]
        ports = [443, 8443]
        reason = "the tests go there"
        "#,
    )
}

fn spec() -> RunSpec {
    RunSpec {
        session: SessionId::from_random(0x3f2a),
        tier: Tier::Native,
        session_dir: path("/home/dev/.local/state/stockade/sessions/3f2a"),
        state_dir: path("/home/dev/.local/state/stockade"),
        workspace: path("/home/dev/src/shop"),
        cwd: path("/home/dev/src/shop/web"),
        argv: vec![RawText::from("codex"), RawText::from("exec")],
        network: Network::Proxied,
        terminal: None,
        streams: Streams::PIPES,
        require: Vec::new(),
        waive: Vec::new(),
    }
}

fn share(text: &str) -> ShareFact {
    ShareFact {
        path: path(text),
        from: path(text),
    }
}

fn agent_state() -> StateFact {
    StateFact {
        from: path("/home/dev/.local/state/stockade/agents/codex"),
        path: path("/home/dev/.codex"),
    }
}

fn agent_program() -> ProgramFacts {
    ProgramFacts {
        program: path("/home/dev/node/bin/codex"),
        roots: vec![path("/home/dev/node"), path("/usr/bin/env")],
        links: vec![LinkFact {
            path: path("/home/dev/bin/codex"),
            target: "../node/bin/codex".into(),
        }],
    }
}

fn facts() -> HostFacts {
    let system = |text: &str, kind| SystemEntry {
        path: path(text),
        kind,
    };
    HostFacts {
        caller_uid: 1000,
        caller_gid: 1000,
        workspace_uid: 1000,
        workspace_gid: 1000,
        home: path("/home/dev"),
        homes: vec![path("/home/dev"), path("/mnt/copy/dev")],
        ours: vec![
            path("/home/dev/.local/state/stockade"),
            path("/mnt/copy/dev/.local/state/stockade"),
            path("/home/dev/.config/stockade"),
        ],
        policies: vec![path("/home/dev/.config/stockade/policy.toml")],
        secrets: vec![path("/home/dev/.ssh"), path("/home/dev/.config/gh")],
        user: "dev".to_owned(),
        landlock_abi: 7,
        redirect: true,
        hold: true,
        scopes: true,
        own_telemetry: None,
        servers: stockade_plan::ServerFacts::default(),
        shared: SharedCounts {
            inotify_instances: Some(128),
            inotify_watches: Some(65_536),
            pending_signals: 31_000,
            processes: 31_000,
        },
        cgroups: Vec::new(),
        system: vec![
            system("/usr", EntryKind::Directory),
            system("/bin", EntryKind::Link("usr/bin".to_owned())),
            system("/etc", EntryKind::Directory),
        ],
        readable: vec![share("/home/dev/.gitconfig")],
        writable: vec![share("/home/dev/.cache/shared")],
        sockets: Vec::new(),
        caches: Vec::new(),
        private: Vec::new(),
        hidden: vec![path("/etc/company")],
        closed: Vec::new(),
        notes: vec!["lab".to_owned()],
        shown: Vec::new(),
        sources: Vec::new(),
        stand_ins: Vec::new(),
        git_settings: Vec::new(),
        ssh: None,
        protected: vec![
            ProtectedEntry {
                path: path("/home/dev/src/shop/.git/hooks"),
                read_only: true,
            },
            ProtectedEntry {
                path: path("/home/dev/src/shop/.git"),
                read_only: false,
            },
        ],
        program: agent_program(),
        state: vec![agent_state()],
        environment: environment(&[("PATH", "/usr/bin:/bin"), ("LANG", "C.UTF-8")]),
        credentials: CredentialFacts::default(),
        own_executable: path("/usr/bin/stockade"),
        own_names: vec![path("/usr/bin/stockade")],
        resolv_conf: Some(path("/etc/resolv.conf")),
        trust_files: Vec::new(),
    }
}

fn as_root() -> HostFacts {
    let group = |controller: &str| CgroupFact {
        controller: controller.to_owned(),
        parent: path(&format!("/sys/fs/cgroup/{controller}")),
    };
    HostFacts {
        caller_uid: 0,
        caller_gid: 0,
        cgroups: ["memory", "pids", "cpu"].map(group).to_vec(),
        ..facts()
    }
}

fn environment(variables: &[(&str, &str)]) -> Vec<(RawText, RawText)> {
    variables
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect()
}

/// A plan as people compare it: a line a step, then what it adds up to.
fn shown(plan: &LaunchPlan) -> String {
    let mut lines = vec![
        format!("{:?}", plan.identity),
        format!("{:?}", plan.command.argv),
        format!("{} in {}", plan.command.program.display(), plan.command.cwd),
    ];
    lines.extend(
        plan.command
            .environment
            .iter()
            .map(|(name, value)| format!("{}={}", name.display(), value.display())),
    );
    lines.extend(
        plan.steps
            .iter()
            .map(|step| serde_json::to_string(step).unwrap()),
    );
    lines.extend(
        plan.guarantees
            .iter()
            .map(|g| serde_json::to_string(g).unwrap()),
    );
    lines.join("\n")
}

fn lines_of<'a>(text: &'a str, other: &str) -> Vec<&'a str> {
    let known: Vec<&str> = other.lines().collect();
    text.lines().filter(|line| !known.contains(line)).collect()
}

/// What another plan has more and less than the ordinary one.
fn difference(plan: &LaunchPlan) -> String {
    let ordinary = shown(&compile(&full_policy(), &spec(), &facts()).unwrap());
    let plan = shown(plan);
    let less = lines_of(&ordinary, &plan)
        .into_iter()
        .map(|line| format!("- {line}"));
    let more = lines_of(&plan, &ordinary)
        .into_iter()
        .map(|line| format!("+ {line}"));
    less.chain(more).collect::<Vec<_>>().join("\n")
}

#[expect(
    clippy::panic,
    reason = "a plan without the step ends the test with its name"
)]
fn index_of(plan: &LaunchPlan, name: &str) -> usize {
    let found = plan
        .steps
        .iter()
        .position(|step| step.name().as_str() == name);
    found.unwrap_or_else(|| panic!("no step `{name}`"))
}

#[test]
fn the_plan_of_an_ordinary_user() {
    let plan = compile(&full_policy(), &spec(), &facts()).unwrap();
    insta::assert_snapshot!("ordinary", shown(&plan));
}

#[test]
fn what_the_command_brings_along_is_said_and_recorded() {
    let plan = compile(&full_policy(), &spec(), &facts()).unwrap();
    let also = "also visible, for the command: /home/dev/node /usr/bin/env";
    assert_eq!(plan.notes, [also, "lab"]);
    let files = plan
        .guarantees
        .iter()
        .find(|g| g.name == GuaranteeName::Files);
    assert!(
        files.is_some_and(|files| files.how.ends_with(also)),
        "{files:?}"
    );
}

#[test]
fn root_differs_in_groups_maps_and_the_identity_it_gives_up() {
    let plan = compile(&full_policy(), &spec(), &as_root()).unwrap();
    insta::assert_snapshot!("root", difference(&plan));
    // Where the workspace is root's too, there is one id to map.
    let own = HostFacts {
        workspace_uid: 0,
        workspace_gid: 0,
        ..as_root()
    };
    let plan = compile(&full_policy(), &spec(), &own).unwrap();
    let maps = Step::MapIdentity {
        uids: vec![0],
        gids: vec![0],
    };
    assert!(plan.steps.contains(&maps));
    assert_eq!((plan.identity.uid, plan.identity.gid), (0, 0));
}

#[test]
fn offline_differs_in_the_network_alone() {
    let spec = RunSpec {
        network: Network::Isolated,
        ..spec()
    };
    let plan = compile(&full_policy(), &spec, &facts()).unwrap();
    insta::assert_snapshot!("offline", difference(&plan));
}

#[test]
fn without_a_redirect_the_ports_of_rules_are_listened_on() {
    let facts = HostFacts {
        redirect: false,
        ..facts()
    };
    let plan = compile(&full_policy(), &spec(), &facts).unwrap();
    insta::assert_snapshot!("no_redirect", difference(&plan));
}

#[test]
fn a_terminal_is_one_step_right_after_the_root_is_entered() {
    let spec = RunSpec {
        terminal: Some((24, 80)),
        streams: Streams::TERMINAL,
        ..spec()
    };
    let plan = compile(&full_policy(), &spec, &facts()).unwrap();
    insta::assert_snapshot!("terminal", difference(&plan));
    let at = index_of(&plan, "terminal");
    assert_eq!(at, index_of(&plan, "enter-root") + 1);
    assert_eq!(at + 1, index_of(&plan, "hand-over"));
}

#[test]
fn power_is_given_up_before_the_command_is_executed() {
    for facts in [facts(), as_root()] {
        let plan = compile(&full_policy(), &spec(), &facts).unwrap();
        let order = [
            "enter-namespaces",
            "map-identity",
            "start-first-process",
            "die-with-supervisor",
            "private-mounts",
            "new-root",
            "seal-root",
            "enter-root",
            "hand-over",
            "become-user",
            "start-command",
            "drop-capabilities",
            "no-new-privileges",
            "restrict-paths",
            "filter-calls",
            "close-descriptors",
            "execute",
        ];
        let places: Vec<usize> = order.iter().map(|name| index_of(&plan, name)).collect();
        assert!(places.is_sorted(), "{places:?}");
        assert_eq!(places.last(), Some(&(plan.steps.len() - 1)));
    }
}

#[test]
fn every_step_has_a_remedy_and_the_name_of_its_json() {
    for spec in [
        spec(),
        RunSpec {
            terminal: Some((24, 80)),
            streams: Streams::TERMINAL,
            ..spec()
        },
    ] {
        let plan = compile(&full_policy(), &spec, &as_root()).unwrap();
        for step in &plan.steps {
            let json = serde_json::to_value(step).unwrap();
            assert_eq!(
                json.get("step").and_then(|name| name.as_str()),
                Some(step.name().as_str())
            );
            assert!(step.remedy().len() > 20, "{step:?}");
        }
    }
}

#[test]
fn a_plan_is_read_back_as_it_was_and_nothing_unknown_is_read() {
    let plan = compile(&full_policy(), &spec(), &as_root()).unwrap();
    let (bytes, digest) = plan.seal().unwrap();
    let read: LaunchPlan = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(read, plan);
    assert_eq!(read.seal().unwrap().1, digest);
    let text = String::from_utf8(bytes).unwrap();
    for (from, to) in [
        (r#""step":"seal-root""#, r#""step":"seal-nothing""#),
        (r#""step":"new-root","#, r#""step":"new-root","extra":1,"#),
        (r#""version":"#, r#""extra":1,"version":"#),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        assert!(
            serde_json::from_str::<LaunchPlan>(&changed).is_err(),
            "{to}"
        );
    }
    let mut faulty = plan;
    faulty.fault = Some(3);
    assert_ne!(
        faulty.seal().unwrap().1,
        digest,
        "the digest covers the fault"
    );
}

fn refusal(workspace: &str, facts: &HostFacts) -> Option<String> {
    let spec = RunSpec {
        workspace: path(workspace),
        cwd: path(workspace),
        ..spec()
    };
    let checked = check_workspace(&spec, facts);
    assert_eq!(
        checked.is_err(),
        compile(&full_policy(), &spec, facts).is_err(),
        "{workspace}"
    );
    checked.err().map(|error| error.to_string())
}

#[test]
fn workspaces_that_would_open_the_boundary_are_refused() {
    let facts = facts();
    let cases = [
        ("/home/dev", "home directory"),
        ("/", "home directory"),
        ("/home", "home directory"),
        ("/home/dev/.local", "state directory"),
        ("/home/dev/.local/state/stockade", "state directory"),
        (
            "/home/dev/.local/state/stockade/sessions/3f2a",
            "state directory",
        ),
        ("/home/dev/.ssh", "store of secrets"),
        ("/home/dev/.config/gh/sub", "store of secrets"),
        ("/home/dev/.config", "store of secrets"),
        ("/mnt/copy", "home directory"),
        ("/mnt/copy/dev/.local/state/stockade/x", "state directory"),
        ("/usr", "system directory"),
        ("/usr/lib/x", "system directory"),
        ("/etc", "system directory"),
        ("/bin", "system directory"),
        ("/boot", "system directory"),
        ("/dev/shm", "system directory"),
        ("/usr/src", "system directory"),
        ("/usr/local", "system directory"),
        ("/usr/local/bin", "system directory"),
        ("/usr/local/lib/x", "system directory"),
        ("/proc/self", "system directory"),
        ("/run/user/1000", "system directory"),
        ("/sys/fs/cgroup", "system directory"),
        ("/tmp", "shared by every user"),
        ("/var", "shared by every user"),
        ("/var/tmp", "shared by every user"),
    ];
    for (workspace, problem) in cases {
        let message = refusal(workspace, &facts).unwrap_or_default();
        assert!(message.contains(problem), "{workspace}: {message}");
        assert!(message.contains(&format!("`{workspace}`")), "{message}");
    }
    let elsewhere = HostFacts {
        home: path("/root"),
        homes: vec![path("/root")],
        ours: Vec::new(),
        secrets: Vec::new(),
        ..facts.clone()
    };
    let spec = RunSpec {
        workspace: path("/home"),
        state_dir: path("/root/state"),
        ..spec()
    };
    let error = check_workspace(&spec, &elsewhere).unwrap_err();
    assert!(
        error.to_string().contains("shared by every user"),
        "{error}"
    );
    for good in [
        "/home/dev/src",
        "/dev/shm/x",
        "/opt/x",
        "/usr/local/src/x",
        "/usr/local/x",
        "/usr/src/x",
        "/tmp/x",
        "/var/tmp/x",
        "/srv/shop",
        "/home/develop",
        "/usrlocal",
    ] {
        assert_eq!(refusal(good, &facts), None, "{good}");
    }
}

/// The steps that cover something, and those that keep its parents in place.
fn covering(spec: &RunSpec, facts: &HostFacts) -> Vec<String> {
    let plan = compile(&full_policy(), spec, facts).unwrap();
    let after = plan
        .steps
        .iter()
        .rposition(|s| matches!(s, Step::Bind { .. }));
    let covers = plan
        .steps
        .iter()
        .enumerate()
        .filter_map(|(at, step)| match step {
            Step::Cover { path } => {
                assert!(Some(at) > after, "{path} is covered before the last bind");
                Some(format!("cover {path}"))
            }
            Step::Protect { path, read_only } if Some(at) > after => {
                Some(format!("keep {path} {read_only}"))
            }
            _ => None,
        });
    let protected: Vec<String> = facts
        .protected
        .iter()
        .map(|entry| format!("keep {} {}", entry.path, entry.read_only))
        .collect();
    covers.filter(|step| !protected.contains(step)).collect()
}

#[test]
fn what_is_ours_and_hidden_is_covered_wherever_a_bind_shows_it() {
    let with = |readable: &[&str], writable: &[&str], hidden: &[&str]| HostFacts {
        readable: readable.iter().map(|text| share(text)).collect(),
        writable: writable.iter().map(|text| share(text)).collect(),
        hidden: hidden.iter().map(|text| path(text)).collect(),
        ..facts()
    };
    let at = |facts: HostFacts| covering(&spec(), &facts);
    assert!(at(with(&[], &[], &[])).is_empty());
    assert_eq!(
        at(with(&["/home/dev/.local"], &["/home/dev/.config"], &[])),
        [
            "cover /home/dev/.config/stockade",
            "cover /home/dev/.local/state/stockade"
        ]
    );
    // By another name, and from a link.
    let alias = HostFacts {
        readable: vec![ShareFact {
            path: path("/home/dev/x"),
            from: path("/mnt/copy/dev/.local"),
        }],
        ..with(&[], &[], &[])
    };
    assert_eq!(at(alias), ["cover /home/dev/x/state/stockade"]);
    // In the workspace and in writable shares, with the parents kept.
    let hidden = [
        "/home/dev/src/shop/conf/live/secret.env",
        "/home/dev/.cache/shared/a/b",
        "/home/dev/.cache/shared/a/b/c",
        "/etc/company",
        "/home/dev/.kube",
    ];
    assert_eq!(
        at(with(&[], &["/home/dev/.cache/shared"], &hidden)),
        [
            "cover /etc/company",
            "keep /home/dev/.cache/shared/a false",
            "cover /home/dev/.cache/shared/a/b",
            "keep /home/dev/src/shop/conf false",
            "keep /home/dev/src/shop/conf/live false",
            "cover /home/dev/src/shop/conf/live/secret.env",
        ]
    );
    // A share in a hidden directory is a part of it; the agent's state is none.
    let hidden = with(
        &["/home/dev/.config/git"],
        &[],
        &["/home/dev/.config", "/home/dev/.local/state"],
    );
    assert_eq!(at(hidden), ["cover /home/dev/.config/git"]);
}

#[test]
fn a_cache_is_overlaid_or_read_only_and_what_is_hidden_in_it_is_covered() {
    let with = |upper: Upper| HostFacts {
        caches: vec![CacheFact {
            path: path("/home/dev/.cargo/registry"),
            from: path("/disk/registry"),
            over: path("/disk"),
            kind: CacheKind::Directory,
            upper,
        }],
        hidden: vec![path("/disk/registry/src/a/secret")],
        ..facts()
    };
    let kept = Upper::Kept(path("/home/dev/.local/state/stockade/caches/w/r"));
    let mounts = |upper: Upper| {
        let plan = compile(&policy(""), &spec(), &with(upper)).unwrap();
        let at = path("/home/dev/.cargo/registry");
        let steps = plan.steps.into_iter();
        let mounts = steps.filter_map(|step| match step {
            Step::Overlay { over, upper } => {
                Some(format!("{over} {:?}", upper.map(|at| at.to_string())))
            }
            Step::OverlayPart(part) if part.path == at => Some(format!("part {}", part.from)),
            Step::Bind {
                path, read_only, ..
            } if path == at => Some(format!("bind {read_only}")),
            _ => None,
        });
        mounts.collect::<Vec<_>>()
    };
    let upper = "Some(\"/home/dev/.local/state/stockade/caches/w/r\")";
    let part = "part /disk/registry".to_owned();
    assert_eq!(
        mounts(kept.clone()),
        [format!("/disk {upper}"), part.clone()]
    );
    assert_eq!(mounts(Upper::Memory), ["/disk None".to_owned(), part]);
    assert_eq!(mounts(Upper::Nowhere), ["bind true"]);
    let covered = [
        "keep /home/dev/.cargo/registry/src false",
        "keep /home/dev/.cargo/registry/src/a false",
        "cover /home/dev/.cargo/registry/src/a/secret",
    ];
    assert_eq!(covering(&spec(), &with(kept)), covered);
    assert_eq!(covering(&spec(), &with(Upper::Memory)), covered);
    assert_eq!(covering(&spec(), &with(Upper::Nowhere)), covered[2..]);
    for (from, problem) in [
        ("/home/dev", "whole home"),
        ("/home/dev/.local/state/stockade", "state"),
    ] {
        let mut facts = with(Upper::Memory);
        facts.caches[0].from = path(from);
        let error = check_workspace(&spec(), &facts).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn shares_that_would_open_the_boundary_are_refused() {
    let refused = |readable: &[&str], writable: &[&str]| {
        let facts = HostFacts {
            readable: readable.iter().map(|text| share(text)).collect(),
            writable: writable.iter().map(|text| share(text)).collect(),
            own_names: vec![path("/home/dev/bin/stockade")],
            ..facts()
        };
        let error = compile(&full_policy(), &spec(), &facts).err();
        error.map(|error| error.to_string()).unwrap_or_default()
    };
    let cases: [(&[&str], &[&str], &str); 9] = [
        (&["/home/dev"], &[], "the whole home"),
        (&["/home"], &[], "the whole home"),
        (&["/mnt/copy"], &[], "the whole home"),
        (&[], &["/home/dev"], "the whole home"),
        (
            &["/home/dev/.local/state/stockade/sessions"],
            &[],
            "own state",
        ),
        (
            &["/home/dev/.config/stockade"],
            &[],
            "own state or a policy",
        ),
        (&[], &["/home/dev/bin"], "own program"),
        (&[], &["/home/dev/bin/stockade"], "own program"),
        (&["/home/dev/bin"], &["/home/dev/.config"], ""),
    ];
    for (readable, writable, problem) in cases {
        let message = refused(readable, writable);
        assert_eq!(
            message.is_empty(),
            problem.is_empty(),
            "{readable:?} {writable:?}: {message}"
        );
        assert!(message.contains(problem), "{message}");
    }
    // A place where the next session would find a policy, and that nothing covers.
    let open = HostFacts {
        ours: Vec::new(),
        writable: vec![share("/home/dev/.config")],
        ..facts()
    };
    let error = compile(&full_policy(), &spec(), &open)
        .unwrap_err()
        .to_string();
    assert!(error.contains("place of your policies"), "{error}");
    let in_workspace = HostFacts {
        own_names: vec![path("/home/dev/src/shop/target/stockade")],
        ..facts()
    };
    let message = refusal("/home/dev/src/shop", &in_workspace).unwrap_or_default();
    assert!(message.contains("own program"), "{message}");
    let hidden = HostFacts {
        hidden: vec![path("/home/dev/src")],
        ..facts()
    };
    let message = refusal("/home/dev/src/shop", &hidden).unwrap_or_default();
    assert!(message.contains("filesystem.hide"), "{message}");
}

#[test]
fn links_and_shown_files_come_after_the_binds_and_only_where_they_are_seen() {
    let shown = |at: &str| ShownFact {
        path: path(at),
        contents: "shown".to_owned(),
    };
    let facts = HostFacts {
        readable: vec![share("/home/dev/.gitconfig"), share("/home/dev/.cargo")],
        shown: [
            "/home/dev/.gitconfig",
            "/home/dev/.cargo/config.toml",
            "/home/dev/.npmrc",
        ]
        .map(shown)
        .to_vec(),
        ..facts()
    };
    let plan = compile(&full_policy(), &spec(), &facts).unwrap();
    let files: Vec<String> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::File { path, contents } if contents == "shown" => Some(path.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(
        files,
        ["/home/dev/.gitconfig", "/home/dev/.cargo/config.toml"]
    );
    let link = |path: &str| {
        let plan = compile(
            &full_policy(),
            &spec(),
            &HostFacts {
                readable: vec![share(path)],
                ..facts.clone()
            },
        );
        let steps = plan.unwrap().steps;
        steps
            .iter()
            .any(|step| matches!(step, Step::Symlink { target, .. } if target.as_bytes().ends_with(b"codex")))
    };
    assert!(link("/home/dev/.cargo"));
    assert!(!link("/home/dev/bin"), "the share has the link");
}

#[test]
fn what_the_kernel_lacks_or_does_not_exist_yet_has_no_plan() {
    for abi in [0, 1] {
        let facts = HostFacts {
            landlock_abi: abi,
            ..facts()
        };
        let error = compile(&full_policy(), &spec(), &facts).unwrap_err();
        assert!(matches!(error, PlanError::Missing { part, .. } if part.contains("Landlock")));
    }
    let facts_two = HostFacts {
        landlock_abi: 2,
        ..facts()
    };
    compile(&full_policy(), &spec(), &facts_two).unwrap();
    let review = policy("[workspace]\nmode = \"review\"");
    let error = compile(&review, &spec(), &facts()).unwrap_err();
    assert!(
        error.to_string().contains("use `mode = \"direct\"`"),
        "{error}"
    );
}

#[test]
fn a_required_guarantee_holds_is_waived_or_there_is_no_plan() {
    let plan = |policy: &Policy, spec: &RunSpec, facts: &HostFacts| {
        compile(policy, spec, facts)
            .map(|plan| plan.guarantees)
            .map_err(|e| e.to_string())
    };
    let require = |name| RunSpec {
        require: vec![name],
        ..spec()
    };
    let groups = require(GuaranteeName::GroupLimits);
    let message = plan(&full_policy(), &groups, &facts()).unwrap_err();
    assert!(message.contains("`group-limits` is required"), "{message}");
    assert!(
        message.contains("memory and processor time: no cgroup"),
        "{message}"
    );
    plan(&full_policy(), &groups, &as_root()).unwrap();
    let waived = RunSpec {
        waive: vec![(GuaranteeName::GroupLimits, "a small machine".to_owned())],
        ..groups
    };
    let stated = plan(&full_policy(), &waived, &facts()).unwrap();
    let stated = stated
        .iter()
        .find(|g| g.name == GuaranteeName::GroupLimits)
        .unwrap();
    assert!(!stated.holds);
    assert_eq!(stated.waiver.as_deref(), Some("a small machine"));
    // Nothing sets a quota: nothing gives it.
    let message = plan(&policy(""), &require(GuaranteeName::DiskQuota), &facts()).unwrap_err();
    assert!(message.contains("the policy sets nothing"), "{message}");
    for name in [
        GuaranteeName::Files,
        GuaranteeName::Network,
        GuaranteeName::Secrets,
    ] {
        plan(&policy(""), &require(name), &facts()).unwrap();
    }
}

fn variables(policy_text: &str, caller: &[(&str, &str)]) -> Vec<String> {
    let facts = HostFacts {
        environment: environment(caller),
        ..facts()
    };
    let plan = compile(&policy(policy_text), &spec(), &facts).unwrap();
    let shown =
        |(name, value): &(RawText, RawText)| format!("{}={}", name.display(), value.display());
    plan.command.environment.iter().map(shown).collect()
}

#[test]
fn only_what_policy_passes_and_the_boundary_says_is_in_the_environment() {
    let always = [
        "HOME=/home/dev",
        "LOGNAME=dev",
        "PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
        "PWD=/home/dev/src/shop/web",
        "SHELL=/bin/sh",
        "STOCKADE_SESSION=0000000000003f2a",
        "TMPDIR=/tmp",
        "USER=dev",
    ];
    assert_eq!(variables("", &[]), always);
    let hostile = [
        ("AWS_SECRET_ACCESS_KEY", "s"),
        ("GITHUB_TOKEN", "s"),
        ("CARGO_REGISTRY_TOKEN", "s"),
        ("LD_PRELOAD", "/x.so"),
        ("BASH_ENV", "x"),
        ("HOME", "/elsewhere"),
        ("USER", "root"),
        ("TMPDIR", "/home/dev/tmp"),
        ("STOCKADE_SESSION", "forged"),
        ("CARGO_TERM_COLOR", "always"),
    ];
    assert_eq!(variables("", &hostile), always);
    let address = [
        ("LAB_ONE", "postgres://dev:secret@db.test/x"),
        ("LAB_TWO", "https://good.test/x"),
        ("LAB_THREE", "redis://:secret@db.test"),
    ];
    let by_star = variables("[environment]\npass = [\"LAB_*\", \"LAB_THREE\"]", &address).join(" ");
    assert!(!by_star.contains("LAB_ONE"), "{by_star}");
    assert!(
        by_star.contains("LAB_TWO") && by_star.contains("LAB_THREE"),
        "{by_star}"
    );
    let passed = variables("[environment]\npass = [\"CARGO_*\", \"LD_*\"]", &hostile);
    let more: Vec<&String> = passed
        .iter()
        .filter(|v| !always.contains(&v.as_str()))
        .collect();
    assert_eq!(
        more,
        ["CARGO_TERM_COLOR=always"],
        "a pattern passes no secret and no code"
    );
    let exact = variables("[environment]\npass = [\"GITHUB_TOKEN\"]", &hostile);
    assert!(
        exact.contains(&"GITHUB_TOKEN=s".to_owned()),
        "an exact name does"
    );
    let set = variables(
        "[environment]\nset = { EDITOR = \"false\" }",
        &[("EDITOR", "vi")],
    );
    assert!(set.contains(&"EDITOR=false".to_owned()), "{set:?}");
}

#[test]
fn the_search_path_has_no_entry_that_means_the_workspace() {
    let path_of = |value: &str| {
        let found = variables("", &[("PATH", value)]);
        found.into_iter().find(|v| v.starts_with("PATH=")).unwrap()
    };
    assert_eq!(path_of("/usr/bin:.:bin::/bin:"), "PATH=/usr/bin:/bin");
    assert_eq!(path_of("/home/dev/bin"), "PATH=/home/dev/bin");
    assert!(path_of(".:").starts_with("PATH=/usr/local/bin:"));
}

/// The plan crosses from one process to another as text.
#[test]
fn fuzz_plan() {
    let plan = compile(&full_policy(), &spec(), &facts()).unwrap();
    let target = Target {
        name: "plan",
        samples: vec![serde_json::to_vec(&plan).unwrap()],
        words: &[
            b"null",
            b"\"..\"",
            b"/../",
            b"-1",
            b"1e999",
            b"\\u0000",
            b"[[[[[[",
            b"\"step\":",
            b"4294967296",
            b"true",
        ],
        tries: 300,
    };
    stockade_fuzz::target(&target, |bytes| {
        if let Ok(plan) = serde_json::from_slice::<LaunchPlan>(bytes) {
            let again = serde_json::to_vec(&plan).unwrap();
            assert_eq!(serde_json::from_slice::<LaunchPlan>(&again).unwrap(), plan);
        }
    });
}

/// Takes away every step of a name.
fn without(plan: &LaunchPlan, name: &str) -> LaunchPlan {
    let mut less = plan.clone();
    less.steps.retain(|step| step.name().as_str() != name);
    assert!(less.steps.len() < plan.steps.len(), "no step `{name}`");
    less
}

/// Takes one namespace away.
fn shared_with_host(plan: &LaunchPlan, wanted: Namespace) -> LaunchPlan {
    let mut less = plan.clone();
    for step in &mut less.steps {
        if let Step::EnterNamespaces { namespaces } = step {
            namespaces.retain(|namespace| *namespace != wanted);
        }
    }
    less
}

#[test]
fn a_boundary_is_what_the_steps_make_or_the_plan_is_refused() {
    let plan = compile(&full_policy(), &spec(), &facts()).unwrap();
    plan.check().unwrap();
    let sealed = serde_json::to_value(&plan).unwrap();
    let stated = serde_json::json!({
        "root": "private",
        "interfaces": "own",
        "life": "first-process",
        "protection": "mounts",
    });
    assert_eq!(sealed.get("boundary"), Some(&stated));
    let root = "a private root";
    let network = "a network of its own";
    let life = "that everything ends with the first process";
    for (less, stated) in [
        (without(&plan, "new-root"), root),
        (without(&plan, "enter-root"), root),
        (shared_with_host(&plan, Namespace::Mount), root),
        (shared_with_host(&plan, Namespace::Network), network),
        (shared_with_host(&plan, Namespace::Pid), life),
        (without(&plan, "start-first-process"), life),
        (without(&plan, "die-with-supervisor"), life),
        (
            without(&plan, "private-mounts"),
            "that mounts hold protected files",
        ),
    ] {
        assert_eq!(less.check().unwrap_err().stated, stated);
    }
    // Nor does a guarantee hold that the boundary does not give.
    let weaker = |boundary: Boundary| LaunchPlan {
        boundary,
        ..plan.clone()
    };
    for (boundary, stated) in [
        (
            Boundary {
                life: Life::Unbound,
                ..plan.boundary
            },
            "that `processes` holds",
        ),
        (
            Boundary {
                interfaces: Interfaces::Host,
                ..plan.boundary
            },
            "that `network` holds",
        ),
    ] {
        let mut weaker = weaker(boundary);
        assert_eq!(weaker.check().unwrap_err().stated, stated);
        for guarantee in &mut weaker.guarantees {
            guarantee.holds = false;
        }
        weaker.check().unwrap();
    }
}
