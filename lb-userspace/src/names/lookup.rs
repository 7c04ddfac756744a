//! What a name stands for, for one client.

use std::collections::BTreeSet;
use std::sync::Arc;

use dns::{Entry, Lookup, Port, Subject, Target};

use super::index::{Claim, Index};
use super::part::{Forms, Kind, Part};
use super::place::Place;
use super::visibility::Sight;

/// Who has a name, as far as a client may know.
pub enum Finding<'i> {
    /// All of one kind; more than one only where an alias or a container's name is given several times.
    Found(Vec<&'i Claim>),
    /// Only such as the client does not see.
    Hidden(Vec<&'i Claim>),
    Unknown,
}

impl Index {
    /// A service's own name comes before any alias, and that before the name of a container: nobody takes another's name
    /// away by calling himself so.
    pub fn find(&self, sight: Sight<'_>, subject: Subject<'_>) -> Finding<'_> {
        let (name, scope) = match subject {
            Subject::Name { name, scope } => (name, scope),
            Subject::Tasks { service, scope } => (service, scope),
            Subject::Kubernetes {
                host: None, service, ..
            } => (service, None),
            Subject::Kubernetes { host: Some(host), .. } => (host, None),
        };
        let (mut found, mut hidden) = (Vec::<&Claim>::new(), Vec::new());
        for claim in self.names.get(name) {
            let seen = match (self.is_meant(claim, subject), scope) {
                (false, _) => continue,
                (true, None) => sight.part(&claim.part),
                (true, Some(scope)) => {
                    // One name may be a network's and a stack's.
                    let (network, stack) = within(&claim.part, scope);
                    if !network && !stack {
                        continue;
                    }
                    network && sight.network(scope) || stack && sight.part(&claim.part)
                }
            };
            if !seen {
                hidden.push(claim);
                continue;
            }
            if let Some(first) = found.first() {
                match rank(claim.kind).cmp(&rank(first.kind)) {
                    std::cmp::Ordering::Less => found.clear(),
                    std::cmp::Ordering::Equal => {}
                    std::cmp::Ordering::Greater => continue,
                }
            }
            found.push(claim);
        }
        if !found.is_empty() {
            return Finding::Found(found);
        }
        // An alias with a dot may be somebody's name elsewhere. That a service calls itself so on its own networks takes
        // it from nobody else.
        let whole = matches!(subject, Subject::Name { scope: None, .. });
        let aliases = hidden.iter().all(|claim| claim.kind == Kind::Alias);
        if hidden.is_empty() || whole && name.contains('.') && aliases {
            return Finding::Unknown;
        }
        Finding::Hidden(hidden)
    }

    fn is_meant(&self, claim: &Claim, subject: Subject<'_>) -> bool {
        let task = matches!(claim.kind, Kind::Task(_));
        let of_stack = |part: &Part, namespace: &str| part.stack.as_deref() == Some(namespace);
        match subject {
            Subject::Name { .. } => true,
            Subject::Tasks { .. } => !task,
            Subject::Kubernetes {
                host: None,
                namespace,
                ..
            } => !task && of_stack(&claim.part, namespace),
            Subject::Kubernetes {
                service, namespace, ..
            } => {
                let mut services = self.names.get(service).iter();
                let is_it = |named: &Claim| {
                    !matches!(named.kind, Kind::Task(_)) && Arc::ptr_eq(&named.part, &claim.part)
                };
                task && of_stack(&claim.part, namespace) && services.any(is_it)
            }
        }
    }

    /// Whether there are names below this one, which stands for nothing itself. Rather too often than not: it says only
    /// that there is nothing at the name itself.
    pub fn encloses(&self, sight: Sight<'_>, zone: dns::Zone, name: &str) -> bool {
        let is_seen = |name: &str| {
            let mut networks = self.enclosing.get(name).iter();
            networks.any(|(network, _)| sight.network(network))
        };
        if zone == dns::Zone::Cluster {
            // A namespace. Below the name of a service there are its tasks, but that is found itself.
            return name.strip_suffix(".svc").is_some_and(is_seen);
        }
        // `1.front` encloses `web.1.front`.
        let mut split = name
            .match_indices('.')
            .map(|(dot, _)| (&name[..dot], &name[dot + 1..]));
        is_seen(name) || split.any(|(name, scope)| is_seen(name) && is_seen(scope))
    }
}

/// What is said about what was found.
pub fn answer(finding: Finding<'_>, sight: Sight<'_>, subject: Subject<'_>) -> Lookup {
    match finding {
        Finding::Found(claims) => {
            let entries: Vec<_> = claims.iter().map(|claim| entry(claim, sight, subject)).collect();
            join(&entries)
        }
        Finding::Hidden(_) => Lookup::Hidden,
        Finding::Unknown => Lookup::Unknown,
    }
}

/// Whether it is on the network, and whether it is of the stack, that is called so.
fn within(part: &Part, scope: &str) -> (bool, bool) {
    let network = part.networks.iter().any(|network| **network == *scope);
    (network, part.stack.as_deref() == Some(scope))
}

fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Service => 0,
        Kind::Alias => 1,
        Kind::Task(_) => 2,
    }
}

fn entry(claim: &Claim, sight: Sight<'_>, subject: Subject<'_>) -> Arc<Entry> {
    let part = &claim.part;
    let networks = asked_from(claim, sight, subject);
    let place = networks.as_deref().map_or(Place::Node, Place::On);
    let Forms { domain, cluster } = match (claim.kind, subject) {
        (Kind::Task(task), _) => part.task(task, place),
        (_, Subject::Tasks { .. }) => part.tasks(place),
        _ => part.whole(place),
    };
    match subject {
        Subject::Kubernetes { .. } => cluster.unwrap_or(domain),
        _ => domain,
    }
}

/// The networks on which whoever sees this claim meets its tasks; none for this node itself, and where it makes no difference.
pub fn asked_from<'a>(claim: &Claim, sight: Sight<'a>, subject: Subject<'a>) -> Option<Vec<&'a str>> {
    let part = &claim.part;
    let networks = sight.networks().filter(|_| part.now().attached)?;
    let scope = match subject {
        Subject::Name { scope, .. } | Subject::Tasks { scope, .. } => scope,
        Subject::Kubernetes { .. } => None,
    };
    // Where a stack is called so as well, that is the wider meaning.
    let scope = scope.filter(|scope| within(part, scope) == (true, false));
    let is_meant = |network: &&str| part.has(network) && scope.is_none_or(|scope| scope == *network);
    Some(networks.into_iter().filter(is_meant).collect())
}

/// What several services answer together.
fn join(entries: &[Arc<Entry>]) -> Lookup {
    if let [one] = entries {
        return Lookup::Found(Arc::clone(one));
    }
    let all = || entries.iter().map(|entry| &**entry);
    let v4: BTreeSet<_> = all().flat_map(|entry| &entry.v4).copied().collect();
    let v6: BTreeSet<_> = all().flat_map(|entry| &entry.v6).copied().collect();
    let mut ports: Vec<(Port, Vec<Target>)> = Vec::new();
    for port in all().flat_map(|entry| &entry.ports) {
        let same = |(known, _): &&mut (Port, _)| known.name == port.name && known.protocol == port.protocol;
        match ports.iter_mut().find(same) {
            Some((_, targets)) => targets.extend(port.targets.iter().cloned()),
            None => ports.push((port.clone(), port.targets.to_vec())),
        }
    }
    let ports = ports.into_iter().map(|(port, targets)| Port {
        targets: targets.into(),
        ..port
    });
    Lookup::Found(Arc::new(Entry {
        ttl: all().map(|entry| entry.ttl).min().unwrap_or_default(),
        v4: v4.into_iter().collect(),
        v6: v6.into_iter().collect(),
        ports: ports.collect(),
    }))
}
