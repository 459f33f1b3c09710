//! The lines of a head: where they end, and what one header field is.

use super::Malformed;
use crate::{
    grammar::is_token,
    http::Field,
    limits::{HEAD_BYTES_MAX, HEADER_LINES_MAX},
};

/// Finds the end of a head that arrives in pieces, looking at each byte once.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    seen: usize,
    line_start: usize,
}

impl Scanner {
    /// Returns the length of the head with its empty line, or `None` while it is not complete.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        while let Some(byte) = bytes.get(self.seen) {
            let before = self.seen.checked_sub(1).and_then(|at| bytes.get(at));
            let after_return = before == Some(&b'\r') && self.seen > self.line_start;
            match byte {
                b'\n' if !after_return => return Err(Malformed("a line ends without `\\r`")),
                b'\n' => {
                    let empty = self.seen == self.line_start + 1;
                    self.seen += 1;
                    if empty {
                        return Ok(Some(self.seen));
                    }
                    self.line_start = self.seen;
                }
                _ if after_return => return Err(Malformed("`\\r` without `\\n`")),
                0 => return Err(Malformed("a NUL byte in the head")),
                _ => self.seen += 1,
            }
            if self.seen > HEAD_BYTES_MAX {
                return Err(Malformed("the head is too long"));
            }
        }
        Ok(None)
    }
}

/// Splits a complete head into its first line and its fields.
pub(crate) fn split(head: &[u8]) -> Result<(&[u8], Vec<Field<'_>>), Malformed> {
    let text = head
        .strip_suffix(b"\r\n\r\n")
        .ok_or(Malformed("the head has no end"))?;
    let mut lines = Lines(Some(text));
    let first = lines.next().ok_or(Malformed("the head is empty"))?;
    let mut fields = Vec::new();
    for line in lines {
        if fields.len() == HEADER_LINES_MAX {
            return Err(Malformed("too many header lines"));
        }
        fields.push(field(line)?);
    }
    Ok((first, fields))
}

struct Lines<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0?;
        let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") else {
            self.0 = None;
            return Some(rest);
        };
        let (line, after) = rest.split_at(at);
        self.0 = after.get(2..);
        Some(line)
    }
}

/// Reads one header line without its end (RFC 9112 section 5).
pub(crate) fn field(line: &[u8]) -> Result<Field<'_>, Malformed> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Malformed("a folded header line"));
    }
    let colon = line
        .iter()
        .position(|byte| *byte == b':')
        .ok_or(Malformed("a header line without a colon"))?;
    let (name, rest) = line.split_at(colon);
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err(Malformed(
            "a header name has a character that names do not have",
        ));
    }
    let value = rest.get(1..).unwrap_or_default();
    if value
        .iter()
        .any(|byte| matches!(byte, 0..=8 | 10..=31 | 127))
    {
        return Err(Malformed("a control character in a header value"));
    }
    Ok(Field {
        name,
        value: trim(value),
    })
}

/// Removes spaces and tabs at both ends.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Iterates over the members of a comma separated list, without empty ones.
pub(crate) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(trim)
        .filter(|member| !member.is_empty())
}
