//! Finds the command of a tool call in the shell invocation with which the agent runs it.
//!
//! Agents wrap a command in their own script: it loads what they know of the person's shell, and
//! afterwards reports the directory to them. A reader wants the command.

use stockade_agents::HookAgent;
use stockade_types::RawText;

/// Names of shells.
const SHELLS: [&str; 7] = ["ash", "bash", "dash", "fish", "ksh", "sh", "zsh"];
/// The beginning of Codex's scripts: the command comes with the next execution of the same process.
const CODEX_SCRIPT: &str = "__CODEX_SNAPSHOT";
/// In front of what they execute at their end.
const CODEX_EXECUTION: &str = "\nexec ";
/// In the scripts with which Codex inspects the person's shell.
const CODEX_SNAPSHOT: &str = "__codex_snapshot";
/// In Claude's scripts, in front of the command, which is one shell word.
const CLAUDE_SNAPSHOT: &str = "/shell-snapshots/";
const CLAUDE_COMMAND: &str = "&& eval ";
/// These follow a part that may fail, and the command.
const CLAUDE_QUIET: &str = " 2>/dev/null || true";
const CLAUDE_END: &str = " < /dev/null && pwd -P >| ";

/// Gemini CLI's scripts are options of the shell, a file for the numbers of what goes on, and the command
/// in a subshell.
const GEMINI_OPTIONS: &str = "shopt -u ";
const GEMINI_FILE: &str = "; _bgpids_file=";
const GEMINI_BEGIN: &str = "\n(\n  trap 'jobs -p > \"$_bgpids_file\"' EXIT\n";
const GEMINI_END: &str = "\n)\n__code=$?\nexit $__code";

/// The meaning of a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A tool call of the agent, with this command.
    Tool(String),
    /// A tool call, whose command the process executes next.
    ToolToCome,
    /// A script for a shell.
    Script(String),
    /// A program.
    Program,
}

/// Returns the meaning of a command line; the text is not escaped.
pub fn meaning(argv: &[RawText]) -> Meaning {
    let Some(script) = script(argv) else {
        return Meaning::Program;
    };
    if script.starts_with(CODEX_SCRIPT) {
        return codex_command(&script).map_or(Meaning::ToolToCome, Meaning::Tool);
    }
    match claude_command(&script).or_else(|| gemini_command(&script)) {
        Some(command) => Meaning::Tool(command),
        None => Meaning::Script(script),
    }
}

/// Returns the shell and the command of a tool call from a command line in one text, if it is a
/// tool call; the text is not escaped.
pub(crate) fn in_line(line: &str) -> Option<(&str, String)> {
    let (shell, script) = line.split_once(" -c ")?;
    let name = shell.rsplit('/').next()?;
    if !SHELLS.contains(&name) {
        return None;
    }
    Some((name, claude_command(script)?))
}

/// Returns the command of one of Codex's scripts, which ends with its execution by a shell.
fn codex_command(script: &str) -> Option<String> {
    let (_, last) = script.split_once(CODEX_EXECUTION)?;
    let (_shell, rest) = word(last);
    let rest = rest.trim_start();
    let (option, rest) = word(rest);
    let (command, rest) = word(rest.trim_start());
    (option.starts_with('-') && option.ends_with('c') && rest.trim().is_empty()).then_some(command)
}

/// Returns the command of one of Claude's scripts. A script with anything more around the command
/// is shown whole, so that no program can hide a command from the reader in such a script.
fn claude_command(script: &str) -> Option<String> {
    let (before, rest) = script.split_once(CLAUDE_COMMAND)?;
    let harmless = before.split("&&").map(str::trim).all(|part| {
        let part = part.strip_suffix(CLAUDE_QUIET).unwrap_or(part);
        let known = ["source ", "setopt ", "unsetopt ", "shopt "];
        plain(part) && known.iter().any(|word| part.starts_with(word))
    });
    let (command, rest) = word(rest);
    // The record cuts a long script, and the cut may be in the part that follows.
    let ends = rest.starts_with(CLAUDE_END) || CLAUDE_END.starts_with(rest);
    (before.contains(CLAUDE_SNAPSHOT) && harmless && ends).then_some(command)
}

/// Returns the command of one of Gemini CLI's scripts; one with anything more around it is shown whole.
fn gemini_command(script: &str) -> Option<String> {
    let (options, rest) = script
        .strip_prefix(GEMINI_OPTIONS)?
        .split_once(GEMINI_FILE)?;
    let (file, rest) = rest.split_once(GEMINI_BEGIN)?;
    let command = rest.strip_suffix(GEMINI_END)?;
    (plain(options) && plain(file)).then(|| command.to_owned())
}

/// Tells whether a text is words without a meaning for the shell.
fn plain(text: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || " /._-~".contains(letter);
    text.chars().all(is_plain)
}

/// Whether this is a script with which an agent inspects the person's shell.
pub fn looks_at_shell(script: &str) -> bool {
    script.contains(CODEX_SNAPSHOT) || script.starts_with("SNAPSHOT_FILE=")
}

/// Whether this is the script with which an agent starts the hook of its boundary, and nothing else.
pub fn starts_hook(script: &str) -> bool {
    HookAgent::is_command(script)
}

/// Returns the script that a shell is given with `-c`.
fn script(argv: &[RawText]) -> Option<String> {
    let program = argv.first()?.to_os().to_string_lossy().into_owned();
    let name = program
        .rsplit('/')
        .next()?
        .trim_start_matches('-')
        .to_owned();
    if !SHELLS.contains(&name.as_str()) {
        return None;
    }
    let mut words = argv.iter().skip(1).map(RawText::to_os);
    let is_option = |word: &str| word.starts_with('-') && !word.starts_with("--");
    let mut wanted = false;
    words
        .find_map(|word| {
            let word = word.to_string_lossy();
            if is_option(&word) {
                wanted |= word.contains('c');
                return None;
            }
            Some(word.into_owned())
        })
        .filter(|_| wanted)
}

/// Reads one shell word, with the shell's quotes and backslashes, and returns the rest.
fn word(text: &str) -> (String, &str) {
    let mut word = String::new();
    let mut letters = text.chars();
    let mut rest = text;
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => word.extend(letters.by_ref().take_while(|letter| *letter != '\'')),
            '"' => {
                while let Some(inner) = letters.next() {
                    match inner {
                        '"' => break,
                        '\\' => word.extend(letters.next()),
                        other => word.push(other),
                    }
                }
            }
            '\\' => word.extend(letters.next()),
            blank if blank.is_whitespace() => return (word, rest),
            other => word.push(other),
        }
        rest = letters.as_str();
    }
    (word, rest)
}

#[cfg(test)]
mod tests {
    use stockade_types::RawText;

    use super::{Meaning, in_line, meaning};

    fn of(argv: &[&str]) -> Meaning {
        let argv: Vec<RawText> = argv.iter().map(|word| RawText::from(*word)).collect();
        meaning(&argv)
    }

    #[test]
    fn the_command_is_found_behind_what_agents_put_around_it() {
        let claude = |word: &str| {
            let script = format!(
                "source /home/u/.claude/shell-snapshots/snapshot-zsh-1.sh 2>/dev/null || true && \
                 setopt NO_EXTENDED_GLOB 2>/dev/null || true && eval {word} < /dev/null && \
                 pwd -P >| /tmp/claude-d391-cwd"
            );
            of(&["/usr/bin/zsh", "-c", &script])
        };
        let tool = |text: &str| Meaning::Tool(text.to_owned());
        assert_eq!(claude("./test.sh"), tool("./test.sh"));
        assert_eq!(
            claude(r#"'printf '"'"'a b'"'"' && eval x >> README.md'"#),
            tool("printf 'a b' && eval x >> README.md")
        );
        assert_eq!(claude(r#""a \"b\" c""#), tool("a \"b\" c"));
        assert_eq!(claude(r"a\ b"), tool("a b"));
        let gemini = |options: &str, command: &str| {
            let script = format!(
                "shopt -u {options}; _bgpids_file=/tmp/gemini-shell-4DT/bgpids.tmp\n(\n  trap 'jobs -p > \
                 \"$_bgpids_file\"' EXIT\n{command}\n)\n__code=$?\nexit $__code"
            );
            (of(&["/usr/bin/bash", "-c", &script]), script)
        };
        assert_eq!(
            gemini("promptvars nullglob", "a | b\nc").0,
            tool("a | b\nc")
        );
        let (more, whole) = gemini("x; curl evil", "ls");
        assert_eq!(more, Meaning::Script(whole));
        // More than Claude writes.
        for script in [
            "source /x/shell-snapshots/y || true && curl evil && eval ls < /dev/null && pwd -P >| x",
            "source /x/shell-snapshots/y; curl evil && eval ls < /dev/null && pwd -P >| x",
            "source /x/shell-snapshots/$(curl evil) && eval ls < /dev/null && pwd -P >| x",
            "source /x/shell-snapshots/y && eval ls < /dev/null && curl evil",
            "source /x/shell-snapshots/y && eval ls; curl evil",
        ] {
            assert_eq!(
                of(&["bash", "-c", script]),
                Meaning::Script(script.to_owned())
            );
        }
        // Cut in the middle.
        assert_eq!(
            claude("'git commit"),
            tool("git commit < /dev/null && pwd -P >| /tmp/claude-d391-cwd")
        );
        let codex = "__CODEX_SNAPSHOT_OVERRIDE_SET_0=\"${X+x}\"\nexec '/bin/bash' -c 'true'";
        assert_eq!(of(&["/bin/bash", "-c", codex]), tool("true"));
        let two = "__CODEX_SNAPSHOT_X=1\nexec '/bin/bash' -lc 'a\nexec b -c '\\''c'\\''' ";
        assert_eq!(of(&["/bin/bash", "-c", two]), tool("a\nexec b -c 'c'"));
        // What is cut, or goes on, is not known before it is executed.
        for more in [
            "__CODEX_SNAPSHOT_X=1\n",
            "__CODEX_SNAPSHOT_X=1\nexec sh -c 'a'; b",
        ] {
            assert_eq!(of(&["/bin/bash", "-c", more]), Meaning::ToolToCome);
        }
    }

    #[test]
    fn a_command_line_of_a_parent_is_known_also_where_it_is_cut() {
        let whole = "/bin/bash -c source /h/.claude/shell-snapshots/s.sh 2>/dev/null || true && \
                     shopt -u extglob 2>/dev/null || true && eval 'git push x' < /dev/null && \
                     pwd -P >| /tmp/claude-1-cwd";
        let end = whole.find(" && pwd").unwrap();
        for cut in [whole.len(), end, end - 4, end - 12] {
            let line = whole.get(..cut).unwrap();
            assert_eq!(
                in_line(line),
                Some(("bash", "git push x".to_owned())),
                "{line}"
            );
        }
        for line in [
            "bash -c source /h/shell-snapshots/s; evil && eval 'ls' < /dev/null",
            "bash -c source /h/shell-snapshots/s && eval 'ls' < /dev/null && evil",
            "node -c source /h/shell-snapshots/s && eval 'ls'",
            "bash -lc make",
        ] {
            assert_eq!(in_line(line), None, "{line}");
        }
    }

    #[test]
    fn other_command_lines_are_what_they_are() {
        let script = |text: &str| Meaning::Script(text.to_owned());
        assert_eq!(of(&["/bin/bash", "-lc", "make test"]), script("make test"));
        assert_eq!(of(&["zsh", "-c", "-l", "x"]), script("x"));
        assert_eq!(of(&["-bash", "-c", "x", "y"]), script("x"));
        for argv in [
            &["bash"][..],
            &["bash", "x.sh", "-c"],
            &["node", "-c", "x"],
            &[],
        ] {
            assert_eq!(of(argv), Meaning::Program, "{argv:?}");
        }
    }
}
