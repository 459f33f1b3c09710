//! Programs of the terminal, in a tmux of the session's own.

use crate::conformance::row::{Group::Terminal, Need::System, Row, row};

pub(in crate::conformance) const ROWS: &[Row] = &[
    row(Terminal, "tmux", "tmux: a session, keys, the screen")
        .needs(&[System("tmux", "tmux")])
        .versions("tmux -V")
        .run("tmux -S t.sock new-session -d -x 80 -y 24 sh; tmux -S t.sock send-keys 'echo $((40+2))' Enter; for i in $(seq 200); do tmux -S t.sock capture-pane -p | grep -q '^42' && break; sleep 0.1; done; tmux -S t.sock capture-pane -p | grep -q '^42'; tmux -S t.sock kill-server"),
    row(Terminal, "vim", "vim edits and writes a file")
        .needs(&[System("tmux", "tmux"), System("vim", "vim")])
        .versions("vim --version | head -1 | cut -d'(' -f1")
        .setup("echo one > f")
        .run("tmux -S t.sock new-session -d -x 80 -y 24 'vim -u NONE f; echo done > over; sleep 1'; sleep 1; tmux -S t.sock send-keys Go two Escape ':wq' Enter; for i in $(seq 200); do [ -f over ] && break; sleep 0.1; done; tmux -S t.sock kill-server || true; grep -q two f"),
    row(Terminal, "less", "less pages a long file")
        .needs(&[System("tmux", "tmux"), System("less", "less")])
        .versions("less --version | head -1")
        .run("seq 1000 > f; tmux -S t.sock new-session -d -x 80 -y 24 'less f'; sleep 0.5; tmux -S t.sock send-keys G; for i in $(seq 200); do tmux -S t.sock capture-pane -p | grep -q '^1000' && break; sleep 0.1; done; tmux -S t.sock capture-pane -p | grep -q '^1000'; tmux -S t.sock kill-server"),
    row(Terminal, "htop", "htop shows the processes")
        .needs(&[System("tmux", "tmux"), System("htop", "htop")])
        .versions("htop --version | head -1")
        .run("tmux -S t.sock new-session -d -x 100 -y 30 htop; for i in $(seq 200); do tmux -S t.sock capture-pane -p | grep -q 'Load' && break; sleep 0.1; done; tmux -S t.sock capture-pane -p | grep -q Load; tmux -S t.sock kill-server"),
    row(Terminal, "script", "script(1) records a terminal, sudo-free")
        .needs(&[System("script", "bsdutils")])
        .run("script -qec 'tty; stty size; test -t 1' log; grep -q /dev/ log"),
    row(Terminal, "tar-patch-rsync", "tar, patch, rsync, find, xargs, sed -i, curl of a file")
        .needs(&[System("rsync", "rsync"), System("patch", "patch"), System("curl", "curl")])
        .setup("mkdir a; echo 1 > a/f; mkdir a/.vscode; echo '{}' > a/.vscode/settings.json")
        .run("cp -r a b 2>/dev/null || cp a/f b; mkdir -p c; cp a/f c/; sed -i s/1/2/ c/f; (diff -u a/f c/f || true) > p; patch -R c/f p; rsync -a c/ d/; tar cf t.tar d; mkdir e; tar xf t.tar -C e; find e -type f | xargs grep -q 1; curl -s file://$PWD/e/d/f | grep -q 1"),
];
