//! The forms of answers, in short: `name:type` for each member. A type is `string`, `integer`, `boolean`,
//! `any`, another form, or one of these in brackets for a list; `?` says that the member can be missing or
//! null. A test compares them with what the server answers.

use serde_json::{Map, Value, json};

/// Each form with its members.
const FORMS: &[(&str, &str)] = &[
    (
        "Session",
        "id:string node:string machine:string person:string? command:[string] workspace:string tier:string \
         preset:string live:boolean started:integer? ended:integer? events:integer asked:integer \
         denials:integer weaknesses:[string] closed:boolean fault:string? updated:integer",
    ),
    ("Sessions", "sessions:[Session] next:integer?"),
    (
        "Row",
        "depth:integer sort:string seq:integer at_ns:integer text:string withheld:boolean? detail:string? \
         about:string? verdict:string? facts:string? below:integer",
    ),
    (
        "Host",
        "host:string connections:integer failed:integer bytes_out:integer bytes_in:integer",
    ),
    ("Changed", "path:string times:integer"),
    ("Strip", "count:integer denied:integer asked:integer"),
    ("Wish", "sort:string? verdict:string? text:string?"),
    ("Reading", "may:string reason:string? not_after:integer?"),
    (
        "Timeline",
        "+Session path:[Row] rows:[Row] previous:integer? next:integer? found:integer at:integer? nodes:integer \
         more:integer wish:Wish strip:[Strip] network:[Host] files:[Changed] files_more:integer \
         content:Reading may_stop:boolean",
    ),
    (
        "Line",
        "seq:integer at_ns:integer kind:string text:string? verdict:string? rule:string? decision:integer?",
    ),
    (
        "Events",
        "+Session timeline:[Line] after:integer next:integer?",
    ),
    (
        "Event",
        "node:string session:string machine:string events:integer event:any withheld:boolean",
    ),
    (
        "Rule",
        "id:string source:string conditions:string reason:string",
    ),
    (
        "Answer",
        "approval:string verdict:string scope:string? by:string reason:string?",
    ),
    (
        "Now",
        "serial:integer verdict:string rule:string? reason:string",
    ),
    ("Draft", "text:string words:string risk:string? test:string"),
    (
        "Decision",
        "node:string session:string machine:string seq:integer kind:string at:integer decision:any rule:Rule? \
         answer:Answer? now:Now? draft:Draft?",
    ),
    (
        "Flow",
        "agent:string program:string host:string port:integer verdict:string rule:string sessions:integer \
         decisions:integer connections:integer bytes_out:integer bytes_in:integer first:integer last:integer \
         new:boolean node:string session:string seq:integer",
    ),
    ("Chosen", "host:string port:integer draft:Draft?"),
    (
        "Flows",
        "days:integer host:string flows:[Flow] more:boolean chosen:Chosen?",
    ),
    (
        "Finding",
        "id:string severity:string kind:string title:string detail:string at:integer node:string machine:string \
         session:string? seq:integer? state:string assignee:string? note:string by:string? settled:integer?",
    ),
    (
        "Findings",
        "which:string findings:[Finding] more:boolean chosen:integer?",
    ),
    (
        "Found",
        "node:string session:string machine:string seq:integer at:integer kind:string request:string? \
         verdict:string? rule:string? decision:integer? text:string",
    ),
    (
        "Search",
        "query:string mistake:string? events:[Found] next:string?",
    ),
    (
        "Day",
        "day:integer node:string machine:string sessions:integer events:integer ended:integer running:integer \
         unfinished:integer broken:integer lost:integer",
    ),
    (
        "Fault",
        "node:string session:string machine:string started:integer? what:string broken:boolean",
    ),
    (
        "Integrity",
        "days:[Day] faults:[Fault] more:boolean next:integer?",
    ),
    (
        "Verified",
        "verdict:string events:integer faults:[string] receipted:boolean",
    ),
    (
        "Record",
        "node:string session:string machine:string events:integer bytes:integer chain:string closed:boolean \
         fault:string? verified:Verified?",
    ),
    ("Hour", "denied:integer asked:integer"),
    (
        "NewHost",
        "host:string first:integer verdict:string sessions:integer",
    ),
    (
        "Overview",
        "org:string waiting:integer running:integer? broken:integer? machines:integer? connected:integer? \
         failed:integer? hours:[Hour]? new_hosts:[NewHost]?",
    ),
    (
        "Passkey",
        "id:string label:string created:integer last_used:integer?",
    ),
    (
        "OwnSession",
        "node:string session:string words:string live:boolean updated:integer",
    ),
    (
        "ContentRead",
        "by:string reason:string node:string session:string at:integer",
    ),
    ("TeamRole", "team:string name:string role:string"),
    (
        "Terminal",
        "id:string machine:string address:string created:integer expires:integer last_used:integer",
    ),
    (
        "ApproverKey",
        "id:string user:string person:string key:string label:string created:integer approved:integer? \
         approved_by:string?",
    ),
    (
        "Me",
        "id:string name:string roles:[string] team_roles:[TeamRole] signed_in_by:string signed_in:integer passkeys:[Passkey] \
         has_password:boolean has_codes:boolean terminals:[Terminal] keys:[ApproverKey] sessions:[OwnSession] content_reads:[ContentRead]",
    ),
    ("Relay", "server:string from:string"),
    (
        "Channel",
        "id:string name:string form:string to:string kinds:[string] roles:[string] details:boolean private:boolean \
         created:integer waiting:integer dead:integer skipped:integer sent:integer? error:string?",
    ),
    (
        "Dead",
        "id:string channel:string kind:string page:string at:integer ended:integer attempts:integer error:string",
    ),
    (
        "Settings",
        "mail:boolean domains:[string] address:string? relay:Relay? channels:[Channel]? dead:[Dead]?",
    ),
];

/// What is answered with which form.
pub(crate) const ANSWERS: &[(&str, &str)] = &[
    ("/api/v1/sessions", "Sessions"),
    ("/api/v1/sessions/{node}/{session}", "Timeline"),
    ("/api/v1/sessions/{node}/{session}/events", "Events"),
    ("/api/v1/sessions/{node}/{session}/events/{seq}", "Event"),
    ("/api/v1/decisions/{node}/{session}/{decision}", "Decision"),
    ("/api/v1/flows", "Flows"),
    ("/api/v1/findings", "Findings"),
    ("/api/v1/search", "Search"),
    ("/api/v1/integrity", "Integrity"),
    ("/api/v1/integrity/{node}/{session}", "Record"),
    ("/api/v1/overview", "Overview"),
    ("/api/v1/me", "Me"),
    ("/api/v1/settings", "Settings"),
];

/// The query of a path: each parameter with what it means.
const QUERIES: &[(&str, &[(&str, &str)])] = &[
    (
        "/sessions",
        &[
            ("state", "`running` or `broken`"),
            ("node", "the id of a machine"),
            (
                "before",
                "only sessions whose records grew last before this, in milliseconds since 1970",
            ),
        ],
    ),
    (
        "/sessions/{node}/{session}",
        &[
            ("at", "the number of an event: what is below it"),
            (
                "from",
                "how many nodes of the first level come before the page",
            ),
            ("kind", "a sort of node"),
            ("verdict", "`allow`, `ask` or `deny`"),
            ("text", "a part of a host, a path or a command"),
        ],
    ),
    (
        "/sessions/{node}/{session}/events",
        &[("after", "the number of the event before the page")],
    ),
    (
        "/flows",
        &[
            ("days", "1, 7, 30 or 90"),
            ("host", "a part of a host"),
            ("draft", "a host of the flows, to draft a rule for"),
            ("port", "its port"),
        ],
    ),
    (
        "/findings",
        &[("which", "`open`, `settled` or `all`"), ("id", "a finding")],
    ),
    (
        "/search",
        &[
            ("q", "what is searched for, in the language of searches"),
            ("after", "where the page begins"),
        ],
    ),
    (
        "/integrity",
        &[("from", "how many rows come before the page")],
    ),
];

/// Returns the form of the answer of a path.
pub(super) fn answer(path: &str) -> Option<Value> {
    let (_, form) = ANSWERS.iter().find(|(of, _)| *of == path)?;
    Some(reference(form))
}

/// Returns the parameters of the query of a path.
pub(super) fn query(path: &str) -> Vec<Value> {
    let page = path.strip_prefix("/api/v1").unwrap_or(path);
    let known = QUERIES.iter().find(|(of, _)| *of == page);
    let parameters = known.map(|(_, parameters)| *parameters).unwrap_or_default();
    let one = |(name, about): &(&str, &str)| {
        json!({"name": name, "in": "query", "required": false, "description": about,
               "schema": {"type": "string"}})
    };
    parameters.iter().map(one).collect()
}

/// Returns all forms.
pub(super) fn all() -> Map<String, Value> {
    let forms = FORMS.iter().map(|(name, members)| {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        add(members, &mut properties, &mut required);
        let form = json!({"type": "object", "properties": properties, "required": required});
        ((*name).to_owned(), form)
    });
    forms.collect()
}

fn add(members: &str, properties: &mut Map<String, Value>, required: &mut Vec<Value>) {
    for member in members.split_whitespace() {
        if let Some(base) = member.strip_prefix('+') {
            let known = FORMS.iter().find(|(name, _)| *name == base);
            add(
                known.map_or("", |(_, members)| members),
                properties,
                required,
            );
        } else if let Some((name, kind)) = member.split_once(':') {
            let (kind, is_needed) = kind
                .strip_suffix('?')
                .map_or((kind, true), |kind| (kind, false));
            if is_needed {
                required.push(name.into());
            }
            properties.insert(name.to_owned(), of(kind, is_needed));
        }
    }
}

fn of(kind: &str, is_needed: bool) -> Value {
    if let Some(item) = kind
        .strip_prefix('[')
        .and_then(|kind| kind.strip_suffix(']'))
    {
        return json!({"type": "array", "items": of(item, true)});
    }
    match (kind, is_needed) {
        ("any", _) => json!({}),
        (plain @ ("string" | "integer" | "boolean"), true) => json!({"type": plain}),
        (plain @ ("string" | "integer" | "boolean"), false) => json!({"type": [plain, "null"]}),
        (form, true) => reference(form),
        (form, false) => json!({"anyOf": [reference(form), {"type": "null"}]}),
    }
}

fn reference(form: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{form}")})
}
