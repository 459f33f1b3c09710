//! The first line of a script, read as the kernel reads it: with one space more or one byte less,
//! the judged program would not be the one that runs.

use stockade_types::RawText;

/// Bytes of a program that the kernel looks at (`BINPRM_BUF_SIZE`, linux/binfmts.h).
pub(super) const FIRST_BYTES: usize = 256;

/// The program that the kernel starts for a script, with its one argument (execve(2), "Interpreter
/// scripts").
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interpreter {
    pub(super) path: RawText,
    pub(super) argument: Option<RawText>,
}

impl Interpreter {
    /// Reads the line from the first bytes of a file, with zeros after its end; `None` if the
    /// kernel does not take the file for a script.
    pub(super) fn of(head: &[u8; FIRST_BYTES]) -> Option<Self> {
        let all = head.strip_prefix(b"#!")?;
        let start = all.iter().position(|byte| !is_blank(*byte))?;
        // A NUL ends the search for the end of the line.
        let stop = all.iter().position(|byte| matches!(byte, b'\n' | 0));
        let end = stop.filter(|at| all.get(*at) == Some(&b'\n'));
        if end.is_none() {
            // A path that continues past the last byte is not known completely.
            all.get(start..)?.iter().find(|byte| is_end(**byte))?;
        }
        let line = all.get(start..end.unwrap_or(all.len() - 1))?;
        let last = line.iter().rposition(|byte| !is_blank(*byte))?;
        let line = line.get(..=last)?;
        let separator = line.iter().position(|byte| is_end(*byte));
        let path = line.get(..separator.unwrap_or(line.len()))?;
        let argument = separator
            .filter(|at| line.get(*at) != Some(&0))
            .and_then(|at| line.get(at..))
            .and_then(|rest| rest.get(rest.iter().position(|byte| !is_blank(*byte))?..))
            .map(until_nul);
        Some(Self {
            path: RawText::from_bytes(path),
            argument: argument.map(RawText::from_bytes),
        })
    }

    /// Returns the line for display.
    pub(super) fn line(&self) -> RawText {
        let mut line = self.path.as_bytes().to_vec();
        if let Some(argument) = &self.argument {
            line.push(b' ');
            line.extend_from_slice(argument.as_bytes());
        }
        RawText::from_bytes(line)
    }
}

/// The kernel knows no other blanks.
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The bytes that end a path.
const fn is_end(byte: u8) -> bool {
    is_blank(byte) || byte == 0
}

fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{FIRST_BYTES, Interpreter};

    fn of(text: &[u8]) -> Option<Read> {
        let mut head = [0; FIRST_BYTES];
        let count = text.len().min(FIRST_BYTES);
        head[..count].copy_from_slice(&text[..count]);
        let text =
            |raw: stockade_types::RawText| String::from_utf8(raw.as_bytes().to_vec()).unwrap();
        Interpreter::of(&head).map(|found| (text(found.path), found.argument.map(text)))
    }

    type Read = (String, Option<String>);

    fn is(path: &str, argument: Option<&str>) -> Read {
        (path.to_owned(), argument.map(str::to_owned))
    }

    #[test]
    fn lines_are_read_as_the_kernel_reads_them() {
        assert_eq!(of(b"#!/bin/sh\n").unwrap(), is("/bin/sh", None));
        assert_eq!(
            of(b"#! \t/bin/sh -e -u \t\nx").unwrap(),
            is("/bin/sh", Some("-e -u"))
        );
        assert_eq!(of(b"#!/bin/sh").unwrap(), is("/bin/sh", None));
        assert_eq!(of(b"#!/bin/sh\r\n").unwrap(), is("/bin/sh\r", None));
        // Only space and tab separate.
        assert_eq!(of(b"#!/bin/ok\x0cx\n").unwrap(), is("/bin/ok\x0cx", None));
        assert_eq!(
            of(b"#!/bin/git push\x0b\n").unwrap(),
            is("/bin/git", Some("push\x0b"))
        );
        // A NUL ends the line and each word of it.
        assert_eq!(
            of(b"#!/bin/git push\0x\n").unwrap(),
            is("/bin/git", Some("push"))
        );
        assert_eq!(of(b"#!/bin/git\0 push\n").unwrap(), is("/bin/git", None));
        assert_eq!(of(b"#!\n"), None);
        assert_eq!(of(b"#!   \n"), None);
        assert_eq!(of(b"#/bin/sh\n"), None);
        assert_eq!(of(b""), None);
    }

    #[test]
    fn what_lies_past_the_last_byte_does_not_count() {
        let long = |before: &[u8], fill: u8, after: &[u8]| {
            let mut text = before.to_vec();
            text.resize(FIRST_BYTES - 1, fill);
            text.extend_from_slice(after);
            text
        };
        let argument = long(b"#!/bin/git ", b' ', b"push\n");
        assert_eq!(of(&argument).unwrap(), is("/bin/git", None));
        let mut cut = long(b"#!/bin/git ", b' ', b"");
        let at = cut.len() - 4;
        cut[at..].copy_from_slice(b"push");
        cut.push(b'x');
        assert_eq!(of(&cut).unwrap(), is("/bin/git", Some("push")));
        // A path that just fits is accepted; a truncated one is not.
        let fits = long(b"#!/", b'a', b"");
        assert_eq!(
            of(&fits).unwrap(),
            is(&format!("/{}", "a".repeat(FIRST_BYTES - 4)), None)
        );
        assert_eq!(of(&long(b"#!/bin/", b'a', b"b\n")), None);
    }
}
