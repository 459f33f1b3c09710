//! Headless Chromium, over the pipe that its developer tools speak (one JSON message, then a NUL).
use std::{
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::{Value, json};
use stockade_types::Digest;
use tempfile::TempDir;

use crate::run::require_tool;

/// How long the page may take to be there; the bounds of the page itself are asserted apart.
const TIMEOUT: Duration = Duration::from_mins(1);

/// A browser with one page; dropping it ends the browser.
pub struct Browser {
    child: Child,
    to: File,
    from: BufReader<File>,
    next: u64,
    session: Option<String>,
    /// What the page and its policy complained of, and what was requested from elsewhere.
    pub complaints: Vec<String>,
    /// What the beginning of every address has to be; `file:` for pages that need no server.
    origin: String,
    _home: TempDir,
}

impl Browser {
    /// Starts one for pages that are files.
    pub fn start() -> Self {
        Self::start_for("file:", None)
    }

    /// Starts one for the pages of `origin`. A server whose key has the digest `key` (SHA-256 of its
    /// SubjectPublicKeyInfo, in base64) is believed to be who it says.
    pub fn start_for(origin: &str, key: Option<&str>) -> Self {
        require_tool("chromium");
        let home = tempfile::tempdir().expect("a directory");
        let [to, from] = ["to", "from"].map(|name| home.path().join(name));
        for pipe in [&to, &from] {
            mkfifoat(CWD, pipe, Mode::RUSR | Mode::WUSR).expect("a pipe");
        }
        // A pipe that is open for both waits for nobody.
        let open = |pipe: &Path| OpenOptions::new().read(true).write(true).open(pipe);
        let [to_file, from_file] = [&to, &from].map(|pipe| open(pipe).expect("a pipe"));
        let line = "exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage \
            --no-first-run --disable-background-networking --disable-component-update \
            --user-data-dir=\"$1/profile\" --remote-debugging-pipe $2 about:blank 3<\"$1/to\" 4>\"$1/from\"";
        let believed = key.map(|key| format!("--ignore-certificate-errors-spki-list={key}"));
        let child = Command::new("/bin/sh")
            .args(["-c", line, "sh"])
            .arg(home.path())
            .arg(believed.unwrap_or_default())
            .env("HOME", home.path())
            .env("TZ", "UTC")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh exists");
        let mut browser = Self {
            child,
            to: to_file,
            from: BufReader::new(from_file),
            next: 0,
            session: None,
            complaints: Vec::new(),
            origin: origin.to_owned(),
            _home: home,
        };
        let made = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let target = made.get("targetId").expect("a page").clone();
        let attach = json!({"targetId": target, "flatten": true});
        let attached = browser.call("Target.attachToTarget", &attach);
        let session = attached.get("sessionId").and_then(Value::as_str);
        browser.session = session.map(str::to_owned);
        for domain in [
            "Page.enable",
            "Runtime.enable",
            "Log.enable",
            "Network.enable",
        ] {
            browser.call(domain, &json!({}));
        }
        browser
    }

    /// Calls a method of the protocol and returns its result.
    pub fn call(&mut self, method: &str, params: &Value) -> Value {
        self.next += 1;
        let mut message = json!({"id": self.next, "method": method, "params": params});
        if let (Some(session), Some(members)) = (&self.session, message.as_object_mut()) {
            members.insert("sessionId".to_owned(), session.as_str().into());
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).expect("the browser reads");
        loop {
            let mut bytes = Vec::new();
            self.from
                .read_until(0, &mut bytes)
                .expect("the browser writes");
            bytes.pop();
            let message: Value = serde_json::from_slice(&bytes).expect("JSON");
            if message.get("id").and_then(Value::as_u64) == Some(self.next) {
                return (message.get("result").cloned())
                    .unwrap_or_else(|| panic!("{method}: {message}"));
            }
            let method = message.get("method").and_then(Value::as_str);
            match method.unwrap_or_default() {
                "Runtime.exceptionThrown" | "Log.entryAdded" | "Page.javascriptDialogOpening" => {
                    self.complaints.push(message.to_string());
                }
                "Network.requestWillBeSent" => {
                    let url = message
                        .pointer("/params/request/url")
                        .and_then(Value::as_str);
                    let url = url.unwrap_or_default();
                    if !url.starts_with(&self.origin) && url != "about:blank" {
                        self.complaints.push(format!("requested {url}"));
                    }
                }
                _ => {}
            }
        }
    }

    /// Opens a page at this size and waits until its script is done; returns how long it took.
    pub fn open(&mut self, page: &Path, width: u32, height: u32) -> Duration {
        self.size(width, height);
        self.go(&format!("file://{}", page.display()))
    }

    /// Gives the window a size.
    pub fn size(&mut self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Goes to an address and waits until the script of the page is done; returns how long it took.
    pub fn go(&mut self, url: &str) -> Duration {
        let begun = Instant::now();
        self.eval("delete document.documentElement.dataset.ready");
        self.call("Page.navigate", &json!({"url": url}));
        self.ready();
        begun.elapsed()
    }

    /// Waits until the page that is being loaded is there, with its script done.
    pub fn ready(&mut self) {
        let begun = Instant::now();
        let ready = "location.protocol !== 'about:' && document.readyState === 'complete' \
            && !!document.documentElement.dataset.ready";
        while self.eval(ready) != Value::Bool(true) {
            assert!(begun.elapsed() < TIMEOUT, "{:?}", self.complaints);
        }
    }

    /// Does something on the page that leads to another one, and waits for that.
    pub fn follow(&mut self, expression: &str) {
        self.eval("delete document.documentElement.dataset.ready");
        self.eval(expression);
        self.ready();
    }

    /// Evaluates an expression on the page.
    pub fn eval(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let result = self.call("Runtime.evaluate", &params);
        let value = result.pointer("/result/value").cloned();
        value.unwrap_or(Value::Null)
    }

    /// Gives the browser an authenticator that makes passkeys, and confirms each use by itself.
    pub fn add_authenticator(&mut self) {
        self.call("WebAuthn.enable", &json!({}));
        let options = json!({"options": {
            "protocol": "ctap2", "transport": "internal", "hasResidentKey": true,
            "hasUserVerification": true, "isUserVerified": true, "automaticPresenceSimulation": true,
        }});
        self.call("WebAuthn.addVirtualAuthenticator", &options);
    }

    /// Types keys as a person does, and waits until the page has drawn what came of them.
    pub fn keys(&mut self, keys: &[&str]) {
        for key in keys {
            let text = if key.chars().count() == 1 { key } else { "" };
            for kind in ["keyDown", "keyUp"] {
                let text = if kind == "keyDown" { text } else { "" };
                let press = json!({"type": kind, "key": key, "text": text});
                self.call("Input.dispatchKeyEvent", &press);
            }
        }
        self.eval(
            "new Promise((done) => setTimeout(() => requestAnimationFrame(() => done(1)), 150))",
        );
    }

    /// Sets the colours that the person prefers.
    pub fn prefer(&mut self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &features);
    }

    /// Writes a picture of the page, and returns its bytes.
    pub fn picture(&mut self, file: &Path) {
        let shot = self.call("Page.captureScreenshot", &json!({"format": "png"}));
        let data = shot.get("data").and_then(Value::as_str).expect("a picture");
        let bytes = STANDARD.decode(data).expect("base64");
        std::fs::write(file, bytes).expect("the directory is ours");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It is one process group of the browser's own; its pipes close with it.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// How the public key of a certificate with a key of P-256 begins; a point of 65 bytes follows.
const KEY_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Returns what [`Browser::start_for`] takes for a server that shows this certificate (DER, with a key of
/// P-256), or one of this authority together with it.
pub fn key_digest(certificate: &[u8]) -> String {
    let length = KEY_HEAD.len() + 65;
    let mut parts = certificate.windows(length);
    let key = parts
        .find(|part| part.starts_with(&KEY_HEAD))
        .expect("a key of P-256");
    STANDARD.encode(Digest::of(key).as_bytes())
}

/// Finds texts of the window with less contrast than people need (WCAG 2, 1.4.3).
const FAINT: &str = r"(() => {
  const lum = ([r, g, b]) => {
    const part = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const color = (text) => (text.match(/[\d.]+/g) || []).map(Number);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const c = color(getComputedStyle(node).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const node of document.querySelectorAll('body *')) {
    if (node.closest('UNREAD')) continue;
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    const box = node.getBoundingClientRect();
    if (!own || !box.width || !box.height) continue;
    const [a, b] = [lum(color(getComputedStyle(node).color)), lum(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.push(`${node.tagName}.${node.className}: ${ratio.toFixed(2)}`);
  }
  return faint;
})()";

/// Returns a script for texts of the window that have too little contrast, with their own; `unread` selects
/// what is no text to read.
pub fn faint(unread: &str) -> String {
    FAINT.replace("UNREAD", unread)
}
