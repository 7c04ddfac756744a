//! Room for another flow: a seat, and a way to its member, which takes a descriptor and a port. Where there is none, flows of
//! the same table that were never answered make room, the oldest first.

use std::hash::Hash;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use super::census::{Census, Full, Seat};
use super::counters::Loss;
use super::fault::Fault;
use super::flows::{Flow, Flows};
use super::towards::Towards;

impl<K: Copy + Eq + Hash> Flows<K> {
    /// Has the flow's way opened, and tells `evicted` of each flow that has made room. Fails with [`Loss::Flows`],
    /// [`Loss::Source`], [`Loss::Exhausted`], and [`Loss::Refused`] where the member cannot be reached.
    pub fn make_room(
        &mut self,
        census: &Arc<Census>,
        client: IpAddr,
        open: impl Fn() -> io::Result<Towards>,
        evicted: impl Fn(&Flow<K>),
    ) -> Result<(Seat, Towards), Loss> {
        let evict = |flows: &mut Self| flows.evict().inspect(&evicted).is_some();
        let seat = loop {
            match self.seat(census, client) {
                Ok(seat) => break seat,
                Err(Full::InAll) if evict(self) => {}
                Err(Full::InAll) => return Err(Loss::Flows),
                Err(Full::OfSource) => return Err(Loss::Source),
            }
        };
        let towards = match open() {
            Err(error) if Fault::of(&error, false) == Fault::Refused => return Err(Loss::Refused),
            // Of descriptors or ports there is one more then.
            Err(_) if evict(self) => open(),
            other => other,
        };
        Ok((seat, towards.map_err(|_| Loss::Exhausted)?))
    }
}
