//! What nobody inside may see: covered last, wherever a bind shows it.

use std::path::Path;

use stockade_types::AbsPath;

use crate::{EntryKind, HostFacts, PlanError, RunSpec, ShareFact, Step, share::SharedBind};

/// A part of the view: what is mounted at `path`, in the order of the mounts.
#[derive(Clone, Debug)]
struct Layer {
    path: AbsPath,
    /// What of the host it shows; `None` for what is made for the session.
    from: Option<AbsPath>,
    writable: bool,
}

/// Returns the steps that cover what is ours, what policy hides, and what others cannot read.
///
/// They come after every bind, since each bind could show one of those again.
pub(crate) fn steps(spec: &RunSpec, facts: &HostFacts, shared: &[SharedBind]) -> Vec<Step> {
    let layers = layers(spec, facts, shared);
    let mut covers: Vec<(AbsPath, Option<AbsPath>)> = Vec::new();
    for place in facts.ours.iter().chain(&facts.hidden) {
        covers.extend(shown_at(place, &layers));
    }
    for place in &facts.hidden {
        // A bind below a hidden directory shows a part of it, whatever it is named for.
        let below = layers.iter().filter(|layer| {
            let is_below = |path: &AbsPath| path.is_within(place);
            // What comes from our own directory is not what policy means.
            let is_own = |from: &AbsPath| from.is_within(&spec.state_dir);
            let mut from = layer.from.iter().filter(|from| !is_own(from));
            layer.from.is_some() && (is_below(&layer.path) || from.any(is_below))
        });
        covers.extend(below.map(|layer| (layer.path.clone(), None)));
    }
    // Outer ones first: what lies in one that is covered is no more.
    covers.sort_by_key(|(path, _)| path.as_path().components().count());
    let mut steps = Vec::new();
    let mut covered: Vec<AbsPath> = Vec::new();
    for (path, share) in covers {
        if covered.iter().any(|above| path.is_within(above)) {
            continue;
        }
        steps.extend(share.into_iter().flat_map(|share| chain(&share, &path)));
        steps.push(Step::Cover { path: path.clone() });
        covered.push(path);
    }
    let mask = |path: &AbsPath| Step::Mask { path: path.clone() };
    steps.extend(facts.closed.iter().map(mask));
    // These file systems are the session's own, and have what their kernel has.
    let own = ["/proc", "/dev", "/sys"];
    let is_own = |path: &&AbsPath| own.iter().any(|top| path.as_path().starts_with(top));
    steps.extend(facts.hidden.iter().filter(is_own).map(mask));
    steps.dedup();
    steps
}

/// Where `place` is seen inside, each with the writable bind that shows it there.
fn shown_at(place: &AbsPath, layers: &[Layer]) -> Vec<(AbsPath, Option<AbsPath>)> {
    let mut found = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let Some(below) = layer
            .from
            .as_ref()
            .and_then(|from| place.as_path().strip_prefix(from).ok())
        else {
            continue;
        };
        let Ok(inside) = joined(&layer.path, below) else {
            continue;
        };
        // A later mount around it shows something else there.
        let top = layers
            .iter()
            .rposition(|later| inside.is_within(&later.path));
        if top == Some(number) {
            found.push((inside, layer.writable.then(|| layer.path.clone())));
        }
    }
    found
}

fn joined(path: &AbsPath, below: &Path) -> Result<AbsPath, stockade_types::PathError> {
    if below.as_os_str().is_empty() {
        return Ok(path.clone());
    }
    path.join(below)
}

/// Binds every directory from below `share` to above `path` onto itself: a mount cannot be renamed,
/// so nobody brings what is covered under another name.
fn chain(share: &AbsPath, path: &AbsPath) -> Vec<Step> {
    let mut parents: Vec<Step> = path
        .as_path()
        .ancestors()
        .skip(1)
        .take_while(|parent| *parent != share.as_path() && parent.starts_with(share))
        .filter_map(|parent| AbsPath::new(parent).ok())
        .map(|path| Step::Protect {
            path,
            read_only: false,
        })
        .collect();
    parents.reverse();
    parents
}

fn layers(spec: &RunSpec, facts: &HostFacts, shared: &[SharedBind]) -> Vec<Layer> {
    let system = facts.system.iter().filter_map(|entry| match entry.kind {
        EntryKind::Link(_) => None,
        EntryKind::Directory | EntryKind::File => Some(Layer {
            path: entry.path.clone(),
            from: Some(entry.path.clone()),
            writable: false,
        }),
    });
    let own = |path: AbsPath| Layer {
        path,
        from: None,
        writable: true,
    };
    let private = ["/dev", "/proc", "/tmp", "/var/tmp", "/run/stockade"]
        .iter()
        .filter_map(|path| AbsPath::new(path).ok())
        .chain([facts.home.clone()])
        .chain(facts.private.iter().cloned());
    let shared = shared.iter().map(|bind| Layer {
        path: bind.path.clone(),
        from: Some(bind.from.clone()),
        writable: bind.is_writable(),
    });
    let workspace = Layer {
        path: spec.workspace.clone(),
        from: Some(spec.workspace.clone()),
        writable: true,
    };
    system
        .chain(private.map(own))
        .chain(shared)
        .chain([workspace])
        .collect()
}

/// Checks that policy shares nothing that is ours or the whole home, and that the session can
/// replace neither our own program nor a policy of the next one.
///
/// # Errors
/// [`PlanError::Workspace`] or [`PlanError::Share`], where it does.
pub(crate) fn check(spec: &RunSpec, facts: &HostFacts) -> Result<(), PlanError> {
    const PROGRAM: &str = "holds Stockade's own program, which the session could replace for the \
        next one; run a copy that lies elsewhere";
    let holds_program = |path: &AbsPath| facts.own_names.iter().any(|own| own.is_within(path));
    let workspace = |problem| {
        Err(PlanError::Workspace {
            path: spec.workspace.clone(),
            problem,
        })
    };
    if holds_program(&spec.workspace) {
        return workspace(PROGRAM);
    }
    if facts
        .hidden
        .iter()
        .any(|hidden| spec.workspace.is_within(hidden))
    {
        return workspace(
            "lies in what `filesystem.hide` of the policy hides; use another directory",
        );
    }
    let named = |key| move |share: &ShareFact| (key, share.path.clone(), share.from.clone());
    let caches = facts.caches.iter();
    let shares = facts.readable.iter().map(named("read"));
    let shares = shares.chain(facts.writable.iter().map(named("write")));
    for (key, path, from) in
        shares.chain(caches.map(|cache| ("caches", cache.path.clone(), cache.from.clone())))
    {
        let (share, writable) = (ShareFact { path, from }, key == "write");
        let problem = |problem| {
            Err(PlanError::Share {
                key,
                path: share.path.clone(),
                problem,
            })
        };
        if facts.homes.iter().any(|home| home.is_within(&share.from)) {
            return problem("would show the whole home; name what is needed");
        }
        if facts.ours.iter().any(|own| share.from.is_within(own)) {
            return problem(
                "is, or lies in, Stockade's own state or a policy of this run; no session sees those",
            );
        }
        if writable && holds_program(&share.from) {
            return problem(PROGRAM);
        }
        let kept = |policy: &AbsPath| {
            let mut covered = facts.ours.iter().filter(|own| *own != policy);
            covered.any(|own| policy.is_within(own) && own.is_within(&share.from))
        };
        let mut policies = facts.policies.iter();
        if writable && policies.any(|policy| policy.is_within(&share.from) && !kept(policy)) {
            return problem(
                "holds a place of your policies, which the session could write for the next one; \
                 write less, or give the policy a directory outside (your own: `mkdir -p \
                 ~/.config/stockade`)",
            );
        }
    }
    Ok(())
}
