//! Which events of a session a person wants to see; the same for every form in which `show` prints.

use std::{collections::HashMap, str::FromStr};

use clap::builder::PossibleValuesParser;
use jiff::{Timestamp, civil, tz::TimeZone};
use stockade_event::{Envelope, Event, catalogue, tree::Wanted};
use stockade_types::{RawText, Span, Target, Verdict};

use crate::archive::Record;

/// The filters on the command line. An option that is repeated widens the choice, different options
/// narrow it.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct Filters {
    /// Only events of this kind; repeatable
    #[arg(long, value_name = "K", hide_possible_values = true, value_parser = kinds())]
    kind: Vec<String>,
    /// Only what was judged so: `allow`, `ask` or `deny`; repeatable
    #[arg(long, value_name = "V", value_parser = verdict)]
    verdict: Vec<Verdict>,
    /// Only what came of calls of this tool; repeatable
    #[arg(long, value_name = "NAME")]
    tool: Vec<String>,
    /// Only what names a path that contains this text; repeatable
    #[arg(long, value_name = "TEXT")]
    path: Vec<String>,
    /// Only what names this host or one below it, also with a port; repeatable
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// Only from then on: a span before the last event (`10m`), a time of day (`10:02`), or a date
    /// with a time (`2026-01-31T10:02`)
    #[arg(long, value_name = "WHEN")]
    since: Option<Since>,
}

/// A moment as a person names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// So long before the last event.
    Before(Span),
    /// At this time of day, the first time after the session began.
    Clock(civil::Time),
    /// In local time.
    Local(civil::DateTime),
    /// In any time zone.
    At(Timestamp),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = || text.contains(':').then(|| text.parse().ok()).flatten();
        (text.parse().ok().map(Self::Before))
            .or_else(|| text.parse().ok().map(Self::At))
            .or_else(|| text.parse().ok().map(Self::Local))
            .or_else(|| time().map(Self::Clock))
            .ok_or_else(|| {
                "expected a span (`10m`), a time of day (`10:02`) or a date with a time \
                 (`2026-01-31T10:02`)"
                    .to_owned()
            })
    }
}

impl Since {
    /// Returns the moment in nanoseconds since the epoch, for a session of this extent.
    pub(crate) fn resolve(self, first_ns: u64, last_ns: u64, zone: &TimeZone) -> u64 {
        let local = |time: civil::DateTime| {
            let zoned = time.to_zoned(zone.clone()).ok()?;
            u64::try_from(zoned.timestamp().as_nanosecond()).ok()
        };
        match self {
            Self::Before(span) => {
                last_ns.saturating_sub(span.millis().saturating_mul(NANOS_PER_MILLI))
            }
            Self::At(at) => u64::try_from(at.as_nanosecond()).unwrap_or(0),
            Self::Local(time) => local(time).unwrap_or(0),
            Self::Clock(time) => {
                let begun = Timestamp::from_nanosecond(i128::from(first_ns)).ok();
                let day = begun.map(|at| at.to_zoned(zone.clone()).date());
                let on = |day: civil::Date| local(day.to_datetime(time));
                // Times are shown in whole seconds.
                let early = |at: &u64| at.saturating_add(NANOS_PER_SECOND) < first_ns;
                let first = day.and_then(on);
                let next = || day.and_then(|day| day.tomorrow().ok()).and_then(on);
                first
                    .filter(|at| !early(at))
                    .or_else(next)
                    .unwrap_or(first_ns)
            }
        }
    }
}

const NANOS_PER_MILLI: u64 = 1_000_000;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

pub(crate) fn kinds() -> PossibleValuesParser {
    PossibleValuesParser::new(catalogue().iter().map(|kind| kind.kind))
}

fn verdict(text: &str) -> Result<Verdict, String> {
    [Verdict::Allow, Verdict::Ask, Verdict::Deny]
        .into_iter()
        .find(|verdict| verdict.as_str() == text)
        .ok_or_else(|| "expected `allow`, `ask` or `deny`".to_owned())
}

/// The filters together with what of the record they need.
#[derive(Debug, Default)]
pub(super) struct Filter {
    filters: Filters,
    /// The tool of each call, by the number of its event.
    tools: HashMap<u64, String>,
    /// The call of each command scope.
    scopes: HashMap<String, u64>,
    since_unix_ns: u64,
}

impl Filter {
    /// Makes a filter for the events of `record`; reads them if it has to know what comes later.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub(super) fn new(filters: Filters, record: &Record) -> anyhow::Result<Self> {
        let mut filter = Self {
            filters,
            ..Self::default()
        };
        if filter.filters.tool.is_empty() && filter.filters.since.is_none() {
            return Ok(filter);
        }
        let (mut first_ns, mut last_ns) = (None, 0);
        record.read(&mut |envelope| {
            first_ns.get_or_insert(envelope.time_unix_ns);
            last_ns = envelope.time_unix_ns;
            filter.learn(envelope);
        })?;
        if let Some(since) = filter.filters.since {
            let first_ns = first_ns.unwrap_or(0);
            filter.since_unix_ns = since.resolve(first_ns, last_ns, &TimeZone::system());
        }
        Ok(filter)
    }

    fn learn(&mut self, envelope: &Envelope) {
        if let Event::ToolCalled { name, .. } = &envelope.event {
            self.tools.insert(envelope.seq, name.display());
        } else if let Event::ScopeBound { scope, call, .. } = &envelope.event {
            self.scopes.insert(scope.clone(), *call);
        }
    }

    /// Returns whether anything was asked for.
    pub(super) const fn is_active(&self) -> bool {
        let Filters {
            kind,
            verdict,
            tool,
            path,
            host,
            since,
        } = &self.filters;
        !(kind.is_empty()
            && verdict.is_empty()
            && tool.is_empty()
            && path.is_empty()
            && host.is_empty()
            && since.is_none())
    }

    /// Says what is wanted of an event.
    pub(super) fn of(&self, envelope: &Envelope) -> Wanted {
        let event = &envelope.event;
        let is_kept = self.is_active()
            && envelope.time_unix_ns >= self.since_unix_ns
            && self.is_of_kind(event)
            && self.is_judged(event)
            && self.is_of_tool(envelope)
            && self.names(event);
        match (self.is_active(), is_kept) {
            (false, _) => Wanted::Whole,
            (true, false) => Wanted::No,
            (true, true) if self.filters.kind.is_empty() => Wanted::Yes,
            (true, true) => Wanted::ByKind,
        }
    }

    fn is_of_kind(&self, event: &Event) -> bool {
        self.filters.kind.is_empty() || self.filters.kind.iter().any(|kind| kind == event.kind())
    }

    fn is_judged(&self, event: &Event) -> bool {
        let judged = || {
            if let Event::ApprovalDecided { verdict, .. } = event {
                return Some(*verdict);
            }
            if let Event::RefusalRepeated { .. } = event {
                return Some(Verdict::Deny);
            }
            event.decision().map(|decision| decision.verdict)
        };
        self.filters.verdict.is_empty()
            || judged().is_some_and(|judged| self.filters.verdict.contains(&judged))
    }

    fn is_of_tool(&self, envelope: &Envelope) -> bool {
        let wanted = &self.filters.tool;
        if wanted.is_empty() {
            return true;
        }
        let scope = || self.scopes.get(envelope.scope.as_ref()?).copied();
        let own = || {
            if let Event::ToolReturned { call, .. } | Event::PlanChanged { call, .. } =
                &envelope.event
            {
                return *call;
            }
            if let Event::ScopeBound { call, .. } = &envelope.event {
                return Some(*call);
            }
            matches!(envelope.event, Event::ToolCalled { .. }).then_some(envelope.seq)
        };
        let call = (envelope.cause)
            .and_then(|cause| cause.call)
            .or_else(own)
            .or_else(scope);
        call.and_then(|call| self.tools.get(&call))
            .is_some_and(|name| {
                wanted
                    .iter()
                    .any(|wanted| wanted.eq_ignore_ascii_case(name))
            })
    }

    /// Tells whether an event names what was asked for: of paths and of hosts one each.
    fn names(&self, event: &Event) -> bool {
        let Filters { path, host, .. } = &self.filters;
        if path.is_empty() && host.is_empty() {
            return true;
        }
        let own = event.own_target();
        let target = event.decision().map(|decision| &decision.target);
        let Some(target) = target.or(own.as_ref()) else {
            return false;
        };
        let paths = || {
            let paths = target.path.iter().chain(&target.raw_path);
            paths.map(RawText::display).collect::<Vec<_>>()
        };
        (path.is_empty()
            || paths()
                .iter()
                .any(|named| path.iter().any(|part| named.contains(part))))
            && (host.is_empty() || host.iter().any(|host| is_host(host, target)))
    }
}

fn is_host(wanted: &str, target: &Target) -> bool {
    let Some(host) = &target.host else {
        return false;
    };
    let wanted = wanted.to_ascii_lowercase();
    let host = host.to_ascii_lowercase();
    let is_below = |wanted: &str| {
        host.strip_suffix(wanted)
            .is_some_and(|front| front.is_empty() || front.ends_with('.'))
    };
    let with_port = wanted
        .rsplit_once(':')
        .filter(|(_, port)| target.port.is_some_and(|own| own.to_string() == *port));
    is_below(&wanted) || with_port.is_some_and(|(name, _)| is_below(name))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use stockade_types::Target;

    use super::{Since, is_host};

    /// 2023-11-14T22:13:20Z and ten minutes later.
    const FIRST: u64 = 1_700_000_000_000_000_000;
    const LAST: u64 = FIRST + 600_000_000_000;

    #[test]
    fn moments_are_read_as_people_name_them() {
        let at = |text: &str| {
            let since: Since = text.parse().unwrap();
            let moment = since.resolve(FIRST, LAST, &TimeZone::UTC);
            (i128::from(moment) - i128::from(FIRST)) / 1_000_000_000
        };
        for (text, seconds) in [
            ("2m", 480),
            ("1d", 600 - 86_400),
            ("22:13:20", 0),
            ("22:15", 100),
            ("22:00", 86_400 - 800),
            ("2023-11-14T22:15", 100),
            ("2023-11-14T23:15+01:00", 100),
        ] {
            assert_eq!(at(text), seconds, "{text}");
        }
        for wrong in ["", "10", "soon", "25:00", "2023-13-01T00:00"] {
            assert!(wrong.parse::<Since>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_host_is_named_with_those_below_it() {
        let target = Target {
            host: Some("a.shop.test".to_owned()),
            port: Some(443),
            ..Target::default()
        };
        for wanted in ["shop.test", "A.shop.TEST", "shop.test:443", "test"] {
            assert!(is_host(wanted, &target), "{wanted}");
        }
        for other in ["hop.test", "shop.test:80", "b.a.shop.test", "shop"] {
            assert!(!is_host(other, &target), "{other}");
        }
    }
}
