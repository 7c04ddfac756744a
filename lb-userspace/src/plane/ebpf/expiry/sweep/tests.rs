use std::cell::RefCell;

use lb_common::V4;

use super::super::World;
use super::*;

#[test]
fn an_established_connection_never_ends_by_silence_alone() {
    assert_eq!(age(TCP, flow_state::ANSWERED, u32::MAX, false), Age::Ask);
    assert_eq!(
        age(
            TCP,
            flow_state::ANSWERED | flow_state::FIN_CLIENT,
            IDLE - 1,
            false
        ),
        Age::Young
    );
}

#[test]
fn a_closed_connection_is_translated_for_two_minutes_and_a_reset_one_for_ten_seconds() {
    let both = flow_state::FIN_CLIENT | flow_state::FIN_TASK;
    assert_eq!(age(TCP, both, CLOSING - 1, false), Age::Young);
    assert_eq!(age(TCP, both, CLOSING, false), Age::Ask);
    assert_eq!(age(TCP, flow_state::RESET, RESET - 1, false), Age::Young);
    assert_eq!(age(TCP, flow_state::RESET, RESET, false), Age::Ask);
}

#[test]
fn a_silent_udp_flow_ends_after_three_minutes() {
    assert_eq!(age(lb_common::key::UDP, 0, UDP - 1, false), Age::Young);
    assert_eq!(age(lb_common::key::UDP, 0, UDP, false), Age::Over);
}

#[test]
fn where_the_table_fills_closed_connections_are_asked_about_after_ten_seconds() {
    let both = flow_state::FIN_CLIENT | flow_state::FIN_TASK;
    assert_eq!(age(TCP, both, CLOSING_CROWDED - 1, true), Age::Young);
    assert_eq!(age(TCP, both, CLOSING_CROWDED, true), Age::Ask);
}

#[test]
fn where_the_table_fills_silent_udp_flows_make_room_and_connections_stay() {
    assert_eq!(age(lb_common::key::UDP, 0, UDP_CROWDED - 1, true), Age::Young);
    assert_eq!(age(lb_common::key::UDP, 0, UDP_CROWDED, true), Age::Over);
    assert_eq!(age(TCP, flow_state::ANSWERED, IDLE - 1, true), Age::Young);
}

const TAG: u64 = 7;
const LIVE: u16 = 100;
const SHARE: u32 = 10;

/// Tables without a kernel.
#[derive(Default)]
struct Memory(HashMap<FlowKey<V4>, Flow>);

impl Flows<V4> for Memory {
    fn flow(&self, key: &FlowKey<V4>) -> Result<Option<Flow>, EbpfError> {
        Ok(self.0.get(key).copied())
    }

    fn set_flow(&mut self, key: FlowKey<V4>, flow: Flow) -> Result<(), EbpfError> {
        self.0.insert(key, flow);
        Ok(())
    }

    fn remove_flow(&mut self, key: &FlowKey<V4>) -> Result<(), EbpfError> {
        self.0.remove(key);
        Ok(())
    }

    fn back(&self, _: &RevKey<V4>) -> Result<Option<Rev<V4>>, EbpfError> {
        Ok(None)
    }

    fn remove_back(&mut self, _: &RevKey<V4>) -> Result<(), EbpfError> {
        Ok(())
    }
}

impl Memory {
    /// In an order that never changes, as the kernel's buckets have.
    fn all(&self) -> Vec<(FlowKey<V4>, Flow)> {
        let mut all: Vec<_> = self.0.iter().map(|(key, flow)| (*key, *flow)).collect();
        all.sort_by_key(|(key, _)| u16::from_be_bytes(key.client_port));
        all
    }

    fn put(&mut self, client_port: u16, state: u8) {
        let key = FlowKey {
            client: [192, 0, 2, 1],
            front: [192, 0, 2, 9],
            client_port: client_port.to_be_bytes(),
            front_port: [0, 80],
            protocol: u32::from(TCP),
        };
        let flow = Flow {
            tag: TAG,
            tick: now().wrapping_sub(2 * IDLE),
            client_port: key.client_port,
            state,
            ..Flow::default()
        };
        self.0.insert(key, flow);
    }
}

/// One step: the entries that are left, and the ports asked about.
fn step(entries: Vec<(FlowKey<V4>, Flow)>, memory: &mut Memory) -> (Vec<(FlowKey<V4>, Flow)>, Vec<u16>) {
    let local = Local {
        namespace: 3,
        ..Local::default()
    };
    let asked = RefCell::new(Vec::new());
    let ask = |question: &Probe| {
        let port = u16::from_be_bytes(question.client_port);
        asked.borrow_mut().push(port);
        if port < LIVE { Socket::Alive } else { Socket::Gone }
    };
    let world = World {
        locals: &[(TAG, local)].into(),
        ask: &ask,
        mask4: [0; 4],
        mask6: [0; 16],
        room: 1000,
    };
    let mut questions = Questions {
        world: &world,
        crowded: false,
        left: SHARE,
    };
    let left = flows(
        entries,
        memory,
        world.mask4,
        &mut questions,
        &mut Tally::default(),
    );
    (left.unwrap(), asked.into_inner())
}

#[test]
fn idle_flows_that_live_keep_no_dead_one_from_being_asked_about() {
    let mut memory = Memory::default();
    for port in 0..LIVE {
        memory.put(port, flow_state::ANSWERED);
    }
    let both = flow_state::FIN_CLIENT | flow_state::FIN_TASK;
    for port in LIVE..LIVE + 20 {
        memory.put(port, flow_state::ANSWERED | both);
    }
    let mut left = memory.all();
    for _ in 0..12 {
        left = step(left, &mut memory).0;
    }
    assert!(left.is_empty());
    assert_eq!(memory.0.len(), usize::from(LIVE));
}

#[test]
fn a_task_that_has_the_socket_is_asked_again_only_after_the_idle_time() {
    let mut memory = Memory::default();
    memory.put(1, flow_state::ANSWERED | flow_state::FIN_CLIENT);
    assert_eq!(step(memory.all(), &mut memory).1, [1]);
    let state = memory.all()[0].1.state;
    assert_eq!(state, flow_state::ANSWERED | flow_state::FIN_CLIENT);
    assert!(step(memory.all(), &mut memory).1.is_empty());
}

#[test]
fn a_packet_that_came_meanwhile_outweighs_the_answer() {
    let mut memory = Memory::default();
    memory.put(1, flow_state::ANSWERED);
    let read = memory.all();
    memory.0.values_mut().for_each(|flow| flow.node = 5);
    step(read, &mut memory);
    let flow = memory.all()[0].1;
    assert_eq!((flow.node, tick::elapsed(now(), flow.tick) >= IDLE), (5, true));
}
