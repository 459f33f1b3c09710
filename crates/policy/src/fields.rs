//! Reading a TOML table field by field, with every mistake noted at its place.

use std::{collections::BTreeMap, fmt, ops::Range, rc::Rc, str::FromStr};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{Origin, Problem, Source, Sourced, Warning};

/// How alike a key must be to be offered; below this a hint would mislead.
const ALIKE_MIN: f64 = 0.7;

/// One file while it is read: where things are, and what is wrong so far.
#[derive(Debug)]
pub(crate) struct File<'s> {
    pub(crate) source: &'s Source,
    /// Offset of the first byte of each line.
    lines: Vec<usize>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Warning>,
}

impl<'s> File<'s> {
    pub(crate) fn new(source: &'s Source) -> Self {
        let breaks = source.text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
        let lines = std::iter::once(0)
            .chain(breaks.map(|(at, _)| at + 1))
            .collect();
        Self {
            source,
            lines,
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Returns the name of the file as it is shown.
    pub(crate) fn name(&self) -> String {
        if self.source.origin == crate::Origin::Builtin {
            ["builtin:", &self.source.name].concat()
        } else {
            self.source.name.clone()
        }
    }

    fn line_index(&self, offset: usize) -> usize {
        self.lines
            .partition_point(|start| *start <= offset)
            .saturating_sub(1)
    }

    /// Returns the place as `file:line`.
    pub(crate) fn place(&self, at: &Range<usize>) -> String {
        let line = (self.line_index(at.start) + 1).to_string();
        [&self.name(), ":", &line].concat()
    }

    /// Notes what has no effect; presets are read on machines of every kind.
    pub(crate) fn warning(
        &mut self,
        at: &Range<usize>,
        field: &(impl fmt::Display + ?Sized),
        message: &str,
    ) {
        if self.source.origin != crate::Origin::Builtin {
            self.warnings.push(Warning {
                source: self.place(at),
                message: format!("{field}: {message}"),
            });
        }
    }

    /// Notes a mistake.
    pub(crate) fn problem(
        &mut self,
        at: &Range<usize>,
        field: &(impl fmt::Display + ?Sized),
        message: impl Into<String>,
    ) {
        let line = self.line_index(at.start);
        let start = self.lines.get(line).copied().unwrap_or(0);
        let before = self.source.text.get(start..at.start).unwrap_or_default();
        self.problems.push(Problem {
            file: self.name(),
            line: u32::try_from(line + 1).unwrap_or(u32::MAX),
            column: u32::try_from(before.chars().count() + 1).unwrap_or(u32::MAX),
            field: field.to_string(),
            message: message.into(),
        });
    }
}

/// The path of a field, such as `allow[3].hosts[0]`. It is written out only for a message: a policy
/// has many more values than mistakes.
#[derive(Clone, Debug)]
pub(crate) struct FieldPath {
    base: Rc<str>,
    item: Option<usize>,
}

impl From<String> for FieldPath {
    fn from(path: String) -> Self {
        Self {
            base: path.into(),
            item: None,
        }
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)?;
        self.item.map_or(Ok(()), |item| write!(f, "[{item}]"))
    }
}

impl FieldPath {
    /// Returns the path of one item of this list.
    fn item(&self, number: usize) -> Self {
        let base = match self.item {
            None => Rc::clone(&self.base),
            Some(_) => self.to_string().into(),
        };
        Self {
            base,
            item: Some(number),
        }
    }
}

/// A value with its place and the path of its field.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
    pub(crate) field: FieldPath,
}

impl<'d> At<&'d DeValue<'d>> {
    /// Returns the items of a list, each with its own place.
    pub(crate) fn items(&self, file: &mut File<'_>, wanted: &str) -> Option<Vec<Self>> {
        let items = expect(file, self, self.value.as_array(), wanted)?;
        let numbered = items.iter().enumerate();
        let at = |(number, item): (usize, &'d Spanned<DeValue<'d>>)| Self {
            value: item.get_ref(),
            span: item.span(),
            field: self.field.item(number),
        };
        Some(numbered.map(at).collect())
    }
}

/// One table of a file.
#[derive(Debug)]
pub(crate) struct Fields<'d> {
    path: String,
    span: Range<usize>,
    values: BTreeMap<&'d str, &'d Spanned<DeValue<'d>>>,
}

impl<'d> Fields<'d> {
    /// Takes a table whose keys are all among `known`; others are noted.
    pub(crate) fn new(
        file: &mut File<'_>,
        path: &str,
        span: Range<usize>,
        table: &'d DeTable<'d>,
        known: &[&str],
    ) -> Self {
        let mut values = BTreeMap::new();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                values.insert(name, value);
            } else {
                let message = format!("unknown key{}", did_you_mean(name, known));
                file.problem(&key.span(), &join(path, name), message);
            }
        }
        Self {
            path: path.to_owned(),
            span,
            values,
        }
    }

    /// Takes a table with any keys.
    pub(crate) fn open(path: &str, span: Range<usize>, table: &'d DeTable<'d>) -> Self {
        let values = table
            .iter()
            .map(|(key, value)| (key.get_ref().as_ref(), value))
            .collect();
        Self {
            path: path.to_owned(),
            span,
            values,
        }
    }

    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn field(&self, key: &str) -> String {
        join(&self.path, key)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    pub(crate) fn keys(&self) -> Vec<&'d str> {
        self.values.keys().copied().collect()
    }

    pub(crate) fn value(&self, key: &str) -> Option<At<&'d DeValue<'d>>> {
        self.values.get(key).map(|value| At {
            value: value.get_ref(),
            span: value.span(),
            field: self.field(key).into(),
        })
    }

    pub(crate) fn table(
        &self,
        file: &mut File<'_>,
        key: &str,
        known: &[&str],
    ) -> Option<Fields<'d>> {
        let at = self.value(key)?;
        let table = expect(file, &at, at.value.as_table(), "a table")?;
        Some(Fields::new(
            file,
            &at.field.to_string(),
            at.span,
            table,
            known,
        ))
    }

    pub(crate) fn open_table(&self, file: &mut File<'_>, key: &str) -> Option<Fields<'d>> {
        let at = self.value(key)?;
        let table = expect(file, &at, at.value.as_table(), "a table")?;
        Some(Fields::open(&at.field.to_string(), at.span, table))
    }

    /// Reads `[[key]]`.
    pub(crate) fn tables(&self, file: &mut File<'_>, key: &str, known: &[&str]) -> Vec<Fields<'d>> {
        let Some(at) = self.value(key) else {
            return Vec::new();
        };
        let wanted = format!("a list of tables, written [[{key}]]");
        let mut tables = Vec::new();
        for one in at.items(file, &wanted).unwrap_or_default() {
            if let Some(table) = expect(file, &one, one.value.as_table(), "a table") {
                tables.push(Fields::new(
                    file,
                    &one.field.to_string(),
                    one.span.clone(),
                    table,
                    known,
                ));
            }
        }
        tables
    }

    pub(crate) fn text(&self, file: &mut File<'_>, key: &str) -> Option<At<String>> {
        let at = self.value(key)?;
        text_of(file, &at)
    }

    pub(crate) fn flag(&self, file: &mut File<'_>, key: &str) -> Option<At<bool>> {
        let at = self.value(key)?;
        let value = expect(file, &at, at.value.as_bool(), "true or false")?;
        Some(At {
            value,
            span: at.span,
            field: at.field,
        })
    }

    /// Reads a number above zero.
    pub(crate) fn count(&self, file: &mut File<'_>, key: &str) -> Option<At<u64>> {
        let at = self.value(key)?;
        let value = at.value.as_integer().and_then(|number| {
            u64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
        });
        let value = expect(
            file,
            &at,
            value.filter(|n| *n > 0),
            "a whole number above 0",
        )?;
        Some(At {
            value,
            span: at.span,
            field: at.field,
        })
    }

    /// Reads a number above zero that may have a fraction.
    pub(crate) fn amount(&self, file: &mut File<'_>, key: &str) -> Option<At<f64>> {
        let at = self.value(key)?;
        let text = match at.value {
            DeValue::Float(number) => Some(number.as_str()),
            DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str()),
            _ => None,
        };
        let value = text.and_then(|text| text.replace('_', "").parse::<f64>().ok());
        let value = value.filter(|number| number.is_finite() && *number > 0.0);
        let value = expect(file, &at, value, "a number above 0")?;
        Some(At {
            value,
            span: at.span,
            field: at.field,
        })
    }

    /// Reads a text that has a form of its own, such as a size.
    pub(crate) fn parsed<T: FromStr<Err: std::fmt::Display>>(
        &self,
        file: &mut File<'_>,
        key: &str,
    ) -> Option<At<T>> {
        let text = self.text(file, key)?;
        match text.value.parse() {
            Ok(value) => Some(At {
                value,
                span: text.span,
                field: text.field,
            }),
            Err(error) => {
                file.problem(&text.span, &text.field, error.to_string());
                None
            }
        }
    }

    /// Reads one of a few words.
    pub(crate) fn word<T: Copy>(
        &self,
        file: &mut File<'_>,
        key: &str,
        words: &[(&str, T)],
    ) -> Option<At<T>> {
        let text = self.text(file, key)?;
        let value = choose(file, &text, words)?;
        Some(At {
            value,
            span: text.span,
            field: text.field,
        })
    }

    /// Reads a list of texts; an empty one is a mistake, since it would match nothing or all.
    pub(crate) fn texts(&self, file: &mut File<'_>, key: &str) -> Option<Vec<At<String>>> {
        let at = self.value(key)?;
        let items = at.items(file, "a list of texts")?;
        if items.is_empty() {
            file.problem(
                &at.span,
                &at.field,
                "the list is empty; leave the key out or fill it",
            );
            return None;
        }
        let mut texts = Vec::new();
        for one in items {
            texts.extend(text_of(file, &one));
        }
        Some(texts)
    }

    /// Reads a list of texts and parses each.
    pub(crate) fn list<T, E: std::fmt::Display>(
        &self,
        file: &mut File<'_>,
        key: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Vec<At<T>>> {
        let texts = self.texts(file, key)?;
        let mut parsed = Vec::new();
        for text in texts {
            match parse(&text.value) {
                Ok(value) => parsed.push(At {
                    value,
                    span: text.span,
                    field: text.field,
                }),
                Err(error) => file.problem(&text.span, &text.field, error.to_string()),
            }
        }
        Some(parsed)
    }
}

/// Marks a value with its layer and line.
pub(crate) fn sourced<T>(file: &File<'_>, at: At<T>) -> Sourced<T> {
    Sourced {
        source: file.place(&at.span),
        origin: file.source.origin,
        value: at.value,
    }
}

/// The same for each value of a list.
pub(crate) fn all_sourced<T>(file: &File<'_>, list: Option<Vec<At<T>>>) -> Vec<Sourced<T>> {
    list.into_iter()
        .flatten()
        .map(|at| sourced(file, at))
        .collect()
}

/// Takes a value over unless it is looser than what a layer of more trust has set.
pub(crate) fn tighten_value<T: std::fmt::Debug + Clone>(
    file: &mut File<'_>,
    new: Option<At<T>>,
    old: &mut Sourced<T>,
    looser: impl Fn(&T, &T) -> bool,
) {
    let Some(at) = new else { return };
    if old.origin != Origin::Builtin && looser(&at.value, &old.value) {
        let message = format!(
            "looser than the {} layer allows ({}); a lower layer can only tighten",
            old.origin, old.source
        );
        file.problem(&at.span, &at.field, message);
        return;
    }
    *old = sourced(file, at);
}

/// Reads one of a few words, with the nearest as a hint.
pub(crate) fn choose<T: Copy>(
    file: &mut File<'_>,
    text: &At<String>,
    words: &[(&str, T)],
) -> Option<T> {
    let found = words
        .iter()
        .find(|(word, _)| *word == text.value)
        .map(|(_, value)| *value);
    if found.is_none() {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let message = format!(
            "`{}` is not one of {}{}",
            shown(&text.value),
            names.join(", "),
            did_you_mean(&text.value, &names)
        );
        file.problem(&text.span, &text.field, message);
    }
    found
}

pub(crate) fn text_of(file: &mut File<'_>, at: &At<&DeValue<'_>>) -> Option<At<String>> {
    let text = expect(file, at, at.value.as_str(), "a text in quotes")?;
    Some(At {
        value: text.to_owned(),
        span: at.span.clone(),
        field: at.field.clone(),
    })
}

/// Passes `value` on, or notes that something else was expected.
pub(crate) fn expect<T>(
    file: &mut File<'_>,
    at: &At<&DeValue<'_>>,
    value: Option<T>,
    wanted: &str,
) -> Option<T> {
    if value.is_none() {
        let message = format!("expected {wanted}, found {}", describe(at.value));
        file.problem(&at.span, &at.field, message);
    }
    value
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text `{}`", shown(text)),
        DeValue::Integer(number) => format!("`{}`", number.as_str()),
        DeValue::Float(number) => format!("`{}`", number.as_str()),
        DeValue::Boolean(flag) => format!("`{flag}`"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// Shortens a text for a message and escapes what cannot be seen.
pub(crate) fn shown(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    stockade_types::RawText::from(short.as_str()).display()
}

/// Returns `; did you mean …?`, or nothing where no known word is alike.
pub(crate) fn did_you_mean(name: &str, known: &[&str]) -> String {
    known
        .iter()
        .map(|word| (strsim::jaro_winkler(name, word), word))
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, word)| format!("; did you mean `{word}`?"))
        .unwrap_or_default()
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        [path, ".", key].concat()
    }
}

/// Notes that a field is missing, with an example of it.
pub(crate) fn missing(file: &mut File<'_>, fields: &Fields<'_>, key: &str, hint: &str) {
    if !fields.has(key) {
        file.problem(
            &fields.span(),
            &fields.field(key),
            format!("missing; {hint}"),
        );
    }
}

/// Takes the values without their places.
pub(crate) fn values<T>(items: Vec<At<T>>) -> Vec<T> {
    items.into_iter().map(|at| at.value).collect()
}

/// Takes a limit that may not be above the one of a higher layer.
pub(crate) fn ceiling<T: PartialOrd + Clone + std::fmt::Display>(
    file: &mut File<'_>,
    new: Option<At<T>>,
    old: &mut Option<Sourced<T>>,
) {
    let Some(at) = new else { return };
    if let Some(set) = old.as_ref().filter(|set| set.origin != Origin::Builtin)
        && at.value > set.value
    {
        let message = format!(
            "{} is above the ceiling {} of the {} layer ({}); a lower layer can only tighten",
            at.value, set.value, set.origin, set.source
        );
        file.problem(&at.span, &at.field, message);
        return;
    }
    *old = Some(sourced(file, at));
}

/// Reads a value of which the organisation's word is the last, in both directions.
pub(crate) fn as_organisation_says<T: PartialEq + std::fmt::Display>(
    file: &mut File<'_>,
    new: Option<At<T>>,
    old: Option<&Sourced<T>>,
) -> Option<Sourced<T>> {
    let at = new?;
    if let Some(set) = old.filter(|set| set.origin == Origin::Organisation)
        && at.value != set.value
    {
        let message = format!(
            "`{}` differs from `{}` of the {} layer ({}), which alone decides",
            at.value, set.value, set.origin, set.source
        );
        file.problem(&at.span, &at.field, message);
        return None;
    }
    Some(sourced(file, at))
}
