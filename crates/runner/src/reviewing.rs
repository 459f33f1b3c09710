//! The automatic reviewer of a session: what it is asked, how often, and by which process.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, SyncSender, channel, sync_channel},
    },
    thread,
    time::Duration,
};

use stockade_approval::{Desk, Hand, Opinion, Question};
use stockade_policy::{CredentialSource, Policy, ReviewerSettings};
use stockade_reviewer::{Checks, Job, SAID_BYTES_MAX, Said};
use stockade_supervise::lock;
use stockade_types::{Digest, Secret, ignored};

use crate::{RunError, authorities, caller::Caller, credentials};

/// Questions that wait for the reviewer: more go to people at once.
const WAITING_MAX: usize = 16;
/// Questions that it looks at at a time.
const THREADS: usize = 2;
/// Opinions that are kept, so that the same question gets the same answer.
const KEPT_MAX: usize = 256;
/// How much longer than its call the process of a call may live.
const GRACE: Duration = Duration::from_secs(1);

/// The key of the model; the error says why there is none.
pub(crate) type Key = Result<Option<Secret<String>>, String>;

/// Finds the key of the model, if policy names one.
pub(crate) fn key(policy: &Policy, caller: &Caller) -> Key {
    let Some(set) = &policy.settings().reviewer else {
        return Ok(None);
    };
    let reviewer = &set.value;
    let source = match (&reviewer.key_file, &reviewer.key_variable) {
        (Some(path), _) => CredentialSource::File(path.clone()),
        (None, Some(name)) => CredentialSource::Variable(name.clone()),
        (None, None) => return Ok(None),
    };
    let value = credentials::value(&source, caller);
    let value = value.map_err(|why| format!("the key of the reviewer {why}"));
    value.map(Some)
}

/// What a session's reviewer needs and has done.
struct Session {
    policy: Arc<Policy>,
    checks: Checks,
    key: Key,
    asked: AtomicU32,
    kept: Mutex<BTreeMap<Digest, Opinion>>,
}

/// The end at which questions wait for the reviewer.
pub(crate) struct Waiting {
    session: Session,
    questions: Receiver<Arc<Question>>,
}

/// Makes the reviewer of a session whose rules ask one.
///
/// # Errors
/// When its shapes cannot be read.
pub(crate) fn prepare(policy: &Arc<Policy>, key: Key) -> Result<Option<(Hand, Waiting)>, RunError> {
    if !policy.asks_reviewer() {
        return Ok(None);
    }
    let checks = Checks::new();
    let checks = checks.map_err(|error| RunError::Reviewer(error.to_string()))?;
    let (give, questions): (SyncSender<Arc<Question>>, _) = sync_channel(WAITING_MAX);
    let hand: Hand = Box::new(move |question| give.try_send(Arc::clone(question)).is_ok());
    let session = Session {
        policy: Arc::clone(policy),
        checks,
        key,
        asked: AtomicU32::new(0),
        kept: Mutex::default(),
    };
    Ok(Some((hand, Waiting { session, questions })))
}

/// Starts the threads of the reviewer. They end with the desk, whose hand is the other end of the queue.
pub(crate) fn start(desk: &Arc<Desk>, waiting: Waiting) -> Result<(), RunError> {
    let Waiting { session, questions } = waiting;
    let (session, questions) = (Arc::new(session), Arc::new(Mutex::new(questions)));
    for _ in 0..THREADS {
        let (desk, session) = (Arc::downgrade(desk), Arc::clone(&session));
        let questions = Arc::clone(&questions);
        let body = move || serve(&desk, &session, &questions);
        let spawned = thread::Builder::new()
            .name("reviewer".to_owned())
            .spawn(body);
        spawned.map(drop).map_err(RunError::Supervisor)?;
    }
    Ok(())
}

fn serve(desk: &Weak<Desk>, session: &Session, questions: &Mutex<Receiver<Arc<Question>>>) {
    loop {
        // One thread waits with the lock, the other for it.
        let next = lock(questions).recv();
        let Ok(question) = next else { return };
        let opinion = session.opinion(&question);
        let Some(desk) = desk.upgrade() else { return };
        desk.reviewed(&question.id, &opinion);
    }
}

impl Session {
    fn opinion(&self, question: &Question) -> Opinion {
        if let Some(opinion) = self.checks.opinion(question) {
            return opinion;
        }
        let key = of_question(question);
        if let Some(kept) = lock(&self.kept).get(&key) {
            return kept.clone();
        }
        let (opinion, is_answer) = self.asked(question);
        let mut kept = lock(&self.kept);
        if is_answer && kept.len() < KEPT_MAX {
            kept.insert(key, opinion.clone());
        }
        opinion
    }

    /// Asks the model, if there is one that has a say about all rules that ask; and whether it has answered.
    fn asked(&self, question: &Question) -> (Opinion, bool) {
        let pass = |why: &str| (Opinion::pass("checks", why), false);
        let settings = self.policy.settings();
        let mut rules = question.decision.rules.iter();
        if !rules.all(|rule| settings.reviewer_for(rule.origin).is_some()) {
            return pass("no model is set up for the layer of the rule (`[reviewer]`)");
        }
        let Some(set) = &settings.reviewer else {
            return pass("no model is set up (`[reviewer]`)");
        };
        let reviewer = &set.value;
        let key = match &self.key {
            Ok(key) => key,
            Err(why) => return pass(why),
        };
        if self.asked.fetch_add(1, Ordering::Relaxed) >= reviewer.budget {
            let why = format!("its budget of {} questions is used up", reviewer.budget);
            return pass(&why);
        }
        let job = Job {
            endpoint: reviewer.endpoint.clone(),
            body: stockade_reviewer::body(&reviewer.model, question).to_string(),
            key: key.as_ref().map(|key| key.expose().clone()),
            timeout_ms: reviewer.timeout.millis(),
            authorities: authorities::SYSTEM.into_iter().map(PathBuf::from).collect(),
        };
        match call(&job) {
            Ok(Said::Body(body)) => (read(question, reviewer, &body), true),
            Ok(Said::Failed(why)) | Err(why) => {
                let name = format!("model {}", reviewer.model);
                (Opinion::pass(&name, format!("no answer: {why}")), false)
            }
        }
    }
}

/// Reads an answer.
fn read(question: &Question, reviewer: &ReviewerSettings, body: &str) -> Opinion {
    stockade_reviewer::opinion(question, &reviewer.model, reviewer.max_risk, body)
}

/// What one question has in common with another that is the same but for its number and time.
fn of_question(question: &Question) -> Digest {
    let request = question.request.digest();
    let mut bytes = request.as_bytes().to_vec();
    for rule in &question.decision.rules {
        bytes.extend_from_slice(rule.id.as_str().as_bytes());
        bytes.push(0);
    }
    bytes.extend_from_slice(question.intent.as_deref().unwrap_or_default().as_bytes());
    Digest::of(&bytes)
}

/// Has a process of its own make a call.
fn call(job: &Job) -> Result<Said, String> {
    let words = |error: std::io::Error| format!("its process failed: {error}");
    let text = serde_json::to_vec(job).map_err(|error| error.to_string())?;
    let mut command = Command::new("/proc/self/exe");
    let mut child = command
        .arg("__reviewer")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(words)?;
    let wait = Duration::from_millis(job.timeout_ms) + GRACE;
    let said = talk(&mut child, text, wait);
    if said.is_err() {
        ignored(child.kill(), "it may have ended");
    }
    child.wait().map_err(words)?;
    let said = said?;
    serde_json::from_slice(&said)
        .map_err(|_| "its process said nothing that can be read".to_owned())
}

fn talk(child: &mut Child, text: Vec<u8>, wait: Duration) -> Result<Vec<u8>, String> {
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("its process has no pipes".to_owned());
    };
    let (give, take) = channel();
    // It ends with the process, which is ended below if it does not end by itself.
    let spawned = thread::Builder::new()
        .name("review".to_owned())
        .spawn(move || {
            let mut bytes = Vec::new();
            let written = input.write_all(&text);
            drop(input);
            let read = written.and_then(|()| output.take(SAID_BYTES_MAX).read_to_end(&mut bytes));
            ignored(give.send(read.map(|_| bytes)), "nobody waits any more");
        });
    spawned.map_err(|error| error.to_string())?;
    match take.recv_timeout(wait) {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(format!("its process failed: {error}")),
        Err(_) => Err("it took too long".to_owned()),
    }
}
