//! How agents spell the names of arguments, and which of them say where something is.

/// Ends of the names of arguments that say where something is, as [`folded`] writes them.
const PLACES: [&str; 11] = [
    "cwd",
    "dir",
    "directory",
    "file",
    "filename",
    "files",
    "folder",
    "path",
    "paths",
    "root",
    "workdir",
];

/// Returns the name of an argument without what agents spell differently: letter case, `_` and `-`.
pub(super) fn folded(name: &[u8]) -> Vec<u8> {
    let kept = name.iter().filter(|byte| !matches!(byte, b'_' | b'-'));
    kept.map(u8::to_ascii_lowercase).collect()
}

/// Whether an argument says where something is.
pub(super) fn is_place(folded: &[u8]) -> bool {
    PLACES.iter().any(|end| folded.ends_with(end.as_bytes()))
}
