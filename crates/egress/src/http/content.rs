//! What is found in requests, and what becomes of it.

use std::{
    collections::HashSet,
    io::{self, Write},
    sync::{Mutex, OnceLock, PoisonError},
};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http::HeaderMap;
use stockade_event::Event;
use stockade_policy::{Control, Decision, HttpShown, Meaning, NetRequest, RuleName};
use stockade_secrets::{Finding, Own, Scan, Secrets};
use stockade_types::{DecisionId, Host, Port, RawText};

use super::Head;
use crate::{
    gate::count,
    limits::{FINDINGS_MAX, SECRETS_SEEN_MAX, UNPACKED_BYTES_MAX, WAITING_BYTES_MAX},
};

/// Where in a request something was found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// Path or query.
    Path,
    /// A field, by its name.
    Field(Vec<u8>),
    /// The body.
    Body,
}

impl Place {
    fn shown(&self) -> RawText {
        match self {
            Self::Path => "path".into(),
            Self::Field(name) => RawText::from_bytes([b"field ", name.as_slice()].concat()),
            Self::Body => "body".into(),
        }
    }
}

/// What is looked for in the session's requests, and what was found.
#[derive(Debug)]
pub(crate) struct Contents {
    own: Vec<Own>,
    /// Made for the first request: most sessions of services and ssh need none.
    secrets: OnceLock<Option<Secrets>>,
    seen: Mutex<HashSet<Seen>>,
}

/// A secret by its mark, where it was found, and where it went.
type Seen = (Host, Port, Place, String);

impl Contents {
    /// `own` are texts that the session must not send.
    pub(crate) fn new(own: Vec<Own>) -> Self {
        Self {
            own,
            secrets: OnceLock::new(),
            seen: Mutex::default(),
        }
    }

    fn secrets(&self) -> Option<&Secrets> {
        let make = || Secrets::new(self.own.clone()).ok();
        self.secrets.get_or_init(make).as_ref()
    }

    /// Looks at the head of a request; the error is its refusal where `denied` are rules that let no
    /// secret out.
    pub(crate) fn head(
        &self,
        head: &Head,
        denied: &[RuleName],
    ) -> Result<Vec<(Place, Finding)>, Box<Decision>> {
        let Some(secrets) = self.secrets() else {
            return unsearched(denied, "what is looked for cannot be prepared")
                .map(|()| Vec::new());
        };
        let mut all = Vec::new();
        let mut look = |place: &dyn Fn() -> Place, text: &[u8]| {
            let found = secrets.find(text).into_iter();
            all.extend(found.map(|one| (place(), one)));
        };
        look(&|| Place::Path, head.path.as_bytes());
        for field in head.fields.iter() {
            look(&|| Place::Field(field.name.to_vec()), field.value);
        }
        match all.first() {
            Some((place, finding)) if !denied.is_empty() => Err(refusal(denied, place, finding)),
            _ => Ok(all),
        }
    }

    /// Returns a text of the session as people and records see it, if it has secrets: with what was
    /// found in their places.
    pub(crate) fn hide(&self, text: &RawText) -> Option<RawText> {
        let hidden = self.secrets()?.hide(text.as_bytes());
        hidden.map(RawText::from_bytes)
    }

    /// Returns what people and records see of a request, if it has secrets.
    pub(crate) fn shown(&self, path: &RawText, meaning: &[Meaning]) -> Option<Box<HttpShown>> {
        let hide = |text: &RawText| self.hide(text);
        HttpShown::of(path, meaning, &hide).map(Box::new)
    }

    /// Prepares to look at a body. The error is the refusal of one that cannot be looked at, where it
    /// must be.
    pub(crate) fn body(
        &self,
        head: &Head,
        denied: &[RuleName],
    ) -> Result<Searched<'_>, Box<Decision>> {
        let mut coded = head
            .fields
            .iter()
            .filter(|field| field.is("content-encoding"));
        let coding = coded.next().map(|field| field.value.to_ascii_lowercase());
        let one = coded.next().is_none();
        let packed = match (coding.as_deref(), self.secrets()) {
            (None | Some(b"identity" | b""), _) => Packed::Unknown,
            (Some(b"gzip" | b"x-gzip"), Some(secrets)) if one => Unpacked::decoder(secrets),
            (Some(_), _) => {
                unsearched(
                    denied,
                    "its `Content-Encoding` is not `gzip`, so it cannot be read",
                )?;
                Packed::Not
            }
        };
        Ok(Searched {
            secrets: self.secrets(),
            denied: denied.to_vec(),
            raw: Scan::default(),
            packed,
            first: Vec::new(),
            found: Vec::new(),
            failed: None,
            held: Vec::new(),
        })
    }

    /// Returns the events of findings that were let out, of each the first.
    pub(crate) fn events(
        &self,
        request: &NetRequest,
        decision: DecisionId,
        found: impl IntoIterator<Item = (Place, Finding)>,
    ) -> Vec<Event> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let first = found.into_iter().filter(|(place, finding)| {
            let key = (
                request.host.clone(),
                request.port,
                place.clone(),
                finding.mark.clone(),
            );
            if seen.len() >= SECRETS_SEEN_MAX {
                return !seen.contains(&key);
            }
            seen.insert(key)
        });
        let event = |(place, finding): (Place, Finding)| Event::SecretSent {
            host: request.host.to_string(),
            port: request.port.get(),
            decision,
            what: finding.kind,
            place: place.shown(),
            form: finding.form.to_owned(),
            at: finding.at,
            bytes: count(finding.bytes),
            mark: finding.mark,
        };
        first.map(event).collect()
    }
}

/// A body that is looked at while it passes.
#[derive(Debug)]
pub(crate) struct Searched<'c> {
    secrets: Option<&'c Secrets>,
    denied: Vec<RuleName>,
    raw: Scan,
    packed: Packed<'c>,
    /// The first bytes, as long as they tell nothing.
    first: Vec<u8>,
    found: Vec<Finding>,
    failed: Option<&'static str>,
    /// What waits to leave.
    held: Vec<u8>,
}

/// Whether a body is compressed.
#[derive(Debug)]
enum Packed<'c> {
    /// Its first bytes will tell.
    Unknown,
    /// By gzip (RFC 1952).
    Gzip(Box<MultiGzDecoder<Unpacked<'c>>>),
    /// No, or not in a way that is read.
    Not,
}

/// How every gzip begins.
const GZIP: &[u8] = &[0x1f, 0x8b, 8];

/// What is unpacked, looked at as it comes.
#[derive(Debug)]
struct Unpacked<'c> {
    secrets: &'c Secrets,
    scan: Scan,
    found: Vec<Finding>,
    bytes: u64,
}

impl<'c> Unpacked<'c> {
    fn decoder(secrets: &'c Secrets) -> Packed<'c> {
        Packed::Gzip(Box::new(MultiGzDecoder::new(Self {
            secrets,
            scan: Scan::default(),
            found: Vec::new(),
            bytes: 0,
        })))
    }
}

impl Write for Unpacked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes = self.bytes.saturating_add(count(bytes.len()));
        if self.bytes > UNPACKED_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.scan.feed(self.secrets, bytes, &mut self.found);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Searched<'_> {
    /// Reads on.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        let Some(secrets) = self.secrets else {
            self.failed = Some("what is looked for cannot be prepared");
            return;
        };
        if matches!(self.packed, Packed::Unknown) {
            let before = self.first.clone();
            let missing = GZIP.len() - before.len();
            self.first.extend(bytes.iter().take(missing));
            if self.first == GZIP {
                self.packed = Unpacked::decoder(secrets);
                self.unpack(&before);
            } else if !GZIP.starts_with(&self.first) {
                self.packed = Packed::Not;
            }
        }
        self.raw.feed(secrets, bytes, &mut self.found);
        self.unpack(bytes);
        self.found.truncate(FINDINGS_MAX);
    }

    /// Reads the fields behind a body.
    pub(crate) fn read_fields(&mut self, fields: Option<&HeaderMap>) {
        for value in fields.into_iter().flat_map(HeaderMap::values) {
            self.read(value.as_bytes());
        }
    }

    fn unpack(&mut self, bytes: &[u8]) {
        let Packed::Gzip(decoder) = &mut self.packed else {
            return;
        };
        let written = decoder.write_all(bytes).and_then(|()| decoder.flush());
        self.found.append(&mut decoder.get_mut().found);
        if let Err(error) = written {
            self.failed = Some(match error.kind() {
                io::ErrorKind::FileTooLarge => {
                    "it is more than can be searched once it is unpacked"
                }
                _ => "its gzip is not valid",
            });
            self.packed = Packed::Not;
        }
    }

    /// Says that all was read.
    pub(crate) fn finish(&mut self) {
        let Some(secrets) = self.secrets else { return };
        self.raw.finish(secrets, &mut self.found);
        if let Packed::Gzip(decoder) = &mut self.packed {
            if decoder.try_finish().is_err() {
                self.failed = Some("its gzip ends early");
            }
            let unpacked = decoder.get_mut();
            unpacked.scan.finish(secrets, &mut unpacked.found);
            self.found.append(&mut unpacked.found);
        }
    }

    /// Takes a piece, and returns what of the body may leave now: where no secret may, what could still
    /// become one waits. The error is the refusal of what was read.
    pub(crate) fn pass(&mut self, piece: Bytes) -> Result<Bytes, Box<Decision>> {
        self.read(&piece);
        self.refusal()?;
        if !self.denies() || (self.held.is_empty() && !self.is_open()) {
            return Ok(piece);
        }
        self.held.extend_from_slice(&piece);
        if !self.is_open() {
            return Ok(std::mem::take(&mut self.held).into());
        }
        if self.held.len() > WAITING_BYTES_MAX {
            self.is_too_long();
        }
        self.refusal().map(|()| Bytes::new())
    }

    /// Says that all was read, and returns what of it has not left yet.
    pub(crate) fn end(&mut self) -> Result<Bytes, Box<Decision>> {
        self.finish();
        self.refusal()?;
        Ok(std::mem::take(&mut self.held).into())
    }

    /// Tells whether the last bytes could be part of a secret that has not ended.
    pub(crate) fn is_open(&self) -> bool {
        let unpacked = match &self.packed {
            Packed::Gzip(decoder) => decoder.get_ref().scan.open_bytes(),
            Packed::Unknown | Packed::Not => 0,
        };
        self.raw.open_bytes() > 0 || unpacked > 0
    }

    /// Tells whether no secret may leave.
    pub(crate) fn denies(&self) -> bool {
        !self.denied.is_empty()
    }

    /// Returns the refusal of what was read, where it must not leave.
    pub(crate) fn refusal(&self) -> Result<(), Box<Decision>> {
        match self.found.first() {
            Some(finding) if self.denies() => Err(refusal(&self.denied, &Place::Body, finding)),
            _ => match self.failed {
                Some(why) => unsearched(&self.denied, why),
                None => Ok(()),
            },
        }
    }

    /// Says that more of it would have to wait than is held.
    pub(crate) fn is_too_long(&mut self) {
        self.failed = Some("too much of it could be part of a secret that has not ended");
    }

    /// Says that what follows is no body.
    pub(crate) fn is_socket(&mut self) {
        self.failed = Some("what is said on a WebSocket is not");
    }

    /// Returns what was found since the last time.
    pub(crate) fn take_found(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.found)
    }
}

fn refusal(denied: &[RuleName], place: &Place, finding: &Finding) -> Box<Decision> {
    let Finding {
        kind,
        form,
        at,
        bytes,
        mark,
    } = finding;
    let place = place.shown().display();
    let reason = format!(
        "the {place} of the request has what looks like a secret: {kind} ({form}, {bytes} bytes at {at}, \
         mark {mark})"
    );
    denies(denied, reason)
}

/// Returns the refusal of what cannot be looked at, where it must be.
fn unsearched(denied: &[RuleName], why: &str) -> Result<(), Box<Decision>> {
    if denied.is_empty() {
        return Ok(());
    }
    Err(denies(
        denied,
        format!("the request cannot be searched for secrets: {why}"),
    ))
}

fn denies(denied: &[RuleName], reason: String) -> Box<Decision> {
    let rule = denied
        .first()
        .map(|rule| rule.id.to_string())
        .unwrap_or_default();
    let remedy = format!(
        "leave it out, or write `content = \"record\"` in the rule `{rule}` if the host may have it"
    );
    let mut decision = Control::Content.denies(reason, &remedy);
    decision.rules.extend(denied.iter().cloned());
    Box::new(decision)
}
