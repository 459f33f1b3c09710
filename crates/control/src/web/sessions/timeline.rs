//! One session: what was wanted, and what happened.

use std::sync::Arc;

use serde::Serialize;
use stockade_event::{
    Summary,
    tree::{Grown, Sort},
};
use stockade_types::Verdict;

use super::{
    super::{call::Call, problem::Problem},
    Session,
    actions::{Reading, may_read, may_stop},
    events::read,
    find,
    tree::{Part, Place, Strip, Wish, part, strip},
};

/// Hosts and files that the page lists.
const HOSTS: usize = 50;
const FILES: usize = 100;
/// Characters of a text to look for.
const TEXT_CHARS_MAX: usize = 200;
/// The sorts that a person can ask for, with their words.
pub(super) const SORTS: [(&str, Sort, &str); 9] = [
    ("prompt", Sort::Prompt, "prompts"),
    ("tool", Sort::Tool, "tool calls"),
    ("process", Sort::Process, "programs"),
    ("changed", Sort::Changed, "changes of files"),
    ("connected", Sort::Connected, "connections"),
    ("called", Sort::Called, "calls of models"),
    ("refused", Sort::Refused, "refusals"),
    ("asked", Sort::Asked, "questions"),
    ("note", Sort::Note, "notes"),
];

/// A session by what it came of.
#[derive(Debug, Serialize)]
pub(crate) struct Timeline {
    #[serde(flatten)]
    pub(super) session: Session,
    #[serde(flatten)]
    pub(super) part: Part,
    /// Nodes of the session, and how many there was no room for.
    pub(super) nodes: usize,
    pub(super) more: u64,
    /// What was asked for.
    pub(super) wish: Wish,
    /// What happened when, from its beginning to its end.
    pub(super) strip: Vec<Strip>,
    /// Hosts that it talked to.
    pub(super) network: Vec<Host>,
    /// Files that it changed.
    pub(super) files: Vec<Changed>,
    pub(super) files_more: u64,
    /// Whether the caller may read what was said, and may end the session.
    pub(super) content: Reading,
    pub(super) may_stop: bool,
}

/// A host with its port.
#[derive(Debug, Serialize)]
pub(super) struct Host {
    pub(super) host: String,
    pub(super) connections: u64,
    pub(super) failed: u64,
    pub(super) bytes_out: u64,
    pub(super) bytes_in: u64,
}

/// A file.
#[derive(Debug, Serialize)]
pub(super) struct Changed {
    pub(super) path: String,
    pub(super) times: u64,
}

/// `GET /sessions/{node}/{session}`
pub(crate) async fn one(call: Arc<Call>) -> Result<Timeline, Problem> {
    let (fleet, row, session) = find(&call).await?;
    let content = may_read(&call, &fleet, &row).await?;
    let may_stop = may_stop(&call, &fleet, &row);
    let wish = wish(&call)?;
    let place = Place {
        at: call.query("at").parse().ok(),
        from: call.query("from").parse().ok(),
        is_live: session.live && session.ended.is_none(),
    };
    let (stories, key, until) = (
        call.web.server.stories.clone(),
        row.key.clone(),
        session.events,
    );
    let (own, may_read) = (wish.clone(), content.is_yes());
    let has_ended = session.closed;
    let grown = read(&call, &row.key, move |dir| {
        let grown = stories.read(dir, &key, until, has_ended);
        grown.map(|grown| shown(&grown, &own, place, may_read))
    });
    let (part, strip, nodes, more) = grown.await?.unwrap_or_default();
    let summary: Summary = serde_json::from_str(&row.summary).unwrap_or_default();
    Ok(Timeline {
        session,
        part,
        nodes,
        more,
        wish,
        strip,
        network: network(&summary),
        files_more: files_more(&summary),
        files: files(&summary),
        content,
        may_stop,
    })
}

type Shown = (Part, Vec<Strip>, usize, u64);

fn shown(grown: &Grown, wish: &Wish, place: Place, may_read: bool) -> Shown {
    let nodes = &grown.nodes;
    (
        part(nodes, wish, place, may_read),
        strip(nodes),
        nodes.len(),
        grown.more,
    )
}

/// Reads what was asked for.
fn wish(call: &Call) -> Result<Wish, Problem> {
    let sort = call.query("kind");
    let known = SORTS.iter().find(|(word, ..)| *word == sort);
    if known.is_none() && !sort.is_empty() {
        let words: Vec<&str> = SORTS.iter().map(|(word, ..)| *word).collect();
        return Err(Problem::wrong(
            "there is no such kind",
            format!("use one of {}", words.join(", ")),
        ));
    }
    let verdict = match call.query("verdict") {
        "" => None,
        "allow" => Some(Verdict::Allow),
        "ask" => Some(Verdict::Ask),
        "deny" => Some(Verdict::Deny),
        _ => {
            return Err(Problem::wrong(
                "there is no such verdict",
                "use allow, ask or deny",
            ));
        }
    };
    Ok(Wish {
        sort: known.map(|(_, sort, _)| *sort),
        verdict,
        text: call.typed("text", TEXT_CHARS_MAX).to_lowercase(),
    })
}

fn network(summary: &Summary) -> Vec<Host> {
    let mut hosts: Vec<Host> = summary
        .connections
        .iter()
        .map(|(host, traffic)| Host {
            host: host.clone(),
            connections: traffic.connections,
            failed: traffic.failed,
            bytes_out: traffic.bytes_out,
            bytes_in: traffic.bytes_in,
        })
        .collect();
    hosts.sort_by(|a, b| b.connections.cmp(&a.connections).then(a.host.cmp(&b.host)));
    hosts.truncate(HOSTS);
    hosts
}

fn files(summary: &Summary) -> Vec<Changed> {
    let of = |path| stockade_event::text::in_workspace(path, &summary.workspace);
    let files = summary.changed_files.iter().map(|(path, times)| Changed {
        path: of(path),
        times: *times,
    });
    files.take(FILES).collect()
}

fn files_more(summary: &Summary) -> u64 {
    let listed = u64::try_from(summary.changed_files.len().min(FILES)).unwrap_or(u64::MAX);
    let all = u64::try_from(summary.changed_files.len()).unwrap_or(u64::MAX);
    all.saturating_add(summary.changed_files_more)
        .saturating_sub(listed)
}
