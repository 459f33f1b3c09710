//! Whether the agent is made to export what it does to the session's record.

use stockade_policy::{Origin, PresetTelemetry, Settings};

use crate::{HostFacts, Network, RunSpec};

/// Returns how the agent is made to export, or why it is not.
pub(crate) fn find<'s>(
    settings: &'s Settings,
    spec: &RunSpec,
    facts: &HostFacts,
) -> Result<&'s PresetTelemetry, String> {
    let own = &settings.preset.telemetry;
    if !settings.record.otlp.value {
        return Err(format!("off by {}", settings.record.otlp.source));
    }
    if own.arguments.is_empty() && own.environment.is_empty() {
        return Err("no preset sets it up".to_owned());
    }
    if spec.network == Network::Isolated {
        return Err("there is no network".to_owned());
    }
    if !facts.redirect {
        return Err("it needs the redirect of nf_tables".to_owned());
    }
    if let Some(file) = &facts.own_telemetry {
        return Err(format!("{file} sets up the agent's own"));
    }
    match own_variable(settings, facts) {
        Some(name) => Err(format!("the variable {name} sets up the agent's own")),
        None => Ok(own),
    }
}

/// Returns a variable inside by which the owner has the agent's telemetry sent elsewhere.
fn own_variable(settings: &Settings, facts: &HostFacts) -> Option<String> {
    let passed = facts.environment.iter().filter_map(|(name, value)| {
        let name = std::str::from_utf8(name.as_bytes()).ok()?;
        let reaches = settings.environment.passes(name) && !value.as_bytes().is_empty();
        reaches.then_some(name)
    });
    let set = settings.environment.set.iter();
    let set = set.filter(|(_, value)| value.origin != Origin::Builtin);
    let mut all = passed.chain(set.map(|(name, _)| name.as_str()));
    let ours = &settings.preset.telemetry.environment;
    let is_sign = |name: &&str| {
        let is_address = name.starts_with("OTEL_EXPORTER_OTLP_") && name.ends_with("ENDPOINT");
        is_address || ours.contains_key(*name)
    };
    all.find(is_sign).map(str::to_owned)
}
