//! Changes of settings. Every field is named here, so that the compiler asks for the direction of a new one.

mod found;

use std::collections::BTreeMap;

use stockade_types::Span;

use super::{Change, Direction, Topic};
use crate::{
    AgentSettings, BreakGlass, EnvironmentSettings, FilesystemSettings, Limits, McpSettings,
    NetworkSettings, PresetSettings, ProcessSettings, RecordContent, RecordSettings, RecordSync,
    ReviewerSettings, SessionsSettings, Settings, Sourced, Stage, StateDir, WorkspaceSettings,
    looks_secret,
};

use Direction::{Both, Loosens, Neither, Tightens};
use found::{CLOSES, Entry, Found, OPENS, SAYS, at, tighter};

/// Lists the changes of settings between two policies.
pub(super) fn changes(old: &Settings, new: &Settings) -> Vec<Change> {
    let Settings {
        workspace,
        filesystem,
        environment,
        limits,
        agent,
        record,
        sessions,
        mcp,
        network,
        process,
        preset,
        stages,
        break_glass,
        require,
        reviewer,
    } = old;
    let mut found = Found(Vec::new());
    found.workspace(workspace, &new.workspace);
    found.filesystem(filesystem, &new.filesystem);
    found.environment(environment, &new.environment);
    found.limits(limits, &new.limits);
    found.agent(agent, &new.agent);
    found.record(record, &new.record);
    found.sessions(sessions, &new.sessions);
    found.mcp(mcp, &new.mcp);
    found.network(network, &new.network);
    found.process(process, &new.process);
    found.preset(preset, &new.preset);
    found.stages(stages, &new.stages);
    found.break_glass(break_glass.as_ref(), new.break_glass.as_ref());
    found.pins(require, &new.require);
    found.reviewer(reviewer.as_ref(), new.reviewer.as_ref());
    found.0
}

impl Found {
    fn workspace(&mut self, old: &WorkspaceSettings, new: &WorkspaceSettings) {
        use stockade_types::WorkspaceMode::{Direct, Review};
        let WorkspaceSettings {
            mode,
            protect,
            protect_outside_packages,
            protect_except,
            packages,
            unprotect,
            runs_later,
        } = old;
        let text = |mode: &stockade_types::WorkspaceMode| mode.to_string();
        self.value(
            "workspace.mode",
            (mode, &new.mode),
            text,
            |_, new| match new {
                Direct => Loosens,
                Review => Tightens,
            },
        );
        for (key, old, new, entry) in [
            ("workspace.protect", protect, &new.protect, CLOSES),
            (
                "workspace.protect_outside_packages",
                protect_outside_packages,
                &new.protect_outside_packages,
                CLOSES,
            ),
            (
                "workspace.protect_except",
                protect_except,
                &new.protect_except,
                OPENS,
            ),
            ("workspace.packages", packages, &new.packages, OPENS),
            ("workspace.unprotect", unprotect, &new.unprotect, OPENS),
            ("workspace.runs_later", runs_later, &new.runs_later, SAYS),
        ] {
            self.list(key, (old, new), entry);
        }
    }

    fn filesystem(&mut self, old: &FilesystemSettings, new: &FilesystemSettings) {
        let FilesystemSettings {
            read,
            write,
            hide,
            state,
            caches,
            caches_kept,
            caches_bytes_max,
            moved_by,
        } = old;
        self.list("filesystem.read", (read, &new.read), OPENS);
        self.list("filesystem.write", (write, &new.write), OPENS);
        self.list("filesystem.hide", (hide, &new.hide), CLOSES);
        self.list("filesystem.caches", (caches, &new.caches), OPENS);
        self.state(state, &new.state);
        let kept = (caches_kept.as_ref(), new.caches_kept.as_ref());
        self.option("filesystem.caches_kept", kept, bool::to_string, |_, _| {
            Neither
        });
        let bytes = (caches_bytes_max.as_ref(), new.caches_bytes_max.as_ref());
        self.option(
            "filesystem.caches_bytes_max",
            bytes,
            ToString::to_string,
            |_, _| Neither,
        );
        let text = |name: &String, place: &String| format!("{name} moves {place}");
        self.map(
            "filesystem.moved_by",
            (moved_by, &new.moved_by),
            text,
            OPENS,
        );
    }

    /// A state directory shows copies of the host's files; which ones is part of it.
    fn state(&mut self, old: &[Sourced<StateDir>], new: &[Sourced<StateDir>]) {
        let by_path = |list: &[Sourced<StateDir>]| -> BTreeMap<String, Sourced<StateDir>> {
            let entry = |own: &Sourced<StateDir>| (own.value.path.clone(), own.clone());
            list.iter().map(entry).collect()
        };
        let text = |path: &String, own: &StateDir| format!("{path} with {}", own.seed.join(", "));
        let (old, new) = (by_path(old), by_path(new));
        self.map("filesystem.state", (&old, &new), text, OPENS);
    }

    fn environment(&mut self, old: &EnvironmentSettings, new: &EnvironmentSettings) {
        let EnvironmentSettings { pass, set } = old;
        self.list("environment.pass", (pass, &new.pass), OPENS);
        let text = |name: &String, value: &String| {
            let hidden = looks_secret(name);
            format!("{name}={}", if hidden { "<secret>" } else { value })
        };
        // What a program does with a variable is not known.
        let either = Entry {
            added: Both,
            removed: Both,
        };
        self.map("environment.set", (set, &new.set), text, either);
    }

    fn limits(&mut self, old: &Limits, new: &Limits) {
        let Limits {
            memory,
            processes,
            cpus,
            disk,
            open_files,
            watches,
            wall_time,
        } = old;
        self.bound("limits.memory", memory.as_ref(), new.memory.as_ref());
        self.bound(
            "limits.processes",
            processes.as_ref(),
            new.processes.as_ref(),
        );
        self.bound("limits.cpus", cpus.as_ref(), new.cpus.as_ref());
        self.bound("limits.disk", disk.as_ref(), new.disk.as_ref());
        self.bound(
            "limits.open_files",
            open_files.as_ref(),
            new.open_files.as_ref(),
        );
        self.bound("limits.watches", watches.as_ref(), new.watches.as_ref());
        self.bound(
            "limits.wall_time",
            wall_time.as_ref(),
            new.wall_time.as_ref(),
        );
    }

    fn agent(&mut self, old: &AgentSettings, new: &AgentSettings) {
        let AgentSettings { hooks } = old;
        let kept = |_: &bool, new: &bool| Direction::of(Some(!*new));
        self.value("agent.hooks", (hooks, &new.hooks), bool::to_string, kept);
    }

    fn record(&mut self, old: &RecordSettings, new: &RecordSettings) {
        let RecordSettings {
            journal_bytes_max,
            denials_bytes_max,
            sync,
            content,
            otlp,
            terminal,
        } = old;
        let bytes = (journal_bytes_max.as_ref(), new.journal_bytes_max.as_ref());
        self.option(
            "record.journal_bytes_max",
            bytes,
            ToString::to_string,
            |_, _| Neither,
        );
        let bytes = (denials_bytes_max.as_ref(), new.denials_bytes_max.as_ref());
        self.option(
            "record.denials_bytes_max",
            bytes,
            ToString::to_string,
            |_, _| Neither,
        );
        let text = |sync: &RecordSync| sync.as_str().to_owned();
        self.value("record.sync", (sync, &new.sync), text, |_, new| match new {
            RecordSync::Second => Loosens,
            RecordSync::Each => Tightens,
        });
        // Later values keep less. Without one it depends on whether the organisation has a policy.
        let content = (content.as_ref(), new.content.as_ref());
        self.option(
            "record.content",
            content,
            RecordContent::to_string,
            |old, new| {
                let (Some(old), Some(new)) = (old, new) else {
                    return Both;
                };
                Direction::of(Some(new > old))
            },
        );
        let kept = |_: &bool, new: &bool| Direction::of(Some(!*new));
        self.value("record.otlp", (otlp, &new.otlp), bool::to_string, kept);
        let text = crate::RecordTerminal::to_string;
        self.value(
            "record.terminal",
            (terminal, &new.terminal),
            text,
            |_, new| match new {
                crate::RecordTerminal::Off => Loosens,
                crate::RecordTerminal::On => Tightens,
            },
        );
    }

    fn sessions(&mut self, old: &SessionsSettings, new: &SessionsSettings) {
        let SessionsSettings {
            keep_for,
            keep_bytes,
            keep_count,
        } = old;
        self.kept(
            "sessions.keep_for",
            keep_for.as_ref(),
            new.keep_for.as_ref(),
        );
        self.kept(
            "sessions.keep_bytes",
            keep_bytes.as_ref(),
            new.keep_bytes.as_ref(),
        );
        self.kept(
            "sessions.keep_count",
            keep_count.as_ref(),
            new.keep_count.as_ref(),
        );
    }

    fn mcp(&mut self, old: &McpSettings, new: &McpSettings) {
        let McpSettings { changed, added } = old;
        let text = |own: &crate::OnDefinition| own.as_str().to_owned();
        self.value("mcp.changed", (changed, &new.changed), text, tighter);
        self.value("mcp.added", (added, &new.added), text, tighter);
    }

    fn network(&mut self, old: &NetworkSettings, new: &NetworkSettings) {
        let NetworkSettings {
            hosts,
            services,
            sockets,
            publish,
            publish_listening,
            may_publish,
            proxy,
            proxy_auth_file,
            inside_proxy,
            inside_proxy_variables,
            upstream_ca,
        } = old;
        // A fixed address can be one that rules about the name did not mean.
        let text =
            |name: &stockade_types::HostName, to: &std::net::IpAddr| format!("{name} is {to}");
        let either = Entry {
            added: Both,
            removed: Both,
        };
        self.map("network.hosts", (hosts, &new.hosts), text, either);
        let text = |name: &crate::Endpoint, to: &std::net::SocketAddr| format!("{name} is {to}");
        self.map("network.services", (services, &new.services), text, OPENS);
        let text = |inside: &String, outside: &String| format!("{inside} is {outside}");
        self.map("network.sockets", (sockets, &new.sockets), text, OPENS);
        self.list("network.publish", (publish, &new.publish), OPENS);
        let listening = (&publish_listening[..], &new.publish_listening[..]);
        self.list("network.publish_listening", listening, OPENS);
        let publish = (may_publish, &new.may_publish);
        self.value("network.publish", publish, bool::to_string, |_, new| {
            Direction::of(Some(*new))
        });
        let proxy = (proxy.as_ref(), new.proxy.as_ref());
        self.option("network.proxy", proxy, ToString::to_string, |_, _| Both);
        let file = (proxy_auth_file.as_ref(), new.proxy_auth_file.as_ref());
        self.option("network.proxy_auth_file", file, String::clone, |_, _| {
            Neither
        });
        let inside = (inside_proxy.as_ref(), new.inside_proxy.as_ref());
        self.option(
            "network.inside_proxy",
            inside,
            ToString::to_string,
            |_, _| Neither,
        );
        let variables = (inside_proxy_variables, &new.inside_proxy_variables);
        let key = "network.inside_proxy_variables";
        self.value(key, variables, bool::to_string, |_, _| Neither);
        self.list(
            "network.upstream_ca",
            (upstream_ca, &new.upstream_ca),
            OPENS,
        );
    }

    fn process(&mut self, old: &ProcessSettings, new: &ProcessSettings) {
        let ProcessSettings {
            debuggers,
            namespaces,
        } = old;
        let text = |own: &crate::Debuggers| own.as_str().to_owned();
        let looser =
            |old: &crate::Debuggers, new: &crate::Debuggers| Direction::of(Some(new > old));
        self.value(
            "process.debuggers",
            (debuggers, &new.debuggers),
            text,
            looser,
        );
        let namespaces = (namespaces, &new.namespaces);
        self.value(
            "process.namespaces",
            namespaces,
            bool::to_string,
            |_, new| Direction::of(Some(*new)),
        );
    }

    /// What a preset says to an agent: the boundary does not depend on it, but the agent's own questions and what
    /// the record learns of the agent do.
    fn preset(&mut self, old: &PresetSettings, new: &PresetSettings) {
        let PresetSettings {
            name,
            commands,
            packages,
            arguments,
            own_questions_off,
            hooks,
            telemetry,
        } = old;
        let mut say = |key: &str, differs: bool, direction| {
            if differs {
                let what = format!("preset: {key} of `{}` instead of `{name}`", new.name);
                self.add(Topic::Settings, direction, what, [None, None]);
            }
        };
        let own = (commands, packages) != (&new.commands, &new.packages);
        say("commands and packages", own, Neither);
        say("arguments", *arguments != new.arguments, Both);
        say(
            "own questions",
            *own_questions_off != new.own_questions_off,
            Both,
        );
        let direction = match (hooks, &new.hooks) {
            (Some(_), None) => Loosens,
            (None, Some(_)) => Tightens,
            (None, None) | (Some(_), Some(_)) => Both,
        };
        say("hooks", *hooks != new.hooks, direction);
        say("telemetry", *telemetry != new.telemetry, Neither);
    }

    fn stages(
        &mut self,
        old: &BTreeMap<String, Sourced<Stage>>,
        new: &BTreeMap<String, Sourced<Stage>>,
    ) {
        let words = |stage: &Stage| {
            let Stage {
                name: _,
                role,
                need,
                veto,
                strength,
                wait_ms,
                escalation,
            } = stage;
            let (role, strength) = (&role.0, strength.as_str());
            let wait = Span::from_millis(*wait_ms);
            let others = escalation.as_ref().map(|then| {
                let after = Span::from_millis(then.after_ms);
                format!(", after {after} also {}", then.role.0)
            });
            let others = others.unwrap_or_default();
            format!("{need} of {role}, {veto} to deny, by {strength}, after {wait}{others}")
        };
        for (name, stage) in new {
            let own = old.get(name);
            let direction = match own {
                Some(own) if own.value == stage.value => continue,
                Some(own) => stage_direction(&own.value, &stage.value),
                // Rules that name it are changes of their own.
                None => Neither,
            };
            let was = own.map_or_else(|| "no such stage".to_owned(), |own| words(&own.value));
            let what = format!("{name}: {} instead of {was}", words(&stage.value));
            self.add(
                Topic::Stages,
                direction,
                what,
                [own.map(at), Some(at(stage))],
            );
        }
        for (name, own) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
            let what = format!("{name}: no longer there");
            self.add(Topic::Stages, Neither, what, [Some(at(own)), None]);
        }
    }

    fn reviewer(
        &mut self,
        old: Option<&Sourced<ReviewerSettings>>,
        new: Option<&Sourced<ReviewerSettings>>,
    ) {
        let (before, after) = (old.map(|own| &own.value), new.map(|own| &own.value));
        let direction = match (before, after) {
            (before, after) if before == after => return,
            (None, _) => Loosens,
            (Some(_), None) => Tightens,
            // Another model, or one that answers sooner or more often, can say anything else.
            (Some(_), Some(_)) => Both,
        };
        let words = |reviewer: &ReviewerSettings| {
            let (model, endpoint) = (&reviewer.model, &reviewer.endpoint);
            format!(
                "{model} at {endpoint}, up to the risk {}",
                reviewer.max_risk
            )
        };
        let none = || "none".to_owned();
        let what = format!(
            "automatic reviewer: {} instead of {}",
            after.map_or_else(none, words),
            before.map_or_else(none, words)
        );
        self.add(Topic::Settings, direction, what, [old.map(at), new.map(at)]);
    }

    fn break_glass(
        &mut self,
        old: Option<&Sourced<BreakGlass>>,
        new: Option<&Sourced<BreakGlass>>,
    ) {
        let (before, after) = (old.map(|own| &own.value), new.map(|own| &own.value));
        let direction = match (before, after) {
            (before, after) if before == after => return,
            (None, _) => Loosens,
            (Some(_), None) => Tightens,
            (Some(old), Some(new)) => {
                let fewer = old.role == new.role
                    && new.strength >= old.strength
                    && new.max_ms <= old.max_ms;
                let more = old.role == new.role
                    && new.strength <= old.strength
                    && new.max_ms >= old.max_ms;
                match (fewer, more) {
                    (true, _) => Tightens,
                    (false, true) => Loosens,
                    (false, false) => Both,
                }
            }
        };
        let words = |glass: &BreakGlass| {
            let strength = glass.strength.as_str();
            format!("{} for {}, by {strength}", glass.role.0, glass.max())
        };
        let none = || "nobody".to_owned();
        let what = format!(
            "break-glass: {} instead of {}",
            after.map_or_else(none, words),
            before.map_or_else(none, words)
        );
        self.add(Topic::Stages, direction, what, [old.map(at), new.map(at)]);
    }

    fn pins(
        &mut self,
        old: &BTreeMap<String, Sourced<String>>,
        new: &BTreeMap<String, Sourced<String>>,
    ) {
        for (key, pin) in new {
            let own = old.get(key);
            let direction = match own {
                Some(own) if own.value == pin.value => continue,
                Some(own) => pin_direction(key, &own.value, &pin.value),
                None => Tightens,
            };
            let was = own.map_or("not pinned", |own| own.value.as_str());
            let what = format!("require.{key}: {} instead of {was}", pin.value);
            self.add(Topic::Pins, direction, what, [own.map(at), Some(at(pin))]);
        }
        for (key, own) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
            let what = format!("require.{key}: not pinned instead of {}", own.value);
            self.add(Topic::Pins, Loosens, what, [Some(at(own)), None]);
        }
    }
}

/// Compares who is asked by two stages of one name.
fn stage_direction(old: &Stage, new: &Stage) -> Direction {
    if old.role != new.role {
        return Both;
    }
    let of = |ordering: std::cmp::Ordering| match ordering {
        std::cmp::Ordering::Less => Loosens,
        std::cmp::Ordering::Equal => Neither,
        std::cmp::Ordering::Greater => Tightens,
    };
    let need = of(new.need.cmp(&old.need));
    // Fewer denies deny sooner.
    let veto = of(old.veto.cmp(&new.veto));
    let strength = of(new.strength.cmp(&old.strength));
    let wait = of(new.wait_ms.cmp(&old.wait_ms));
    // Whoever is asked later can say yes as well.
    let others = match (&old.escalation, &new.escalation) {
        (None, None) => Neither,
        (None, Some(_)) => Loosens,
        (Some(_), None) => Tightens,
        (Some(old), Some(new)) if old.role == new.role => of(new.after_ms.cmp(&old.after_ms)),
        (Some(_), Some(_)) => Both,
    };
    need.and(veto).and(strength).and(wait).and(others)
}

/// Compares two values of a pin, by the order from the loosest to the tightest where there is one.
fn pin_direction(key: &str, old: &str, new: &str) -> Direction {
    let order: &[&str] = match key {
        "mode" => &["direct", "review"],
        "ask" => &["tty", "inbox", "server", "deny"],
        "network" => &["proxied", "offline"],
        "journal" => &["local", "agent", "server"],
        // Kinds of isolation, and pins of later versions, have none that is known here.
        _ => return Both,
    };
    let place = |value: &str| order.iter().position(|one| *one == value);
    match (place(old), place(new)) {
        (Some(old), Some(new)) => tighter(&old, &new),
        _ => Both,
    }
}
