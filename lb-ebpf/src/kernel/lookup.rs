//! Which socket a connection is for that comes in where another program of this node has the frontend's port: the proxy has one for
//! it all the same, at an address that no client asks for. Asked by the kernel where nobody has the connection yet.

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, bpf_sk_lookup};
use aya_ebpf::btf_maps::{HashMap, SockHash};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::SkLookupContext;
use lb_common::key::{Front, TCP};
use lb_common::socket::map;
use lb_common::{V4, V6};

use super::steer::OWN;

const FRONTS: usize = 1_024;
const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

const INET: u32 = 2;
/// In every network namespace.
const LOOPBACK: u32 = 1;

/// Frontends whose port another program has, with the cookie of the socket that answers instead. Addresses of IPv4 are mapped; a
/// port published on every node is there without an address, by family.
#[btf_map]
static TAKEN: HashMap<Front<V6>, u64, FRONTS, NO_PREALLOC> = HashMap::new();
/// These sockets, by cookie: one of each group that shares an address. One that is closed leaves by itself.
#[btf_map]
static LISTENER: SockHash<u64, FRONTS> = SockHash::new();

/// Leads the connection to the proxy's socket. Where there is none the kernel goes on looking, as if nobody had been asked.
#[inline(always)]
pub fn lead(context: SkLookupContext) {
    let asked = Asked(context.lookup);
    if asked.protocol() != TCP as u32 {
        return;
    }
    let (port, is_four) = (asked.port(), asked.family() == INET);
    // Both are read, of which one is zero: out of two branches the compiler would make one access to a field it computes.
    let pick = |four: V4, six: V6| if is_four { map(four) } else { six };
    let address = pick(asked.address4(), asked.address6());
    if lead_to(&context, &Front::new(address, port, TCP)) {
        return;
    }
    // What this node's own processes ask of its own addresses is the other program's. The kernel names them the device that has the
    // address.
    let client = pick(asked.client4(), asked.client6());
    if asked.device() != LOOPBACK && OWN.get_ptr(client).is_none() {
        lead_to(&context, &Front::new(pick([0; 4], [0; 16]), port, TCP));
    }
}

#[inline(always)]
fn lead_to(context: &SkLookupContext, front: &Front<V6>) -> bool {
    // SAFETY: the value is copied at once; values are replaced whole.
    let Some(&cookie) = (unsafe { TAKEN.get(front) }) else {
        return false;
    };
    let context = SkLookupContext::new(context.lookup);
    LISTENER.redirect_sk_lookup(context, cookie, 0).is_ok()
}

/// Fields are read whole and one at a time: the kernel rewrites each access, and knows no others.
#[derive(Clone, Copy)]
struct Asked(*mut bpf_sk_lookup);

impl Asked {
    #[inline(always)]
    fn family(self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (&raw const (*self.0).family).read_volatile() }
    }

    #[inline(always)]
    fn protocol(self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (&raw const (*self.0).protocol).read_volatile() }
    }

    #[inline(always)]
    fn port(self) -> [u8; 2] {
        // SAFETY: a field of the context, a number of the machine's.
        let port = unsafe { (&raw const (*self.0).local_port).read_volatile() };
        (port as u16).to_be_bytes()
    }

    #[inline(always)]
    fn device(self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (&raw const (*self.0).ingress_ifindex).read_volatile() }
    }

    #[inline(always)]
    fn address4(self) -> V4 {
        // SAFETY: a field of the context.
        unsafe { (&raw const (*self.0).local_ip4).read_volatile() }.to_ne_bytes()
    }

    #[inline(always)]
    fn address6(self) -> V6 {
        // SAFETY: a field of the context.
        words(unsafe { &raw const (*self.0).local_ip6 })
    }

    #[inline(always)]
    fn client4(self) -> V4 {
        // SAFETY: a field of the context.
        unsafe { (&raw const (*self.0).remote_ip4).read_volatile() }.to_ne_bytes()
    }

    #[inline(always)]
    fn client6(self) -> V6 {
        // SAFETY: a field of the context.
        words(unsafe { &raw const (*self.0).remote_ip6 })
    }
}

#[inline(always)]
fn words(field: *const [u32; 4]) -> V6 {
    // SAFETY: a field of the context.
    let word = |at: usize| unsafe { field.cast::<u32>().add(at).read_volatile() };
    // SAFETY: sixteen bytes either way.
    unsafe { core::mem::transmute([word(0), word(1), word(2), word(3)]) }
}
