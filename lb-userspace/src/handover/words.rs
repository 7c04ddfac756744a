//! What agents say to each other: one word in one message.

use serde::{Deserialize, Serialize};

/// Members in one word, so that it fits into a message.
pub const MEMBERS: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// A new agent asks for everything. Every version has this word and the next.
    TakeOver { version: u32 },
    /// It does not get it.
    Refused { why: String },
    /// Sockets that clients find come with this word.
    Sockets,
    /// Channels to agents that were before the one before come with it.
    Before,
    /// So many of both have been sent.
    All { descriptors: usize },
    /// The new agent has them.
    Have,
    /// The one before decides nothing any more, and its ports are free.
    Over,
    /// The new agent serves.
    Serving,
    /// Connections of the one before by member, in one or more words, and whether the member is on this node.
    Flows {
        first: bool,
        last: bool,
        members: Vec<(u64, u64, bool)>,
    },
    /// Of these, members whose connections are to end: they are gone, or have drained for long enough.
    End { gone: Vec<u64>, drained: Vec<u64> },
    /// The last one: so many TCP connections of clients were reset at the end of their time.
    Cut { connections: u64 },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::channel::LONGEST;

    #[test]
    fn the_longest_words_fit() {
        let members = vec![(u64::MAX, u64::MAX, false); MEMBERS];
        let flows = Word::Flows {
            first: false,
            last: false,
            members,
        };
        assert!(serde_json::to_vec(&flows).unwrap().len() < LONGEST);
        let end = Word::End {
            gone: vec![u64::MAX; MEMBERS],
            drained: vec![u64::MAX; MEMBERS],
        };
        assert!(serde_json::to_vec(&end).unwrap().len() < LONGEST);
    }
}
