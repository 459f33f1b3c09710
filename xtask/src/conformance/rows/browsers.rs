//! Browsers, on a page of the session's own server.

use super::servers::LISTENS;
use crate::conformance::row::{
    Group::Browsers,
    Need::{Npm, System},
    Row, row,
};

const SERVER: &str = "echo '<title>lab</title><p id=p>hello lab</p>' > p.html";

pub(in crate::conformance) const ROWS: &[Row] = &[
    row(Browsers, "chromium-default", "headless Chromium with its own sandbox")
        .needs(&[System("chromium", "chromium"), System("python3", "python3")])
        .versions("chromium --version | cut -d' ' -f1-2")
        .setup(SERVER)
        .run("python3 -m http.server 8123 >/dev/null 2>&1 & p=$!; sleep 1; chromium --headless --disable-gpu --dump-dom http://localhost:8123/p.html 2>err > dom || { cat err; exit 1; }; kill $p; grep -q 'hello lab' dom")
        .closed_because(
            "a new user namespace opens parts of the kernel that otherwise only root reaches",
            "--no-sandbox",
        ),
    row(Browsers, "chromium-page", "headless Chromium, held by the boundary: a page and a screenshot")
        .needs(&[System("chromium", "chromium"), System("python3", "python3")])
        .setup(SERVER)
        .run("python3 -m http.server 8123 >/dev/null 2>&1 & p=$!; sleep 1; chromium --headless --no-sandbox --disable-gpu --dump-dom http://localhost:8123/p.html 2>/dev/null | grep -q 'hello lab'; chromium --headless --no-sandbox --disable-gpu --screenshot=s.png http://localhost:8123/p.html 2>/dev/null; kill $p")
        .check("[ -s s.png ]")
        .asked_because(LISTENS),
    row(Browsers, "playwright", "Playwright clicks and reads in Chromium")
        .needs(&[
            System("chromium", "chromium"),
            System("node", "nodejs"),
            System("python3", "python3"),
            Npm(&["playwright-core"]),
        ])
        .setup("echo '<button onclick=\"this.textContent=1+1\">go</button>' > p.html; echo 'const { chromium } = require(process.env.HOME + \"/.local/lib/node_modules/playwright-core\"); (async () => { const b = await chromium.launch({ executablePath: \"/usr/bin/chromium\" }); const p = await b.newPage(); await p.goto(\"http://localhost:8123/p.html\"); await p.click(\"button\"); console.log(await p.textContent(\"button\")); await b.close(); })()' > t.js")
        .run("python3 -m http.server 8123 >/dev/null 2>&1 & p=$!; sleep 1; node t.js > out 2>err || { cat err; exit 1; }; kill $p; grep -q 2 out"),
];
