//! Globs over bytes: `*` is any run of bytes, `{a,b}` are alternatives, `\` escapes.

use super::PatternError;

/// Most alternatives to which the braces of one glob may expand, so that `{a,b}{c,d}…` stays small.
const ALTERNATIVES_MAX: usize = 64;

/// What a star stands for in the sample of a pattern.
pub(crate) const SAMPLE: &str = "example";

/// A parsed glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob {
    text: String,
    alternatives: Vec<Vec<Piece>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Many,
}

/// Whether letters of different case are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Exact,
    Ignore,
}

/// The meaning of a `:` for a `*` that is not the whole glob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colon {
    /// A byte like any other.
    IsPlain,
    /// The end of the text that the star may match.
    Ends,
}

impl Glob {
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        if Self::is_plain(text) {
            // Most words of policies are plain: no brace needs expansion.
            let literal = (!text.is_empty()).then(|| Piece::Literal(text.into()));
            return Ok(Self {
                text: text.to_owned(),
                alternatives: vec![literal.into_iter().collect()],
            });
        }
        let mut alternatives = Vec::new();
        for branch in unfold(text)? {
            alternatives.push(pieces(&branch)?);
        }
        Ok(Self {
            text: text.to_owned(),
            alternatives,
        })
    }

    /// Returns whether a text has no special character, so that it matches only itself.
    pub(crate) fn is_plain(text: &str) -> bool {
        !text.bytes().any(|byte| matches!(byte, b'*' | b'{' | b'\\'))
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn matches(&self, bytes: &[u8], case: Case) -> bool {
        self.alternatives
            .iter()
            .any(|alternative| matches_pieces(alternative, bytes, case))
    }

    /// Returns whether it matches a word of a command; with [`Colon::Ends`] no star matches a `:`,
    /// except a star that is a whole alternative.
    pub(crate) fn matches_word(&self, word: &[u8], colon: Colon) -> bool {
        if colon == Colon::IsPlain || !word.contains(&b':') {
            return self.matches(word, Case::Exact);
        }
        let colons = |bytes: &[u8]| bytes.split(|byte| *byte == b':').count() - 1;
        self.alternatives.iter().any(|alternative| {
            let written = alternative.iter().map(|piece| match piece {
                Piece::Literal(text) => colons(text),
                Piece::Many => 0,
            });
            let all = alternative == &[Piece::Many] || written.sum::<usize>() == colons(word);
            all && matches_pieces(alternative, word, Case::Exact)
        })
    }

    /// Returns whether no text that it matches begins with `byte`.
    pub(crate) fn begins_otherwise_than(&self, byte: u8) -> bool {
        self.alternatives
            .iter()
            .all(|alternative| match alternative.first() {
                Some(Piece::Literal(text)) => text.first().is_some_and(|first| *first != byte),
                Some(Piece::Many) => false,
                // The empty text does not begin with it.
                None => true,
            })
    }

    /// Returns whether it is `*`, which everything matches.
    pub(crate) fn is_any(&self) -> bool {
        self.alternatives
            .iter()
            .any(|alternative| alternative == &[Piece::Many])
    }

    /// Returns the texts that it matches, if it has no `*`.
    pub(crate) fn literals(&self) -> Option<Vec<&[u8]>> {
        self.alternatives
            .iter()
            .map(|alternative| literal(alternative))
            .collect()
    }

    /// Returns a text that it matches.
    pub(crate) fn sample(&self) -> String {
        let pieces = self.alternatives.first().into_iter().flatten();
        let text: Vec<u8> = pieces
            .flat_map(|piece| match piece {
                Piece::Literal(text) => text.as_slice(),
                Piece::Many => SAMPLE.as_bytes(),
            })
            .copied()
            .collect();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The same as [`Self::contains`], also for stars within stars: `git push*` covers `git push origin *`.
    pub(crate) fn covers(&self, inner: &Self) -> bool {
        let mut alternatives = inner.alternatives.iter();
        self.contains(inner)
            || alternatives.all(|pieces| self.matches(&with_marks(pieces), Case::Exact))
    }

    /// Returns whether every text that it matches begins with `text`.
    pub(crate) fn begins_with(&self, text: &[u8]) -> bool {
        self.alternatives
            .iter()
            .all(|alternative| match alternative.first() {
                Some(Piece::Literal(own)) => own.starts_with(text),
                Some(Piece::Many) | None => text.is_empty(),
            })
    }

    /// Returns whether everything that matches `inner` certainly matches this one.
    pub(crate) fn contains(&self, inner: &Self) -> bool {
        self.is_any()
            || self.alternatives == inner.alternatives
            || inner
                .literals()
                .is_some_and(|texts| texts.iter().all(|text| self.matches(text, Case::Exact)))
    }
}

/// Writes a glob as a text that has a byte for each star which no text of a pattern has, because that is
/// UTF-8: only a star can match it.
fn with_marks(pieces: &[Piece]) -> Vec<u8> {
    let mut text = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Literal(own) => text.extend_from_slice(own),
            Piece::Many => text.push(0xff),
        }
    }
    text
}

fn literal(alternative: &[Piece]) -> Option<&[u8]> {
    match alternative {
        [] => Some(&[]),
        [Piece::Literal(text)] => Some(text),
        _ => None,
    }
}

/// Expands braces: `a{b,c}d` becomes `abd`, `acd`. Braces do not nest.
fn unfold(text: &str) -> Result<Vec<String>, PatternError> {
    let mut done: Vec<String> = vec![String::new()];
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => {
                let escaped = rest.next().ok_or_else(|| {
                    PatternError::new(format!("`{text}` ends in a backslash; write `\\\\`"))
                })?;
                for branch in &mut done {
                    branch.push('\\');
                    branch.push(escaped);
                }
            }
            '{' => {
                let inner = take_brace(&mut rest).ok_or_else(|| {
                    PatternError::new(format!(
                        "`{text}` has a `{{` without its `}}` (braces do not nest); write `\\{{` \
                         for the character itself"
                    ))
                })?;
                let choices: Vec<&str> = inner.split(',').collect();
                if done.len() * choices.len() > ALTERNATIVES_MAX {
                    return Err(PatternError::new(format!(
                        "`{text}` unfolds to more than {ALTERNATIVES_MAX} alternatives; split it"
                    )));
                }
                done = done
                    .iter()
                    .flat_map(|head| choices.iter().map(move |choice| format!("{head}{choice}")))
                    .collect();
            }
            c => {
                let after = rest.as_str();
                let end = after.find(['\\', '{']).unwrap_or(after.len());
                let (plain, behind) = after.split_at_checked(end).unwrap_or((after, ""));
                for branch in &mut done {
                    branch.push(c);
                    branch.push_str(plain);
                }
                rest = behind.chars();
            }
        }
    }
    Ok(done)
}

fn take_brace(rest: &mut std::str::Chars<'_>) -> Option<String> {
    let mut inner = String::new();
    loop {
        match rest.next()? {
            '}' => return Some(inner),
            '{' => return None,
            c => inner.push(c),
        }
    }
}

fn pieces(text: &str) -> Result<Vec<Piece>, PatternError> {
    let mut pieces = Vec::new();
    let mut run = Vec::new();
    let mut chars = text.chars();
    let mut buffer = [0; 4];
    while let Some(c) = chars.next() {
        match c {
            '*' => {
                if !run.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut run)));
                }
                if pieces.last() != Some(&Piece::Many) {
                    pieces.push(Piece::Many);
                }
            }
            '\\' => {
                let escaped = chars.next().ok_or_else(|| {
                    PatternError::new(format!("`{text}` ends in a backslash; write `\\\\`"))
                })?;
                run.extend_from_slice(escaped.encode_utf8(&mut buffer).as_bytes());
            }
            c => {
                run.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
                let after = chars.as_str();
                let end = after.find(['\\', '*']).unwrap_or(after.len());
                let (plain, behind) = after.split_at_checked(end).unwrap_or((after, ""));
                run.extend_from_slice(plain.as_bytes());
                chars = behind.chars();
            }
        }
    }
    if !run.is_empty() {
        pieces.push(Piece::Literal(run));
    }
    Ok(pieces)
}

/// Matches the literals between stars leftmost first. That is enough, because an earlier place
/// never rules out a later match. So the time is linear in practice and never exponential.
fn matches_pieces(pieces: &[Piece], bytes: &[u8], case: Case) -> bool {
    let Some((first, rest)) = pieces.split_first() else {
        return bytes.is_empty();
    };
    match first {
        Piece::Literal(text) => {
            take_prefix(bytes, text, case).is_some_and(|tail| matches_pieces(rest, tail, case))
        }
        Piece::Many => after_star(rest, bytes, case),
    }
}

fn after_star(mut pieces: &[Piece], mut bytes: &[u8], case: Case) -> bool {
    loop {
        match pieces {
            [] => return true,
            [Piece::Many, rest @ ..] => pieces = rest,
            // The last literal must end the text.
            [Piece::Literal(text)] => return ends_with(bytes, text, case),
            [Piece::Literal(text), rest @ ..] => {
                let found = (0..=bytes.len().saturating_sub(text.len()))
                    .find_map(|at| take_prefix(bytes.get(at..)?, text, case));
                let Some(tail) = found else { return false };
                bytes = tail;
                pieces = rest;
            }
        }
    }
}

fn take_prefix<'b>(bytes: &'b [u8], text: &[u8], case: Case) -> Option<&'b [u8]> {
    let (head, tail) = bytes.split_at_checked(text.len())?;
    equal(head, text, case).then_some(tail)
}

fn ends_with(bytes: &[u8], text: &[u8], case: Case) -> bool {
    bytes
        .len()
        .checked_sub(text.len())
        .and_then(|start| bytes.get(start..))
        .is_some_and(|tail| equal(tail, text, case))
}

pub(crate) fn equal(a: &[u8], b: &[u8], case: Case) -> bool {
    match case {
        Case::Exact => a == b,
        Case::Ignore => a.eq_ignore_ascii_case(b),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

    use super::{Case, Glob, pieces, unfold};

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::parse(pattern)
            .unwrap()
            .matches(text.as_bytes(), Case::Exact)
    }

    /// Parsing without expansion gives the same result as with it.
    #[test]
    fn plain_words_stand_for_themselves() {
        for text in ["", "git", "a}b", "a,b", "~/x y", "ö?[a]"] {
            let glob = Glob::parse(text).unwrap();
            let unfolded: Vec<_> = unfold(text)
                .unwrap()
                .iter()
                .map(|branch| pieces(branch).unwrap())
                .collect();
            assert_eq!(glob.alternatives, unfolded, "{text:?}");
        }
    }

    #[test]
    fn stars_within_stars_are_covered() {
        let covers = |outer: &str, inner: &str| {
            Glob::parse(outer)
                .unwrap()
                .covers(&Glob::parse(inner).unwrap())
        };
        for (outer, inner, expected) in [
            ("git push*", "git push origin *", true),
            ("*push*", "git push*x", true),
            ("a*{b,c}", "a*x{b,c}", true),
            ("git push *", "git push*", false),
            ("a*b", "a*", false),
            ("a*a", "a", false),
            ("{a,b}*", "{a,c}*", false),
        ] {
            assert_eq!(covers(outer, inner), expected, "{outer} {inner}");
        }
    }

    #[test]
    fn stars_and_alternatives_match() {
        assert!(matches("--force*", "--force-with-lease"));
        assert!(matches("*npm-cli.js", "/usr/lib/npm-cli.js"));
        assert!(matches("{push,send-pack}", "send-pack"));
        assert!(!matches("{push,send-pack}", "pushy"));
        assert!(matches("a*b*c", "a-b-b-c"));
        assert!(!matches("a*bc*d", "abd"));
        assert!(matches(r"\*", "*"));
        assert!(!matches(r"\*", "x"));
        assert!(matches("*", ""));
        assert!(!matches("", "x"));
    }

    #[test]
    fn containment_is_never_claimed_wrongly() {
        let glob = |text: &str| Glob::parse(text).unwrap();
        assert!(glob("*").contains(&glob("a*")));
        assert!(glob("a*").contains(&glob("{ab,ac}")));
        assert!(!glob("a*").contains(&glob("*")));
        assert!(!glob("ab").contains(&glob("a*")));
    }

    #[test]
    fn broken_globs_are_refused() {
        for text in ["{a", "{a{b}}", "a\\", &"{a,b}".repeat(7)] {
            assert!(Glob::parse(text).is_err(), "{text}");
        }
    }

    /// The textbook definition, slow and obvious.
    fn oracle(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|n| oracle(rest, &text[n..])),
            Some((c, rest)) => text.first() == Some(c) && oracle(rest, &text[1..]),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn it_agrees_with_the_definition(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(matches(&pattern, &text), oracle(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn what_is_covered_matches_nothing_else(
            outer in "[ab*{},]{0,8}", inner in "[ab*]{0,8}", text in "[ab]{0,8}",
        ) {
            if let (Ok(outer), Ok(inner)) = (Glob::parse(&outer), Glob::parse(&inner)) {
                let is_in = |glob: &Glob| glob.matches(text.as_bytes(), Case::Exact);
                prop_assert!(!outer.covers(&inner) || !is_in(&inner) || is_in(&outer));
            }
        }
    }
}
