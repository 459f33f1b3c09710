//! The conditions of a rule about files.

use std::fmt;

use crate::{Access, kinds::join, pattern::PathPattern};

#[derive(Clone, Debug)]
pub(crate) struct FileBody {
    pub(crate) paths: Vec<PathPattern>,
    pub(crate) access: Option<Vec<Access>>,
}

impl fmt::Display for FileBody {
    /// Writes the conditions for people, for example `file src/**; write, create`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file {}", join(self.paths.iter().map(PathPattern::text)))?;
        match &self.access {
            Some(access) => write!(f, "; {}", join(access.iter().map(|a| a.as_str()))),
            None => Ok(()),
        }
    }
}
