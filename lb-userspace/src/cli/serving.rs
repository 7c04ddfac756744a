//! Which plane serves what, for `portico status`.

use super::output::indent;
use crate::api::serving::Unusual;

/// Nothing where packet programs serve all.
pub fn text(unusual: &[Unusual]) -> String {
    if unusual.is_empty() {
        return String::new();
    }
    let lines: Vec<String> = unusual.iter().map(line).collect();
    format!("\nserved otherwise\n{}", indent(&lines.join("\n")))
}

fn line(unusual: &Unusual) -> String {
    let plane = unusual.plane.as_deref().unwrap_or("nobody");
    let named = unusual.frontends.join(", ");
    let more = match unusual.count - unusual.frontends.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("by {plane}: {named}{more}: {}", unusual.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once_for_all_frontends_that_have_it() {
        assert_eq!(text(&[]), "");
        let unusual = Unusual {
            plane: Some("proxy".into()),
            reason: "no task has an IPv6 address".into(),
            frontends: vec!["web *:8080/tcp (IPv6)".into()],
            count: 4,
        };
        let expected = "by proxy: web *:8080/tcp (IPv6) and 3 more: no task has an IPv6 address";
        assert!(text(&[unusual]).contains(expected));
    }
}
