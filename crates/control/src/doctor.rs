//! What a server needs to work, looked at one after the other: `stockade serve doctor`. It changes nothing.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde::Serialize;
use stockade_journal::layout::{JOURNAL_FILE, session_dir};
use stockade_types::chain;

use crate::{
    ControlError,
    admin::runtime,
    authority::Authority,
    clock::now,
    data::{DataDir, Running, Settings},
    keys::SigningKeys,
    oidc::OidcSettings,
    provision::probe,
    state::State,
};

/// Free bytes of the disk below which the server soon takes no journals.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// How long before its end a certificate is named.
const CERTIFICATE_WARNING: Duration = Duration::from_hours(14 * 24);
/// How far clocks of machines may be from the server's, in milliseconds.
const SKEW_MS_MAX: i64 = 60_000;
/// Machines that were here within this time count for the clock, in milliseconds.
const HERE_MS: u64 = 24 * 60 * 60 * 1_000;
/// Sessions whose files are compared with the state, the newest ones.
const SESSIONS_MAX: u32 = 10_000;
/// How long a listener may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// As it has to be.
    Good,
    /// It works, and somebody should know.
    Note,
    /// It does not work, or is not safe.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub name: &'static str,
    /// How it stands.
    pub standing: Standing,
    /// What was found, for people.
    pub what: String,
    /// The one step that changes it.
    pub remedy: Option<String>,
}

fn good(name: &'static str, what: impl Into<String>) -> Finding {
    Finding {
        name,
        standing: Standing::Good,
        what: what.into(),
        remedy: None,
    }
}

fn bad(name: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding {
        name,
        standing: Standing::Bad,
        what: what.into(),
        remedy: Some(remedy.into()),
    }
}

fn note(name: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding {
        standing: Standing::Note,
        ..bad(name, what, remedy)
    }
}

/// Looks at everything that the server of the directory `path` needs, whether or not it runs.
///
/// # Errors
/// When there is no server in the directory, or nothing can be looked at.
pub fn examine(path: &Path) -> Result<Vec<Finding>, ControlError> {
    let (data, settings) = DataDir::open(path)?;
    let mut findings = vec![files(&data)];
    let keys = SigningKeys::load(&data.keys_path());
    let authority = Authority::load(&data.keys_path(), &settings.org);
    findings.push(match (&keys, &authority) {
        (Ok(_), Ok(_)) => good("keys", "all keys can be read"),
        (Err(error), _) | (_, Err(error)) => {
            bad("keys", chain(error), "take the keys from a backup")
        }
    });
    findings.push(host(&settings));
    findings.push(disk(&data));
    if let Ok(authority) = &authority {
        findings.extend(listeners(&data, &settings, authority));
    }
    runtime()?.block_on(async {
        match State::open(&data.state_path(), &settings.org).await {
            Ok(state) => {
                findings.extend(state_of(&data, &settings, &state).await);
                state.close().await;
            }
            Err(error) => {
                let remedy = "restore a backup: `stockade serve restore`";
                findings.push(bad("state", chain(&error), remedy));
            }
        }
        findings.push(provider(&data).await);
        Ok::<_, ControlError>(())
    })?;
    Ok(findings)
}

/// The files that nobody else may read or write.
fn files(data: &DataDir) -> Finding {
    let mut open = Vec::new();
    let mut look = |path: PathBuf| {
        let Ok(meta) = path.symlink_metadata() else {
            return;
        };
        let is_own = meta.uid() == rustix::process::geteuid().as_raw();
        if meta.mode() & 0o077 != 0 || !is_own || meta.is_symlink() {
            open.push(path.display().to_string());
        }
    };
    for dir in [
        data.path().to_owned(),
        data.keys_path(),
        data.evidence_path(),
        data.record_path(),
    ] {
        look(dir);
    }
    look(data.state_path());
    look(data.path().join("server.json"));
    let keys = fs::read_dir(data.keys_path()).into_iter().flatten();
    for entry in keys.flatten() {
        look(entry.path());
    }
    if open.is_empty() {
        return good("files", "no other user can read or write them");
    }
    let what = format!("others can reach {}", open.join(", "));
    bad("files", what, "make them yours: `chown`, then `chmod go=`")
}

/// The name that passkeys are bound to.
fn host(settings: &Settings) -> Finding {
    if settings.host == "localhost" {
        let what = "passkeys are bound to `localhost`: they work in browsers on this machine alone";
        let remedy = "make a server with `serve init --host NAME` before people register passkeys";
        return note("host", what, remedy);
    }
    let name = format!("passkeys are bound to `{}`", settings.host);
    good("host", name)
}

fn disk(data: &DataDir) -> Finding {
    let free = match rustix::fs::statvfs(data.path()) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(error) => return bad("disk", error.to_string(), "look at the file system"),
    };
    let what = format!("{} MiB are free", free >> 20);
    if free < FREE_BYTES_MIN {
        return bad(
            "disk",
            what,
            "make at least 1 GiB free: a full disk takes no journals",
        );
    }
    good("disk", what)
}

/// What is at the addresses where the server listens, or listened last.
fn listeners(data: &DataDir, settings: &Settings, authority: &Authority) -> Vec<Finding> {
    let is_running = matches!(data.lease(), Err(ControlError::InUse { .. }));
    let Some(running) = data.running().filter(|_| is_running) else {
        let remedy = "start it: `stockade serve --data DIR`";
        return vec![note("server", "no server of this directory runs", remedy)];
    };
    let Running { web, node } = running;
    vec![
        good("server", format!("pages on {web}, machines on {node}")),
        certificate("pages", web, settings, authority),
        certificate("machines", node, settings, authority),
    ]
}

/// Looks at the certificate that a listener shows: whether it is for the host, now and in two weeks.
fn certificate(
    name: &'static str,
    address: SocketAddr,
    settings: &Settings,
    authority: &Authority,
) -> Finding {
    let shown = match shown(address, &settings.host, authority) {
        Ok(shown) => shown,
        Err(why) => {
            let remedy = "look at the log of `stockade serve`, and at firewalls of this machine";
            return bad(name, format!("{address} does not answer: {why}"), remedy);
        }
    };
    let own = shown.contains(authority.certificate());
    let verify =
        |later: Duration| verified(&shown, own.then_some(authority), &settings.host, later);
    let by = if own {
        "the server's own authority"
    } else {
        "an authority of the system"
    };
    match (verify(Duration::ZERO), verify(CERTIFICATE_WARNING)) {
        (Ok(()), Ok(())) => good(
            name,
            format!("the certificate is by {by}, for `{}`", settings.host),
        ),
        (Ok(()), Err(why)) => {
            let what = format!("the certificate is good now, and not in two weeks: {why}");
            note(name, what, "renew it, and start the server again")
        }
        (Err(why), _) => {
            let what = format!(
                "browsers do not accept the certificate for `{}`: {why}",
                settings.host
            );
            let remedy = "give the server one that names its host: `serve --certificate --key`";
            bad(name, what, remedy)
        }
    }
}

/// Returns the certificates that a listener shows. What they are worth is looked at by the caller.
fn shown(
    address: SocketAddr,
    host: &str,
    authority: &Authority,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let words = |error: &dyn std::error::Error| error.to_string();
    let verifier = Arc::new(looking::Any(authority.provider()));
    let config = ClientConfig::builder_with_provider(authority.provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| words(&error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| words(&error))?;
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => [127, 0, 0, 1].into(),
            SocketAddr::V6(_) => [0, 0, 0, 0, 0, 0, 0, 1].into(),
        });
    }
    let stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| words(&error))?;
    for bound in [
        stream.set_read_timeout(Some(PATIENCE)),
        stream.set_write_timeout(Some(PATIENCE)),
    ] {
        bound.map_err(|error| words(&error))?;
    }
    let client = ClientConnection::new(Arc::new(config), name).map_err(|error| words(&error))?;
    let mut stream = StreamOwned::new(client, stream);
    while stream.conn.is_handshaking() {
        let StreamOwned { conn, sock } = &mut stream;
        conn.complete_io(sock).map_err(|error| words(&error))?;
    }
    let shown = stream.conn.peer_certificates().unwrap_or_default();
    Ok(shown.iter().map(|one| one.clone().into_owned()).collect())
}

/// Verifies what a listener shows as a browser does, at a later time.
fn verified(
    shown: &[CertificateDer<'_>],
    own: Option<&Authority>,
    host: &str,
    later: Duration,
) -> Result<(), String> {
    let (first, others) = shown.split_first().ok_or("it shows none")?;
    let mut roots = RootCertStore::empty();
    if let Some(authority) = own {
        let added = roots.add(authority.certificate().clone());
        added.map_err(|error| error.to_string())?;
    } else {
        let system = crate::outbound::system_authorities();
        roots.add_parsable_certificates(system.ok_or("the system has no authorities")?);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| error.to_string())?;
    let at = Duration::from_millis(now().0).saturating_add(later);
    let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
    let time = UnixTime::since_unix_epoch(at);
    let verified = verifier.verify_server_cert(first, others, &name, &[], time);
    verified.map(|_| ()).map_err(|error| error.to_string())
}

async fn state_of(data: &DataDir, settings: &Settings, state: &State) -> Vec<Finding> {
    let restore = "restore a backup: `stockade serve restore`";
    let mut findings = vec![match state.check().await {
        Ok(()) => good("state", "the database is whole"),
        Err(error) => bad("state", chain(&error), restore),
    }];
    findings.push(match evidence(data, settings, state).await {
        Ok(found) => found,
        Err(error) => bad("evidence", chain(&error), restore),
    });
    findings.push(match clocks(state).await {
        Ok(found) => found,
        Err(error) => bad("clock", chain(&error), restore),
    });
    findings
}

/// Compares what the state has receipted with the files: a byte that was receipted has to be there.
async fn evidence(
    data: &DataDir,
    settings: &Settings,
    state: &State,
) -> Result<Finding, ControlError> {
    let sessions = state.sessions(SESSIONS_MAX).await?;
    let org = data.evidence_path().join(&settings.org);
    let mut short = Vec::new();
    for row in &sessions {
        let dir = session_dir(&org.join(row.key.node.as_str()), &row.key.session);
        let here = fs::metadata(dir.join(JOURNAL_FILE)).map_or(0, |meta| meta.len());
        if here < row.stored.offset {
            let (have, want) = (here, row.stored.offset);
            short.push(format!("{}: {have} of {want} bytes", row.key.session));
        }
    }
    let count = sessions.len();
    let Some(first) = short.first() else {
        return Ok(good(
            "evidence",
            format!("{count} journals have what was receipted"),
        ));
    };
    let what = format!(
        "{} of {count} journals lack bytes that were receipted, such as {first}",
        short.len()
    );
    Ok(bad(
        "evidence",
        what,
        "restore a backup; the machines' receipts say what is missing",
    ))
}

/// Compares the clock with those of the machines that were here lately: one that is wrong is theirs, all are
/// ours.
async fn clocks(state: &State) -> Result<Finding, ControlError> {
    let since = now().0.saturating_sub(HERE_MS);
    let nodes = state.nodes().await?;
    let here = nodes
        .iter()
        .filter(|node| node.retired.is_none() && node.last_seen.is_some_and(|seen| seen.0 > since));
    let mut skews: Vec<i64> = here.map(|node| node.clock_skew_ms).collect();
    skews.sort_unstable();
    let Some(median) = skews.get(skews.len() / 2) else {
        return Ok(good(
            "clock",
            "no machine was here today to compare it with",
        ));
    };
    let what = format!("machines are {median} ms ahead (median of {})", skews.len());
    if median.abs() > SKEW_MS_MAX {
        let remedy = "set the clock of this machine: tokens and certificates depend on it";
        return Ok(bad("clock", what, remedy));
    }
    Ok(good("clock", what))
}

async fn provider(data: &DataDir) -> Finding {
    let oidc = match OidcSettings::read(&data.keys_path()) {
        Ok(Some(oidc)) => oidc,
        Ok(None) => return good("sign-in", "with passkeys and passwords"),
        Err(error) => {
            let remedy = "set the provider again: `stockade serve oidc`";
            return bad("sign-in", chain(&error), remedy);
        }
    };
    match probe(&oidc).await {
        Ok(()) => good("sign-in", format!("{} answers", oidc.issuer)),
        Err(error) => {
            let remedy = "look at the provider, or set it again: `stockade serve oidc`";
            bad("sign-in", chain(&error), remedy)
        }
    }
}

/// A look at what a listener shows, without trust.
mod looking {
    use std::sync::Arc;

    use rustls::{
        DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime},
    };

    /// Takes any certificate: nothing is sent over the connection, and what was shown is verified afterwards.
    #[derive(Debug)]
    pub(super) struct Any(pub(super) Arc<CryptoProvider>);

    impl ServerCertVerifier for Any {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            verify_tls12_signature(message, certificate, signed, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            verify_tls13_signature(message, certificate, signed, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}
