//! How the index is filled: it reads the journals of the server from where it stopped, beside everything
//! else, and only what was verified.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
    time::Duration,
};

use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};
use stockade_event::{Envelope, Event};
use stockade_journal::{Reader, Resting, layout::session_dir, read};
use tokio::task::spawn_blocking;

use crate::{
    Changed, ControlError, Server,
    clock::now,
    index::{
        Index,
        row::{Closed, FlowKey, Raised, Row},
    },
    state::{Grown, SessionKey, signed, unsigned},
    stories::KEPT_MIN,
};

/// Events of one session that are read at once.
const BATCH: usize = 4_000;
/// Rows of one statement: SQLite takes 32,766 parameters.
const ROWS: usize = 500;
/// Events that are looked at for them, at most.
const LOOKED_AT: u64 = 50_000;
/// Sessions whose journals are remembered; another one is read from its beginning again.
const RESTING_MAX: usize = 1_024;
/// Bytes of journals of the sessions that are remembered: what is remembered of one is less.
const RESTING_BYTES_MAX: u64 = 1 << 30;
/// How long changes gather before they are read.
const TOGETHER: Duration = Duration::from_millis(500);
/// How often all sessions are looked at, whatever has changed.
const ALL: Duration = Duration::from_mins(5);
/// How long the index waits after it could not be written.
const PATIENCE: Duration = Duration::from_secs(10);
/// Clocks of one server may go back by this much.
const SLACK_MS: u64 = 2_000;
const NANOS_PER_MILLI: u64 = 1_000_000;

/// What the index remembers between two looks at the journals.
#[derive(Default)]
pub(crate) struct Filling {
    /// How many events of each session are in the index.
    known: HashMap<SessionKey, u64>,
    resting: HashMap<SessionKey, Rested>,
    /// Counts the looks, so that those can be forgotten that nobody has asked for lately.
    turn: u64,
    /// Sessions that changed before that are in the index.
    since: u64,
}

struct Rested {
    reader: Resting,
    /// An event that was read and was not verified yet.
    ahead: Option<Envelope>,
    turn: u64,
}

/// What was read of one session.
#[derive(Default)]
struct Batch {
    /// The preset, and when it began, once its first event was read.
    begun: Option<(String, u64)>,
    rows: Vec<Row>,
    raised: Vec<Raised>,
    flows: BTreeMap<FlowKey, Sum>,
    /// The flow that each decision of this batch is one of.
    by_decision: HashMap<u64, FlowKey>,
    closed: Vec<Closed>,
    lost: u64,
    /// The number of the last event that was read.
    seq: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    count: u64,
    connections: u64,
    bytes_out: u64,
    bytes_in: u64,
    first_at: u64,
    last_at: u64,
    last_seq: u64,
}

impl Batch {
    fn add(&mut self, envelope: &Envelope) {
        let event = &envelope.event;
        self.seq = envelope.seq;
        if let Event::SessionStarted { preset, .. } = event {
            let preset = stockade_types::RawText::from(preset.as_str()).display();
            let at = envelope.time_unix_ns / NANOS_PER_MILLI;
            self.begun = Some((stockade_event::text::cut(&preset, 60), at));
        } else if let Event::EventsLost { count, .. } = event {
            self.lost = self.lost.saturating_add(*count);
        }
        self.raised.extend(Raised::of(envelope));
        self.closed.extend(Closed::of(event));
        let Some(row) = Row::of(envelope) else {
            return;
        };
        if let Some(key) = row.flow(event) {
            let sum = self.flows.entry(key.clone()).or_default();
            sum.count += 1;
            sum.last_at = row.at;
            sum.last_seq = row.seq;
            if sum.first_at == 0 {
                sum.first_at = row.at;
            }
            if let Some(decision) = row.decision {
                self.by_decision.insert(decision, key);
            }
        }
        self.rows.push(row);
    }
}

impl Filling {
    /// Reads on in a journal; blocks. Returns what was read, and whether there is more.
    fn read(&mut self, dir: &Path, grown: &Grown) -> (Batch, bool) {
        let known = self.known.get(&grown.key).copied().unwrap_or_default();
        let mut batch = Batch {
            seq: known,
            ..Batch::default()
        };
        let rested = self.resting.remove(&grown.key);
        let (mut reader, ahead): (Reader, Option<Envelope>) = match rested {
            Some(rested) => match rested.reader.resume() {
                Ok(reader) => (reader, rested.ahead),
                Err(_) => return (batch, false),
            },
            None => match read(dir) {
                Ok(reader) => (reader, None),
                Err(_) => return (batch, false),
            },
        };
        let mut ahead = ahead;
        let mut is_full = false;
        loop {
            let next = ahead.take().or_else(|| reader.by_ref().flatten().next());
            let Some(envelope) = next else { break };
            if envelope.seq > grown.events || is_full {
                ahead = Some(envelope);
                break;
            }
            if envelope.seq > known {
                batch.add(&envelope);
                is_full = batch.rows.len() >= BATCH || envelope.seq - known >= LOOKED_AT;
            }
        }
        self.turn += 1;
        self.resting.insert(
            grown.key.clone(),
            Rested {
                reader: reader.rest(),
                ahead,
                turn: self.turn,
            },
        );
        self.forget();
        (batch, is_full)
    }

    /// Forgets journals that were not read for the longest time, if there are too many.
    fn forget(&mut self) {
        let bytes = |all: &HashMap<SessionKey, Rested>| {
            all.values().map(|one| one.reader.offset()).sum::<u64>()
        };
        while self.resting.len() > RESTING_MAX
            || self.resting.len() > 1 && bytes(&self.resting) > RESTING_BYTES_MAX
        {
            let oldest = self.resting.iter().min_by_key(|(_, one)| one.turn);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            self.resting.remove(&oldest);
        }
    }
}

impl Server {
    /// Keeps the index up to date until the server ends.
    pub(crate) async fn keep_index(self: Arc<Self>) {
        let mut changes = self.hub.follow();
        let mut ended = self.ended();
        let mut all = tokio::time::interval(ALL);
        let mut filling = Filling::default();
        loop {
            filling = match self.fill(&self.index, filling).await {
                Ok(filling) => filling,
                Err(error) => {
                    self.failed(&error);
                    tokio::time::sleep(PATIENCE).await;
                    Filling::default()
                }
            };
            loop {
                let is_due = tokio::select! {
                    _ = ended.wait_for(|over| *over) => return,
                    _ = all.tick() => { filling.since = 0; true }
                    changed = changes.recv() => !matches!(changed,
                        Ok(Changed::Question(_) | Changed::Node(_) | Changed::Policy | Changed::People)),
                };
                if is_due {
                    break;
                }
            }
            tokio::time::sleep(TOGETHER).await;
            // What has changed meanwhile is read now.
            while changes.try_recv().is_ok() {}
        }
    }

    /// Reads what is new in all journals, once.
    ///
    /// # Errors
    /// When the state cannot be read, or the index not written.
    pub(crate) async fn fill(
        &self,
        index: &Index,
        mut filling: Filling,
    ) -> Result<Filling, ControlError> {
        if filling.known.is_empty() {
            filling.known = index.known().await?;
        }
        let since = filling.since.saturating_sub(SLACK_MS);
        for grown in self.state.grown(since).await? {
            filling.since = filling.since.max(grown.updated);
            let here = filling.known.get(&grown.key).copied().unwrap_or_default();
            if here > grown.events {
                // The state was restored from an older copy.
                index.forget(&grown.key).await?;
                filling.known.remove(&grown.key);
                filling.resting.remove(&grown.key);
            } else if here == grown.events {
                continue;
            }
            let dir = session_dir(&self.node_dir(&grown.key.node), &grown.key.session);
            loop {
                let (dir, one) = (dir.clone(), grown.clone());
                // Beside the gate of what machines wait for; and one journal at a time.
                let done = spawn_blocking(move || {
                    let read = filling.read(&dir, &one);
                    (filling, read)
                });
                let failed = |error: tokio::task::JoinError| ControlError::Work(error.to_string());
                let (back, (batch, has_more)) = done.await.map_err(failed)?;
                filling = back;
                if batch.seq > filling.known.get(&grown.key).copied().unwrap_or_default() {
                    self.state
                        .tell_findings(&grown.key, &batch.raised, now())
                        .await?;
                    index.write(&grown.key, &batch).await?;
                    filling.known.insert(grown.key.clone(), batch.seq);
                }
                if !has_more {
                    break;
                }
            }
            if grown.closed && grown.events >= KEPT_MIN {
                let stories = self.stories.clone();
                tokio::spawn(stories.prepare(dir, grown.key, grown.events));
            }
        }
        Ok(filling)
    }
}

impl Index {
    /// Returns how many events of each session are here.
    pub(crate) async fn known(&self) -> Result<HashMap<SessionKey, u64>, ControlError> {
        let failed = || ControlError::state("read the index");
        let rows =
            sqlx::query("SELECT node_id, session_id, seq FROM indexed").fetch_all(&self.pool);
        let rows = rows.await.map_err(failed())?;
        let mut known = HashMap::with_capacity(rows.len());
        for row in rows {
            let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
            let key = SessionKey {
                node: crate::state::parsed("a machine", &text(0)?)?,
                session: crate::state::parsed("a session", &text(1)?)?,
            };
            known.insert(key, unsigned(row.try_get(2).map_err(failed())?));
        }
        Ok(known)
    }

    /// Forgets a session.
    async fn forget(&self, key: &SessionKey) -> Result<(), ControlError> {
        let failed = || ControlError::state("forget a session of the index");
        let mut writing = self
            .pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(failed())?;
        for sql in [
            "INSERT INTO events_text (events_text, rowid, text) SELECT 'delete', id, text FROM events_ix \
             WHERE session = (SELECT id FROM indexed WHERE node_id = $1 AND session_id = $2)",
            "DELETE FROM events_ix WHERE session = (SELECT id FROM indexed WHERE node_id = $1 AND session_id = $2)",
            "DELETE FROM flows WHERE session = (SELECT id FROM indexed WHERE node_id = $1 AND session_id = $2)",
            "DELETE FROM raised WHERE session = (SELECT id FROM indexed WHERE node_id = $1 AND session_id = $2)",
            "DELETE FROM indexed WHERE node_id = $1 AND session_id = $2",
        ] {
            let done = sqlx::query(sql)
                .bind(key.node.as_str())
                .bind(key.session.as_str());
            done.execute(&mut *writing).await.map_err(failed())?;
        }
        writing.commit().await.map_err(failed())
    }

    /// Writes what was read of a session, all of it or nothing.
    async fn write(&self, key: &SessionKey, batch: &Batch) -> Result<(), ControlError> {
        let failed = || ControlError::state("write the index");
        let mut writing = self
            .pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(failed())?;
        let session = session(&mut writing, key, batch).await.map_err(failed())?;
        write_rows(&mut writing, session, &batch.rows)
            .await
            .map_err(failed())?;
        write_raised(&mut writing, session, &batch.raised)
            .await
            .map_err(failed())?;
        write_flows(&mut writing, session, batch)
            .await
            .map_err(failed())?;
        writing.commit().await.map_err(failed())
    }
}

/// Notes how far a session was read, and returns its number.
async fn session(
    writing: &mut SqliteConnection,
    key: &SessionKey,
    batch: &Batch,
) -> Result<i64, sqlx::Error> {
    let (agent, started) = match &batch.begun {
        Some((agent, started)) => (agent.as_str(), Some(signed(*started))),
        None => ("", None),
    };
    let row = sqlx::query(
        "INSERT INTO indexed (node_id, session_id, seq, agent, started, lost) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (node_id, session_id) DO UPDATE SET seq = excluded.seq, lost = lost + excluded.lost, \
         agent = CASE WHEN excluded.agent = '' THEN agent ELSE excluded.agent END, \
         started = COALESCE(excluded.started, started) RETURNING id",
    );
    let row = row
        .bind(key.node.as_str())
        .bind(key.session.as_str())
        .bind(signed(batch.seq))
        .bind(agent)
        .bind(started)
        .bind(signed(batch.lost));
    row.fetch_one(writing).await?.try_get(0)
}

async fn write_rows(
    writing: &mut SqliteConnection,
    session: i64,
    rows: &[Row],
) -> Result<(), sqlx::Error> {
    let last = sqlx::query("SELECT COALESCE(MAX(id), 0) FROM events_ix");
    let last: i64 = last.fetch_one(&mut *writing).await?.try_get(0)?;
    for rows in rows.chunks(ROWS) {
        let mut sql: QueryBuilder<Sqlite> = QueryBuilder::new(
            "INSERT INTO events_ix (session, seq, at, kind, request, verdict, rule, host, port, exe, path, \
             decision, text) ",
        );
        sql.push_values(rows, |mut values, row| {
            values
                .push_bind(session)
                .push_bind(signed(row.seq))
                .push_bind(signed(row.at))
                .push_bind(row.kind)
                .push_bind(row.request)
                .push_bind(row.verdict)
                .push_bind(row.rule.as_deref())
                .push_bind(row.host.as_deref())
                .push_bind(row.port.map(i64::from))
                .push_bind(row.exe.as_deref())
                .push_bind(row.path.as_deref())
                .push_bind(row.decision.map(signed))
                .push_bind(row.text.as_str());
        });
        sql.build().execute(&mut *writing).await?;
    }
    let sql = "INSERT INTO events_text (rowid, text) SELECT id, text FROM events_ix WHERE id > $1";
    sqlx::query(sql).bind(last).execute(&mut *writing).await?;
    let sql = "INSERT INTO hosts (host, first_at) SELECT host, MIN(at) FROM events_ix \
               WHERE id > $1 AND host IS NOT NULL GROUP BY host \
               ON CONFLICT (host) DO UPDATE SET first_at = MIN(first_at, excluded.first_at)";
    sqlx::query(sql).bind(last).execute(writing).await?;
    Ok(())
}

async fn write_raised(
    writing: &mut SqliteConnection,
    session: i64,
    raised: &[Raised],
) -> Result<(), sqlx::Error> {
    for one in raised {
        let sql = "INSERT INTO raised (session, seq, at, kind, severity, title, detail) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let done = sqlx::query(sql)
            .bind(session)
            .bind(signed(one.seq))
            .bind(signed(one.at))
            .bind(one.kind)
            .bind(one.severity.as_str())
            .bind(&one.title)
            .bind(&one.detail);
        done.execute(&mut *writing).await?;
    }
    Ok(())
}

async fn write_flows(
    writing: &mut SqliteConnection,
    session: i64,
    batch: &Batch,
) -> Result<(), sqlx::Error> {
    let mut flows = batch.flows.clone();
    for closed in &batch.closed {
        let key = match batch.by_decision.get(&closed.decision) {
            Some(key) => Some(key.clone()),
            None => earlier(writing, session, closed.decision).await?,
        };
        if let Some(key) = key {
            let sum = flows.entry(key).or_default();
            sum.connections += 1;
            sum.bytes_out = sum.bytes_out.saturating_add(closed.bytes_out);
            sum.bytes_in = sum.bytes_in.saturating_add(closed.bytes_in);
        }
    }
    for (key, sum) in &flows {
        let sql = "INSERT INTO flows (session, exe, host, port, verdict, rule, count, connections, bytes_out, \
                   bytes_in, first_at, last_at, last_seq) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
                   ON CONFLICT (session, exe, host, port, verdict, rule) DO UPDATE SET \
                   count = count + excluded.count, connections = connections + excluded.connections, \
                   bytes_out = bytes_out + excluded.bytes_out, bytes_in = bytes_in + excluded.bytes_in, \
                   last_at = MAX(last_at, excluded.last_at), last_seq = MAX(last_seq, excluded.last_seq)";
        let done = sqlx::query(sql)
            .bind(session)
            .bind(&key.exe)
            .bind(&key.host)
            .bind(i64::from(key.port))
            .bind(key.verdict)
            .bind(&key.rule)
            .bind(signed(sum.count))
            .bind(signed(sum.connections))
            .bind(signed(sum.bytes_out))
            .bind(signed(sum.bytes_in))
            .bind(signed(sum.first_at))
            .bind(signed(sum.last_at))
            .bind(signed(sum.last_seq));
        done.execute(&mut *writing).await?;
    }
    Ok(())
}

/// Finds the flow of a decision that an earlier batch had.
async fn earlier(
    writing: &mut SqliteConnection,
    session: i64,
    decision: u64,
) -> Result<Option<FlowKey>, sqlx::Error> {
    let sql = "SELECT exe, host, port, rule FROM events_ix \
               WHERE session = $1 AND decision = $2 AND kind = 'connection.decided' AND verdict = 'allow'";
    let row = sqlx::query(sql).bind(session).bind(signed(decision));
    let Some(row) = row.fetch_optional(writing).await? else {
        return Ok(None);
    };
    let text = |index: usize| row.try_get::<Option<String>, _>(index);
    let port: Option<i64> = row.try_get(2)?;
    Ok(Some(FlowKey {
        exe: text(0)?.unwrap_or_default(),
        host: text(1)?.unwrap_or_default(),
        port: port
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or_default(),
        verdict: "allow",
        rule: text(3)?.unwrap_or_default(),
    }))
}
