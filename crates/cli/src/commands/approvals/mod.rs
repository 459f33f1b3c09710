//! `stockade approvals`: the open questions of all sessions, and their answers.

mod key;
mod live;
mod place;
mod server;
mod sessions;

use std::{
    io::IsTerminal,
    time::{SystemTime, UNIX_EPOCH},
};

use jiff::tz::TimeZone;
use serde::Serialize;
use stockade_approval::{
    Answer, ClientError, QuestionLine, QuestionView, REASON_BYTES_MAX, Settled,
};
use stockade_policy::{ListedGrant, Scope};
use stockade_types::{ApprovalId, SessionId, Span, UnixMillis};

use self::{
    place::{Where, of_server},
    server::How,
    sessions::{Found, Open, Sessions},
};
use crate::{
    exit::Exit,
    human::{minute, safe, time_of_day},
    output::{Form, Output},
    rules,
};
use stockade_terminal::overlay::Alternate;

/// See and answer what agents ask for.
///
/// Without a subcommand it is a live list on a terminal, and `list` elsewhere.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  stockade approvals\n  stockade approvals show 7f3a\n  \
    stockade approvals allow 7f3a --scope 10m\n  stockade approvals deny 7f3a --reason 'open a PR'"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// Questions of the machines of your organisation, at the server where you are signed in
    /// (`stockade login`)
    #[arg(long, global = true, value_name = "URL", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    server: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the open questions
    List {
        /// With `--server`: go on, and print each question when it comes and when it is over
        #[arg(long)]
        watch: bool,
    },
    /// Show one question in full
    Show {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Allow what was asked
    Allow {
        /// Its id, or the beginning of it
        id: String,
        /// once, session, paths (as `show` says), 5-uses, a time such as 10m, or always: then a rule
        /// of yours keeps it
        #[arg(long, default_value = "once", value_parser = parse_reach)]
        scope: Reach,
        /// With `always`: keep it for all workspaces, not for this one alone
        #[arg(long)]
        everywhere: bool,
        /// With `--server`: a reason, which the agent and others see
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        how: How,
    },
    /// Deny what was asked
    Deny {
        /// Its id, or the beginning of it
        id: String,
        /// A reason, which the agent sees
        #[arg(long)]
        reason: Option<String>,
        /// Deny the same request without a question for the rest of the session
        #[arg(long, conflicts_with = "reason")]
        session: bool,
        #[command(flatten)]
        how: How,
    },
    /// List what was granted in the running sessions
    Grants,
    /// Take a grant back
    Revoke {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Your approver key, with which you answer from a terminal (`--server`)
    Key {
        #[command(subcommand)]
        command: key::Command,
    },
}

/// A scope as people write it: a duration starts now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Scope(Scope),
    For(Span),
    Always,
}

fn parse_reach(text: &str) -> Result<Reach, String> {
    let over = || {
        Err(format!(
            "`{text}` would be over at once; write for example `10m`"
        ))
    };
    if text == "always" {
        return Ok(Reach::Always);
    }
    match (text.parse::<Scope>(), text.parse::<Span>()) {
        (Ok(Scope::Until(end)), _) if end <= now() => over(),
        (Ok(scope), _) => Ok(Reach::Scope(scope)),
        (Err(_), Ok(span)) if span.millis() == 0 => over(),
        (Err(_), Ok(span)) => Ok(Reach::For(span)),
        (Err(_), Err(_)) => {
            let text: String = text.chars().take(80).collect();
            Err(format!(
                "`{text}` is not a scope; write `once`, `5-uses`, `10m`, `session`, `paths` or `always`"
            ))
        }
    }
}

/// One open question as `list --json` prints it.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    session: &'a SessionId,
    #[serde(flatten)]
    question: &'a QuestionLine,
}

/// One question as `show --json` prints it.
#[derive(Debug, Serialize)]
struct Full<'a> {
    session: &'a SessionId,
    #[serde(flatten)]
    question: &'a QuestionView,
}

/// One grant as `grants --json` prints it.
#[derive(Debug, Serialize)]
struct Granted<'a> {
    session: &'a SessionId,
    #[serde(flatten)]
    grant: &'a ListedGrant,
}

/// An answer as `allow --json` and `deny --json` print it.
#[derive(Debug, Serialize)]
struct Answered<'a> {
    answer: &'a Answer,
    approval: &'a ApprovalId,
    session: &'a SessionId,
}

/// What `revoke --json` prints.
#[derive(Debug, Serialize)]
struct TakenBack<'a> {
    approval: &'a ApprovalId,
    revoked: bool,
    session: &'a SessionId,
}

/// Runs the command.
///
/// # Errors
/// When the sessions cannot be read, or the output cannot be written.
pub(crate) fn run(args: Args, out: &mut Output) -> anyhow::Result<Exit> {
    out.set_json(args.json);
    if let Some(Command::Key { command }) = args.command {
        return key::run(command, out);
    }
    let command = match of_server(args.server, args.command) {
        Ok(Where::There(url, doing)) => return server::run(url.as_deref(), doing, out),
        Ok(Where::Here(command)) => command,
        Err(why) => {
            out.note(format_args!("stockade: {why}"));
            return Ok(Exit::Usage);
        }
    };
    let mut sessions = Sessions::of_this_user()?;
    match command {
        None if !args.json && can_draw() => live::run(&mut sessions, out.color()),
        None | Some(Command::List { .. } | Command::Key { .. }) => list(&mut sessions, out),
        Some(Command::Show { id }) => show(&mut sessions, &id, out),
        Some(Command::Allow {
            id,
            scope,
            everywhere,
            ..
        }) => {
            let scope = match scope {
                Reach::Scope(scope) => scope,
                Reach::For(span) => Scope::Until(UnixMillis(now().0.saturating_add(span.millis()))),
                Reach::Always => {
                    return always(&mut sessions, &id, rules::Reach::of(everywhere), out);
                }
            };
            answer(&mut sessions, &id, &Answer::Allow { scope }, out)
        }
        Some(Command::Deny {
            id, session: true, ..
        }) => answer(&mut sessions, &id, &Answer::DenySession, out),
        Some(Command::Deny { id, reason, .. }) => {
            let reason = reason.map(|text| shortened(text, out));
            answer(&mut sessions, &id, &Answer::Deny { reason }, out)
        }
        Some(Command::Grants) => grants(&mut sessions, out),
        Some(Command::Revoke { id }) => revoke(&mut sessions, &id, out),
    }
}

/// Returns whether there is a terminal on which a list can be drawn.
fn can_draw() -> bool {
    let term = std::env::var("TERM").unwrap_or_default();
    std::io::stdin().is_terminal()
        && std::io::stdout().is_terminal()
        && Alternate::of(&term) != Alternate::Dumb
}

/// Cuts a reason to the length of the record; a longer one would not fit through the socket either.
fn shortened(mut reason: String, out: &mut Output) -> String {
    if reason.len() > REASON_BYTES_MAX {
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        out.note(format_args!(
            "stockade: the reason is cut to {REASON_BYTES_MAX} bytes"
        ));
    }
    reason
}

/// Writes the scope of an answer; a time is by the clock of `zone`.
fn in_words(scope: Scope, now: UnixMillis, zone: &TimeZone) -> String {
    /// From this on, the time of day alone could mean another day.
    const DAY_MS: u64 = 20 * 60 * 60 * 1000;
    let Scope::Until(end) = scope else {
        return scope.to_string();
    };
    let at = end.0.saturating_mul(1_000_000);
    if end.0.abs_diff(now.0) < DAY_MS {
        format!("until {}", time_of_day(at, zone))
    } else {
        format!("until {}", minute(at, zone))
    }
}

fn now() -> UnixMillis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn list(sessions: &mut Sessions, out: &mut Output) -> anyhow::Result<Exit> {
    let found = sessions.questions();
    note_problems(sessions, out);
    if found.is_empty() && out.form() == Form::Text && sessions.exit() == Exit::Yes {
        out.note("there are no open questions");
    }
    let now = now();
    for Open { session, item } in &found {
        let listed = Listed {
            session,
            question: item,
        };
        out.value(&listed, |Listed { session, question }| {
            let waits = question.waits_for.as_deref();
            let waits = waits.map(|who| format!("  waiting for {}", safe(who)));
            format!(
                "{}  {}  {}  {}  {}{}",
                question.id,
                session.short(),
                question.agent,
                question.summary,
                time_left(question.expires, question.gives_up, now),
                waits.unwrap_or_default()
            )
        })?;
    }
    Ok(sessions.exit())
}

fn show(sessions: &mut Sessions, prefix: &str, out: &mut Output) -> anyhow::Result<Exit> {
    let (session, id) = match question(sessions, prefix, out) {
        Ok(found) => found,
        Err(exit) => return Ok(exit),
    };
    let question = match sessions
        .client(&session)
        .and_then(|client| client.show(&id))
    {
        Ok(question) => question,
        Err(error) => return Ok(refuse(&error, out)),
    };
    let full = Full {
        session: &session,
        question: &question,
    };
    out.value(&full, Full::text)?;
    Ok(Exit::Yes)
}

impl Full<'_> {
    fn text(&self) -> String {
        let Self { session, question } = self;
        let always = question.lasting.as_ref().map_or_else(
            || "no rule of yours would answer it".to_owned(),
            |lasting| format!("keeps for this workspace: {}", safe(&lasting.rule.words)),
        );
        let widest = question.scope_max.map_or_else(
            || "deny".to_owned(),
            |scope| in_words(scope, now(), &TimeZone::system()),
        );
        let left = time_left(question.expires, question.gives_up, now());
        let waits = question.waits_for.as_deref();
        let waits = waits.map(|who| format!("\n  waits for {}", safe(who)));
        format!(
            "{}  always    {always}\n  session   {session}\n  widest    {widest}\n  left      {left}{}",
            question.shown,
            waits.unwrap_or_default()
        )
    }
}

/// Says how long an answer can still have an effect: until the question expires, or until the
/// program that asked has probably given up.
fn time_left(expires: UnixMillis, gives_up: Option<UnixMillis>, now: UnixMillis) -> String {
    let left = |end: UnixMillis| {
        let seconds = end.0.saturating_sub(now.0) / 1000;
        format!("{}:{:02}", seconds / 60, seconds % 60)
    };
    match gives_up {
        Some(end) if end > now => format!("client gives up in about {}", left(end)),
        Some(_) | None => format!("deny in {}", left(expires)),
    }
}

fn answer(
    sessions: &mut Sessions,
    prefix: &str,
    answer: &Answer,
    out: &mut Output,
) -> anyhow::Result<Exit> {
    let (session, id) = match question(sessions, prefix, out) {
        Ok(found) => found,
        Err(exit) => return Ok(exit),
    };
    let sent = sessions
        .client(&session)
        .and_then(|client| client.answer(&id, answer.clone()));
    if let Err(error) = sent {
        return Ok(refuse(&error, out));
    }
    let answered = Answered {
        session: &session,
        approval: &id,
        answer,
    };
    out.value(&answered, Answered::text)?;
    Ok(Exit::Yes)
}

/// Says what was answered, for example `allowed (once)`.
fn answer_words(answer: &Answer) -> String {
    match answer {
        Answer::Allow { scope } => {
            let reach = in_words(*scope, now(), &TimeZone::system());
            format!("allowed ({reach})")
        }
        Answer::Granted { .. } => "allowed by people in roles".to_owned(),
        Answer::Deny { .. } => "denied".to_owned(),
        Answer::DenySession => "denied for this session".to_owned(),
    }
}

impl Answered<'_> {
    fn text(&self) -> String {
        format!("{} {}", self.approval, answer_words(self.answer))
    }
}

/// Allows with the session's scope, and keeps a rule for later sessions. The rule is shown first.
fn always(
    sessions: &mut Sessions,
    prefix: &str,
    reach: rules::Reach,
    out: &mut Output,
) -> anyhow::Result<Exit> {
    let (session, id) = match question(sessions, prefix, out) {
        Ok(found) => found,
        Err(exit) => return Ok(exit),
    };
    let shown = sessions
        .client(&session)
        .and_then(|client| client.show(&id));
    let view = match shown {
        Ok(view) => view,
        Err(error) => return Ok(refuse(&error, out)),
    };
    let Some(lasting) = view.lasting.clone() else {
        out.note(format_args!(
            "stockade: no rule of yours could answer {id} in later sessions: the question is another \
             policy's, or the organisation keeps answers to the session; allow it with `--scope session`"
        ));
        return Ok(Exit::No);
    };
    let workspace = std::path::Path::new(&lasting.workspace);
    for line in lasting.rule.to_toml("always", "allowed always").lines() {
        out.note(format_args!("    {}", safe(line)));
    }
    let scope = view.kept_scope();
    let done = answer(sessions, id.as_str(), &Answer::Allow { scope }, out)?;
    if done != Exit::Yes {
        return Ok(done);
    }
    let from = (id.as_str(), session.short());
    let kept = rules::keep(&lasting.rule, from, (reach, workspace))?;
    out.note(format_args!("stockade: {kept}"));
    Ok(Exit::Yes)
}

fn grants(sessions: &mut Sessions, out: &mut Output) -> anyhow::Result<Exit> {
    let found = sessions.grants();
    note_problems(sessions, out);
    if found.is_empty() && out.form() == Form::Text && sessions.exit() == Exit::Yes {
        out.note("nothing is granted in a running session");
    }
    for Open { session, item } in &found {
        let granted = Granted {
            session,
            grant: item,
        };
        out.value(&granted, Granted::text)?;
    }
    Ok(sessions.exit())
}

impl Granted<'_> {
    fn text(&self) -> String {
        let Self { session, grant } = self;
        let now = now();
        let state = match (grant.revoked, grant.uses_left, grant.scope) {
            (true, _, _) => "revoked",
            (false, Some(0), _) => "used up",
            (false, _, Scope::Until(end)) if end <= now => "expired",
            (false, _, _) => "in force",
        };
        format!(
            "{}  {}  {} {}  {}, {state}, used {} times",
            grant.id,
            session.short(),
            grant.kind,
            grant.target,
            in_words(grant.scope, now, &TimeZone::system()),
            grant.used
        )
    }
}

fn revoke(sessions: &mut Sessions, prefix: &str, out: &mut Output) -> anyhow::Result<Exit> {
    let found = sessions.find_grant(prefix);
    let (session, id) = match pick(sessions, found, prefix, out) {
        Ok(found) => found,
        Err(exit) => return Ok(exit),
    };
    if let Err(error) = sessions
        .client(&session)
        .and_then(|client| client.revoke(&id))
    {
        return Ok(refuse(&error, out));
    }
    let revoked = TakenBack {
        session: &session,
        approval: &id,
        revoked: true,
    };
    out.value(&revoked, |revoked| format!("{} revoked", revoked.approval))?;
    Ok(Exit::Yes)
}

/// Finds the open question that a prefix names; for a settled one, says how it was settled.
fn question(
    sessions: &mut Sessions,
    prefix: &str,
    out: &mut Output,
) -> Result<(SessionId, ApprovalId), Exit> {
    let found = sessions.find_question(prefix);
    if found == Found::None {
        let settled = sessions.settled(prefix);
        for Open { item, .. } in &settled {
            out.note(format_args!("stockade: {}", became(item)));
        }
        if !settled.is_empty() {
            return Err(Exit::No);
        }
    }
    pick(sessions, found, prefix, out)
}

/// Says how a question was settled.
fn became(settled: &Settled) -> String {
    let by = &settled.by;
    let answer = match &settled.answer {
        Answer::Allow { scope } => {
            let reach = in_words(*scope, now(), &TimeZone::system());
            format!("allowed ({reach}) by {by}")
        }
        Answer::Granted { .. } => format!("allowed by {by}"),
        Answer::Deny { reason: None } => format!("denied by {by}"),
        Answer::DenySession => format!("denied for the session by {by}"),
        Answer::Deny { reason: Some(why) } => format!("denied by {by}: {}", safe(why)),
    };
    format!("{} is settled: {answer}; an answer is final", settled.id)
}

/// Returns the one entry that a prefix names, or says why there is not exactly one.
fn pick(
    sessions: &Sessions,
    found: Found,
    prefix: &str,
    out: &mut Output,
) -> Result<(SessionId, ApprovalId), Exit> {
    let prefix: String = prefix.chars().take(80).collect();
    let prefix = safe(&prefix);
    match found {
        Found::One(session, id) => return Ok((session, id)),
        // A session that did not answer may have it.
        Found::None if sessions.exit() != Exit::Yes => {
            note_problems(sessions, out);
            out.note(format_args!(
                "stockade: no session that answers has the id `{prefix}`"
            ));
            return Err(sessions.exit());
        }
        Found::None => {
            out.note(format_args!(
                "stockade: nothing has the id `{prefix}`; list them with `stockade approvals list`"
            ));
        }
        Found::Several(ids) => {
            let ids: Vec<&str> = ids.iter().map(ApprovalId::as_str).collect();
            out.note(format_args!(
                "stockade: `{prefix}` could be any of {}; write more of it",
                ids.join(", ")
            ));
        }
    }
    Err(Exit::No)
}

fn refuse(error: &ClientError, out: &mut Output) -> Exit {
    out.note(format_args!("stockade: {error}"));
    match error {
        ClientError::Refused(_) => Exit::No,
        _ => Exit::CannotTell,
    }
}

fn note_problems(sessions: &Sessions, out: &mut Output) {
    for problem in sessions.problems() {
        out.note(format_args!("stockade: {}", safe(problem)));
    }
}
