//! Journals of machines, byte for byte as they are there. Everything here blocks.
//!
//! `evidence/ORG/NODE` is laid out as a state directory is, so that `stockade log verify` and `show` read it.
//! Beside each journal, `check.json` has how far it was checked; it can be made again from the journal, and
//! is believed only as far as that has bytes.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use stockade_journal::{
    Checker, CheckerState, VerificationVerdict, VerifyingKey,
    layout::{JOURNAL_FILE, session_dir},
};
use stockade_types::SessionId;

use crate::{ControlError, data::make_dir, state::Stored};

/// The file with how far a journal was checked.
const CHECK_FILE: &str = "check.json";
/// The first piece that was refused, for people who look into it.
const REFUSED_FILE: &str = "refused";
/// Bytes that are read at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// Bytes of a stored check: faults are bounded, and so is the beginning of a line.
const CHECK_BYTES_MAX: u64 = 4 << 20;

/// A piece of a journal, as a machine sent it.
#[derive(Debug)]
pub(crate) struct Piece {
    /// The directory of the machine.
    pub(crate) node_dir: PathBuf,
    pub(crate) session: SessionId,
    /// By which the machine signs.
    pub(crate) key: VerifyingKey,
    /// Where it begins.
    pub(crate) offset: u64,
    /// Whole lines.
    pub(crate) bytes: Vec<u8>,
    /// How much the server has said that it has.
    pub(crate) receipted: u64,
}

/// What became of a piece.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is checked, and on the disk.
    Yes(Stored),
    /// It begins behind what is here.
    Expected(u64),
    /// It says something else than what is here.
    Rewritten {
        /// The first byte that differs.
        at: u64,
    },
    /// It is not what the machine signed.
    Broken(String),
}

impl Piece {
    /// Checks the piece, and keeps it.
    ///
    /// # Errors
    /// When files cannot be read or written, or what was kept is gone.
    pub(crate) fn keep(&self) -> Result<Kept, ControlError> {
        let dir = session_dir(&self.node_dir, &self.session);
        let path = dir.join(JOURNAL_FILE);
        let is_new = !path.exists();
        if is_new {
            make_dir(&dir)?;
        }
        let failed = |act| ControlError::file(act, &path);
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open"))?;
        if is_new {
            sync_dirs(&dir, &self.node_dir)?;
        }
        let mut checker = self.resume(&dir, &mut file, &path)?;
        let here = checker.fed();
        if self.offset > here {
            return Ok(Kept::Expected(here));
        }
        let overlap = usize::try_from(here - self.offset).unwrap_or(usize::MAX);
        let overlap = overlap.min(self.bytes.len());
        let (known, new) = self.bytes.split_at(overlap);
        if let Some(at) = differs(&file, self.offset, known).map_err(failed("read"))? {
            self.refuse(&dir)?;
            return Ok(Kept::Rewritten { at });
        }
        if new.is_empty() {
            return Ok(Kept::Yes(stored(&checker)));
        }
        checker.feed(new);
        if let Some(why) = fault(&checker) {
            self.refuse(&dir)?;
            return Ok(Kept::Broken(why));
        }
        file.write_all(new).map_err(failed("write"))?;
        file.sync_data().map_err(failed("sync"))?;
        write_check(&dir, &checker)?;
        Ok(Kept::Yes(stored(&checker)))
    }

    /// Goes on from what was checked before; bytes behind that, of a server that was killed, are checked
    /// now, and cut off if they are no whole good lines. Nothing that was receipted is ever cut.
    fn resume(&self, dir: &Path, file: &mut File, path: &Path) -> Result<Checker, ControlError> {
        let failed = |act| ControlError::file(act, path);
        let length = file.metadata().map_err(failed("read"))?.len();
        if length < self.receipted {
            return Err(ControlError::Wrong {
                path: path.to_owned(),
                what: format!(
                    "has {length} bytes, and the server has receipted {}; restore it from a backup",
                    self.receipted
                ),
            });
        }
        let fresh = || Checker::new(self.session.clone(), self.key);
        let known = read_check(dir).filter(|checker| checker.fed() <= length);
        let mut checker = known.unwrap_or_else(fresh);
        let mut good = checker.clone();
        if checker.fed() < length {
            file.seek(SeekFrom::Start(checker.fed()))
                .map_err(failed("read"))?;
            let mut rest = (&*file).take(length - checker.fed());
            let mut chunk = vec![0; CHUNK_BYTES];
            loop {
                let read = rest.read(&mut chunk).map_err(failed("read"))?;
                let bytes = chunk.get(..read).unwrap_or_default();
                if bytes.is_empty() {
                    break;
                }
                for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                    checker.feed(line);
                    if line.ends_with(b"\n") && !checker.is_broken() {
                        good = checker.clone();
                    }
                }
            }
        }
        if good.fed() < length {
            if good.fed() < self.receipted {
                return Err(ControlError::Wrong {
                    path: path.to_owned(),
                    what: format!(
                        "was changed behind byte {}, and the server has receipted {}; restore it from a backup",
                        good.fed(),
                        self.receipted
                    ),
                });
            }
            file.set_len(good.fed()).map_err(failed("cut"))?;
        }
        Ok(good)
    }

    /// Keeps the first piece that was refused, beside what is good.
    fn refuse(&self, dir: &Path) -> Result<(), ControlError> {
        let path = dir.join(REFUSED_FILE);
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        match opened {
            Ok(mut file) => file
                .write_all(&self.bytes)
                .map_err(ControlError::file("write", path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(ControlError::file("create", path)(error)),
        }
    }
}

fn stored(checker: &Checker) -> Stored {
    let so_far = checker.so_far();
    Stored {
        offset: checker.fed(),
        events: so_far.seq,
        chain: so_far.chain,
        closed: so_far.is_closed,
    }
}

/// Returns what is wrong. An event whose number is not the next one counts at once: our machines write
/// theirs in order.
fn fault(checker: &Checker) -> Option<String> {
    match checker.clone().finish(None, 0).verdict {
        VerificationVerdict::Intact | VerificationVerdict::Unfinished { .. } => None,
        VerificationVerdict::Broken { faults, .. } => {
            let first = faults.first();
            let say =
                |fault: &stockade_journal::Fault| format!("line {}: {}", fault.line, fault.detail);
            Some(first.map_or_else(|| "it is not whole".to_owned(), say))
        }
    }
}

/// Returns the first byte behind `offset` at which the file is not `known`.
fn differs(file: &File, offset: u64, known: &[u8]) -> io::Result<Option<u64>> {
    let mut at = offset;
    for part in known.chunks(CHUNK_BYTES) {
        let mut own = vec![0; part.len()];
        file.read_exact_at(&mut own, at)?;
        if let Some(index) = own.iter().zip(part).position(|(own, sent)| own != sent) {
            return Ok(Some(
                at.saturating_add(u64::try_from(index).unwrap_or(u64::MAX)),
            ));
        }
        at = at.saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
    }
    Ok(None)
}

fn read_check(dir: &Path) -> Option<Checker> {
    let file = File::open(dir.join(CHECK_FILE)).ok()?;
    let mut text = Vec::new();
    file.take(CHECK_BYTES_MAX).read_to_end(&mut text).ok()?;
    let state: CheckerState = serde_json::from_slice(&text).ok()?;
    Checker::resume(state).ok()
}

/// Keeps how far the journal was checked. It is not synced: a lost one is made again.
fn write_check(dir: &Path, checker: &Checker) -> Result<(), ControlError> {
    let (path, new) = (dir.join(CHECK_FILE), dir.join("check.json.new"));
    let text = serde_json::to_vec(&checker.state()).map_err(|error| ControlError::Stored {
        what: "a check",
        why: error.to_string(),
    })?;
    fs::write(&new, text).map_err(ControlError::file("write", &new))?;
    fs::rename(&new, &path).map_err(ControlError::file("write", path))
}

/// Waits until a new directory is on the disk, with all directories above it up to that of the machine, and
/// that one.
fn sync_dirs(dir: &Path, node_dir: &Path) -> Result<(), ControlError> {
    for above in dir.ancestors() {
        File::open(above)
            .and_then(|dir| dir.sync_all())
            .map_err(ControlError::file("sync", above))?;
        if above == node_dir {
            break;
        }
    }
    if let Some(org) = node_dir.parent() {
        File::open(org)
            .and_then(|dir| dir.sync_all())
            .map_err(ControlError::file("sync", org))?;
    }
    Ok(())
}
