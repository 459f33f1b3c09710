//! Which executions a rule matches, and when it lies within another one.

use stockade_types::Verdict;

use super::{ExecBody, ExecFeatures};
use crate::{
    kinds::{Fit, Miss, is_allow, list_within},
    pattern::{CommandPattern, PathPattern, ProgramPattern, VariablePattern, glob::Case},
};

impl ExecBody {
    /// Judges an execution by one of the commands.
    pub(crate) fn fit(
        &self,
        effect: Verdict,
        pattern: usize,
        features: &ExecFeatures<'_>,
    ) -> Result<Fit, Miss> {
        let command = self.commands.get(pattern).ok_or(Miss::Command)?;
        let fits = if is_allow(effect) {
            features.is_surely(command)
        } else {
            features.could_be(command, &self.unless)
        };
        if !fits {
            return Err(Miss::Command);
        }
        if let Some(cwd) = &self.cwd
            && !cwd
                .iter()
                .any(|own| own.matches(features.request.cwd.as_bytes(), Case::Exact))
        {
            return Err(Miss::Directory);
        }
        if let Some(wanted) = &self.environment {
            let present = |own: &VariablePattern| {
                features
                    .request
                    .environment
                    .iter()
                    .any(|(name, value)| own.matches(name, value))
            };
            let fits = if is_allow(effect) {
                wanted.iter().all(present)
            } else {
                wanted.iter().any(present)
            };
            if !fits {
                return Err(Miss::Environment);
            }
        }
        if let Some(programs) = &self.programs {
            let digest = features.request.digest.as_ref();
            if !programs
                .iter()
                .any(|own| own.matches(&features.request.program, digest))
            {
                return Err(Miss::Program);
            }
        }
        Ok(Fit::Now)
    }

    /// Returns whether the command names a particular program.
    pub(crate) fn is_explicit(&self, pattern: usize) -> bool {
        self.commands
            .get(pattern)
            .is_some_and(CommandPattern::is_explicit)
    }

    /// Returns whether everything that one command of this rule matches certainly lies within one
    /// of `outer`.
    pub(crate) fn lies_within(&self, pattern: usize, outer: &Self, outer_pattern: usize) -> bool {
        let (Some(x), Some(y)) = (
            self.commands.get(pattern),
            outer.commands.get(outer_pattern),
        ) else {
            return false;
        };
        y.contains(x)
            && list_within(
                self.cwd.as_deref(),
                outer.cwd.as_deref(),
                PathPattern::contains,
            )
            && list_within(
                self.programs.as_deref(),
                outer.programs.as_deref(),
                ProgramPattern::contains,
            )
            && (outer.environment.is_none() || self.environment == outer.environment)
    }
}
