//! Queries in GraphQL: whether they change something, and which fields do.

use stockade_policy::{Forge, ForgeOperation};

use super::json::Tree;
use crate::limits::{GRAPHQL_FIELDS_MAX, GRAPHQL_TOKENS_MAX};

/// Adds what the whole body says.
pub(super) fn complete(forge: &mut Forge, body: &[u8]) {
    let Some(tree) = Tree::read(body) else { return };
    let queries = match &tree {
        Tree::List(all) => all.iter().collect(),
        one => vec![one],
    };
    let mut all = Vec::new();
    for query in queries {
        // A query that is stored at the server under a name is not seen here.
        let text = query.member("query").ok().flatten().and_then(Tree::text);
        let Some(changes) = text.and_then(changes) else {
            return;
        };
        all.push(changes);
    }
    if all.is_empty() {
        return;
    }
    let changing: Vec<_> = all
        .into_iter()
        .filter(|one| *one != Changes::Nothing)
        .collect();
    if changing.is_empty() {
        forge.operation = Some(ForgeOperation::Read);
        forge.actions = Some(Vec::new());
        return;
    }
    forge.operation = Some(ForgeOperation::Mutation);
    let mut fields = Vec::new();
    for one in changing {
        let Changes::Fields(own) = one else { return };
        fields.extend(own);
    }
    fields.sort();
    fields.dedup();
    forge.actions = Some(fields);
}

/// What a document changes.
#[derive(Debug, PartialEq, Eq)]
enum Changes {
    Nothing,
    /// The outermost fields of its mutations.
    Fields(Vec<String>),
    /// Some of them are in fragments.
    Hidden,
}

/// A token of a document (GraphQL, October 2021, section 2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Name(String),
    /// A punctuator; `…` for the spread.
    Mark(char),
    /// A text or a number.
    Value,
}

/// Reads a document; `None` if it is not one. Any of its operations may be the one that is run.
fn changes(text: &str) -> Option<Changes> {
    let tokens = tokens(text)?;
    let mut fields: Option<Vec<String>> = None;
    let mut is_hidden = false;
    let (mut braces, mut others) = (0_usize, 0_usize);
    let mut mutates = false;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            Token::Mark('{') if others == 0 => braces += 1,
            Token::Mark('}') if others == 0 => {
                braces = braces.checked_sub(1)?;
                mutates &= braces > 0;
            }
            Token::Mark('(' | '[' | '{') => others += 1,
            Token::Mark(')' | ']' | '}') => others = others.checked_sub(1)?,
            Token::Name(word) if braces == 0 && others == 0 => match word.as_str() {
                "mutation" if is_start(&tokens, at) => {
                    mutates = true;
                    fields.get_or_insert_default();
                }
                "query" | "subscription" | "fragment" if is_start(&tokens, at) => mutates = false,
                _ => {}
            },
            Token::Mark('…') if mutates && braces == 1 && others == 0 => is_hidden = true,
            Token::Mark('@') => at += 1,
            Token::Name(word) if mutates && braces == 1 && others == 0 => {
                let real = match (tokens.get(at), tokens.get(at + 1)) {
                    (Some(Token::Mark(':')), Some(Token::Name(real))) => {
                        at += 2;
                        real
                    }
                    _ => word,
                };
                fields.get_or_insert_default().push(real.clone());
            }
            Token::Name(_) | Token::Mark(_) | Token::Value => {}
        }
    }
    if braces != 0 || others != 0 {
        return None;
    }
    Some(match fields {
        None => Changes::Nothing,
        Some(fields) if is_hidden || fields.len() > GRAPHQL_FIELDS_MAX => {
            drop(fields);
            Changes::Hidden
        }
        Some(fields) => Changes::Fields(fields),
    })
}

/// Tells whether the word before `at` begins an operation, and is not the name of one.
fn is_start(tokens: &[Token], at: usize) -> bool {
    let before = at.checked_sub(2).and_then(|at| tokens.get(at));
    matches!(before, None | Some(Token::Mark('}')))
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if tokens.len() == GRAPHQL_TOKENS_MAX {
            return None;
        }
        let after = rest.get(first.len_utf8()..)?;
        rest = match first {
            ' ' | '\t' | '\r' | '\n' | ',' | '\u{feff}' => after,
            '#' => {
                let end = after.find(['\n', '\r']).unwrap_or(after.len());
                after.get(end..)?
            }
            '"' => {
                tokens.push(Token::Value);
                if let Some(block) = after.strip_prefix("\"\"") {
                    past_block(block)?
                } else {
                    past_string(after)?
                }
            }
            '.' => {
                tokens.push(Token::Mark('…'));
                after.strip_prefix("..")?
            }
            '_' | 'a'..='z' | 'A'..='Z' => {
                let end = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
                let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
                tokens.push(Token::Name(name.to_owned()));
                after
            }
            '0'..='9' | '-' => {
                let inside = |c: char| c.is_ascii_alphanumeric() || ['.', '+', '-'].contains(&c);
                let end = after.find(|c| !inside(c)).unwrap_or(after.len());
                tokens.push(Token::Value);
                after.get(end..)?
            }
            '!' | '$' | '&' | '(' | ')' | ':' | '=' | '@' | '[' | ']' | '{' | '|' | '}' => {
                tokens.push(Token::Mark(first));
                after
            }
            _ => return None,
        };
    }
    Some(tokens)
}

fn past_string(mut rest: &str) -> Option<&str> {
    loop {
        let at = rest.find(['"', '\\', '\n', '\r'])?;
        match rest.as_bytes().get(at)? {
            b'"' => return rest.get(at + 1..),
            b'\\' => {
                let escaped = rest.get(at + 1..)?.chars().next()?;
                rest = rest.get(at + 1 + escaped.len_utf8()..)?;
            }
            _ => return None,
        }
    }
}

fn past_block(mut rest: &str) -> Option<&str> {
    loop {
        let at = rest.find("\"\"\"")?;
        let is_escaped = rest.get(..at)?.ends_with('\\');
        rest = rest.get(at + 3..)?;
        if !is_escaped {
            return Some(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Changes, changes, complete};
    use stockade_policy::{Forge, ForgeOperation};

    #[test]
    fn a_mutation_is_found_wherever_it_is() {
        let fields = |list: &[&str]| {
            Some(Changes::Fields(
                list.iter().map(|one| (*one).to_owned()).collect(),
            ))
        };
        for (text, expected) in [
            ("{ viewer { login } }", Some(Changes::Nothing)),
            ("query mutation { mutation }", Some(Changes::Nothing)),
            (
                "query A($x: Int = 3) { f(a: {mutation: 1}) { b } } fragment mutation on X { y }",
                Some(Changes::Nothing),
            ),
            (
                "mutation { mergePullRequest(input: {a: \"}\"}) { id } }",
                fields(&["mergePullRequest"]),
            ),
            (
                "mutation M($i: [A!]! = [{x: 1}]) @d(a: {b: 1}) { a: createRelease(i: $i) @skip(if: true) { id { x } } b }",
                fields(&["createRelease", "b"]),
            ),
            (
                "# mutation\nquery Q { a } mutation Q2 { deleteRef }",
                fields(&["deleteRef"]),
            ),
            (
                "query Q { a(b: \"\"\" mutation \\\"\"\" { x } \"\"\") } ",
                Some(Changes::Nothing),
            ),
            (
                "mutation { ...F } fragment F on Mutation { deleteRepository }",
                Some(Changes::Hidden),
            ),
            (
                "mutation { ... on Mutation { deleteRepository } }",
                Some(Changes::Hidden),
            ),
            ("mutation { a ", None),
            ("query { a \"open }", None),
            ("query { a } }", None),
            ("query \u{0} { a }", None),
        ] {
            assert_eq!(changes(text), expected, "{text}");
        }
    }

    #[test]
    fn batches_and_stored_queries() {
        let read = |body: &str| {
            let mut forge = Forge {
                operation: None,
                repository: None,
                actions: None,
                is_graphql: true,
            };
            complete(&mut forge, body.as_bytes());
            (forge.operation, forge.actions.map(|all| all.join(" ")))
        };
        let changed = Some(ForgeOperation::Mutation);
        for (body, expected) in [
            (
                r#"{"query":"{a}"}"#,
                (Some(ForgeOperation::Read), Some(String::new())),
            ),
            (r#"{"query":"mutation{b}","query":"{a}"}"#, (None, None)),
            (r#"{"Query":"{a}"}"#, (None, None)),
            (r#"{"id":"stored"}"#, (None, None)),
            (
                r#"[{"query":"{a}"},{"query":"mutation{b}"}]"#,
                (changed, Some("b".to_owned())),
            ),
            (r#"[{"query":"{a}"},{"id":"stored"}]"#, (None, None)),
            ("[]", (None, None)),
            ("query=mutation", (None, None)),
        ] {
            assert_eq!(read(body), expected, "{body}");
        }
    }
}
