//! What addresses this machine has, as far as the kernel says.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use nix::sys::socket::SockaddrStorage;

/// One of a device.
pub struct Address {
    pub device: String,
    pub ip: IpAddr,
    /// With the network that it is in.
    pub network: Option<IpNet>,
}

/// Of all devices of this network namespace, in the kernel's order. Asked anew each time, for addresses come and go.
pub fn addresses() -> io::Result<impl Iterator<Item = Address>> {
    let interfaces = nix::ifaddrs::getifaddrs()?;
    Ok(interfaces.filter_map(|interface| {
        let ip = ip(&interface.address?)?;
        let mask = interface.netmask.as_ref().and_then(self::ip);
        Some(Address {
            device: interface.interface_name,
            ip,
            network: mask.and_then(|mask| IpNet::with_netmask(ip, mask).ok()),
        })
    }))
}

/// None: of no protocol that has any.
fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(four), _) => Some(four.ip().into()),
        (_, Some(six)) => Some(six.ip().into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machines_own_networks_are_known() {
        let loopback: IpNet = "127.0.0.1/8".parse().unwrap();
        let mut all = addresses().unwrap();
        assert!(all.any(|address| address.network == Some(loopback) && address.ip.is_loopback()));
    }
}
