//! Namespaces, a private root, Landlock, seccomp.

use stockade_policy::Policy;
use stockade_types::{GuaranteeName, Tier};

use super::{Made, Part, Shape, Wish};
use crate::{
    Boundary, CallSet, Guarantee, HostFacts, Identity, Interfaces, Life, Namespace, Network,
    PlanError, Protection, Root, RunSpec, Step, limits, telemetry, view,
};

/// The tier.
pub(super) const TIER: Shape = Shape {
    needs: &[Part::Namespaces, Part::Landlock, Part::Notifier],
    make,
};

/// What its walls are made of.
const BOUNDARY: Boundary = Boundary {
    root: Root::Private,
    interfaces: Interfaces::Own,
    life: Life::FirstProcess,
    protection: Protection::Mounts,
};

/// Port of the one listener that every connection is redirected to. Nothing inside can be
/// confused with it: it is only reachable under its own name, and then has no original destination.
const REDIRECT_PORT: u16 = 61_153;
/// TCP port of names; resolvers fall back to TCP for long answers.
const NAME_PORT: u16 = 53;
/// Landlock interface that the native tier needs at least: file rights with reparenting.
const LANDLOCK_ABI_MIN: i32 = 2;

fn make(wish: Wish<'_>) -> Result<Made, PlanError> {
    let Wish {
        policy,
        spec,
        facts,
        identity,
    } = wish;
    if facts.landlock_abi < LANDLOCK_ABI_MIN {
        return Err(PlanError::Missing {
            tier: Tier::Native,
            part: "Landlock (Linux 5.19 or newer, `lsm=landlock`)",
        });
    }
    let settings = policy.settings();
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
    Ok(Made {
        steps,
        boundary: BOUNDARY,
        guarantees: guarantees(policy, spec, facts),
    })
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
    let network = &policy.settings().network;
    let mut held = network.local_ports();
    held.retain(|port| !ports.contains(port));
    // Where a connection to the session's own proxy leads is known only once the proxy is asked.
    let mut local = held.clone();
    let own = network.inside_proxy.as_ref().map(|at| at.value.get());
    local.extend(own.filter(|port| !ports.contains(port)));
    let mut steps = vec![
        Step::Loopback,
        Step::RouteEverything,
        Step::Listen { ports, local },
    ];
    if facts.redirect {
        steps.push(Step::Redirect {
            port: REDIRECT_PORT,
        });
        if facts.hold {
            steps.push(Step::Hold { local: held });
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

fn guarantees(policy: &Policy, spec: &RunSpec, facts: &HostFacts) -> Vec<Guarantee> {
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
    if let Some(also) = facts.program.also_visible() {
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
    stated.push(scopes(facts));
    let telemetry = match telemetry::find(policy.settings(), spec, facts) {
        Ok(_) => "the agent's telemetry is recorded".to_owned(),
        Err(why) => format!("the agent's telemetry is not recorded: {why}"),
    };
    stated.push(holds(
        GuaranteeName::Record,
        &format!("journal, hash-chained and signed; {telemetry}"),
    ));
    stated
}

/// Says whether each process keeps the scope of its command, whatever becomes of its parents.
fn scopes(facts: &HostFacts) -> Guarantee {
    let lacks = "RLIMIT_RTTIME is lowered already (ulimit -R), so nothing says which command a process \
                 belongs to whose parent has ended";
    Guarantee {
        name: GuaranteeName::Scopes,
        holds: facts.scopes,
        how: "the kernel keeps the number of a command with each process".to_owned(),
        missing: (!facts.scopes).then(|| lacks.to_owned()),
        waiver: None,
    }
}
