//! Unix sockets of the machine that policy offers to a session, as they are at its start.

use std::{
    fs,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

use stockade_plan::{HostFacts, ShareFact};
use stockade_policy::{Settings, control_socket};
use stockade_types::AbsPath;

use crate::RunError;

/// Adds the sockets that exist; reports those that do not, and those that policy hides.
///
/// # Errors
/// When one leads to a socket that controls the machine, is not a socket, or is our own.
pub(crate) fn tell(
    settings: &Settings,
    state_dir: &AbsPath,
    facts: &mut HostFacts,
) -> Result<(), RunError> {
    for (inside, outside) in &settings.network.sockets {
        let path = Path::new(&outside.value);
        let refused = |why: String| RunError::Socket {
            path: path.to_owned(),
            why,
        };
        let by = &outside.source;
        let Ok(real) = fs::canonicalize(path) else {
            let note = format!("{}: not here, so it is not inside ({by})", path.display());
            facts.notes.push(note);
            continue;
        };
        // The name of a link can differ from that of its target.
        if let Some(what) = real.to_str().and_then(control_socket) {
            let text = format!(
                "leads to `{}`; a program that talks to that {what}",
                real.display()
            );
            return Err(refused(text));
        }
        let is_socket = fs::metadata(&real).is_ok_and(|meta| meta.file_type().is_socket());
        if !is_socket {
            return Err(refused("is no socket".to_owned()));
        }
        let shared = |path: PathBuf| AbsPath::new(&path).map_err(|_| RunError::Path(path));
        let (from, path) = (shared(real)?, shared(inside.into())?);
        if from.is_within(state_dir) || facts.ours.iter().any(|own| from.is_within(own)) {
            return Err(refused("is Stockade's own".to_owned()));
        }
        if facts.hidden.iter().any(|above| from.is_within(above)) {
            let note = format!("{from}: hidden by a policy, so it is not inside ({by})");
            facts.notes.push(note);
            continue;
        }
        facts.sockets.push(ShareFact { path, from });
    }
    Ok(())
}
