//! The rules of one file: TOML to checked [`Rule`]s.

use std::collections::BTreeMap;

use stockade_types::{Risk, RuleId, Span, Verdict};

use crate::{
    AskStage, HostSets, Reviewer, Scope, Settings,
    controls::Control,
    fields::{Fields, File, did_you_mean, shown},
    kinds::{Body, What, cedar},
    read_review, read_reviewer,
    rule::Rule,
};

const COMMON: [&str; 4] = ["id", "what", "reason", "quiet"];
const ASK: [&str; 4] = ["reviewer", "reviewer_allows", "expires", "scope_max"];

/// Iterates over the fields that only a question has.
fn ask_fields() -> impl Iterator<Item = &'static str> {
    ASK.into_iter().chain(read_review::FIELDS)
}

/// Reads `[[allow]]`, `[[ask]]`, `[[deny]]` and `[[cedar]]`.
pub(crate) fn rules(
    file: &mut File<'_>,
    top: &Fields<'_>,
    (sets, settings): (&HostSets, &Settings),
) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (key, effect) in [
        ("allow", Verdict::Allow),
        ("ask", Verdict::Ask),
        ("deny", Verdict::Deny),
    ] {
        let known: Vec<&str> = COMMON
            .into_iter()
            .chain(ask_fields())
            .chain(What::ALL.into_iter().flat_map(What::fields))
            .collect();
        for fields in top.tables(file, key, &known) {
            let id = rule_id(file, &fields, &mut seen);
            let body = body(file, &fields, effect, sets);
            let stage = stage(file, &fields, effect, settings);
            rules.extend(rule(file, &fields, (effect, stage), id, body));
        }
    }
    let known: Vec<&str> = ["id", "reason", "quiet"]
        .into_iter()
        .chain(ask_fields())
        .chain(cedar::FIELDS)
        .collect();
    for fields in top.tables(file, "cedar", &known) {
        let id = rule_id(file, &fields, &mut seen);
        let read = cedar::read(file, &fields);
        // If the text has a mistake its effect is unknown, so the rest is not checked.
        if let Some((effect, body)) = read {
            let stage = stage(file, &fields, effect, settings);
            let body = Some(Body::Cedar(Box::new(body)));
            rules.extend(rule(file, &fields, (effect, stage), id, body));
        }
    }
    rules
}

/// Reads the fields of every rule other than its conditions.
fn rule(
    file: &mut File<'_>,
    fields: &Fields<'_>,
    (effect, stage): (Verdict, Option<AskStage>),
    id: Option<RuleId>,
    body: Option<Body>,
) -> Option<Rule> {
    let reason = fields.text(file, "reason");
    let quiet = quiet(file, fields, effect);
    let place = file.place(&fields.span());
    let (id, body) = (id?, body?);
    let reason = reason.map_or_else(|| format!("rule `{id}` of {place} says so"), |at| at.value);
    Some(Rule {
        id,
        effect,
        origin: file.source.origin,
        place,
        reason,
        stage,
        quiet,
        body,
    })
}

/// Reads whether people see a refusal only in a count.
fn quiet(file: &mut File<'_>, fields: &Fields<'_>, effect: Verdict) -> bool {
    let Some(quiet) = fields.flag(file, "quiet") else {
        return false;
    };
    if effect != Verdict::Deny {
        let message = "only a `[[deny]]` can be quiet; take it out";
        file.problem(&quiet.span, &quiet.field, message);
    }
    quiet.value
}

fn rule_id(
    file: &mut File<'_>,
    fields: &Fields<'_>,
    seen: &mut BTreeMap<String, String>,
) -> Option<RuleId> {
    let Some(text) = fields.text(file, "id") else {
        if !fields.has("id") {
            let message = "missing; every rule needs a name of its own";
            file.problem(&fields.span(), &fields.field("id"), message);
        }
        return None;
    };
    if Control::is_name(&text.value) {
        let message = format!(
            "`{}` is the name of a built-in control; choose another",
            text.value
        );
        file.problem(&text.span, &text.field, message);
        return None;
    }
    let place = file.place(&text.span);
    if let Some(other) = seen.get(&text.value) {
        let line = other.rsplit(':').next().unwrap_or_default();
        let message = format!("`{}` is already used at line {line}", shown(&text.value));
        file.problem(&text.span, &text.field, message);
        return None;
    }
    seen.insert(text.value.clone(), place);
    match text.value.parse() {
        Ok(id) => Some(id),
        Err(error) => {
            file.problem(&text.span, &text.field, error.to_string());
            None
        }
    }
}

fn stage(
    file: &mut File<'_>,
    fields: &Fields<'_>,
    effect: Verdict,
    settings: &Settings,
) -> Option<AskStage> {
    let reviewers = [Reviewer::Bot, Reviewer::Human, Reviewer::BotThenHuman]
        .map(|reviewer| (reviewer.as_str(), reviewer));
    if effect != Verdict::Ask {
        for key in ask_fields() {
            if let Some(at) = fields.value(key) {
                let message = format!("only an [[ask]] rule has `{key}`, and this is a {effect}");
                file.problem(&at.span, &at.field, message);
            }
        }
        return None;
    }
    let reviewer = fields
        .word(file, "reviewer", &reviewers)
        .map_or(Reviewer::Human, |at| at.value);
    let expires = fields.parsed::<Span>(file, "expires");
    if let Some(at) = expires.as_ref().filter(|at| at.value.millis() == 0) {
        file.problem(
            &at.span,
            &at.field,
            "a question must stay open for a while, for example \"5m\"",
        );
    }
    let scope_max = fields.parsed::<Scope>(file, "scope_max");
    if let Some(at) = scope_max
        .as_ref()
        .filter(|at| matches!(at.value, Scope::Until(_) | Scope::Paths))
    {
        let message = "it cannot be a bound; write `once`, `5-uses` or `session`";
        file.problem(&at.span, &at.field, message);
    }
    let scope_max = scope_max.map_or(Scope::Session, |at| at.value);
    let expires = expires.map_or(AskStage::EXPIRES, |at| at.value);
    let review = read_review::review(file, fields, settings, scope_max);
    if let Some(review) = &review {
        read_review::ends_in_time(file, fields, review, expires);
    }
    let reviewer_allows = reviewer_allows(file, fields, reviewer);
    Some(AskStage {
        reviewer,
        expires,
        scope_max,
        review,
        reviewer_allows,
    })
}

/// Reads what the automatic reviewer may allow: nothing where only people answer.
fn reviewer_allows(file: &mut File<'_>, fields: &Fields<'_>, reviewer: Reviewer) -> Option<Risk> {
    let has_stages = fields.has("stages");
    if let Some(at) = fields
        .value("reviewer")
        .filter(|_| has_stages && reviewer == Reviewer::Bot)
    {
        let message = "the people of its stages answer it; write \"bot-then-human\"";
        file.problem(&at.span, &at.field, message);
    }
    let allows = fields.word(file, "reviewer_allows", &read_reviewer::ALLOWED)?;
    let why = match reviewer {
        Reviewer::Human => {
            Some("only people answer the rule; give it a `reviewer`, or take it out")
        }
        Reviewer::Bot | Reviewer::BotThenHuman if has_stages => {
            Some("only the people of its stages allow what the rule asks; take it out")
        }
        Reviewer::Bot | Reviewer::BotThenHuman => None,
    };
    match why {
        None => Some(allows.value),
        Some(message) => {
            file.problem(&allows.span, &allows.field, message);
            None
        }
    }
}

fn body(
    file: &mut File<'_>,
    fields: &Fields<'_>,
    effect: Verdict,
    sets: &HostSets,
) -> Option<Body> {
    let names = What::ALL.map(What::as_str);
    let Some(what) = fields.text(file, "what") else {
        if !fields.has("what") {
            let message = format!("missing; one of {}", names.join(", "));
            file.problem(&fields.span(), &fields.field("what"), message);
        }
        return None;
    };
    let Some(kind) = What::ALL
        .into_iter()
        .find(|kind| kind.as_str() == what.value)
    else {
        let message = format!(
            "`{}` is not one of {}{}",
            shown(&what.value),
            names.join(", "),
            did_you_mean(&what.value, &names)
        );
        file.problem(&what.span, &what.field, message);
        return None;
    };
    let own: Vec<&str> = kind.fields().collect();
    let mut all: Vec<&str> = What::ALL.into_iter().flat_map(What::fields).collect();
    all.sort_unstable();
    all.dedup();
    for key in all.into_iter().filter(|key| !own.contains(key)) {
        if let Some(at) = fields.value(key) {
            let message = format!("a rule about `{}` has no `{key}`", kind.as_str());
            file.problem(&at.span, &at.field, message);
        }
    }
    kind.read(file, fields, effect, sets)
}
