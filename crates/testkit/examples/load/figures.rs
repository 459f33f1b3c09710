//! Figures, each with what it has to be.

use serde::Serialize;

/// What one scenario came to.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    name: &'static str,
    /// What was done, in words.
    what: String,
    figures: Vec<Figure>,
}

/// One figure.
#[derive(Debug, Serialize)]
struct Figure {
    what: &'static str,
    value: f64,
    unit: &'static str,
    /// The most that it may be; `None` if it is only told.
    at_most: Option<f64>,
}

impl Report {
    pub(crate) fn new(name: &'static str, what: String) -> Self {
        Self {
            name,
            what,
            figures: Vec::new(),
        }
    }

    /// Adds a figure that has a target.
    pub(crate) fn target(
        &mut self,
        what: &'static str,
        value: f64,
        unit: &'static str,
        at_most: f64,
    ) {
        self.figures.push(Figure {
            what,
            value,
            unit,
            at_most: Some(at_most),
        });
    }

    /// Adds a figure that is only told.
    pub(crate) fn told(&mut self, what: &'static str, value: f64, unit: &'static str) {
        self.figures.push(Figure {
            what,
            value,
            unit,
            at_most: None,
        });
    }
}

/// Returns a count as a figure.
#[expect(
    clippy::cast_precision_loss,
    reason = "figures are shown with three digits"
)]
pub(crate) const fn float(count: u64) -> f64 {
    count as f64
}

/// Returns a number of things as a figure.
pub(crate) fn count(things: usize) -> f64 {
    float(u64::try_from(things).expect("few"))
}

/// Times of questions.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) inbox: stockade_testkit::fleet::Times,
    pub(crate) answer: stockade_testkit::fleet::Times,
}

impl Asked {
    pub(crate) fn join(&mut self, other: &Self) {
        self.inbox.join(&other.inbox);
        self.answer.join(&other.answer);
    }
}
