//! Paths as calls say them, and as the kernel knows them.

use stockade_types::RawText;

/// Tells whether one of the paths that were said is `path`, or stands beside it.
pub(super) fn names(said: &[RawText], path: &[u8]) -> bool {
    let mut said = said.iter().map(RawText::as_bytes);
    said.any(|said| is_path(said, path) || is_beside(said, path))
}

/// Tells whether a path as it was said is `path`, which is absolute.
pub(super) fn is_path(said: &[u8], path: &[u8]) -> bool {
    let said = said.strip_prefix(b"./").unwrap_or(said);
    if said.starts_with(b"/") {
        return said == path;
    }
    let before = path.strip_suffix(said);
    !said.is_empty() && before.is_some_and(|before| before.ends_with(b"/"))
}

/// Tells whether `path` is what was said with something behind it.
pub(super) fn is_beside(said: &[u8], path: &[u8]) -> bool {
    let name = said.rsplit(|byte| *byte == b'/').next().unwrap_or(said);
    let own = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    let own = own.strip_prefix(b".").unwrap_or(own);
    name.len() > 2 && own.len() > name.len() && own.starts_with(name)
}
