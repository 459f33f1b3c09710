//! A session as one page for a browser. It carries all that it needs, may fetch nothing, and runs no
//! script but its own; text from the session only ever becomes text.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use stockade_event::{
    Summary,
    tree::{Grown, Node, Sort},
};
use stockade_types::{Certainty, Digest, SessionId, Verdict, ignored};

use crate::human::{cut, number, plural, safe, span, words};

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// Bytes of different texts on a page; what comes later is cut to [`CUT_CHARS`].
const TEXT_BYTES_MAX: usize = 4_000_000;
/// Bytes of what explains lines, likewise.
const DETAIL_BYTES_MAX: usize = 2_000_000;
/// Characters of a text once there are too many.
const CUT_CHARS: usize = 80;
/// Characters of the command in the title.
const TITLE_CHARS_MAX: usize = 200;
const NANOS_PER_MILLI: u64 = 1_000_000;

/// The sorts in the order of their numbers on the page.
const SORTS: [Sort; 13] = [
    Sort::Session,
    Sort::Prompt,
    Sort::Tool,
    Sort::Process,
    Sort::Own,
    Sort::Changed,
    Sort::Connected,
    Sort::Called,
    Sort::Plan,
    Sort::Refused,
    Sort::Asked,
    Sort::Note,
    Sort::Ended,
];

/// Renders the page.
pub(super) fn render(
    grown: &Grown,
    summary: &Summary,
    session: &SessionId,
    is_filtered: bool,
) -> String {
    let begun_ms = grown
        .nodes
        .first()
        .map_or(0, |node| node.time_unix_ns / NANOS_PER_MILLI);
    let mut texts = Texts::new();
    let mut rows = String::from("[");
    for node in &grown.nodes {
        if rows.len() > 1 {
            rows.push(',');
        }
        push_row(&mut rows, node, begun_ms, &mut texts);
    }
    rows.push(']');
    let command = cut(&words(&summary.command), TITLE_CHARS_MAX);
    let title = if command.is_empty() {
        format!("Session {}", session.short())
    } else {
        command
    };
    let rest = json!({
        "session": session,
        "title": title,
        "facts": facts(summary, session, is_filtered),
        "events": summary.events,
        "begun_ms": begun_ms,
        "more": grown.more,
        "sorts": SORTS,
        "texts": texts.list,
    });
    // Within a script nothing else than `<` could end it.
    let rest = rest.to_string().replace('<', "\\u003c");
    let data = format!(
        "{{\"rows\":{rows},{}",
        rest.strip_prefix('{').unwrap_or("}")
    );
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; base-uri 'none'; \
         form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    filled(&[
        ("@POLICY@", &policy),
        ("@TITLE@", &escaped(&format!("{title} – Stockade"))),
        ("@STYLE@", STYLE),
        ("@DATA@", &data),
        ("@SCRIPT@", SCRIPT),
    ])
}

/// Puts the parts into their places, which the template has in this order. What a part contains is
/// never a place.
fn filled(parts: &[(&str, &str)]) -> String {
    let mut page = String::new();
    let mut rest = TEMPLATE;
    for (place, part) in parts {
        if let Some((before, after)) = rest.split_once(place) {
            page.push_str(before);
            page.push_str(part);
            rest = after;
        }
    }
    page.push_str(rest);
    page
}

/// Writes the digest of an inline script or style as a content security policy names it (CSP 3,
/// section 2.3.1).
fn hash(text: &str) -> String {
    format!(
        "sha256-{}",
        STANDARD.encode(Digest::of(text.as_bytes()).as_bytes())
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Says what is known of the session as a whole.
fn facts(summary: &Summary, session: &SessionId, is_filtered: bool) -> Vec<String> {
    let mut facts = vec![
        format!("session {session}"),
        format!("in {}", summary.workspace),
    ];
    if let Some(outcome) = &summary.outcome {
        facts.push(outcome.text("the command"));
    }
    facts.extend(summary.duration_ms.map(span));
    facts.push(plural(summary.events, "event", "events"));
    let refused: u64 = summary.refused.iter().map(|refusal| refusal.count).sum();
    facts.push(format!(
        "{} refused",
        number(refused + summary.refused_more)
    ));
    if summary.asked > 0 {
        let (yes, no) = (number(summary.asks_allowed), number(summary.asks_denied));
        let asked = number(summary.asked);
        facts.push(format!("{asked} asked ({yes} allowed, {no} denied)"));
    }
    for weakness in &summary.weaknesses {
        facts.push(format!("not held: {}", safe(&weakness.guarantee)));
    }
    if is_filtered {
        facts.push("filtered: this page has only what was asked for".to_owned());
    }
    facts
}

/// Texts of a page, each of them once.
struct Texts {
    list: Vec<String>,
    places: HashMap<String, usize>,
    bytes: usize,
    detail_bytes: usize,
}

impl Texts {
    fn new() -> Self {
        Self {
            list: vec![String::new()],
            places: HashMap::from([(String::new(), 0)]),
            bytes: 0,
            detail_bytes: 0,
        }
    }

    fn place(&mut self, text: &str) -> usize {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let text = if self.bytes > TEXT_BYTES_MAX {
            cut(text, CUT_CHARS)
        } else {
            text.to_owned()
        };
        self.bytes += text.len();
        let place = self.list.len();
        self.list.push(text.clone());
        *self.places.entry(text).or_insert(place)
    }

    fn detail(&mut self, text: &str) -> usize {
        let text = if self.detail_bytes > DETAIL_BYTES_MAX {
            &cut(text, CUT_CHARS)
        } else {
            text
        };
        let before = self.bytes;
        let place = self.place(text);
        self.detail_bytes += self.bytes - before;
        place
    }
}

/// Adds a node as a list of numbers, without the zeros at its end.
fn push_row(rows: &mut String, node: &Node, begun_ms: u64, texts: &mut Texts) {
    let index = |place: usize| u64::try_from(place).unwrap_or(0);
    let sort = SORTS.iter().position(|sort| *sort == node.sort);
    let traffic = node.traffic.unwrap_or_default();
    let verdict = match node.verdict {
        None => 0,
        Some(Verdict::Allow) => 1,
        Some(Verdict::Ask) => 2,
        Some(Verdict::Deny) => 3,
    };
    let certainty = match node.certainty {
        None => 0,
        Some(Certainty::Exact) => 1,
        Some(Certainty::Inferred) => 2,
    };
    let text = texts.place(&node.text);
    let facts = texts.place(&node.facts());
    let detail = texts.detail(node.detail.as_deref().unwrap_or_default());
    let about = texts.place(node.about.as_deref().unwrap_or_default());
    let mut numbers = vec![
        index(node.depth),
        index(sort.unwrap_or(0)),
        (node.time_unix_ns / NANOS_PER_MILLI).saturating_sub(begun_ms),
        node.seq,
        index(text),
        index(facts),
        index(detail),
        index(about),
        if node.count == 1 { 0 } else { node.count },
        verdict,
        certainty,
        traffic.bytes_out,
        traffic.bytes_in,
        node.failed,
    ];
    while numbers.last() == Some(&0) {
        numbers.pop();
    }
    rows.push('[');
    for (at, number) in numbers.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        ignored(
            write!(rows, "{comma}{number}"),
            "a string takes what is written to it",
        );
    }
    rows.push(']');
}

/// Writes the page to `file`, readable by its owner alone. A session can have made what is there, so
/// nothing is followed: a plain file is replaced, everything else is refused.
///
/// # Errors
/// When something else than a plain file is there, or it cannot be written.
pub(super) fn write(file: &Path, page: &str) -> anyhow::Result<()> {
    match fs::symlink_metadata(file) {
        Ok(there) if !there.is_file() => bail!(
            "`{}` is there and is not a plain file; name another one for --html",
            safe(&file.to_string_lossy())
        ),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).context(failed(file)),
    }
    let beside = beside(file).with_context(|| failed(file))?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut new| new.write_all(page.as_bytes()))
        .and_then(|()| fs::rename(&beside, file));
    if written.is_err() {
        ignored(
            fs::remove_file(&beside),
            "what could not be written may not exist",
        );
    }
    written.with_context(|| failed(file))
}

fn failed(file: &Path) -> String {
    format!("cannot write `{}`", safe(&file.to_string_lossy()))
}

/// Names a new file in the same directory.
fn beside(file: &Path) -> Option<PathBuf> {
    let mut name = std::ffi::OsString::from(".");
    name.push(file.file_name()?);
    name.push(format!(".{}", std::process::id()));
    Some(file.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::{SCRIPT, STYLE, TEMPLATE};

    /// Nothing ends a script or style early, and nothing is fetched or made of text.
    #[test]
    fn the_page_is_what_its_policy_allows() {
        for part in [SCRIPT, STYLE] {
            assert!(!part.contains("</") && !part.contains("<!--"));
        }
        for part in [TEMPLATE, SCRIPT, STYLE] {
            for foreign in ["http:", "https:", "//cdn", "url(", "@import", "src="] {
                assert!(!part.contains(foreign), "{foreign}");
            }
        }
        for maker in [
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
        ] {
            assert!(!SCRIPT.contains(maker), "{maker}");
        }
        for handler in ["onclick", "onload", "onerror", "style=\""] {
            assert!(!TEMPLATE.contains(handler), "{handler}");
        }
    }
}
