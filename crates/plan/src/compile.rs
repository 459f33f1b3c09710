//! From policy, wish and facts to a plan.

use stockade_policy::Policy;
use stockade_types::AbsPath;

use crate::{
    CallSet, Command, Guarantee, GuaranteeName, HostFacts, Identity, LaunchPlan, Namespace,
    Network, PLAN_VERSION, PlanError, RunSpec, Step, covers, environment, limits, view,
};
use stockade_types::{Tier, WorkspaceMode};

/// Port of the one listener that every connection is redirected to. Nothing inside can be
/// confused with it: it is only reachable under its own name, and then has no original destination.
const REDIRECT_PORT: u16 = 61_153;
/// TCP port of names; resolvers fall back to TCP for long answers.
const NAME_PORT: u16 = 53;
/// Landlock interface that the native tier needs at least: file rights with reparenting.
const LANDLOCK_ABI_MIN: i32 = 2;

/// Makes the plan.
///
/// # Errors
/// When the workspace is unsafe, a required guarantee does not hold, or the kernel lacks a part.
pub fn compile(
    policy: &Policy,
    spec: &RunSpec,
    facts: &HostFacts,
) -> Result<LaunchPlan, PlanError> {
    let settings = policy.settings();
    check_workspace(spec, facts)?;
    if settings.workspace.mode.value == WorkspaceMode::Review {
        return Err(PlanError::Unsupported(
            "the review workspace is not available yet; use `mode = \"direct\"`",
        ));
    }
    if facts.landlock_abi < LANDLOCK_ABI_MIN {
        return Err(PlanError::Missing(
            "Landlock (Linux 5.19 or newer, `lsm=landlock`)",
        ));
    }
    let identity = identity(facts);
    let mut steps = limits::group_steps(&settings.limits, facts);
    steps.extend(namespaces(facts, identity));
    steps.extend(view::steps(spec, facts));
    // After the view: a bind takes a mount namespace for a moment, and none are left after this.
    steps.extend(limits::shared_steps(settings, facts));
    steps.extend(network(policy, spec, facts));
    steps.push(Step::EnterRoot);
    if let Some(size) = spec.terminal {
        steps.push(Step::Terminal {
            size,
            streams: spec.streams,
        });
    }
    steps.push(Step::HandOver);
    steps.extend(confinement(policy, spec, facts, identity));
    let guarantees = stated(policy, spec, facts)?;
    let mut argv = spec.argv.clone();
    settings.preset.complete(&mut argv);
    Ok(LaunchPlan {
        version: PLAN_VERSION,
        session: spec.session.clone(),
        tier: Tier::Native,
        identity,
        command: Command {
            program: facts.program.program.clone().into(),
            argv,
            environment: environment::build(settings, spec, facts),
            cwd: spec.cwd.clone(),
        },
        steps,
        guarantees,
        notes: notes(facts),
        fault: None,
    })
}

/// Returns what the command brings along, where it does.
fn also_visible(facts: &HostFacts) -> Option<String> {
    let roots: Vec<String> = facts.program.roots.iter().map(AbsPath::to_string).collect();
    (!roots.is_empty()).then(|| format!("also visible, for the command: {}", roots.join(" ")))
}

fn notes(facts: &HostFacts) -> Vec<String> {
    let notes = also_visible(facts).into_iter();
    notes.chain(facts.notes.iter().cloned()).collect()
}

fn identity(facts: &HostFacts) -> Identity {
    if facts.caller_uid == 0 {
        Identity {
            uid: facts.workspace_uid,
            gid: facts.workspace_gid,
        }
    } else {
        Identity {
            uid: facts.caller_uid,
            gid: facts.caller_gid,
        }
    }
}

/// Checks that the workspace does not contain what the boundary is there to hide or to keep whole.
///
/// # Errors
/// [`PlanError::Workspace`] or [`PlanError::Share`], where it does.
pub fn check_workspace(spec: &RunSpec, facts: &HostFacts) -> Result<(), PlanError> {
    let problem = |problem| {
        Err(PlanError::Workspace {
            path: spec.workspace.clone(),
            problem,
        })
    };
    if facts
        .homes
        .iter()
        .any(|home| home.is_within(&spec.workspace))
    {
        return problem(
            "is or contains your home directory, with everything the boundary hides; \
             use --workspace with a project directory",
        );
    }
    let overlaps =
        |place: &AbsPath| place.is_within(&spec.workspace) || spec.workspace.is_within(place);
    if overlaps(&spec.state_dir) {
        return problem(
            "overlaps Stockade's own state directory; set STOCKADE_STATE_DIR elsewhere",
        );
    }
    if facts.secrets.iter().any(overlaps) {
        return problem(
            "is, holds or lies in a store of secrets such as ~/.ssh or ~/.config/gh; \
             use --workspace with a project directory",
        );
    }
    if facts.ours.iter().any(overlaps) {
        return problem(
            "overlaps Stockade's own state directory, or the one of your policies, under this or \
             another name; use --workspace with a project directory",
        );
    }
    let is_project = is_project_place(&spec.workspace);
    let inside_system = facts.system.iter().any(|entry| {
        let within = spec.workspace.is_within(&entry.path) && !is_project;
        within || entry.path.is_within(&spec.workspace)
    }) || ["/boot", "/dev", "/proc", "/run", "/sys"]
        .iter()
        .any(|system| spec.workspace.as_path().starts_with(system) && !is_project);
    if inside_system {
        return problem(
            "is a system directory; use --workspace with a project directory (below /opt, /usr/src, \
             /usr/local/src and /dev/shm are such, too)",
        );
    }
    if ["/home", "/tmp", "/var", "/var/tmp"]
        .iter()
        .any(|shared| spec.workspace.as_path() == std::path::Path::new(shared))
    {
        return problem("is shared by every user; use a directory below it");
    }
    covers::check(spec, facts)
}

/// Where machines keep projects below directories of the system.
const PROJECT_PLACES: [&str; 4] = ["/opt", "/usr/src", "/usr/local/src", "/dev/shm"];
/// What `/usr/local` has for programs that are installed (Filesystem Hierarchy Standard, 4.9).
const LOCAL: [&str; 13] = [
    "bin", "etc", "games", "include", "lib", "lib32", "lib64", "libexec", "libx32", "man", "sbin",
    "share", "src",
];

/// Whether a path lies where projects are, although it is below a directory of the system. Such places
/// themselves are none.
fn is_project_place(path: &AbsPath) -> bool {
    let path = path.as_path();
    let below = |top: &str| {
        path.strip_prefix(top)
            .ok()
            .and_then(|rest| rest.iter().next())
    };
    let of_local = |name: &std::ffi::OsStr| LOCAL.iter().any(|own| *own == name);
    PROJECT_PLACES.iter().any(|top| below(top).is_some())
        || below("/usr/local").is_some_and(|name| !of_local(name))
}

fn namespaces(facts: &HostFacts, identity: Identity) -> Vec<Step> {
    let with_setup = |id: u32, caller: u32| {
        if id == caller {
            vec![id]
        } else {
            vec![caller, id]
        }
    };
    vec![
        Step::EnterNamespaces {
            namespaces: vec![
                Namespace::User,
                Namespace::Mount,
                Namespace::Pid,
                Namespace::Network,
                Namespace::Ipc,
                Namespace::Uts,
                Namespace::Cgroup,
            ],
        },
        Step::MapIdentity {
            uids: with_setup(identity.uid, facts.caller_uid),
            gids: with_setup(identity.gid, facts.caller_gid),
        },
        Step::StartFirstProcess,
        Step::DieWithSupervisor,
        Step::HostName {
            name: "stockade".to_owned(),
        },
    ]
}

fn network(policy: &Policy, spec: &RunSpec, facts: &HostFacts) -> Vec<Step> {
    if spec.network == Network::Isolated {
        return vec![Step::Loopback];
    }
    let mut ports = vec![REDIRECT_PORT, NAME_PORT];
    if !facts.redirect {
        ports.extend(
            policy
                .net_ports()
                .into_iter()
                .filter(|port| !ports.contains(port))
                .collect::<Vec<_>>(),
        );
    }
    // A port that is listened on everywhere is listened on here too.
    let mut local = policy.settings().network.local_ports();
    local.retain(|port| !ports.contains(port));
    let mut steps = vec![
        Step::Loopback,
        Step::RouteEverything,
        Step::Listen {
            ports,
            local: local.clone(),
        },
    ];
    if facts.redirect {
        steps.push(Step::Redirect {
            port: REDIRECT_PORT,
        });
        if facts.hold {
            steps.push(Step::Hold { local });
        }
    }
    steps
}

fn confinement(
    policy: &Policy,
    spec: &RunSpec,
    facts: &HostFacts,
    identity: Identity,
) -> Vec<Step> {
    let settings = policy.settings();
    let mut steps = vec![
        Step::BecomeUser {
            uid: identity.uid,
            gid: identity.gid,
            drop_groups: facts.caller_uid == 0,
        },
        Step::NewSession,
        Step::StartCommand,
        Step::ForegroundGroup,
    ];
    steps.extend(limits::resource_steps(&settings.limits, facts));
    steps.extend([
        Step::DropCapabilities,
        Step::NoNewPrivileges,
        Step::RestrictPaths {
            abi: facts.landlock_abi,
            rules: view::landlock(spec, facts),
        },
        Step::FilterCalls {
            set: CallSet {
                debuggers: settings.process.debuggers.value,
                namespaces: settings.process.namespaces.value,
                notify: true,
                root: identity.uid == 0,
            },
        },
        Step::CloseDescriptors,
        Step::Execute,
    ]);
    steps
}

fn stated(policy: &Policy, spec: &RunSpec, facts: &HostFacts) -> Result<Vec<Guarantee>, PlanError> {
    let holds = |name, how: &str| Guarantee {
        name,
        holds: true,
        how: how.to_owned(),
        missing: None,
        waiver: None,
    };
    let network = match (spec.network, facts.redirect) {
        (Network::Isolated, _) => "no interface but loopback, no names",
        (Network::Proxied, true) => {
            "no interface but loopback; every port is redirected to the egress process"
        }
        (Network::Proxied, false) => {
            "no interface but loopback; ports that no rule names are refused"
        }
    };
    let mut files = "private root, read-only binds, Landlock, change notifier".to_owned();
    if let Some(also) = also_visible(facts) {
        files.extend(["; ", &also]);
    }
    let mut stated = vec![
        holds(GuaranteeName::Files, &files),
        holds(
            GuaranteeName::Processes,
            "pid and IPC namespaces, seccomp, no capabilities",
        ),
        holds(GuaranteeName::Network, network),
        holds(
            GuaranteeName::Secrets,
            "empty home, clean environment, no inherited descriptors",
        ),
    ];
    stated.extend(limits::guarantees(&policy.settings().limits, facts));
    stated.push(holds(
        GuaranteeName::ExecDecisions,
        "seccomp notifier on execve and execveat",
    ));
    stated.push(holds(
        GuaranteeName::Record,
        "journal, hash-chained and signed",
    ));
    for guarantee in &mut stated {
        guarantee.waiver = spec
            .waive
            .iter()
            .find(|(name, _)| *name == guarantee.name)
            .map(|(_, r)| r.clone());
        if !guarantee.holds && guarantee.waiver.is_none() && spec.require.contains(&guarantee.name)
        {
            return Err(PlanError::Required {
                name: guarantee.name,
                missing: guarantee.missing.clone().unwrap_or_default(),
            });
        }
    }
    for name in &spec.require {
        if !stated.iter().any(|guarantee| guarantee.name == *name) {
            let missing = "the policy sets nothing that would give it".to_owned();
            return Err(PlanError::Required {
                name: *name,
                missing,
            });
        }
    }
    Ok(stated)
}
