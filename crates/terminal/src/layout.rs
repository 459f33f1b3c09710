//! How a question looks: lines of exactly the same width, in 80 columns or fewer.

use stockade_policy::Scope;
use stockade_types::UnixMillis;

use super::{
    card::{Card, Hears, Mode},
    screen::Size,
    text::{columns, cut, fit, solid, wrap},
};

/// Widest box: longer lines are hard to read.
const WIDTH_MAX: usize = 99;
/// Below this a box cannot hold a label and a few words; a single line gives the instruction.
const WIDTH_MIN: usize = 28;
/// Borders, one line of text, a gap and one line of keys.
const HEIGHT_MIN: usize = 5;
/// Columns of the labels.
const LABEL: usize = 10;
/// Below this inner width the text is placed under its label.
const INNER_MIN_FOR_COLUMNS: usize = 40;

/// Shown while keys do not count yet.
const WAIT: &str = "wait…";

/// The kind of a line, for colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Part of the frame.
    Border,
    /// Plain text.
    Text,
    /// A warning.
    Warning,
    /// The effects of the keys.
    Keys,
}

/// A box.
#[derive(Debug)]
pub struct Drawn {
    /// The lines from the top, each with its kind.
    pub lines: Vec<(Kind, String)>,
    /// Columns of the widest line.
    pub width: usize,
    /// Lines of content that the box shows at once; zero if it shows none.
    pub page: usize,
    /// Lines of content in all.
    pub content: usize,
}

impl Drawn {
    /// Returns the lines as bytes for a terminal.
    pub fn styled(&self, color: Color) -> Vec<String> {
        let style = |kind: Kind| match (color, kind) {
            (Color::None, _) | (_, Kind::Text) => ("", ""),
            (_, Kind::Border) => ("\x1b[36m", "\x1b[m"),
            (_, Kind::Warning) => ("\x1b[1;33m", "\x1b[m"),
            (_, Kind::Keys) => ("\x1b[1m", "\x1b[m"),
        };
        let line = |(kind, text): &(Kind, String)| {
            let (on, off) = style(*kind);
            format!("{on}{text}{off}")
        };
        self.lines.iter().map(line).collect()
    }
}

/// Whether colours may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// No colours.
    None,
    /// The eight colours of ECMA-48.
    Ansi,
}

/// Draws a question for a terminal of this size; the last column stays free, so that no line
/// wraps.
pub(super) fn draw(card: &Card, size: Size, now: UnixMillis) -> Drawn {
    let width = usize::from(size.columns).saturating_sub(1).min(WIDTH_MAX);
    let height = usize::from(size.rows).saturating_sub(1);
    if width < WIDTH_MIN || height < HEIGHT_MIN {
        let short = card.view.id.as_str();
        // The part that is cut off is the least important.
        let key = match card.hears {
            Hears::Nothing => WAIT,
            Hears::Some | Hears::All => "[d]eny",
        };
        let text = format!("{key} or enlarge · stockade asks: {short}");
        return Drawn {
            lines: vec![(Kind::Keys, fit(&text, width))],
            width,
            page: 0,
            content: 1,
        };
    }
    let inner = width - 4;
    let content = match card.mode {
        Mode::Help => help(card, inner),
        _ => content(card, inner),
    };
    let keys: Vec<String> = keys(card, inner, now);
    // Borders, and a gap above the keys if there is room.
    let fixed = keys.len() + 2;
    let room = height.saturating_sub(fixed).max(1);
    let fits = content.len() <= room;
    // A position line replaces the gap if the text is longer than the box.
    let page = if fits {
        content.len()
    } else {
        room.saturating_sub(1).max(1)
    };
    let first = card.scroll.min(content.len().saturating_sub(page));
    let mut lines = vec![(Kind::Border, top(card, width))];
    for (kind, text) in content.iter().skip(first).take(page) {
        lines.push((*kind, format!("│ {} │", fit(text, inner))));
    }
    if !fits {
        let last = (first + page).min(content.len());
        let hint = if last < content.len() {
            "[space] reads on"
        } else {
            "the end"
        };
        let text = format!(
            "lines {} to {last} of {} · {hint}",
            first + 1,
            content.len()
        );
        lines.push((Kind::Border, format!("│ {} │", fit(&text, inner))));
    } else if content.len() < room {
        lines.push((Kind::Text, format!("│ {} │", " ".repeat(inner))));
    }
    for line in keys {
        lines.push((Kind::Keys, format!("│ {} │", fit(&line, inner))));
    }
    lines.push((Kind::Border, bottom(card, width, now)));
    Drawn {
        lines,
        width,
        page,
        content: content.len(),
    }
}

fn top(card: &Card, width: usize) -> String {
    let count = format!(" {} of {} ┐", card.place, card.total);
    let title = format!("┌ stockade ── {} ", solid(&card.view.shown.title));
    let title = cut(&title, width.saturating_sub(columns(&count)));
    let line = width.saturating_sub(columns(&title) + columns(&count));
    format!("{title}{}{count}", "─".repeat(line))
}

fn bottom(card: &Card, width: usize, now: UnixMillis) -> String {
    let seconds = card.view.expires.0.saturating_sub(now.0).div_ceil(1000);
    let id = card.view.id.as_str();
    let text = format!(
        " deny in {}:{:02} · id {id} ──┘",
        seconds / 60,
        seconds % 60
    );
    let text = cut(&text, width.saturating_sub(1));
    let line = width.saturating_sub(columns(&text) + 1);
    format!("└{}{text}", "─".repeat(line))
}

/// Lays out all rows and warnings.
fn content(card: &Card, inner: usize) -> Vec<(Kind, String)> {
    let mut lines = Vec::new();
    for row in &card.view.shown.rows {
        labelled(&mut lines, Kind::Text, &row.label, &row.text, inner);
    }
    for warning in &card.view.shown.warnings {
        labelled(&mut lines, Kind::Warning, "! careful", warning, inner);
    }
    if card.view.waiting > 1 {
        let text = format!(
            "{} requests like this one wait for the answer",
            card.view.waiting
        );
        labelled(&mut lines, Kind::Text, "waiting", &text, inner);
    }
    lines
}

fn labelled(lines: &mut Vec<(Kind, String)>, kind: Kind, label: &str, text: &str, inner: usize) {
    let text = solid(text);
    if inner < INNER_MIN_FOR_COLUMNS {
        if !label.is_empty() {
            lines.push((kind, cut(label, inner)));
        }
        lines.extend(
            wrap(&text, inner - 2)
                .into_iter()
                .map(|part| (kind, format!("  {part}"))),
        );
        return;
    }
    let mut label = fit(label, LABEL - 1);
    for part in wrap(&text, inner - LABEL) {
        lines.push((kind, format!("{label} {part}")));
        label = " ".repeat(LABEL - 1);
    }
}

/// Describes the keys that have an effect now.
fn keys(card: &Card, inner: usize, now: UnixMillis) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(error) = &card.error {
        lines.extend(wrap(&solid(error), inner));
    }
    let words: Vec<String> = match &card.mode {
        Mode::Help => vec!["any key goes back".to_owned()],
        Mode::Reason(text) => {
            // The person types at the end of a long reason.
            let mut shown = wrap(&solid(text), inner.saturating_sub(10));
            let last = shown.pop().unwrap_or_default();
            lines.push(format!("reason: {last}_"));
            vec![
                "[enter] denies with this reason".to_owned(),
                "[esc] goes back".to_owned(),
            ]
        }
        Mode::Narrow => {
            let offered = card.narrower(now).into_iter();
            let mut words: Vec<String> = match card.hears {
                Hears::All => offered
                    .map(|(key, words, _)| format!("[{key}] {words}"))
                    .collect(),
                Hears::Nothing | Hears::Some => vec![WAIT.to_owned()],
            };
            words.push("[esc] goes back".to_owned());
            words
        }
        Mode::Picked {
            scope,
            repeated,
            keeps,
        } => {
            let step = if card.must_repeat && !card.confirms() {
                format!("type {} to go on: {repeated}_", card.code())
            } else if card.confirms() {
                "press Enter to allow".to_owned()
            } else {
                WAIT.to_owned()
            };
            let words = match card.view.lasting.as_ref().filter(|_| *keeps) {
                Some(lasting) => {
                    let rule = format!("keeps for this workspace: {}", lasting.rule.words);
                    lines.extend(wrap(&solid(&rule), inner));
                    "always".to_owned()
                }
                None => card.words(*scope, now),
            };
            vec![
                format!("allow {words}? {step}"),
                "[esc] goes back".to_owned(),
                "[d]eny".to_owned(),
            ]
        }
        Mode::Ask => asked(card, card.hears),
    };
    lines.extend(flow(&words, inner));
    if card.mode == Mode::Ask {
        // The box keeps its size when keys begin to count.
        let most = flow(&asked(card, Hears::All), inner).len() + usize::from(card.error.is_some());
        lines.resize(lines.len().max(most), String::new());
    }
    lines
}

fn asked(card: &Card, hears: Hears) -> Vec<String> {
    if hears == Hears::Nothing {
        return vec![format!("{WAIT} keys count after a second without any")];
    }
    let mut words = vec![
        "[d]eny".to_owned(),
        "deny with [r]eason".to_owned(),
        "[x] all".to_owned(),
    ];
    if card.view.scope_max.is_none() {
        let waits = card.view.waits_for.as_deref();
        words.extend(waits.map(|who| format!("waiting for {who}")));
        return words;
    }
    if !card.is_read {
        words.push("[space] reads on, then allow".to_owned());
    } else if hears == Hears::All {
        words.push("[o]nce".to_owned());
        if card.view.offers(Scope::Session) {
            words.push("this [s]ession".to_owned());
        }
        if card.view.offers(Scope::Paths) {
            words.push("its [p]aths".to_owned());
        }
        if card.has_narrower() {
            words.push("[n]arrower…".to_owned());
        }
        if card.view.lasting.is_some() {
            words.push("[a]lways".to_owned());
        }
    } else {
        words.push(WAIT.to_owned());
    }
    words.push("[?]".to_owned());
    words
}

/// Puts words into lines with three spaces between them.
fn flow(words: &[String], inner: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if columns(line) + 3 + columns(word) <= inner => {
                line.push_str("   ");
                line.push_str(word);
            }
            _ => lines.push(cut(word, inner)),
        }
    }
    lines
}

const HELP: [(&str, &str); 11] = [
    ("d", "deny; the agent is told so"),
    ("r", "deny with a reason, which the agent reads"),
    (
        "x",
        "deny all: this, and the same for the rest of the session",
    ),
    ("o", "pick: exactly this, one time"),
    ("s", "pick: what `session` says, until it ends"),
    ("p", "pick: what `paths` says, until the session ends"),
    ("n", "pick less than the session: a time, a number of uses"),
    (
        "a",
        "pick: this session, and a rule of yours for later ones; `stockade rules` lists them",
    ),
    (
        "enter",
        "allow what is picked, half a second after the letter",
    ),
    (
        "space ↑ ↓",
        "read on; nothing can be allowed before its end was shown",
    ),
    (
        "",
        "without an answer it is denied; `stockade approvals` answers from elsewhere",
    ),
];

fn help(card: &Card, inner: usize) -> Vec<(Kind, String)> {
    let mut lines = Vec::new();
    if !card.view.shown.details.is_empty() {
        let text = format!("all of it: stockade approvals show {}", card.view.id);
        labelled(&mut lines, Kind::Text, "details", &text, inner);
    }
    for row in &card.view.shown.details {
        labelled(&mut lines, Kind::Text, &row.label, &row.text, inner);
    }
    for (key, text) in HELP {
        labelled(&mut lines, Kind::Text, key, text, inner);
    }
    lines
}
