//! Enrolment: a token, a key that is drawn here, and what the machine pins from then on.

use std::{fs::File, io, path::Path};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper::Method;
use serde::{Serialize, de::DeserializeOwned};
use stockade_api::{
    EnrolToken,
    limits::CERTIFICATE_MS,
    node::{
        EnrolAnswer, EnrolRequest, Facts, Install, JobEnrolAnswer, JobEnrolRequest, NewMachine,
    },
    proof_message,
};
use stockade_types::{Digest, UnixMillis};

use crate::{
    clock::now,
    files::{self, FileError},
    http::{Connection, HttpError, Server},
    identity::{Certificate, Enrolment, NodeKey, Places},
    runtime::block_on,
    tls::{self, TlsError},
    trust::{Trust, TrustError},
};

/// Why a machine was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// It is.
    #[error(
        "this machine is `{name}` ({node}) of `{org}` already; leave it first, by `stockade node leave`"
    )]
    Enrolled {
        /// What people call it.
        name: String,
        /// Names it.
        node: String,
        /// The organisation.
        org: String,
    },
    /// An agent runs.
    #[error("an agent of this machine runs; end it first")]
    Running,
    /// The server does not take it, or cannot be reached.
    #[error("cannot enrol")]
    Http(#[from] HttpError),
    /// The server is another one than the token names, or a certificate cannot be read.
    #[error("cannot enrol")]
    Tls(#[from] TlsError),
    /// The server says one thing and its token another.
    #[error("the answer of the server does not fit: {0}")]
    Answer(String),
    /// What the machine would pin is not signed, or does not fit.
    #[error("the answer of the server is not used")]
    Trust(#[from] TrustError),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The runtime could not be started.
    #[error("cannot enrol")]
    Runtime(#[source] io::Error),
    /// There is no key.
    #[error("cannot draw a key: {0}")]
    Random(getrandom::Error),
}

/// How a machine is enrolled.
#[derive(Debug)]
pub struct Enrol<'a> {
    /// The state directory.
    pub state: &'a Path,
    /// The token.
    pub token: &'a EnrolToken,
    /// Where the server is, if not where the token says.
    pub url: Option<&'a str>,
    /// What people call the machine.
    pub name: String,
    /// What it says about itself.
    pub facts: Facts,
    /// The public key of its journals.
    pub journal_key: String,
    /// How Stockade is installed.
    pub install: Install,
}

/// Enrols the machine, and writes what it pins. The secret of the token leaves only over a connection to a
/// server whose authority is the one that the token names. Blocks.
///
/// # Errors
/// When it is enrolled already, or the server does not take it; nothing has changed then.
pub fn enrol(enrol: Enrol<'_>) -> Result<Enrolment, EnrolError> {
    let places = Places::new(enrol.state);
    let _lock = prepare(&places)?;
    let url = enrol.url.unwrap_or(&enrol.token.url).to_owned();
    let key = NodeKey::draw().map_err(EnrolError::Random)?;
    let request = request(&enrol, &key);
    let answer: EnrolAnswer = ask(&url, enrol.token.ca, "/node/v1/enrol", &request)?;
    let place = (url, enrol.token.ca);
    keep(&places, &key, (enrol.name, false), place, answer)
}

/// How the machine of a job is enrolled.
#[derive(Debug)]
pub struct EnrolJob<'a> {
    /// The state directory.
    pub state: &'a Path,
    /// What the platform that runs the job says of it.
    pub token: &'a str,
    /// Where the server is.
    pub url: &'a str,
    /// SHA-256 of the certificate of the server's authority, DER.
    pub ca: Digest,
    /// What it says about itself.
    pub facts: Facts,
    /// The public key of its journals.
    pub journal_key: String,
    /// How Stockade is installed.
    pub install: Install,
}

/// Enrols the machine of a job, and writes what it pins. The token of the platform leaves only over a
/// connection to a server of the authority `ca`. Blocks.
///
/// # Errors
/// As [`enrol`].
pub fn enrol_job(job: EnrolJob<'_>) -> Result<Enrolment, EnrolError> {
    let places = Places::new(job.state);
    let _lock = prepare(&places)?;
    let key = NodeKey::draw().map_err(EnrolError::Random)?;
    let secret = key.secret();
    let request = JobEnrolRequest {
        token: job.token.to_owned(),
        machine: NewMachine {
            key: secret.public(),
            proof: URL_SAFE_NO_PAD.encode(secret.sign(&proof_message(job.token))),
            facts: job.facts,
            journal_key: job.journal_key,
            install: job.install,
        },
    };
    let answer: JobEnrolAnswer = ask(job.url, job.ca, "/node/v1/enrol/job", &request)?;
    let place = (job.url.to_owned(), job.ca);
    keep(&places, &key, (answer.name, true), place, answer.answer)
}

/// Makes sure that the machine is not enrolled and no agent runs, as long as what is returned is there.
fn prepare(places: &Places) -> Result<File, EnrolError> {
    if let Some(Enrolment {
        name, node, org, ..
    }) = Enrolment::read(places)?
    {
        return Err(EnrolError::Enrolled {
            name,
            node: node.to_string(),
            org,
        });
    }
    files::make_dir(&places.node())?;
    files::lock(&places.lock())?.ok_or(EnrolError::Running)
}

/// Asks a server of the authority `ca`.
fn ask<A: DeserializeOwned>(
    url: &str,
    ca: Digest,
    path: &str,
    request: &impl Serialize,
) -> Result<A, EnrolError> {
    let server = Server::parse(url)?;
    let answer = async {
        let connection = Connection::open(&server, tls::pinned(ca)?).await?;
        Ok::<A, EnrolError>(connection.call(Method::POST, path, request).await?)
    };
    block_on(answer).map_err(EnrolError::Runtime)?
}

fn request(enrol: &Enrol<'_>, key: &NodeKey) -> EnrolRequest {
    let secret = key.secret();
    let proof = secret.sign(&proof_message(&enrol.token.secret));
    EnrolRequest {
        secret: enrol.token.secret.clone(),
        name: enrol.name.clone(),
        key: secret.public(),
        proof: URL_SAFE_NO_PAD.encode(proof),
        facts: enrol.facts.clone(),
        journal_key: enrol.journal_key.clone(),
        install: enrol.install,
    }
}

fn keep(
    places: &Places,
    key: &NodeKey,
    (name, of_job): (String, bool),
    (url, ca): (String, Digest),
    answer: EnrolAnswer,
) -> Result<Enrolment, EnrolError> {
    if tls::digest_of(&answer.ca)? != ca {
        let what = "its authority is not the one that was named";
        return Err(EnrolError::Answer(what.to_owned()));
    }
    // The key and the certificate go together, or no connection can be made later.
    tls::mutual(&answer.ca, &answer.certificate, key.seed())?;
    let since = now();
    let root = Trust::enrolled(places, &answer, since)?;
    let enrolment = Enrolment {
        url,
        org: answer.org,
        node: answer.node,
        name,
        owner: answer.owner,
        since,
        authority: answer.ca,
        servers: root.servers,
        of_job,
    };
    key.write(places)?;
    let certificate = Certificate {
        pem: answer.certificate,
        since,
        until: UnixMillis(since.0.saturating_add(CERTIFICATE_MS)),
    };
    files::replace_json(&places.certificate(), &certificate)?;
    files::replace_json(&places.enrolment(), &enrolment)?;
    Ok(enrolment)
}
