//! What a call of a model says, as claims: whoever sent the bytes could have written anything.

use stockade_types::RawText;

use crate::{
    content::Content,
    limits::{ENTRIES_MAX, NAME_BYTES_MAX},
};

/// A tool that the provider runs, so that nothing of its work is seen here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedTool {
    /// Its general name (`web_search`, `mcp`), or the provider's own word.
    pub name: RawText,
    /// Of a remote server: its host, or else its label.
    pub server: Option<RawText>,
    /// How often it was used; 1 where it is only declared.
    pub count: u64,
}

/// What somebody returned of a tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// The id of the call.
    pub call: RawText,
    /// What came of it: the texts, one after the other.
    pub content: Content,
}

/// A tool call that the model asks the agent for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its id, as the model's service gave it; ids can collide.
    pub id: RawText,
    /// The name of the tool.
    pub name: RawText,
    /// Its arguments, as JSON without blanks and with sorted members; as they were sent if they are no
    /// JSON or too long; `None` if they are too long and were not sent as a text.
    pub arguments: Option<Content>,
}

/// A list that has room for a bounded number of entries, and counts the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounded<T> {
    entries: Vec<T>,
    more: u64,
}

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            more: 0,
        }
    }
}

impl<T> Bounded<T> {
    /// Adds an entry, or counts it.
    pub(crate) fn push(&mut self, entry: T) {
        if self.entries.len() < ENTRIES_MAX {
            self.entries.push(entry);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    pub(crate) fn extend(&mut self, entries: impl IntoIterator<Item = T>) {
        entries.into_iter().for_each(|entry| self.push(entry));
    }

    /// Returns the entries that there was room for.
    pub fn entries(&self) -> &[T] {
        &self.entries
    }

    /// Returns how many there were in all.
    pub fn count(&self) -> u64 {
        let kept = u64::try_from(self.entries.len()).unwrap_or(u64::MAX);
        self.more.saturating_add(kept)
    }

    pub(crate) fn entries_mut(&mut self) -> &mut [T] {
        &mut self.entries
    }
}

/// What a request asks of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// It has what every call of its protocol has.
    pub is_call: bool,
    /// The model.
    pub model: Option<RawText>,
    /// The answer is to come in pieces.
    pub streaming: bool,
    /// Tools that the provider may run.
    pub hosted: Bounded<HostedTool>,
    /// Names of the tools that the agent runs.
    pub functions: Bounded<RawText>,
    /// What was said since the model's last words: by the person, or by the agent for it.
    pub prompts: Bounded<Content>,
    /// What came of tool calls since then.
    pub results: Bounded<Returned>,
    /// More was said than could be read.
    pub is_truncated: bool,
}

/// Tokens, as the provider counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All that were read, those from a cache too.
    pub input: Option<u64>,
    /// Those of them that came from a cache.
    pub cached: Option<u64>,
    /// Those of them that were put into a cache.
    pub cache_written: Option<u64>,
    /// All that were made.
    pub output: Option<u64>,
    /// Those of them that the model kept for itself.
    pub reasoning: Option<u64>,
}

/// What a model's service answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// It has what every answer of its protocol has.
    pub is_answer: bool,
    /// The id of the answer.
    pub id: Option<RawText>,
    /// The model that answered.
    pub model: Option<RawText>,
    /// Tokens.
    pub usage: Usage,
    /// Why it ended, in the provider's word.
    pub finish: Option<RawText>,
    /// The kind of an error that it ended with, in the provider's word.
    pub error: Option<RawText>,
    /// Tools that the provider ran.
    pub hosted: Bounded<HostedTool>,
    /// Tool calls that the agent is asked for, those that were whole.
    pub calls: Bounded<Call>,
    /// What the model said in text.
    pub said: Option<Content>,
    /// More was said than could be read.
    pub is_truncated: bool,
    /// It did not end as answers of its protocol do.
    pub is_cut: bool,
}

/// Takes the host out of an address, so that nothing of its path or of a login in it is kept.
pub(crate) fn host_of(url: &[u8]) -> Option<RawText> {
    let after = url.windows(3).position(|part| part == b"://")?;
    let rest = url.get(after + 3..)?;
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#' | b'\\'));
    let authority = rest.get(..end.unwrap_or(rest.len()))?;
    let login = authority.iter().rposition(|byte| *byte == b'@');
    let host = authority.get(login.map_or(0, |at| at + 1)..)?;
    let host = host.get(..host.len().min(NAME_BYTES_MAX))?;
    Some(RawText::from_bytes(host)).filter(|_| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{Bounded, host_of};
    use crate::limits::ENTRIES_MAX;

    #[test]
    fn of_an_address_nothing_but_the_host_is_kept() {
        for (url, host) in [
            ("https://mcp.test/path?token=x", Some("mcp.test")),
            ("https://user:secret@mcp.test:8443/x", Some("mcp.test:8443")),
            ("https://mcp.test", Some("mcp.test")),
            ("https:///x", None),
            ("mcp.test", None),
            ("", None),
        ] {
            let found = host_of(url.as_bytes()).map(|host| host.display());
            assert_eq!(found.as_deref(), host, "{url}");
        }
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        let mut list = Bounded::default();
        (0..=ENTRIES_MAX).for_each(|entry| list.push(entry));
        assert_eq!(list.entries().len(), ENTRIES_MAX);
        assert_eq!(list.count(), u64::try_from(ENTRIES_MAX).unwrap() + 1);
    }
}
