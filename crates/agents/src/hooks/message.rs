//! One message to a hook, read as it comes.

use std::fmt;

use stockade_types::RawText;

use super::{HookAgent, Moment, Told};
use crate::{
    content::{Content, name},
    intent::Intent,
    json::{Json, Shape},
    limits::{BODY_BYTES_MAX, NAME_BYTES_MAX},
    tree::Tree,
};

/// What an agent tells a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// It is about to call a tool.
    Before {
        /// The agent's own name of the moment.
        moment: &'static str,
        /// The call.
        tool: ToolUse,
    },
    /// A tool has returned.
    After {
        /// The call.
        tool: ToolUse,
        /// What came of it.
        result: Result,
    },
    /// A person has said something.
    Prompt(Content),
    /// Something of which nothing is claimed.
    Other,
}

/// A tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolUse {
    /// Its id, if the agent says one; ids can collide.
    pub id: Option<RawText>,
    /// The tool, in the agent's word.
    pub tool: RawText,
    /// The server of MCP whose tool it is.
    pub server: Option<RawText>,
    /// What it is called with.
    pub arguments: Arguments,
}

/// The arguments of a tool call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// As JSON without blanks and with sorted members, up to what there was no room for; empty if there
    /// are none.
    pub json: Vec<u8>,
    /// All of them are there.
    pub is_whole: bool,
}

/// What came of a tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Result {
    /// Bytes of its texts.
    pub bytes: u64,
    /// As it was told, if there was room for it.
    pub content: Option<Content>,
}

/// Why a message is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookError {
    /// It is longer than any agent writes.
    TooLong,
    /// It is no JSON, or not whole.
    NotJson,
    /// It is no object, or has no name of a moment that this agent has.
    UnknownMoment(RawText),
    /// A member that must be there is missing, is no text, or is there twice.
    Member(&'static str),
    /// A text that is no UTF-8.
    NotText,
}

/// Reads a message.
#[derive(Debug)]
pub struct Reader {
    agent: HookAgent,
    json: Json,
    bytes: u64,
}

impl Reader {
    /// Begins to read what this agent writes.
    pub fn new(agent: HookAgent) -> Self {
        Self {
            agent,
            json: Json::new(Shape::ALL).with_long_texts(),
            bytes: 0,
        }
    }

    /// Reads on.
    ///
    /// # Errors
    /// When there is more than any agent writes.
    pub fn feed(&mut self, bytes: &[u8]) -> std::result::Result<(), HookError> {
        let more = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(more);
        if self.bytes > BODY_BYTES_MAX {
            return Err(HookError::TooLong);
        }
        self.json.feed(bytes);
        Ok(())
    }

    /// Says what was told.
    ///
    /// # Errors
    /// When it is not what this agent writes.
    pub fn finish(self) -> std::result::Result<Message, HookError> {
        let (tree, extent) = self.json.finish();
        let tree = tree
            .filter(|tree| tree.is_object() && !extent.is_cut)
            .ok_or(HookError::NotJson)?;
        let event = text(&tree, "hook_event_name")?.unwrap_or_default();
        let form = self.agent.form();
        let mut known = form.moments.iter();
        let Some((moment, what)) = known.find(|(known, _)| known.as_bytes() == event) else {
            return Err(HookError::UnknownMoment(name(event)));
        };
        match *what {
            Moment::Before(told) => Ok(Message::Before {
                moment,
                tool: tool_use(&tree, told, extent.is_truncated)?,
            }),
            Moment::After(told, results) => Ok(Message::After {
                tool: tool_use(&tree, told, extent.is_truncated)?,
                result: result(&tree, results),
            }),
            Moment::Prompt => {
                let prompt = only(&tree, "prompt")?.and_then(Tree::said);
                let prompt = prompt.ok_or(HookError::Member("prompt"))?;
                // Some agents say nothing at all when they go on by themselves.
                if prompt.bytes() == 0 {
                    return Ok(Message::Other);
                }
                Ok(Message::Prompt(prompt.content()))
            }
            Moment::Other => Ok(Message::Other),
        }
    }
}

fn tool_use(
    tree: &Tree,
    told: Told,
    is_truncated: bool,
) -> std::result::Result<ToolUse, HookError> {
    // Where there are two, this one is the model's.
    let id = match text(tree, "tool_call_id")? {
        Some(id) => Some(id),
        None => text(tree, "tool_use_id")?,
    };
    let (tool, mut arguments) = match told {
        Told::Named => {
            let tool = text(tree, "tool_name")?;
            let tool = tool.ok_or(HookError::Member("tool_name"))?;
            // Without any, some agents leave the member out.
            let input = only(tree, "tool_input")?;
            (tool, Arguments::of(input)?)
        }
        Told::Flat(tool, members) => {
            let all = members.iter().map(|name| Ok((name, only(tree, name)?)));
            let all: std::result::Result<Vec<_>, HookError> = all.collect();
            let present = all?
                .into_iter()
                .filter_map(|(name, value)| Some((name.as_bytes().to_vec(), value?.clone())));
            let object = Tree::Object(present.collect());
            (tool.as_bytes(), Arguments::of(Some(&object))?)
        }
    };
    arguments.is_whole &= !is_truncated;
    if tool.is_empty() || tool.len() > NAME_BYTES_MAX {
        return Err(HookError::Member("tool_name"));
    }
    let named = tree
        .at(&["mcp_context", "server_name"])
        .and_then(Tree::text);
    let server = named.or_else(|| server(tool)).map(name);
    Ok(ToolUse {
        id: id.filter(|id| !id.is_empty()).map(name),
        tool: name(tool),
        server,
        arguments,
    })
}

/// Finds the server in a name of a tool, as the agents compose it: `mcp__SERVER__TOOL`.
fn server(tool: &[u8]) -> Option<&[u8]> {
    let rest = tool.strip_prefix(b"mcp__")?;
    let end = rest.windows(2).position(|two| two == b"__")?;
    rest.get(..end).filter(|server| !server.is_empty())
}

/// Returns a member that is there once at most: who reads the first and who reads the last of two would
/// see different calls.
fn only<'t>(
    tree: &'t Tree,
    member: &'static str,
) -> std::result::Result<Option<&'t Tree>, HookError> {
    if tree
        .names()
        .filter(|name| *name == member.as_bytes())
        .count()
        > 1
    {
        return Err(HookError::Member(member));
    }
    Ok(tree
        .get(member)
        .filter(|value| !matches!(value, Tree::Null)))
}

/// Returns the text of a member.
fn text<'t>(
    tree: &'t Tree,
    member: &'static str,
) -> std::result::Result<Option<&'t [u8]>, HookError> {
    let Some(value) = only(tree, member)? else {
        return Ok(None);
    };
    let text = value.text().ok_or(HookError::Member(member))?;
    if std::str::from_utf8(text).is_err() {
        return Err(HookError::NotText);
    }
    Ok(Some(text))
}

/// Finds what came of a call.
fn result(tree: &Tree, members: &[&str]) -> Result {
    let Some(value) = members.iter().find_map(|name| tree.get(name)) else {
        return Result {
            bytes: 0,
            content: None,
        };
    };
    let content = match value {
        Tree::Text(text) => Some(text.content()),
        Tree::Null
        | Tree::Flag(_)
        | Tree::Number(_)
        | Tree::List(_)
        | Tree::Object(_)
        | Tree::Cut => value.arguments(),
    };
    Result {
        bytes: bytes(value),
        content,
    }
}

/// Counts the bytes of all texts in a value.
fn bytes(value: &Tree) -> u64 {
    match value {
        Tree::Text(text) => text.bytes(),
        Tree::List(items) => items.iter().map(bytes).fold(0, u64::saturating_add),
        Tree::Object(members) => {
            let all = members.iter().map(|(_, value)| bytes(value));
            all.fold(0, u64::saturating_add)
        }
        Tree::Null | Tree::Flag(_) | Tree::Number(_) | Tree::Cut => 0,
    }
}

impl Arguments {
    /// Takes arguments; some agents write them as a text with JSON.
    fn of(value: Option<&Tree>) -> std::result::Result<Self, HookError> {
        let Some(value) = value else {
            return Ok(Self {
                json: Vec::new(),
                is_whole: true,
            });
        };
        let inner = value.text().and_then(|text| {
            let mut json = Json::new(Shape::ALL).with_long_texts();
            json.feed(text);
            let (tree, extent) = json.finish();
            let whole = !extent.is_cut && !extent.is_truncated;
            tree.filter(|tree| tree.is_object() && whole)
        });
        let (json, is_whole) = inner.as_ref().unwrap_or(value).as_far_as_kept();
        if std::str::from_utf8(&json).is_err() {
            return Err(HookError::NotText);
        }
        Ok(Self { json, is_whole })
    }

    /// Takes arguments as a server of tools gets them: never as a text with JSON.
    pub(crate) fn of_call(value: Option<&Tree>) -> std::result::Result<Self, HookError> {
        let Some(value) = value else {
            return Self::of(None);
        };
        let (json, is_whole) = value.as_far_as_kept();
        if std::str::from_utf8(&json).is_err() {
            return Err(HookError::NotText);
        }
        Ok(Self { json, is_whole })
    }

    /// Returns them as a claim about a call has them; `None` if there was no room for them.
    pub fn content(&self) -> Option<Content> {
        let is_there = self.is_whole && !self.json.is_empty();
        is_there.then(|| Content::of(&self.json))
    }
}

impl ToolUse {
    /// Says what the call names.
    pub fn intent(&self) -> Intent {
        let mut intent = Intent::of_arguments(&self.arguments.json);
        // Codex has its patches in a member of this name.
        if self.tool.as_bytes() == b"apply_patch" {
            intent.commands.clear();
        }
        intent
    }
}

impl fmt::Display for HookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the message is longer than {BODY_BYTES_MAX} bytes"),
            Self::NotJson => f.write_str("the message is no JSON object, or not whole"),
            Self::UnknownMoment(event) if event.as_bytes().is_empty() => {
                f.write_str("the message has no `hook_event_name`")
            }
            Self::UnknownMoment(event) => {
                write!(
                    f,
                    "`hook_event_name` is `{event}`, which this agent does not have"
                )
            }
            Self::Member(name) => write!(
                f,
                "`{name}` is missing, longer than any agent writes, there twice, or not of its type"
            ),
            Self::NotText => f.write_str("a text of the message is no UTF-8"),
        }
    }
}

impl std::error::Error for HookError {}
