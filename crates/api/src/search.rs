//! The language of searches: `kind:net verdict:deny host:*.paste.test user:lee since:7d "rm -rf"`.
//!
//! Terms of the same field widen a search, terms of different fields narrow it, and every word without a
//! field has to be there. There is no clock here: spans are counted back by whoever has one.

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::Serialize;
use stockade_types::{Span, UnixMillis, Verdict};

/// Bytes of a search.
pub const QUERY_BYTES_MAX: usize = 1_000;
/// Terms of a search.
pub const TERMS_MAX: usize = 32;
/// The fields, each with what it means.
pub const FIELDS: [(&str, &str); 12] = [
    (
        "kind",
        "sort of request or event: `net`, `file`, `approval`, `finding.raised`",
    ),
    ("verdict", "`allow`, `ask` or `deny`"),
    ("host", "a host; `*` stands for any text"),
    ("path", "a path; `*` stands for any text"),
    ("exe", "a program; `*` stands for any text"),
    ("rule", "a rule by its id"),
    ("user", "the person whose machine it is"),
    ("machine", "a machine by its name or id"),
    ("session", "a session by its id or the beginning of it"),
    ("agent", "the preset of the agent"),
    ("since", "a span such as `7d`, or a date"),
    ("until", "a span such as `1d`, or a date"),
];

/// What is searched for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Query {
    /// Sorts of requests or events.
    pub kinds: Vec<String>,
    /// Verdicts.
    pub verdicts: Vec<Verdict>,
    /// Hosts.
    pub hosts: Vec<Pattern>,
    /// Paths.
    pub paths: Vec<Pattern>,
    /// Programs.
    pub exes: Vec<Pattern>,
    /// Ids of rules.
    pub rules: Vec<String>,
    /// Names of people.
    pub users: Vec<String>,
    /// Names or ids of machines.
    pub machines: Vec<String>,
    /// Beginnings of ids of sessions.
    pub sessions: Vec<String>,
    /// Presets.
    pub agents: Vec<String>,
    /// From then on.
    pub since: Option<Moment>,
    /// Until then.
    pub until: Option<Moment>,
    /// Words that all have to be there; one with spaces is a phrase.
    pub words: Vec<String>,
}

/// A text in which `*` stands for any text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pattern(pub String);

impl Pattern {
    /// Returns the pattern of SQL's `LIKE`, with `\` as its escape.
    pub fn like(&self) -> String {
        let mut like = String::with_capacity(self.0.len());
        for c in self.0.chars() {
            match c {
                '*' => like.push('%'),
                '%' | '_' | '\\' => like.extend(['\\', c]),
                c => like.push(c),
            }
        }
        like
    }
}

/// A moment as a person names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// So many milliseconds ago.
    Ago(u64),
    /// At this time.
    At(UnixMillis),
}

impl Moment {
    /// Returns the time.
    #[must_use]
    pub const fn time(self, now: UnixMillis) -> UnixMillis {
        match self {
            Self::Ago(millis) => UnixMillis(now.0.saturating_sub(millis)),
            Self::At(time) => time,
        }
    }
}

/// Why a text is no search.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// It is too long.
    #[error("the search has more than {QUERY_BYTES_MAX} bytes")]
    TooLong,
    /// It has too many terms.
    #[error("the search has more than {TERMS_MAX} terms")]
    TooMany,
    /// A quotation has no end.
    #[error("a quotation mark has no partner")]
    Open,
    /// There is no such field.
    #[error("there is no field `{0}`; put the text in quotation marks to search for it")]
    Field(String),
    /// A field has a value that it cannot have.
    #[error("`{field}:{value}`: expected {expected}")]
    Value {
        /// Which field.
        field: &'static str,
        /// What it has.
        value: String,
        /// What it can have.
        expected: &'static str,
    },
}

/// A part of a search: a field with a value, or a word.
struct Term {
    field: Option<String>,
    value: String,
}

impl std::str::FromStr for Query {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(QueryError::TooLong);
        }
        let terms = terms(text)?;
        if terms.len() > TERMS_MAX {
            return Err(QueryError::TooMany);
        }
        let mut query = Self::default();
        for term in terms {
            query.add(term)?;
        }
        Ok(query)
    }
}

impl Query {
    fn add(&mut self, term: Term) -> Result<(), QueryError> {
        let value = term.value;
        let Some(field) = term.field else {
            if value.chars().any(char::is_alphanumeric) {
                self.words.push(value);
            }
            return Ok(());
        };
        let known = FIELDS.iter().find(|(name, _)| *name == field);
        let Some((field, _)) = known else {
            return Err(QueryError::Field(field));
        };
        if value.is_empty() {
            return Err(QueryError::Value {
                field,
                value,
                expected: "a value behind the colon",
            });
        }
        match *field {
            "kind" => self.kinds.push(value.to_lowercase()),
            "verdict" => self.verdicts.push(verdict(field, value)?),
            "host" => self.hosts.push(Pattern(value.to_lowercase())),
            "path" => self.paths.push(Pattern(value)),
            "exe" => self.exes.push(Pattern(value)),
            "rule" => self.rules.push(value),
            "user" => self.users.push(value),
            "machine" => self.machines.push(value),
            "session" => self.sessions.push(value.to_lowercase()),
            "agent" => self.agents.push(value),
            "since" => self.since = Some(moment(field, &value)?),
            "until" => self.until = Some(moment(field, &value)?),
            other => return Err(QueryError::Field(other.to_owned())),
        }
        Ok(())
    }

    /// Tells whether nothing is searched for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Splits a text at white space outside of quotation marks.
fn terms(text: &str) -> Result<Vec<Term>, QueryError> {
    let mut terms = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (field, behind) = field_of(rest);
        let (value, after) = match behind.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or(QueryError::Open)?,
            None => behind.split_at(behind.find(char::is_whitespace).unwrap_or(behind.len())),
        };
        terms.push(Term {
            field: field.map(str::to_lowercase),
            value: value.to_owned(),
        });
        rest = after.trim_start();
    }
    Ok(terms)
}

/// Returns the field at the beginning of a text, and what is behind its colon.
fn field_of(text: &str) -> (Option<&str>, &str) {
    let end = text.find(|c: char| !c.is_ascii_alphabetic());
    match end.map(|end| text.split_at(end)) {
        // An address is a word.
        Some((field, rest)) if !field.is_empty() && !rest.starts_with("://") => rest
            .strip_prefix(':')
            .map_or((None, text), |value| (Some(field), value)),
        Some(_) | None => (None, text),
    }
}

fn verdict(field: &'static str, value: String) -> Result<Verdict, QueryError> {
    let all = [Verdict::Allow, Verdict::Ask, Verdict::Deny];
    let found = all.into_iter().find(|one| one.as_str() == value);
    found.ok_or(QueryError::Value {
        field,
        value,
        expected: "`allow`, `ask` or `deny`",
    })
}

fn moment(field: &'static str, value: &str) -> Result<Moment, QueryError> {
    let span = || {
        value
            .parse::<Span>()
            .ok()
            .map(|span| Moment::Ago(span.millis()))
    };
    let at = |time: Timestamp| u64::try_from(time.as_millisecond()).ok();
    let exact = || at(value.parse::<Timestamp>().ok()?);
    let day = || {
        let date: Date = value.parse().ok()?;
        at(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
    };
    let time = || exact().or_else(day).map(|at| Moment::At(UnixMillis(at)));
    span().or_else(time).ok_or(QueryError::Value {
        field,
        value: value.to_owned(),
        expected: "a span such as `7d`, a date such as `2026-01-31`, or a time in RFC 3339",
    })
}
