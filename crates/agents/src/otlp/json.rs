//! The JSON form of OTLP. Nothing but one record is held at a time; what is not read is skipped where it
//! stands, and `serde_json` bounds its depth.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{
    Malformed, Signal, Taken,
    record::{Record, Value},
};
use crate::limits::ATTRIBUTES_MAX;

/// Reads a request of an exporter.
pub(super) fn read(signal: Signal, body: &[u8], taken: &mut Taken) -> Result<(), Malformed> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let names: [&'static str; 3] = match signal {
        Signal::Logs => ["resourceLogs", "scopeLogs", "logRecords"],
        Signal::Traces => ["resourceSpans", "scopeSpans", "spans"],
        Signal::Metrics => ["resourceMetrics", "scopeMetrics", "metrics"],
    };
    let walk = Walk {
        signal,
        names: &names,
        scope: Cow::Borrowed(&[]),
        taken,
    };
    walk.deserialize(&mut json)
        .and_then(|()| json.end())
        .map_err(|_| Malformed("no JSON of the right form"))
}

/// An object on the way to the records: of its members, the list that leads there.
struct Walk<'t, 'de> {
    signal: Signal,
    /// The names of the lists that are still to come.
    names: &'t [&'static str],
    scope: Cow<'de, [u8]>,
    taken: &'t mut Taken,
}

impl<'de> DeserializeSeed<'de> for Walk<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = map.next_key()? {
            let wanted = self.names.first();
            if key.as_ref() == b"scope" {
                let scope = map.next_value::<Option<Scope<'de>>>()?;
                self.scope = scope.unwrap_or_default().name.unwrap_or_default().0;
            } else if wanted.is_some_and(|name| key.as_ref() == name.as_bytes()) {
                map.next_value_seed(Each(&mut self))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// The list that leads to the records, or has them.
struct Each<'w, 't, 'de>(&'w mut Walk<'t, 'de>);

impl<'de> DeserializeSeed<'de> for Each<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Each<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Walk {
            signal,
            names,
            scope,
            taken,
        } = self.0;
        let below = names.get(1..).unwrap_or_default();
        loop {
            if !below.is_empty() {
                let walk = Walk {
                    signal: *signal,
                    names: below,
                    scope: scope.clone(),
                    taken,
                };
                if list.next_element_seed(walk)?.is_none() {
                    return Ok(());
                }
            } else if *signal == Signal::Metrics {
                if list.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(());
                }
                taken.count();
            } else {
                let Some(form) = list.next_element::<Form<'de>>()? else {
                    return Ok(());
                };
                taken.take(&form.record(scope.clone()));
            }
        }
    }
}

/// Who made the records.
#[derive(Default, Deserialize)]
struct Scope<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
}

/// A log record or a span.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Form<'a> {
    #[serde(borrow)]
    attributes: Option<Attributes<'a>>,
    #[serde(borrow)]
    body: Option<AnyValue<'a>>,
    #[serde(borrow)]
    event_name: Option<Text<'a>>,
    start_time_unix_nano: Option<Number>,
    end_time_unix_nano: Option<Number>,
}

impl<'a> Form<'a> {
    fn record(self, scope: Cow<'a, [u8]>) -> Record<'a> {
        let nanos = |time: Option<Number>| match time {
            Some(Number(Value::Whole(time))) => u64::try_from(time).unwrap_or_default(),
            _ => 0,
        };
        let mut record = Record {
            scope,
            event: self.event_name.map(|name| name.0).unwrap_or_default(),
            start: nanos(self.start_time_unix_nano),
            end: nanos(self.end_time_unix_nano),
            ..Record::default()
        };
        if let Some(Value::Text(text)) = self.body.map(AnyValue::value) {
            record.body = text;
        }
        for (name, value) in self.attributes.unwrap_or_default().0 {
            record.add(name, value);
        }
        record
    }
}

/// A text that need not be UTF-8: exporters cut texts between the halves of a character.
#[derive(Clone, Default)]
struct Text<'a>(Cow<'a, [u8]>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_bytes(TextVisitor).map(Self)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Cow<'de, [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_bytes<E>(self, text: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_bytes<E>(self, text: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_vec()))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text.as_bytes()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.as_bytes().to_vec()))
    }
}

/// A number; those of 64 bits are texts in OTLP, and some exporters write them as numbers.
struct Number(Value<'static>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(NumberVisitor)
    }
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
        Ok(Number(Value::Whole(number)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
        Ok(Number(
            i64::try_from(number).map_or(Value::None, Value::Whole),
        ))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Number, E> {
        Ok(Number(Value::Real(number)))
    }

    fn visit_str<E>(self, digits: &str) -> Result<Number, E> {
        let whole = digits.parse().ok().map(Value::Whole);
        let real = || digits.parse().ok().map(Value::Real);
        Ok(Number(whole.or_else(real).unwrap_or(Value::None)))
    }
}

/// A value, as far as it is read: of a list, the first text in it.
#[derive(Deserialize)]
struct AnyValue<'a> {
    #[serde(borrow, rename = "stringValue")]
    text: Option<Text<'a>>,
    #[serde(rename = "boolValue")]
    flag: Option<bool>,
    #[serde(rename = "intValue")]
    whole: Option<Number>,
    #[serde(rename = "doubleValue")]
    real: Option<Number>,
    #[serde(borrow, rename = "arrayValue")]
    list: Option<List<'a>>,
}

impl<'a> AnyValue<'a> {
    fn value(self) -> Value<'a> {
        let text = self.text.map(|text| Value::Text(text.0));
        let first = |list: List<'a>| Some(Value::First(list.values?.0?));
        text.or(self.flag.map(Value::Flag))
            .or(self.whole.map(|number| number.0))
            .or(self.real.map(|number| number.0))
            .or_else(|| first(self.list?))
            .unwrap_or(Value::None)
    }
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    values: Option<First<'a>>,
}

/// The first text of a list; what is nested in it is skipped.
struct First<'a>(Option<Cow<'a, [u8]>>);

impl<'de: 'a, 'a> Deserialize<'de> for First<'a> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_seq(FirstVisitor)
    }
}

struct FirstVisitor;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    #[serde(borrow)]
    string_value: Option<Text<'a>>,
}

impl<'de> Visitor<'de> for FirstVisitor {
    type Value = First<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<First<'de>, A::Error> {
        let mut first = None;
        while let Some(item) = list.next_element::<Item<'de>>()? {
            let text = item.string_value.map(|text| text.0);
            first = first.or(text.filter(|text| !text.is_empty()));
        }
        Ok(First(first))
    }
}

/// The attributes of a record, as many as there is room for.
#[derive(Default)]
struct Attributes<'a>(Vec<(Cow<'a, [u8]>, Value<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Attributes<'a> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_seq(AttributesVisitor)
    }
}

struct AttributesVisitor;

#[derive(Deserialize)]
struct Attribute<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow)]
    value: Option<AnyValue<'a>>,
}

impl<'de> Visitor<'de> for AttributesVisitor {
    type Value = Attributes<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while all.len() < ATTRIBUTES_MAX {
            let Some(one) = list.next_element::<Attribute<'de>>()? else {
                return Ok(Attributes(all));
            };
            all.push((one.key.0, one.value.map_or(Value::None, AnyValue::value)));
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Attributes(all))
    }
}
