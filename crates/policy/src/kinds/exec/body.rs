//! The conditions of a rule about executions.

use std::fmt;

use crate::{
    kinds::join,
    pattern::{CommandPattern, PathPattern, ProgramPattern, VariablePattern},
};

#[derive(Clone, Debug)]
pub(crate) struct ExecBody {
    pub(crate) commands: Vec<CommandPattern>,
    /// Commands that an ask or a deny does not apply to.
    pub(crate) unless: Vec<CommandPattern>,
    pub(crate) programs: Option<Vec<ProgramPattern>>,
    pub(crate) cwd: Option<Vec<PathPattern>>,
    pub(crate) environment: Option<Vec<VariablePattern>>,
}

impl fmt::Display for ExecBody {
    /// Writes the conditions for people, for example `exec git push **; not git push -n`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exec {}", join(&self.commands))?;
        if self.unless.is_empty() {
            return Ok(());
        }
        write!(f, "; not {}", join(&self.unless))
    }
}
