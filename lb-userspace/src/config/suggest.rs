//! "Did you mean": the known word nearest to a mistyped one.

/// The word of `known` that `word` was probably meant to be.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Reason and fix for serde's "unknown field" and "unknown variant", which name the word and those known in backquotes.
pub fn from_serde(message: &str) -> Option<(String, String)> {
    let (what, rest) = match message.strip_prefix("unknown field ") {
        Some(rest) => ("key", rest),
        None => ("value", message.strip_prefix("unknown variant ")?),
    };
    let mut words = rest.split('`').skip(1).step_by(2);
    let word = words.next()?;
    let known: Vec<&str> = words.collect();
    Some((format!("unknown {what} `{word}`"), advice(word, &known)))
}

/// What to write instead of `word`.
pub fn advice(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`? known here: {}", known.join(", ")),
        None if known.is_empty() => "remove it".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        assert_eq!(nearest("intefaces", ["node", "interfaces"]), Some("interfaces"));
        assert_eq!(nearest("prots", ["ports", "vips"]), Some("ports"));
        assert_eq!(nearest("zzz", ["ports", "vips"]), None);
    }

    #[test]
    fn what_serde_says_becomes_reason_and_fix() {
        let (reason, fix) = from_serde("unknown field `nod`, expected one of `node`, `mode`").unwrap();
        assert_eq!(reason, "unknown key `nod`");
        assert_eq!(fix, "did you mean `node`? known here: node, mode");
        assert!(from_serde("invalid type").is_none());
    }
}
