//! The text about the boundary in the file that an agent reads as its user's instructions.

/// These mark our part; everything between them is rewritten at each start.
const BEGIN: &str = "<!-- stockade: begin -->";
const END: &str = "<!-- stockade: end -->";

/// The text, for an agent that can run commands.
pub(crate) const TEXT: &str = "\
# You work inside a Stockade boundary

The owner of this machine decides what this session can reach. Read `/run/stockade/boundary.md` before
you blame a tool or the machine.

- A refusal looks like `Permission denied`, `Read-only file system`, a name that does not resolve, a TLS
  alert `access denied`, or HTTP status 403. `/run/stockade/why` then prints the reason and the one step
  that would change it. Do not work around it: tell the owner what you need and why.
- Some commands and hosts need the owner's answer first. Such a call waits for the answer, for minutes if
  need be. If your tool says that the command still runs (it yields), wait and check again; do not start
  it a second time, and do not assume that it hangs.
- Your own sandbox and approval prompts are off here, because this boundary replaces them.
";

/// Appends the text to the user's own.
pub(crate) fn with(own: &[u8], text: &str) -> Vec<u8> {
    // The first line end is ours, whatever the user's text ends with: it is removed with the text.
    let block = format!("\n{BEGIN}\n{text}{END}\n");
    [own, block.as_bytes()].concat()
}

/// Removes the text again; what a program wrote around it stays.
pub(crate) fn without(contents: &[u8]) -> Vec<u8> {
    let find = |mark: &str, from: usize| {
        let rest = contents.get(from..)?;
        let mut windows = rest.windows(mark.len());
        windows
            .position(|window| window == mark.as_bytes())
            .map(|at| from + at)
    };
    let Some(begin) = find(BEGIN, 0) else {
        return contents.to_vec();
    };
    let Some(end) = find(END, begin) else {
        return contents.to_vec();
    };
    let after = contents.get(end + END.len()..).unwrap_or_default();
    let after = after.strip_prefix(b"\n").unwrap_or(after);
    let before = contents.get(..begin).unwrap_or_default();
    let before = before.strip_suffix(b"\n").unwrap_or(before);
    [before, after].concat()
}

#[cfg(test)]
mod tests {
    use super::{TEXT, with, without};

    #[test]
    fn the_text_comes_out_as_it_went_in() {
        for own in ["", "be brief\n", "be brief", "\n", "a\n\nb\n"] {
            let told = with(own.as_bytes(), TEXT);
            let text = String::from_utf8(told.clone()).unwrap();
            assert!(text.starts_with(own) && text.contains(TEXT), "{text}");
            assert_eq!(without(&told), own.as_bytes(), "{own:?}");
            assert_eq!(without(&with(own.as_bytes(), "other\n")), own.as_bytes());
        }
        let told = with(b"mine\n", TEXT);
        let more = [told, b"remembered\n".to_vec()].concat();
        assert_eq!(without(&more), b"mine\nremembered\n");
    }
}
