//! `cargo xtask conformance`: real programs doing ordinary work, bare, in our boundary with default
//! settings, and in two other sandboxes.
//!
//! A row is data: the owner's preparation, the work inside, and the check afterwards from outside.
//! Each try has its own home and workspace, at the same place for every contender.

mod contender;
mod ground;
mod network;
mod questions;
mod report;
mod row;
mod rows;
mod tools;
mod trial;

use std::{env, fs, path::PathBuf};

use anyhow::{Context, Result, bail};

use crate::{
    Outcome,
    conformance::{
        contender::Field,
        ground::Ground,
        report::{Line, Report},
        row::{Group, Row},
        tools::Tools,
        trial::{Cell, Trial},
    },
    out, process, user, workspace,
};

/// The place of the result.
const DOCUMENT: &str = "docs/conformance.md";

/// Runs the rows, prints the table and writes the document.
#[derive(clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one switch of the command line"
)]
pub(crate) struct Args {
    /// Only this group, or the row of this name; repeatable. The document is then left as it is
    #[arg(long, value_name = "GROUP|ROW")]
    only: Vec<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Try this program instead of building ours
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Without the other sandboxes. The document is then left as it is
    #[arg(long)]
    ours: bool,
    /// Leave the document as it is
    #[arg(long)]
    no_write: bool,
    /// The registries are neighbours already
    #[arg(long, hide = true)]
    in_lab: bool,
}

/// Runs the requested rows. Fails if a row of ours breaks, or asks without a reason.
pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let root = workspace::root()?;
    let target = workspace::target_dir(&root)?;
    let rows = chosen(&args.only)?;
    if !args.in_lab && network::can_be_made() {
        // Packages are installed from the machine's own network.
        Tools::install(&target, &rows)?;
        if !args.ours {
            contender::install(&target)?;
        }
        if args.program.is_none() {
            build(&target)?;
        }
        let mut again: Vec<String> = env::args().skip(1).collect();
        again.push("--in-lab".to_owned());
        return network::again(&target, &again);
    }
    let program = match &args.program {
        Some(program) => fs::canonicalize(program)
            .with_context(|| format!("`{}` is not there", program.display()))?,
        None => build(&target)?,
    };
    let tools = Tools::install(&target, &rows)?;
    let ground = Ground::new()?;
    let field = Field::gather(&program, &target, &ground, args.ours)?;
    let mut report = Report::new(&field);
    for (number, row) in rows.iter().enumerate() {
        let missing = tools.missing(row);
        let line = if missing.is_empty() {
            try_row(row, &field, &ground, &tools)?
        } else {
            Line::not_run(row, missing)
        };
        out::note(format_args!(
            "conformance: {}/{} {}",
            number + 1,
            rows.len(),
            line.text()
        ));
        report.add(line);
    }
    if args.only.is_empty() && !args.ours && !args.no_write {
        let document = root.join(DOCUMENT);
        fs::write(&document, report.markdown())
            .with_context(|| format!("`{DOCUMENT}` cannot be written"))?;
        out::note(format_args!("conformance: {DOCUMENT} is written"));
    }
    out::line(if args.json {
        report.json()?
    } else {
        report.text()
    });
    Ok(if report.problems().is_empty() {
        Outcome::Passed
    } else {
        Outcome::Failed
    })
}

/// Returns the rows with these names, in the order of the document.
fn chosen(names: &[String]) -> Result<Vec<Row>> {
    let rows = rows::all();
    let is_known = |name: &String| {
        Group::ALL.iter().any(|group| group.name() == name)
            || rows.iter().any(|row| row.name == name)
    };
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        let groups: Vec<&str> = Group::ALL.iter().map(|group| group.name()).collect();
        bail!(
            "`{unknown}` is no group ({}) and no row of the table",
            groups.join(", ")
        );
    }
    let is_meant = |row: &Row| {
        names.is_empty()
            || names
                .iter()
                .any(|name| row.group.name() == name || row.name == name)
    };
    Ok(rows.into_iter().filter(is_meant).collect())
}

fn build(target: &std::path::Path) -> Result<PathBuf> {
    process::show(workspace::cargo().args(["build", "--quiet", "-p", "stockade-cli"]))
        .context("the program could not be built")?;
    Ok(target.join("debug/stockade"))
}

fn try_row(row: &Row, field: &Field, ground: &Ground, tools: &Tools) -> Result<Line> {
    let mut line = Line::new(row);
    for contender in &field.present {
        let trial = Trial {
            row,
            contender,
            ground,
            tools,
        };
        let cell = trial.run()?;
        if contender.is_bare() {
            line.versions = trial.versions()?;
        }
        let is_over = contender.is_bare() && !matches!(cell, Cell::Works);
        line.cells.push((contender.name(), cell));
        if is_over {
            // If a row does not work bare, it says nothing about a boundary.
            break;
        }
    }
    Ok(line)
}

/// Whether rows can be tried as another user.
fn as_whom() -> Result<Option<user::User>> {
    user::is_root().then(user::ensure).transpose()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_choose_rows_and_unknown_ones_are_refused() {
        let git = chosen(&["git".to_owned()]).unwrap();
        assert!(git.iter().all(|row| row.group == Group::Git) && !git.is_empty());
        let one = chosen(&["gdb".to_owned()]).unwrap();
        assert_eq!(one.iter().map(|row| row.name).collect::<Vec<_>>(), ["gdb"]);
        assert!(chosen(&["nothing".to_owned()]).is_err());
    }

    #[test]
    fn the_table_is_as_wide_as_it_is_said_to_be() {
        let rows = rows::all();
        let names: BTreeSet<&str> = rows.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), rows.len(), "a name stands twice");
        for group in Group::ALL {
            assert!(
                !names.contains(group.name()),
                "{group} is a row and a group"
            );
        }
        for row in &rows {
            assert!(!row.run.is_empty() && !row.needs.is_empty(), "{}", row.name);
            assert!(
                row.closed_because.is_empty() == row.refusal.is_empty(),
                "{}",
                row.name
            );
        }
    }
}
