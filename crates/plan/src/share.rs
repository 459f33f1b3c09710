//! Binds of what policy or the command needs.

use stockade_types::AbsPath;

use crate::{CacheFact, CacheKind, OverlayPart, Step, Upper};

/// How a tree of the host is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// It cannot be changed.
    ReadOnly,
    /// Changes are the host's.
    Writable,
    /// Changes stay in an overlay of the session's own.
    Overlaid(Overlay),
}

/// Which overlay a cache is a part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Overlay {
    over: AbsPath,
    kind: CacheKind,
    upper: Upper,
}

/// A file or tree of the host that policy or the command needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedBind {
    pub(crate) from: AbsPath,
    pub(crate) path: AbsPath,
    pub(crate) sharing: Sharing,
}

impl SharedBind {
    /// Returns how a cache is shared; `None` for a list where nothing can be written.
    pub(crate) fn of_cache(cache: &CacheFact) -> Option<Self> {
        if cache.kind == CacheKind::List && cache.upper == Upper::Nowhere {
            return None;
        }
        Some(Self {
            from: cache.from.clone(),
            path: cache.path.clone(),
            sharing: Sharing::Overlaid(Overlay {
                over: cache.over.clone(),
                kind: cache.kind,
                upper: cache.upper.clone(),
            }),
        })
    }

    /// Whether somebody inside can change what is seen there.
    pub(crate) fn is_writable(&self) -> bool {
        match &self.sharing {
            Sharing::ReadOnly => false,
            Sharing::Overlaid(overlay) => overlay.upper != Upper::Nowhere,
            Sharing::Writable => true,
        }
    }

    pub(crate) fn into_step(self) -> Step {
        let read_only = !self.is_writable();
        let Self {
            from,
            path,
            sharing,
        } = self;
        match sharing {
            Sharing::Overlaid(Overlay { over, kind, .. }) if !read_only => {
                Step::OverlayPart(OverlayPart {
                    over,
                    from,
                    path,
                    kind,
                })
            }
            Sharing::ReadOnly | Sharing::Writable | Sharing::Overlaid(_) => Step::Bind {
                from,
                path,
                read_only,
                devices: false,
            },
        }
    }
}

/// Returns the steps that lay the overlays of these caches, each once.
pub(crate) fn overlays(caches: &[CacheFact]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for cache in caches {
        let upper = match &cache.upper {
            Upper::Kept(upper) => Some(upper.clone()),
            Upper::Memory => None,
            Upper::Nowhere => continue,
        };
        let over = cache.over.clone();
        let step = Step::Overlay { over, upper };
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    steps
}
