//! From a question to the text that a person reads.

mod definition;
mod variables;

use stockade_policy::{Access, ExecRequest, FileRequest, Origin, Request, ToolRequest};
use stockade_secrets::hide_alike;
use stockade_types::{Host, RawText};

use self::variables::Variables;
use crate::{
    canonical::Matter,
    text::{Row, Shown},
    tool_call::{self, Meaning, meaning},
};

/// Characters of a parent's command line: one line of a box of 80 columns. [?] shows all of it.
const PARENT_CHARS_MAX: usize = 60;
/// Arguments of a tool call in the box; [?] shows all of them.
const ARGUMENTS_SHOWN_MAX: usize = 6;
/// Characters of one of them in the box.
const ARGUMENT_CHARS_MAX: usize = 400;
/// Signs for a line end and a tab: both are ordinary in arguments, so they are no reason to warn.
const LINE_END: char = '↵';
const TAB: char = '⇥';

impl Matter<'_> {
    /// Returns the exact lines that a person sees, with every foreign character made visible.
    pub fn shown(&self) -> Shown {
        let mut text = Builder::default();
        text.effect(self.request);
        text.addresses(self.request, self.grounds.private);
        text.subject(self);
        text.why(self);
        if let Some(intent) = self.intent {
            let words = text.raw("the agent's own words", &RawText::from(intent));
            text.row(
                "agent says",
                format!("\"{words}\" (its own words, not checked)"),
            );
        }
        text.reach(self);
        let agent = RawText::from(self.agent).display();
        Shown {
            title: match self.request {
                Request::Port(_) => format!("{agent}: a server listens"),
                Request::Definition(_) => format!("{agent}: its model is to read other tools"),
                Request::Exec(_)
                | Request::Net(_)
                | Request::Http(_)
                | Request::Name(_)
                | Request::File(_)
                | Request::Tool(_) => format!("{agent} wants to"),
            },
            rows: text.rows,
            details: text.details,
            warnings: text.warnings,
        }
    }
}

#[derive(Default)]
struct Builder {
    rows: Vec<Row>,
    details: Vec<Row>,
    warnings: Vec<String>,
}

impl Builder {
    fn row(&mut self, label: &str, text: String) {
        self.rows.push(Row {
            label: label.to_owned(),
            text,
        });
    }

    fn warn(&mut self, text: String) {
        if !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }

    /// Hides secrets in `text` and escapes it, and warns if it has characters that a reader would not
    /// expect.
    fn raw(&mut self, what: &str, text: &RawText) -> String {
        let hidden = hide_alike(text);
        let text = hidden.as_ref().unwrap_or(text);
        let mut shown = String::new();
        let mut hidden = false;
        for (index, line) in text.as_bytes().split(|byte| *byte == b'\n').enumerate() {
            if index > 0 {
                shown.push(LINE_END);
            }
            for (index, part) in line.split(|byte| *byte == b'\t').enumerate() {
                if index > 0 {
                    shown.push(TAB);
                }
                let part = RawText::from_bytes(part);
                hidden |= part.has_hidden();
                // If our own signs occur in the text, escape them, so that each sign has only one
                // meaning.
                let visible = part.display();
                hidden |= visible.contains([LINE_END, TAB]);
                for c in visible.chars() {
                    match c {
                        LINE_END | TAB => shown.extend(c.escape_unicode()),
                        c => shown.push(c),
                    }
                }
            }
        }
        if hidden {
            self.warn(format!(
                "{what} has characters that cannot be seen; they are written \\u{{…}} or \\xHH"
            ));
        }
        shown
    }

    /// Writes an argument vector so that a reader can see where each word ends.
    fn words(&mut self, what: &str, words: &[RawText]) -> String {
        let shown: Vec<String> = words
            .iter()
            .map(|word| quoted(&self.raw(what, word)))
            .collect();
        shown.join(" ")
    }

    fn effect(&mut self, request: &Request) {
        match request {
            Request::Exec(exec) => self.exec(exec),
            Request::Net(net) => {
                self.row("connect", format!("{}:{}", net.host, net.port));
                self.host(&net.host);
            }
            Request::Http(http) => {
                let method = self.raw("the method", &RawText::from(http.method.as_str()));
                let path = self.raw("the path", http.shown_path());
                for meaning in http.shown_meaning() {
                    let text = self.raw("what is asked for", &meaning.in_words());
                    self.row("meaning", text);
                }
                self.row(
                    "request",
                    format!("{method} {}:{}{path}", http.host, http.port),
                );
                self.host(&http.host);
            }
            Request::Name(name) => {
                self.row("look up", name.name.to_string());
                self.host(&Host::Name(name.name.clone()));
            }
            Request::File(file) => self.file(file),
            Request::Port(wanted) => self.port(wanted.port.get()),
            Request::Tool(tool) => self.tool(tool),
            Request::Definition(wanted) => self.definition(wanted),
        }
    }

    fn exec(&mut self, exec: &ExecRequest) {
        let line = self.words("the command", &exec.argv);
        self.row("run", line);
        let program = self.raw("the program's path", &exec.program);
        let digest = exec.digest.map_or_else(
            || " (content not hashed)".to_owned(),
            |digest| format!(" (sha256 {})", digest.short()),
        );
        self.row("program", format!("{program}{digest}"));
        if exec.invoked_as != exec.program {
            let name = self.raw("the program's path", &exec.invoked_as);
            self.row("", format!("called as {name}"));
        }
        let directory = self.raw("the directory", &exec.cwd);
        self.row("in", directory);
        for (index, file) in exec.involved.iter().enumerate() {
            let path = self.raw("a program's path", &file.path);
            let digest = file.digest.map_or_else(
                || " (content not hashed)".to_owned(),
                |digest| format!(" (sha256 {})", digest.short()),
            );
            let label = if index == 0 { "through" } else { "" };
            self.row(label, format!("{path}{digest}"));
        }
        for effect in &exec.effects {
            let text = self.raw("what is known of the effect", &effect.text);
            self.row(&effect.label, text);
        }
        self.variables(exec);
    }

    fn variables(&mut self, exec: &ExecRequest) {
        let variables = Variables::of(&exec.differing);
        let mut label = "with";
        for one in &variables.rows {
            let text = self.variable(one);
            self.row(std::mem::take(&mut label), text);
        }
        if let Some(rest) = variables.rest {
            let text = format!("{rest} from the session's start; [?] lists all");
            self.row(label, text);
        }
        for one in &variables.details {
            let text = self.variable(one);
            self.details.push(Row {
                label: "variable".to_owned(),
                text,
            });
        }
    }

    fn variable(&mut self, (name, value): &variables::Shown) -> String {
        let name = self.raw("the environment", name);
        match value {
            Some(value) => format!("{name}={}", quoted(&self.raw("the environment", value))),
            None => format!("{name} (no longer set)"),
        }
    }

    fn file(&mut self, file: &FileRequest) {
        let label = match file.access {
            Access::Write => "write",
            Access::Create => "create",
            Access::Remove => "remove",
            Access::Rename => "rename",
            Access::Mode => "set mode",
        };
        let path = self.raw("the path", &file.path);
        self.row(label, path);
        if let Some(relative) = &file.workspace_relative {
            let relative = self.raw("the path", relative);
            self.row("", format!("in the workspace: {relative}"));
        }
        for effect in file.content.iter().flat_map(|content| &content.effects) {
            let text = self.raw("the content", &effect.text);
            self.row(&effect.label, text);
        }
    }

    fn port(&mut self, port: u16) {
        self.row("open", format!("port {port} as http://127.0.0.1:{port}"));
        let whom = "on this machine, for all its users and web pages in your browser";
        self.row("", whom.to_owned());
    }

    /// Shows a tool call. The box has the beginnings of its first arguments, [?] all that is known.
    fn tool(&mut self, tool: &ToolRequest) {
        let name = self.raw("the tool's name", &tool.tool);
        self.row("use tool", name);
        if let Some(server) = &tool.server {
            let server = self.raw("the server's name", server);
            self.row("of", format!("MCP server {server}"));
        }
        let arguments = &tool.arguments;
        let mut label = "with";
        for (index, one) in arguments.values().iter().enumerate() {
            let name = self.raw("an argument", &one.path);
            let text = self.raw("an argument", &one.text);
            let whole = format!("{name}={}", quoted(&text));
            let short = cut(&whole, ARGUMENT_CHARS_MAX);
            if index < ARGUMENTS_SHOWN_MAX {
                self.row(std::mem::take(&mut label), short.clone());
            }
            let says_less = short != whole || index >= ARGUMENTS_SHOWN_MAX;
            self.detail("argument", says_less.then_some(whole));
        }
        let more = arguments.values().len().saturating_sub(ARGUMENTS_SHOWN_MAX);
        if more > 0 {
            self.row("", format!("{more} more arguments; [?] lists all"));
        }
        if !arguments.is_whole() {
            self.warn("not all arguments could be read, or one of them has two values".to_owned());
        }
    }

    /// Says which addresses of a host an answer opens, because they are looked up only afterwards.
    fn addresses(&mut self, request: &Request, private: bool) {
        let host = match request {
            Request::Net(net) => &net.host,
            Request::Http(http) => &http.host,
            Request::Exec(_)
            | Request::Name(_)
            | Request::File(_)
            | Request::Port(_)
            | Request::Tool(_)
            | Request::Definition(_) => return,
        };
        if matches!(host, Host::Name(_)) && !private {
            let text = "looked up after the answer; an allow opens no private address of it";
            self.row("", text.to_owned());
        }
    }

    fn host(&mut self, host: &Host) {
        match host {
            Host::Name(name) if name.labels_rev().any(|label| label.starts_with("xn--")) => {
                self.warn(
                    "the name has letters that are not ASCII and may imitate another name"
                        .to_owned(),
                );
            }
            Host::Address(_) => {
                self.warn("an address, not a name: its owner is unknown".to_owned());
            }
            Host::Name(_) => {}
        }
    }

    fn subject(&mut self, question: &Matter<'_>) {
        let subject = question.request.subject();
        let exe = self.raw("the asking program", &subject.exe);
        let (line, whole) = self.asking_command(&subject.argv);
        let mut by = if exe.is_empty() {
            "a process that is gone".to_owned()
        } else {
            exe
        };
        if !line.is_empty() {
            by = format!("{by}  {line}");
        }
        self.row("by", by);
        self.detail("command", whole);
        let mut parents = Vec::new();
        for parent in &subject.ancestry {
            let (short, whole) = self.parent(parent, &subject.argv);
            parents.push(format!("← {short}"));
            self.detail("parent", whole);
        }
        if !parents.is_empty() {
            self.row("", parents.join(" "));
        }
        if let Some(end) = question.gives_up() {
            let seconds = end.0.saturating_sub(question.asked.0) / 1000;
            let text = format!("such a client usually gives up after about {seconds} s");
            self.row("waits", text);
        }
    }

    /// Returns the text for the asking command, and the whole command if the text leaves something
    /// out.
    fn asking_command(&mut self, argv: &[RawText]) -> (String, Option<String>) {
        let whole = self.words("the asking command", argv);
        match meaning(argv) {
            Meaning::Tool(command) => {
                let command = self.raw("the asking command", &RawText::from(command.as_str()));
                (format!("(tool call) {command}"), Some(whole))
            }
            Meaning::ToolToCome | Meaning::Script(_) | Meaning::Program => (whole, None),
        }
    }

    /// Returns the text for a parent, and its whole command if the text leaves something out.
    fn parent(&mut self, line: &RawText, child: &[RawText]) -> (String, Option<String>) {
        let whole = self.raw("a parent process", line);
        let text = line.to_os();
        let short = match text.to_str().and_then(tool_call::in_line) {
            // The row of the asking command already shows this command.
            Some((shell, command)) if meaning(child) == Meaning::Tool(command.clone()) => {
                shell.to_owned()
            }
            Some((shell, command)) => {
                let command = self.raw("a parent process", &RawText::from(command.as_str()));
                format!("{shell} (tool call) {command}")
            }
            None => whole.clone(),
        };
        let short = cut(&short, PARENT_CHARS_MAX);
        let says_less = short != whole;
        (short, says_less.then_some(whole))
    }

    fn detail(&mut self, label: &str, text: Option<String>) {
        self.details.extend(text.map(|text| Row {
            label: label.to_owned(),
            text,
        }));
    }

    fn why(&mut self, question: &Matter<'_>) {
        let decision = &question.grounds;
        let rule = decision.rule.as_ref().map_or_else(
            || "no rule names it".to_owned(),
            |rule| match decision.origin {
                Some(origin) => format!("rule {rule} ({})", layer(origin)),
                None => format!("rule {rule}"),
            },
        );
        let reason = self.raw(
            "the rule's reason",
            &RawText::from(decision.reason.as_str()),
        );
        let text = if reason.is_empty() {
            rule
        } else {
            format!("{rule}: {reason}")
        };
        self.row("why asked", text);
        if let Some(nearest) = &decision.nearest_allow {
            let nearest = self.raw("the nearest allow", &RawText::from(nearest.as_str()));
            self.row("", format!("allowed without asking: {nearest}"));
        }
    }

    fn reach(&mut self, question: &Matter<'_>) {
        if let Some(review) = &question.grounds.review {
            let who = self.raw("who is asked", &RawText::from(review.in_words().as_str()));
            self.row("asks", who);
        }
        let Some(max) = question.scope_max() else {
            self.row(
                "allow",
                "is not possible: this can only be denied".to_owned(),
            );
            return;
        };
        self.row("once", once(question.request).to_owned());
        if !max.is_exact() {
            self.row("session", wide(question.request));
        }
        if let Some(below) = question.paths() {
            let text = format!("any program here, {below}, with any query and content");
            self.row("paths", text);
        }
    }
}

/// Says what one use permits.
fn once(request: &Request) -> &'static str {
    match request {
        Request::Exec(_) => "exactly this command, one time; what it then does is judged by itself",
        Request::Net(_) => "one connection of this program, with any method and path on it",
        Request::Http(_) => "exactly this request of this program, one time",
        Request::Name(_) => "one look-up of this name by this program",
        Request::File(file) if file.content.is_some() => {
            "exactly this content in these files, written by this program, one time"
        }
        Request::File(_) => "one change of this kind to this path by this program",
        Request::Port(_) => "this port, until the session ends; whatever listens on it then",
        Request::Tool(_) => {
            "one call of this tool with exactly these arguments; what it does is judged by itself"
        }
        Request::Definition(wanted) if wanted.unread.is_some() => "this request to the model",
        Request::Definition(_) => "exactly these definitions, in this workspace from now on",
    }
}

/// Says what a grant for a time or the session permits.
fn wide(request: &Request) -> String {
    if let Some(other) = request.twin() {
        return format!(
            "any program here, any method and path, on this host and {other} (80 and 443 \
             are one)"
        );
    }
    let text = match request {
        Request::Exec(exec) if exec.effects.iter().any(|effect| effect.label == "to") => {
            "this file with these arguments (also with -q, -u, -v), directory and variables"
        }
        Request::Exec(_) => "this file with exactly these arguments, directory and variables",
        Request::Net(_) => {
            "any program here, any method and path, on this host and port (80 and 443 \
             are one)"
        }
        Request::Http(_) if request.is_known_by_meaning() => {
            "any program here, whatever means exactly this to this host"
        }
        Request::Http(_) => "any program here, this method and path on this host",
        Request::Name(_) => "any program here, look-ups of this name",
        Request::File(file) if file.content.is_some() => {
            "any program here, exactly this content in these files"
        }
        Request::File(_) => "any program here, this kind of change to this path",
        // These answers have no wider form.
        Request::Port(_) => "this port",
        Request::Tool(tool) if tool.server.is_some() => {
            "this tool of this server, with any arguments that the same rules ask about"
        }
        Request::Tool(_) => "this tool, with any arguments that the same rules ask about",
        Request::Definition(_) => "these definitions",
    };
    text.to_owned()
}

const fn layer(origin: Origin) -> &'static str {
    match origin {
        Origin::Builtin => "builtin",
        Origin::Organisation => "organisation",
        Origin::User => "user",
        Origin::Session => "session",
    }
}

/// Cuts a text, and marks the cut.
fn cut(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.to_owned();
    }
    let kept = text.chars().take(chars.saturating_sub(1));
    kept.chain(['…']).collect()
}

/// Quotes a word if its ends or its content could be misread.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=+,@%^~{}\\".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
