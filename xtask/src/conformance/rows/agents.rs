//! Coding agents as their packages contain them, with a model on the session's own loopback.

use crate::conformance::row::{
    Group::Agents,
    Need::{Agent, Npm, System},
    Row, row,
};

/// A model that sends a greeting, in the streams of both providers.
const MODEL: &str = r#"cat > model.py <<'P'
import http.server, json
def sse(events): return ''.join('event: %s\ndata: %s\n\n' % (e['type'], json.dumps(e)) for e in events).encode()
OPENAI = sse([
    {'type': 'response.created', 'response': {'id': 'r1'}},
    {'type': 'response.output_item.done', 'output_index': 0, 'item': {'type': 'message', 'id': 'm1', 'role': 'assistant', 'content': [{'type': 'output_text', 'text': 'hello from the lab', 'annotations': []}]}},
    {'type': 'response.completed', 'response': {'id': 'r1', 'usage': {'input_tokens': 1, 'input_tokens_details': None, 'output_tokens': 1, 'output_tokens_details': None, 'total_tokens': 2}}}])
CLAUDE = sse([
    {'type': 'message_start', 'message': {'id': 'm1', 'type': 'message', 'role': 'assistant', 'model': 'lab', 'content': [], 'stop_reason': None, 'stop_sequence': None, 'usage': {'input_tokens': 1, 'output_tokens': 1}}},
    {'type': 'content_block_start', 'index': 0, 'content_block': {'type': 'text', 'text': ''}},
    {'type': 'content_block_delta', 'index': 0, 'delta': {'type': 'text_delta', 'text': 'hello from the lab'}},
    {'type': 'content_block_stop', 'index': 0},
    {'type': 'message_delta', 'delta': {'stop_reason': 'end_turn', 'stop_sequence': None}, 'usage': {'output_tokens': 4}},
    {'type': 'message_stop'}])
class H(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get('Content-Length', 0)))
        body = OPENAI if 'responses' in self.path else CLAUDE
        self.send_response(200); self.send_header('Content-Type', 'text/event-stream'); self.send_header('Content-Length', str(len(body))); self.end_headers(); self.wfile.write(body)
    def do_GET(self):
        self.send_response(200); self.send_header('Content-Type', 'application/json'); self.send_header('Content-Length', '2'); self.end_headers(); self.wfile.write(b'{}')
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(('127.0.0.1', 8970), H).serve_forever()
P
mkdir -p ~/.codex
cat > ~/.codex/config.toml <<'P'
model = "lab"
model_provider = "lab"
[model_providers.lab]
name = "lab"
base_url = "http://127.0.0.1:8970/v1"
wire_api = "responses"
P
"#;

pub(in crate::conformance) const ROWS: &[Row] = &[
    row(Agents, "codex", "codex answers one prompt")
        .profile("codex")
        .needs(&[Agent("codex"), System("python3", "python3")])
        .versions("codex --version")
        .setup(MODEL)
        .run("python3 model.py & p=$!; sleep 1; mkdir -p ch; [ -f ~/.codex/config.toml ] || export CODEX_HOME=$PWD/ch; codex exec --skip-git-repo-check -c model_provider=lab -c model=lab -c 'model_providers.lab={name=\"lab\",base_url=\"http://127.0.0.1:8970/v1\",wire_api=\"responses\"}' hi > out 2>err < /dev/null || { tail -5 err; exit 1; }; kill $p; grep -q 'hello from the lab' out"),
    row(Agents, "claude", "claude answers one prompt")
        .profile("claude")
        .needs(&[Agent("claude"), System("python3", "python3")])
        .versions("claude --version")
        .setup(MODEL)
        .run("python3 model.py & p=$!; sleep 1; ANTHROPIC_BASE_URL=http://127.0.0.1:8970 ANTHROPIC_API_KEY=lab CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 claude -p hi > out 2>err < /dev/null || { tail -5 err out; exit 1; }; kill $p; grep -q 'hello from the lab' out"),
    row(Agents, "gemini-starts", "the Gemini CLI starts")
        .needs(&[System("node", "nodejs"), Npm(&["@google/gemini-cli"])])
        .versions("echo gemini-cli $(gemini --version)")
        .run("gemini --version"),
    row(Agents, "qwen-starts", "Qwen Code starts")
        .needs(&[System("node", "nodejs"), Npm(&["@qwen-code/qwen-code"])])
        .versions("echo qwen-code $(qwen --version)")
        .run("qwen --version"),
    row(Agents, "copilot-starts", "the Copilot CLI starts")
        .needs(&[System("node", "nodejs"), Npm(&["@github/copilot"])])
        .versions("copilot --version | head -1")
        .run("copilot --version"),
];
