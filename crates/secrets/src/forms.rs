//! The forms in which a text travels: as it is, in base64, in hexadecimal digits and with escapes.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

use super::rules::TEXT_BYTES_MAX;

/// Most bytes that a text takes in any form: six for each.
pub(super) const WRITTEN_BYTES_MAX: usize = 6 * TEXT_BYTES_MAX;

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it is.
    Plain,
    /// Base64, by the alphabet of RFC 4648 sections 4 or 5; the text begins so many bytes into a group
    /// of three.
    Base64(u8),
    /// Two hexadecimal digits for each byte.
    Hex,
    /// `%` and two hexadecimal digits for each byte, or for some (RFC 3986).
    Percent,
    /// `\u00` and two hexadecimal digits for each byte, or for some (RFC 8259).
    Json,
}

impl Form {
    pub(super) const PLAIN: &str = "plain";
    pub(super) const PERCENT: &str = "percent-encoded";
    pub(super) const JSON: &str = "json-escaped";

    /// Returns its name, as events show it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => Self::PLAIN,
            Self::Base64(_) => "base64",
            Self::Hex => "hex",
            Self::Percent => Self::PERCENT,
            Self::Json => Self::JSON,
        }
    }

    /// Returns how many characters a group of the form can have before its text.
    pub(super) const fn before(self) -> usize {
        match self {
            Self::Base64(0) | Self::Plain | Self::Hex | Self::Percent | Self::Json => 0,
            Self::Base64(1) => 2,
            Self::Base64(_) => 3,
        }
    }
}

/// Returns each way to write `text`, as far as it does not depend on what is around it.
pub(super) fn written(text: &[u8]) -> Vec<(Form, Vec<u8>)> {
    let mut all = vec![(Form::Plain, text.to_vec())];
    for shift in 0..3_u8 {
        let standard = base64(text, shift);
        let safe: Vec<u8> = standard
            .iter()
            .map(|byte| match byte {
                b'+' => b'-',
                b'/' => b'_',
                other => *other,
            })
            .collect();
        if safe != standard {
            all.push((Form::Base64(shift), safe));
        }
        all.push((Form::Base64(shift), standard));
    }
    for (form, before) in [(Form::Hex, ""), (Form::Percent, "%"), (Form::Json, "\\u00")] {
        let lower = digits(text, before);
        let upper = digits(text, before)
            .to_ascii_uppercase()
            .replace("\\U", "\\u");
        if upper != lower {
            all.push((form, upper.into_bytes()));
        }
        all.push((form, lower.into_bytes()));
    }
    all
}

/// Writes each byte as `before` and two lower-case digits.
fn digits(text: &[u8], before: &str) -> String {
    text.iter().fold(String::new(), |all, byte| {
        format!("{all}{before}{byte:02x}")
    })
}

/// Returns the characters of base64 that `text` alone decides if it begins `shift` bytes into a group.
fn base64(text: &[u8], shift: u8) -> Vec<u8> {
    let mut padded = vec![0; usize::from(shift)];
    padded.extend_from_slice(text);
    let encoded = STANDARD_NO_PAD.encode(&padded).into_bytes();
    let first = Form::Base64(shift).before();
    let whole = padded.len() * 8 / 6;
    encoded.get(first..whole).unwrap_or_default().to_vec()
}

/// Reads the text that is written from `at` on, and tells whether that is all of it. `None` where there
/// is no text of this form.
pub(super) fn read(form: Form, bytes: &[u8], at: usize) -> Option<(Vec<u8>, Ends)> {
    match form {
        Form::Plain => {
            let here = bytes.get(at..)?;
            let most = here.len().min(TEXT_BYTES_MAX);
            let ends = Ends::of(here.len() > most);
            Some((here.get(..most)?.to_vec(), ends))
        }
        Form::Base64(shift) => read_base64(bytes, at.checked_sub(form.before())?, shift),
        Form::Hex => read_pairs(bytes, at, "", false),
        Form::Percent => read_pairs(bytes, at, "%", true),
        Form::Json => read_pairs(bytes, at, "\\u00", true),
    }
}

/// Where a text that was read ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// There: what follows is not of its form, or is more than any rule looks at.
    Here,
    /// Where the bytes that are there do.
    WithBytes,
}

impl Ends {
    const fn of(here: bool) -> Self {
        if here { Self::Here } else { Self::WithBytes }
    }
}

fn read_base64(bytes: &[u8], start: usize, shift: u8) -> Option<(Vec<u8>, Ends)> {
    let mut text = Vec::new();
    let (mut bits, mut held) = (0_u32, 0_u8);
    let mut ends = Ends::WithBytes;
    for (read, byte) in bytes.get(start..)?.iter().enumerate() {
        let Some(value) = sextet(*byte) else {
            // Lines of a mail or of a file.
            if matches!(byte, b'\r' | b'\n') && read <= WRITTEN_BYTES_MAX {
                continue;
            }
            ends = Ends::Here;
            break;
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            text.push(u8::try_from((bits >> held) & 0xff).unwrap_or_default());
            bits &= (1 << held) - 1;
        }
        if text.len() > TEXT_BYTES_MAX || read > WRITTEN_BYTES_MAX {
            ends = Ends::Here;
            break;
        }
    }
    let text = text.get(usize::from(shift)..)?.to_vec();
    Some((text, ends))
}

const fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

/// Reads bytes that are written as `before` and two digits each; with `mixed`, others stand for
/// themselves.
fn read_pairs(bytes: &[u8], at: usize, before: &str, mixed: bool) -> Option<(Vec<u8>, Ends)> {
    let mut rest = bytes.get(at..)?;
    let mut text = Vec::new();
    while text.len() <= TEXT_BYTES_MAX {
        let Some(first) = rest.first() else {
            return Some((text, Ends::WithBytes));
        };
        let pair = rest.strip_prefix(before.as_bytes()).unwrap_or_default();
        match pair {
            [high, low, ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                if let (Some(high), Some(low)) = (digit(high), digit(low)) {
                    text.push(u8::try_from(high * 16 + low).unwrap_or_default());
                    rest = pair.get(2..).unwrap_or_default();
                    continue;
                }
            }
            // The end cuts one off.
            _ if rest.len() < before.len() + 2 && (mixed || rest.len() < 2) => {
                let cut =
                    before.as_bytes().starts_with(rest) || rest.starts_with(before.as_bytes());
                if cut {
                    return Some((text, Ends::WithBytes));
                }
            }
            _ => {}
        }
        if !mixed {
            break;
        }
        text.push(*first);
        rest = rest.get(1..).unwrap_or_default();
    }
    Some((text, Ends::Here))
}
