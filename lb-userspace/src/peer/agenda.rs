//! What the next heartbeat says: a share of everything, in turn, so that all of it is repeated by and by.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::wire::{DRAIN_ROOM, Heartbeat, MAX_TAGS, mark_size};
use crate::health::HealthReport;
use crate::model::{DrainMark, Drains};

pub struct Agenda {
    node: Arc<str>,
    boot: u64,
    sequence: u64,
    settled: bool,
    unhealthy: BTreeSet<u64>,
    /// Where the next heartbeat's range of tags begins.
    tag: u64,
    drains: Vec<DrainMark>,
    /// The mark that the next heartbeat begins with.
    mark: usize,
}

impl Agenda {
    pub fn new(node: Arc<str>, boot: u64) -> Self {
        let (unhealthy, drains) = (BTreeSet::new(), Vec::new());
        Self {
            node,
            boot,
            sequence: 0,
            settled: false,
            unhealthy,
            tag: 0,
            drains,
            mark: 0,
        }
    }

    /// Tells whether there is news in it.
    pub fn set_health(&mut self, report: &HealthReport) -> bool {
        let news = self.settled != report.settled || self.unhealthy != report.unhealthy;
        self.settled = report.settled;
        if news {
            self.unhealthy.clone_from(&report.unhealthy);
        }
        news
    }

    pub fn set_drains(&mut self, drains: &Drains) {
        self.drains = drains.iter().collect();
        // The latest word first: it is the news.
        self.drains.sort_by_key(|mark| std::cmp::Reverse(mark.stamp));
        self.mark = 0;
    }

    /// The next heartbeat, without an echo, and of a node with packet programs.
    pub fn next(&mut self) -> Heartbeat {
        self.sequence += 1;
        let first = self.tag;
        let mut ahead = self.unhealthy.range(first..);
        let unhealthy: Vec<u64> = ahead.by_ref().take(MAX_TAGS).copied().collect();
        let last = match (ahead.next(), unhealthy.last()) {
            (Some(_), Some(last)) => *last,
            _ => u64::MAX,
        };
        self.tag = last.wrapping_add(1);
        Heartbeat {
            boot: self.boot,
            sequence: self.sequence,
            echo: 0,
            settled: self.settled,
            by_proxy: false,
            node: self.node.to_string(),
            range: first..=last,
            unhealthy,
            drains: self.next_drains(),
        }
    }

    fn next_drains(&mut self) -> Vec<DrainMark> {
        let mut room = DRAIN_ROOM;
        let mut marks = Vec::new();
        for mark in self.drains.iter().skip(self.mark) {
            let Some(left) = room
                .checked_sub(mark_size(mark))
                .filter(|_| marks.len() < usize::from(u8::MAX))
            else {
                self.mark += marks.len();
                return marks;
            };
            room = left;
            marks.push(mark.clone());
        }
        self.mark = 0;
        marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DrainObject;

    fn agenda(unhealthy: impl Iterator<Item = u64>) -> Agenda {
        let mut agenda = Agenda::new("node1".into(), 1);
        let report = HealthReport {
            unhealthy: unhealthy.collect(),
            settled: true,
            ..HealthReport::default()
        };
        assert!(agenda.set_health(&report));
        assert!(!agenda.set_health(&report));
        agenda
    }

    #[test]
    fn few_unhealthy_backends_are_all_in_every_heartbeat() {
        let mut agenda = agenda([5, 7].into_iter());
        for _ in 0..3 {
            let heartbeat = agenda.next();
            assert_eq!((heartbeat.range, heartbeat.unhealthy), (0..=u64::MAX, vec![5, 7]));
        }
    }

    #[test]
    fn many_are_told_in_turn_without_a_gap() {
        let mut agenda = agenda((0..100).map(|n| n * 10));
        let heartbeats: Vec<Heartbeat> = (0..3).map(|_| agenda.next()).collect();
        assert_eq!(*heartbeats[0].range.start(), 0);
        assert_eq!(*heartbeats[2].range.end(), u64::MAX);
        for pair in heartbeats.windows(2) {
            assert_eq!(*pair[0].range.end() + 1, *pair[1].range.start());
        }
        assert_eq!(
            heartbeats
                .iter()
                .map(|heartbeat| heartbeat.unhealthy.len())
                .sum::<usize>(),
            100
        );
        assert_eq!(agenda.next().range, heartbeats[0].range);
    }

    #[test]
    fn every_drain_mark_has_its_turn_and_the_latest_comes_first() {
        let mut drains = Drains::default();
        for stamp in 0..200 {
            let object = DrainObject::Node(format!("node{stamp}").into());
            drains.learn(DrainMark {
                object,
                drained: true,
                stamp,
            });
        }
        let mut agenda = agenda([1].into_iter());
        agenda.set_drains(&drains);
        let first = agenda.next().drains;
        assert_eq!(first[0].stamp, 199);
        let mut told: BTreeSet<u64> = first.iter().map(|mark| mark.stamp).collect();
        for _ in 0..20 {
            told.extend(agenda.next().drains.iter().map(|mark| mark.stamp));
        }
        assert_eq!(told.len(), 200);
    }
}
