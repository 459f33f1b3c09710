//! The names that OpenTelemetry has for fields of events, in one table.

/// The version of the semantic conventions that the names are of.
pub const SEMANTIC_CONVENTIONS: &str = "1.37.0";

/// Kind, field, and attribute; a path below a field has dots.
const ATTRIBUTES: &[(&str, &str, &str)] = &[
    ("model.called", "provider", "gen_ai.provider.name"),
    ("model.called", "model_asked", "gen_ai.request.model"),
    ("model.called", "model", "gen_ai.response.model"),
    ("model.called", "response_id", "gen_ai.response.id"),
    ("model.called", "finish", "gen_ai.response.finish_reasons"),
    (
        "model.called",
        "usage",
        "gen_ai.usage.input_tokens, gen_ai.usage.output_tokens",
    ),
    ("model.called", "error", "error.type"),
    ("model.called", "host", "server.address"),
    ("model.called", "port", "server.port"),
];

/// Returns the attribute of OpenTelemetry that a field of a kind is.
pub fn attribute(kind: &str, field: &str) -> Option<&'static str> {
    let mut all = ATTRIBUTES.iter();
    all.find(|(own, name, _)| *own == kind && *name == field)
        .map(|(_, _, attribute)| *attribute)
}

#[cfg(test)]
mod tests {
    use super::ATTRIBUTES;
    use crate::catalogue;

    /// No name is for a field that there is not.
    #[test]
    fn each_attribute_is_of_a_field() {
        for (kind, field, attribute) in ATTRIBUTES {
            let known = catalogue().iter().find(|known| known.kind == *kind);
            let has = known.is_some_and(|known| known.fields.iter().any(|own| own.name == *field));
            assert!(has, "{kind} {field}: {attribute}");
        }
    }
}
