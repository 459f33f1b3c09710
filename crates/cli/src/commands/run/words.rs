//! The words that options of `stockade run` take, read into what they mean.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use stockade_plan::DEFAULT_TIER;
use stockade_types::{AskMode, GuaranteeName, Tier, WordError};

/// The word for the tier that this version thinks best.
pub(super) const AUTO: &str = "auto";
/// Tiers that are planned; a runtime may follow `oci:`.
const PLANNED: [&str; 2] = ["landlock", "none"];

/// Reads a tier.
pub(super) fn tier(text: &str) -> Result<Tier, String> {
    if text == AUTO {
        return Ok(DEFAULT_TIER);
    }
    if let Ok(tier) = text.parse() {
        return Ok(tier);
    }
    let use_instead = Tier::ALL.map(Tier::as_str).join("` or `");
    if PLANNED.contains(&text) || text.starts_with("oci:") {
        return Err(format!(
            "tier `{text}` is not available yet; use `{use_instead}`"
        ));
    }
    Err(format!(
        "`{text}` is not a tier; expected {AUTO} or `{use_instead}`"
    ))
}

/// Reads a guarantee.
pub(super) fn guarantee(text: &str) -> Result<GuaranteeName, String> {
    text.parse()
        .map_err(|WordError { words, .. }| format!("expected {words}"))
}

/// Reads a guarantee with the reason to do without it.
pub(super) fn waiver(text: &str) -> Result<(GuaranteeName, String), String> {
    let (name, reason) = text.split_once('=').ok_or("expected GUARANTEE=REASON")?;
    if reason.trim().is_empty() {
        return Err("a waiver needs a reason".to_owned());
    }
    Ok((guarantee(name)?, reason.to_owned()))
}

/// Reads who is asked.
pub(super) fn ask() -> impl TypedValueParser<Value = AskMode> {
    let words = AskMode::ALL.map(|mode| {
        let help = match mode {
            AskMode::Tty => "This terminal (and the inbox)",
            AskMode::Inbox => "A second terminal: `stockade approvals`",
            AskMode::Server => {
                "People in roles, through the organisation's server (enrolled machines)"
            }
            AskMode::Deny => "No one: an ask is denied",
        };
        PossibleValue::new(mode.as_str()).help(help)
    });
    PossibleValuesParser::new(words).try_map(|word| word.parse::<AskMode>())
}
