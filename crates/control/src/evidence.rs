//! Journals of machines, byte for byte as they are there. Everything here blocks.
//!
//! `evidence/ORG/NODE` is laid out as a state directory is, so that `stockade log verify` and `show` read it.
//! Beside each journal, `check.json` has how far it was checked; it can be made again from the journal, and
//! is believed only as far as that has bytes.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use stockade_journal::{
    Checker, CheckerState, VerificationVerdict, VerifyingKey,
    layout::{JOURNAL_FILE, session_dir},
};
use stockade_types::{SessionId, ignored};

use crate::{
    ControlError,
    data::make_dir,
    state::{SessionKey, Stored},
};

/// The file with how far a journal was checked.
const CHECK_FILE: &str = "check.json";
/// The first piece that was refused, for people who look into it.
const REFUSED_FILE: &str = "refused";
/// Bytes that are read at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// Bytes of a stored check: faults are bounded, and so is the beginning of a line.
const CHECK_BYTES_MAX: u64 = 4 << 20;
/// After so many bytes of a journal it is noted again how far it was checked: after a start of the server
/// that much is checked again at most.
const NOTED_BYTES: u64 = 256 * 1024;
/// Journals whose check is in memory; one has a kilobyte.
const KNOWN_MAX: usize = 8_192;

/// What bytes wait for before the server says that it has them.
pub(crate) trait Disk: Send + Sync {
    /// Returns once the bytes of a file are on the disk.
    fn sync(&self, file: &File, path: &Path) -> io::Result<()>;
}

/// The disk of the machine.
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn sync(&self, file: &File, _: &Path) -> io::Result<()> {
        file.sync_data()
    }
}

/// What is known of the journals that grow.
pub(crate) struct Evidence {
    disk: Box<dyn Disk>,
    known: Mutex<HashMap<SessionKey, Known>>,
}

/// How far a journal was checked, all of it on the disk.
#[derive(Debug)]
struct Known {
    checker: Checker,
    /// Up to where that is noted beside the journal.
    noted: u64,
}

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

/// What a piece came to before it is on the disk.
#[derive(Debug)]
pub(crate) enum Written {
    /// There is nothing to wait for.
    Done(Kept),
    /// It is checked, and has to be synced.
    Unsynced(Box<Unsynced>),
}

/// A journal with bytes that may not be on the disk.
#[derive(Debug)]
pub(crate) struct Unsynced {
    key: SessionKey,
    dir: PathBuf,
    path: PathBuf,
    node_dir: PathBuf,
    file: File,
    /// Everything up to here is on the disk.
    from: u64,
    /// Whether its directories may not be on the disk either.
    is_new: bool,
    known: Known,
}

impl Evidence {
    pub(crate) fn new(disk: Box<dyn Disk>) -> Self {
        Self {
            disk,
            known: Mutex::default(),
        }
    }

    /// Checks a piece, and writes it. The caller sees to it that one piece of a session comes after the
    /// other, up to [`Evidence::sync`].
    ///
    /// # Errors
    /// When files cannot be read or written, or what was kept is gone.
    pub(crate) fn write(&self, key: &SessionKey, piece: &Piece) -> Result<Written, ControlError> {
        let known = self.lock().remove(key);
        piece.write(key, known, self)
    }

    /// Waits until what was written is on the disk.
    ///
    /// # Errors
    /// When the disk does not take it: then it is not kept, and has to be sent again.
    pub(crate) fn sync(&self, unsynced: Unsynced) -> Result<Stored, ControlError> {
        let Unsynced {
            key,
            dir,
            path,
            node_dir,
            file,
            from,
            is_new,
            mut known,
        } = unsynced;
        if let Err(error) = self.disk.sync(&file, &path) {
            // What a failed sync has not written counts as written for the next one; so it has to go, and
            // is written anew when it is sent again.
            ignored(file.set_len(from), "it is checked again from what is noted");
            return Err(ControlError::file("sync", path)(error));
        }
        if is_new {
            sync_dirs(&dir, &node_dir)?;
        }
        let (fed, stored) = (known.checker.fed(), stored(&known.checker));
        if known.noted == 0 || stored.closed || fed - known.noted >= NOTED_BYTES {
            write_check(&dir, &known.checker)?;
            known.noted = fed;
        }
        self.know(key, known);
        Ok(stored)
    }

    fn know(&self, key: SessionKey, known: Known) {
        if stored(&known.checker).closed {
            return;
        }
        let mut all = self.lock();
        if all.len() >= KNOWN_MAX {
            // They are checked again from what is noted of them.
            all.clear();
        }
        all.insert(key, known);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionKey, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Piece {
    fn write(
        &self,
        key: &SessionKey,
        known: Option<Known>,
        evidence: &Evidence,
    ) -> Result<Written, ControlError> {
        let dir = session_dir(&self.node_dir, &self.session);
        let path = dir.join(JOURNAL_FILE);
        if self.receipted == 0 {
            make_dir(&dir)?;
        }
        let failed = |act| ControlError::file(act, &path);
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        // One that was receipted and is gone is not begun anew.
        options.create(self.receipted == 0).truncate(false);
        let mut file = options.open(&path).map_err(failed("open"))?;
        let length = file.metadata().map_err(failed("read"))?.len();
        let (mut known, synced) = match known.filter(|known| known.checker.fed() == length) {
            Some(known) => (known, length),
            None => self.resume(&dir, &mut file, &path, length)?,
        };
        let here = known.checker.fed();
        if self.offset > here {
            if synced == here {
                evidence.know(key.clone(), known);
            }
            return Ok(Written::Done(Kept::Expected(here)));
        }
        let overlap = usize::try_from(here - self.offset).unwrap_or(usize::MAX);
        let overlap = overlap.min(self.bytes.len());
        let (same, new) = self.bytes.split_at(overlap);
        if let Some(at) = differs(&file, self.offset, same).map_err(failed("read"))? {
            self.refuse(&dir)?;
            return Ok(Written::Done(Kept::Rewritten { at }));
        }
        if new.is_empty() && synced == here && self.receipted > 0 {
            let kept = Kept::Yes(stored(&known.checker));
            evidence.know(key.clone(), known);
            return Ok(Written::Done(kept));
        }
        known.checker.feed(new);
        if let Some(why) = fault(&known.checker) {
            self.refuse(&dir)?;
            return Ok(Written::Done(Kept::Broken(why)));
        }
        if let Err(error) = file.write_all_at(new, here) {
            ignored(file.set_len(here), "what is half there is checked again");
            return Err(failed("write")(error));
        }
        Ok(Written::Unsynced(Box::new(Unsynced {
            key: key.clone(),
            node_dir: self.node_dir.clone(),
            file,
            from: synced,
            is_new: self.receipted == 0,
            known,
            dir,
            path,
        })))
    }

    /// Goes on from what was checked before; bytes behind that, of a server that was killed, are checked
    /// now, and cut off if they are no whole good lines. Nothing that was receipted is ever cut. Returns
    /// also how much is on the disk for certain.
    fn resume(
        &self,
        dir: &Path,
        file: &mut File,
        path: &Path,
        length: u64,
    ) -> Result<(Known, u64), ControlError> {
        let failed = |act| ControlError::file(act, path);
        if length < self.receipted {
            return Err(self.gone(path, &format!("has {length} bytes")));
        }
        let fresh = || Checker::new(self.session.clone(), self.key);
        let noted = read_check(dir).filter(|checker| checker.fed() <= length);
        let mut checker = noted.unwrap_or_else(fresh);
        let noted = checker.fed();
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
                let what = format!("was changed behind byte {}", good.fed());
                return Err(self.gone(path, &what));
            }
            file.set_len(good.fed()).map_err(failed("cut"))?;
        }
        let known = Known {
            checker: good,
            noted,
        };
        Ok((known, noted.max(self.receipted)))
    }

    fn gone(&self, path: &Path, what: &str) -> ControlError {
        ControlError::Wrong {
            path: path.to_owned(),
            what: format!(
                "{what}, and the server has receipted {}; restore it from a backup",
                self.receipted
            ),
        }
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

#[cfg(test)]
mod tests;
