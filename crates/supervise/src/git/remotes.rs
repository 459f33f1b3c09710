//! Records the remotes that a session adds before they are in the settings.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use stockade_types::RawText;

use super::{SETTINGS_BYTES_MAX, Supervision, read_at};
use crate::{Hands, locate::Place, push::parse_settings};

/// The addresses that sessions added, one a line.
const FILE: &str = "remotes";
/// Longest list that is read; if it is longer, no remote counts as the owner's.
const BYTES_MAX: u64 = 4 << 20;

impl Supervision {
    /// Replaces settings.
    pub(super) fn put_settings(
        &self,
        hands: &Hands,
        from: &Place,
        to: &Place,
        text: &[u8],
    ) -> io::Result<()> {
        let old = || match to.stat {
            Some(_) => read_at(to.parent(), &to.name(), SETTINGS_BYTES_MAX),
            None => Ok(Vec::new()),
        };
        let act = |error| io::Error::other(format!("{error}"));
        let old = hands.identity.act(old).map_err(act)??;
        // In our own identity: the session cannot reach the file.
        self.remotes.note(&old, text)?;
        let replaced = hands.identity.act(|| self.replace_settings(from, to, text));
        replaced.map_err(act)?
    }
}

/// Returns the addresses that settings have for remotes.
pub fn addresses_of_remotes(text: &[u8]) -> Vec<Vec<u8>> {
    let settings = parse_settings(text).unwrap_or_default().into_iter();
    let is_address = |name: &[u8]| {
        name.starts_with(b"remote.") && (name.ends_with(b".url") || name.ends_with(b".pushurl"))
    };
    settings
        .filter(|setting| is_address(&setting.name))
        .map(|setting| setting.value)
        .collect()
}

/// The file of addresses that sessions add.
#[derive(Debug)]
pub struct Remotes(PathBuf);

impl Remotes {
    /// Of a state directory.
    pub fn new(state_dir: &Path) -> Self {
        Self(state_dir.join(FILE))
    }

    /// Returns all addresses that sessions added.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn added(&self) -> io::Result<Vec<Vec<u8>>> {
        match fs::metadata(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
            Ok(found) if found.len() > BYTES_MAX => return Err(io::ErrorKind::FileTooLarge.into()),
            Ok(_) => {}
        }
        let text = fs::read_to_string(&self.0)?;
        let lines = text.lines().map(serde_json::from_str::<RawText>);
        lines
            .map(|line| Ok(line.map_err(io::Error::other)?.as_bytes().to_vec()))
            .collect()
    }

    /// Records the addresses in `new` settings that the `old` ones lack.
    ///
    /// # Errors
    /// When it cannot be written: then the settings must not change.
    pub fn note(&self, old: &[u8], new: &[u8]) -> io::Result<()> {
        let known = addresses_of_remotes(old);
        let mut lines = String::new();
        for address in addresses_of_remotes(new) {
            if !known.contains(&address) {
                let line = serde_json::to_string(&RawText::from_bytes(address));
                lines.push_str(&line.map_err(io::Error::other)?);
                lines.push('\n');
            }
        }
        if lines.is_empty() || fs::metadata(&self.0).is_ok_and(|found| found.len() > BYTES_MAX) {
            return Ok(());
        }
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        let mut file = options.open(&self.0)?;
        file.write_all(lines.as_bytes())?;
        file.sync_data()
    }
}
