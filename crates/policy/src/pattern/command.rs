//! Command patterns: one pattern a token, `*` for one token, `**` for any number of them.

use std::fmt;

use super::{Glob, PatternError, glob::Case};

/// A parsed `command`. The first token stands for the names of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommandPattern {
    program: Token,
    arguments: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// `**`: any number of tokens.
    Rest,
    /// One token.
    One(Glob),
}

impl Token {
    fn parse(text: &str) -> Result<Self, PatternError> {
        if text == "**" {
            Ok(Self::Rest)
        } else {
            Glob::parse(text).map(Self::One)
        }
    }
}

impl CommandPattern {
    pub(crate) fn parse(tokens: &[&str]) -> Result<Self, PatternError> {
        let Some((program, arguments)) = tokens.split_first() else {
            return Err(PatternError::new(
                "a command needs at least the program, for example [\"git\", \"push\", \"**\"]",
            ));
        };
        if program.is_empty() {
            return Err(PatternError::new(
                "the program of a command cannot be empty",
            ));
        }
        let mut arguments = arguments
            .iter()
            .map(|t| Token::parse(t))
            .collect::<Result<Vec<_>, _>>()?;
        let program = match Token::parse(program)? {
            // `["**"]` is every program with every argument.
            Token::Rest => {
                if arguments.is_empty() {
                    arguments.push(Token::Rest);
                }
                Token::Rest
            }
            one @ Token::One(_) => one,
        };
        Ok(Self { program, arguments })
    }

    /// Tells whether the first token matches one of the program's names.
    pub(crate) fn matches_name(&self, name: &[u8]) -> bool {
        match &self.program {
            Token::Rest => true,
            Token::One(glob) => glob.matches(name, Case::Exact),
        }
    }

    /// Tells whether the first token is a path rather than a file name.
    pub(crate) fn names_path(&self) -> bool {
        matches!(&self.program, Token::One(glob) if glob.text().contains('/'))
    }

    /// Tells whether the tokens after the first match.
    pub(crate) fn matches_arguments(&self, arguments: &[&[u8]]) -> bool {
        let (mut p, mut s) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        loop {
            match (self.arguments.get(p), arguments.get(s)) {
                (None, None) => return true,
                (Some(Token::Rest), _) => {
                    p += 1;
                    retry = Some((p, s));
                }
                (Some(Token::One(glob)), Some(word)) if glob.matches(word, Case::Exact) => {
                    p += 1;
                    s += 1;
                }
                (_, None) => return false,
                (_, Some(_)) => {
                    let Some((after, from)) = retry else {
                        return false;
                    };
                    retry = Some((after, from + 1));
                    p = after;
                    s = from + 1;
                }
            }
        }
    }

    /// Tells whether it names a program at all, rather than any.
    pub(crate) fn is_explicit(&self) -> bool {
        matches!(&self.program, Token::One(glob) if !glob.is_any())
    }

    /// Returns the names of the program, where they have no star.
    pub(crate) fn program_names(&self) -> Option<Vec<&[u8]>> {
        match &self.program {
            Token::Rest => None,
            Token::One(glob) => glob.literals(),
        }
    }

    /// Returns what the first argument can be, where that is a list without a star.
    pub(crate) fn first_arguments(&self) -> Option<Vec<&[u8]>> {
        match self.arguments.first() {
            Some(Token::One(glob)) => glob.literals(),
            Some(Token::Rest) | None => None,
        }
    }

    /// Tells whether every command of `inner` is one of this pattern.
    pub(crate) fn contains(&self, inner: &Self) -> bool {
        token_contains(&self.program, &inner.program)
            && list_contains(&self.arguments, &inner.arguments)
    }
}

fn token_contains(outer: &Token, inner: &Token) -> bool {
    match (outer, inner) {
        (Token::Rest, _) => true,
        (Token::One(_), Token::Rest) => false,
        (Token::One(a), Token::One(b)) => a.contains(b),
    }
}

/// A table over both lists; `row[j]` says whether `outer[i..]` contains `inner[j..]`.
fn list_contains(outer: &[Token], inner: &[Token]) -> bool {
    let mut below: Vec<bool> = (0..=inner.len()).map(|j| j == inner.len()).collect();
    for token in outer.iter().rev() {
        let mut row = vec![false; inner.len() + 1];
        for j in (0..=inner.len()).rev() {
            let at = |cells: &[bool], j: usize| cells.get(j).copied().unwrap_or(false);
            let value = match (token, inner.get(j)) {
                // `**` takes nothing, or one more token or `**` of the inner list.
                (Token::Rest, next) => at(&below, j) || (next.is_some() && at(&row, j + 1)),
                (Token::One(_), None | Some(Token::Rest)) => false,
                (Token::One(a), Some(Token::One(b))) => a.contains(b) && at(&below, j + 1),
            };
            if let Some(cell) = row.get_mut(j) {
                *cell = value;
            }
        }
        below = row;
    }
    below.first().copied().unwrap_or(false)
}

impl fmt::Display for CommandPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |token: &Token| match token {
            Token::Rest => "**".to_owned(),
            Token::One(glob) => glob.text().to_owned(),
        };
        f.write_str(&text(&self.program))?;
        self.arguments
            .iter()
            .try_for_each(|token| write!(f, " {}", text(token)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, prop_assert, proptest};

    use super::CommandPattern;

    fn pattern(text: &str) -> CommandPattern {
        CommandPattern::parse(&text.split(' ').collect::<Vec<_>>()).unwrap()
    }

    fn matches(text: &str, line: &str) -> bool {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let (name, arguments) = words.split_first().unwrap();
        let pattern = pattern(text);
        pattern.matches_name(name) && pattern.matches_arguments(arguments)
    }

    #[test]
    fn tokens_stars_and_rests_match() {
        assert!(matches("git push **", "git push"));
        assert!(matches("git push **", "git push origin main"));
        assert!(!matches("git push **", "git pushx"));
        assert!(matches(
            "git push ** --force* **",
            "git push origin --force-with-lease x"
        ));
        assert!(!matches("git push ** --force* **", "git push origin main"));
        assert!(matches("{npm,pnpm} * publish", "pnpm x publish"));
        assert!(matches("**", "anything at all"));
        assert!(matches("git", "git"));
        assert!(!matches("git", "git status"));
    }

    #[test]
    fn containment_follows_the_tokens() {
        for (outer, inner, expected) in [
            ("**", "git push **", true),
            ("git **", "git push origin **", true),
            ("git push **", "git **", false),
            ("git push **", "git push origin main", true),
            ("git push ** --force* **", "git push origin **", false),
            ("git push ** --force* **", "git push origin --force", true),
            ("git * **", "git **", false),
        ] {
            assert_eq!(
                pattern(outer).contains(&pattern(inner)),
                expected,
                "{outer} | {inner}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn what_a_contained_pattern_matches_the_outer_matches(
            outer in proptest::collection::vec("(a|b|\\*|\\*\\*|a\\*)", 1..5),
            inner in proptest::collection::vec("(a|b|\\*|\\*\\*|a\\*)", 1..5),
            line in proptest::collection::vec("(a|b|ab)", 1..6),
        ) {
            let (outer, inner, line) = (outer.join(" "), inner.join(" "), line.join(" "));
            let promised = pattern(&outer).contains(&pattern(&inner));
            let broken = matches(&inner, &line) && !matches(&outer, &line);
            prop_assert!(!(promised && broken), "{outer} | {inner} | {line}");
        }
    }
}
