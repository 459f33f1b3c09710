//! `stockade policy show`: the policy that a run would have.

use std::fmt::{Display, Write as _};

use stockade_policy::{
    BreakGlass, FilesystemSettings, NetworkSettings, Policy, Review, Settings, Sourced, Stage,
    WorkspaceSettings, looks_secret,
};

use stockade_types::{Span, ignored};

use super::effective;
use crate::{
    exit::Exit,
    human::{safe, safe_lines},
    layers::LayerArgs,
    output::Output,
};

/// Show the settings and rules that a run would have.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  stockade policy show --origin\n  \
    stockade policy show --profile codex --cedar")]
pub(crate) struct Args {
    #[command(flatten)]
    layers: LayerArgs,
    /// Show the layer and line of each value
    #[arg(long)]
    origin: bool,
    /// Print the Cedar text that decides
    #[arg(long, conflicts_with_all = ["origin", "json"])]
    cedar: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Shown {
    revision: stockade_types::Digest,
    settings: Settings,
    credentials: Vec<stockade_policy::ListedCredential>,
    rules: Vec<stockade_policy::ListedRule>,
}

/// Prints the policy.
///
/// # Errors
/// When it cannot be loaded or printed.
pub(crate) fn run(args: &Args, out: &mut Output) -> anyhow::Result<Exit> {
    let policy = effective(&args.layers)?;
    if args.cedar {
        out.raw(safe_lines(&policy.to_cedar()))?;
    } else if args.json {
        out.json(&Shown {
            revision: policy.revision(),
            settings: masked(policy.settings()),
            credentials: policy.listed_credentials(),
            rules: policy.rules(),
        })?;
    } else {
        let mut lines = Lines {
            origin: args.origin,
            section: "",
            out,
        };
        settings(&masked(policy.settings()), &mut lines)?;
        credentials(&policy, &mut lines)?;
        rules(&policy, &mut lines)?;
        lines
            .out
            .line(format_args!("\nrevision {}", policy.revision()))?;
    }
    Ok(Exit::Yes)
}

/// Hides the values of variables that look like secrets.
fn masked(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    for (name, value) in &mut settings.environment.set {
        if looks_secret(name) {
            "<secret>".clone_into(&mut value.value);
        }
    }
    settings
}

/// Lines under headings.
struct Lines<'o> {
    origin: bool,
    section: &'static str,
    out: &'o mut Output,
}

impl Lines<'_> {
    fn put<T>(
        &mut self,
        section: &'static str,
        text: impl Display,
        of: &Sourced<T>,
    ) -> anyhow::Result<()> {
        if self.section != section {
            let gap = if self.section.is_empty() { "" } else { "\n" };
            self.out.line(format_args!("{gap}[{section}]"))?;
            self.section = section;
        }
        let text = safe(&text.to_string());
        if self.origin {
            let source = safe(&of.source);
            self.out
                .line(format_args!("  {text}  ← {} {source}", of.origin))
        } else {
            self.out.line(format_args!("  {text}"))
        }
    }

    fn all(
        &mut self,
        section: &'static str,
        key: &str,
        items: &[Sourced<impl Display>],
    ) -> anyhow::Result<()> {
        items
            .iter()
            .try_for_each(|item| self.put(section, format_args!("{key} {}", item.value), item))
    }
}

fn network(network: &NetworkSettings, lines: &mut Lines<'_>) -> anyhow::Result<()> {
    for (name, address) in &network.hosts {
        let text = format!("{name} is {}", address.value);
        lines.put("network", text, address)?;
    }
    for (name, address) in &network.services {
        let text = format!("service {name} is {}", address.value);
        lines.put("network", text, address)?;
    }
    for (inside, outside) in &network.sockets {
        let text = format!("socket {inside} is {}", outside.value);
        lines.put("network", text, outside)?;
    }
    for published in &network.publish {
        lines.put(
            "network",
            format_args!("publish {}", published.value),
            published,
        )?;
    }
    for waiting in &network.publish_listening {
        let text = format!("publish {} when a program listens on it", waiting.value);
        lines.put("network", text, waiting)?;
    }
    let may = &network.may_publish;
    if !may.value {
        lines.put("network", "publish = false", may)?;
    }
    if let Some(proxy) = &network.proxy {
        lines.put("network", format_args!("proxy = {}", proxy.value), proxy)?;
    }
    if let Some(file) = &network.proxy_auth_file {
        lines.put(
            "network",
            format_args!("proxy_auth_file = {}", file.value),
            file,
        )?;
    }
    if let Some(port) = &network.inside_proxy {
        lines.put(
            "network",
            format_args!("inside_proxy = {}", port.value),
            port,
        )?;
        let variables = &network.inside_proxy_variables;
        let text = format!("inside_proxy_variables = {}", variables.value);
        lines.put("network", text, variables)?;
    }
    for file in &network.upstream_ca {
        let text = format!("upstream_ca += {}", file.value);
        lines.put("network", text, file)?;
    }
    Ok(())
}

/// Prints where credentials come from and which requests they are for; nobody here has their values.
fn credentials(policy: &Policy, lines: &mut Lines<'_>) -> anyhow::Result<()> {
    for one in policy.listed_credentials() {
        let inside = one.variable.as_ref();
        let inside = inside.map_or_else(String::new, |name| format!(", inside as {name}"));
        let text = format!(
            "{} ({}) of {}{inside}: {}",
            one.id, one.kind, one.from, one.conditions
        );
        let of = Sourced {
            value: (),
            origin: one.origin,
            source: one.source,
        };
        lines.put("credential", text, &of)?;
    }
    Ok(())
}

/// Prints what is bounded: limits, the record, and how long records stay.
fn bounds(settings: &Settings, lines: &mut Lines<'_>) -> anyhow::Result<()> {
    let limits = &settings.limits;
    limit(lines, "limits", "memory", limits.memory.as_ref())?;
    limit(lines, "limits", "processes", limits.processes.as_ref())?;
    limit(lines, "limits", "cpus", limits.cpus.as_ref())?;
    limit(lines, "limits", "disk", limits.disk.as_ref())?;
    limit(lines, "limits", "open_files", limits.open_files.as_ref())?;
    limit(lines, "limits", "watches", limits.watches.as_ref())?;
    limit(lines, "limits", "wall_time", limits.wall_time.as_ref())?;
    let hooks = &settings.agent.hooks;
    lines.put("agent", format_args!("hooks = {}", hooks.value), hooks)?;
    let record = &settings.record;
    limit(
        lines,
        "record",
        "journal_bytes_max",
        record.journal_bytes_max.as_ref(),
    )?;
    limit(
        lines,
        "record",
        "denials_bytes_max",
        record.denials_bytes_max.as_ref(),
    )?;
    let sync = record.sync.value.as_str();
    lines.put("record", format_args!("sync = \"{sync}\""), &record.sync)?;
    if let Some(content) = &record.content {
        let word = content.value.as_str();
        lines.put("record", format_args!("content = \"{word}\""), content)?;
    }
    let otlp = record.otlp.value;
    lines.put("record", format_args!("otlp = {otlp}"), &record.otlp)?;
    let terminal = record.terminal.value;
    let line = format_args!("terminal = \"{terminal}\"");
    lines.put("record", line, &record.terminal)?;
    for (name, setting) in [
        ("changed", &settings.mcp.changed),
        ("added", &settings.mcp.added),
    ] {
        let word = setting.value.as_str();
        lines.put("mcp", format_args!("{name} = \"{word}\""), setting)?;
    }
    let sessions = &settings.sessions;
    limit(lines, "sessions", "keep_for", sessions.keep_for.as_ref())?;
    limit(
        lines,
        "sessions",
        "keep_bytes",
        sessions.keep_bytes.as_ref(),
    )?;
    limit(
        lines,
        "sessions",
        "keep_count",
        sessions.keep_count.as_ref(),
    )?;
    Ok(())
}

fn settings(settings: &Settings, lines: &mut Lines<'_>) -> anyhow::Result<()> {
    for (key, pin) in &settings.require {
        lines.put("require", format_args!("{key} = {}", pin.value), pin)?;
    }
    people(settings, lines)?;
    workspace(&settings.workspace, lines)?;
    filesystem(&settings.filesystem, lines)?;
    let environment = &settings.environment;
    lines.all("environment", "pass", &environment.pass)?;
    for (name, value) in &environment.set {
        lines.put(
            "environment",
            format_args!("set {name}={}", value.value),
            value,
        )?;
    }
    bounds(settings, lines)?;
    network(&settings.network, lines)?;
    let process = &settings.process;
    let debuggers = process.debuggers.value.as_str();
    lines.put(
        "process",
        format_args!("debuggers = {debuggers}"),
        &process.debuggers,
    )?;
    let namespaces = process.namespaces.value;
    lines.put(
        "process",
        format_args!("namespaces = {namespaces}"),
        &process.namespaces,
    )
}

/// Prints who can be asked in stages, and who may override them.
fn people(settings: &Settings, lines: &mut Lines<'_>) -> anyhow::Result<()> {
    for (name, stage) in &settings.stages {
        let Stage {
            role,
            need,
            veto,
            strength,
            ..
        } = &stage.value;
        let text = format!(
            "{name}: {need} of role {}, {veto} no denies, {}{}",
            role.0,
            strength.as_str(),
            times(&stage.value)
        );
        lines.put("stages", text, stage)?;
    }
    settings.break_glass.as_ref().map_or(Ok(()), |glass| {
        let BreakGlass { role, strength, .. } = &glass.value;
        let text = format!(
            "one of role {}, for at most {}, {}",
            role.0,
            glass.value.max(),
            strength.as_str()
        );
        lines.put("break_glass", text, glass)
    })
}

/// Says from when a stage counts, and whom else it asks.
fn times(stage: &Stage) -> String {
    let mut text = String::new();
    if stage.wait_ms > 0 {
        let wait = Span::from_millis(stage.wait_ms);
        ignored(
            write!(text, ", a yes not before {wait}"),
            "a text takes all",
        );
    }
    if let Some(then) = &stage.escalation {
        let after = Span::from_millis(then.after_ms);
        let role = &then.role.0;
        ignored(
            write!(text, ", after {after} also role {role}"),
            "a text takes all",
        );
    }
    text
}

fn filesystem(files: &FilesystemSettings, lines: &mut Lines<'_>) -> anyhow::Result<()> {
    lines.all("filesystem", "read", &files.read)?;
    lines.all("filesystem", "write", &files.write)?;
    lines.all("filesystem", "caches", &files.caches)?;
    limit(
        lines,
        "filesystem",
        "caches_kept",
        files.caches_kept.as_ref(),
    )?;
    limit(
        lines,
        "filesystem",
        "caches_bytes_max",
        files.caches_bytes_max.as_ref(),
    )?;
    for (name, usual) in &files.moved_by {
        let text = format_args!("moved_by {name} = {}", usual.value);
        lines.put("filesystem", text, usual)?;
    }
    lines.all("filesystem", "hide", &files.hide)?;
    for state in &files.state {
        let seed = state.value.seed.join(" ");
        lines.put(
            "filesystem",
            format_args!("state {} (from {seed})", state.value.path),
            state,
        )?;
    }
    Ok(())
}

fn workspace(workspace: &WorkspaceSettings, lines: &mut Lines<'_>) -> anyhow::Result<()> {
    let mode = workspace.mode.value.as_str();
    lines.put("workspace", format_args!("mode = {mode}"), &workspace.mode)?;
    lines.all("workspace", "protect", &workspace.protect)?;
    lines.all(
        "workspace",
        "protect_outside_packages",
        &workspace.protect_outside_packages,
    )?;
    lines.all("workspace", "packages", &workspace.packages)?;
    lines.all("workspace", "unprotect", &workspace.unprotect)?;
    lines.all("workspace", "protect_except", &workspace.protect_except)?;
    lines.all("workspace", "runs_later", &workspace.runs_later)
}

fn limit<T: Display>(
    lines: &mut Lines<'_>,
    section: &'static str,
    key: &str,
    value: Option<&Sourced<T>>,
) -> anyhow::Result<()> {
    value.map_or(Ok(()), |value| {
        lines.put(section, format_args!("{key} = {}", value.value), value)
    })
}

fn rules(policy: &Policy, lines: &mut Lines<'_>) -> anyhow::Result<()> {
    for rule in policy.rules() {
        let asks = rule.review.as_ref().map(Review::in_words);
        let asks = asks.map_or_else(String::new, |who| format!("; asks {who}"));
        let text = format!(
            "{:<6}{:<20} {}{asks}",
            rule.verdict.as_str(),
            rule.id,
            rule.conditions
        );
        let of = Sourced {
            value: (),
            origin: rule.origin,
            source: rule.source,
        };
        lines.put("rules", text, &of)?;
    }
    Ok(())
}
