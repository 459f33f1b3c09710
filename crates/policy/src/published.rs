//! A request as it leaves the machine: in a form with a version, with its digest, and with nothing that
//! this program would not write.

use memchr::memmem;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;
use stockade_types::Digest;

use crate::{HttpRequest, Meaning, Request};

/// The version of the form, and of what the digest covers.
const VERSION: u32 = 1;

/// A request with its digest.
///
/// In JSON `{"version":1,"digest":…,"request":…}`. What is read is refused if it has another version, a
/// field that this program does not know, at any depth, or another digest than the request has. So two
/// programs that read it know the same request, or one of them says that it does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Published {
    version: u32,
    digest: Digest,
    request: Request,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    version: u32,
    digest: Digest,
    request: Value,
}

impl Published {
    /// Publishes a request.
    pub fn new(request: Request) -> Self {
        Self {
            version: VERSION,
            digest: request.digest(),
            request,
        }
    }

    /// Returns the request.
    pub const fn request(&self) -> &Request {
        &self.request
    }

    /// Returns [`Request::digest`] of the request.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    fn check(read: Read) -> Result<Self, String> {
        let Read {
            version,
            digest,
            request: value,
        } = read;
        if version != VERSION {
            return Err(format!(
                "the request has the form {version}; this program knows {VERSION}"
            ));
        }
        let request = Request::deserialize(&value).map_err(|error| error.to_string())?;
        let written = serde_json::to_value(&request).map_err(|error| error.to_string())?;
        if written != value {
            let place = difference(&value, &written).unwrap_or_default();
            return Err(format!(
                "`request{place}` is not as this program would write it: it has a field that is not known, \
                 or lacks one"
            ));
        }
        let found = request.digest();
        if found != digest {
            return Err(format!(
                "the request has the digest {found}, not {digest}, as it says"
            ));
        }
        if let Request::Http(http) = &request {
            is_shown_of(http)?;
        }
        Ok(Self {
            version,
            digest,
            request,
        })
    }
}

impl<'de> Deserialize<'de> for Published {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::check(Read::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Returns where two values begin to differ, as `.exec.subject`.
fn difference(one: &Value, other: &Value) -> Option<String> {
    if one == other {
        return None;
    }
    let inner = match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let mut names = one.keys().chain(other.keys());
            names.find_map(|name| match (one.get(name), other.get(name)) {
                (Some(one), Some(other)) => {
                    difference(one, other).map(|rest| format!(".{name}{rest}"))
                }
                (Some(_), None) | (None, Some(_)) => Some(format!(".{name}")),
                (None, None) => None,
            })
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let mut pairs = one.iter().zip(other).enumerate();
            pairs.find_map(|(index, (one, other))| {
                difference(one, other).map(|rest| format!("[{index}]{rest}"))
            })
        }
        _ => None,
    };
    Some(inner.unwrap_or_default())
}

/// Checks that what people see of a request is the request with marks in the places of secrets: whoever
/// sends it could have written anything there, and the digest is about the request alone.
fn is_shown_of(http: &HttpRequest) -> Result<(), String> {
    let Some(shown) = &http.shown else {
        return Ok(());
    };
    let words = |all: &[Meaning]| -> Vec<Vec<u8>> {
        let words = all.iter().map(|one| one.in_words().as_bytes().to_vec());
        words.collect()
    };
    let (meant, seen) = (words(&http.meaning), words(&shown.meaning));
    let fits = hides(shown.path.as_bytes(), http.path.as_bytes())
        && meant.len() == seen.len()
        && seen
            .iter()
            .zip(&meant)
            .all(|(seen, meant)| hides(seen, meant));
    fits.then_some(()).ok_or_else(|| {
        "`request.http.shown` is not the request with marks in the places of secrets".to_owned()
    })
}

/// What stands for a secret that has no mark.
const HIDDEN: &[u8] = b"(hidden)";

/// Tells whether `shown` is `whole` with at least one byte of it in the place of each mark.
fn hides(shown: &[u8], whole: &[u8]) -> bool {
    let mut parts = Vec::new();
    let (mut part, mut rest) = (0, shown);
    while !rest.is_empty() {
        let at = shown.len() - rest.len();
        match mark(rest) {
            Some(length) => {
                parts.push(shown.get(part..at).unwrap_or_default());
                part = at + length;
                rest = rest.get(length..).unwrap_or_default();
            }
            None => rest = rest.get(1..).unwrap_or_default(),
        }
    }
    let last = shown.get(part..).unwrap_or_default();
    let Some((first, middle)) = parts.split_first() else {
        return last == whole;
    };
    let Some(mut left) = whole.strip_prefix(*first) else {
        return false;
    };
    for part in middle {
        // The earliest place leaves most for the parts that follow.
        let from = left.get(1..).unwrap_or_default();
        let found = if part.is_empty() {
            (!left.is_empty()).then_some(0)
        } else {
            memmem::find(from, part)
        };
        match found {
            Some(at) => left = from.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    left.len() > last.len() && left.ends_with(last)
}

/// Returns the length of the mark with which a text begins: `(hidden)`, or `[` words `:` and eight
/// hexadecimal digits `]`.
fn mark(text: &[u8]) -> Option<usize> {
    if text.starts_with(HIDDEN) {
        return Some(HIDDEN.len());
    }
    let end = text
        .strip_prefix(b"[")?
        .iter()
        .position(|byte| *byte == b']')?
        + 1;
    let inner = text.get(1..end)?;
    let (kind, digits) = inner.split_at_checked(inner.len().checked_sub(8)?)?;
    let kind = kind.strip_suffix(b":")?;
    let is_kind = |byte: &u8| byte.is_ascii_alphanumeric() || b" `-_.".contains(byte);
    let is_mark =
        !kind.is_empty() && kind.iter().all(is_kind) && digits.iter().all(u8::is_ascii_hexdigit);
    is_mark.then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::hides;

    #[test]
    fn a_mark_stands_for_something_and_nothing_else_changes() {
        for (shown, whole) in [
            ("/a", "/a"),
            ("/a?k=[github-token:5f0c9a11]&b=1", "/a?k=ghp_x&b=1"),
            ("[a:00000000][b:00000000]/x", "abc/x"),
            ("u:(hidden)@h", "u:p@h"),
            ("[credential `svc`:00000000]", "x"),
        ] {
            assert!(hides(shown.as_bytes(), whole.as_bytes()), "{shown} {whole}");
        }
        for (shown, whole) in [
            ("/get", "/delete"),
            ("/a?k=[github-token:5f0c9a11]&b=2", "/a?k=ghp_x&b=1"),
            ("/a[x:00000000]", "/a"),
            ("/a[x:0000000]", "/abc"),
            ("[a:00000000][b:00000000]", "a"),
            ("", "/a"),
            ("/a", ""),
        ] {
            assert!(
                !hides(shown.as_bytes(), whole.as_bytes()),
                "{shown} {whole}"
            );
        }
    }
}
