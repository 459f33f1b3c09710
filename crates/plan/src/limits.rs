//! Limits as steps.

use stockade_policy::{Limits, Settings};
use stockade_types::GuaranteeName;

use crate::{Guarantee, HostFacts, ResourceLimit, Step};

/// Open files where the policy says nothing: what build tools and language servers get by with.
const OPEN_FILES_DEFAULT: u64 = 65_536;
/// Processes where the policy says nothing: a wide parallel build, but no fork bomb.
const PROCESSES_DEFAULT: u64 = 4_096;
/// Queued signals and timers: many more than programs use.
const PENDING_SIGNALS_MAX: u64 = 4_096;
/// Namespaces of each kind, where a session may make some: a browser with many tabs.
const NAMESPACES_MAX: u64 = 256;
/// The kinds (namespaces(7)).
const NAMESPACES: [&str; 8] = [
    "max_cgroup_namespaces",
    "max_ipc_namespaces",
    "max_mnt_namespaces",
    "max_net_namespaces",
    "max_pid_namespaces",
    "max_time_namespaces",
    "max_user_namespaces",
    "max_uts_namespaces",
];
/// Size of a core file: none is written that small, and a handler is not started for it either,
/// which it is for 0 (core(5)).
const CORE_BYTES: u64 = 1;
/// Period of the processor quota in microseconds, the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

/// Returns the group steps of the supervisor.
pub(crate) fn group_steps(limits: &Limits, facts: &HostFacts) -> Vec<Step> {
    facts
        .cgroups
        .iter()
        .filter_map(|group| {
            let settings = group_settings(&group.controller, limits);
            (!settings.is_empty()).then(|| Step::JoinGroup {
                controller: group.controller.clone(),
                parent: group.parent.clone(),
                settings,
            })
        })
        .collect()
}

fn group_settings(controller: &str, limits: &Limits) -> Vec<(String, String)> {
    let one = |file: &str, value: String| vec![(file.to_owned(), value)];
    match controller {
        "memory" => limits
            .memory
            .as_ref()
            .map(|m| one("memory.limit_in_bytes", m.value.bytes().to_string())),
        "pids" => limits
            .processes
            .as_ref()
            .map(|p| one("pids.max", p.value.to_string())),
        "cpu" => limits.cpus.as_ref().map(|c| {
            vec![
                ("cpu.cfs_period_us".to_owned(), CPU_PERIOD_US.to_string()),
                ("cpu.cfs_quota_us".to_owned(), quota_us(c.value).to_string()),
            ]
        }),
        _ => None,
    }
    .unwrap_or_default()
}

/// Microseconds of processor time per period, at least the kernel's minimum of 1 ms.
fn quota_us(cpus: f64) -> u64 {
    let thousandths = std::time::Duration::from_secs_f64(cpus.clamp(0.01, 4096.0)).as_millis();
    u64::try_from(thousandths)
        .unwrap_or(u64::MAX)
        .saturating_mul(CPU_PERIOD_US / 1000)
        .max(1000)
}

/// Returns the bounds of counts that the kernel keeps for each user. A session has a part of them,
/// so that the caller's other programs always have the rest.
pub(crate) fn shared_steps(settings: &Settings, facts: &HostFacts) -> Vec<Step> {
    let shared = &facts.shared;
    let watches = settings.limits.watches.as_ref();
    let watches = shared
        .inotify_watches
        .map(|all| watches.map_or(all / 2, |wanted| wanted.value.min(all)));
    let part = |all: Option<u64>, divisor: u64| all.map(|all| (all / divisor).max(1));
    // Where the filter closes namespaces, this is a second lock.
    let namespaces = if settings.process.namespaces.value {
        NAMESPACES_MAX
    } else {
        0
    };
    let namespaces = NAMESPACES.map(|name| (name, Some(namespaces)));
    [
        ("max_inotify_instances", part(shared.inotify_instances, 4)),
        ("max_inotify_watches", watches),
    ]
    .into_iter()
    .chain(namespaces)
    .filter_map(|(name, most)| {
        Some(Step::SharedCount {
            name: name.to_owned(),
            most: most?,
        })
    })
    .collect()
}

/// Returns the limits that the command's process sets on itself.
pub(crate) fn resource_steps(limits: &Limits, facts: &HostFacts) -> Vec<Step> {
    let step = |limit, value| Step::ResourceLimit { limit, value };
    vec![
        step(
            ResourceLimit::OpenFiles,
            limits
                .open_files
                .as_ref()
                .map_or(OPEN_FILES_DEFAULT, |l| l.value),
        ),
        step(
            ResourceLimit::Processes,
            limits
                .processes
                .as_ref()
                .map_or(PROCESSES_DEFAULT, |l| l.value)
                .min(facts.shared.processes / 2),
        ),
        step(
            ResourceLimit::PendingSignals,
            PENDING_SIGNALS_MAX.min(facts.shared.pending_signals / 4),
        ),
        step(ResourceLimit::Core, CORE_BYTES),
        step(ResourceLimit::MessageQueues, 0),
    ]
}

/// States which limits hold.
pub(crate) fn guarantees(limits: &Limits, facts: &HostFacts) -> Vec<Guarantee> {
    let has = |controller: &str| facts.cgroups.iter().any(|g| g.controller == controller);
    let mut missing = Vec::new();
    for (set, controller, word) in [
        (limits.memory.is_some(), "memory", "memory"),
        (limits.cpus.is_some(), "cpu", "processor time"),
    ] {
        if set && !has(controller) {
            missing.push(word);
        }
    }
    let mut stated = vec![Guarantee {
        name: GuaranteeName::Limits,
        holds: true,
        how: "rlimits: processes, open files, queued signals, no core dumps; a part of the user's \
              inotify instances and watches, of the terminals, and half of the memory for private \
              directories; wall time by the supervisor; pipe pages, epoll watches and descriptors in \
              flight are the user's own"
            .to_owned(),
        missing: None,
        waiver: None,
    }];
    if limits.memory.is_some() || limits.cpus.is_some() {
        let holds = missing.is_empty();
        stated.push(Guarantee {
            name: GuaranteeName::GroupLimits,
            holds,
            how: "cgroup v1 controllers".to_owned(),
            missing: (!holds).then(|| {
                format!(
                    "{}: no cgroup that this user may use",
                    missing.join(" and ")
                )
            }),
            waiver: None,
        });
    }
    if limits.disk.is_some() {
        stated.push(Guarantee {
            name: GuaranteeName::DiskQuota,
            holds: false,
            how: String::new(),
            missing: Some("a direct workspace has no quota; needs the review workspace".to_owned()),
            waiver: None,
        });
    }
    stated
}
