//! The conditions of a rule about tools.

use std::fmt;

use stockade_types::ToolEffect;

use super::condition::{ArgumentPattern, Condition};
use crate::{kinds::join, pattern::Glob};

#[derive(Clone, Debug)]
pub(crate) struct ToolBody {
    /// Names of tools; `*` alone if the rule names none.
    pub(crate) tools: Vec<Glob>,
    pub(crate) servers: Option<Vec<Glob>>,
    pub(crate) effects: Option<Vec<ToolEffect>>,
    /// All of them must hold.
    pub(crate) arguments: Vec<Condition>,
}

impl fmt::Display for ToolBody {
    /// Writes the conditions for people, for example `tool Bash; command git push*`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tool {}", join(self.tools.iter().map(Glob::text)))?;
        if let Some(servers) = &self.servers {
            write!(f, "; servers {}", join(servers.iter().map(Glob::text)))?;
        }
        if let Some(effects) = &self.effects {
            write!(
                f,
                "; effects {}",
                join(effects.iter().map(|one| one.as_str()))
            )?;
        }
        for one in &self.arguments {
            let patterns = join(one.patterns.iter().map(ArgumentPattern::text));
            write!(f, "; {} {patterns}", one.name)?;
        }
        Ok(())
    }
}
