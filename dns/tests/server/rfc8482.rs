//! RFC 8482: ANY is answered with little.

use crate::fixture::serve;
use crate::tools::{dig, have};

#[test]
fn rfc8482_4_2_any_is_answered_with_a_synthesized_hinfo() {
    if !have("rfc8482_4_2", &["dig"]) {
        return;
    }
    let server = serve();
    for name in [
        "web.portico.internal",
        "many.portico.internal",
        "portico.internal",
        "web",
    ] {
        let seen = dig(&server, &["+notcp", name, "ANY"]);
        assert_eq!(seen.answer.len(), 1, "{}", seen.text);
        assert!(
            seen.answer[0].contains("HINFO\t\"RFC8482\" \"\""),
            "{}",
            seen.text
        );
    }
    assert_eq!(
        dig(&server, &["+notcp", "nothing.portico.internal", "ANY"]).status,
        "NXDOMAIN"
    );
}
