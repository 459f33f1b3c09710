//! A tool call, taken apart once, so that the check of each rule is cheap.

use std::{borrow::Cow, cell::OnceCell};

use stockade_types::RawText;

use super::{
    Argument, ToolRequest,
    names::{folded, is_place},
    request::NAME_BYTES_MAX,
};
use crate::pattern::{Glob, glob::Case, path::without_dots};

/// What agents write in front of the tools of MCP servers, and between a server and its tool.
const MCP: &[u8] = b"mcp__";
const BETWEEN: &[u8] = b"__";
/// Most bytes of a path that is compared, without what dots take away: the kernel takes no more at a time
/// (`PATH_MAX`). A longer one could be any.
pub(super) const PLACE_BYTES_MAX: usize = 4096;
/// Most ways to split a name into server and tool that are tried.
const SPLITS_MAX: usize = 16;

#[derive(Debug)]
pub(crate) struct ToolFeatures<'r> {
    pub(crate) request: &'r ToolRequest,
    /// Each name that the tool could have in a rule.
    names: Vec<Cow<'r, [u8]>>,
    /// Each server that it could be of.
    servers: Vec<&'r [u8]>,
    /// The name with its server, if that has one meaning; of a tool of the agent itself, its name.
    whole: Option<Cow<'r, [u8]>>,
    /// The name without its server, if that has one meaning.
    short: Option<&'r [u8]>,
    /// A name is too long to be known, so it could be any.
    is_any: bool,
    pub(super) values: Vec<Value<'r>>,
}

/// One argument, with what is computed of it when a rule needs it.
#[derive(Debug)]
pub(super) struct Value<'r> {
    pub(super) argument: &'r Argument,
    pub(super) folded: Vec<u8>,
    pub(super) is_place: bool,
    words: OnceCell<Vec<u8>>,
    paths: OnceCell<Vec<Vec<u8>>>,
}

impl<'r> ToolFeatures<'r> {
    pub(crate) fn new(request: &'r ToolRequest) -> Self {
        let tool = request.tool.as_bytes();
        let server = request.server.as_ref().map(RawText::as_bytes);
        let is_any =
            tool.len() > NAME_BYTES_MAX || server.is_some_and(|name| name.len() > NAME_BYTES_MAX);
        let values = request.arguments.values().iter().map(Value::new).collect();
        let mut features = Self {
            request,
            names: vec![Cow::Borrowed(tool)],
            servers: server.into_iter().collect(),
            whole: None,
            short: None,
            is_any,
            values,
        };
        match (server, after_mcp(tool)) {
            _ if is_any => {}
            (Some(server), _) => features.of_server(tool, server),
            (None, Some(rest)) => features.of_some_server(tool, rest),
            (None, None) => {
                features.whole = Some(Cow::Borrowed(tool));
                features.short = Some(tool);
            }
        }
        features
    }

    /// Takes a tool whose server is known; its name may contain that.
    fn of_server(&mut self, tool: &'r [u8], server: &'r [u8]) {
        let rest = after_mcp(tool);
        let rest = rest.and_then(|rest| rest.strip_prefix(server)?.strip_prefix(BETWEEN));
        let short = rest.unwrap_or(tool);
        let whole = [MCP, server, BETWEEN, short].concat();
        self.names.push(Cow::Borrowed(short));
        self.short = Some(short);
        if splits([server, BETWEEN, short].concat().as_slice()).len() == 1 {
            self.whole = Some(Cow::Owned(whole.clone()));
        }
        self.names.push(Cow::Owned(whole));
    }

    /// Takes a tool whose name alone says of which server it is; it can say that in several ways.
    fn of_some_server(&mut self, tool: &'r [u8], rest: &'r [u8]) {
        let places = splits(rest);
        for at in &places {
            let (server, short) = rest.split_at_checked(*at).unwrap_or((rest, &[]));
            let short = short.strip_prefix(BETWEEN).unwrap_or(short);
            self.servers.push(server);
            self.names.push(Cow::Borrowed(short));
            if places.len() == 1 && tool.starts_with(MCP) {
                self.short = Some(short);
                self.whole = Some(Cow::Borrowed(tool));
            }
        }
        if places.is_empty() {
            self.servers.push(rest);
        }
        self.is_any |= places.len() >= SPLITS_MAX;
    }

    /// Returns the name without its server, and the server, empty for a tool of the agent itself; `None`
    /// if the name has several meanings.
    pub(crate) fn named(&self) -> Option<(&[u8], &[u8])> {
        match (self.short?, self.servers.as_slice()) {
            (name, []) => Some((name, &[])),
            (name, [server]) => Some((name, server)),
            (_, [..]) => None,
        }
    }

    /// Returns the names by which an index finds rules; `None` if it could have any.
    pub(super) fn index_names(&self) -> Option<impl Iterator<Item = &[u8]>> {
        (!self.is_any).then(|| self.names.iter().map(AsRef::as_ref))
    }

    pub(super) fn could_be(&self, tool: &Glob) -> bool {
        let mut names = self.names.iter();
        self.is_any || names.any(|name| tool.matches(name, Case::Ignore))
    }

    /// Whether the tool is certainly one of these. A server names its tools as it likes, so the name alone
    /// means a tool of the agent itself, unless the rule names servers.
    pub(super) fn is_surely(&self, tool: &Glob, names_servers: bool) -> bool {
        let matches = |name: &[u8]| tool.matches(name, Case::Exact);
        let short = self
            .short
            .filter(|_| names_servers && !self.servers.is_empty());
        !self.is_any
            && (tool.is_any() && !names_servers
                || self.whole.as_deref().is_some_and(matches)
                || short.is_some_and(matches))
    }

    pub(super) fn could_be_of(&self, servers: &[Glob]) -> bool {
        let is_one = |server: &&[u8]| servers.iter().any(|own| own.matches(server, Case::Ignore));
        self.is_any || self.servers.iter().any(is_one)
    }

    pub(super) fn is_surely_of(&self, servers: &[Glob]) -> bool {
        match self.servers.as_slice() {
            [one] if !self.is_any => servers.iter().any(|own| own.matches(one, Case::Exact)),
            _ => false,
        }
    }

    /// Returns the path below the workspace of an absolute path without dots; `None` if it is elsewhere,
    /// or if the workspace is not known.
    pub(super) fn below_workspace<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        let workspace = self.request.workspace.as_ref()?.as_bytes();
        path.strip_prefix(workspace)?.strip_prefix(b"/")
    }

    /// Returns a path without dots as an absolute one; `None` if it is relative and the process does not
    /// work in the workspace, so that it could be anywhere.
    pub(super) fn absolute<'p>(&self, path: &'p [u8]) -> Option<Cow<'p, [u8]>> {
        if path.starts_with(b"/") {
            return Some(Cow::Borrowed(path));
        }
        let cwd = self.request.subject.cwd.as_bytes();
        let is_workspace = self
            .request
            .workspace
            .as_ref()
            .is_some_and(|own| own.as_bytes() == cwd);
        (is_workspace || self.below_workspace(cwd).is_some())
            .then(|| Cow::Owned([cwd, b"/", path].concat()))
    }
}

/// Returns what comes after the sign of a server's tool, in any letter case.
fn after_mcp(tool: &[u8]) -> Option<&[u8]> {
    let (sign, rest) = tool.split_at_checked(MCP.len())?;
    sign.eq_ignore_ascii_case(MCP).then_some(rest)
}

/// Returns where a name can be split into server and tool.
fn splits(name: &[u8]) -> Vec<usize> {
    let places = name.windows(BETWEEN.len()).enumerate();
    let between = places.filter(|(at, window)| *at > 0 && *window == BETWEEN);
    let tool = |at: &usize| at + BETWEEN.len() < name.len();
    between
        .map(|(at, _)| at)
        .filter(tool)
        .take(SPLITS_MAX)
        .collect()
}

impl<'r> Value<'r> {
    fn new(argument: &'r Argument) -> Self {
        let folded = folded(argument.path.as_bytes());
        Self {
            argument,
            is_place: is_place(&folded),
            folded,
            words: OnceCell::new(),
            paths: OnceCell::new(),
        }
    }

    /// Returns the text with one blank behind each of its words.
    pub(super) fn words(&self) -> &[u8] {
        self.words.get_or_init(|| {
            let text = self.argument.text.as_bytes();
            let words: Vec<&[u8]> = text
                .split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty())
                .collect();
            [words.join(&b' ').as_slice(), b" "].concat()
        })
    }

    /// Returns each path that it could be: as it is, below the workspace, and below the directory of the
    /// process; without dots.
    pub(super) fn paths(&self, features: &ToolFeatures<'_>) -> &[Vec<u8>] {
        self.paths.get_or_init(|| {
            let text = self.argument.text.as_bytes();
            let text = text.strip_prefix(b"file://").unwrap_or(text).trim_ascii();
            let mut paths = vec![without_dots(text)];
            if !text.starts_with(b"/") {
                let request = features.request;
                let bases = request.workspace.iter().chain([&request.subject.cwd]);
                let known = bases.filter(|base| base.as_bytes().starts_with(b"/"));
                paths.extend(
                    known.map(|base| without_dots(&[base.as_bytes(), b"/", text].concat())),
                );
            }
            let below: Vec<Vec<u8>> = (paths.iter())
                .filter(|path| path.starts_with(b"/"))
                .filter_map(|path| features.below_workspace(path).map(<[u8]>::to_vec))
                .collect();
            paths.extend(below);
            paths
        })
    }

    /// Returns the path if it has one meaning as it is written.
    pub(super) fn plain_path(&self) -> Option<&[u8]> {
        let text = self.argument.text.as_bytes();
        let mut segments = text
            .strip_prefix(b"/")
            .unwrap_or(text)
            .split(|byte| *byte == b'/');
        let is_plain = |segment: &[u8]| !matches!(segment, b"" | b"." | b".." | b"~");
        (text.len() <= PLACE_BYTES_MAX && segments.all(is_plain)).then_some(text)
    }
}
