//! RFC 8020: NXDOMAIN means that there is nothing below either, so what has names below it is not denied.

use crate::fixture::serve;
use crate::tools::{dig, have};

#[test]
fn rfc8020_2_names_above_others_exist() {
    if !have("rfc8020_2", &["dig"]) {
        return;
    }
    let server = serve();
    for name in [
        "tasks.portico.internal",
        "dns.portico.internal",
        "_tcp.web.portico.internal",
        "front.portico.internal",
        "lab.portico.internal",
        "svc.cluster.local",
        "shop.svc.cluster.local",
    ] {
        let seen = dig(&server, &[name]);
        assert_eq!(
            (seen.status.as_str(), seen.answer.len()),
            ("NOERROR", 0),
            "{}",
            seen.text
        );
        assert_eq!(seen.authority.len(), 1);
    }
    for name in [
        "back.portico.internal",
        "closed.svc.cluster.local",
        "pod.cluster.local",
        "_tcp.nothing.portico.internal",
        "_tcp.lab.portico.internal",
    ] {
        assert_eq!(dig(&server, &[name]).status, "NXDOMAIN", "{name}");
    }
}
