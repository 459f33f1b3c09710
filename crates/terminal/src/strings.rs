//! Strings: operating system commands (OSC), device control strings (DCS) and the rest, and which
//! of them may pass.

use super::sequence::Meaning;

/// Kinds of strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    OperatingSystem,
    Device,
    /// Application program command, privacy message, start of string: never passed.
    Other,
}

/// Returns the effect of a string without control characters.
pub(super) fn meaning(kind: Text, text: &str) -> Meaning {
    match kind {
        Text::OperatingSystem => command(text),
        Text::Device => device(text),
        Text::Other => Meaning::Dropped,
    }
}

/// Judges an operating system command by its number. Pass: titles (0 to 2), links to web pages (8),
/// notifications and progress (9, 777), pointer shape (22), resets of the palette (104, 105, 110 to
/// 119), prompt marks (133), and colours according to [`colour`].
///
/// Not on the list: the clipboard (52, 5522), fonts (50), the start directory of new windows (7),
/// notifications that answer (99), editors' and terminals' own command channels (51, 633, 697,
/// 1337, 5113).
fn command(text: &str) -> Meaning {
    let (number, rest) = text.split_once(';').unwrap_or((text, ""));
    let plain = number.len() <= 3 && !(number.len() > 1 && number.starts_with('0'));
    let Some(number) = plain.then(|| number.parse::<u16>().ok()).flatten() else {
        return Meaning::Dropped;
    };
    let passes = match number {
        4 | 5 | 10..=19 | 21 => return colour(number, rest),
        0..=2 | 22 | 104 | 105 | 110..=119 => true,
        8 => is_link(rest),
        9 => is_notice(rest),
        133 => is_mark(rest),
        // Other words call extensions of rxvt by name.
        777 => rest.starts_with("notify;"),
        _ => false,
    };
    if passes {
        Meaning::Draws
    } else {
        Meaning::Dropped
    }
}

/// Whether a link ends here, or leads to a web page or a mail address. For other links the desktop
/// chooses what a click opens: programs, files that run, other hosts.
fn is_link(rest: &str) -> bool {
    let Some((_, target)) = rest.split_once(';') else {
        return false;
    };
    let schemes = ["https://", "http://", "mailto:"];
    target.is_empty() || schemes.iter().any(|scheme| target.starts_with(scheme))
}

/// Whether a notification is a text or shows progress (9;4). Other numbers are commands of ConEmu:
/// message boxes, macros (6), programs (7), environment, directories.
fn is_notice(rest: &str) -> bool {
    let (first, more) = rest.split_once(';').unwrap_or((rest, ""));
    let first = first.trim();
    if !first.is_empty() && first.bytes().all(|b| b.is_ascii_digit()) {
        return first == "4" && more.bytes().all(|b| b.is_ascii_digit() || b == b';');
    }
    !first.is_empty()
}

/// Whether a prompt mark carries no text: a letter, an exit code, a kind of prompt.
fn is_mark(rest: &str) -> bool {
    let (letter, more) = rest.split_once(';').unwrap_or((rest, ""));
    let plain = more.bytes().all(|b| b.is_ascii_digit());
    matches!(letter, "A" | "B" | "C" | "D" | "N" | "P" | "I" | "L")
        && (plain || matches!(more, "k=i" | "k=s" | "k=c" | "k=r"))
}

/// Judges a command about colours: it passes if it only asks for them, or sets the cursor's (12),
/// which a question hides. Any other colour could make the words of a question invisible.
fn colour(number: u16, rest: &str) -> Meaning {
    let mut words = rest.split(';');
    let asks = match number {
        // Pairs of an index and a colour.
        4 | 5 => {
            let mut is_colour = false;
            let all = words.all(|word| {
                let good = if is_colour {
                    word == "?"
                } else {
                    word.bytes().all(|b| b.is_ascii_digit())
                };
                is_colour = !is_colour;
                good
            });
            all && !is_colour
        }
        12 if !rest.contains(';') && rest != "?" => return Meaning::Draws,
        21 => words.all(|word| word.ends_with("=?")),
        // Each further word is the colour of the next number.
        _ => words.all(|word| word == "?"),
    };
    if asks {
        Meaning::Asks
    } else {
        Meaning::Dropped
    }
}

/// Judges a device control string: only questions for capabilities by their names in hexadecimal
/// digits (`+q`) pass. Others ask for settings (`$q`), carry graphics, keys, commands or bytes for
/// an outer terminal, or delay drawing (`=1s`).
fn device(text: &str) -> Meaning {
    let is_name = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit() || b == b';');
    match text.strip_prefix("+q") {
        Some(names) if is_name(names) => Meaning::Asks,
        _ => Meaning::Dropped,
    }
}
