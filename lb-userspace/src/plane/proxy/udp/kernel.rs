//! What the kernel can do with datagrams: asked once.

use std::sync::LazyLock;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Socket, Type};

/// It hands over datagrams of one flow together that came together (UDP_GRO, Linux 5.0).
pub fn merges() -> bool {
    ABLE.merges
}

/// It takes several datagrams together (UDP_SEGMENT, Linux 4.18).
pub fn cuts() -> bool {
    ABLE.cuts
}

struct Able {
    merges: bool,
    cuts: bool,
}

static ABLE: LazyLock<Able> = LazyLock::new(|| {
    // A socket that is never used. Where none can be had, nothing is expected of it.
    let able = Socket::new(Domain::IPV4, Type::DGRAM, None).map(|socket| Able {
        merges: setsockopt(&socket, sockopt::UdpGroSegment, &true).is_ok(),
        cuts: setsockopt(&socket, sockopt::UdpGsoSegment, &1000).is_ok(),
    });
    able.unwrap_or(Able {
        merges: false,
        cuts: false,
    })
});
