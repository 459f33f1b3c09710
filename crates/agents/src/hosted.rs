//! Tools that providers run where nobody sees them, by the types with which calls name them.

/// Tools that programs here run themselves.
const OWN: [&str; 9] = [
    "function",
    "custom",
    "local_shell",
    "apply_patch",
    "functiondeclarations",
    "function_declarations",
    "bash",
    "text_editor",
    "memory",
];

/// Beginnings of the types of tools that providers run, with their general names.
const HOSTED: [(&str, &str); 18] = [
    ("web_search", "web_search"),
    ("google_search", "web_search"),
    ("googlesearch", "web_search"),
    ("web_fetch", "web_fetch"),
    ("url_context", "web_fetch"),
    ("urlcontext", "web_fetch"),
    ("code_execution", "code_execution"),
    ("codeexecution", "code_execution"),
    ("code_interpreter", "code_execution"),
    ("mcp", "mcp"),
    ("computer", "computer"),
    ("file_search", "file_search"),
    ("filesearch", "file_search"),
    ("image_generation", "image_generation"),
    ("googlemaps", "maps"),
    ("google_maps", "maps"),
    ("tool_search", "tool_search"),
    ("advisor", "advisor"),
];

/// Who runs a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunBy {
    /// The program that makes the call.
    Program,
    /// The provider; the general name of the tool.
    Provider(&'static str),
    /// Nobody knows: the type is a new one.
    Unknown,
}

/// Says who runs a tool, by the type with which a call names it, for example `web_search_20250305`.
pub fn run_by(sort: &str) -> RunBy {
    let lower = sort.to_ascii_lowercase();
    let own = |own: &&str| {
        let rest = lower.strip_prefix(*own);
        rest.is_some_and(|rest| rest.is_empty() || is_dated(rest))
    };
    if OWN.iter().any(own) {
        return RunBy::Program;
    }
    let mut known = HOSTED.iter();
    let found = known.find(|(beginning, _)| lower.starts_with(beginning));
    found.map_or(RunBy::Unknown, |(_, name)| RunBy::Provider(name))
}

/// Tells whether the rest of a type is the date of its version, as in `bash_20250124`.
fn is_dated(rest: &str) -> bool {
    let digits = rest.strip_prefix('_').unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}
