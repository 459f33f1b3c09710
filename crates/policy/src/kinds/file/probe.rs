//! `file write PATH` in one line.

use stockade_types::{RawText, Subject};

use super::{Access, FileRequest};
use crate::{
    fields::shown,
    kinds::{ProbeError, WORKSPACE},
    pattern::path::without_dots,
};

/// Reads an access and a path; a path without a root is below the workspace.
pub(crate) fn probe(words: &[&str], rest: &[&str]) -> Result<FileRequest, ProbeError> {
    let [access, path] = rest else {
        let line = words.join(" ");
        return Err(ProbeError::Shape {
            line,
            example: "file write src/lib.rs",
        });
    };
    let access = Access::ALL
        .into_iter()
        .find(|own| own.as_str() == *access)
        .ok_or_else(|| ProbeError::Access(shown(access)))?;
    let plain = without_dots(path.as_bytes());
    let plain = String::from_utf8_lossy(&plain).into_owned();
    let in_workspace = |plain: &str| match plain.strip_prefix(WORKSPACE) {
        Some("") => Some(String::new()),
        Some(rest) => rest.strip_prefix('/').map(str::to_owned),
        None => None,
    };
    let relative = if plain.starts_with('/') {
        in_workspace(&plain)
    } else {
        let leaves = ["..", "~"].contains(&plain.split('/').next().unwrap_or_default());
        (!leaves).then(|| plain.clone())
    };
    let full = match relative.as_deref() {
        Some("") => WORKSPACE.to_owned(),
        Some(relative) => format!("{WORKSPACE}/{relative}"),
        None => plain,
    };
    Ok(FileRequest {
        path: RawText::from(full.as_str()),
        workspace_relative: relative.as_deref().map(RawText::from),
        access,
        content: None,
        subject: Subject::default(),
    })
}
