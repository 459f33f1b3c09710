//! Which connections and requests a rule matches, and when it lies within another one.

use stockade_types::Verdict;

use super::{HttpFeatures, NetBody, NetFeatures, Ports, Programs};
use crate::{
    kinds::{Fit, Miss, is_allow, list_within},
    pattern::{HostPattern, PathPattern, ProgramPattern},
};

impl NetBody {
    /// Judges a connection, or a request on it, by one of the hosts.
    pub(crate) fn fit(
        &self,
        effect: Verdict,
        pattern: usize,
        features: &NetFeatures<'_>,
    ) -> Result<Fit, Miss> {
        let at = self.hosts.get(pattern).ok_or(Miss::Host)?;
        if !at.pattern.matches(features.host) {
            return Err(Miss::Host);
        }
        let reached = match at.port {
            Some(own) => own.get() == features.port,
            None => self.ports.contain(features.port),
        };
        if !reached {
            return Err(Miss::Port);
        }
        if let Some(programs) = &self.programs {
            let fits = match features.program {
                Programs::Known(exe) => programs.iter().any(|own| own.matches(exe, None)),
                // An unidentified program matches ask and deny rules but never allow rules.
                Programs::Unknown => !is_allow(effect),
                // A name is looked up before it is known who will connect.
                Programs::Any => effect != Verdict::Deny,
            };
            if !fits {
                return Err(Miss::Program);
            }
        }
        match &features.http {
            Some(http) => self.fit_http(effect, http),
            None if self.has_request_conditions() => Ok(Fit::Later),
            None => Ok(Fit::Now),
        }
    }

    fn fit_http(&self, effect: Verdict, http: &HttpFeatures<'_>) -> Result<Fit, Miss> {
        if let Some(methods) = &self.methods {
            // Methods are case-sensitive (RFC 9110 section 9.1), but some servers are not.
            let fits = methods.iter().any(|own| {
                if is_allow(effect) {
                    own == http.method
                } else {
                    own.eq_ignore_ascii_case(http.method)
                }
            });
            if !fits {
                return Err(Miss::Method);
            }
        }
        if let Some(paths) = &self.paths {
            let fits = |own: &PathPattern| {
                if is_allow(effect) {
                    http.path.allows(own)
                } else {
                    http.path.could_mean(own)
                }
            };
            if !paths.iter().any(fits) {
                return Err(Miss::RequestPath);
            }
        }
        match &self.meaning {
            Some(meaning) => meaning
                .fit(effect, (http.method, &http.path), http.meaning)
                .ok_or(Miss::Meaning),
            None => Ok(Fit::Now),
        }
    }

    /// Tells whether the host names something, rather than everything.
    pub(crate) fn is_explicit(&self, pattern: usize) -> bool {
        self.hosts
            .get(pattern)
            .is_some_and(|at| at.pattern != HostPattern::AnyName)
    }

    /// Tells whether all that one host of this rule stands for certainly lies within one of
    /// `outer`. Ports and methods are lists of points: both rules matched the one at hand, so they
    /// count only where one of the rules has no list.
    pub(crate) fn lies_within(&self, pattern: usize, outer: &Self, outer_pattern: usize) -> bool {
        let (Some(x), Some(y)) = (self.hosts.get(pattern), outer.hosts.get(outer_pattern)) else {
            return false;
        };
        let by_meaning = match (&self.meaning, &outer.meaning) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(inner), Some(outer)) => inner.lies_within(outer),
        };
        by_meaning
            && y.pattern.contains(&x.pattern)
            && (outer.methods.is_none() || self.methods.is_some())
            && list_within(
                self.paths.as_deref(),
                outer.paths.as_deref(),
                PathPattern::contains,
            )
            && list_within(
                self.programs.as_deref(),
                outer.programs.as_deref(),
                ProgramPattern::contains,
            )
    }

    /// Tells whether the lists of points lie within those of `outer` too, for one host of each.
    pub(crate) fn points_within(&self, pattern: usize, outer: &Self, outer_pattern: usize) -> bool {
        let methods = list_within(
            self.methods.as_deref(),
            outer.methods.as_deref(),
            PartialEq::eq,
        );
        methods && self.ports_within(pattern, outer, outer_pattern)
    }

    /// Tells whether every port of one of the hosts is one of a host of `outer`.
    fn ports_within(&self, host: usize, outer: &Self, outer_host: usize) -> bool {
        let port = |body: &Self, host: usize| body.hosts.get(host).and_then(|at| at.port);
        let reached = |wanted: u16| match port(outer, outer_host) {
            Some(own) => own.get() == wanted,
            None => outer.ports.contain(wanted),
        };
        match (port(self, host), &self.ports) {
            (Some(own), _) => reached(own.get()),
            (None, Ports::These(ports)) => ports.iter().all(|port| reached(*port)),
            (None, Ports::Every) => {
                port(outer, outer_host).is_none() && matches!(outer.ports, Ports::Every)
            }
        }
    }
}
