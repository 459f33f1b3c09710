//! What a decision can rest on and a record does not have: a request that is made of its record again is
//! judged as it was, unless one of these says otherwise.

use std::fmt;

use serde::{Deserialize, Serialize};
use stockade_types::RequestKind;

use crate::{
    ExecRequest, FileRequest, HttpRequest, Meaning, Policy, Request, ToolRequest,
    decide::features,
    kinds::{
        Body, Features,
        cedar::{Attribute, CedarBody},
        exec::ExecFeatures,
        net::NetBody,
        tool::ToolBody,
    },
    pattern::ProgramPattern,
};

/// A fact of a request that its record does not have.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
pub enum Unrecorded {
    /// Under which other names the file of a program is known.
    ProgramNames,
    /// What is in the file of a program.
    ProgramContent,
    /// The variables of an execution.
    Variables,
    /// What a request means, as far as its body says it.
    Meaning,
    /// A secret in a path or an argument, which is hidden in the record.
    HiddenText,
    /// Whether all of the content of a protected file could be shown.
    FileContent,
    /// The arguments of a tool call.
    ToolArguments,
}

impl Unrecorded {
    /// Says what is missing.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::ProgramNames => "other names of the program",
            Self::ProgramContent => "the content of the program",
            Self::Variables => "the variables of the execution",
            Self::Meaning => "what the body of the request says",
            Self::HiddenText => "a text that is hidden in the record",
            Self::FileContent => "the content of the protected file",
            Self::ToolArguments => "the arguments of the tool call",
        }
    }
}

impl fmt::Display for Unrecorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.in_words())
    }
}

/// Digits of the mark of a hidden text.
const MARK_DIGITS: usize = 8;
/// Directories of the machine: no session can write a program there.
const OF_THE_MACHINE: [&[u8]; 6] = [
    b"/usr/", b"/bin/", b"/sbin/", b"/lib/", b"/lib32/", b"/lib64/",
];

/// Tells whether a name or path in a rule could mean the file of the system that is called `own`: `python3` is
/// `python3.11` on a machine that links it.
pub fn could_be_named(own: &str, name: &str) -> bool {
    let base = name.rsplit('/').next().unwrap_or_default();
    let is_version = |rest: &str| rest.starts_with(|c: char| matches!(c, '.' | '-' | '0'..='9'));
    own.strip_prefix(base).is_some_and(is_version) || (name.contains('/') && base == own)
}

impl Policy {
    /// Names a fact on which the decision about a request could rest and which the record that the request was
    /// made of does not have; `None` if the decision is the one that the real request would have had.
    ///
    /// What rests on the machine is not counted: the host sets, and what a name resolves to.
    pub fn unrecorded(&self, request: &Request) -> Option<Unrecorded> {
        match request {
            Request::Exec(exec) => self.unrecorded_of_exec(exec),
            Request::Http(http) => self.unrecorded_of_http(http),
            Request::File(file) => self.unrecorded_of_file(file),
            Request::Tool(tool) => self.unrecorded_of_tool(tool),
            // The exact definitions are what counts there, and no record has them.
            Request::Definition(_) => Some(Unrecorded::ToolArguments),
            Request::Net(_) | Request::Name(_) | Request::Port(_) => None,
        }
    }

    fn unrecorded_of_exec(&self, exec: &ExecRequest) -> Option<Unrecorded> {
        if exec.argv.iter().any(|word| has_mark(word.as_bytes())) {
            return Some(Unrecorded::HiddenText);
        }
        let features = ExecFeatures::new(exec);
        let candidates = self
            .index
            .candidates(&Features::Exec(ExecFeatures::new(exec)));
        for candidate in candidates {
            let rule = self.rules.get(candidate.rule);
            let Some(Body::Exec(body)) = rule.map(|rule| &rule.body) else {
                continue;
            };
            let command = body.commands.get(candidate.pattern);
            if !command.is_some_and(|command| features.could_be(command, &[])) {
                continue;
            }
            if body.environment.is_some() {
                return Some(Unrecorded::Variables);
            }
            let by_content = |own: &ProgramPattern| matches!(own, ProgramPattern::Digest(_));
            if exec.digest.is_none() && body.programs.iter().flatten().any(by_content) {
                return Some(Unrecorded::ProgramContent);
            }
        }
        self.rests_on_names(exec)
            .then_some(Unrecorded::ProgramNames)
    }

    /// Tells whether another rule would match if the file were known by another name, of those that rules
    /// have.
    fn rests_on_names(&self, exec: &ExecRequest) -> bool {
        let path = exec.program.as_bytes();
        let base = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let base = String::from_utf8_lossy(base);
        let is_fixed = OF_THE_MACHINE.iter().any(|place| path.starts_with(place));
        let own = exec.program.display();
        let names = self.named_programs();
        let could_be = |name: &&String| {
            let is_other = **name != *base && **name != own;
            is_other && (!is_fixed || could_be_named(&base, name))
        };
        let mut names = names.iter().filter(could_be).peekable();
        if names.peek().is_none() {
            return false;
        }
        let plain = self.matching(exec);
        let named = |name: &String| {
            let aliased = ExecRequest {
                aliases: vec![name.clone()],
                ..exec.clone()
            };
            self.matching(&aliased) != plain
                || self.cedar_looks_at(RequestKind::Exec, Attribute::Names)
        };
        names.any(named)
    }

    /// Returns the patterns that match an execution.
    fn matching(&self, exec: &ExecRequest) -> Vec<(usize, usize)> {
        let features = Features::Exec(ExecFeatures::new(exec));
        let candidates = self.index.candidates(&features).into_iter();
        let fits = candidates.filter(|candidate| {
            let rule = self.rules.get(candidate.rule);
            rule.is_some_and(|rule| rule.fit(candidate.pattern, &features).is_ok())
        });
        fits.map(|candidate| (candidate.rule, candidate.pattern))
            .collect()
    }

    fn unrecorded_of_http(&self, http: &HttpRequest) -> Option<Unrecorded> {
        let looks = self.looks_at_requests(&http.host);
        if looks && has_mark(http.path.as_bytes()) {
            return Some(Unrecorded::HiddenText);
        }
        let ages = self.looks_for(&http.host).ages;
        let is_known = |meaning: &Meaning| match meaning {
            Meaning::Package(package) => !ages || package.age.is_some(),
            Meaning::Git(_) | Meaning::Forge(_) | Meaning::Model(_) => meaning.bound().is_some(),
        };
        let is_read = |topic| {
            let mut read = http.meaning.iter().filter(|one| one.topic() == topic);
            read.next().is_some_and(is_known)
        };
        let mut topics = self.topics(&http.host).into_iter();
        (!topics.all(is_read)).then_some(Unrecorded::Meaning)
    }

    fn unrecorded_of_file(&self, file: &FileRequest) -> Option<Unrecorded> {
        let workspace = &self.settings().workspace;
        let below = file.workspace_relative.as_ref()?;
        let guarded = workspace.protects(below.as_bytes()).is_some();
        // With content that can be shown a person is asked, without it the change is denied.
        (guarded && file.content.is_none()).then_some(Unrecorded::FileContent)
    }

    fn unrecorded_of_tool(&self, tool: &ToolRequest) -> Option<Unrecorded> {
        let request = Request::Tool(tool.clone());
        let features = features(&request)?;
        let by_rule = self
            .index
            .candidates(&features)
            .into_iter()
            .any(|candidate| {
                let rule = self.rules.get(candidate.rule);
                match rule.map(|rule| &rule.body) {
                    Some(Body::Tool(ToolBody { arguments, .. })) => !arguments.is_empty(),
                    Some(
                        Body::Net(_)
                        | Body::Exec(_)
                        | Body::File(_)
                        | Body::Cedar(_)
                        | Body::Control,
                    )
                    | None => false,
                }
            });
        let by_text = self.cedar_looks_at(RequestKind::Tool, Attribute::Arguments);
        (by_rule || by_text).then_some(Unrecorded::ToolArguments)
    }

    /// Tells whether a rule about this host looks at single requests.
    pub fn looks_at_requests(&self, host: &stockade_types::Host) -> bool {
        self.bodies(host).any(NetBody::has_request_conditions)
            || self
                .cedar_bodies()
                .any(|body| body.is_about(RequestKind::Http))
    }

    fn cedar_looks_at(&self, kind: RequestKind, attribute: Attribute) -> bool {
        let looks = |body: &CedarBody| body.is_about(kind) && body.looks_at(attribute);
        self.cedar_bodies().any(looks)
    }

    /// Returns the names of programs in asks and denies, by which copies of them are known. They are the
    /// same at every call, so they are found once.
    fn named_programs(&self) -> &[String] {
        self.names.get_or_init(|| self.command_names())
    }
}

/// Tells whether a text has what stands in the place of a secret in records, such as
/// `[github-token:5f0c9a11]`.
fn has_mark(text: &[u8]) -> bool {
    let mut parts: Vec<&[u8]> = text.split(|byte| *byte == b']').collect();
    // Nothing closes what stands behind the last bracket.
    parts.pop();
    parts.into_iter().any(|part| {
        let Some((before, mark)) = part
            .len()
            .checked_sub(MARK_DIGITS)
            .map(|at| part.split_at(at))
        else {
            return false;
        };
        before.contains(&b'[') && before.ends_with(b":") && mark.iter().all(u8::is_ascii_hexdigit)
    })
}
