//! The rows, a file for each group.

mod agents;
mod browsers;
mod debuggers;
mod git;
mod languages;
mod packages;
mod sandboxes;
mod servers;
mod shells;
mod terminal;

use super::row::Row;

/// All rows, in the order of the document.
pub(super) fn all() -> Vec<Row> {
    [
        git::ROWS,
        packages::ROWS,
        languages::ROWS,
        servers::ROWS,
        browsers::ROWS,
        debuggers::ROWS,
        sandboxes::ROWS,
        terminal::ROWS,
        shells::ROWS,
        agents::ROWS,
    ]
    .concat()
}
