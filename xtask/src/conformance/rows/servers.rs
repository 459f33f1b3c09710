//! Servers, databases and development servers, with clients in the same session.

use crate::conformance::row::{
    Group::Servers,
    Need::{Npm, System},
    Row, row,
};

/// For servers that run for some seconds on a slow machine.
pub(super) const LISTENS: &str = "the port could be opened outside; the server waits for no answer";

pub(in crate::conformance) const ROWS: &[Row] = &[
    row(Servers, "postgres", "PostgreSQL: a new cluster, over TCP and socket")
        .needs(&[System("psql", "postgresql")])
        .versions("psql --version")
        .run("b=$(ls -d /usr/lib/postgresql/*/bin | tail -1); $b/initdb -D db -U me -A trust >/dev/null; $b/pg_ctl -D db -o '-k /tmp -p 5499' -w -l log start >/dev/null; psql -h 127.0.0.1 -p 5499 -U me postgres -tc 'select 40+2' | grep -q 42; psql -h /tmp -p 5499 -U me postgres -tc 'select 40+2' | grep -q 42; $b/pg_ctl -D db -m fast stop >/dev/null")
        .asked_because(LISTENS),
    row(Servers, "redis", "Redis: set and get, saved to the workspace")
        .needs(&[System("redis-server", "redis-server")])
        .versions("redis-server --version | cut -d' ' -f1-3")
        .run("redis-server --port 6399 --daemonize yes --dir \"$PWD\" >/dev/null; for i in $(seq 50); do redis-cli -p 6399 ping >/dev/null 2>&1 && break; sleep 0.1; done; redis-cli -p 6399 set a 42; redis-cli -p 6399 get a | grep -q 42; redis-cli -p 6399 shutdown save || true")
        .check("[ -f dump.rdb ]")
        .asked_because(LISTENS),
    row(Servers, "sqlite", "SQLite with a write-ahead log")
        .needs(&[System("sqlite3", "sqlite3")])
        .versions("sqlite3 --version | cut -d' ' -f1")
        .run("sqlite3 a.db 'pragma journal_mode=wal; create table t(a); insert into t values(42); select a from t' | grep -q 42")
        .check("[ \"$(sqlite3 a.db 'select a from t')\" = 42 ]"),
    row(Servers, "python-http", "Python's web server and curl")
        .needs(&[System("python3", "python3"), System("curl", "curl")])
        .run("echo hi > index.html; python3 -m http.server 8000 >/dev/null 2>&1 & p=$!; for i in $(seq 50); do curl -sf http://localhost:8000/ && break; sleep 0.1; done | grep -q hi; kill $p")
        .asked_because(LISTENS),
    row(Servers, "vite-dev", "Vite's development server, with watching")
        .needs(&[System("node", "nodejs"), Npm(&["vite@6"]), System("curl", "curl")])
        .versions("vite --version | cut -d' ' -f1")
        .setup("echo '<script type=module src=/a.js></script>' > index.html; echo 'console.log(1)' > a.js")
        .run("vite --host 127.0.0.1 --port 5199 > log 2>&1 & p=$!; for i in $(seq 100); do curl -sf http://127.0.0.1:5199/a.js && break; sleep 0.1; done | grep -q console; kill $p")
        .asked_because(LISTENS),
    row(Servers, "webpack-serve", "webpack-dev-server, which lists interfaces")
        .needs(&[System("node", "nodejs"), Npm(&["webpack@5", "webpack-cli@6", "webpack-dev-server@5"]), System("curl", "curl")])
        .setup("mkdir src; echo 'console.log(\"hi\")' > src/index.js; echo 'module.exports = { mode: \"development\" }' > webpack.config.js")
        .run("webpack serve --port 8099 > log 2>&1 & p=$!; for i in $(seq 200); do curl -sf http://localhost:8099/main.js && break; sleep 0.1; done | grep -q hi; kill $p")
        .asked_because(LISTENS),
];
