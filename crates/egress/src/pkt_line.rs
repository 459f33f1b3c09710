//! Lines of git's protocol (gitprotocol-common(5)).

/// Digits before a line, which say how long it is with them.
pub(crate) const DIGITS: usize = 4;

/// Writes one line; `text` has at most 65,516 bytes.
pub(crate) fn pkt_line(text: &[u8]) -> Vec<u8> {
    let mut line = format!("{:04x}", DIGITS + text.len()).into_bytes();
    line.extend_from_slice(text);
    line
}
