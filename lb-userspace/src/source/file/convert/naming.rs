//! What a service is called: `stack`, `networks`, `aliases`, `endpoint`, `ttl`.

use std::sync::Arc;

use serde_saphyr::Spanned;

use super::super::fault::Fault;
use super::super::raw;
use crate::config::time;
use crate::model::validate::is_host_name;
use crate::model::{Endpoint, Naming};
use crate::source::checks::TTL;

/// Its names, with the defaults in place of what cannot be read.
pub fn naming(written: &raw::Service, faults: &mut Vec<Fault>) -> Naming {
    let mut naming = Naming {
        stack: written.stack.as_ref().and_then(|stack| name(stack, faults)),
        aliases: names(&written.aliases, faults),
        endpoint: match written.endpoint {
            raw::Endpoint::Vip => Endpoint::Vip,
            raw::Endpoint::Dnsrr => Endpoint::Dnsrr,
        },
        ..Naming::default()
    };
    if let Some(networks) = &written.networks {
        if networks.value.is_empty() {
            let reason = "without a network nobody could ask for the service";
            faults.push(Fault::at(
                networks.referenced,
                reason,
                "leave networks out: everybody may ask for it then",
            ));
        }
        naming.networks = names(&networks.value, faults);
        naming.networks.sort();
    }
    if let Some(ttl) = &written.ttl {
        match time::parse(&ttl.value).filter(|time| TTL.contains(time) && time.subsec_nanos() == 0) {
            Some(time) => naming.ttl = time.as_secs() as u32,
            None => faults.push(Fault::at(
                ttl.referenced,
                format!("`{}` is not a time of whole seconds from 0s to 1h", ttl.value),
                "write a number and s, m or h, such as 5s",
            )),
        }
    }
    naming
}

/// Each name once, in the order of the file.
pub fn names(written: &[Spanned<String>], faults: &mut Vec<Fault>) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = Vec::new();
    for name in written.iter().filter_map(|written| name(written, faults)) {
        if !names.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
            names.push(name);
        }
    }
    names
}

pub fn name(written: &Spanned<String>, faults: &mut Vec<Fault>) -> Option<Arc<str>> {
    if is_host_name(&written.value) {
        return Some(written.value.as_str().into());
    }
    faults.push(Fault::at(
        written.referenced,
        format!("`{}` cannot be asked for as a name", written.value),
        "write letters, digits, hyphens and underscores, 1 to 63 between two dots",
    ));
    None
}
