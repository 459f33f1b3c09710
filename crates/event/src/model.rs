//! The parts of an event about a call of a model. All of them are claims of whoever sent the bytes.

use serde::{Deserialize, Serialize};
use stockade_types::{Digest, RawText};

/// Tokens of one call, as the provider counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelUsage {
    /// All that were read, those from a cache too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<u64>,
    /// Those of them that came from a cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached: Option<u64>,
    /// Those of them that were put into a cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_written: Option<u64>,
    /// All that were made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<u64>,
    /// Those of them that the model kept for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<u64>,
}

/// A tool that the provider runs, where nobody sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostedToolSeen {
    /// Its general name, such as `web_search` or `mcp`, or the provider's own word.
    pub name: RawText,
    /// Of a remote server: its host, or else its label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<RawText>,
    /// How often it was used; 1 if it is only declared.
    pub count: u64,
}

/// A text that was said, without the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextSeen {
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of it.
    pub digest: Digest,
}

/// What came of a tool call, without the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolResultSeen {
    /// The id of the call.
    pub call: RawText,
    /// Its text.
    #[serde(flatten)]
    pub text: TextSeen,
}

/// A tool of a server, as it is compared from here on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolPin {
    /// Its name, without the server; empty for what is said of the server itself.
    pub tool: RawText,
    /// SHA-256 of its description and schema, as JSON in one form.
    pub digest: Digest,
    /// What that was before, if it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Digest>,
}

/// A tool call that the model asks the agent for, without its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCallSeen {
    /// Its id; ids can collide.
    pub id: RawText,
    /// The name of the tool.
    pub name: RawText,
    /// Its arguments as JSON without blanks and with sorted members, or as they were sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<TextSeen>,
}

/// Entries of a list, and how many there were in all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed<T> {
    /// How many there were.
    pub count: u64,
    /// The first of them.
    pub first: Vec<T>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self {
            count: 0,
            first: Vec::new(),
        }
    }
}
