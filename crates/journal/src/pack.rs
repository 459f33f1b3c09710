//! Journals of ended sessions, compressed in place.
//!
//! The file contains the bytes of the journal in zstd frames (RFC 8878) that can be read
//! independently, followed by a table of their sizes in a frame that other programs skip (the
//! seekable format of zstd, `contrib/seekable_format/zstd_seekable_compression_format.md`), so
//! `zstd -d` restores the journal. Every reader of a journal reads either form; its places and its
//! verification are those of the journal, not of this file.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use rustix::fs::{FlockOperation, Mode, OFlags};
use sha2::{Digest as _, Sha256};

use crate::{
    format::open_plain,
    layout::{HEAD_FILE, JOURNAL_FILE, PACKED_FILE},
};

/// Bytes of the journal in one frame: enough to compress well, but few enough to keep in memory.
const FRAME_BYTES: usize = 1 << 20;
/// Most bytes of a frame: incompressible data grows a little (`ZSTD_compressBound`).
const PACKED_BYTES_MAX: usize = FRAME_BYTES + (FRAME_BYTES >> 7) + 1024;
/// The compression level. Higher levels hardly made journals smaller, because a chain value cannot
/// be compressed, and took many times as long.
const LEVEL: i32 = 1;
/// A frame that other programs skip, which contains the table.
const TABLE_MAGIC: u32 = 0x184D_2A5E;
/// The end of the table.
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
/// Bytes before the entries of the table: its magic number and size.
const TABLE_HEAD: u64 = 8;
/// Bytes after them: the number of frames, a byte of flags (none), the magic number.
const TABLE_FOOT: u64 = 9;
/// Bytes of one entry: the size in the file, and the size of its part of the journal.
const ENTRY: u64 = 8;

/// The result of [`pack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    /// The journal is compressed now: bytes before and after.
    Now {
        /// Bytes of the journal.
        before: u64,
        /// Bytes of the file.
        after: u64,
    },
    /// It was already compressed.
    Before,
    /// It is unchanged: it has no signed end, or another process is compressing it.
    Not,
}

/// Compresses the journal in the session directory `dir`, if it was closed. No process may write to
/// it.
///
/// The new file is written beside the journal, synced and read back before it gets its name; only
/// then is the journal removed. An interruption leaves the journal, and the next call continues.
///
/// # Errors
/// When a file cannot be read or written; the journal then still exists, in either form.
pub fn pack(dir: &Path) -> io::Result<Packed> {
    let closed = match open_plain(dir, HEAD_FILE) {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    if !closed {
        return Ok(Packed::Not);
    }
    let journal = match open_plain(dir, JOURNAL_FILE) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(match open_plain(dir, PACKED_FILE) {
                Ok(_) => Packed::Before,
                Err(_) => Packed::Not,
            });
        }
        Err(error) => return Err(error),
    };
    let new = dir.join(format!("{PACKED_FILE}.new"));
    let whole = File::open(dir)?;
    let made = whole.metadata()?.modified()?;
    let Some(mut file) = claim(&new)? else {
        return Ok(Packed::Not);
    };
    let before = journal.metadata()?;
    let digest = write(&journal, &mut file)?;
    file.sync_all()?;
    if unpacked_digest(&file)? != digest {
        fs::remove_file(&new)?;
        return Err(io::Error::other(
            "what was compressed is not what the journal has; it stays as it is",
        ));
    }
    // The age of a record is that of its files, and nothing was recorded now.
    file.set_modified(before.modified()?)?;
    fs::rename(&new, dir.join(PACKED_FILE))?;
    whole.sync_all()?;
    fs::remove_file(dir.join(JOURNAL_FILE))?;
    whole.set_modified(made)?;
    Ok(Packed::Now {
        before: before.len(),
        after: file.metadata()?.len(),
    })
}

/// Opens the new file, empty, for this process alone; `None` if another process has it.
fn claim(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    // The previous owner may have renamed it to its final name meanwhile; then it is not ours.
    let (own, named) = (rustix::fs::fstat(&file)?, rustix::fs::lstat(path));
    if !named.is_ok_and(|named| (named.st_dev, named.st_ino) == (own.st_dev, own.st_ino)) {
        return Ok(None);
    }
    file.set_len(0)?;
    Ok(Some(file))
}

/// Writes the frames and their table; returns the digest of what was read.
fn write(mut journal: &File, file: &mut File) -> io::Result<[u8; 32]> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    let mut hash = Sha256::new();
    let (mut table, mut piece) = (Vec::new(), Vec::new());
    loop {
        piece.clear();
        let most = u64::try_from(FRAME_BYTES).unwrap_or(u64::MAX);
        Read::by_ref(&mut journal)
            .take(most)
            .read_to_end(&mut piece)?;
        if piece.is_empty() {
            break;
        }
        hash.update(&piece);
        let frame = compressor.compress(&piece)?;
        file.write_all(&frame)?;
        table.extend_from_slice(&small(frame.len())?.to_le_bytes());
        table.extend_from_slice(&small(piece.len())?.to_le_bytes());
    }
    let frames = table.len() / 8;
    let mut end = Vec::new();
    end.extend_from_slice(&TABLE_MAGIC.to_le_bytes());
    end.extend_from_slice(&small(table.len() + 9)?.to_le_bytes());
    end.append(&mut table);
    end.extend_from_slice(&small(frames)?.to_le_bytes());
    end.push(0);
    end.extend_from_slice(&SEEKABLE_MAGIC.to_le_bytes());
    file.write_all(&end)?;
    Ok(hash.finalize().into())
}

fn small(number: usize) -> io::Result<u32> {
    u32::try_from(number).map_err(io::Error::other)
}

fn unpacked_digest(file: &File) -> io::Result<[u8; 32]> {
    let mut unpacker = Unpacker::new(file.try_clone()?)?;
    let mut hash = Sha256::new();
    loop {
        let piece = unpacker.fill_buf()?;
        if piece.is_empty() {
            return Ok(hash.finalize().into());
        }
        hash.update(piece);
        let used = piece.len();
        unpacker.consume(used);
    }
}

/// A journal as its readers see it, whichever form its file has.
pub(crate) enum Journaled {
    Plain(BufReader<File>),
    Packed(Unpacker),
}

impl Journaled {
    /// Opens the journal in `dir`. The compressed file exists before the plain one is removed, so
    /// one of the two always exists.
    pub(crate) fn open(dir: &Path, buffer_bytes: usize) -> io::Result<Self> {
        match open_plain(dir, JOURNAL_FILE) {
            Ok(file) => Ok(Self::Plain(BufReader::with_capacity(buffer_bytes, file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match open_plain(dir, PACKED_FILE) {
                    Ok(file) => Unpacker::new(file).map(Self::Packed),
                    Err(packed) if packed.kind() == io::ErrorKind::NotFound => Err(error),
                    Err(packed) => Err(packed),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the present number of bytes of the journal.
    pub(crate) fn size(&self) -> io::Result<u64> {
        match self {
            Self::Plain(file) => Ok(file.get_ref().metadata()?.len()),
            Self::Packed(unpacker) => Ok(unpacker.frames.iter().fold(0, |sum, frame| {
                sum + u64::try_from(frame.plain).unwrap_or(u64::MAX)
            })),
        }
    }

    /// Goes back to byte `offset`, after which more may follow; a compressed journal does not grow.
    pub(crate) fn go_back(&mut self, offset: u64) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.seek(SeekFrom::Start(offset)).map(|_| ()),
            Self::Packed(_) => Ok(()),
        }
    }
}

impl Read for Journaled {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(into),
            Self::Packed(unpacker) => unpacker.read(into),
        }
    }
}

impl BufRead for Journaled {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self {
            Self::Plain(file) => file.fill_buf(),
            Self::Packed(unpacker) => unpacker.fill_buf(),
        }
    }

    fn consume(&mut self, bytes: usize) {
        match self {
            Self::Plain(file) => file.consume(bytes),
            Self::Packed(unpacker) => unpacker.consume(bytes),
        }
    }
}

/// Sizes of one frame: in the file, and of its part of the journal.
struct Frame {
    packed: usize,
    plain: usize,
}

/// Decompresses the journal. The table accounts for every byte of the file, and each frame has a
/// checksum, so a read returns either what was written or an error of the kind `InvalidData`.
pub(crate) struct Unpacker {
    file: File,
    decompressor: zstd::bulk::Decompressor<'static>,
    frames: Vec<Frame>,
    next: usize,
    packed: Vec<u8>,
    plain: Vec<u8>,
    used: usize,
}

impl Unpacker {
    fn new(mut file: File) -> io::Result<Self> {
        let frames = table(&mut file)?;
        file.rewind()?;
        Ok(Self {
            file,
            decompressor: zstd::bulk::Decompressor::new()?,
            frames,
            next: 0,
            packed: Vec::new(),
            plain: Vec::new(),
            used: 0,
        })
    }

    /// Skips the frames that end at or before byte `offset`, without unpacking them; before the first
    /// read. Returns how many bytes come before it still.
    pub(crate) fn skip_frames(&mut self, offset: u64) -> io::Result<u64> {
        let (mut left, mut packed) = (offset, 0);
        while let Some(frame) = self.frames.get(self.next) {
            let plain = u64::try_from(frame.plain).unwrap_or(u64::MAX);
            if plain > left {
                break;
            }
            left -= plain;
            packed += i64::try_from(frame.packed).unwrap_or(i64::MAX);
            self.next += 1;
        }
        self.file.seek(SeekFrom::Current(packed))?;
        Ok(left)
    }
}

/// Reads the table of frames, and checks that the file contains exactly the frames and the table.
fn table(file: &mut File) -> io::Result<Vec<Frame>> {
    let size = file.metadata()?.len();
    let start = size
        .checked_sub(TABLE_FOOT)
        .ok_or_else(|| wrong("it has no table of its frames"))?;
    file.seek(SeekFrom::Start(start))?;
    let count = u64::from(word(file)?);
    let mut flags = [0];
    file.read_exact(&mut flags)?;
    if flags != [0] || word(file)? != SEEKABLE_MAGIC {
        return Err(wrong("it has no table of its frames"));
    }
    let entries = count * ENTRY;
    let start = size
        .checked_sub(TABLE_FOOT + entries + TABLE_HEAD)
        .ok_or_else(|| wrong("its table has more frames than there is room for"))?;
    file.seek(SeekFrom::Start(start))?;
    if word(file)? != TABLE_MAGIC || u64::from(word(file)?) != entries + TABLE_FOOT {
        return Err(wrong("its table of frames is not as written"));
    }
    let mut bytes = Vec::new();
    file.take(entries).read_to_end(&mut bytes)?;
    let mut frames = Vec::new();
    let mut sum = 0;
    for entry in bytes.as_chunks::<8>().0 {
        let both = u64::from_le_bytes(*entry);
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let (packed, plain) = (number(both & u64::from(u32::MAX)), number(both >> 32));
        if packed > PACKED_BYTES_MAX || plain > FRAME_BYTES || plain == 0 {
            return Err(wrong("its table has a frame of a size that none has"));
        }
        sum += u64::try_from(packed).unwrap_or(u64::MAX);
        frames.push(Frame { packed, plain });
    }
    if sum != start {
        return Err(wrong("its frames are not of the sizes that its table says"));
    }
    Ok(frames)
}

fn word(file: &mut File) -> io::Result<u32> {
    let mut bytes = [0; 4];
    file.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn wrong(what: &str) -> io::Error {
    let what = format!("the compressed journal is not as written: {what}");
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Read for Unpacker {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Unpacker {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used >= self.plain.len()
            && let Some(frame) = self.frames.get(self.next)
        {
            self.packed.resize(frame.packed, 0);
            self.file.read_exact(&mut self.packed)?;
            self.plain = self
                .decompressor
                .decompress(&self.packed, frame.plain)
                .map_err(|error| wrong(&format!("frame {} does not unpack: {error}", self.next)))?;
            if self.plain.len() != frame.plain {
                return Err(wrong("a frame is not of the size that its table says"));
            }
            self.used = 0;
            self.next += 1;
        }
        Ok(self.plain.get(self.used..).unwrap_or_default())
    }

    fn consume(&mut self, bytes: usize) {
        self.used = self.used.saturating_add(bytes).min(self.plain.len());
    }
}
