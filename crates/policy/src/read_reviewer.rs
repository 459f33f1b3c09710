//! `[reviewer]`. The first layer that has it decides, from the organisation down.

use stockade_types::{Risk, Span};

use crate::{
    ModelEndpoint, ReviewerSettings, Settings,
    fields::{At, Fields, File, missing, sourced},
    read_review::is_new,
};

/// Keys of the table.
const KEYS: [&str; 7] = [
    "endpoint",
    "model",
    "key_file",
    "key_variable",
    "timeout",
    "budget",
    "max_risk",
];
/// How long an answer may take by default, and at most.
const TIMEOUT: Span = Span::from_millis(20_000);
const TIMEOUT_MAX: Span = Span::from_millis(120_000);
/// Questions that a session may put to the model by default, and at most.
const BUDGET: u32 = 100;
const BUDGET_MAX: u32 = 10_000;
/// Characters of the name of a model.
const MODEL_CHARS_MAX: usize = 200;
/// The words for risks that a model may allow: what is critical is for people.
pub(crate) const ALLOWED: [(&str, Risk); 3] = [
    (Risk::Low.as_str(), Risk::Low),
    (Risk::Medium.as_str(), Risk::Medium),
    (Risk::High.as_str(), Risk::High),
];

/// Reads the table.
pub(crate) fn read(file: &mut File<'_>, top: &Fields<'_>, settings: &mut Settings) {
    let Some(table) = top.table(file, "reviewer", &KEYS) else {
        return;
    };
    let endpoint = table.parsed::<ModelEndpoint>(file, "endpoint");
    missing(
        file,
        &table,
        "endpoint",
        "for example \"https://models.example.org/v1\"",
    );
    let model = table.text(file, "model");
    missing(file, &table, "model", "the name of the model there");
    let (key_file, key_variable) = (
        table.text(file, "key_file"),
        table.text(file, "key_variable"),
    );
    if let (Some(_), Some(at)) = (&key_file, &key_variable) {
        file.problem(
            &at.span,
            &at.field,
            "the key is in one place: take out `key_file` or `key_variable`",
        );
    }
    let (timeout, budget) = bounds(file, &table);
    let max_risk = table.word(file, "max_risk", &ALLOWED);
    let (Some(endpoint), Some(model)) = (endpoint, model) else {
        return;
    };
    if model.value.is_empty() || model.value.chars().count() > MODEL_CHARS_MAX {
        file.problem(
            &model.span,
            &model.field,
            "the name has 1 to 200 characters",
        );
        return;
    }
    let reviewer = ReviewerSettings {
        endpoint: endpoint.value,
        model: model.value,
        key_file: key_file.map(|at| at.value),
        key_variable: key_variable.map(|at| at.value),
        timeout,
        budget,
        max_risk: max_risk.map_or(Risk::Low, |at| at.value),
    };
    if is_new(file, &table, settings.reviewer.as_ref(), &reviewer) {
        let at = At {
            value: reviewer,
            span: table.span(),
            field: table.path().to_owned().into(),
        };
        settings.reviewer = Some(sourced(file, at));
    }
}

/// Reads how long an answer may take, and how many questions there may be.
fn bounds(file: &mut File<'_>, table: &Fields<'_>) -> (Span, u32) {
    let timeout = table.parsed::<Span>(file, "timeout");
    if let Some(at) = timeout
        .as_ref()
        .filter(|at| !(1..=TIMEOUT_MAX.millis()).contains(&at.value.millis()))
    {
        let message = format!(
            "`{}` is not more than nothing and at most {TIMEOUT_MAX}",
            at.value
        );
        file.problem(&at.span, &at.field, message);
    }
    let budget = table.count(file, "budget");
    if let Some(at) = budget
        .as_ref()
        .filter(|at| at.value > u64::from(BUDGET_MAX))
    {
        file.problem(
            &at.span,
            &at.field,
            format!("`{}` is more than {BUDGET_MAX}", at.value),
        );
    }
    let budget = budget.map_or(BUDGET, |at| u32::try_from(at.value).unwrap_or(BUDGET_MAX));
    (timeout.map_or(TIMEOUT, |at| at.value), budget)
}
