//! `stockade approvals --server`: questions of an organisation's machines, answered from this terminal. The
//! text of a question is made here, and an answer is for that text.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use jiff::tz::TimeZone;
use serde::Serialize;
use stockade_approval::{Answer, Shown};
use stockade_node::{
    HttpError,
    terminal::{ApproverKey, Asked, Choice, Chosen, Listed, Login, TerminalError, VoteError},
};
use stockade_policy::Scope;
use stockade_types::{ApprovalId, Digest, SessionId, UnixMillis};

use super::{Reach, answer_words, in_words, now, shortened, time_left};
use crate::{
    exit::Exit,
    human::safe,
    output::{Form, Output},
    prompt,
    state::StateDir,
};

/// How often the server is asked for what is new.
const WATCH: Duration = Duration::from_secs(3);
/// The longest wait after a failure.
const WATCH_MAX: Duration = Duration::from_mins(1);

/// How an answer is given beside what it is.
#[derive(Debug, clap::Args)]
pub(super) struct How {
    /// With `--server`: the digest of the text, as `show` prints it, where nobody can be asked
    #[arg(long, value_name = "DIGEST")]
    pub(super) shown: Option<String>,
    /// With `--server`: the passphrase of the approver key, in the first line of a file, or `-`
    #[arg(long, value_name = "FILE")]
    pub(super) passphrase_file: Option<PathBuf>,
}

/// What is done with questions of the server.
pub(super) enum Doing {
    List {
        watch: bool,
    },
    Show {
        id: String,
    },
    Allow {
        id: String,
        reach: Reach,
        reason: Option<String>,
        how: How,
    },
    Deny {
        id: String,
        reason: Option<String>,
        how: How,
    },
}

/// Runs the command.
///
/// # Errors
/// When nobody is signed in, or the server cannot be asked.
pub(super) fn run(url: Option<&str>, doing: Doing, out: &mut Output) -> anyhow::Result<Exit> {
    let state = StateDir::open_or_create()?;
    let login = Login::read(state.path())?;
    login.is_at(url)?;
    let terminal = Terminal {
        login,
        state: state.path().to_owned(),
    };
    match doing {
        Doing::List { watch: false } => terminal.list(out),
        Doing::List { watch: true } => terminal.watch(out),
        Doing::Show { id } => terminal.show(&id, out),
        Doing::Allow {
            id,
            reach,
            reason,
            how,
        } => {
            let scope = match reach {
                Reach::Scope(scope) => scope,
                Reach::For(span) => Scope::Until(UnixMillis(now().0.saturating_add(span.millis()))),
                Reach::Always => {
                    out.note(
                        "stockade: an answer to a machine of the organisation is kept for no later session; \
                         propose a rule on the page of policy",
                    );
                    return Ok(Exit::Usage);
                }
            };
            terminal.answer(&id, (Choice::Allow, scope, reason), &how, out)
        }
        Doing::Deny { id, reason, how } => {
            terminal.answer(&id, (Choice::Deny, Scope::Once, reason), &how, out)
        }
    }
}

/// Who is signed in, and where the key is.
struct Terminal {
    login: Login,
    state: PathBuf,
}

/// One question as `show --json` prints it.
#[derive(Serialize)]
struct Full<'a> {
    id: &'a str,
    session: &'a SessionId,
    approval: &'a ApprovalId,
    machine: &'a str,
    node: &'a str,
    state: &'a str,
    requesters: &'a [String],
    waits_for_you: &'a [String],
    expires: UnixMillis,
    scope_max: Scope,
    text: &'a Shown,
    shown: Digest,
}

/// An answer as `allow --json` and `deny --json` print it.
#[derive(Serialize)]
struct Answered<'a> {
    answer: &'a Answer,
    approval: &'a ApprovalId,
    session: &'a SessionId,
    id: &'a str,
    stage: &'a str,
    /// How the question stands then: `open`, `granted` or `denied`.
    state: &'a str,
    /// Whether the approver key has signed it.
    signed: bool,
}

impl Terminal {
    fn list(&self, out: &mut Output) -> anyhow::Result<Exit> {
        let mut open = self.login.questions()?;
        open.retain(|one| one.state == "open");
        if open.is_empty() && out.form() == Form::Text {
            out.note("there are no open questions");
        }
        for one in &open {
            out.value(one, line)?;
        }
        Ok(Exit::Yes)
    }

    /// Prints each question when it comes, and again when it is over, until it is interrupted.
    fn watch(&self, out: &mut Output) -> anyhow::Result<Exit> {
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        let mut pause = WATCH;
        while !out.is_closed() {
            match self.login.questions() {
                Ok(all) => {
                    pause = WATCH;
                    for one in &all {
                        let before = known.get(&one.id);
                        let is_new = before.is_none() && one.state == "open";
                        if is_new || before.is_some_and(|state| *state != one.state) {
                            out.value(one, line)?;
                        }
                    }
                    let states = all.into_iter().map(|one| (one.id, one.state));
                    known = states.collect();
                }
                Err(TerminalError::Http(error)) if error.problem().is_none() => {
                    pause = (pause * 2).min(WATCH_MAX);
                    let why = safe(&stockade_types::chain(&error));
                    out.note(format_args!(
                        "stockade: {why}; asking again in {} s",
                        pause.as_secs()
                    ));
                }
                Err(error) => return Err(error.into()),
            }
            sleep(pause);
        }
        Ok(Exit::Yes)
    }

    /// Finds the question that a prefix names: of its id on the server, or on the machine.
    fn find(&self, prefix: &str, out: &mut Output) -> anyhow::Result<Result<Asked, Exit>> {
        let all = self.login.questions()?;
        let bare = prefix.strip_prefix("q-").unwrap_or(prefix);
        let is_named = |one: &&Listed| {
            let id = one.id.strip_prefix("q-").unwrap_or(&one.id);
            !bare.is_empty() && (id.starts_with(bare) || one.approval.starts_with(prefix))
        };
        let named: Vec<&Listed> = all.iter().filter(is_named).collect();
        let open: Vec<&&Listed> = named.iter().filter(|one| one.state == "open").collect();
        let shown: String = prefix.chars().take(80).collect();
        let shown = safe(&shown);
        match (open.as_slice(), named.as_slice()) {
            ([one], _) => match self.login.question(&one.id) {
                Ok(asked) => Ok(Ok(asked)),
                Err(error) => Ok(Err(refuse(&error, out))),
            },
            ([], [first, ..]) => {
                let (id, state) = (safe(&first.id), safe(&first.state));
                out.note(format_args!(
                    "stockade: {id} is settled: {state}; an answer is final"
                ));
                Ok(Err(Exit::No))
            }
            ([], []) => {
                out.note(format_args!(
                    "stockade: nothing has the id `{shown}`; list them with `stockade approvals --server list`"
                ));
                Ok(Err(Exit::No))
            }
            (several, _) => {
                let ids: Vec<String> = several.iter().map(|one| safe(&one.id)).collect();
                out.note(format_args!(
                    "stockade: `{shown}` could be any of {}; write more of it",
                    ids.join(", ")
                ));
                Ok(Err(Exit::No))
            }
        }
    }

    fn show(&self, prefix: &str, out: &mut Output) -> anyhow::Result<Exit> {
        match self.find(prefix, out)? {
            Ok(asked) => {
                out.value(&Full::of(&asked), |full| full.text(&asked))?;
                Ok(Exit::Yes)
            }
            Err(exit) => Ok(exit),
        }
    }

    fn answer(
        &self,
        prefix: &str,
        (choice, scope, reason): (Choice, Scope, Option<String>),
        how: &How,
        out: &mut Output,
    ) -> anyhow::Result<Exit> {
        let asked = match self.find(prefix, out)? {
            Ok(asked) => asked,
            Err(exit) => return Ok(exit),
        };
        let reason = reason.map(|text| shortened(text, out));
        let rendered = match &how.shown {
            // What was shown before, by `show`: the person has read it there.
            Some(text) => match text.strip_prefix("sha256:").unwrap_or(text).parse() {
                Ok(digest) => digest,
                Err(error) => {
                    out.note(format_args!("stockade: `--shown`: {error}"));
                    return Ok(Exit::Usage);
                }
            },
            None => asked.rendered,
        };
        let chosen = Chosen {
            choice,
            scope,
            reason: reason.as_deref(),
            rendered,
        };
        let ballot = match self.login.ballot(&asked, &chosen) {
            Ok(ballot) => ballot,
            Err(error) => return Ok(refuse(&error, out)),
        };
        if how.shown.is_none() && choice == Choice::Allow {
            if !prompt::can_ask() {
                out.note(
                    "stockade: nobody can be asked here; read it with `show`, and give `--shown` with the \
                     digest that it prints",
                );
                return Ok(Exit::Usage);
            }
            out.note(Full::of(&asked).text(&asked));
            let (name, stage) = (safe(&self.login.name), safe(&ballot.stage));
            let reach = in_words(scope, now(), &TimeZone::system());
            let question =
                format!("Allow this ({reach}) as `{name}` for stage `{stage}`? Type yes: ");
            if !prompt::confirm(&question)? {
                out.note("stockade: nothing is answered");
                return Ok(Exit::No);
            }
        }
        let needs_key = match Login::needs_key(&asked, &ballot) {
            Ok(needs) => needs,
            Err(error) => return Ok(refuse(&error, out)),
        };
        let key = self.key(needs_key, how.passphrase_file.as_deref())?;
        let voted = self.login.vote(&asked, &chosen, &ballot, key.as_ref());
        let taken = match voted {
            Ok(taken) => taken,
            Err(error) => return Ok(refuse(&error, out)),
        };
        let answer = match choice {
            Choice::Allow => Answer::Allow { scope },
            Choice::Deny => Answer::Deny { reason },
        };
        let answered = Answered {
            answer: &answer,
            approval: &asked.there.approval,
            session: &asked.there.session,
            id: &asked.there.id,
            stage: &ballot.stage,
            state: &taken.state,
            signed: key.is_some(),
        };
        out.value(&answered, Answered::text)?;
        Ok(Exit::Yes)
    }

    /// Returns the key that signs: if the stage needs one, or machines know it anyway.
    fn key(
        &self,
        is_needed: bool,
        passphrase: Option<&Path>,
    ) -> anyhow::Result<Option<stockade_node::terminal::SecretKey>> {
        let key = match ApproverKey::read(&self.state) {
            Ok(key) => key,
            // The server says then what the stage needs.
            Err(stockade_node::terminal::KeyError::Missing) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if !key.is_of(&self.login) {
            return if is_needed {
                Err(VoteError::OtherKey.into())
            } else {
                Ok(None)
            };
        }
        if !is_needed && !self.login.here()?.keys.contains(&key.key) {
            return Ok(None);
        }
        if !key.is_sealed() {
            return Ok(Some(key.open(None)?));
        }
        let passphrase = match passphrase {
            Some(file) => prompt::passphrase_of(file)?,
            None if prompt::can_ask() => prompt::passphrase("Passphrase of your approver key: ")?,
            None => anyhow::bail!("the approver key has a passphrase; give `--passphrase-file`"),
        };
        Ok(Some(key.open(Some(&passphrase))?))
    }
}

/// Writes a question of the list, as local ones are written.
fn line(one: &Listed) -> String {
    let end = match one.state.as_str() {
        "open" => time_left(one.expires, None, now()),
        state => safe(state),
    };
    let stages: Vec<String> = one.stages.iter().map(|stage| safe(&stage.name)).collect();
    let waits = if one.waits_for_you {
        "  waits for you".to_owned()
    } else if stages.is_empty() {
        String::new()
    } else {
        format!("  waiting for {}", stages.join(", "))
    };
    format!(
        "{}  {}  {}  {}  {end}{waits}",
        safe(&one.id),
        safe(&one.machine),
        safe(&one.title),
        safe(&one.summary)
    )
}

impl<'a> Full<'a> {
    fn of(asked: &'a Asked) -> Self {
        let there = &asked.there;
        Self {
            id: &there.id,
            session: &there.session,
            approval: &there.approval,
            machine: &there.machine,
            node: &there.node,
            state: &there.state,
            requesters: &there.requesters,
            waits_for_you: &there.waits_for_you,
            expires: there.sent.question.expires,
            scope_max: there.sent.review.scope_max,
            text: &asked.shown,
            shown: asked.rendered,
        }
    }

    fn text(&self, asked: &Asked) -> String {
        let stage = |one: &stockade_node::terminal::StageStanding| {
            let yours = if self.waits_for_you.contains(&one.name) {
                ", waits for you"
            } else {
                ""
            };
            let (name, have, need) = (safe(&one.name), one.have, one.need);
            format!("\n  stage     {name}: {have} of {need} have said yes{yours}")
        };
        let stages: String = asked.there.stages.iter().map(stage).collect();
        let requesters: Vec<String> = self.requesters.iter().map(|name| safe(name)).collect();
        format!(
            "{}  asked by  {}\n  machine   {} ({})\n  session   {}\n  widest    {}\n  left      {}{stages}\n  shown     {}",
            self.text,
            requesters.join(", "),
            safe(self.machine),
            safe(self.node),
            self.session,
            in_words(self.scope_max, now(), &TimeZone::system()),
            time_left(self.expires, None, now()),
            self.shown,
        )
    }
}

impl Answered<'_> {
    fn text(&self) -> String {
        let words = answer_words(self.answer);
        let id = safe(self.id);
        if self.state == "open" {
            return format!("{id} {words} by you; it waits for others");
        }
        format!("{id} {words}")
    }
}

/// Says why a question is not answered: 1 if the server refuses, 3 if it cannot be told.
fn refuse(error: &VoteError, out: &mut Output) -> Exit {
    out.note(format_args!(
        "stockade: {}",
        safe(&stockade_types::chain(error))
    ));
    match error {
        VoteError::Terminal(TerminalError::Http(HttpError::Refused(_)))
        | VoteError::Other
        | VoteError::KeyNeeded(_)
        | VoteError::PasskeyNeeded(_)
        | VoteError::OtherKey => Exit::No,
        VoteError::Terminal(_) | VoteError::Unfit(_) => Exit::CannotTell,
    }
}
