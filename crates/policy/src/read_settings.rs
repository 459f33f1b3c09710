//! Everything other than the rules: read file by file, from the most trusted layer to the least,
//! and merged on the way, so that each loosening is reported at its own line.

use std::collections::BTreeMap;

use stockade_types::{ByteSize, Span, WorkspaceMode};

use crate::{
    AgentSettings, Debuggers, EnvironmentSettings, FilesystemSettings, Limits, Login, McpSettings,
    NetworkSettings, OnDefinition, Origin, OwnQuestionsOff, PresetHooks, PresetSettings,
    PresetTelemetry, ProcessSettings, RecordSettings, RecordSync, RecordTerminal, SessionsSettings,
    Settings, Sourced, StateDir, WorkspaceSettings,
    fields::{
        At, Fields, File, all_sourced, as_organisation_says, ceiling, shown, sourced, tighten_value,
    },
    pattern::Glob,
    pins, read_network, read_record, read_review, read_reviewer, read_workspace as workspace,
    view_path::{plain, view_path},
};

pub(crate) const TABLES: [&str; 16] = [
    "agent",
    "workspace",
    "filesystem",
    "environment",
    "limits",
    "network",
    "process",
    "preset",
    "publish",
    "record",
    "mcp",
    "sessions",
    "stages",
    "break_glass",
    "reviewer",
    "require",
];
const DEBUGGERS: [(&str, Debuggers); 3] = [
    ("none", Debuggers::None),
    ("own", Debuggers::Own),
    ("all", Debuggers::All),
];

/// The words for what happens to a definition that is not known.
const ON_DEFINITION: [(&str, OnDefinition); 3] = [
    ("record", OnDefinition::Record),
    ("ask", OnDefinition::Ask),
    ("deny", OnDefinition::Deny),
];

/// Returns the values that apply if no file sets any.
pub(crate) fn defaults() -> Settings {
    Settings {
        workspace: WorkspaceSettings {
            mode: default(WorkspaceMode::Direct),
            protect: Vec::new(),
            protect_outside_packages: Vec::new(),
            packages: Vec::new(),
            unprotect: Vec::new(),
            protect_except: Vec::new(),
            runs_later: Vec::new(),
        },
        filesystem: FilesystemSettings::default(),
        environment: EnvironmentSettings::default(),
        limits: Limits::default(),
        network: NetworkSettings {
            hosts: BTreeMap::new(),
            services: BTreeMap::new(),
            sockets: BTreeMap::new(),
            publish: Vec::new(),
            publish_listening: Vec::new(),
            may_publish: default(true),
            proxy: None,
            proxy_auth_file: None,
            inside_proxy: None,
            inside_proxy_variables: default(false),
            upstream_ca: Vec::new(),
        },
        process: ProcessSettings {
            debuggers: default(Debuggers::Own),
            namespaces: default(false),
        },
        preset: PresetSettings::default(),
        agent: AgentSettings {
            hooks: default(true),
        },
        record: RecordSettings {
            journal_bytes_max: None,
            denials_bytes_max: None,
            sync: default(RecordSync::Second),
            content: None,
            otlp: default(true),
            terminal: default(RecordTerminal::Off),
        },
        sessions: SessionsSettings::default(),
        mcp: McpSettings {
            changed: default(OnDefinition::Ask),
            added: default(OnDefinition::Record),
        },
        stages: BTreeMap::new(),
        break_glass: None,
        reviewer: None,
        require: BTreeMap::new(),
    }
}

fn default<T>(value: T) -> Sourced<T> {
    Sourced {
        value,
        origin: Origin::Builtin,
        source: "default".to_owned(),
    }
}

/// Reads one file into the settings of the layers above it.
pub(crate) fn read(file: &mut File<'_>, top: &Fields<'_>, settings: &mut Settings) {
    if let Some(table) = top.table(file, "workspace", &workspace::KEYS) {
        workspace::read(file, &table, settings);
    }
    if let Some(table) = top.table(file, "filesystem", &FILESYSTEM) {
        filesystem(file, &table, &mut settings.filesystem);
    }
    if let Some(table) = top.table(file, "environment", &["pass", "set"]) {
        environment(file, &table, &mut settings.environment);
    }
    let limits = [
        "memory",
        "processes",
        "cpus",
        "disk",
        "open_files",
        "watches",
        "wall_time",
    ];
    if let Some(table) = top.table(file, "limits", &limits) {
        self::limits(file, &table, &mut settings.limits);
    }
    read_record::read(file, top, &mut settings.record);
    if let Some(table) = top.table(file, "agent", &["hooks"]) {
        let hooks = table.flag(file, "hooks");
        if let Some(new) = as_organisation_says(file, hooks, Some(&settings.agent.hooks)) {
            settings.agent.hooks = new;
        }
    }
    if let Some(table) = top.table(file, "mcp", &["changed", "added"]) {
        let looser = |new: &OnDefinition, old: &OnDefinition| new < old;
        let changed = table.word(file, "changed", &ON_DEFINITION);
        tighten_value(file, changed, &mut settings.mcp.changed, looser);
        let added = table.word(file, "added", &ON_DEFINITION);
        tighten_value(file, added, &mut settings.mcp.added, looser);
    }
    let keep = ["keep_for", "keep_bytes", "keep_count"];
    if let Some(table) = top.table(file, "sessions", &keep) {
        sessions(file, &table, &mut settings.sessions);
    }
    read_network::read(file, top, &mut settings.network);
    if let Some(table) = top.table(file, "process", &["debuggers", "namespaces"]) {
        let looser = |new: &bool, old: &bool| *new && !*old;
        let process = &mut settings.process;
        let debuggers = table.word(file, "debuggers", &DEBUGGERS);
        tighten_value(file, debuggers, &mut process.debuggers, |new, old| {
            new > old
        });
        let namespaces = table.flag(file, "namespaces");
        tighten_value(file, namespaces, &mut process.namespaces, looser);
    }
    let preset = [
        "commands",
        "packages",
        "arguments",
        "own_questions_off",
        "hooks",
        "telemetry",
    ];
    if let Some(table) = top.table(file, "preset", &preset) {
        settings.preset = self::preset(file, &table);
    }
    read_review::tables(file, top, settings);
    read_reviewer::read(file, top, settings);
    if let Some(table) = top.open_table(file, "require") {
        pins::read(file, &table, settings);
    }
}

fn preset(file: &mut File<'_>, table: &Fields<'_>) -> PresetSettings {
    let mut own_questions_off = OwnQuestionsOff::default();
    if let Some(off) = table.table(file, "own_questions_off", &["arguments", "environment"]) {
        own_questions_off.arguments = texts(off.texts(file, "arguments"));
        own_questions_off.environment = variables(file, &off);
    }
    let mut telemetry = PresetTelemetry::default();
    let known = ["arguments", "environment", "configured_by", "configured_in"];
    if let Some(own) = table.table(file, "telemetry", &known) {
        telemetry.arguments = texts(own.texts(file, "arguments"));
        telemetry.environment = variables(file, &own);
        telemetry.configured_by = texts(own.texts(file, "configured_by"));
        telemetry.configured_in = texts(own.texts(file, "configured_in"));
    }
    let hooks = table.table(file, "hooks", &["arguments", "environment", "file"]);
    let hooks = hooks.map(|hooks| PresetHooks {
        arguments: texts(hooks.texts(file, "arguments")),
        environment: variables(file, &hooks),
        file: hooks.text(file, "file").map(|text| text.value),
    });
    PresetSettings {
        name: preset_name(file),
        commands: texts(table.texts(file, "commands")),
        packages: texts(table.texts(file, "packages")),
        arguments: texts(table.texts(file, "arguments")),
        own_questions_off,
        hooks,
        telemetry,
    }
}

/// Returns the variables that a part of a preset sets.
fn variables(file: &mut File<'_>, table: &Fields<'_>) -> BTreeMap<String, String> {
    let Some(variables) = table.open_table(file, "environment") else {
        return BTreeMap::new();
    };
    let names = variables.keys().into_iter();
    let values =
        names.filter_map(|name| Some((name.to_owned(), variables.text(file, name)?.value)));
    values.collect()
}

/// Returns the name of a preset: for the user's own file the file's name, without the parts of a
/// path.
fn preset_name(file: &File<'_>) -> String {
    let name = &file.source.name;
    if file.source.origin == Origin::Builtin {
        return name.clone();
    }
    let base = name.rsplit('/').next().unwrap_or(name);
    let stem = base.strip_suffix(".toml").unwrap_or(base);
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    stem.chars().map(plain).collect()
}

/// Reads how long records are kept. Only layers that own the records may set this: a policy for one
/// session must not remove the records of others.
fn sessions(file: &mut File<'_>, table: &Fields<'_>, settings: &mut SessionsSettings) {
    if !matches!(file.source.origin, Origin::Organisation | Origin::User) {
        let message = "only the policies of the organisation and the user say how long records stay; \
                       remove the table";
        file.problem(&table.span(), table.path(), message);
        return;
    }
    let keep_for = table.parsed::<Span>(file, "keep_for");
    let keep_bytes = table.parsed::<ByteSize>(file, "keep_bytes");
    let keep_count = table.count(file, "keep_count");
    first(file, keep_for, &mut settings.keep_for);
    first(file, keep_bytes, &mut settings.keep_bytes);
    first(file, keep_count, &mut settings.keep_count);
}

/// Sets a value that no layer above has set.
fn first<T>(file: &File<'_>, new: Option<At<T>>, old: &mut Option<Sourced<T>>) {
    if let Some(at) = new
        && old.is_none()
    {
        *old = Some(sourced(file, at));
    }
}

/// Reads an entry that is copied into a state directory.
fn seed(text: &str) -> Result<String, String> {
    let (root, path) = match text.strip_prefix("~/") {
        Some(path) => ("~/", path),
        None => ("", text),
    };
    let inside = !path.starts_with('/') && path.split('/').all(|part| part != "..");
    let plain = plain(path);
    if inside && !plain.is_empty() {
        return Ok(format!("{root}{plain}"));
    }
    Err(format!(
        "`{}` must be a path inside the directory, or `~/…` for one that is kept there",
        shown(text)
    ))
}

/// Keys of `[filesystem]`.
const FILESYSTEM: [&str; 8] = [
    "read",
    "write",
    "hide",
    "state",
    "caches",
    "caches_kept",
    "caches_bytes_max",
    "moved_by",
];

fn filesystem(file: &mut File<'_>, table: &Fields<'_>, settings: &mut FilesystemSettings) {
    caches_kept(file, table, settings);
    let bytes = table.parsed::<ByteSize>(file, "caches_bytes_max");
    ceiling(file, bytes, &mut settings.caches_bytes_max);
    moved_by(file, table, settings);
    for key in ["read", "write", "caches", "hide"] {
        let hidden = key == "hide";
        let list = table.list(file, key, view_path);
        for at in list.into_iter().flatten() {
            if let Some(hide) = settings.hide.iter().find(|hide| {
                !hidden && hide.origin != file.source.origin && is_within(&at.value, &hide.value)
            }) {
                let message = format!(
                    "`{}` is hidden by the {} layer ({}); a lower layer cannot show it",
                    at.value, hide.origin, hide.source
                );
                file.problem(&at.span, &at.field, message);
                continue;
            }
            let item = sourced(file, at);
            match key {
                "read" => settings.read.push(item),
                "write" => settings.write.push(item),
                "caches" => settings.caches.push(item),
                _ => settings.hide.push(item),
            }
        }
    }
    let keys = [
        "path",
        "path_from",
        "seed",
        "merged",
        "instructions",
        "logins",
    ];
    for fields in table.tables(file, "state", &keys) {
        let path = fields.text(file, "path");
        let path_from = fields.text(file, "path_from").map(|at| at.value);
        let seed = texts(fields.list(file, "seed", seed));
        let merged = texts(fields.list(file, "merged", file_name));
        let instructions = named_file(file, &fields, "instructions");
        let logins = logins(file, &fields);
        let Some(path) = path else {
            if !fields.has("path") {
                let message = "missing; where the agent looks for it, for example \"~/.agent\"";
                file.problem(&fields.span(), &fields.field("path"), message);
            }
            continue;
        };
        match view_path(&path.value) {
            Ok(text) => {
                let value = StateDir {
                    path: text,
                    path_from,
                    seed,
                    merged,
                    instructions,
                    logins,
                };
                let at = At {
                    value,
                    span: fields.span(),
                    field: fields.path().to_owned().into(),
                };
                settings.state.push(sourced(file, at));
            }
            Err(message) => file.problem(&path.span, &path.field, message),
        }
    }
}

/// Reads the name of a file directly in a state directory.
fn file_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(['/', '\0']) || text == "." || text == ".." {
        return Err(format!(
            "`{}` must be the name of a file in the directory",
            shown(text)
        ));
    }
    Ok(text.to_owned())
}

fn named_file(file: &mut File<'_>, fields: &Fields<'_>, key: &str) -> Option<String> {
    let at = fields.text(file, key)?;
    match file_name(&at.value) {
        Ok(name) => Some(name),
        Err(message) => {
            file.problem(&at.span, &at.field, message);
            None
        }
    }
}

fn logins(file: &mut File<'_>, fields: &Fields<'_>) -> Vec<Login> {
    let tables = fields.tables(file, "logins", &["file", "tokens"]);
    let mut logins = Vec::new();
    for login in tables {
        let name = named_file(file, &login, "file");
        let tokens = texts(login.texts(file, "tokens"));
        match name {
            Some(name) if !tokens.is_empty() => logins.push(Login { file: name, tokens }),
            Some(_) | None => {
                let message = "expected `file`, and in `tokens` the fields that a refresh changes";
                file.problem(&login.span(), login.path(), message);
            }
        }
    }
    logins
}

fn texts(list: Option<Vec<At<String>>>) -> Vec<String> {
    list.into_iter().flatten().map(|at| at.value).collect()
}

fn caches_kept(file: &mut File<'_>, table: &Fields<'_>, settings: &mut FilesystemSettings) {
    let Some(kept) = table.flag(file, "caches_kept") else {
        return;
    };
    let before = settings.caches_kept.take();
    let mut now = before.unwrap_or_else(|| default(true));
    // Kept content can carry something to the next session, so keeping it is the looser value.
    tighten_value(file, Some(kept), &mut now, |new, old| *new && !*old);
    settings.caches_kept = Some(now);
}

fn moved_by(file: &mut File<'_>, table: &Fields<'_>, settings: &mut FilesystemSettings) {
    let Some(moved) = table.open_table(file, "moved_by") else {
        return;
    };
    for name in moved.keys() {
        let Some(at) = moved.text(file, name) else {
            continue;
        };
        let is_name =
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let checked = if is_name {
            view_path(&at.value)
        } else {
            Err(format!("`{}` is not the name of a variable", shown(name)))
        };
        match checked {
            Ok(value) => {
                let item = sourced(file, At { value, ..at });
                settings.moved_by.insert(name.to_owned(), item);
            }
            Err(message) => file.problem(&at.span, &at.field, message),
        }
    }
}

fn is_within(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn environment(file: &mut File<'_>, table: &Fields<'_>, settings: &mut EnvironmentSettings) {
    let pass = table.list(file, "pass", |text| {
        let glob = Glob::parse(text).map_err(|error| error.to_string())?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "_*{},".contains(c);
        if glob.is_any() {
            return Err("`*` would pass everything, secrets too; name the variables".to_owned());
        }
        if text.is_empty() || !text.chars().all(plain) {
            return Err(format!("`{}` is not the name of a variable", shown(text)));
        }
        Ok(text.to_owned())
    });
    let pass = all_sourced(file, pass);
    settings.pass.extend(pass);
    let Some(set) = table.open_table(file, "set") else {
        return;
    };
    for key in set.keys() {
        let Some(at) = set.text(file, key) else {
            continue;
        };
        if key.is_empty() || key.contains(['=', '\0']) || at.value.contains('\0') {
            file.problem(
                &at.span,
                &at.field,
                "a name without `=`, and no NUL byte in either",
            );
            continue;
        }
        let fixed = settings
            .set
            .get(key)
            .filter(|old| old.origin != Origin::Builtin && old.value != at.value);
        if let Some(old) = fixed {
            let message = format!("already set by the {} layer ({})", old.origin, old.source);
            file.problem(&at.span, &at.field, message);
            continue;
        }
        let item = sourced(file, at);
        settings.set.insert(key.to_owned(), item);
    }
}

fn limits(file: &mut File<'_>, table: &Fields<'_>, limits: &mut Limits) {
    let memory = table.parsed::<ByteSize>(file, "memory");
    ceiling(file, memory, &mut limits.memory);
    let processes = table.count(file, "processes");
    ceiling(file, processes, &mut limits.processes);
    let cpus = table.amount(file, "cpus");
    ceiling(file, cpus, &mut limits.cpus);
    let disk = table.parsed::<ByteSize>(file, "disk");
    ceiling(file, disk, &mut limits.disk);
    let open_files = table.count(file, "open_files");
    ceiling(file, open_files, &mut limits.open_files);
    let watches = table.count(file, "watches");
    ceiling(file, watches, &mut limits.watches);
    let wall_time = table.parsed::<Span>(file, "wall_time");
    ceiling(file, wall_time, &mut limits.wall_time);
}
