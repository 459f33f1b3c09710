//! Our own program in the workspace: a session must not replace it for the next one.
//!
//! A person who builds Stockade and runs it there (`cargo run -- run -- bash`) has it in the
//! workspace. It is protected like a policy there, under each of its names, because cargo
//! hard-links what it builds.

use stockade_plan::HostFacts;
use stockade_types::AbsPath;

use crate::{RunError, facts, names::Mounts, policies, twins};

/// The description of the protected file in messages.
pub(crate) const WHAT: &str = "Stockade's own program";

/// The names of our own program that are protected in the workspace.
#[derive(Debug, Default)]
pub(crate) struct OwnProgram {
    names: Vec<AbsPath>,
    /// Patterns that protect them.
    pub(crate) patterns: Vec<String>,
}

/// Finds the names of our own program in `workspace`. If one of them cannot be protected there, it
/// returns none, and the plan refuses the workspace.
///
/// # Errors
/// When our own program or its second names cannot be found.
pub(crate) fn in_workspace(workspace: &AbsPath, mounts: &Mounts) -> Result<OwnProgram, RunError> {
    let own = facts::own_executable()?;
    let workspaces = mounts.names(workspace);
    let mut names = mounts.names(&own);
    names.retain(|name| policies::below(name.as_path(), &workspaces).is_some());
    if names.is_empty() {
        return Ok(OwnProgram::default());
    }
    let twins = twins::find(&[own], std::slice::from_ref(workspace))?;
    names.extend(twins.into_iter().map(|(_, name)| name));
    let pattern = |name: &AbsPath| {
        policies::below(name.as_path(), &workspaces).and_then(policies::exact_pattern)
    };
    let Some(patterns) = names.iter().map(pattern).collect() else {
        return Ok(OwnProgram::default());
    };
    Ok(OwnProgram { names, patterns })
}

impl OwnProgram {
    /// Reports the consequences for the session.
    pub(crate) fn tell(&self, facts: &mut HostFacts) {
        let Some(pattern) = self.patterns.first() else {
            return;
        };
        facts.own_names.retain(|own| !self.names.contains(own));
        facts.notes.push(format!(
            "careful: the workspace holds Stockade's own program (`{pattern}`); the session cannot \
             change it, but what it is built from; for work on other things run a copy that lies \
             elsewhere"
        ));
    }
}
