//! What comes over trunks for the flows of one frontend, until its carrier takes it: both run on one thread, in turns.

use std::cell::RefCell;
use std::ops::Range;

use tokio::sync::Notify;

use crate::plane::proxy::udp::flows::FlowId;

/// Bytes that wait: a carrier that has so much before it does not get more.
const MOST: usize = 1 << 20;

#[derive(Default)]
pub struct Mailbox {
    mail: RefCell<Mail>,
    came: Notify,
}

/// What has come, in order.
#[derive(Default)]
pub struct Mail {
    /// Of all letters.
    pub bytes: Vec<u8>,
    pub letters: Vec<(FlowId, Letter)>,
}

pub enum Letter {
    /// An answer, or several of that size.
    Answers { range: Range<usize>, size: Option<u16> },
    /// The member's node has refused the flow, or cannot be reached.
    Refused,
    /// The member's node carries enough flows of this client: no other member would do better there.
    Crowded,
    /// The member's node has ended the flow.
    Closed,
}

impl Mailbox {
    /// False: there is no room.
    pub fn answers(&self, flow: FlowId, content: &[u8], size: Option<u16>) -> bool {
        let mut mail = self.mail.borrow_mut();
        let at = mail.bytes.len();
        if at + content.len() > MOST {
            return false;
        }
        mail.bytes.extend_from_slice(content);
        let range = at..mail.bytes.len();
        mail.letters.push((flow, Letter::Answers { range, size }));
        self.came.notify_one();
        true
    }

    /// The flow's last.
    pub fn last(&self, flow: FlowId, letter: Letter) {
        self.mail.borrow_mut().letters.push((flow, letter));
        self.came.notify_one();
    }

    /// Until there is something, now or since it was last asked.
    pub async fn came(&self) {
        self.came.notified().await;
    }

    /// Takes everything, in exchange for what is empty.
    pub fn exchange(&self, mail: &mut Mail) {
        std::mem::swap(&mut *self.mail.borrow_mut(), mail);
    }
}

impl Mail {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.letters.clear();
    }
}
