//! Headless Chromium, over the pipe that its developer tools speak (one JSON message, then a NUL).
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a broken fixture must end the test"
)]

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
use stockade_testkit::run::require_tool;
use tempfile::TempDir;

/// How long the page may take to be there; the bounds of the page itself are asserted apart.
const TIMEOUT: Duration = Duration::from_mins(1);

/// A browser with one page; dropping it ends the browser.
pub(crate) struct Browser {
    child: Child,
    to: File,
    from: BufReader<File>,
    next: u64,
    session: Option<String>,
    /// What the page and its policy complained of.
    pub(crate) complaints: Vec<String>,
    _home: TempDir,
}

impl Browser {
    pub(crate) fn start() -> Self {
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
            --user-data-dir=\"$1/profile\" --remote-debugging-pipe about:blank 3<\"$1/to\" 4>\"$1/from\"";
        let child = Command::new("/bin/sh")
            .args(["-c", line, "sh"])
            .arg(home.path())
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
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
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
                    if !url.starts_with("file:") && url != "about:blank" {
                        self.complaints.push(format!("requested {url}"));
                    }
                }
                _ => {}
            }
        }
    }

    /// Opens a page at this size and waits until its script is done; returns how long it took.
    pub(crate) fn open(&mut self, page: &Path, width: u32, height: u32) -> Duration {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let begun = Instant::now();
        let url = format!("file://{}", page.display());
        self.call("Page.navigate", &json!({"url": url}));
        let ready = "location.protocol === 'file:' && !!document.documentElement.dataset.ready";
        while self.eval(ready) != Value::Bool(true) {
            assert!(begun.elapsed() < TIMEOUT, "{:?}", self.complaints);
        }
        begun.elapsed()
    }

    /// Evaluates an expression on the page.
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let result = self.call("Runtime.evaluate", &params);
        let value = result.pointer("/result/value").cloned();
        value.unwrap_or(Value::Null)
    }

    /// Types keys as a person does, and waits until the page has drawn what came of them.
    pub(crate) fn keys(&mut self, keys: &[&str]) {
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
    pub(crate) fn prefer(&mut self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &features);
    }

    /// Writes a picture of the page, and returns its bytes.
    pub(crate) fn picture(&mut self, file: &Path) {
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
