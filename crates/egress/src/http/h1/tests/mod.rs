//! Heads and bodies: what is understood, and above all what is not.

mod any;
mod bodies;
mod fuzz;
mod heads;
mod urls;

use super::{
    Malformed,
    chunked::{Chunked, Manner},
    head::{RequestHead, ResponseHead, parse_request, parse_response},
    lines::Scanner,
};

fn request(text: &str) -> Result<RequestHead, &'static str> {
    match parse_request(&mut Scanner::default(), text.as_bytes()) {
        Ok(Some((head, length))) => {
            assert_eq!(length, text.len());
            Ok(head)
        }
        Ok(None) => Err("partial"),
        Err(Malformed(reason)) => Err(reason),
    }
}

fn response(text: &str, method: &str) -> Result<ResponseHead, &'static str> {
    match parse_response(&mut Scanner::default(), text.as_bytes(), method) {
        Ok(Some((head, _))) => Ok(head),
        Ok(None) => Err("partial"),
        Err(Malformed(reason)) => Err(reason),
    }
}

/// Feeds `bytes` in pieces of `step`; returns how many belong to the body and whether it ended.
fn feed(manner: Manner, bytes: &[u8], step: usize) -> Result<(usize, bool), Malformed> {
    let mut chunked = Chunked::new(manner);
    let mut total = 0;
    for piece in bytes.chunks(step) {
        let taken = chunked.feed(piece)?;
        total += taken;
        if taken < piece.len() {
            break;
        }
    }
    Ok((total, chunked.is_done()))
}

type NameAndValue = (String, Vec<u8>);

/// A lenient reader as oracle: what we accept, it must understand in the same way.
fn oracle(text: &[u8]) -> Option<(String, String, Vec<NameAndValue>)> {
    let mut lines = text
        .strip_suffix(b"\r\n\r\n")?
        .split(|b| *b == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = String::from_utf8_lossy(lines.next()?).into_owned();
    let mut words = first.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let fields = lines.map(|line| {
        let at = line.iter().position(|b| *b == b':').unwrap_or(line.len());
        let name = String::from_utf8_lossy(&line[..at])
            .trim()
            .to_ascii_lowercase();
        let value = line.get(at + 1..).unwrap_or_default().trim_ascii().to_vec();
        (name, value)
    });
    Some((method, target, fields.collect()))
}
