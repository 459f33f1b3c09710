//! Directories with certificates that the caller trusts (`SSL_CERT_DIR`): what of them has no key is
//! there inside, as copies.

use std::fs;

use stockade_plan::{HostFacts, ShownFact};
use stockade_policy::Settings;
use stockade_types::{AbsPath, RawText};

use crate::{caller::Caller, registries};

/// The variable that names them, a list.
const VARIABLE: &str = "SSL_CERT_DIR";
/// Files and links of one directory that are looked at; the authorities of all public ones together
/// are 450.
const ENTRIES_MAX: usize = 1024;
/// Bytes of all copies.
const BYTES_MAX: usize = 2 << 20;

/// Adds the certificates of the directories that the variable names, if it passes.
pub(crate) fn tell(settings: &Settings, caller: &Caller, facts: &mut HostFacts) {
    let passed = settings.environment.passes(VARIABLE);
    let Some(value) = caller.variable(VARIABLE).filter(|_| passed) else {
        return;
    };
    let mut left = BYTES_MAX;
    for directory in value.as_bytes().split(|byte| *byte == b':') {
        let directory = RawText::from_bytes(directory).to_os();
        let Ok(directory) = AbsPath::new(directory) else {
            continue;
        };
        let hidden = |path: &AbsPath| facts.hidden.iter().any(|above| path.is_within(above));
        let shown = facts
            .system
            .iter()
            .any(|entry| directory.is_within(&entry.path));
        if shown || hidden(&directory) {
            continue;
        }
        let found = certificates(&directory, &mut left);
        let found: Vec<ShownFact> = found
            .into_iter()
            .filter(|file| !hidden(&file.path))
            .collect();
        facts.sources.extend(found);
    }
}

/// Returns the certificates of a directory, by each name that they have there.
fn certificates(directory: &AbsPath, left: &mut usize) -> Vec<ShownFact> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found = Vec::new();
    for entry in entries.take(ENTRIES_MAX) {
        let Some(contents) = registries::read(&entry.path()) else {
            continue;
        };
        if !registries::is_certificate(&contents) || contents.len() > *left {
            continue;
        }
        if let Ok(path) = directory.join(entry.file_name()) {
            *left -= contents.len();
            found.push(ShownFact { path, contents });
        }
    }
    found
}
