//! Published ports leave out the addresses at which the agent itself is asked for names: else packets would lead to the
//! service, and the node's own sockets to the agent.

use std::net::{IpAddr, SocketAddr};

use super::Tables;
use crate::model::{Family, Frontend};
use crate::plane::Problem;

impl Tables {
    /// Where names are asked for; to be said before the first snapshot.
    pub fn set_resolvers(&mut self, listen: impl IntoIterator<Item = SocketAddr>) {
        self.resolvers = listen.into_iter().collect();
    }

    /// Whether it is the name server that answers there.
    pub(super) fn is_resolver(&self, address: IpAddr, frontend: &Frontend) -> bool {
        !self.resolvers.is_empty() && self.resolvers.contains(&SocketAddr::new(address, frontend.port))
    }

    /// Services that would answer there, too.
    pub(super) fn displaced(&self) -> Vec<Problem> {
        let here = self
            .resolvers
            .iter()
            .filter(|at| self.addresses.contains(&at.ip()));
        here.filter_map(|at| {
            let claims = |frontend: &Frontend| frontend.address.is_none() && frontend.port == at.port();
            let pools = self.books.values().filter_map(|book| book.pool.as_ref());
            let mut services: Vec<&str> = pools
                .filter(|pool| pool.family == Family::of(at.ip()) && pool.frontends.iter().any(claims))
                .map(|pool| &*pool.service)
                .collect();
            services.sort_unstable();
            services.dedup();
            (!services.is_empty()).then(|| Problem {
                error: format!(
                    "{at} is where names are asked for, and the published port {} of {}",
                    at.port(),
                    services.join(", ")
                ),
                traffic: "there the name server answers; at all other addresses of the node the service"
                    .into(),
                fix: "give the service an address of its own (vips:), or listen elsewhere ([dns] listen)"
                    .into(),
            })
        })
        .collect()
    }
}
