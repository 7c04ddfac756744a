//! What another node says over its connection, frame by frame.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::between::{patient, two};
use super::far::{Far, far};
use super::*;
use crate::plane::proxy::answer::Answer;
use crate::plane::proxy::header::Transport;
use crate::plane::proxy::header::relay_header::Wanted;
use crate::plane::proxy::udp::trunk::Ended;
use crate::plane::proxy::udp::trunk::frame::{self, Frame, Unread};

pub fn wanted(member: u64) -> Wanted {
    Wanted {
        member,
        transport: Transport::Datagram,
        client: "192.0.2.1:4711".parse().unwrap(),
        front: "192.0.2.80:53".parse().unwrap(),
    }
}

fn opening(number: u32, member: u64, out: &mut Vec<u8>) {
    frame::write_open(number, &wanted(member), false, out);
}

fn datagram(number: u32, content: &[u8], out: &mut Vec<u8>) {
    frame::write_datagrams(number, None, content.len(), [content].into_iter(), out);
}

#[test]
fn what_is_no_frame_ends_the_connection_and_all_flows_of_it() {
    far(async {
        let node = Far::new(patient());
        let task = Task::v4("a").await;
        node.has(1, task.address);
        let (mut twice, mut wrong_way, mut noise) = (Vec::new(), Vec::new(), Vec::new());
        opening(1, 1, &mut twice);
        frame::write_refused(1, Answer::Gone, &mut wrong_way);
        noise.extend(b"GET / HTTP/1.1\r\n\r\n");
        for (bytes, why) in [
            (twice, Unread::Twice),
            (wrong_way, Unread::Direction),
            (noise, Unread::Kind(b'G')),
        ] {
            let (mut here, there) = tokio::io::duplex(1 << 16);
            let serving = node.take(there);
            let mut first = Vec::new();
            opening(1, 1, &mut first);
            datagram(1, b"hello", &mut first);
            here.write_all(&first).await.unwrap();
            let mut answer = [0; frame::HEAD + 7];
            here.read_exact(&mut answer).await.unwrap();
            let answered = (1, Frame::Datagram(b"a:hello"), answer.len());
            assert_eq!(frame::read(&answer), Ok(Some(answered)));
            assert_eq!(node.flows.get(), 1);
            here.write_all(&bytes).await.unwrap();
            let ended = timeout(PATIENCE, serving).await.unwrap().unwrap();
            assert!(
                matches!(ended, Err(Ended::Unread(unread)) if unread == why),
                "{ended:?}"
            );
            assert_eq!((node.flows.get(), node.shared.flows()), (0, 0));
        }
    });
}

#[test]
fn what_comes_for_a_flow_that_has_ended_is_counted_and_no_more() {
    far(async {
        let node = Far::new(patient());
        let task = Task::v4("a").await;
        node.has(1, task.address);
        let (mut here, there) = tokio::io::duplex(1 << 16);
        let serving = node.take(there);
        let mut bytes = Vec::new();
        datagram(7, b"too late", &mut bytes);
        frame::write_close(7, &mut bytes);
        opening(8, 2, &mut bytes);
        datagram(8, b"nobody", &mut bytes);
        here.write_all(&bytes).await.unwrap();
        let mut answer = [0; frame::HEAD + 1];
        here.read_exact(&mut answer).await.unwrap();
        let refused = (8, Frame::Refused(Answer::Gone), answer.len());
        assert_eq!(frame::read(&answer), Ok(Some(refused)));
        assert_eq!(node.shared.for_nodes.lost(Loss::Closed), 2);
        drop(here);
        assert!(timeout(PATIENCE, serving).await.unwrap().unwrap().is_ok());
    });
}

#[test]
fn a_node_that_has_left_the_cluster_has_no_flows() {
    far(async {
        let (bed, _tasks) = two().await;
        let client = bed.client().await;
        assert_eq!(ask(&client, "1").await, "a:1");
        let (mut here, there) = tokio::io::duplex(1 << 16);
        let serving = bed.far.take(there);
        bed.far.is_known.set(false);
        let mut bytes = Vec::new();
        opening(1, 1, &mut bytes);
        here.write_all(&bytes).await.unwrap();
        let mut answer = [0; frame::HEAD + 1];
        here.read_exact(&mut answer).await.unwrap();
        let refused = (1, Frame::Refused(Answer::Stranger), answer.len());
        assert_eq!(frame::read(&answer), Ok(Some(refused)));
        let ended = timeout(PATIENCE, serving).await.unwrap().unwrap();
        assert!(matches!(ended, Err(Ended::Unknown)), "{ended:?}");
        bed.until("all its flows end", |bed| bed.far.shared.flows() == 0)
            .await;
    });
}
