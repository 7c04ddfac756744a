//! Which plane serves what, for `portico status`.

use super::output::{Format, indent};
use super::words::first;
use crate::api::serving::Unusual;

/// Nothing where packet programs serve all.
pub fn text(unusual: &[Unusual], format: Format) -> String {
    if unusual.is_empty() {
        return String::new();
    }
    let lines: Vec<String> = unusual.iter().map(|unusual| line(unusual, format)).collect();
    format!("\nserved otherwise\n{}", indent(&lines.join("\n")))
}

fn line(unusual: &Unusual, format: Format) -> String {
    let plane = unusual.plane.as_deref().unwrap_or("nobody");
    let named = first(&unusual.frontends, format);
    format!("by {plane}: {named}: {}", unusual.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once_for_all_frontends_that_have_it() {
        assert_eq!(text(&[], Format::Table), "");
        let frontends: Vec<String> = (1..=7).map(|n| format!("web *:808{n}/tcp (IPv6)")).collect();
        let unusual = [Unusual {
            plane: Some("proxy".into()),
            reason: "no task has an IPv6 address".into(),
            count: frontends.len(),
            frontends,
        }];
        let short = text(&unusual, Format::Table);
        let expected = "web *:8085/tcp (IPv6) and 2 more: no task has an IPv6 address";
        assert!(short.contains(expected), "{short}");
        let wide = text(&unusual, Format::Wide);
        assert!(
            wide.contains("web *:8087/tcp (IPv6): no task has an IPv6 address"),
            "{wide}"
        );
    }
}
