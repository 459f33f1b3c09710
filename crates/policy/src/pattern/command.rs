//! Command patterns, with one pattern per token: `*` for one token, `**` for any number of them,
//! and `*[…]` and `**[…]` for tokens from a list.

use std::fmt;

use super::{
    Glob, PatternError,
    glob::{Colon, SAMPLE},
};

/// A parsed `command`. The first token matches the names of the program.
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
    /// `*[…]`: one token of a list.
    OneOf(List),
    /// `**[…]`: any number of tokens, each from a list.
    ManyOf(List),
}

/// The content of the brackets: `-v --depth=* ...`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct List {
    text: String,
    globs: Vec<Glob>,
    /// `...`: words, which do not begin with `-`, are included.
    words: bool,
}

/// In a list, this matches every word that is not an option.
const WORDS: &str = "...";

impl List {
    fn parse(text: &str) -> Result<Self, PatternError> {
        let mut list = Self {
            text: text.to_owned(),
            globs: Vec::new(),
            words: false,
        };
        for item in text.split_ascii_whitespace() {
            if item == WORDS {
                list.words = true;
            } else {
                list.globs.push(Glob::parse(item)?);
            }
        }
        if list.globs.is_empty() && !list.words {
            return Err(PatternError::new(format!(
                "`[{text}]` lists nothing; write options, and `{WORDS}` for words that are none, for \
                 example `**[-q --verbose {WORDS}]`"
            )));
        }
        Ok(list)
    }

    fn has(&self, word: &[u8], colon: Colon) -> bool {
        (self.words && !word.starts_with(b"-"))
            || self.globs.iter().any(|glob| glob.matches_word(word, colon))
    }

    /// Returns whether each text of `glob` is certainly in the list.
    fn contains(&self, glob: &Glob) -> bool {
        (self.words && glob.begins_otherwise_than(b'-'))
            || self.globs.iter().any(|own| own.contains(glob))
    }

    fn contains_all(&self, inner: &Self) -> bool {
        (self.words || !inner.words) && inner.globs.iter().all(|glob| self.contains(glob))
    }
}

impl Token {
    fn parse(text: &str) -> Result<Self, PatternError> {
        if text == "**" {
            return Ok(Self::Rest);
        }
        let list = |opening| text.strip_prefix(opening)?.strip_suffix(']');
        if let Some(many) = list("**[") {
            return List::parse(many).map(Self::ManyOf);
        }
        match list("*[") {
            Some(one) => List::parse(one).map(Self::OneOf),
            None => Glob::parse(text).map(Self::One),
        }
    }

    /// Returns whether it matches any number of tokens.
    const fn is_many(&self) -> bool {
        matches!(self, Self::Rest | Self::ManyOf(_))
    }

    /// Returns a word that it matches; `None` if it matches none at all, too.
    fn sample(&self) -> Option<String> {
        match self {
            Self::Rest | Self::ManyOf(_) => None,
            Self::One(glob) => Some(glob.sample()),
            Self::OneOf(list) => {
                let first = list.globs.first().map(Glob::sample);
                Some(first.unwrap_or_else(|| SAMPLE.to_owned()))
            }
        }
    }

    /// Returns whether `word` can be this token, or one of the tokens that it matches.
    fn takes(&self, word: &[u8], colon: Colon) -> bool {
        match self {
            Self::Rest => true,
            Self::One(glob) => glob.matches_word(word, colon),
            Self::OneOf(list) | Self::ManyOf(list) => list.has(word, colon),
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
            // `["**"]` matches every program with every argument.
            Token::Rest => {
                if arguments.is_empty() {
                    arguments.push(Token::Rest);
                }
                Token::Rest
            }
            one @ Token::One(_) => one,
            Token::OneOf(_) | Token::ManyOf(_) => {
                return Err(PatternError::new(
                    "a program is named by its name or path; `[…]` lists arguments",
                ));
            }
        };
        Ok(Self { program, arguments })
    }

    /// Returns whether the first token matches one of the program's names.
    pub(crate) fn matches_name(&self, name: &[u8]) -> bool {
        self.program.takes(name, Colon::IsPlain)
    }

    /// Returns whether the first token is a path rather than a file name.
    pub(crate) fn names_path(&self) -> bool {
        matches!(&self.program, Token::One(glob) if glob.text().contains('/'))
    }

    /// Returns whether the tokens after the first match.
    pub(crate) fn matches_arguments(&self, arguments: &[&[u8]]) -> bool {
        self.matches_words(arguments, Colon::IsPlain)
    }

    /// The same for an allow, in which a `*` within a token does not match a `:`, because the text
    /// after it can be another place (`agent/fix:main` pushes to `main`).
    pub(crate) fn surely_matches_arguments(&self, arguments: &[&[u8]]) -> bool {
        self.matches_words(arguments, Colon::Ends)
    }

    /// Follows the words with the set of all places of the pattern that can come next.
    fn matches_words(&self, words: &[&[u8]], colon: Colon) -> bool {
        let places = self.arguments.len() + 1;
        let mut here = vec![false; places];
        self.reach(&mut here, 0);
        for word in words {
            // A `**` at the end matches all remaining words.
            if matches!(self.arguments.last(), Some(Token::Rest)) && here.last() == Some(&true) {
                return true;
            }
            let mut next = vec![false; places];
            for (place, token) in self.arguments.iter().enumerate() {
                let is_here = here.get(place) == Some(&true);
                if is_here && token.takes(word, colon) {
                    let after = if token.is_many() { place } else { place + 1 };
                    self.reach(&mut next, after);
                }
            }
            if !next.contains(&true) {
                return false;
            }
            here = next;
        }
        here.last() == Some(&true)
    }

    /// Marks a place, and the places after tokens that can match nothing.
    fn reach(&self, places: &mut [bool], from: usize) {
        let mut place = from;
        while let Some(mark) = places.get_mut(place) {
            *mark = true;
            if !self.arguments.get(place).is_some_and(Token::is_many) {
                return;
            }
            place += 1;
        }
    }

    /// Returns whether it matches every command.
    pub(crate) fn is_any(&self) -> bool {
        self.program == Token::Rest && self.arguments == [Token::Rest]
    }

    /// Returns whether it names a particular program.
    pub(crate) fn is_explicit(&self) -> bool {
        matches!(&self.program, Token::One(glob) if !glob.is_any())
    }

    /// Returns the names of the program, if they have no star.
    pub(crate) fn program_names(&self) -> Option<Vec<&[u8]>> {
        match &self.program {
            Token::One(glob) => glob.literals(),
            Token::Rest | Token::OneOf(_) | Token::ManyOf(_) => None,
        }
    }

    /// Returns the possible first arguments, if they are a list without a star.
    pub(crate) fn first_arguments(&self) -> Option<Vec<&[u8]>> {
        match self.arguments.first() {
            Some(Token::One(glob)) => glob.literals(),
            Some(Token::Rest | Token::OneOf(_) | Token::ManyOf(_)) | None => None,
        }
    }

    /// Returns a command that it matches.
    pub(crate) fn sample(&self) -> Vec<String> {
        let arguments = self.arguments.iter().filter_map(Token::sample);
        let program = self.program.sample();
        let program = program.unwrap_or_else(|| SAMPLE.to_owned());
        std::iter::once(program).chain(arguments).collect()
    }

    /// Returns whether this pattern matches every command of `inner`.
    pub(crate) fn contains(&self, inner: &Self) -> bool {
        token_contains(&self.program, &inner.program)
            && list_contains(&self.arguments, &inner.arguments)
    }
}

/// Returns whether `outer` matches each word that `inner` matches.
fn token_contains(outer: &Token, inner: &Token) -> bool {
    match (outer, inner) {
        (Token::Rest, _) => true,
        (_, Token::Rest) => false,
        (Token::One(a), Token::One(b)) => a.contains(b),
        (Token::One(a), Token::OneOf(b) | Token::ManyOf(b)) => {
            a.is_any() || (!b.words && b.globs.iter().all(|glob| a.contains(glob)))
        }
        (Token::OneOf(a) | Token::ManyOf(a), Token::One(b)) => a.contains(b),
        (Token::OneOf(a) | Token::ManyOf(a), Token::OneOf(b) | Token::ManyOf(b)) => {
            a.contains_all(b)
        }
    }
}

/// A table over both lists; `row[j]` says whether `outer[i..]` contains `inner[j..]`.
fn list_contains(outer: &[Token], inner: &[Token]) -> bool {
    let mut below: Vec<bool> = (0..=inner.len()).map(|j| j == inner.len()).collect();
    for token in outer.iter().rev() {
        let mut row = vec![false; inner.len() + 1];
        for j in (0..=inner.len()).rev() {
            let at = |cells: &[bool], j: usize| cells.get(j).copied().unwrap_or(false);
            let next = inner.get(j);
            let takes = next.is_some_and(|next| token_contains(token, next));
            let value = if token.is_many() {
                // The outer token matches nothing, or one more token of the inner list.
                at(&below, j) || (takes && at(&row, j + 1))
            } else {
                takes && next.is_some_and(|next| !next.is_many()) && at(&below, j + 1)
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
            Token::OneOf(list) => format!("*[{}]", list.text),
            Token::ManyOf(list) => format!("**[{}]", list.text),
        };
        f.write_str(&text(&self.program))?;
        self.arguments
            .iter()
            .try_for_each(|token| write!(f, " {}", text(token)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

    use super::CommandPattern;

    /// Reads a pattern in one line; `,` represents the spaces within a list.
    fn pattern(text: &str) -> CommandPattern {
        let tokens: Vec<String> = text
            .split(' ')
            .map(|token| {
                if token.ends_with(']') {
                    token.replace(',', " ")
                } else {
                    token.to_owned()
                }
            })
            .collect();
        CommandPattern::parse(&tokens.iter().map(String::as_str).collect::<Vec<_>>()).unwrap()
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
    fn lists_take_their_own_and_nothing_else() {
        let dry = "git push **[-u,-q,...] {-n,--dry-run} **[-u,...]";
        for line in [
            "git push -n",
            "git push -u origin main --dry-run",
            "git push --dry-run origin -u main",
        ] {
            assert!(matches(dry, line), "{line}");
        }
        for line in [
            "git push",
            "git push -n --no-dry-run",
            "git push -o -n origin",
            "git push -- -n",
            "git push -nq",
            "git push - -n",
        ] {
            assert!(!matches(dry, line), "{line}");
        }
        assert!(matches("gh api *[...]", "gh api repos/x"));
        assert!(!matches("gh api *[...]", "gh api"));
        assert!(!matches("gh api *[...]", "gh api -x"));
        assert!(matches("git push **[-q]", "git push -q -q"));
        assert!(!matches("git push **[-q]", "git push origin"));
        assert!(matches("a **[-x,...] ** b", "a c -y b"));
        assert!(matches("a ** **[-x] b", "a c -y -x b"));
        for wrong in [["git", "**[]"], ["*[-a]", "x"], ["git", "*[  ]"]] {
            assert!(CommandPattern::parse(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_allow_takes_no_other_place_behind_a_colon() {
        let surely = |text: &str, line: &str| {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            pattern(text).surely_matches_arguments(words.get(1..).unwrap())
        };
        let own = "git push origin agent/*";
        assert!(surely(own, "git push origin agent/fix-1"));
        for line in [
            "git push origin agent/fix-1:main",
            "git push origin +agent/fix-1",
            "git push origin agent/:main",
        ] {
            assert!(!surely(own, line), "{line}");
        }
        // Asks and denies match as much as before.
        assert!(matches(own, "git push origin agent/fix-1:main"));
        assert!(surely(
            "docker push r.test/team/*:*",
            "docker push r.test/team/a:1"
        ));
        assert!(!surely(
            "docker push r.test/team/*",
            "docker push r.test/team/a:1"
        ));
        assert!(surely("git push origin *", "git push origin a:b"));
        assert!(surely("git push origin **", "git push origin a:b"));
        assert!(!surely("git push **[agent/*]", "git push agent/a:b"));
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
            ("git push **", "git push **[-q,...] main", true),
            ("git push **[-q,...]", "git push -q main", true),
            ("git push **[-q,...]", "git push -v main", false),
            ("git push **[-q,...]", "git push *", false),
            ("git push **[-q,...]", "git push **[-q] *[...]", true),
            ("git push **[-q]", "git push **[-q,...]", false),
            ("git push *[...]", "git push {a,b*}", true),
            ("git push *[...]", "git push {a,*}", false),
            ("git push *[-q]", "git push **[-q]", false),
            ("git push *", "git push *[-q,...]", true),
        ] {
            assert_eq!(
                pattern(outer).contains(&pattern(inner)),
                expected,
                "{outer} | {inner}"
            );
        }
    }

    const TOKEN: &str = "(a|b|-a|\\*|\\*\\*|a\\*|-\\*|\\*\\[-a\\]|\\*\\*\\[-a\\]|\\*\\[\\.\\.\\.\\]|\\*\\*\\[-a,\\.\\.\\.\\])";

    /// The textbook definition, slow and obvious.
    fn oracle(tokens: &[&str], words: &[&str]) -> bool {
        let takes = |token: &str, word: &str| {
            let list = token.trim_start_matches('*');
            if let Some(items) = list.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                return items
                    .split(',')
                    .any(|item| item == word || (item == "..." && !word.starts_with('-')));
            }
            matches(&format!("a {token}"), &format!("a {word}"))
        };
        let many = |token: &str| token == "**" || token.starts_with("**[");
        match (tokens.split_first(), words.split_first()) {
            (None, next) => next.is_none(),
            (Some((token, rest)), next) if many(token) => {
                oracle(rest, words)
                    || next.is_some_and(|(word, left)| {
                        (*token == "**" || takes(token, word)) && oracle(tokens, left)
                    })
            }
            (Some(_), None) => false,
            (Some((token, rest)), Some((word, left))) => takes(token, word) && oracle(rest, left),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn it_agrees_with_the_definition(
            tokens in proptest::collection::vec(TOKEN, 0..5),
            line in proptest::collection::vec("(a|b|ab|-a|-b)", 0..6),
        ) {
            let behind = |list: &[String]| [vec!["a".to_owned()], list.to_vec()].concat().join(" ");
            let found = matches(&behind(&tokens), &behind(&line));
            let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
            let line: Vec<&str> = line.iter().map(String::as_str).collect();
            prop_assert_eq!(found, oracle(&tokens, &line));
        }

        #[test]
        fn what_a_contained_pattern_matches_the_outer_matches(
            outer in proptest::collection::vec(TOKEN, 1..5),
            inner in proptest::collection::vec(TOKEN, 1..5),
            line in proptest::collection::vec("(a|b|ab|-a|-b)", 1..6),
        ) {
            let named = |tokens: Vec<String>| [vec!["a".to_owned()], tokens].concat();
            let (outer, inner, line) = (named(outer), named(inner), named(line));
            let (outer, inner, line) = (outer.join(" "), inner.join(" "), line.join(" "));
            let promised = pattern(&outer).contains(&pattern(&inner));
            let broken = matches(&inner, &line) && !matches(&outer, &line);
            prop_assert!(!(promised && broken), "{outer} | {inner} | {line}");
        }
    }
}
