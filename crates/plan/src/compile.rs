//! From policy, wish and facts to a plan.

use stockade_policy::Policy;
use stockade_types::{AbsPath, WorkspaceMode};

use crate::{
    Command, Guarantee, HostFacts, Identity, LaunchPlan, PLAN_VERSION, PlanError, RunSpec, covers,
    environment, telemetry,
    tiers::{self, Made, Wish},
};

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
    let identity = identity(facts);
    let Made {
        steps,
        boundary,
        guarantees,
    } = (tiers::of(spec.tier).make)(Wish {
        policy,
        spec,
        facts,
        identity,
    })?;
    boundary
        .check(&steps, &guarantees)
        .map_err(PlanError::Unfounded)?;
    let guarantees = settle(guarantees, spec)?;
    let mut argv = spec.argv.clone();
    let telemetry = telemetry::find(settings, spec, facts).ok();
    let more = telemetry.map_or(&[][..], |own| &own.arguments);
    let more = [more, &facts.servers.arguments].concat();
    settings.preset.complete(&mut argv, &more);
    Ok(LaunchPlan {
        version: PLAN_VERSION,
        session: spec.session.clone(),
        tier: spec.tier,
        boundary,
        identity,
        command: Command {
            program: facts.program.program.clone().into(),
            argv,
            environment: environment::build(policy, spec, facts),
            cwd: spec.cwd.clone(),
        },
        steps,
        guarantees,
        notes: notes(facts),
        fault: None,
    })
}

fn notes(facts: &HostFacts) -> Vec<String> {
    let notes = facts.program.also_visible().into_iter();
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

/// Joins guarantees with what the caller requires of them, and does without.
///
/// # Errors
/// [`PlanError::Required`] if one that is required neither holds nor is waived.
fn settle(mut stated: Vec<Guarantee>, spec: &RunSpec) -> Result<Vec<Guarantee>, PlanError> {
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
