//! The binary form of OTLP: the fields that are read, of messages nested in a fixed way, so that the
//! depth of what is sent costs nothing (protobuf.dev, encoding; opentelemetry-proto, `collector`).

use std::borrow::Cow;

use super::{
    Malformed, Signal, Taken,
    record::{Record, Value},
};

/// A field of a message.
enum Field<'a> {
    Number(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
    /// Of a type that is not read.
    Other,
}

/// The fields of a message, one after the other.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    const fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let cut = Malformed("a field is longer than what is there");
        let (field, rest) = self.rest.split_at_checked(length).ok_or(cut)?;
        self.rest = rest;
        Ok(field)
    }

    /// Reads a number of up to ten bytes.
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0_u64;
        for place in 0..10 {
            let byte = *self.take(1)?.first().unwrap_or(&0);
            number |= u64::from(byte & 0x7f) << (7 * place).min(63);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed("a number has more than ten bytes"))
    }

    fn fixed(&mut self) -> Result<u64, Malformed> {
        let bytes = self.take(8)?.first_chunk().copied().unwrap_or_default();
        Ok(u64::from_le_bytes(bytes))
    }

    /// Returns the next field, with its number.
    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Number(self.varint()?),
            1 => Field::Fixed(self.fixed()?),
            2 => {
                let length = usize::try_from(self.varint()?);
                Field::Bytes(self.take(length.map_err(|_| Malformed("a length is no length"))?)?)
            }
            5 => {
                self.take(4)?;
                Field::Other
            }
            _ => return Err(Malformed("a field has a type that is not used")),
        };
        match tag >> 3 {
            0 => Err(Malformed("a field has no number")),
            number => Ok(Some((number, field))),
        }
    }
}

/// Calls `each` with every message that a message has in field `number`.
fn messages<'a>(
    within: &'a [u8],
    number: u64,
    each: &mut dyn FnMut(&'a [u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut fields = Fields::new(within);
    while let Some((own, field)) = fields.next()? {
        if let Field::Bytes(message) = field
            && own == number
        {
            each(message)?;
        }
    }
    Ok(())
}

/// Returns the last text that a message has in field `number`.
fn text(within: &[u8], number: u64) -> Result<&[u8], Malformed> {
    let mut found: &[u8] = &[];
    let mut fields = Fields::new(within);
    while let Some((own, field)) = fields.next()? {
        if let Field::Bytes(text) = field
            && own == number
        {
            found = text;
        }
    }
    Ok(found)
}

/// Reads a request of an exporter.
pub(super) fn read(signal: Signal, body: &[u8], taken: &mut Taken) -> Result<(), Malformed> {
    messages(body, 1, &mut |resource| {
        messages(resource, 2, &mut |scope| {
            let mut name: &[u8] = &[];
            messages(scope, 1, &mut |own| {
                name = text(own, 1)?;
                Ok(())
            })?;
            messages(scope, 2, &mut |record| {
                match signal {
                    Signal::Logs => taken.take(&log(name, record)?),
                    Signal::Traces => taken.take(&span(name, record)?),
                    Signal::Metrics => taken.count(),
                }
                Ok(())
            })
        })
    })
}

fn log<'a>(scope: &'a [u8], message: &'a [u8]) -> Result<Record<'a>, Malformed> {
    let mut record = Record {
        scope: scope.into(),
        ..Record::default()
    };
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next()? {
        match field {
            (5, Field::Bytes(body)) => {
                if let Value::Text(text) = value(body)? {
                    record.body = text;
                }
            }
            (6, Field::Bytes(pair)) => attribute(pair, &mut record)?,
            (12, Field::Bytes(name)) => record.event = name.into(),
            _ => {}
        }
    }
    Ok(record)
}

fn span<'a>(scope: &'a [u8], message: &'a [u8]) -> Result<Record<'a>, Malformed> {
    let mut record = Record {
        scope: scope.into(),
        ..Record::default()
    };
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next()? {
        match field {
            (7, Field::Fixed(start)) => record.start = start,
            (8, Field::Fixed(end)) => record.end = end,
            (9, Field::Bytes(pair)) => attribute(pair, &mut record)?,
            _ => {}
        }
    }
    Ok(record)
}

fn attribute<'a>(pair: &'a [u8], record: &mut Record<'a>) -> Result<(), Malformed> {
    let (mut name, mut value_of) = (Cow::Borrowed(&[][..]), Value::None);
    let mut fields = Fields::new(pair);
    while let Some(field) = fields.next()? {
        match field {
            (1, Field::Bytes(text)) => name = text.into(),
            (2, Field::Bytes(message)) => value_of = value(message)?,
            _ => {}
        }
    }
    record.add(name, value_of);
    Ok(())
}

fn value(message: &[u8]) -> Result<Value<'_>, Malformed> {
    let mut found = Value::None;
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next()? {
        match field {
            (1 | 7, Field::Bytes(text)) => found = Value::Text(text.into()),
            (2, Field::Number(flag)) => found = Value::Flag(flag != 0),
            (3, Field::Number(number)) => found = Value::Whole(number.cast_signed()),
            (4, Field::Fixed(bits)) => found = Value::Real(f64::from_bits(bits)),
            (5, Field::Bytes(list)) => found = first(list)?,
            _ => {}
        }
    }
    Ok(found)
}

/// Returns the first text of a list; what is nested in it is not looked at.
fn first(list: &[u8]) -> Result<Value<'_>, Malformed> {
    let mut found = Value::None;
    messages(list, 1, &mut |item| {
        if found == Value::None {
            let text = text(item, 1)?;
            if !text.is_empty() {
                found = Value::First(text.into());
            }
        }
        Ok(())
    })?;
    Ok(found)
}
