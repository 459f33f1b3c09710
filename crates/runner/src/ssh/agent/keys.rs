//! The keys, outside: each stays in an agent of OpenSSH, the caller's own or one that has nothing else.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{fs::MetadataExt as _, net::UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use rustix::fs::{Mode, OFlags, open};
use stockade_policy::{SshKey, SshKeySource};
use stockade_supervise::lock;
use stockade_types::{Digest, RawText, Secret, ignored};

use super::{
    frames::{
        IDENTITIES_ANSWER, REQUEST_IDENTITIES, SIGN_REQUEST, SIGN_RESPONSE, Values, put, receive,
        send,
    },
    limits::{ANSWER_BYTES_MAX, KEY_FILE_BYTES_MAX, LIST_WAIT, LISTED_MAX, SIGN_WAIT},
};
use crate::{RunError, caller::Caller};

/// The variable with the caller's agent.
const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";
/// Says that the agent listens; ends it with the supervisor, however that ends: then the pipe closes.
const LIFELINE: &str = "echo; read -r _; kill \"$SSH_AGENT_PID\"";
/// Permissions that let others read or write a file.
const OTHERS: u32 = 0o077;
/// How a key of OpenSSH begins inside its text (`PROTOCOL.key`).
const MAGIC: &[u8] = b"openssh-key-v1\0";
/// Characters in base64 of what comes before the secret part, with the name of any cipher.
const HEAD_CHARS: usize = 60;
const REMEDY: &str = "has a passphrase; add the key to your ssh-agent and write \
    source = { agent = \"SHA256:…\" }";

/// A key that signs for programs inside.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) policy: SshKey,
    /// The public half, as on the wire.
    pub(super) blob: Vec<u8>,
    outside: Outside,
}

/// Where the private half is.
#[derive(Debug)]
enum Outside {
    /// The caller's agent, at this path.
    Callers(PathBuf),
    /// An agent of ours.
    Own(Own),
}

/// An agent that has one key and one client: its socket has no name any more.
#[derive(Debug)]
struct Own {
    stream: Mutex<UnixStream>,
    lifeline: Option<ChildStdin>,
    child: Child,
}

impl Drop for Own {
    fn drop(&mut self) {
        self.lifeline = None;
        ignored(self.child.wait(), "without the lifeline it ends by itself");
    }
}

/// Finds the keys of a policy; `directory` is one that no session sees.
///
/// # Errors
/// When one is not there, or cannot be used.
pub(super) fn find(
    keys: &[SshKey],
    caller: &Caller,
    directory: &Path,
) -> Result<Vec<Held>, RunError> {
    let one = |key: &SshKey| {
        let found = match &key.source {
            SshKeySource::Agent(name) => callers(name, caller),
            SshKeySource::File(path) => own(path, caller, directory),
        };
        let (outside, blob) = found.map_err(|why| RunError::Credential {
            id: key.id.clone(),
            from: key.source.to_string(),
            why,
        })?;
        Ok(Held {
            policy: key.clone(),
            blob,
            outside,
        })
    };
    keys.iter().map(one).collect()
}

/// Finds a key of the caller's agent.
fn callers(name: &str, caller: &Caller) -> Result<(Outside, Vec<u8>), String> {
    let path = caller.variable(AGENT_VARIABLE);
    let path = path.ok_or_else(|| format!("is not there: `{AGENT_VARIABLE}` is not set"))?;
    let path = PathBuf::from(path.to_os());
    let mut stream = connect(&path, LIST_WAIT).map_err(|error| broken(&error))?;
    let listed = list(&mut stream).map_err(|error| broken(&error))?;
    let mut fits = listed
        .into_iter()
        .filter(|(blob, comment)| {
            comment.as_slice() == name.as_bytes() || fingerprint(blob) == name
        })
        .map(|(blob, _)| blob);
    match (fits.next(), fits.next()) {
        (Some(blob), None) => Ok((Outside::Callers(path), blob)),
        (Some(_), Some(_)) => {
            Err("is more than one; write the fingerprint that `ssh-add -l` shows".to_owned())
        }
        (None, _) => Err("is not there; `ssh-add -l` lists those that are".to_owned()),
    }
}

/// Puts the key of a file into an agent of its own.
fn own(path: &str, caller: &Caller, directory: &Path) -> Result<(Outside, Vec<u8>), String> {
    let text = key_text(path, caller)?;
    let folder = File::open(directory).map_err(|error| broken(&error))?;
    // Named after the session, by which people find out whose agent it is.
    let socket = directory.file_name().unwrap_or_default();
    let path = caller.variable("PATH").map(RawText::to_os);
    let command = |program: &str| {
        let mut command = Command::new(program);
        command.env_clear().current_dir(directory);
        if let Some(path) = &path {
            command.env("PATH", path);
        }
        command
    };
    let absent = |program: &str, error: &io::Error| {
        format!("needs `{program}` of OpenSSH, which cannot be run: {error}")
    };
    let mut child = command("ssh-agent")
        .arg("-a")
        .arg(socket)
        .args(["/bin/sh", "-c", LIFELINE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| absent("ssh-agent", &error))?;
    let (lifeline, said) = (child.stdin.take(), child.stdout.take());
    let mut starting = Starting {
        child: Some(child),
        lifeline,
    };
    let mut line = [0];
    let said = said.and_then(|mut said| said.read_exact(&mut line).ok());
    said.ok_or("needs an `ssh-agent`, which did not start")?;
    let mut adding = command("ssh-add");
    adding.env(AGENT_VARIABLE, socket);
    add(adding, &text).map_err(|error| match error {
        Some(error) => absent("ssh-add", &error),
        None => "has no private key that OpenSSH reads".to_owned(),
    })?;
    let mut stream = take_socket(&folder, socket).map_err(|error| broken(&error))?;
    let listed = list(&mut stream).map_err(|error| broken(&error))?;
    let (blob, _) = listed.into_iter().next().ok_or("has no private key")?;
    let child = starting.child.take().ok_or("has no agent")?;
    let own = Own {
        stream: Mutex::new(stream),
        lifeline: starting.lifeline.take(),
        child,
    };
    Ok((Outside::Own(own), blob))
}

/// An agent that is not in use yet; it ends if it does not come to that.
struct Starting {
    child: Option<Child>,
    lifeline: Option<ChildStdin>,
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.lifeline = None;
        if let Some(mut child) = self.child.take() {
            ignored(child.wait(), "without the lifeline it ends by itself");
        }
    }
}

/// Gives a key to the agent that `command` is set up for.
fn add(mut command: Command, text: &Secret<Vec<u8>>) -> Result<(), Option<io::Error>> {
    let mut child = command
        .args(["-q", "-"])
        // It must not ask at the terminal.
        .env("SSH_ASKPASS", "/bin/false")
        .env("SSH_ASKPASS_REQUIRE", "force")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Some)?;
    let given = child.stdin.take().map(|mut to| to.write_all(text.expose()));
    let status = child.wait().map_err(Some)?;
    (status.success() && matches!(given, Some(Ok(()))))
        .then_some(())
        .ok_or(None)
}

/// Connects to the socket of an agent of ours, and removes its name: nobody else comes that way.
fn take_socket(folder: &File, socket: &OsStr) -> io::Result<UnixStream> {
    // A Unix address holds 107 bytes, and a state directory may have a longer path.
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
    let short = short.join(socket);
    let stream = connect(&short, LIST_WAIT)?;
    fs::remove_file(short)?;
    Ok(stream)
}

/// Reads a file with a private key that needs no passphrase.
fn key_text(path: &str, caller: &Caller) -> Result<Secret<Vec<u8>>, String> {
    let path = caller.expand(path).ok_or("has no place here")?;
    // A pipe without a writer would keep an ordinary open waiting.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let unreadable = |error: &dyn std::fmt::Display| format!("cannot be read: {error}");
    let file: OwnedFd = open(path.as_path(), flags, Mode::empty()).map_err(|e| unreadable(&e))?;
    let file = File::from(file);
    let metadata = file.metadata().map_err(|error| unreadable(&error))?;
    if !metadata.is_file() {
        return Err("is no file".to_owned());
    }
    if metadata.mode() & OTHERS != 0 {
        return Err("can be read or changed by others; make it `chmod 600`".to_owned());
    }
    // With room for all, no part of it stays behind where it grew.
    let room = usize::try_from(KEY_FILE_BYTES_MAX).unwrap_or_default();
    let mut text = Vec::with_capacity(room);
    let read = file.take(KEY_FILE_BYTES_MAX).read_to_end(&mut text);
    read.map_err(|error| unreadable(&error))?;
    if has_passphrase(&text) {
        return Err(REMEDY.to_owned());
    }
    Ok(Secret::new(text))
}

/// Tells whether the key of a text is encrypted, in the form of OpenSSH or in PEM.
fn has_passphrase(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    if text.contains("ENCRYPTED") {
        return true;
    }
    let mut lines = text.lines().map(str::trim);
    // The first line has the name of the cipher, and nothing secret.
    let first = lines.find(|line| !line.starts_with("-----"));
    let head = first.and_then(|line| line.get(..HEAD_CHARS));
    let bytes = STANDARD
        .decode(head.unwrap_or_default())
        .unwrap_or_default();
    let cipher = bytes.strip_prefix(MAGIC);
    let cipher = cipher.and_then(|rest| Values(rest).string());
    cipher.is_some_and(|cipher| cipher != b"none")
}

impl Held {
    /// Has a login signed; returns the signature.
    ///
    /// # Errors
    /// When the agent outside does not sign it.
    pub(super) fn sign(&self, data: &[u8], flags: u32, bind: &[u8]) -> io::Result<Vec<u8>> {
        let mut request = vec![SIGN_REQUEST];
        put(&mut request, &self.blob);
        put(&mut request, data);
        request.extend(flags.to_be_bytes());
        let answer = match &self.outside {
            Outside::Own(own) => exchange(&mut lock(&own.stream), &request)?,
            Outside::Callers(path) => {
                let mut stream = connect(path, SIGN_WAIT)?;
                // For keys that their owner bound to hosts; other agents may not know it.
                exchange(&mut stream, bind)?;
                exchange(&mut stream, &request)?
            }
        };
        let mut values = Values(&answer);
        let signature = (values.byte() == Some(SIGN_RESPONSE))
            .then(|| values.string())
            .flatten();
        let signature = signature.and_then(|signature| values.whole(signature.to_vec()));
        signature.ok_or_else(|| io::Error::other("the agent outside did not sign"))
    }

    /// Returns what is listed of it: the public key, and its id as comment.
    pub(super) fn listed(&self) -> (&[u8], &str) {
        (&self.blob, self.policy.id.as_str())
    }
}

fn connect(path: &Path, wait: Duration) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(wait))?;
    stream.set_write_timeout(Some(wait))?;
    Ok(stream)
}

fn exchange(stream: &mut UnixStream, request: &[u8]) -> io::Result<Vec<u8>> {
    send(stream, request)?;
    let answer = receive(stream, ANSWER_BYTES_MAX)?;
    answer.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Lists the keys of an agent, with their comments.
fn list(stream: &mut UnixStream) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let answer = exchange(stream, &[REQUEST_IDENTITIES])?;
    let wrong = || io::Error::other("it answers something else than its keys");
    let mut values = Values(&answer);
    let count = (values.byte() == Some(IDENTITIES_ANSWER)).then(|| values.number());
    let count = usize::try_from(count.flatten().ok_or_else(wrong)?).unwrap_or(usize::MAX);
    let mut listed = Vec::new();
    for _ in 0..count.min(LISTED_MAX) {
        let both = values.string().zip(values.string());
        let (blob, comment) = both.ok_or_else(wrong)?;
        listed.push((blob.to_vec(), comment.to_vec()));
    }
    Ok(listed)
}

fn broken(error: &io::Error) -> String {
    format!("cannot be used: {error}")
}

/// Returns the fingerprint of a public key, as `ssh-add -l` shows it.
fn fingerprint(blob: &[u8]) -> String {
    format!(
        "SHA256:{}",
        STANDARD_NO_PAD.encode(Digest::of(blob).as_bytes())
    )
}
