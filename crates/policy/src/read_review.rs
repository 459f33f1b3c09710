//! `[stages.NAME]`, `[break_glass]`, and the stages that a rule names.
//!
//! A name means one stage in all layers, and a rule knows only what its own layer and those above it
//! have defined: so nothing below can change whom a rule asks.

use stockade_types::{RuleId, Span};

use crate::{
    BreakGlass, Escalation, Review, Role, Scope, Settings, Sourced, Stage, Strength,
    fields::{At, Fields, File, did_you_mean, shown, sourced, text_of},
};

/// Fields of a rule that say who has to answer.
pub(crate) const FIELDS: [&str; 3] = ["stages", "alternatives", "reason_required"];

const STAGE: [&str; 7] = [
    "who",
    "need",
    "veto",
    "strength",
    "wait",
    "escalate_after",
    "escalate_to",
];
/// Fields of a stage that are known, and why there are none.
const NO_FIELDS: [(&str, &str); 2] = [
    (
        "distinct_from",
        "it always is: a person has one vote in a question; take it out",
    ),
    (
        "escalate",
        "write two keys: `escalate_after = \"5m\"` and `escalate_to = \"role:on-call\"`",
    ),
];
const STRENGTHS: [(&str, Strength); 3] = [
    (Strength::Session.as_str(), Strength::Session),
    (Strength::Key.as_str(), Strength::Key),
    (Strength::Passkey.as_str(), Strength::Passkey),
];

/// How long breaking the glass may let something happen at most: what is needed for longer needs a
/// policy.
const GLASS_MAX: Span = Span::from_millis(24 * 60 * 60 * 1000);

/// Reads the tables of a file.
pub(crate) fn tables(file: &mut File<'_>, top: &Fields<'_>, settings: &mut Settings) {
    stages(file, top, settings);
    break_glass(file, top, settings);
}

fn stages(file: &mut File<'_>, top: &Fields<'_>, settings: &mut Settings) {
    let Some(all) = top.open_table(file, "stages") else {
        return;
    };
    let known: Vec<&str> = STAGE
        .into_iter()
        .chain(NO_FIELDS.map(|(key, _)| key))
        .collect();
    for name in all.keys() {
        let Some(table) = all.table(file, name, &known) else {
            continue;
        };
        for (key, why) in NO_FIELDS {
            if let Some(at) = table.value(key) {
                file.problem(&at.span, &at.field, why);
            }
        }
        let role = who(file, &table);
        let need = votes(file, &table, "need");
        let veto = votes(file, &table, "veto");
        let strength = table.word(file, "strength", &STRENGTHS);
        let wait_ms = time(file, &table, "wait").map_or(0, Span::millis);
        let escalation = escalation(file, &table);
        if let Err(error) = name.parse::<RuleId>() {
            let message = error.to_string().replace("rule id", "name of a stage");
            file.problem(&table.span(), table.path(), message);
            continue;
        }
        let (Some(role), Some(need), Some(veto)) = (role, need, veto) else {
            continue;
        };
        let stage = Stage {
            name: name.to_owned(),
            role,
            need,
            veto,
            strength: strength.map_or(Strength::Session, |at| at.value),
            wait_ms,
            escalation,
        };
        if is_new(file, &table, settings.stages.get(name), &stage) {
            let at = at(&table, stage);
            settings.stages.insert(name.to_owned(), sourced(file, at));
        }
    }
}

/// Reads who is asked too, and after which time; one without the other is a mistake.
fn escalation(file: &mut File<'_>, table: &Fields<'_>) -> Option<Escalation> {
    for (key, other) in [
        ("escalate_after", "escalate_to"),
        ("escalate_to", "escalate_after"),
    ] {
        if let Some(at) = table.value(key).filter(|_| !table.has(other)) {
            let message = format!("`{key}` needs `{other}` beside it");
            file.problem(&at.span, &at.field, message);
            return None;
        }
    }
    let after = time(file, table, "escalate_after");
    let to = table.text(file, "escalate_to")?;
    let role = role(file, &to)?;
    let after_ms = after?.millis();
    Some(Escalation { after_ms, role })
}

/// Reads a time of at most a day.
fn time(file: &mut File<'_>, table: &Fields<'_>, key: &str) -> Option<Span> {
    let at = table.parsed::<Span>(file, key)?;
    if (1..=Stage::TIME_MAX.millis()).contains(&at.value.millis()) {
        return Some(at.value);
    }
    let message = format!(
        "`{}` is not more than nothing and at most {}",
        at.value,
        Stage::TIME_MAX
    );
    file.problem(&at.span, &at.field, message);
    None
}

fn break_glass(file: &mut File<'_>, top: &Fields<'_>, settings: &mut Settings) {
    let Some(table) = top.table(file, "break_glass", &["who", "max", "strength"]) else {
        return;
    };
    let role = who(file, &table);
    let strength = table.word(file, "strength", &STRENGTHS);
    let max = table.parsed::<Span>(file, "max");
    if !table.has("max") {
        let message = "missing; how long what one person allows may last, for example \"30m\"";
        file.problem(&table.span(), &table.field("max"), message);
    }
    let fits = |span: Span| (1..=GLASS_MAX.millis()).contains(&span.millis());
    if let Some(at) = max.as_ref().filter(|at| !fits(at.value)) {
        let message = format!(
            "`{}` is not more than nothing and at most {GLASS_MAX}",
            at.value
        );
        file.problem(&at.span, &at.field, message);
        return;
    }
    let (Some(role), Some(max)) = (role, max) else {
        return;
    };
    let glass = BreakGlass {
        role,
        // One person overrides all others here.
        strength: strength.map_or(Strength::Passkey, |at| at.value),
        max_ms: max.value.millis(),
    };
    if is_new(file, &table, settings.break_glass.as_ref(), &glass) {
        settings.break_glass = Some(sourced(file, at(&table, glass)));
    }
}

fn at<T>(table: &Fields<'_>, value: T) -> At<T> {
    At {
        value,
        span: table.span(),
        field: table.path().to_owned().into(),
    }
}

/// Tells whether a table says something that no file before has said; something else is a mistake.
pub(crate) fn is_new<T: PartialEq>(
    file: &mut File<'_>,
    table: &Fields<'_>,
    old: Option<&Sourced<T>>,
    new: &T,
) -> bool {
    let Some(old) = old else { return true };
    if old.value != *new {
        let message = format!(
            "the {} layer has defined it ({}), and nothing else can change it; choose another name or \
             take the table out",
            old.origin, old.source
        );
        file.problem(&table.span(), table.path(), message);
    }
    false
}

/// Reads `who`: a role.
fn who(file: &mut File<'_>, table: &Fields<'_>) -> Option<Role> {
    let Some(at) = table.text(file, "who") else {
        if !table.has("who") {
            let message = "missing; whose answer counts, for example \"role:security\"";
            file.problem(&table.span(), &table.field("who"), message);
        }
        return None;
    };
    role(file, &at)
}

/// Reads a role, which is written as `role:NAME`.
fn role(file: &mut File<'_>, at: &At<String>) -> Option<Role> {
    let name = at.value.strip_prefix("role:");
    if let Some(role) = name.filter(|name| name.parse::<RuleId>().is_ok()) {
        return Some(Role(role.to_owned()));
    }
    let message = format!(
        "`{}` is not a role; write `role:` and 1 to 64 of the characters A-Z a-z 0-9 - _ . :",
        shown(&at.value)
    );
    file.problem(&at.span, &at.field, message);
    None
}

/// Reads a number of votes; one if it is not there.
fn votes(file: &mut File<'_>, table: &Fields<'_>, key: &str) -> Option<u32> {
    let Some(at) = table.count(file, key) else {
        return (!table.has(key)).then_some(1);
    };
    let number = u32::try_from(at.value).ok();
    let number = number.filter(|number| *number <= Stage::VOTES_MAX);
    if number.is_none() {
        let message = format!("`{}` is more than {}", at.value, Stage::VOTES_MAX);
        file.problem(&at.span, &at.field, message);
    }
    number
}

/// Reads who has to answer a rule.
pub(crate) fn review(
    file: &mut File<'_>,
    fields: &Fields<'_>,
    settings: &Settings,
    scope_max: Scope,
) -> Option<Review> {
    let reason = fields.flag(file, "reason_required");
    let paths = paths(file, fields);
    let Some((first, named)) = paths else {
        for key in FIELDS.into_iter().filter(|key| *key != "stages") {
            if let Some(at) = fields.value(key).filter(|_| !fields.has("stages")) {
                let message =
                    format!("`{key}` is for a rule with `stages`; name them, or take it out");
                file.problem(&at.span, &at.field, message);
            }
        }
        return None;
    };
    let mut paths: Vec<Vec<Stage>> = Vec::new();
    let mut is_known = true;
    for path in named {
        let mut stages = Vec::new();
        for name in path {
            if let Some(stage) = settings.stages.get(&name.value) {
                stages.push(stage.value.clone());
                continue;
            }
            is_known = false;
            let message = undefined(&name.value, settings);
            file.problem(&name.span, &name.field, message);
        }
        paths.push(stages);
    }
    if !is_known {
        return None;
    }
    let review = Review {
        paths,
        scope_max,
        reason_required: reason.is_some_and(|at| at.value),
        break_glass: settings.break_glass.as_ref().map(|at| at.value.clone()),
    };
    match review.check() {
        Ok(()) => Some(review),
        Err(error) => {
            file.problem(&first.span, &first.field, error.to_string());
            None
        }
    }
}

/// Checks that no way to a yes waits for as long as the question is open.
pub(crate) fn ends_in_time(
    file: &mut File<'_>,
    fields: &Fields<'_>,
    review: &Review,
    expires: Span,
) {
    let waits = |path: &Vec<Stage>| {
        let waits = path.iter().map(|stage| stage.wait_ms);
        Span::from_millis(waits.fold(0, u64::saturating_add))
    };
    let longest = review.paths.iter().map(waits).max();
    let longest = longest.filter(|wait| wait.millis() >= expires.millis());
    if let (Some(longest), Some(at)) = (longest, fields.value("stages")) {
        let message = format!(
            "its stages wait for {longest}, and the question is open for {expires}; give it a longer `expires`"
        );
        file.problem(&at.span, &at.field, message);
    }
}

fn undefined(name: &str, settings: &Settings) -> String {
    let names: Vec<&str> = settings.stages.keys().map(String::as_str).collect();
    let name = shown(name);
    format!(
        "`{name}` is no stage of this file or a layer above; add a table `[stages.{name}]` with `who`{}",
        did_you_mean(&name, &names)
    )
}

/// The names of the stages of each path.
pub(crate) type Paths = Vec<Vec<At<String>>>;

/// Reads `stages` and `alternatives`, and where the first is.
pub(crate) fn paths(file: &mut File<'_>, fields: &Fields<'_>) -> Option<(At<()>, Paths)> {
    let at = fields.value("stages")?;
    let mut paths = vec![fields.texts(file, "stages")?];
    let first = At {
        value: (),
        span: at.span,
        field: at.field,
    };
    let Some(more) = fields.value("alternatives") else {
        return Some((first, paths));
    };
    let wanted = "a list of lists, for example [[\"manager\"]]";
    let lists = more.items(file, wanted)?;
    is_filled(file, &more, lists.len())?;
    for path in lists {
        let names = path.items(file, wanted)?;
        is_filled(file, &path, names.len())?;
        let names = names.iter().map(|name| text_of(file, name));
        paths.push(names.collect::<Option<Vec<_>>>()?);
    }
    Some((first, paths))
}

fn is_filled<T>(file: &mut File<'_>, at: &At<T>, length: usize) -> Option<()> {
    if length == 0 {
        let message = "the list is empty; leave the key out or fill it";
        file.problem(&at.span, &at.field, message);
    }
    (length > 0).then_some(())
}
