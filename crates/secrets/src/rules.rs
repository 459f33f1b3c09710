//! Whether a text that begins like a secret is one.

use super::formats::{Charset, Format, TAIL_BYTES_MAX};

/// What a text is, as far as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Is {
    /// Something else.
    Other,
    /// More of it must be read.
    Open,
    /// A secret of so many bytes, with its beginning.
    Secret(usize),
}

/// Bytes of a text that any rule looks at.
pub(super) const TEXT_BYTES_MAX: usize = TAIL_BYTES_MAX + 64;

/// Reads `text`, which begins as `format` says with `begin` bytes; `whole` tells that no more comes.
pub(super) fn token(format: &Format, begin: usize, text: &[u8], whole: bool) -> Is {
    let tail = text.get(begin..).unwrap_or_default();
    let length = run(tail, format.tail, format.max + 1);
    if length > format.max {
        return Is::Other;
    }
    if length == tail.len() && !whole {
        return Is::Open;
    }
    let own = tail.get(..length).unwrap_or_default();
    if length < format.min || !is_random(own, entropy_min(format.tail)) {
        return Is::Other;
    }
    Is::Secret(begin + length)
}

/// Reads a block that begins with [`super::formats::KEY_BLOCK`]: a label that ends with
/// `PRIVATE KEY`, and at least forty characters of the key.
pub(super) fn key_block(begin: usize, text: &[u8], whole: bool) -> Is {
    const LABEL_BYTES_MAX: usize = 32;
    const BODY_BYTES: usize = 40;
    let open = |rest: &[u8]| {
        if whole || rest.len() > 128 {
            Is::Other
        } else {
            Is::Open
        }
    };
    let rest = text.get(begin..).unwrap_or_default();
    let label = rest
        .iter()
        .take(LABEL_BYTES_MAX)
        .take_while(|byte| byte.is_ascii_uppercase() || matches!(**byte, b' ' | b'+'))
        .count();
    let Some(after) = rest.get(label..).filter(|after| !after.is_empty()) else {
        return open(rest);
    };
    // A form of the web writes spaces so.
    let label = rest.get(..label).unwrap_or_default().iter();
    let label: Vec<u8> = label
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    if !label.ends_with(b"PRIVATE KEY") && !label.ends_with(b"PRIVATE KEY BLOCK") {
        return Is::Other;
    }
    if after.len() < 5 {
        return open(rest);
    }
    let Some(mut body) = after.strip_prefix(b"-----") else {
        return Is::Other;
    };
    // Line ends, as they are or as strings of programs have them.
    for end in [&b"\r"[..], b"\\r", b"\n", b"\\n"] {
        body = body.strip_prefix(end).unwrap_or(body);
    }
    if body.len() < BODY_BYTES {
        return if run(body, Charset::Base64, BODY_BYTES) == body.len() || body == b"\\" {
            open(rest)
        } else {
            Is::Other
        };
    }
    if run(body, Charset::Base64, BODY_BYTES) < BODY_BYTES {
        return Is::Other;
    }
    Is::Secret(text.len() - body.len() + BODY_BYTES)
}

/// Reads what follows a word of settings: the rest of a name, a sign that gives it a value, and a value
/// that no person made up.
pub(super) fn word(begin: usize, text: &[u8], whole: bool) -> Is {
    const NAME_BYTES_MAX: usize = 24;
    const VALUE_BYTES: (usize, usize) = (20, 128);
    let rest = text.get(begin..).unwrap_or_default();
    let name = run(rest, Charset::Dash, NAME_BYTES_MAX + 1);
    let Some(mut after) = rest.get(name..).filter(|after| !after.is_empty()) else {
        return if whole || name > NAME_BYTES_MAX {
            Is::Other
        } else {
            Is::Open
        };
    };
    let mut given = false;
    for part in [
        &b"\\"[..],
        b"\"",
        b"'",
        b" ",
        b":",
        b"=",
        b">",
        b" ",
        b"\\",
        b"\"",
        b"'",
    ] {
        given |= after.starts_with(part) && matches!(part, b":" | b"=");
        after = after.strip_prefix(part).unwrap_or(after);
        if after.is_empty() {
            return if whole { Is::Other } else { Is::Open };
        }
    }
    if !given {
        return Is::Other;
    }
    let value = |byte: u8| Charset::Dash.has(byte) || matches!(byte, b'+' | b'/' | b'.' | b'~');
    let length = after
        .iter()
        .take(VALUE_BYTES.1 + 1)
        .take_while(|byte| value(**byte))
        .count();
    if length == after.len() && !whole && length <= VALUE_BYTES.1 {
        return Is::Open;
    }
    let own = after.get(..length).unwrap_or_default();
    if length < VALUE_BYTES.0 || length > VALUE_BYTES.1 || !is_made_up(own, after.get(length)) {
        return Is::Other;
    }
    Is::Secret(text.len() - after.len() + length)
}

/// Tells whether a value of a setting is random: all three of upper case, lower case and digits, several
/// of each, and as many different characters as chance has. Names of programs, paths, versions and
/// digests are not.
fn is_made_up(value: &[u8], next: Option<&u8>) -> bool {
    const ENTROPY_MIN: f64 = 3.8;
    // A call or a field of a program.
    if matches!(next, Some(b'(' | b'[' | b'{' | b'<' | b'$' | b'%')) {
        return false;
    }
    let count = |is: fn(&u8) -> bool| value.iter().filter(|byte| is(byte)).count();
    let classes = [
        count(u8::is_ascii_uppercase),
        count(u8::is_ascii_lowercase),
        count(u8::is_ascii_digit),
    ];
    // Words that are joined have few changes of case and digits beside each other.
    let changes = value.windows(2).filter(|pair| match pair {
        [one, other] => class(*one) != class(*other),
        _ => false,
    });
    classes.iter().all(|class| *class >= 3)
        && classes
            .iter()
            .last()
            .is_some_and(|digits| digits * 10 >= value.len())
        && changes.count() * 5 >= value.len() * 2
        && entropy(value) >= ENTROPY_MIN
}

fn class(byte: u8) -> u8 {
    match byte {
        b'A'..=b'Z' => 0,
        b'a'..=b'z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    }
}

/// How random the tail of a token is at least, in bits of each character: an example is not.
const fn entropy_min(charset: Charset) -> f64 {
    match charset {
        Charset::Hex => 2.5,
        Charset::Base32 => 2.8,
        Charset::Alnum | Charset::Word | Charset::Dash | Charset::Dotted | Charset::Base64 => 3.2,
    }
}

fn is_random(tail: &[u8], bits: f64) -> bool {
    !tail.ends_with(b"EXAMPLE") && entropy(tail) >= bits
}

/// Returns how many bytes at the beginning are of `charset`, at most `most`.
fn run(bytes: &[u8], charset: Charset, most: usize) -> usize {
    let of = bytes
        .iter()
        .take(most)
        .take_while(|byte| charset.has(**byte));
    of.count()
}

/// Returns the Shannon entropy of the characters of a text, in bits of each.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of some hundred bytes are exact"
)]
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let all = bytes.len().max(1) as f64;
    let bits = |count: &u32| {
        let share = f64::from(*count) / all;
        -share * share.log2()
    };
    counts.iter().filter(|count| **count > 0).map(bits).sum()
}
