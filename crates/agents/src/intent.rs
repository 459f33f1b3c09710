//! What a tool call says that it will do, as far as it names what an effect can be recognised by.

use serde::{Deserialize, Serialize};
use stockade_types::{Digest, RawText};

use crate::{
    claims::{Bounded, Call, host_of},
    content::Content,
    json::{Json, Shape},
    limits::INTENT_ENTRIES_MAX,
    tree::Tree,
};

/// Members that hold a command line, or the arguments of one.
const COMMANDS: [&str; 3] = ["command", "cmd", "commandLine"];
/// Members that hold the path of a file.
const PATHS: [&str; 7] = [
    "absolute_path",
    "filePath",
    "file_path",
    "filename",
    "notebook_path",
    "path",
    "target_file",
];
/// Members that hold a patch; it can also be all that is sent.
const PATCHES: [&str; 3] = ["input", "patch", "patchText"];
/// What stands in front of a path in a patch.
const IN_PATCHES: [&str; 4] = [
    "*** Add File: ",
    "*** Update File: ",
    "*** Delete File: ",
    "*** Move to: ",
];
/// Members that hold what another agent is told.
const PROMPTS: [&str; 2] = ["message", "prompt"];
/// Members that hold an address.
const ADDRESSES: [&str; 2] = ["url", "uri"];

/// Members that say why.
const REASONS: [&str; 4] = ["description", "justification", "explanation", "reason"];

/// What a tool call names: command lines, files and hosts. All of it is what a model said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Command lines, as they are given to a shell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<RawText>,
    /// Paths of files, as they were said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<RawText>,
    /// Why the tool is called, in the model's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<RawText>,
    /// Hosts of addresses, with a port where one was said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<RawText>,
    /// Of a call, what another agent is told by it; of a prompt, its parts. SHA-256 of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<Digest>,
}

impl Call {
    /// Says what the call names; nothing, where its arguments were not kept.
    pub fn intent(&self) -> Intent {
        let text = self.arguments.as_ref().and_then(|all| all.text());
        text.map(Intent::of_arguments).unwrap_or_default()
    }
}

impl Intent {
    /// Says what arguments name.
    pub(crate) fn of_arguments(text: &[u8]) -> Self {
        let mut intent = Self::default();
        let mut json = Json::new(Shape::ALL);
        json.feed(text);
        match json.finish() {
            (Some(tree), extent) if tree.is_object() && !extent.is_cut => intent.object(&tree),
            _ => intent.patch(text),
        }
        intent
    }

    /// Says what a model is told.
    pub fn of_prompts(parts: &Bounded<Content>) -> Self {
        let mut intent = Self::default();
        // The last ones are the person's, or another agent's.
        for part in parts.entries().iter().rev() {
            intent.prompt(part.digest());
        }
        intent
    }

    fn prompt(&mut self, digest: Digest) {
        if self.prompts.len() < INTENT_ENTRIES_MAX {
            self.prompts.push(digest);
        }
    }

    fn object(&mut self, arguments: &Tree) {
        for name in COMMANDS {
            let member = arguments.get(name);
            if let Some(command) = member.and_then(command) {
                self.patch(&command);
                add(&mut self.commands, RawText::from_bytes(command));
            }
        }
        for path in PATHS.iter().filter_map(|name| arguments.text_of(name)) {
            add(&mut self.paths, RawText::from_bytes(path));
        }
        for patch in PATCHES.iter().filter_map(|name| arguments.text_of(name)) {
            self.patch(patch);
        }
        let says = REASONS.iter().find_map(|name| arguments.text_of(name));
        self.says = says.map(crate::content::name);
        for prompt in PROMPTS.iter().filter_map(|name| arguments.text_of(name)) {
            self.prompt(Digest::of(prompt));
        }
        for address in ADDRESSES.iter().filter_map(|name| arguments.text_of(name)) {
            if let Some(host) = host_of(address) {
                add(&mut self.hosts, host);
            }
        }
    }

    /// Adds the files that a patch names.
    fn patch(&mut self, text: &[u8]) {
        for line in text.split(|byte| *byte == b'\n') {
            let mut paths = IN_PATCHES.iter();
            if let Some(path) = paths.find_map(|mark| line.strip_prefix(mark.as_bytes())) {
                add(&mut self.paths, RawText::from_bytes(path.trim_ascii_end()));
            }
        }
    }
}

/// Returns a command line: a text, or a list that is a shell with a text, or else words.
fn command(member: &Tree) -> Option<Vec<u8>> {
    if let Some(text) = member.text() {
        return Some(text.trim_ascii().to_vec());
    }
    let words: Vec<&[u8]> = member.items().iter().filter_map(Tree::text).collect();
    match words.as_slice() {
        [] => None,
        [_, option, text] if option.starts_with(b"-") && option.ends_with(b"c") => {
            Some(text.trim_ascii().to_vec())
        }
        words => Some(words.join(&b' ')),
    }
}

fn add(list: &mut Vec<RawText>, entry: RawText) {
    if list.len() < INTENT_ENTRIES_MAX && !entry.as_bytes().is_empty() && !list.contains(&entry) {
        list.push(entry);
    }
}

#[cfg(test)]
mod tests {
    use stockade_types::RawText;

    use crate::{Bounded, Call, Content, Intent};

    /// Arguments, and the commands, paths and hosts that they name.
    type Row<'r> = (&'r str, &'r [&'r str], &'r [&'r str], &'r [&'r str]);

    fn intent(arguments: &str) -> [Vec<String>; 3] {
        let call = Call {
            id: "call_1".into(),
            name: "tool".into(),
            arguments: Some(Content::of(arguments.as_bytes())),
        };
        let intent = call.intent();
        let shown = |all: &[RawText]| all.iter().map(RawText::display).collect();
        [
            shown(&intent.commands),
            shown(&intent.paths),
            shown(&intent.hosts),
        ]
    }

    /// What another agent is told is known again in what its model is told.
    #[test]
    fn what_another_agent_is_told_is_known_again() {
        let call = |arguments: &str| Call {
            id: "call_1".into(),
            name: "Agent".into(),
            arguments: Some(Content::of(arguments.as_bytes())),
        };
        let mut parts = Bounded::default();
        parts.extend(["<reminder>", "count \"them\""].map(|text| Content::of(text.as_bytes())));
        let told = Intent::of_prompts(&parts).prompts;
        for (arguments, is_it) in [
            (r#"{"description":"x","prompt":"count \"them\""}"#, true),
            (r#"{"message":"count \"them\""}"#, true),
            (r#"{"prompt":"count them"}"#, false),
        ] {
            let prompts = call(arguments).intent().prompts;
            assert_eq!(told.first() == prompts.first(), is_it, "{arguments}");
        }
    }

    #[test]
    fn what_is_named_is_found_where_agents_write_it() {
        let none: [&str; 0] = [];
        let patch =
            r"*** Begin Patch\n*** Update File: src/a.rs\n@@\n-x\n+y\n*** Move to: src/b.rs\n";
        let rows: [Row<'_>; 8] = [
            (r#"{"command":" ls -la "}"#, &["ls -la"], &none, &none),
            (
                r#"{"cmd":"cargo test","workdir":"/w"}"#,
                &["cargo test"],
                &none,
                &none,
            ),
            (
                r#"{"command":["bash","-lc","git push"]}"#,
                &["git push"],
                &none,
                &none,
            ),
            (r#"{"command":["ls","-la"]}"#, &["ls -la"], &none, &none),
            (
                r#"{"content":"x","file_path":"/w/a"}"#,
                &none,
                &["/w/a"],
                &none,
            ),
            (
                r#"{"prompt":"read it","url":"https://docs.test:8443/x?token=y"}"#,
                &none,
                &none,
                &["docs.test:8443"],
            ),
            ("[1,2]", &none, &none, &none),
            ("{\"command\":", &none, &none, &none),
        ];
        for (arguments, commands, paths, hosts) in rows {
            let found = intent(arguments);
            assert_eq!(
                found,
                [commands, paths, hosts].map(<[&str]>::to_vec),
                "{arguments}"
            );
        }
        let both = ["src/a.rs", "src/b.rs"];
        assert_eq!(intent(&format!(r#"{{"input":"{patch}"}}"#))[1], both);
        assert_eq!(intent(&patch.replace("\\n", "\n"))[1], both);
    }
}
