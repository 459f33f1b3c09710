//! `exec git push origin main` in one line.

use stockade_types::RawText;

use super::ExecRequest;
use crate::kinds::WORKSPACE;

/// Reads a command as it would run in the workspace.
pub(crate) fn probe(command: &[&str]) -> ExecRequest {
    let program = command.first().copied().unwrap_or_default();
    let path = if program.contains('/') {
        program.to_owned()
    } else {
        format!("/usr/bin/{program}")
    };
    ExecRequest {
        program: RawText::from(path.as_str()),
        invoked_as: RawText::from(path.as_str()),
        argv: command.iter().map(|word| RawText::from(*word)).collect(),
        cwd: RawText::from(WORKSPACE),
        ..ExecRequest::default()
    }
}
