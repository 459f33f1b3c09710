//! Looking for events.

use sqlx::{QueryBuilder, Row as _, Sqlite, sqlite::SqliteRow};
use stockade_api::{
    NodeId,
    search::{Pattern, Query},
};
use stockade_types::UnixMillis;

use super::Index;
use crate::{
    ControlError,
    state::{SessionKey, millis, parsed, signed, unsigned},
};

/// Whose sessions a look may see.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// Those of all machines.
    All,
    /// Those of these machines.
    Of(Vec<NodeId>),
}

/// A found event.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) id: i64,
    pub(crate) key: SessionKey,
    pub(crate) seq: u64,
    pub(crate) at: UnixMillis,
    pub(crate) kind: String,
    pub(crate) request: Option<String>,
    pub(crate) verdict: Option<String>,
    pub(crate) rule: Option<String>,
    pub(crate) decision: Option<u64>,
    pub(crate) text: String,
}

/// Which part of what is found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    /// Only what comes behind this one: its time, and its id.
    pub(crate) after: Option<(UnixMillis, i64)>,
    pub(crate) count_max: u32,
}

const COLUMNS: &str = "e.id, i.node_id, i.session_id, e.seq, e.at, e.kind, e.request, e.verdict, e.rule, \
                       e.decision, e.text";

impl Index {
    /// Looks for events, the newest first. `users` are the machines of the people that the query names.
    ///
    /// # Errors
    /// When the index cannot be read, or a look takes too long.
    pub(crate) async fn search(
        &self,
        query: &Query,
        seen: &Seen,
        now: UnixMillis,
        page: Page,
    ) -> Result<Vec<Found>, ControlError> {
        let failed = || ControlError::state("search");
        let mut sql: QueryBuilder<Sqlite> = QueryBuilder::new("SELECT ");
        sql.push(COLUMNS)
            .push(" FROM events_ix e JOIN indexed i ON i.id = e.session WHERE 1 = 1");
        push_query(&mut sql, query, now);
        push_seen(&mut sql, seen, "e.session");
        if let Some((at, id)) = page.after {
            sql.push(" AND (e.at, e.id) < (")
                .push_bind(signed(at.0))
                .push(", ")
                .push_bind(id)
                .push(")");
        }
        sql.push(" ORDER BY e.at DESC, e.id DESC LIMIT ")
            .push_bind(i64::from(page.count_max));
        let mut connection = self.look().await?;
        let rows = sql.build().fetch_all(&mut *connection);
        let rows = rows.await.map_err(failed())?;
        rows.iter().map(found).collect()
    }

    /// Returns the event that a decision of a session was told by.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) async fn decision(
        &self,
        key: &SessionKey,
        decision: u64,
    ) -> Result<Option<Found>, ControlError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM events_ix e JOIN indexed i ON i.id = e.session \
             WHERE i.node_id = $1 AND i.session_id = $2 AND e.decision = $3 ORDER BY e.seq DESC LIMIT 1"
        );
        let mut connection = self.look().await?;
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(key.node.as_str())
            .bind(key.session.as_str())
            .bind(signed(decision))
            .fetch_optional(&mut *connection);
        let row = row.await.map_err(ControlError::state("find a decision"))?;
        row.as_ref().map(found).transpose()
    }
}

fn found(row: &SqliteRow) -> Result<Found, ControlError> {
    let failed = || ControlError::state("read the index");
    let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
    let maybe = |index: usize| row.try_get::<Option<String>, _>(index).map_err(failed());
    let number = |index: usize| row.try_get::<i64, _>(index).map_err(failed());
    let decision: Option<i64> = row.try_get(9).map_err(failed())?;
    Ok(Found {
        id: number(0)?,
        key: SessionKey {
            node: parsed("a machine", &text(1)?)?,
            session: parsed("a session", &text(2)?)?,
        },
        seq: unsigned(number(3)?),
        at: millis(number(4)?),
        kind: text(5)?,
        request: maybe(6)?,
        verdict: maybe(7)?,
        rule: maybe(8)?,
        decision: decision.map(unsigned),
        text: text(10)?,
    })
}

/// Narrows to sessions that may be seen.
pub(super) fn push_seen(sql: &mut QueryBuilder<Sqlite>, seen: &Seen, column: &'static str) {
    let Seen::Of(nodes) = seen else { return };
    sql.push(" AND ").push(column);
    sql.push(" IN (SELECT id FROM indexed WHERE node_id IN (");
    let mut list = sql.separated(", ");
    for node in nodes {
        list.push_bind(node.as_str().to_owned());
    }
    sql.push("))");
}

fn push_query(sql: &mut QueryBuilder<Sqlite>, query: &Query, now: UnixMillis) {
    for (moment, compare) in [
        (query.since, " AND e.at >= "),
        (query.until, " AND e.at < "),
    ] {
        if let Some(moment) = moment {
            sql.push(compare).push_bind(signed(moment.time(now).0));
        }
    }
    let verdicts = query.verdicts.iter().map(|one| one.as_str().to_owned());
    push_list(sql, " AND e.verdict IN (", verdicts);
    push_list(sql, " AND e.rule IN (", query.rules.iter().cloned());
    push_any(sql, &query.kinds, |sql, kind| {
        sql.push("e.request = ").push_bind(kind.clone());
        sql.push(" OR e.kind = ").push_bind(kind.clone());
        let below = format!("{}.%", Pattern(kind.clone()).like());
        sql.push(" OR e.kind LIKE ").push_bind(below);
        sql.push(" ESCAPE '\\'");
    });
    push_any(sql, &query.hosts, |sql, host| {
        // Few hosts, and then by the index of hosts.
        sql.push("e.host IN (SELECT host FROM hosts WHERE host LIKE ");
        sql.push_bind(host.like()).push(" ESCAPE '\\')");
    });
    for (patterns, column) in [(&query.paths, "e.path"), (&query.exes, "e.exe")] {
        push_any(sql, patterns, |sql, pattern| {
            sql.push(column).push(" LIKE ").push_bind(pattern.like());
            sql.push(" ESCAPE '\\'");
        });
    }
    push_list(sql, " AND i.agent IN (", query.agents.iter().cloned());
    push_any(sql, &query.sessions, |sql, session| {
        sql.push("i.session_id LIKE ");
        let like = format!("{}%", Pattern(session.replace('*', "")).like());
        sql.push_bind(like).push(" ESCAPE '\\'");
    });
    if let Some(words) = phrases(&query.words) {
        sql.push(" AND e.id IN (SELECT rowid FROM events_text WHERE events_text MATCH ");
        sql.push_bind(words).push(")");
    }
}

fn push_list(
    sql: &mut QueryBuilder<Sqlite>,
    front: &'static str,
    values: impl ExactSizeIterator<Item = String>,
) {
    if values.len() == 0 {
        return;
    }
    sql.push(front);
    let mut list = sql.separated(", ");
    for value in values {
        list.push_bind(value);
    }
    sql.push(")");
}

fn push_any<T>(
    sql: &mut QueryBuilder<Sqlite>,
    values: &[T],
    mut push: impl FnMut(&mut QueryBuilder<Sqlite>, &T),
) {
    for (index, value) in values.iter().enumerate() {
        sql.push(if index == 0 { " AND ((" } else { ") OR (" });
        push(sql, value);
    }
    if !values.is_empty() {
        sql.push("))");
    }
}

/// Writes words in the language of the database: each is a phrase, and all have to be there.
fn phrases(words: &[String]) -> Option<String> {
    let quoted = words.iter().map(|word| {
        let (word, end) = match word.strip_suffix('*') {
            Some(beginning) => (beginning, " *"),
            None => (word.as_str(), ""),
        };
        // The database ends a text at a NUL; no control character is part of a word anyway.
        let word: String = word
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        format!("\"{}\"{end}", word.replace('"', "\"\""))
    });
    let all: Vec<String> = quoted.collect();
    (!all.is_empty()).then(|| all.join(" AND "))
}
