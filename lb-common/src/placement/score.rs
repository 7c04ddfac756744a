//! The score of a member for a slot: weighted rendezvous hashing (Thaler and Ravishankar, 1998) without fractions.

use crate::hash::mix;

/// Step of SplitMix64, odd and close to 2⁶⁴ divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// How high the member `tag` ranks for `slot`: the highest of `weight` independent draws, so that a member of weight 2
/// wins as often as two members of weight 1. A weight of 0 draws nothing and scores 0.
///
/// `seed` is the cluster's; the tag is itself a hash of service, task and target port, so that services do not share
/// their ranking.
#[inline]
pub fn score(seed: u64, slot: u32, tag: u64, weight: u16) -> u64 {
    Draws::new(seed, tag).best(slot, weight)
}

/// A member's draws for every slot. Draw `c` for slot `s` is number `s · 2¹⁶ + c` of the SplitMix64 sequence that seed
/// and tag begin: one step and one mix, and no number serves twice.
#[derive(Clone, Copy)]
pub(super) struct Draws(u64);

impl Draws {
    #[inline]
    pub(super) fn new(seed: u64, tag: u64) -> Self {
        Self(mix(seed ^ mix(tag.wrapping_add(STEP))))
    }

    #[inline]
    pub(super) fn best(self, slot: u32, weight: u16) -> u64 {
        let first = self.0.wrapping_add(STEP.wrapping_mul((slot as u64) << 16));
        let draw = |c: u16| mix(first.wrapping_add(STEP.wrapping_mul(c as u64)));
        if weight == 1 {
            return draw(0);
        }
        (0..weight).map(draw).max().unwrap_or(0)
    }
}

/// A place in the ranking: score first; the tag decides between equals, so that the order of a list never does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) score: u64,
    pub(super) tag: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Other machines compute these too: a change of any of them breaks live connections while a cluster is upgraded.
    #[test]
    fn scores_never_change() {
        for (seed, slot, tag, weight, expected) in [
            (0, 0, 0, 1, 0x33fe_8bd4_f9c5_7863),
            (1, 0, 1, 1, 0xfe0a_78c1_ca7d_bf00),
            (
                0x0123_4567_89ab_cdef,
                4095,
                0xfeed_face_cafe_beef,
                1,
                0x274b_b262_3a1b_b73e,
            ),
            (
                0x0123_4567_89ab_cdef,
                4095,
                0xfeed_face_cafe_beef,
                256,
                0xfe72_c8bd_1311_ff98,
            ),
            (u64::MAX, u32::MAX, u64::MAX, u16::MAX, 0xffff_310d_2a67_28ee),
        ] {
            let found = score(seed, slot, tag, weight);
            assert_eq!(found, expected, "{found:#x}");
        }
    }

    #[test]
    fn a_weight_of_nothing_scores_nothing() {
        assert_eq!(score(1, 2, 3, 0), 0);
    }

    proptest! {
        #[test]
        fn more_weight_never_scores_less(seed: u64, slot: u32, tag: u64, a in 0u16..300, b in 0u16..300) {
            prop_assert!(score(seed, slot, tag, a.min(b)) <= score(seed, slot, tag, a.max(b)));
        }

        #[test]
        fn seed_slot_and_tag_all_matter(seed: u64, slot in 0u32..1 << 20, tag: u64, bit in 0u32..64) {
            let before = score(seed, slot, tag, 1);
            prop_assert_ne!(before, score(seed ^ 1 << bit, slot, tag, 1));
            prop_assert_ne!(before, score(seed, slot ^ 1 << (bit % 20), tag, 1));
            prop_assert_ne!(before, score(seed, slot, tag ^ 1 << bit, 1));
        }
    }
}
