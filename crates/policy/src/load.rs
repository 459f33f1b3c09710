//! All layers to one policy: parse, check, merge, compile, test.

use std::collections::BTreeMap;

use stockade_types::Digest;
use toml::de::DeTable;

use crate::{
    Credential, HostSets, Origin, Policy, Problem, Problems, Settings, Source, SshKey,
    builtin::{builtin, builtin_names},
    canonical::Canonical,
    controls, credential,
    fields::{At, Fields, File, did_you_mean, shown},
    policy::PolicyParts,
    read, read_network, read_settings,
    rule::Rule,
    suite::{self, Expectation},
    warning::dead_names,
};

/// The version of the file format that this program reads.
const SCHEMA: u64 = 1;
/// The pin that leaves host sets empty.
const SETS_PIN: &str = "host_sets";
/// Largest file that is read: a policy of 10,000 rules has about 2 MB.
const FILE_BYTES_MAX: usize = 16 << 20;

/// Checks and merges all layers.
///
/// Builtins that a file names in `extends` are added. Tests (`[tests.NAME]`) of a file are run
/// against its own layer and those of more trust, so that tightening below cannot break them;
/// those of the builtins are part of this crate's own tests.
///
/// # Errors
/// All problems of all files, by file and place.
pub fn load(sources: &[Source], sets: &HostSets) -> Result<Policy, Problems> {
    let mut problems = Vec::new();
    let resolved = resolve(sources, &mut problems);
    let mut settings = read_settings::defaults();
    let mut rules = controls::controls();
    let (mut tests, mut warnings) = (Vec::new(), Vec::new());
    let (mut credentials, mut ssh_keys) = (Vec::new(), Vec::new());
    let off = resolved.iter().any(switches_sets_off);
    let nothing = HostSets::default();
    for source in &resolved {
        let mut file = File::new(source);
        let is_off = off && source.origin != Origin::Organisation;
        let sets = if is_off { &nothing } else { sets };
        let read = read_file(
            &mut file,
            sets,
            (&mut settings, (&mut credentials, &mut ssh_keys)),
        );
        note_reused_ids(&rules, &read.rules, &mut problems);
        rules.extend(read.rules);
        tests.extend(read.tests);
        problems.append(&mut file.problems);
        warnings.append(&mut file.warnings);
    }
    rules.extend(read_network::service_rules(&settings.network));
    if !settings.agent.hooks.value {
        settings.preset.hooks = None;
    }
    let parts = PolicyParts {
        settings,
        credentials,
        ssh_keys,
        sources: sources.to_vec(),
        host_sets: sets.clone(),
        revision: revision(&resolved, sets),
        warnings,
    };
    problems.extend(pointless(&rules, &parts));
    let policy = Policy::new(parts, rules);
    match policy {
        Ok(policy) if problems.is_empty() => {
            let failed = suite::run(&policy, &tests);
            if failed.is_empty() {
                Ok(policy)
            } else {
                Err(Problems(failed))
            }
        }
        Ok(_) => {
            problems.sort();
            problems.dedup();
            Err(Problems(problems))
        }
        Err(error) => {
            problems.push(Problem {
                file: "policy".to_owned(),
                line: 1,
                column: 1,
                field: String::new(),
                message: format!("the decision engine could not be set up: {error}"),
            });
            Err(Problems(problems))
        }
    }
}

/// Says which names of a policy lead nowhere.
fn pointless(rules: &[Rule], parts: &PolicyParts) -> Vec<Problem> {
    let dead = dead_names(rules, &parts.settings).into_iter();
    let dead = dead.map(|(place, message)| (place, "hosts", message));
    let strays = credential::strays(&parts.credentials, &parts.settings);
    let strays = strays
        .into_iter()
        .map(|(place, message)| (place, "login.file", message));
    let problem = |(place, field, message): (String, &str, String)| {
        let (file, line) = place.rsplit_once(':').unwrap_or((&place, "1"));
        Problem {
            file: file.to_owned(),
            line: line.parse().unwrap_or(1),
            column: 1,
            field: field.to_owned(),
            message,
        }
    };
    let unkept = without_hooks(rules, &parts.settings);
    dead.chain(strays).chain(unkept).map(problem).collect()
}

/// Names the rules that hooks alone keep, if there are to be none: a session must not run without what
/// its policy says.
fn without_hooks(
    rules: &[Rule],
    settings: &Settings,
) -> impl Iterator<Item = (String, &'static str, String)> {
    let hooks = &settings.agent.hooks;
    let rules = rules
        .iter()
        .filter(|rule| !hooks.value && rule.restricts_tools());
    rules.map(|rule| {
        let message = format!(
            "rule `{}` is about tool calls, which only hooks keep, and `agent.hooks = false` ({}) turns \
             them off; remove one of the two",
            rule.id, hooks.source
        );
        (rule.place.clone(), "what", message)
    })
}

/// What one file holds besides settings.
struct FileRead {
    rules: Vec<Rule>,
    tests: Vec<Expectation>,
}

fn read_file(
    file: &mut File<'_>,
    sets: &HostSets,
    (settings, credentials): (&mut Settings, (&mut Vec<Credential>, &mut Vec<SshKey>)),
) -> FileRead {
    let nothing = FileRead {
        rules: Vec::new(),
        tests: Vec::new(),
    };
    if file.source.text.len() > FILE_BYTES_MAX {
        let message = format!("larger than {FILE_BYTES_MAX} bytes; split the policy");
        file.problem(&(0..0), "", message);
        return nothing;
    }
    let text = file.source.text.as_str();
    let (table, errors) = DeTable::parse_recoverable(text);
    let broken = !errors.is_empty();
    for error in errors {
        file.problem(
            &error.span().unwrap_or(0..0),
            "",
            error.message().to_owned(),
        );
    }
    let known: Vec<&str> = [
        "schema",
        "extends",
        "allow",
        "ask",
        "deny",
        "cedar",
        "credential",
        "login",
        "tests",
    ]
    .into_iter()
    .chain(read_settings::TABLES)
    .collect();
    let top = Fields::new(file, "", 0..0, table.get_ref(), &known);
    if top.has("schema") {
        if let Some(schema) = top.count(file, "schema").filter(|at| at.value != SCHEMA) {
            let message = format!(
                "`{}` is not a version this program reads; write 1",
                schema.value
            );
            file.problem(&schema.span, &schema.field, message);
        }
    } else if !broken {
        file.problem(
            &(0..0),
            "schema",
            "missing; begin the file with `schema = 1`",
        );
    }
    read_settings::read(file, &top, settings);
    let (credentials, ssh_keys) = credentials;
    credential::read(file, &top, sets, (credentials, ssh_keys));
    credential::read_logins(file, &top, sets, credentials);
    let rules = read::rules(file, &top, (sets, settings));
    // Other layers may tighten a builtin, so its tests are run by the tests of this crate alone.
    let tests = match file.source.origin {
        Origin::Builtin => Vec::new(),
        Origin::Organisation | Origin::User | Origin::Session => suite::read(file, &top),
    };
    FileRead { rules, tests }
}

/// Notes rule ids that two files of one layer share; another layer may have the same.
fn note_reused_ids(known: &[Rule], new: &[Rule], problems: &mut Vec<Problem>) {
    for rule in new {
        let twin = known
            .iter()
            .find(|old| old.id == rule.id && old.origin == rule.origin);
        let Some(twin) = twin else { continue };
        let (file, line) = rule.place.rsplit_once(':').unwrap_or((&rule.place, "1"));
        problems.push(Problem {
            file: file.to_owned(),
            line: line.parse().unwrap_or(1),
            column: 1,
            field: format!("{}.id", rule.effect),
            message: format!("`{}` is already used at {}", rule.id, twin.place),
        });
    }
}

/// Returns all files in the order they are read: builtins first, then from the most trusted layer
/// to the least, with builtins that are extended before those that extend them.
fn resolve(sources: &[Source], problems: &mut Vec<Problem>) -> Vec<Source> {
    let mut resolved: Vec<Source> = Vec::new();
    for source in sources {
        // More builtins than there are would be a cycle among our own files.
        add(source, &mut resolved, problems, builtin_names().len() + 1);
    }
    resolved.sort_by_key(|source| match source.origin {
        Origin::Builtin => 0,
        Origin::Organisation => 1,
        Origin::User => 2,
        Origin::Session => 3,
    });
    resolved
}

fn add(source: &Source, resolved: &mut Vec<Source>, problems: &mut Vec<Problem>, depth: usize) {
    let known = |resolved: &[Source], name: &str| {
        resolved
            .iter()
            .any(|old| old.origin == Origin::Builtin && old.name == name)
    };
    if source.origin == Origin::Builtin && known(resolved, &source.name) {
        return;
    }
    let mut file = File::new(source);
    for name in extends(&mut file) {
        let bare = name.value.strip_prefix("builtin:").unwrap_or_default();
        let Some(text) = builtin(bare) else {
            let message = format!(
                "`{}` is not a preset; only `builtin:NAME` can be extended{}",
                shown(&name.value),
                did_you_mean(bare, builtin_names())
            );
            file.problem(&name.span, &name.field, message);
            continue;
        };
        if depth > 0 && !known(resolved, bare) {
            let base = Source {
                origin: Origin::Builtin,
                name: bare.to_owned(),
                text: text.to_owned(),
            };
            add(&base, resolved, problems, depth - 1);
        }
    }
    problems.append(&mut file.problems);
    resolved.push(source.clone());
}

/// Reads `extends` alone; the rest of the file is read in its turn.
fn extends(file: &mut File<'_>) -> Vec<At<String>> {
    if !file.source.text.contains("extends") || file.source.text.len() > FILE_BYTES_MAX {
        return Vec::new();
    }
    let (table, _) = DeTable::parse_recoverable(&file.source.text);
    let top = Fields::open("", 0..0, table.get_ref());
    top.texts(file, "extends").unwrap_or_default()
}

/// Tells whether the organisation leaves the host sets of all other layers empty. Read before the rest,
/// since the layers of less trust are read first.
fn switches_sets_off(source: &Source) -> bool {
    if source.origin != Origin::Organisation || source.text.len() > FILE_BYTES_MAX {
        return false;
    }
    let (table, _) = DeTable::parse_recoverable(&source.text);
    let require = table.get_ref().get("require");
    let require = require.and_then(|value| value.get_ref().as_table());
    require.is_some_and(|require| require.contains_key(SETS_PIN))
}

/// Returns the digest of what decides: layer and text of each file, and the host sets.
fn revision(resolved: &[Source], sets: &HostSets) -> Digest {
    let mut hash = Canonical::new(b"stockade policy 1");
    for source in resolved {
        hash.field(source.origin.as_str().as_bytes())
            .field(source.text.as_bytes());
    }
    let sorted: BTreeMap<_, _> = sets.0.iter().collect();
    for (name, hosts) in sorted {
        hash.field(b"set").field(name.as_bytes());
        for host in hosts {
            hash.field(host.to_string().as_bytes());
        }
    }
    hash.finish()
}
