//! What a node says to a connection that it is asked to carry on: one byte, before anything else.

/// Says how it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum Answer {
    #[error("connected")]
    Connected = 0,
    #[error("no such task runs there")]
    Gone = 1,
    #[error("the task is being taken out of service, and others are not")]
    Draining = 2,
    #[error("the task refuses connections")]
    Refused = 3,
    #[error("the task does not answer in time")]
    Silent = 4,
    #[error("the task cannot be reached from there")]
    Unreachable = 5,
    #[error("that node has no descriptors, ports or memory left")]
    Exhausted = 6,
    #[error("that node does not know this one")]
    Stranger = 7,
    #[error("that node knows this one by another address")]
    Misplaced = 8,
    #[error("that node does not understand what it is asked")]
    Malformed = 9,
    #[error("that node carries as many flows of this client as it may have")]
    Crowded = 10,
}

impl Answer {
    pub const ALL: [Self; 11] = [
        Self::Connected,
        Self::Gone,
        Self::Draining,
        Self::Refused,
        Self::Silent,
        Self::Unreachable,
        Self::Exhausted,
        Self::Stranger,
        Self::Misplaced,
        Self::Malformed,
        Self::Crowded,
    ];

    /// Nothing: another version's.
    pub fn of(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }

    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// As metrics have it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Gone => "gone",
            Self::Draining => "draining",
            Self::Refused => "refused",
            Self::Silent => "silent",
            Self::Unreachable => "unreachable",
            Self::Exhausted => "exhausted",
            Self::Stranger => "stranger",
            Self::Misplaced => "misplaced",
            Self::Malformed => "malformed",
            Self::Crowded => "crowded",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_its_own_byte_and_has_its_own_label() {
        for (at, answer) in Answer::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(answer.byte()), at);
            assert_eq!(Answer::of(answer.byte()), Some(answer));
            let same = Answer::ALL.iter().filter(|other| other.label() == answer.label());
            assert_eq!(same.count(), 1);
        }
        assert_eq!(Answer::of(Answer::ALL.len() as u8), None);
    }

    #[test]
    fn the_document_has_all_of_them() {
        let document = include_str!("../../../../docs/relay.md");
        let table = document.split("| byte | answer | meaning |").nth(1).unwrap();
        let rows = table.lines().skip(2).map_while(|line| line.strip_prefix("| "));
        let rows: Vec<_> = rows.map(str::to_owned).collect();
        let wanted: Vec<_> = Answer::ALL
            .map(|answer| format!("{} | `{}` | {answer} |", answer.byte(), answer.label()))
            .into();
        assert_eq!(rows, wanted);
    }
}
