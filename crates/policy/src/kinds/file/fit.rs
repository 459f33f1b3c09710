//! Which changes of files a rule matches, and when it lies within another one.

use super::{FileBody, FileFeatures};
use crate::kinds::{Fit, Miss, list_within};

impl FileBody {
    /// Judges a change by one of the paths.
    pub(crate) fn fit(&self, pattern: usize, features: &FileFeatures<'_>) -> Result<Fit, Miss> {
        let own = self.paths.get(pattern).ok_or(Miss::Path)?;
        if !features.matches(own) {
            return Err(Miss::Path);
        }
        if self
            .access
            .as_ref()
            .is_some_and(|own| !own.contains(&features.request.access))
        {
            return Err(Miss::Access);
        }
        Ok(Fit::Now)
    }

    /// Returns whether the path is more specific than everything.
    pub(crate) fn is_explicit(&self, pattern: usize) -> bool {
        self.paths.get(pattern).is_some_and(|path| !path.is_any())
    }

    /// Returns whether everything that one path of this rule matches certainly lies within one of
    /// `outer`. Accesses are a list of points: both rules matched the one at hand.
    pub(crate) fn lies_within(&self, pattern: usize, outer: &Self, outer_pattern: usize) -> bool {
        let (Some(x), Some(y)) = (self.paths.get(pattern), outer.paths.get(outer_pattern)) else {
            return false;
        };
        y.contains(x) && (outer.access.is_none() || self.access.is_some())
    }

    /// Returns whether the list of points also lies within that of `outer`.
    pub(crate) fn points_within(&self, outer: &Self) -> bool {
        list_within(
            self.access.as_deref(),
            outer.access.as_deref(),
            PartialEq::eq,
        )
    }
}
