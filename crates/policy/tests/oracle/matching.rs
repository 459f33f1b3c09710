//! A second implementation of matching and containment, which tries everything. It shares no code
//! with the crate under test and stays simple: it reads patterns from their text each time.

/// Whether a star matches a colon, and whether letter case is ignored.
#[derive(Clone, Copy)]
pub(crate) struct How {
    pub(crate) colons: bool,
    pub(crate) any_case: bool,
}

pub(crate) const PLAIN: How = How {
    colons: true,
    any_case: false,
};
pub(crate) const ANY_CASE: How = How {
    colons: true,
    any_case: true,
};
/// How an allow reads the words of a command.
pub(crate) const SURE: How = How {
    colons: false,
    any_case: false,
};

/// Writes `a{b,c}` as `ab` and `ac`.
fn alternatives(glob: &str) -> Vec<String> {
    let Some(open) = glob.find('{') else {
        return vec![glob.to_owned()];
    };
    let close = glob.find('}').unwrap();
    glob[open + 1..close]
        .split(',')
        .flat_map(|choice| {
            alternatives(&format!("{}{choice}{}", &glob[..open], &glob[close + 1..]))
        })
        .collect()
}

pub(crate) fn glob(pattern: &str, text: &str, how: How) -> bool {
    let fold = |text: &str| {
        if how.any_case {
            text.to_ascii_lowercase()
        } else {
            text.to_owned()
        }
    };
    alternatives(&fold(pattern)).iter().any(|alternative| {
        let whole = alternative == "*";
        star(alternative, &fold(text), how.colons || whole)
    })
}

fn star(pattern: &str, text: &str, colons: bool) -> bool {
    let Some(first) = pattern.chars().next() else {
        return text.is_empty();
    };
    if first == '*' {
        let taken = text.chars().next();
        let more = taken
            .is_some_and(|c| (colons || c != ':') && star(pattern, &text[c.len_utf8()..], colons));
        return more || star(&pattern[1..], text, colons);
    }
    text.starts_with(first)
        && star(
            &pattern[first.len_utf8()..],
            &text[first.len_utf8()..],
            colons,
        )
}

fn literals(glob: &str) -> Option<Vec<String>> {
    (!glob.contains('*')).then(|| alternatives(glob))
}

fn glob_within(inner: &str, outer: &str) -> bool {
    let all =
        literals(inner).is_some_and(|texts| texts.iter().all(|text| glob(outer, text, PLAIN)));
    alternatives(outer).iter().any(|one| one == "*") || inner == outer || all
}

// --- paths -------------------------------------------------------------------------------------

fn components(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty()).collect()
}

pub(crate) fn path(pattern: &str, text: &str, how: How) -> bool {
    path_of(pattern, &components(text), how)
}

/// Matches a request's path for an ask or a deny: `/dir/**` includes `/dir`.
pub(crate) fn request_path(pattern: &str, text: &str) -> bool {
    let itself = pattern.strip_suffix("/**");
    path(pattern, text, ANY_CASE) || itself.is_some_and(|dir| path(dir, text, ANY_CASE))
}

fn path_of(pattern: &str, parts: &[&str], how: How) -> bool {
    let mut wanted = components(pattern);
    if wanted.last() == Some(&"**") {
        wanted.push("*");
    }
    if pattern.starts_with('/') {
        return below(&wanted, parts, how);
    }
    (0..=parts.len()).any(|from| below(&wanted, &parts[from..], how))
}

fn below(wanted: &[&str], parts: &[&str], how: How) -> bool {
    match (wanted, parts) {
        ([], _) => parts.is_empty(),
        (["**", rest @ ..], _) => (0..=parts.len()).any(|n| below(rest, &parts[n..], how)),
        ([one, rest @ ..], [part, others @ ..]) => glob(one, part, how) && below(rest, others, how),
        ([_, ..], []) => false,
    }
}

pub(crate) fn is_any_path(pattern: &str) -> bool {
    pattern == "**" || pattern == "/**"
}

pub(crate) fn path_within(inner: &str, outer: &str) -> bool {
    if is_any_path(outer) || inner == outer {
        return true;
    }
    let is_plain = !inner.contains(['*', '{']);
    let rooted = |pattern: &str| pattern.starts_with('/');
    is_plain && (rooted(inner) || !rooted(outer)) && path(outer, inner, PLAIN)
}

// --- hosts -------------------------------------------------------------------------------------

/// An address as a number and its width.
fn address(text: &str) -> Option<(u128, u32)> {
    match text.parse().ok()? {
        std::net::IpAddr::V4(v4) => Some((v4.to_bits().into(), 32)),
        std::net::IpAddr::V6(v6) => Some((v6.to_bits(), 128)),
    }
}

/// A network as its first and last number and the width.
fn network(text: &str) -> Option<(u128, u128, u32)> {
    let (base, bits) = text.split_once('/').unwrap_or((text, ""));
    let (first, width) = address(base)?;
    let free = width - bits.parse::<u32>().unwrap_or(width);
    let last = (0..free).fold(first, |last, bit| last | 1 << bit);
    Some((first, last, width))
}

pub(crate) fn host(pattern: &str, host: &str) -> bool {
    if let Some((number, width)) = address(host) {
        return network(pattern)
            .is_some_and(|(first, last, own)| own == width && (first..=last).contains(&number));
    }
    if pattern == "**" {
        return true;
    }
    let labels: Vec<&str> = host.split('.').collect();
    match (pattern.strip_prefix("**."), pattern.strip_prefix("*.")) {
        (Some(rest), _) => (1..labels.len()).any(|n| labels[n..].join(".") == rest),
        (None, Some(rest)) => labels[1..].join(".") == rest,
        (None, None) => pattern == host,
    }
}

pub(crate) fn host_within(inner: &str, outer: &str) -> bool {
    if inner == outer {
        return true;
    }
    match (network(inner), network(outer)) {
        (Some((a, b, width)), Some((first, last, own))) => {
            return width == own && first <= a && b <= last;
        }
        (None, None) => {}
        _ => return false,
    }
    if outer == "**" || inner == "**" {
        return outer == "**";
    }
    let tail = |pattern: &str| {
        let rest = pattern.trim_start_matches('*').trim_start_matches('.');
        rest.to_owned()
    };
    match (inner.starts_with('*'), outer.starts_with("**.")) {
        (false, _) => host(outer, inner),
        (true, true) => tail(inner) == tail(outer) || host(outer, &tail(inner)),
        (true, false) => false,
    }
}

// --- commands ----------------------------------------------------------------------------------

/// The entries in the brackets of `*[…]` and `**[…]`.
fn list(token: &str) -> Option<Vec<&str>> {
    let inner = token.trim_start_matches('*').strip_prefix('[')?;
    token
        .starts_with('*')
        .then(|| inner.trim_end_matches(']').split(' ').collect())
}

fn is_many(token: &str) -> bool {
    token.starts_with("**")
}

fn takes(token: &str, word: &str, how: How) -> bool {
    match list(token) {
        Some(items) => items.iter().any(|item| match *item {
            "..." => !word.starts_with('-'),
            item => glob(item, word, how),
        }),
        None => token == "**" || glob(token, word, how),
    }
}

pub(crate) fn words(tokens: &[&str], given: &[&str], how: How) -> bool {
    match tokens {
        [] => given.is_empty(),
        [token, rest @ ..] => {
            let one = given.first().is_some_and(|word| takes(token, word, how));
            if is_many(token) {
                words(rest, given, how) || (one && words(tokens, &given[1..], how))
            } else {
                one && words(rest, &given[1..], how)
            }
        }
    }
}

/// A command as program and arguments; `["**"]` is every program with every argument.
pub(crate) fn split<'c>(command: &'c [&'c str]) -> (&'c str, Vec<&'c str>) {
    match command {
        ["**"] => ("**", vec!["**"]),
        [program, rest @ ..] => (program, rest.to_vec()),
        [] => panic!("a command names its program"),
    }
}

fn item_within(item: &str, token: &str) -> bool {
    match list(token) {
        Some(items) => items.iter().any(|own| match (*own, item) {
            ("...", "...") => true,
            ("...", item) => !item.starts_with(['*', '-']),
            (_, "...") => false,
            (own, item) => glob_within(item, own),
        }),
        None => token == "*" || (item != "..." && glob_within(item, token)),
    }
}

fn token_within(inner: &str, outer: &str) -> bool {
    if outer == "**" || inner == "**" {
        return outer == "**";
    }
    match list(inner) {
        Some(items) => items.iter().all(|item| item_within(item, outer)),
        None => item_within(inner, outer),
    }
}

fn tokens_within(inner: &[&str], outer: &[&str]) -> bool {
    let Some((token, rest)) = outer.split_first() else {
        return inner.is_empty();
    };
    let next = inner.first().filter(|next| token_within(next, token));
    if is_many(token) {
        return tokens_within(inner, rest) || (next.is_some() && tokens_within(&inner[1..], outer));
    }
    next.is_some_and(|next| !is_many(next)) && tokens_within(&inner[1..], rest)
}

pub(crate) fn command_within(inner: &[&str], outer: &[&str]) -> bool {
    let ((a, inner), (b, outer)) = (split(inner), split(outer));
    token_within(a, b) && tokens_within(&inner, &outer)
}
