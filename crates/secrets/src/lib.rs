//! Secrets in what leaves: tokens of known formats, blocks of private keys, values of settings whose
//! names say that they are secret, and texts that the session must not send.
//!
//! One pass over the bytes looks for the beginnings of all of them, each in every form of
//! [`forms::Form`]; only where one stands is the text read and compared. A stream comes in pieces of any
//! size: what could still become a secret is kept, which is bounded by the longest text that a rule looks
//! at.
//!
//! It guards against accidents, and against programs that do not know of it: who encrypts a secret, or
//! writes it in another way, is not seen.
#![forbid(unsafe_code)]

mod formats;
mod forms;
mod hide;
mod rules;
#[cfg(test)]
mod tests;
mod words;

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
};

use aho_corasick::{AhoCorasick, AhoCorasickKind, Anchored, Input, MatchKind};

use self::{
    formats::{FORMATS, Format, KEY_BLOCK, WORDS},
    forms::{Ends, Form, read, written},
    rules::{Is, TEXT_BYTES_MAX, key_block, token, word},
};

pub use words::{hide, hide_alike, hide_words};

/// Bytes of a text of the session that are looked for: more of it would only make what is kept longer.
const OWN_BYTES_MAX: usize = 64;
/// Fewer are words that stand everywhere.
const OWN_BYTES_MIN: usize = 12;
/// From here on each half is looked for too, so that one that is sent in two parts is found.
const HALVED_BYTES_MIN: usize = 2 * OWN_BYTES_MIN;

/// What a block of a private key is found as.
const KEY_BLOCK_KIND: &str = "private-key";
/// What a value of a setting is found as.
const SETTING_KIND: &str = "secret-setting";

/// So many texts are looked for in the fastest way, which takes most memory.
const FAST_OWN_MAX: usize = 8;

/// A text that the session must not send.
#[derive(Clone, Debug)]
pub struct Own {
    /// What it is, for the record.
    pub kind: String,
    /// Its bytes; fewer than twelve are not looked for.
    pub text: Vec<u8>,
}

/// All that is looked for.
#[derive(Debug)]
pub struct Secrets {
    beginnings: AhoCorasick,
    /// What each beginning can be, in the order in which it is tried.
    needles: Vec<Vec<Needle>>,
    own: Vec<Own>,
    /// The beginnings in the order of their bytes, and the length of the longest.
    literals: Vec<Vec<u8>>,
    longest: usize,
    /// Makes marks that nobody can compute who does not know the secret.
    marks: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Needle {
    what: What,
    form: Form,
    /// Bytes of the beginning, as text.
    begin: usize,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Token(&'static Format),
    KeyBlock,
    Word,
    /// By its number.
    Own(usize),
}

/// A secret that was found; nothing of it is part of this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is, for example `github-token`.
    pub kind: String,
    /// How it is written.
    pub form: &'static str,
    /// Its first byte, counted from the beginning of what was scanned.
    pub at: u64,
    /// Its length as text, in bytes.
    pub bytes: usize,
    /// Equal for equal secrets of one session, and of no use to anybody else.
    pub mark: String,
}

impl Secrets {
    /// Prepares to look for all known formats and for `own`.
    ///
    /// # Errors
    /// When the texts are more than can be looked for at once.
    pub fn new(own: Vec<Own>) -> Result<Self, aho_corasick::BuildError> {
        let kind = if own.len() > FAST_OWN_MAX {
            AhoCorasickKind::ContiguousNFA
        } else {
            AhoCorasickKind::DFA
        };
        Self::of(own, |_| true, kind)
    }

    /// Prepares to look for the forms that `wanted` tells.
    fn of(
        own: Vec<Own>,
        wanted: fn(Form) -> bool,
        kind: AhoCorasickKind,
    ) -> Result<Self, aho_corasick::BuildError> {
        let mut all: BTreeMap<Vec<u8>, Vec<Needle>> = BTreeMap::new();
        let mut add = |text: &[u8], what: What| {
            let written = written(text).into_iter();
            for (form, literal) in written.filter(|(form, _)| wanted(*form)) {
                let begin = text.len();
                let needle = Needle { what, form, begin };
                all.entry(literal).or_default().push(needle);
            }
        };
        for format in FORMATS {
            for begin in format.begins {
                add(begin.as_bytes(), What::Token(format));
            }
        }
        add(KEY_BLOCK.as_bytes(), What::KeyBlock);
        for word in WORDS {
            add(word.as_bytes(), What::Word);
        }
        for (number, own) in own.iter().enumerate() {
            for part in parts(&own.text) {
                add(part, What::Own(number));
            }
        }
        // Of several at one place the longest is found: it stands for the shorter ones too.
        let shorter = |literal: &Vec<u8>| {
            let begins = (1..=literal.len())
                .rev()
                .filter_map(|end| literal.get(..end));
            let needles = begins.filter_map(|begin| all.get(begin)).flatten();
            needles.copied().collect::<Vec<Needle>>()
        };
        let needles = all.keys().map(shorter).collect();
        let literals: Vec<Vec<u8>> = all.keys().cloned().collect();
        let beginnings = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(kind))
            .build(&literals)?;
        Ok(Self {
            beginnings,
            needles,
            own,
            longest: literals.iter().map(Vec::len).max().unwrap_or_default(),
            literals,
            marks: RandomState::new(),
        })
    }

    /// Returns how many of the last of `bytes` are a part of a beginning, if enough to tell.
    fn partial(&self, bytes: &[u8]) -> usize {
        let most = bytes.len().min(self.longest.saturating_sub(1));
        let is_part = |length: &usize| {
            let part = bytes.get(bytes.len() - length..).unwrap_or_default();
            let next = self
                .literals
                .partition_point(|literal| literal.as_slice() < part);
            let literal = self.literals.get(next);
            literal.is_some_and(|literal| literal.starts_with(part))
        };
        (PART_BYTES_MIN..=most).rev().find(is_part).unwrap_or(0)
    }

    /// Looks for secrets in a text that is whole.
    pub fn find(&self, text: &[u8]) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut scan = Scan::default();
        scan.feed(self, text, &mut found);
        scan.finish(self, &mut found);
        found
    }

    /// Says what stands at a beginning; escapes can stand for any part of it.
    fn judge(needle: Needle, bytes: &[u8], at: usize, whole: bool) -> (Form, Is, Vec<u8>) {
        let escaped: &[Form] = match (needle.what, needle.form) {
            (What::Token(_) | What::KeyBlock | What::Word, Form::Plain) => {
                &[Form::Percent, Form::Json]
            }
            _ => &[],
        };
        for form in [needle.form].iter().chain(escaped) {
            let (is, text) = judge_form(
                Needle {
                    form: *form,
                    ..needle
                },
                bytes,
                at,
                whole,
            );
            if is != Is::Other {
                return (*form, is, text);
            }
        }
        (needle.form, Is::Other, Vec::new())
    }

    fn kind(&self, what: What) -> String {
        match what {
            What::Token(format) => format.kind.to_owned(),
            What::KeyBlock => KEY_BLOCK_KIND.to_owned(),
            What::Word => SETTING_KIND.to_owned(),
            What::Own(number) => {
                let own = self.own.get(number);
                own.map(|own| own.kind.clone()).unwrap_or_default()
            }
        }
    }

    /// Returns the mark of what was found. A text of the session has its own, whatever part of it was
    /// found: the last characters of base64 alone do not say which byte they end with.
    fn mark(&self, what: What, read: &[u8]) -> String {
        let secret = match what {
            What::Own(number) => self.own.get(number).map_or(read, |own| &own.text),
            What::Token(_) | What::KeyBlock | What::Word => read,
        };
        format!("{:08x}", self.marks.hash_one(secret) >> 32)
    }
}

/// Says what stands at a beginning that is written in one form.
fn judge_form(needle: Needle, bytes: &[u8], at: usize, whole: bool) -> (Is, Vec<u8>) {
    let Needle { what, form, begin } = needle;
    if matches!(what, What::Token(_)) && !is_apart(form, bytes, at) {
        return (Is::Other, Vec::new());
    }
    let Some((text, ends)) = read(form, bytes, at) else {
        return (Is::Other, Vec::new());
    };
    let whole = whole || ends == Ends::Here;
    let is = match what {
        What::Token(format) => token(format, begin, &text, whole),
        What::KeyBlock => key_block(begin, &text, whole),
        What::Word => match word(begin, &text, whole) {
            Is::Secret(length) if has_format(text.get(..length).unwrap_or_default()) => Is::Other,
            is => is,
        },
        What::Own(_) => Is::Secret(begin),
    };
    (is, text)
}

/// Returns the parts of a text of the session that are looked for.
fn parts(text: &[u8]) -> Vec<&[u8]> {
    let text = text
        .get(..text.len().min(OWN_BYTES_MAX))
        .unwrap_or_default();
    if text.len() < OWN_BYTES_MIN {
        return Vec::new();
    }
    let mut parts = vec![text];
    if text.len() >= HALVED_BYTES_MIN {
        let (first, second) = text.split_at(text.len() / 2);
        parts.extend([first, second]);
    }
    parts
}

/// Tells whether nothing stands before a text that would make it the middle of another word.
fn is_apart(form: Form, bytes: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|at| bytes.get(at));
    match form {
        Form::Plain => !before.is_some_and(u8::is_ascii_alphanumeric),
        Form::Base64(_) | Form::Hex | Form::Percent | Form::Json => true,
    }
}

/// Tells whether a value has a format of its own, which is found by itself.
fn has_format(value: &[u8]) -> bool {
    let has = |begin: &&str| {
        value
            .windows(begin.len())
            .any(|part| part == begin.as_bytes())
    };
    FORMATS.iter().flat_map(|format| format.begins).any(has)
}

/// Fewer bytes of a beginning are in every text: what is sent does not wait for what they become.
const PART_BYTES_MIN: usize = 3;

/// Bytes before a text that are looked at with it: of a group of base64, or of the word that it is in.
const BEFORE_BYTES: usize = 4;

/// A stream that is scanned piece by piece.
#[derive(Debug, Default)]
pub struct Scan {
    /// What is kept of the bytes before.
    kept: Vec<u8>,
    /// So many of those were looked at already.
    done: usize,
    /// The place of the first byte that is kept.
    offset: u64,
    /// The first kept byte that can be part of a secret that has not ended.
    open: Option<usize>,
}

impl Scan {
    /// Reads on; adds what it finds to `found`.
    pub fn feed(&mut self, secrets: &Secrets, bytes: &[u8], found: &mut Vec<Finding>) {
        self.kept.extend_from_slice(bytes);
        self.scan(secrets, false, found);
    }

    /// Says that no more comes.
    pub fn finish(&mut self, secrets: &Secrets, found: &mut Vec<Finding>) {
        self.scan(secrets, true, found);
        self.open = None;
    }

    /// Returns how many of the last bytes could be part of a secret that has not ended.
    pub fn open_bytes(&self) -> usize {
        self.open
            .map_or(0, |open| self.kept.len() - open.min(self.kept.len()))
    }

    fn scan(&mut self, secrets: &Secrets, whole: bool, found: &mut Vec<Finding>) {
        let length = self.kept.len();
        // From here on, what comes next can make a longer beginning of what is there.
        let partial = length
            - if whole {
                0
            } else {
                secrets.partial(&self.kept)
            };
        let (mut at, mut from) = (self.done, None);
        while let Some((start, end, needles)) = next(secrets, &self.kept, at) {
            if start >= partial {
                break;
            }
            let mut judged = needles
                .iter()
                .map(|needle| (needle, Secrets::judge(*needle, &self.kept, start, whole)));
            let decided = judged.find(|(_, (_, is, _))| *is != Is::Other);
            match decided {
                None | Some((_, (_, Is::Other, _))) => at = start + 1,
                Some((_, (_, Is::Open, _))) => {
                    from = Some(start);
                    break;
                }
                Some((needle, (form, Is::Secret(bytes), text))) => {
                    let place = u64::try_from(start).unwrap_or(u64::MAX);
                    let secret = text.get(..bytes).unwrap_or_default();
                    found.push(Finding {
                        kind: secrets.kind(needle.what),
                        form: form.as_str(),
                        at: self.offset.saturating_add(place),
                        bytes,
                        mark: secrets.mark(needle.what, secret),
                    });
                    at = end;
                }
            }
        }
        let from = from.unwrap_or(partial).max(at.min(length));
        self.open = Some(from).filter(|from| *from < length);
        // One byte or two of a beginning are looked at again, though nothing waits for them.
        let again = length
            .saturating_sub(PART_BYTES_MIN - 1)
            .max(at.min(length));
        self.keep_from(from.min(again));
    }

    /// Forgets what is looked at for good, up to `done`.
    fn keep_from(&mut self, done: usize) {
        let start = done.saturating_sub(BEFORE_BYTES);
        self.kept.drain(..start);
        self.done = done - start;
        self.open = self.open.map(|open| open - start);
        self.offset = self
            .offset
            .saturating_add(u64::try_from(start).unwrap_or(u64::MAX));
        self.kept.shrink_to(TEXT_BYTES_MAX);
    }
}

/// Returns the next beginning from `at` on, where it ends, and what it can be.
fn next<'s>(secrets: &'s Secrets, bytes: &[u8], at: usize) -> Option<(usize, usize, &'s [Needle])> {
    let input = Input::new(bytes).range(at..).anchored(Anchored::No);
    let found = secrets.beginnings.find(input)?;
    let needles = secrets.needles.get(found.pattern().as_usize())?;
    Some((found.start(), found.end(), needles))
}
