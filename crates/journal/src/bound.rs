//! Keeps one record within its limit, and records what was cut.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use stockade_event::Truncated;
use stockade_types::Digest;

/// Largest record in bytes. Sixteen pages: an ordinary decision takes one or two kilobytes, so
/// only hostile or broken input gets here, and one `write(2)` of it stays cheap.
pub(crate) const RECORD_BYTES_MAX: usize = 64 * 1024;

/// Limits for texts (bytes as written in JSON) and lists (items), tried in turn. With the last pair
/// every kind fits: five lists of 16 and about thirty texts of 256 are below 32 KiB.
const CUTS: [Limits; 4] = [(8192, 256), (2048, 64), (512, 32), (256, 16)];

/// Bytes of a text, items of a list.
type Limits = (usize, usize);

/// Rewrites a record that was too large, with its largest fields cut.
///
/// Returns `None` if even the smallest cut does not fit, which no [`stockade_event::Event`]
/// reaches.
pub(crate) fn shrink(record: &[u8]) -> Result<Option<Vec<u8>>, serde_json::Error> {
    let mut whole: Value = serde_json::from_slice(record)?;
    let before = whole
        .as_object_mut()
        .and_then(|whole| whole.remove("truncated"));
    let before: Vec<Truncated> = before
        .map(serde_json::from_value)
        .transpose()?
        .unwrap_or_default();
    let mut value = whole.clone();
    let before = before.into_iter().map(|cut| (cut.field.clone(), cut));
    let mut cuts: BTreeMap<String, Truncated> = before.collect();
    for limits in CUTS {
        cut(&mut value, &whole, &mut String::new(), limits, &mut cuts);
        let body = in_record_order(&value, cuts.values())?;
        if body.len() <= RECORD_BYTES_MAX {
            return Ok(Some(body));
        }
    }
    Ok(None)
}

/// Writes the fields in the order of the record, on which `verify` relies for `seq`.
fn in_record_order<'a>(
    value: &Value,
    cuts: impl Iterator<Item = &'a Truncated>,
) -> Result<Vec<u8>, serde_json::Error> {
    const HEAD: [&str; 8] = [
        "seq", "at", "source", "fresh", "process", "scope", "cause", "decision",
    ];
    let mut body = vec![b'{'];
    let mut field = |name: &str, value: &dyn erased::Json| -> Result<(), serde_json::Error> {
        if body.len() > 1 {
            body.push(b',');
        }
        body.extend_from_slice(format!("\"{name}\":").as_bytes());
        value.write(&mut body)
    };
    for name in HEAD {
        if let Some(value) = value.get(name) {
            field(name, value)?;
        }
    }
    field("truncated", &cuts.collect::<Vec<_>>())?;
    for name in ["kind", "data"] {
        if let Some(value) = value.get(name) {
            field(name, value)?;
        }
    }
    body.push(b'}');
    Ok(body)
}

/// Lets one closure write values of different types.
mod erased {
    use serde::Serialize;

    pub(super) trait Json {
        fn write(&self, into: &mut Vec<u8>) -> Result<(), serde_json::Error>;
    }

    impl<T: Serialize> Json for T {
        fn write(&self, into: &mut Vec<u8>) -> Result<(), serde_json::Error> {
            serde_json::to_writer(into, self)
        }
    }
}

/// Cuts `value`, which may already be cut, and describes each cut relative to `whole`.
fn cut(
    value: &mut Value,
    whole: &Value,
    path: &mut String,
    limits: Limits,
    cuts: &mut BTreeMap<String, Truncated>,
) {
    match (value, whole) {
        (Value::String(text), Value::String(whole)) => {
            let end = cut_point(text, limits.0);
            if end < text.len() {
                text.truncate(end);
                note(cuts, path, whole.len(), || Digest::of(whole.as_bytes()));
            }
        }
        (Value::Array(list), Value::Array(whole)) => {
            if list.len() > limits.1 {
                list.truncate(limits.1);
                // Notes about items that are now gone would only take space.
                let items = format!("{path}.");
                cuts.retain(|field, _| !field.starts_with(&items));
                note(cuts, path, whole.len(), || Digest::of(&json_bytes(whole)));
            }
            for (index, (item, whole)) in list.iter_mut().zip(whole).enumerate() {
                nested(item, whole, path, &index.to_string(), limits, cuts);
            }
        }
        (Value::Object(fields), Value::Object(whole)) => {
            for (name, field) in fields {
                if let Some(whole) = whole.get(name) {
                    nested(field, whole, path, name, limits, cuts);
                }
            }
        }
        _ => {}
    }
}

fn nested(
    value: &mut Value,
    whole: &Value,
    path: &mut String,
    name: &str,
    limits: Limits,
    cuts: &mut BTreeMap<String, Truncated>,
) {
    let outer = path.len();
    if outer > 0 {
        path.push('.');
    }
    path.push_str(name);
    cut(value, whole, path, limits, cuts);
    path.truncate(outer);
}

fn note(
    cuts: &mut BTreeMap<String, Truncated>,
    path: &str,
    size: usize,
    digest: impl FnOnce() -> Digest,
) {
    if !cuts.contains_key(path) {
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        cuts.insert(
            path.to_owned(),
            Truncated {
                field: path.to_owned(),
                size,
                digest: digest(),
            },
        );
    }
}

fn json_bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// Returns where to cut `text` so that its JSON form has at most `bytes_max` bytes, never within
/// a character and never within one of the escapes of raw text (`\\` and `\xHH`).
pub(crate) fn cut_point(text: &str, bytes_max: usize) -> usize {
    let mut end = 0;
    let mut cost = 0;
    while let Some(rest) = text.get(end..).filter(|rest| !rest.is_empty()) {
        let (step, price) = token(rest);
        cost += price;
        if cost > bytes_max {
            break;
        }
        end += step;
    }
    end
}

/// Returns the length of the first token of `rest` and what it costs in JSON.
fn token(rest: &str) -> (usize, usize) {
    if rest.starts_with("\\\\") {
        return (2, 4);
    }
    if rest.starts_with("\\x") && rest.is_char_boundary(4.min(rest.len())) {
        let step = 4.min(rest.len());
        return (step, step + 1);
    }
    match rest.chars().next() {
        Some('"' | '\\') => (1, 2),
        // `\u0001`; serde_json has shorter forms for a few, which only leaves space.
        Some(c) if u32::from(c) < 0x20 => (1, 6),
        Some(c) => (c.len_utf8(), c.len_utf8()),
        None => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stockade_types::RawText;

    use super::cut_point;

    proptest! {
        #[test]
        fn cut_raw_text_is_still_raw_text(bytes in prop::collection::vec(any::<u8>(), 0..400), max in 0_usize..300) {
            let whole = RawText::from_bytes(bytes);
            let serde_json::Value::String(text) = serde_json::to_value(&whole).unwrap() else {
                panic!("raw text is a JSON string")
            };
            let cut = &text[..cut_point(&text, max)];
            let json = serde_json::to_string(cut).unwrap();
            prop_assert!(json.len() <= max + 2, "{json}");
            let back: RawText = serde_json::from_str(&json).unwrap();
            prop_assert!(whole.as_bytes().starts_with(back.as_bytes()));
        }
    }
}
