//! One record as it is written, read in a single pass: a session has tens of thousands, and a person
//! waits for them.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::Value;
use stockade_event::{Cause, Event, Truncated, placeholders};
use stockade_types::{
    Answerer, DecisionId, Digest, ProcessId, RawText, RequestKind, RuleId, SessionId, Subject,
    Target, UnixMillis, Verdict,
};

use crate::compact::Place;

/// One record, with its references.
pub(super) struct Record {
    pub(super) seq: u64,
    pub(super) at: (u64, u64),
    pub(super) source: Option<String>,
    pub(super) fresh: bool,
    pub(super) process: Option<Process>,
    pub(super) scope: Stays<String>,
    pub(super) cause: Stays<Cause>,
    pub(super) truncated: Vec<Truncated>,
    pub(super) decision: Option<Decision>,
    /// The event; what is kept beside it is not in it yet.
    pub(super) event: Event,
}

pub(super) enum Process {
    Known(ProcessId),
    Described(Description),
}

#[derive(Deserialize)]
pub(super) struct Description {
    #[serde(default, deserialize_with = "some_process")]
    pub(super) id: Option<ProcessId>,
    pub(super) exe: Option<RawText>,
    pub(super) cwd: Option<RawText>,
    pub(super) argv: Option<Listed>,
    pub(super) ancestry: Option<Listed>,
}

pub(super) enum Listed {
    Whole(Vec<RawText>),
    Like(Place),
    Behind(RawText, Place),
}

#[derive(Deserialize)]
pub(super) struct Decision {
    pub(super) id: DecisionId,
    pub(super) verdict: Verdict,
    pub(super) kind: RequestKind,
    pub(super) subject: Option<Subject>,
    pub(super) revision: Option<Digest>,
    pub(super) session: Option<SessionId>,
    pub(super) time: Option<UnixMillis>,
    pub(super) target: Aim,
    pub(super) grounds: Reason,
}

/// A target, and its arguments as they are written.
pub(super) struct Aim {
    pub(super) target: Target,
    pub(super) argv: Option<Listed>,
}

pub(super) enum Reason {
    As(u64),
    Given(Grounds),
}

#[derive(Clone, Deserialize)]
pub(super) struct Grounds {
    pub(super) rule: Option<RuleId>,
    #[serde(default)]
    pub(super) answered: Option<Answerer>,
    pub(super) reason: String,
    pub(super) failed_condition: Option<String>,
    pub(super) nearest_allow: Option<String>,
    pub(super) remedy: String,
}

/// The first-level command or the cause of a record.
#[derive(Default)]
pub(super) enum Stays<T> {
    /// There is no such field: it is unchanged for this process.
    #[default]
    Same,
    Now(Option<T>),
}

impl<T> Stays<T> {
    /// Returns the value, given the one before.
    pub(super) fn after(self, before: Option<T>) -> Option<T> {
        match self {
            Self::Same => before,
            Self::Now(value) => value,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Stays<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(Self::Now)
    }
}

/// The fields of a record.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Name {
    Seq,
    At,
    Source,
    Fresh,
    Process,
    Scope,
    Cause,
    Truncated,
    Decision,
    Kind,
    Data,
    /// Of a later version.
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Records)
    }
}

struct Records;

impl<'de> Visitor<'de> for Records {
    type Value = Record;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
        let (mut seq, mut at, mut source, mut fresh) = (None, None, None, None);
        let (mut process, mut scope, mut cause) = (None, None, None);
        let (mut truncated, mut decision) = (None, None);
        let (mut kind, mut data, mut event) = (None::<String>, None::<Value>, None);
        while let Some(name) = map.next_key()? {
            match name {
                Name::Seq => once(&mut seq, "seq", &mut map)?,
                Name::At => once(&mut at, "at", &mut map)?,
                Name::Source => once(&mut source, "source", &mut map)?,
                Name::Fresh => once(&mut fresh, "fresh", &mut map)?,
                Name::Process => once(&mut process, "process", &mut map)?,
                Name::Scope => once(&mut scope, "scope", &mut map)?,
                Name::Cause => once(&mut cause, "cause", &mut map)?,
                Name::Truncated => once(&mut truncated, "truncated", &mut map)?,
                Name::Decision => once(&mut decision, "decision", &mut map)?,
                Name::Kind => once(&mut kind, "kind", &mut map)?,
                Name::Data if event.is_some() || data.is_some() => {
                    return Err(Error::duplicate_field("data"));
                }
                // We write the kind first, so that nothing has to be kept until it is known.
                Name::Data => match &kind {
                    Some(kind) => event = Some(map.next_value_seed(EventOf(kind))?),
                    None => data = Some(map.next_value()?),
                },
                Name::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let kind = kind.ok_or_else(|| Error::missing_field("kind"))?;
        let event = match (event, data) {
            (Some(event), _) => event,
            (None, Some(data)) => EventOf(&kind).deserialize(data).map_err(Error::custom)?,
            (None, None) => return Err(Error::missing_field("data")),
        };
        Ok(Record {
            seq: seq.ok_or_else(|| Error::missing_field("seq"))?,
            at: at.ok_or_else(|| Error::missing_field("at"))?,
            source: source.flatten(),
            fresh: fresh.unwrap_or_default(),
            process: process.flatten(),
            scope: scope.unwrap_or_default(),
            cause: cause.unwrap_or_default(),
            truncated: truncated.unwrap_or_default(),
            decision: decision.flatten(),
            event,
        })
    }
}

/// Reads a field that may be there once.
fn once<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    field: &mut Option<T>,
    name: &'static str,
    map: &mut A,
) -> Result<(), A::Error> {
    if field.is_some() {
        return Err(Error::duplicate_field(name));
    }
    *field = Some(map.next_value()?);
    Ok(())
}

/// Reads an event of a kind from its own fields, with placeholders for those beside it.
struct EventOf<'k>(&'k str);

impl<'de> DeserializeSeed<'de> for EventOf<'_> {
    type Value = Event;

    fn deserialize<D: Deserializer<'de>>(self, data: D) -> Result<Event, D::Error> {
        Event::deserialize(MapAccessDeserializer::new(Tagged {
            kind: Some(self.0),
            data: Some(With {
                inner: data,
                beside: placeholders(self.0),
            }),
        }))
    }
}

/// The two members of an event: its kind, and its fields.
struct Tagged<'k, D> {
    kind: Option<&'k str>,
    data: Option<With<D>>,
}

impl<'de, D: Deserializer<'de>> MapAccess<'de> for Tagged<'_, D> {
    type Error = D::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, D::Error> {
        let name = match (&self.kind, &self.data) {
            (Some(_), _) => "kind",
            (None, Some(_)) => "data",
            (None, None) => return Ok(None),
        };
        seed.deserialize(name.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, D::Error> {
        match (self.kind.take(), self.data.take()) {
            (Some(kind), data) => {
                self.data = data;
                seed.deserialize(kind.into_deserializer())
            }
            (None, Some(data)) => seed.deserialize(data),
            (None, None) => Err(Error::custom("an event has two members")),
        }
    }
}

/// An object with more members, in front of its own.
struct With<D> {
    inner: D,
    beside: &'static [(&'static str, &'static str)],
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for With<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_map(Over {
            visitor,
            beside: self.beside,
        })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Over<V> {
    visitor: V,
    beside: &'static [(&'static str, &'static str)],
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Over<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Chain {
            map,
            beside: self.beside,
            placeholder: None,
        })
    }
}

struct Chain<A> {
    map: A,
    beside: &'static [(&'static str, &'static str)],
    placeholder: Option<&'static str>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Chain<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let Some(((name, text), rest)) = self.beside.split_first() else {
            return self.map.next_key_seed(seed);
        };
        self.beside = rest;
        self.placeholder = Some(text);
        seed.deserialize((*name).into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        match self.placeholder.take() {
            Some(text) => seed
                .deserialize(&mut serde_json::Deserializer::from_str(text))
                .map_err(Error::custom),
            None => self.map.next_value_seed(seed),
        }
    }
}

impl<'de> Deserialize<'de> for Aim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Aims)
    }
}

struct Aims;

impl<'de> Visitor<'de> for Aims {
    type Value = Aim;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a target")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Aim, A::Error> {
        let mut argv = None;
        let rest = Beside {
            map,
            argv: &mut argv,
        };
        let target = Target::deserialize(MapAccessDeserializer::new(rest))?;
        Ok(Aim { target, argv })
    }
}

/// The members of a target without its arguments, which are put beside.
struct Beside<'l, A> {
    map: A,
    argv: &'l mut Option<Listed>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Beside<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(name) = self.map.next_key::<String>()? {
            if name != "argv" {
                return seed.deserialize(name.into_deserializer()).map(Some);
            }
            once(self.argv, "argv", &mut self.map)?;
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// What a value is by its form: text, a number, a list or an object.
trait Formed: Sized {
    const EXPECTED: &'static str;

    fn of_text<E: Error>(_: &str) -> Result<Self, E> {
        Err(E::custom(Self::EXPECTED))
    }

    fn of_number<E: Error>(_: u64) -> Result<Self, E> {
        Err(E::custom(Self::EXPECTED))
    }

    fn of_list<'de, A: SeqAccess<'de>>(_: A) -> Result<Self, A::Error> {
        Err(Error::custom(Self::EXPECTED))
    }

    fn of_object<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error>;
}

struct Forms<T>(PhantomData<T>);

impl<'de, T: Formed> Visitor<'de> for Forms<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::of_text(text)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        T::of_number(number)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<T, A::Error> {
        T::of_list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::of_object(map)
    }
}

macro_rules! by_form {
    ($($name:ty),+) => {
        $(impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Forms(PhantomData))
            }
        })+
    };
}

by_form!(Process, Listed, Reason);

impl Formed for Process {
    const EXPECTED: &'static str = "expected the id of a process or what describes one";

    fn of_text<E: Error>(text: &str) -> Result<Self, E> {
        process_id(text).map(Self::Known).map_err(E::custom)
    }

    fn of_object<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        Description::deserialize(MapAccessDeserializer::new(map)).map(Self::Described)
    }
}

impl Formed for Listed {
    const EXPECTED: &'static str = "expected a list or where it is";

    fn of_list<'de, A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(Self::Whole)
    }

    fn of_object<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        #[derive(Deserialize)]
        struct At {
            like: Option<Place>,
            first: Option<RawText>,
            then: Option<Place>,
        }
        let at = At::deserialize(MapAccessDeserializer::new(map))?;
        match (at.like, at.first, at.then) {
            (Some(place), _, _) => Ok(Self::Like(place)),
            (None, Some(first), Some(then)) => Ok(Self::Behind(first, then)),
            (None, _, _) => Err(Error::custom(Self::EXPECTED)),
        }
    }
}

impl Formed for Reason {
    const EXPECTED: &'static str = "expected grounds or the event that has them";

    fn of_number<E: Error>(number: u64) -> Result<Self, E> {
        Ok(Self::As(number))
    }

    fn of_object<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        Grounds::deserialize(MapAccessDeserializer::new(map)).map(Self::Given)
    }
}

fn some_process<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ProcessId>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let read = text.as_deref().map(process_id).transpose();
    read.map_err(Error::custom)
}

fn process_id(text: &str) -> Result<ProcessId, String> {
    text.split_once('.')
        .and_then(|(pid, start)| {
            Some(ProcessId {
                pid: pid.parse().ok()?,
                start: start.parse().ok()?,
            })
        })
        .ok_or_else(|| format!("`{}` is no process", text.escape_debug()))
}
