//! The schema of rules in Cedar, and requests as it types them.

use cedar_policy::{Context, RestrictedExpression, Schema};
use stockade_types::{RequestKind, ToolEffect};

use super::bounds::Attribute;
use crate::{
    Argument,
    kinds::{
        Features,
        exec::ExecFeatures,
        file::FileFeatures,
        net::{HttpFeatures, NetFeatures, Programs},
        tool::ToolFeatures,
    },
};

/// The schema; `docs/policy.md` explains it.
const SCHEMA: &str = r#"
entity Session;
entity Effect;

action "net" appliesTo {
  principal: [Session], resource: [Effect],
  context: { agent: String, host: String, port: Long, program: String }
};
action "http" in ["net"] appliesTo {
  principal: [Session], resource: [Effect],
  context: {
    agent: String, host: String, port: Long, program: String, method: String, path: String
  }
};
action "exec" appliesTo {
  principal: [Session], resource: [Effect],
  context: {
    agent: String, program: String, names: Set<String>, subcommands: Set<String>,
    argv: Set<String>, cwd: String
  }
};
action "file" appliesTo {
  principal: [Session], resource: [Effect],
  context: { agent: String, program: String, path: String, access: String }
};
action "tool" appliesTo {
  principal: [Session], resource: [Effect],
  context: {
    agent: String, program: String, tool: String, server: String, effect: String,
    arguments: Set<String>
  }
};
"#;

/// The kinds that rules in Cedar can be about.
pub(crate) const KINDS: [RequestKind; 5] = [
    RequestKind::Net,
    RequestKind::Http,
    RequestKind::Exec,
    RequestKind::File,
    RequestKind::Tool,
];

/// Reads the schema. It is part of the program, so a failure is a bug in the program.
pub(crate) fn schema() -> Result<Schema, String> {
    Schema::from_cedarschema_str(SCHEMA)
        .map(|(schema, _)| schema)
        .map_err(|error| error.to_string())
}

/// Whether letters are unchanged or all in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Letters {
    AsTheyAre,
    Folded,
}

/// A request as rules see it, and its unknown attributes.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) kind: RequestKind,
    pub(crate) unknown: Vec<Attribute>,
    /// No program has connected yet: a rule counts only if it holds for every program.
    pub(crate) is_only_a_name: bool,
    texts: Vec<(&'static str, String)>,
    sets: Vec<(&'static str, Vec<String>)>,
    port: Option<u16>,
}

impl Seen {
    /// Takes a request that is already taken apart.
    pub(crate) fn new(agent: &str, features: &Features<'_>) -> Self {
        let mut seen = match features {
            Features::Net(net) => Self::net(net),
            Features::Exec(exec) => Self::exec(exec),
            Features::File(file) => Self::file(file),
            Features::Tool(tool) => Self::tool(tool),
        };
        seen.texts.push(("agent", agent.to_owned()));
        seen
    }

    fn empty(kind: RequestKind) -> Self {
        Self {
            kind,
            unknown: Vec::new(),
            is_only_a_name: false,
            texts: Vec::new(),
            sets: Vec::new(),
            port: None,
        }
    }

    fn by(&mut self, program: Programs<'_>) {
        let text = match program {
            Programs::Known(exe) => text(exe.as_bytes()),
            Programs::Unknown | Programs::Any => {
                self.unknown.push(Attribute::Program);
                String::new()
            }
        };
        self.texts.push(("program", text));
    }

    fn net(net: &NetFeatures<'_>) -> Self {
        let kind = match &net.http {
            Some(_) => RequestKind::Http,
            None => RequestKind::Net,
        };
        let mut seen = Self::empty(kind);
        seen.is_only_a_name = matches!(net.program, Programs::Any);
        seen.by(net.program);
        seen.texts.push(("host", net.host.to_string()));
        seen.port = Some(net.port);
        if let Some(HttpFeatures { method, path, .. }) = &net.http {
            seen.texts.push(("method", (*method).to_owned()));
            seen.texts.push(("path", text(path.plain())));
            if path.ambiguity().is_some() {
                seen.unknown.push(Attribute::Path);
            }
        }
        seen
    }

    /// Returns whether any letter is upper case.
    pub(crate) fn has_capitals(&self) -> bool {
        let words = self.sets.iter().flat_map(|(_, words)| words);
        let mut texts = self.texts.iter().map(|(_, text)| text).chain(words);
        texts.any(|text| {
            text.chars()
                .any(|c| !c.is_ascii() || c.is_ascii_uppercase())
        })
    }

    /// Returns the requests that the connection could carry.
    pub(crate) fn carried(&self) -> Option<Self> {
        (self.kind == RequestKind::Net).then(|| Self {
            kind: RequestKind::Http,
            unknown: [
                self.unknown.as_slice(),
                &[Attribute::Method, Attribute::Path],
            ]
            .concat(),
            is_only_a_name: self.is_only_a_name,
            texts: [
                self.texts.as_slice(),
                &[("method", String::new()), ("path", String::new())],
            ]
            .concat(),
            sets: Vec::new(),
            port: self.port,
        })
    }

    fn exec(exec: &ExecFeatures<'_>) -> Self {
        let all = |words: Vec<&[u8]>| words.into_iter().map(text).collect();
        let mut seen = Self::empty(RequestKind::Exec);
        let request = exec.request;
        seen.texts
            .push(("program", text(request.program.as_bytes())));
        seen.texts.push(("cwd", text(request.cwd.as_bytes())));
        seen.sets.push(("names", all(exec.names())));
        seen.sets.push(("subcommands", all(exec.first_arguments())));
        seen.sets.push(("argv", all(exec.arguments.clone())));
        seen
    }

    fn file(file: &FileFeatures<'_>) -> Self {
        let request = file.request;
        let mut seen = Self::empty(RequestKind::File);
        seen.by(Programs::of(&request.subject.exe));
        let path = request.workspace_relative.as_ref();
        let path = path.unwrap_or(&request.path);
        seen.texts.push(("path", text(path.as_bytes())));
        seen.texts
            .push(("access", request.access.as_str().to_owned()));
        seen
    }

    fn tool(tool: &ToolFeatures<'_>) -> Self {
        let request = tool.request;
        let mut seen = Self::empty(RequestKind::Tool);
        seen.by(Programs::of(&request.subject.exe));
        let named = tool.named();
        if named.is_none() {
            seen.unknown.extend([Attribute::Tool, Attribute::Server]);
        }
        let (name, server) = named.unwrap_or_default();
        seen.texts.push(("tool", text(name)));
        seen.texts.push(("server", text(server)));
        seen.texts
            .push(("effect", request.effect.as_str().to_owned()));
        if request.effect == ToolEffect::Unknown {
            seen.unknown.push(Attribute::Effect);
        }
        let values = request.arguments.values();
        if !request.arguments.is_whole() || values.iter().any(Argument::is_cut) {
            seen.unknown.push(Attribute::Arguments);
        }
        let written =
            |one: &Argument| text(&[one.path.as_bytes(), b"=", one.text.as_bytes()].concat());
        seen.sets
            .push(("arguments", values.iter().map(written).collect()));
        seen
    }

    /// Makes the context of a Cedar request.
    pub(crate) fn context(&self, letters: Letters) -> Result<Context, String> {
        let written = |text: &String| {
            RestrictedExpression::new_string(match letters {
                Letters::AsTheyAre => text.clone(),
                Letters::Folded => text.to_lowercase(),
            })
        };
        let texts = self
            .texts
            .iter()
            .map(|(name, text)| ((*name).to_owned(), written(text)));
        let sets = self.sets.iter().map(|(name, words)| {
            let set = RestrictedExpression::new_set(words.iter().map(written));
            ((*name).to_owned(), set)
        });
        let port = self.port.map(|port| {
            (
                "port".to_owned(),
                RestrictedExpression::new_long(port.into()),
            )
        });
        Context::from_pairs(texts.chain(sets).chain(port)).map_err(|error| error.to_string())
    }
}

/// Replaces bytes that are not text, so that a rule about the rest still sees it.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_schema_is_valid() {
        assert_eq!(super::schema().err(), None);
    }
}
