//! Patterns of routes, found by the host that is asked for.
//! <https://developers.cloudflare.com/workers/configuration/routing/routes/#matching-behavior>

use std::collections::HashMap;
use std::sync::Arc;

use skep_acme::HostName;

use super::runner::Runner;

/// Where an address leads.
#[derive(Clone)]
pub struct Target {
    /// Whose it is.
    pub runner: Arc<Runner>,
    /// `None`: a route that turns scripts off.
    pub script: Option<String>,
}

/// A route pattern, taken apart.
pub struct Pattern {
    /// Only for this scheme.
    scheme: Option<String>,
    /// The host, or what it ends in after a `*`.
    host: String,
    any_host: bool,
    /// The path, or what it starts with before a `*`.
    path: String,
    any_path: bool,
    /// Where it leads.
    pub target: Target,
}

impl Pattern {
    /// Takes a pattern apart.
    pub fn new(pattern: &str, target: Target) -> Self {
        let (scheme, bare) = match pattern.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_owned()), rest),
            None => (None, pattern),
        };
        let (host, path) = bare.find('/').map_or((bare, "/"), |slash| bare.split_at(slash));
        let (any_host, host) = host.strip_prefix('*').map_or((false, host), |rest| (true, rest));
        let (any_path, path) = path.strip_suffix('*').map_or((false, path), |rest| (true, rest));
        Self { scheme, host: host.to_owned(), any_host, path: path.to_owned(), any_path, target }
    }

    /// Whether it is for a path, at a host that it is for.
    pub fn matches(&self, scheme: &str, path: &str) -> bool {
        let path_fits = match self.any_path {
            true => path.starts_with(&self.path),
            false => path == self.path,
        };
        path_fits && self.scheme.as_deref().is_none_or(|wanted| wanted == scheme)
    }

    /// The host that it names, if visitors of that host alone can get something over TLS by it.
    pub fn named(&self) -> Option<HostName> {
        let over_tls = self.scheme.as_deref().is_none_or(|scheme| scheme == "https");
        HostName::parse(&self.host).filter(|_| !self.any_host && over_tls && self.target.script.is_some())
    }

    /// The more specific one goes first: a longer host, then a longer path.
    fn weight(&self) -> (bool, usize, usize, bool) {
        (!self.any_host, self.host.len(), self.path.len(), !self.any_path)
    }
}

/// All patterns. Who asks for a host looks at those for it alone, however many others there are.
#[derive(Default)]
pub struct Patterns(ByHost<Pattern>);

impl Patterns {
    /// Of all accounts, in any order.
    pub fn new(patterns: Vec<Pattern>) -> Self {
        let key = |pattern: &Pattern| (pattern.any_host, pattern.host.clone());
        Self(ByHost::new(patterns, key, Pattern::weight))
    }

    /// Those for a host, the more specific ones first.
    pub fn of<'a>(&'a self, host: &str) -> impl Iterator<Item = &'a Pattern> {
        self.0.of(host)
    }

    /// All.
    pub fn iter(&self) -> impl Iterator<Item = &Pattern> {
        self.0.all.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.all.is_empty()
    }
}

/// Things that are for a host, or for all hosts that end in the same way.
struct ByHost<T> {
    /// The more specific ones first.
    all: Vec<T>,
    /// By their host: places in `all`, in order.
    exact: HashMap<String, Vec<usize>>,
    /// By what hosts end in.
    endings: HashMap<String, Vec<usize>>,
    /// The lengths of these, the longest first.
    lengths: Vec<usize>,
}

impl<T> Default for ByHost<T> {
    fn default() -> Self {
        Self { all: Vec::new(), exact: HashMap::new(), endings: HashMap::new(), lengths: Vec::new() }
    }
}

impl<T> ByHost<T> {
    /// `key` says whether something is for an ending, and which host or ending it is for.
    fn new<W: Ord>(mut all: Vec<T>, key: impl Fn(&T) -> (bool, String), weight: impl Fn(&T) -> W) -> Self {
        all.sort_by_key(|one| std::cmp::Reverse(weight(one)));
        let mut this = Self::default();
        for (at, one) in all.iter().enumerate() {
            let (is_ending, host) = key(one);
            if is_ending {
                this.lengths.push(host.len());
            }
            let kind = if is_ending { &mut this.endings } else { &mut this.exact };
            kind.entry(host).or_default().push(at);
        }
        this.lengths.sort_unstable_by(|a, b| b.cmp(a));
        this.lengths.dedup();
        this.all = all;
        this
    }

    fn of<'a>(&'a self, host: &str) -> impl Iterator<Item = &'a T> {
        let endings = self.lengths.iter().filter_map(|length| {
            let ending = host.get(host.len().checked_sub(*length)?..)?;
            self.endings.get(ending)
        });
        self.exact.get(host).into_iter().chain(endings).flatten().map(|at| &self.all[*at])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether it is for an ending, the host or ending, and a number.
    type One = (bool, String, u8);

    proptest! {
        /// As if each was looked at, in the order of their weights.
        #[test]
        fn those_for_a_host_are_found_in_order(
            all in proptest::collection::vec((any::<bool>(), "[ab.]{0,4}", any::<u8>()), 0..30), host in "[ab.é]{0,6}",
        ) {
            let weight = |one: &One| (!one.0, one.1.len(), one.2);
            let found = ByHost::new(all.clone(), |one: &One| (one.0, one.1.clone()), weight);
            let mut slowly: Vec<&One> = all.iter().filter(|(ends, of, _)| if *ends { host.ends_with(of) } else { host == *of }).collect();
            slowly.sort_by_key(|one| std::cmp::Reverse(weight(one)));
            prop_assert_eq!(found.of(&host).collect::<Vec<_>>(), slowly);
        }
    }
}
