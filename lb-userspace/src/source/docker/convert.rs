//! From pictures of the engine to wishes. What a change does not touch is shared with the wishes before it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::backend::Here;
use super::member::{Places, Role, guest, role};
use super::service::{Members, service};
use crate::model::{Desired, DesiredNode, DesiredService};
use crate::source::Note;
use crate::source::engine::{Container, Local};
use crate::source::sift::sift;

/// Remembers the picture before, and what was made of it.
pub struct Converter {
    here: Here,
    local: Arc<Local>,
    groups: BTreeMap<Arc<str>, Group>,
    /// The service of each container that is a task.
    homes: BTreeMap<Arc<str>, Arc<str>>,
    guests: BTreeMap<Arc<str>, Places>,
    /// Services by age: when their oldest container was created.
    ages: BTreeSet<(i64, Arc<str>)>,
}

#[derive(Default)]
struct Group {
    members: Members,
    /// What it wants, where it is there at all.
    service: Option<Arc<DesiredService>>,
    notes: Vec<Note>,
    age: Option<i64>,
}

impl Converter {
    pub fn new(node: Arc<str>, address: Option<Ipv4Addr>) -> Self {
        Self {
            here: Here { node, address },
            local: Arc::default(),
            groups: BTreeMap::new(),
            homes: BTreeMap::new(),
            guests: BTreeMap::new(),
            ages: BTreeSet::new(),
        }
    }

    /// The address under which other nodes reach this one.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.here.address
    }

    /// What is wanted by the containers of this picture.
    pub fn convert(&mut self, local: &Arc<Local>, address: Option<Ipv4Addr>) -> (Desired, Vec<Note>) {
        let mut touched = BTreeSet::new();
        let before = std::mem::replace(&mut self.local, Arc::clone(local));
        for (id, container) in changes(&before, local) {
            self.replace(id, container, &mut touched);
        }
        if self.here.address != address {
            self.here.address = address;
            touched.extend(self.groups.keys().cloned());
        }
        for name in touched {
            self.rebuild(&name);
        }
        let (mut desired, mut notes) = sift(self.wishes());
        self.unserved(&mut desired);
        notes.splice(
            0..0,
            self.groups.values().flat_map(|group| group.notes.iter().cloned()),
        );
        if self.here.address.is_none() {
            notes.insert(0, homeless(&self.here.node));
        }
        (desired, notes)
    }

    /// Puts a container where it belongs now, and tells whose services that changes.
    fn replace(
        &mut self,
        id: &Arc<str>,
        container: Option<&Arc<Container>>,
        touched: &mut BTreeSet<Arc<str>>,
    ) {
        self.guests.remove(id);
        if let Some(home) = self.homes.remove(id) {
            if let Some(group) = self.groups.get_mut(&home) {
                group.members.remove(id);
            }
            touched.insert(home);
        }
        match container.map(role) {
            None | Some(Role::Left) => {}
            Some(Role::Guest(places)) => {
                if !places.is_empty() {
                    self.guests.insert(Arc::clone(id), places);
                }
            }
            Some(Role::Task(member)) => {
                let service = Arc::clone(&member.service);
                let group = self.groups.entry(Arc::clone(&service)).or_default();
                group.members.insert(Arc::clone(id), member);
                self.homes.insert(Arc::clone(id), Arc::clone(&service));
                touched.insert(service);
            }
        }
    }

    fn rebuild(&mut self, name: &Arc<str>) {
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        let made = service(name, &group.members, &self.here);
        let strangers = made.as_ref().map(|made| &made.strangers);
        for (id, member) in &group.members {
            // It may ask for names, at least.
            match strangers.is_some_and(|strangers| strangers.contains(id)) {
                true => self.guests.insert(Arc::clone(id), guest(&member.container)),
                false => self.guests.remove(id),
            };
        }
        let age = made.as_ref().map(|made| made.age);
        if group.age != age {
            if let Some(before) = group.age {
                self.ages.remove(&(before, Arc::clone(name)));
            }
            self.ages.extend(age.map(|age| (age, Arc::clone(name))));
            group.age = age;
        }
        let (next, notes) = made.map(|made| (made.service, made.notes)).unzip();
        group.notes = notes.unwrap_or_default();
        if group.service.as_deref() != next.as_ref() {
            group.service = next.map(Arc::new);
        }
        if group.members.is_empty() {
            self.groups.remove(name);
        }
    }

    fn wishes(&self) -> Desired {
        let node = self.here.address.map(|address| {
            (
                Arc::clone(&self.here.node),
                DesiredNode {
                    address,
                    draining: false,
                },
            )
        });
        let services = self
            .groups
            .iter()
            .filter_map(|(name, group)| Some((Arc::clone(name), Arc::clone(group.service.as_ref()?))));
        let mut guests = Places::new();
        for places in self.guests.values() {
            guests.extend(
                places
                    .iter()
                    .map(|(address, networks)| (*address, Arc::clone(networks))),
            );
        }
        Desired {
            nodes: node.into_iter().collect(),
            services: services.collect(),
            order: self.ages.iter().map(|(_, name)| Arc::clone(name)).collect(),
            guests,
        }
    }
}

impl Converter {
    /// Containers that are tasks of nothing that is left ask for names all the same.
    fn unserved(&self, desired: &mut Desired) {
        for (name, group) in &self.groups {
            let backends = desired
                .services
                .get(name)
                .map_or(&[][..], |service| &service.backends);
            if backends.len() == group.members.len() {
                continue;
            }
            let tasks: HashSet<&Arc<str>> = backends.iter().map(|backend| &backend.task).collect();
            let others = group
                .members
                .values()
                .filter(|member| !tasks.contains(&member.task));
            desired
                .guests
                .extend(others.flat_map(|member| guest(&member.container)));
        }
    }
}

/// Containers that are not the same in both pictures; `None`: gone.
fn changes<'l>(before: &'l Local, after: &'l Local) -> Vec<(&'l Arc<str>, Option<&'l Arc<Container>>)> {
    let mut changes = Vec::new();
    let mut old = before.containers.iter().peekable();
    for (id, container) in &after.containers {
        while let Some((gone, _)) = old.next_if(|(known, _)| *known < id) {
            changes.push((gone, None));
        }
        match old.next_if(|(known, _)| *known == id) {
            Some((_, known)) if Arc::ptr_eq(known, container) => {}
            _ => changes.push((id, Some(container))),
        }
    }
    changes.extend(old.map(|(gone, _)| (gone, None)));
    changes
}

fn homeless(node: &str) -> Note {
    Note {
        service: None,
        what: format!("node {node}: this machine has no IPv4 address that other nodes could reach"),
        consequence: "no container is served".into(),
        fix: "give an interface an address, or set address in portico.toml".into(),
    }
}
