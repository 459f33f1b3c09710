//! The figures as text.

use std::fmt::Write as _;

use serde::Deserialize;

use crate::bench::{LOAD_HEAD, figure};

/// What one scenario came to.
#[derive(Debug, Deserialize)]
pub(super) struct Scenario {
    name: String,
    what: String,
    figures: Vec<Figure>,
}

/// One figure.
#[derive(Debug, Deserialize)]
struct Figure {
    what: String,
    value: f64,
    unit: String,
    at_most: Option<f64>,
}

impl Figure {
    fn is_reached(&self) -> bool {
        self.at_most.is_none_or(|at_most| self.value <= at_most)
    }

    /// Returns what is needed, what was measured, and whether that suffices.
    fn cells(&self) -> [String; 3] {
        let with_unit = |value: f64| format!("{} {}", figure(value), self.unit);
        let needed = self.at_most.map_or("–".to_owned(), |at_most| {
            format!("≤ {}", with_unit(at_most)).trim_end().to_owned()
        });
        let outcome = match self.at_most {
            None => "",
            Some(_) if self.is_reached() => "reached",
            Some(_) => "not reached",
        };
        let measured = with_unit(self.value).trim_end().to_owned();
        [needed, measured, outcome.to_owned()]
    }
}

impl Scenario {
    /// Tells whether every figure with a target has reached it.
    pub(super) fn is_reached(&self) -> bool {
        self.figures.iter().all(Figure::is_reached)
    }

    /// Writes it for a terminal.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}: {}\n", self.name, self.what);
        for figure in &self.figures {
            let [needed, measured, outcome] = figure.cells();
            put(
                &mut text,
                format_args!(
                    "  {:<42} {measured:>12}  {needed:<10} {outcome}\n",
                    figure.what
                ),
            );
        }
        text
    }

    fn rows(&self, text: &mut String) {
        put(text, format_args!("\n**{}**: {}\n\n", self.name, self.what));
        put(
            text,
            format_args!("| what | needed | measured | |\n|---|---|---:|---|\n"),
        );
        for figure in &self.figures {
            let [needed, measured, outcome] = figure.cells();
            put(
                text,
                format_args!("| {} | {needed} | {measured} | {outcome} |\n", figure.what),
            );
        }
    }
}

fn put(text: &mut String, more: std::fmt::Arguments<'_>) {
    // A text takes everything.
    let written = text.write_fmt(more);
    debug_assert!(written.is_ok(), "a text takes everything");
}

/// Writes the section.
pub(super) fn markdown(which: &str, machine: &str, scenarios: &[Scenario]) -> String {
    let mut text = format!(
        "{LOAD_HEAD}\n\nWritten by `cargo xtask load all`; do not edit.\n\n{machine}, {which}. One server as a \
         process of its own, its directory on a disk; beside it on the same processors one process with all \
         machines, whose directories are in memory. Each machine has a key, a certificate, a connection over \
         mutual TLS and HTTP/2, and journals that are signed.\n"
    );
    for scenario in scenarios {
        scenario.rows(&mut text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Scenario, markdown};

    fn scenario(value: f64) -> Scenario {
        let text = format!(
            r#"{{"name":"storm","what":"many","figures":[
                {{"what":"time","value":{value},"unit":"s","at_most":5.0}},
                {{"what":"lost","value":0.0,"unit":"","at_most":0.0}},
                {{"what":"memory","value":7.0,"unit":"MB","at_most":null}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_figure_beyond_its_target_is_not_reached() {
        assert!(scenario(5.0).is_reached());
        let missed = scenario(5.1);
        assert!(!missed.is_reached());
        let text = markdown("commit 1", "a machine", &[missed]);
        assert!(
            text.contains("| time | ≤ 5.00 s | 5.10 s | not reached |"),
            "{text}"
        );
        assert!(text.contains("| memory | – | 7.00 MB |  |"), "{text}");
        assert!(
            text.contains("| lost | ≤ 0.00 | 0.00 | reached |"),
            "{text}"
        );
    }
}
