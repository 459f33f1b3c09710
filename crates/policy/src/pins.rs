//! `[require]`: the values that the organisation pins for all layers below it.

use crate::{
    Origin, Settings, Sourced,
    fields::{At, Fields, File, did_you_mean, shown, sourced},
};
use stockade_types::WorkspaceMode;

/// A pin and its possible values; `None` means free text.
struct Pin {
    key: &'static str,
    values: Option<&'static [&'static str]>,
    hint: &'static str,
}

const PINS: [Pin; 9] = [
    Pin {
        key: "tier",
        values: None,
        hint: "auto, native, landlock or oci:RUNTIME",
    },
    Pin {
        key: "mode",
        values: Some(&["direct", "review"]),
        hint: "direct or review",
    },
    Pin {
        key: "ask",
        values: Some(&["tty", "inbox", "server", "deny"]),
        hint: "tty, inbox, server or deny",
    },
    Pin {
        key: "network",
        values: Some(&["offline", "proxied"]),
        hint: "offline or proxied",
    },
    Pin {
        key: "waivers",
        values: Some(&["none"]),
        hint: "none",
    },
    Pin {
        key: "unprotect",
        values: Some(&["none"]),
        hint: "none",
    },
    Pin {
        key: "answers",
        values: Some(&["session"]),
        hint: "session",
    },
    Pin {
        key: "host_sets",
        values: Some(&["none"]),
        hint: "none",
    },
    Pin {
        key: "journal",
        values: Some(&["local", "agent", "server"]),
        hint: "local, agent or server",
    },
];

pub(crate) fn read(file: &mut File<'_>, table: &Fields<'_>, settings: &mut Settings) {
    if file.source.origin != Origin::Organisation {
        let message = "only the organisation's policy can require; remove the table";
        file.problem(&table.span(), table.path(), message);
        return;
    }
    for key in table.keys() {
        let Some(pin) = PINS.iter().find(|pin| pin.key == key) else {
            let known = PINS.map(|pin| pin.key);
            if let Some(at) = table.value(key) {
                let message = format!("unknown key{}", did_you_mean(key, &known));
                file.problem(&at.span, &at.field, message);
            }
            continue;
        };
        let Some(at) = table.text(file, key) else {
            continue;
        };
        let known = pin
            .values
            .is_none_or(|values| values.contains(&at.value.as_str()));
        let tier = key != "tier"
            || ["auto", "native", "landlock"].contains(&at.value.as_str())
            || at
                .value
                .strip_prefix("oci:")
                .is_some_and(|runtime| !runtime.is_empty());
        if !known || !tier {
            let message = format!(
                "`{}` is not a value of it; write {}",
                shown(&at.value),
                pin.hint
            );
            file.problem(&at.span, &at.field, message);
            continue;
        }
        if key == "mode" && at.value == "review" {
            // A pin also sets the value, so that a lower layer with a different one is refused.
            let mode = At {
                value: WorkspaceMode::Review,
                span: at.span.clone(),
                field: at.field.clone(),
            };
            settings.workspace.mode = sourced(file, mode);
        }
        let item: Sourced<String> = sourced(file, at);
        settings.require.insert(key.to_owned(), item);
    }
}
