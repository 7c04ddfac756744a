use hickory_server::proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_server::proto::rr::rdata::{A, CNAME, SOA};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::encode::Opt;

fn parse(bytes: Vec<u8>) -> Option<Packed> {
    Packed::parse(bytes, ([192, 0, 2, 53], 53).into())
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn a(owner: &str, ttl: u32, last: u8) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(A::new(192, 0, 2, last)))
}

fn soa(ttl: u32, minimum: u32) -> Record {
    let rdata = SOA::new(name("ns.example."), name("h.example."), 1, 2, 3, 4, minimum);
    Record::from_rdata(name("example."), ttl, RData::SOA(rdata))
}

fn message(change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Response, OpCode::Query);
    message.add_query(Query::query(name("www.example."), RecordType::A));
    change(&mut message);
    message.to_vec().unwrap()
}

fn request(size: u16, edns: bool) -> (Metadata, Room) {
    let mut metadata = Metadata::new(99, MessageType::Query, OpCode::Query);
    metadata.recursion_desired = true;
    let opt = edns.then_some(Opt {
        size: 1232,
        ..Opt::default()
    });
    (metadata, Room { size, opt })
}

fn answer(packed: &Packed, size: u16, edns: bool, age: Age) -> (Message, usize, bool) {
    let (metadata, room) = request(size, edns);
    let mut out = Vec::new();
    let cut = packed.write(
        &metadata,
        b"\x03WwW\x07eXample\x00\x00\x01\x00\x01",
        room,
        age,
        &mut out,
    );
    (Message::from_vec(&out).unwrap(), out.len(), cut)
}

#[test]
fn an_answer_is_passed_on_with_the_clients_id_case_and_the_time_that_is_left() {
    let bytes = message(|message| {
        message.add_answer(Record::from_rdata(
            name("www.example."),
            300,
            RData::CNAME(CNAME(name("x.example."))),
        ));
        message.add_answer(a("x.example.", 60, 1));
        message.set_edns(Edns::new());
    });
    let packed = parse(bytes).unwrap();
    assert_eq!(packed.ttl(), 60);
    let (message, _, cut) = answer(&packed, 512, true, Age::Fresh(Duration::from_secs(10)));
    assert!(!cut);
    assert_eq!(message.metadata.id, 99);
    assert!(message.metadata.recursion_available && message.metadata.recursion_desired);
    assert_eq!(message.queries[0].name().to_string(), "WwW.eXample.");
    let ttls: Vec<_> = message.answers.iter().map(|record| record.ttl).collect();
    assert_eq!(ttls, [290, 50]);
    assert!(message.edns.is_some());
    let (plain, _, _) = answer(&packed, 512, false, Age::Fresh(Duration::ZERO));
    assert!(plain.edns.is_none());
    let (stale, _, _) = answer(&packed, 512, false, Age::Stale);
    assert!(stale.answers.iter().all(|record| record.ttl == 30));
}

#[test]
fn only_whole_records_are_left_in_what_is_cut() {
    let bytes = message(|message| {
        for last in 0..100 {
            message.add_answer(a("www.example.", 60, last));
        }
    });
    let packed = parse(bytes).unwrap();
    for edns in [false, true] {
        let (message, length, cut) = answer(&packed, 512, edns, Age::Fresh(Duration::ZERO));
        assert!(cut && length <= 512 && length > 480, "{length}");
        assert!(message.metadata.truncation);
        assert_eq!(message.edns.is_some(), edns);
        assert!(message.answers.len() < 100 && message.answers.len() > 20);
    }
}

#[test]
fn missing_additional_records_are_not_truncation() {
    let bytes = message(|message| {
        message.add_answer(a("www.example.", 60, 1));
        for last in 0..100 {
            message.add_additional(a("other.example.", 60, last));
        }
    });
    let (message, _, cut) = answer(&parse(bytes).unwrap(), 512, false, Age::Fresh(Duration::ZERO));
    assert!(!cut && !message.metadata.truncation);
    assert_eq!(message.answers.len(), 1);
}

#[test]
fn rfc2308_5_a_negative_answer_holds_for_the_smaller_of_the_soas_two_times() {
    let negative = |record: Option<Record>| {
        let bytes = message(|message| {
            message.metadata.response_code = ResponseCode::NXDomain;
            if let Some(record) = record {
                message.add_authority(record);
            }
        });
        parse(bytes).unwrap().ttl()
    };
    assert_eq!(negative(Some(soa(300, 60))), 60);
    assert_eq!(negative(Some(soa(20, 60))), 20);
    assert_eq!(negative(None), 0);
}

#[test]
fn failures_are_not_remembered_here() {
    let bytes = message(|message| {
        message.metadata.response_code = ResponseCode::ServFail;
        message.add_authority(soa(300, 60));
    });
    let packed = parse(bytes).unwrap();
    assert_eq!(packed.ttl(), 0);
    assert!(!packed.is_conclusive());
}

#[test]
fn nothing_is_made_of_noise() {
    let good = message(|message| {
        message.add_answer(a("www.example.", 60, 1));
        message.add_authority(soa(300, 60));
        message.set_edns(Edns::new());
    });
    for length in 0..good.len() {
        assert_eq!(parse(good[..length].to_vec()), None, "{length}");
    }
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            // Whatever it is taken for, it can be written.
            if let Some(packed) = parse(bytes) {
                let (metadata, room) = request(512, true);
                let mut out = Vec::new();
                packed.write(&metadata, b"", room, Age::Stale, &mut out);
                assert!(out.len() <= 512);
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_like_an_answer_is_refused_or_can_be_passed_on(
        changes in vec((any::<Index>(), any::<u8>()), 0..8),
        cut in any::<Index>(),
        size in 512..1500u16,
        edns: bool,
    ) {
        let mut bytes = message(|message| {
            message.add_answer(Record::from_rdata(name("www.example."), 300, RData::CNAME(CNAME(name("x.example.")))));
            (0..40).for_each(|last| { message.add_answer(a("x.example.", 60, last)); });
            message.add_authority(soa(300, 60));
            message.add_additional(a("ns.example.", 60, 53));
            message.set_edns(Edns::new());
        });
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut.index(bytes.len()) / 8);
        if let Some(packed) = parse(bytes) {
            let (metadata, room) = request(size, edns);
            let mut out = Vec::new();
            let cut = packed.write(&metadata, packed_question(&packed), room, Age::Stale, &mut out);
            prop_assert!(out.len() <= size.into());
            let again = parse(out).expect("what was well-formed stays so");
            prop_assert_eq!(again.is_truncated(), cut);
            prop_assert!(again.records.len() <= packed.records.len());
        }
    }
}

fn packed_question(packed: &Packed) -> &[u8] {
    &packed.bytes[HEADER..packed.question]
}
