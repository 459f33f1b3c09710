//! The state of a tree of files, and the changes in it, seen from the host.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// The kind of one name in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A regular file: mode, size in bytes, and SHA-256 of its content in hexadecimal.
    File {
        /// Permission bits with set-id and sticky.
        mode: u32,
        /// Size in bytes.
        size_bytes: u64,
        /// SHA-256 in hexadecimal.
        sha256: String,
    },
    /// A directory with its permission bits.
    Directory {
        /// Permission bits with set-id and sticky.
        mode: u32,
    },
    /// A symbolic link with its text.
    Link {
        /// The text of the link.
        target: PathBuf,
    },
    /// A socket, fifo or device.
    Special {
        /// Which of them.
        kind: &'static str,
    },
    /// Something that could not be read.
    Unreadable {
        /// Why.
        reason: String,
    },
}

/// One difference between two snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Path below the root of the tree.
    pub path: PathBuf,
    /// The entry before; `None` if it is new.
    pub before: Option<Entry>,
    /// The entry after; `None` if it is gone.
    pub after: Option<Entry>,
}

/// Everything below a directory at one moment, links not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    root: PathBuf,
    entries: BTreeMap<PathBuf, Entry>,
}

impl Snapshot {
    /// Reads the tree below `root`.
    pub fn take(root: impl AsRef<Path>) -> Self {
        let root = root.as_ref().to_path_buf();
        let mut entries = BTreeMap::new();
        let mut open = vec![root.clone()];
        while let Some(directory) = open.pop() {
            let listing = fs::read_dir(&directory)
                .unwrap_or_else(|e| panic!("cannot list {}: {e}", directory.display()));
            for item in listing {
                let path = item.expect("a directory can be listed to its end").path();
                let entry = Entry::read(&path);
                if matches!(entry, Entry::Directory { .. }) {
                    open.push(path.clone());
                }
                let below = path.strip_prefix(&root).expect("it is below the root");
                entries.insert(below.to_path_buf(), entry);
            }
        }
        Self { root, entries }
    }

    /// Returns the entry at a path below the root.
    pub fn get(&self, path: impl AsRef<Path>) -> Option<&Entry> {
        self.entries.get(path.as_ref())
    }

    /// Returns what changed from this snapshot to `after`, sorted by path.
    pub fn changes(&self, after: &Self) -> Vec<Change> {
        let paths: BTreeSet<&PathBuf> = self.entries.keys().chain(after.entries.keys()).collect();
        paths
            .into_iter()
            .map(|path| Change {
                path: path.clone(),
                before: self.entries.get(path).cloned(),
                after: after.entries.get(path).cloned(),
            })
            .filter(|change| change.before != change.after)
            .collect()
    }

    /// Ends the test unless everything that changed since this snapshot is in `expected`: a path,
    /// or `directory/**` for everything below a directory.
    pub fn assert_only_changed(&self, expected: &[&str]) {
        let after = Self::take(&self.root);
        let surprises: Vec<Change> = self
            .changes(&after)
            .into_iter()
            .filter(|change| {
                !expected
                    .iter()
                    .any(|pattern| matches(pattern, &change.path))
            })
            .collect();
        assert!(
            surprises.is_empty(),
            "expected changes in {} only at {expected:?}, saw {surprises:#?}",
            self.root.display()
        );
    }

    /// Ends the test unless nothing changed since this snapshot.
    pub fn assert_unchanged(&self) {
        self.assert_only_changed(&[]);
    }
}

impl Entry {
    fn read(path: &Path) -> Self {
        Self::try_read(path).unwrap_or_else(|e| Self::Unreadable {
            reason: e.to_string(),
        })
    }

    fn try_read(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        let mode = metadata.mode() & 0o7777;
        let kind = metadata.file_type();
        Ok(if kind.is_symlink() {
            Self::Link {
                target: fs::read_link(path)?,
            }
        } else if kind.is_dir() {
            Self::Directory { mode }
        } else if kind.is_file() {
            Self::File {
                mode,
                size_bytes: metadata.len(),
                sha256: digest(path)?,
            }
        } else if kind.is_socket() {
            Self::Special { kind: "socket" }
        } else if kind.is_fifo() {
            Self::Special { kind: "fifo" }
        } else {
            Self::Special { kind: "device" }
        })
    }
}

/// Returns the SHA-256 of a file in hexadecimal.
pub(super) fn digest(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut fs::File::open(path)?, &mut hasher)?;
    let mut text = String::new();
    for byte in hasher.finalize() {
        write!(text, "{byte:02x}").expect("a string can grow");
    }
    Ok(text)
}

fn matches(pattern: &str, path: &Path) -> bool {
    match pattern.strip_suffix("/**") {
        Some(directory) => path.starts_with(directory),
        None => path == Path::new(pattern),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use super::{Entry, Snapshot};
    use crate::{env::set_mode, failure_of};

    #[test]
    fn every_kind_of_change_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["content", "mode", "gone", "same"] {
            fs::write(at(name), "1").unwrap();
        }
        symlink("same", at("link")).unwrap();
        fs::create_dir(at("below")).unwrap();
        let before = Snapshot::take(directory.path());
        before.assert_unchanged();

        fs::write(at("content"), "2").unwrap();
        set_mode(&at("mode"), 0o755);
        fs::remove_file(at("gone")).unwrap();
        fs::remove_file(at("link")).unwrap();
        symlink("content", at("link")).unwrap();
        fs::write(at("below/new"), "").unwrap();
        let after = Snapshot::take(directory.path());
        let changes = before.changes(&after);
        let paths: Vec<&Path> = changes.iter().map(|change| change.path.as_path()).collect();
        assert_eq!(
            paths,
            ["below/new", "content", "gone", "link", "mode"].map(Path::new)
        );
        assert!(matches!(
            after.get("content"),
            Some(Entry::File { size_bytes: 1, .. })
        ));

        before.assert_only_changed(&["below/**", "content", "gone", "link", "mode"]);
        let text =
            failure_of(|| before.assert_only_changed(&["below/**", "content", "gone", "link"]));
        assert!(text.contains("\"mode\""), "{text}");
    }
}
