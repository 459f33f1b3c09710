//! Reads events back.

use std::{
    io,
    path::{Path, PathBuf},
    vec,
};

use stockade_event::{Envelope, Event, SCHEMA_VERSION};
use stockade_types::SessionId;

use crate::{
    expand::Expander,
    format::{Found, Header, Line, next_line, parse},
    layout::JOURNAL_FILE,
    left::{envelope, left},
    pack::Journaled,
};

/// Why an event could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be opened or read.
    #[error("cannot read the journal `{path}`")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A line is not one of a journal; the lines after it can still be read.
    #[error("line at byte {offset} is not a journal line: {what}; `stockade log verify` says more")]
    Line {
        /// Where the line begins.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The last line has no end: the machine or the supervisor died while writing it, or it is
    /// being written now.
    #[error(
        "the last {bytes} bytes, from byte {offset}, are the beginning of a line that was never finished"
    )]
    Torn {
        /// Where the line begins.
        offset: u64,
        /// How much of it there is.
        bytes: u64,
    },
}

/// Opens the journal in the session directory `dir` for reading from its beginning.
///
/// Reading does not verify; see [`crate::verify`].
///
/// # Errors
/// When there is no journal or it cannot be read.
pub fn read(dir: &Path) -> Result<Reader, ReadError> {
    read_from(dir, 0)
}

/// Returns the decisions in `dir` that took effect and that a killed supervisor had not taken into the
/// journal.
pub(crate) fn left_events(dir: &Path) -> io::Result<Vec<Event>> {
    left(dir, || {
        let mut lines = read_from(dir, 0).map_err(io::Error::other)?;
        lines.dir = None;
        let decisions = lines.filter_map(|found| Some(found.ok()?.event.decision()?.decision));
        Ok(decisions.collect())
    })
}

/// Opens the journal in `dir` for reading from byte `offset`, which [`Reader::offset`] returned.
/// The part before it is read too, because later events refer to it.
///
/// # Errors
/// When there is no journal or it cannot be read.
pub fn read_from(dir: &Path, offset: u64) -> Result<Reader, ReadError> {
    let path = dir.join(JOURNAL_FILE);
    let from = match Journaled::open(dir, BUFFER_BYTES) {
        Ok(from) => from,
        Err(source) => return Err(ReadError::Io { path, source }),
    };
    let named = dir.file_name().and_then(|name| name.to_str()?.parse().ok());
    let mut reader = Reader {
        from,
        path,
        dir: Some(dir.to_owned()),
        left: None,
        seq: 0,
        offset: 0,
        buffer: Vec::new(),
        session: named,
        expander: Expander::default(),
        torn: None,
        ended: false,
        broken: false,
    };
    while reader.offset < offset {
        match reader.next() {
            Some(Err(error @ ReadError::Io { .. })) => return Err(error),
            Some(Ok(envelope)) => {
                reader.ended |= matches!(envelope.event, Event::SessionEnded { .. });
            }
            // It was reported when it was first read.
            Some(Err(ReadError::Line { .. } | ReadError::Torn { .. })) => {}
            None => break,
        }
    }
    Ok(reader)
}

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 128 * 1024;

/// The beginning of events in a journal of version 1.
const FIRST_VERSION: &[u8] = b"{\"v\":";

/// Yields the events of a journal in the order of the file.
///
/// At the end it yields `None`, and more if it is asked again after the file has grown, so that it
/// can follow a running session. A line without an end is an error, once for each length with which
/// it is seen. After an error of the file system it yields nothing more. If the supervisor was
/// killed, the decisions that it had not taken in yet follow at the end.
pub struct Reader {
    from: Journaled,
    path: PathBuf,
    /// The directory, if what is beside the journal counts too.
    dir: Option<PathBuf>,
    /// What a killed supervisor left, once the end was reached.
    left: Option<vec::IntoIter<Event>>,
    /// Number of the last event.
    seq: u64,
    offset: u64,
    buffer: Vec<u8>,
    /// The session according to the first line; before that, according to the directory's name.
    session: Option<SessionId>,
    expander: Expander,
    /// The last reported unfinished line: where it begins, and its length.
    torn: Option<(u64, u64)>,
    /// Whether the end of the session comes before the start of reading.
    ended: bool,
    broken: bool,
}

/// A reader whose file is closed, and that remembers where it was and what later events refer to.
pub struct Resting {
    dir: PathBuf,
    seq: u64,
    offset: u64,
    session: Option<SessionId>,
    expander: Expander,
    ended: bool,
}

impl Resting {
    /// Returns how many bytes of the journal were read.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Opens the journal again, and goes on behind the last event that was read. What is beside the
    /// journal is not read.
    ///
    /// # Errors
    /// When there is no journal or it cannot be read.
    pub fn resume(self) -> Result<Reader, ReadError> {
        let path = self.dir.join(JOURNAL_FILE);
        let opened = Journaled::open(&self.dir, BUFFER_BYTES).and_then(|mut from| {
            from.go_back(self.offset)?;
            Ok(from)
        });
        let from = match opened {
            Ok(from @ Journaled::Plain(_)) => from,
            // A compressed journal has no more than it had, and is read from its beginning.
            Ok(Journaled::Packed(_)) => {
                let mut reader = read_from(&self.dir, self.offset)?;
                reader.dir = None;
                return Ok(reader);
            }
            Err(source) => return Err(ReadError::Io { path, source }),
        };
        Ok(Reader {
            from,
            path,
            dir: None,
            left: None,
            seq: self.seq,
            offset: self.offset,
            buffer: Vec::new(),
            session: self.session,
            expander: self.expander,
            torn: None,
            ended: self.ended,
            broken: false,
        })
    }
}

impl Reader {
    /// Closes the file; [`Resting::resume`] goes on.
    #[must_use]
    pub fn rest(self) -> Resting {
        let dir = self.path.parent().map(Path::to_owned);
        Resting {
            dir: dir.unwrap_or_default(),
            seq: self.seq,
            offset: self.offset,
            session: self.session,
            expander: self.expander,
            ended: self.ended,
        }
    }

    /// Returns the start of the first line that was not yet returned as a whole.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns whether the end of the session comes before the start of reading.
    pub(crate) const fn has_ended(&self) -> bool {
        self.ended
    }

    fn step(&mut self) -> io::Result<Option<Result<Envelope, ReadError>>> {
        loop {
            let start = self.offset;
            match next_line(&mut self.from, &mut self.buffer)? {
                Found::End => return Ok(None),
                Found::Torn { bytes } => {
                    self.from.go_back(start)?;
                    let seen = self.torn.replace((start, bytes)) == Some((start, bytes));
                    if seen {
                        return Ok(None);
                    }
                    return Ok(Some(Err(ReadError::Torn {
                        offset: start,
                        bytes,
                    })));
                }
                Found::TooLong { bytes } => {
                    self.offset = start.saturating_add(bytes);
                    let what = "it is longer than any line of ours".to_owned();
                    return Ok(Some(Err(ReadError::Line {
                        offset: start,
                        what,
                    })));
                }
                Found::Whole => {}
            }
            let length = u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
            self.offset = start.saturating_add(length).saturating_add(1);
            if let Some(result) = self.event_of(start) {
                return Ok(Some(result));
            }
        }
    }

    /// Returns the next event that a killed supervisor had not taken in.
    fn next_left(&mut self) -> io::Result<Option<Envelope>> {
        let (Some(dir), Some(session)) = (&self.dir, &self.session) else {
            return Ok(None);
        };
        if self.left.is_none() {
            let found = left_events(dir)?;
            if found.is_empty() {
                return Ok(None);
            }
            self.left = Some(found.into_iter());
        }
        let Some(event) = self.left.as_mut().and_then(Iterator::next) else {
            return Ok(None);
        };
        self.seq += 1;
        Ok(Some(envelope(event, session.clone(), self.seq)))
    }

    /// Returns the event of the line that was read, or `None` for a header or checkpoint.
    fn event_of(&mut self, offset: u64) -> Option<Result<Envelope, ReadError>> {
        let wrong = |what: String| Some(Err(ReadError::Line { offset, what }));
        match parse(&self.buffer) {
            Some(Line::Checkpoint { .. }) => None,
            Some(Line::Event { body, .. }) if body.starts_with(FIRST_VERSION) => {
                match serde_json::from_slice::<Envelope>(body) {
                    Ok(envelope) if envelope.v == SCHEMA_VERSION => Some(Ok(envelope)),
                    Ok(envelope) => wrong(format!(
                        "its schema version is {}, this program knows {SCHEMA_VERSION}",
                        envelope.v
                    )),
                    Err(error) => wrong(error.to_string()),
                }
            }
            Some(Line::Event { body, .. }) => {
                let Some(session) = &self.session else {
                    return wrong("the first line does not say of which session it is".to_owned());
                };
                match self.expander.expand(body, session) {
                    Ok(envelope) => Some(Ok(envelope)),
                    Err(what) => wrong(what),
                }
            }
            None => {
                let header = serde_json::from_slice::<Header>(&self.buffer).ok();
                match header.filter(|_| offset == 0) {
                    Some(header) if header.is_known() => {
                        self.session = Some(header.session);
                        None
                    }
                    Some(header) => wrong(format!(
                        "it begins a journal of version {}, which this program does not know",
                        header.journal
                    )),
                    None => wrong("it has neither an event nor a checkpoint".to_owned()),
                }
            }
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Envelope, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken {
            return None;
        }
        let found = match self.step() {
            Ok(None) => self.next_left().map(|left| left.map(Ok)),
            found => found,
        };
        if let Ok(Some(Ok(envelope))) = &found {
            self.seq = envelope.seq;
        }
        found.unwrap_or_else(|source| {
            self.broken = true;
            Some(Err(ReadError::Io {
                path: self.path.clone(),
                source,
            }))
        })
    }
}
