//! `[network]` and `[[publish]]`: fixed addresses, services of the machine that exist inside, ports
//! of the session that exist outside, and the proxy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use stockade_types::{HostName, Port, RuleId, Verdict};

use crate::{
    NetworkSettings, Origin, SERVER_PORTS, Sourced,
    address::{AddressClass, classify},
    endpoint::{Endpoint, Publish, number},
    fields::{At, Fields, File, sourced, tighten_value},
    kinds::{
        Body,
        net::{HostAt, NetBody, Ports, RuleTerms},
    },
    pattern::HostPattern,
    proxy::ProxySetting,
    rule::Rule,
    sockets,
    view_path::view_path,
};

/// The name under which a program finds services on its own machine.
pub(crate) const LOCALHOST: &str = "localhost";
/// Services and published ports of one policy: each needs at least one listener.
const ENTRIES_MAX: usize = 64;
/// Loopback ports of the boundary itself: DNS, and the target of redirected connections.
const OWN_PORTS: [u16; 2] = [53, 61_153];
/// Why a port is neither a service nor published: through it, others would use what is the session's.
const IS_INSIDE_PROXY: &str =
    "this port of loopback is the session's own proxy (`network.inside_proxy`); use another one";

/// Reads one file's settings for the network.
pub(crate) fn read(file: &mut File<'_>, top: &Fields<'_>, settings: &mut NetworkSettings) {
    let known = [
        "hosts",
        "services",
        "proxy",
        "proxy_auth_file",
        "inside_proxy",
        "inside_proxy_variables",
        "publish",
        "upstream_ca",
    ];
    if let Some(table) = top.table(file, "network", &known) {
        hosts(file, &table, settings);
        services(file, &table, settings);
        let looser = |new: &bool, old: &bool| *new && !*old;
        let may = table.flag(file, "publish");
        tighten_value(file, may, &mut settings.may_publish, looser);
        proxy(file, &table, settings);
        proxy_auth_file(file, &table, settings);
        inside_proxy(file, &table, settings);
        let files = table.list(file, "upstream_ca", view_path);
        let files = files.into_iter().flatten().map(|at| sourced(file, at));
        settings.upstream_ca.extend(files);
    }
    for fields in top.tables(file, "publish", &["port", "as", "when", "id"]) {
        publish(file, &fields, settings);
    }
}

/// Sets an entry unless a more trusted layer has a different one.
fn set<K: Ord, T: PartialEq>(
    file: &mut File<'_>,
    map: &mut std::collections::BTreeMap<K, Sourced<T>>,
    key: K,
    at: At<T>,
) {
    let fixed = map
        .get(&key)
        .filter(|old| old.origin != Origin::Builtin && old.value != at.value);
    if let Some(old) = fixed {
        let message = format!("already set by the {} layer ({})", old.origin, old.source);
        return file.problem(&at.span, &at.field, message);
    }
    let item = sourced(file, at);
    map.insert(key, item);
}

fn hosts(file: &mut File<'_>, table: &Fields<'_>, settings: &mut NetworkSettings) {
    let Some(hosts) = table.open_table(file, "hosts") else {
        return;
    };
    for key in hosts.keys() {
        let Some(at) = hosts.parsed::<IpAddr>(file, key) else {
            continue;
        };
        let name = match key.parse::<HostName>() {
            Ok(name) => name,
            Err(error) => {
                file.problem(&at.span, &at.field, error.to_string());
                continue;
            }
        };
        if classify(at.value) == AddressClass::Metadata {
            let message = "cloud metadata is never reachable, whatever its name";
            file.problem(&at.span, &at.field, message);
            continue;
        }
        set(file, &mut settings.hosts, name, at);
    }
}

fn services(file: &mut File<'_>, table: &Fields<'_>, settings: &mut NetworkSettings) {
    let Some(services) = table.open_table(file, "services") else {
        return;
    };
    for key in services.keys() {
        let Some(at) = services.text(file, key) else {
            continue;
        };
        if sockets::is_meant(key) || sockets::is_meant(&at.value) {
            socket(file, key, at, settings);
            continue;
        }
        let read = endpoint(key).and_then(|name| Ok((name, target(&at.value)?)));
        let (name, address) = match read {
            Ok(read) => read,
            Err(message) => {
                file.problem(&at.span, &at.field, message);
                continue;
            }
        };
        let message = if file.source.origin == Origin::Builtin {
            "a preset opens nothing of a machine"
        } else if classify(address.ip()).is_never_reached() {
            "this address is never reached, whatever a policy says"
        } else if settings.services.len() >= ENTRIES_MAX {
            "more services than a session can have"
        } else if name.host.as_str() == LOCALHOST && settings.is_inside_proxy(name.port) {
            IS_INSIDE_PROXY
        } else {
            let at = At {
                value: address,
                span: at.span,
                field: at.field,
            };
            set(file, &mut settings.services, name, at);
            continue;
        };
        file.problem(&at.span, &at.field, message);
    }
}

fn socket(file: &mut File<'_>, key: &str, at: At<String>, settings: &mut NetworkSettings) {
    let message = if file.source.origin == Origin::Builtin {
        "a preset opens nothing of a machine".to_owned()
    } else if settings.sockets.len() >= ENTRIES_MAX {
        "more sockets than a session can have".to_owned()
    } else {
        match sockets::read(key, &at.value) {
            Ok((inside, value)) => {
                let at = At { value, ..at };
                return set(file, &mut settings.sockets, inside, at);
            }
            Err(message) => message,
        }
    };
    file.problem(&at.span, &at.field, message);
}

/// Reads the name and port that programs inside use.
fn endpoint(text: &str) -> Result<Endpoint, String> {
    const WANTED: &str = "expected a name and a port as programs inside use them, for example \
                          `localhost:11434` or `db.host.test:5432`";
    let (host, port) = text.rsplit_once(':').ok_or(WANTED)?;
    let port = number(port).ok_or(WANTED)?;
    // Any name that a program uses for its own machine is the same.
    let host = match host {
        "127.0.0.1" | "[::1]" => LOCALHOST,
        other => other,
    };
    let host: HostName = host.parse().map_err(|_| WANTED.to_owned())?;
    if host.as_str() == LOCALHOST && OWN_PORTS.contains(&port.get()) {
        return Err(format!(
            "port {port} of loopback is the session's own; use another name"
        ));
    }
    Ok(Endpoint { host, port })
}

/// Reads the address of a service of the machine.
fn target(text: &str) -> Result<SocketAddr, String> {
    const WANTED: &str = "expected the address of the service on this machine or in its network, \
                          for example `127.0.0.1:5432`";
    let text = text.replace("localhost:", "127.0.0.1:");
    let address: SocketAddr = text.parse().map_err(|_| WANTED.to_owned())?;
    if address.port() == 0 {
        return Err(WANTED.to_owned());
    }
    Ok(address)
}

fn publish(file: &mut File<'_>, fields: &Fields<'_>, settings: &mut NetworkSettings) {
    let port = |at: Option<At<u64>>, file: &mut File<'_>| -> Option<Port> {
        let at = at?;
        let port = u16::try_from(at.value).ok().and_then(Port::new);
        if port.is_none() {
            file.problem(&at.span, &at.field, "expected a port, from 1 to 65535");
        }
        port
    };
    if !fields.has("port") {
        let message = "missing; the port on which a program of the session listens";
        return file.problem(&fields.span(), &fields.field("port"), message);
    }
    let inside = fields.count(file, "port");
    let Some(inside) = port(inside, file) else {
        return;
    };
    // It only names the entry in lists.
    if fields.has("id") && fields.parsed::<RuleId>(file, "id").is_none() {
        return;
    }
    if fields.has("when") {
        return publish_listening(file, fields, inside, settings);
    }
    let outside = if fields.has("as") {
        let outside = fields.count(file, "as");
        port(outside, file)
    } else {
        Some(inside)
    };
    let Some(outside) = outside else { return };
    let at = At {
        value: Publish { inside, outside },
        span: fields.span(),
        field: fields.path().to_owned().into(),
    };
    let message = if let Some(message) = unpublished(file, settings, inside) {
        message
    } else if settings
        .publish
        .iter()
        .any(|old| old.value.outside == outside && old.value != at.value)
    {
        "another port is published as this one"
    } else {
        let item = sourced(file, at);
        if !settings.publish.iter().any(|old| old.value == item.value) {
            settings.publish.push(item);
        }
        return;
    };
    file.problem(&at.span, &at.field, message);
}

/// Says why a file may publish nothing, or nothing more.
fn unpublished(file: &File<'_>, settings: &NetworkSettings, inside: Port) -> Option<&'static str> {
    let count = settings.publish.len() + settings.publish_listening.len();
    if file.source.origin == Origin::Builtin {
        Some("a preset publishes nothing")
    } else if !settings.may_publish.value {
        Some("no port is published: a layer of more trust says `network.publish = false`")
    } else if count >= ENTRIES_MAX {
        Some("more ports than a session can publish")
    } else if settings.is_inside_proxy(inside) {
        Some(IS_INSIDE_PROXY)
    } else {
        None
    }
}

/// Reads a port that waits for its server.
fn publish_listening(
    file: &mut File<'_>,
    fields: &Fields<'_>,
    port: Port,
    settings: &mut NetworkSettings,
) {
    if fields.word(file, "when", &[("listening", ())]).is_none() {
        return;
    }
    let at = At {
        value: port,
        span: fields.span(),
        field: fields.path().to_owned().into(),
    };
    let message = unpublished(file, settings, port).or_else(|| {
        if fields.has("as") {
            Some("a port that waits for its server keeps its number; leave `as` or `when` out")
        } else if !SERVER_PORTS.contains(&port.get()) {
            Some("servers are noticed on ports from 1024 to 32767; leave `when` out")
        } else {
            None
        }
    });
    if let Some(message) = message {
        return file.problem(&at.span, &at.field, message);
    }
    let mut old = settings.publish_listening.iter();
    if !old.any(|old| old.value == port) {
        let item = sourced(file, at);
        settings.publish_listening.push(item);
    }
}

fn proxy(file: &mut File<'_>, table: &Fields<'_>, settings: &mut NetworkSettings) {
    let Some(at) = table.parsed::<ProxySetting>(file, "proxy") else {
        return;
    };
    if file.source.origin == Origin::Builtin {
        return file.problem(&at.span, &at.field, "a preset says nothing about proxies");
    }
    if let Some(old) = settings.proxy.as_ref().filter(|old| old.value != at.value) {
        let message = format!("already set by the {} layer ({})", old.origin, old.source);
        return file.problem(&at.span, &at.field, message);
    }
    settings.proxy = Some(sourced(file, at));
}

fn proxy_auth_file(file: &mut File<'_>, table: &Fields<'_>, settings: &mut NetworkSettings) {
    let Some(at) = table.text(file, "proxy_auth_file") else {
        return;
    };
    match view_path(&at.value) {
        Ok(value) if settings.proxy_auth_file.is_none() => {
            let at = At { value, ..at };
            settings.proxy_auth_file = Some(sourced(file, at));
        }
        // The value of the more trusted layer counts.
        Ok(_) => {}
        Err(message) => file.problem(&at.span, &at.field, message),
    }
}

fn inside_proxy(file: &mut File<'_>, table: &Fields<'_>, settings: &mut NetworkSettings) {
    if let Some(at) = table.count(file, "inside_proxy") {
        inside_proxy_port(file, &at, settings);
    }
    let Some(at) = table.flag(file, "inside_proxy_variables") else {
        return;
    };
    if at.value && settings.inside_proxy.is_none() {
        let message = "there is no proxy that variables could name; give it a port with \
                       `network.inside_proxy`, for example `inside_proxy = 3128`";
        return file.problem(&at.span, &at.field, message);
    }
    let old = &settings.inside_proxy_variables;
    if old.origin != Origin::Builtin && old.value != at.value {
        let message = format!("already set by the {} layer ({})", old.origin, old.source);
        return file.problem(&at.span, &at.field, message);
    }
    settings.inside_proxy_variables = sourced(file, at);
}

fn inside_proxy_port(file: &mut File<'_>, at: &At<u64>, settings: &mut NetworkSettings) {
    let port = u16::try_from(at.value).ok().and_then(Port::new);
    let Some(port) = port.filter(|port| !OWN_PORTS.contains(&port.get())) else {
        let message = "expected a port of loopback from 1 to 65535, other than the session's own 53 \
                       and 61153, for example `3128`";
        return file.problem(&at.span, &at.field, message);
    };
    let mut published = settings.publish.iter().map(|at| at.value.inside);
    let mut waiting = settings.publish_listening.iter().map(|at| at.value);
    if settings.local_ports().contains(&port.get())
        || published.any(|one| one == port)
        || waiting.any(|one| one == port)
    {
        let message = format!("port {port} is a service or a published port; use another one");
        return file.problem(&at.span, &at.field, message);
    }
    let old = settings.inside_proxy.as_ref();
    if let Some(old) = old.filter(|old| old.origin != Origin::Builtin && old.value != port) {
        let message = format!("already set by the {} layer ({})", old.origin, old.source);
        return file.problem(&at.span, &at.field, message);
    }
    let at = At {
        value: port,
        span: at.span.clone(),
        field: at.field.clone(),
    };
    settings.inside_proxy = Some(sourced(file, at));
}

/// Returns the rules for services: each allows its own name and port.
pub(crate) fn service_rules(settings: &NetworkSettings) -> Vec<Rule> {
    let rule = |(name, at): (&Endpoint, &Sourced<SocketAddr>)| -> Option<Rule> {
        Some(Rule {
            id: format!("service:{name}").parse::<RuleId>().ok()?,
            effect: Verdict::Allow,
            origin: at.origin,
            place: at.source.clone(),
            reason: format!("a service of this machine, at {}", at.value),
            stage: None,
            quiet: false,
            body: Body::Net(NetBody {
                hosts: vec![HostAt {
                    pattern: HostPattern::Name(name.host.clone()),
                    port: None,
                }],
                ports: Ports::These(vec![name.port.get()]),
                methods: None,
                paths: None,
                programs: None,
                meaning: None,
                terms: RuleTerms::PRIVATE,
            }),
        })
    };
    settings.services.iter().filter_map(rule).collect()
}

impl NetworkSettings {
    /// Returns the address of the service of the machine with this name and port.
    pub fn service(&self, host: &HostName, port: Port) -> Option<SocketAddr> {
        let name = Endpoint {
            host: host.clone(),
            port,
        };
        self.services.get(&name).map(|at| at.value)
    }

    /// Returns the inside ports of loopback that reach services of the machine.
    pub fn local_ports(&self) -> Vec<u16> {
        let names = self.services.keys();
        let local = names.filter(|name| name.host.as_str() == LOCALHOST);
        local.map(|name| name.port.get()).collect()
    }

    /// Returns whether a port of loopback inside is the session's own proxy.
    pub fn is_inside_proxy(&self, port: Port) -> bool {
        let own = self.inside_proxy.as_ref();
        own.is_some_and(|own| own.value == port)
    }

    /// Returns whether the settings define a name.
    pub fn names(&self, host: &HostName) -> bool {
        self.hosts.contains_key(host) || self.services.keys().any(|name| name.host == *host)
    }
}

/// The addresses of loopback, on which published ports and local services are.
pub const LOOPBACK: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];
