//! The same headers, read and written by an implementation that is not ours.

use ppp::{v1 as theirs_v1, v2 as theirs};

use super::*;

fn of_theirs(source: SocketAddr, destination: SocketAddr) -> Option<(SocketAddr, SocketAddr)> {
    Some((canonical(source), canonical(destination)))
}

proptest! {
    #[test]
    fn they_read_the_lines_that_we_write(source in any_address(), destination in any_address()) {
        let mut line = Vec::new();
        write_v1(source, destination, &mut line);
        let header = theirs_v1::Header::try_from(&line[..]).unwrap();
        let read = match header.addresses {
            theirs_v1::Addresses::Tcp4(v4) => of_theirs(
                (v4.source_address, v4.source_port).into(),
                (v4.destination_address, v4.destination_port).into(),
            ),
            theirs_v1::Addresses::Tcp6(v6) => of_theirs(
                (v6.source_address, v6.source_port).into(),
                (v6.destination_address, v6.destination_port).into(),
            ),
            theirs_v1::Addresses::Unknown => None,
        };
        prop_assert_eq!(read, of_theirs(source, destination));
    }

    #[test]
    fn they_read_the_headers_that_we_write(
        transport in any_transport(),
        source in any_address(),
        destination in any_address(),
        tlvs in any_row(),
    ) {
        let (mut bytes, row) = (Vec::new(), row(&tlvs));
        let sound = Tlvs::within(&row, 0).unwrap();
        write_v2(&Header { tlvs: sound, ..Header::proxied(transport, source, destination) }, &mut bytes);
        let header = theirs::Header::try_from(&bytes[..]).unwrap();
        prop_assert_eq!(header.len(), bytes.len());
        prop_assert_eq!(header.command, theirs::Command::Proxy);
        let protocol = match transport {
            Transport::Datagram => theirs::Protocol::Datagram,
            _ => theirs::Protocol::Stream,
        };
        prop_assert_eq!(header.protocol, protocol);
        let read = match header.addresses {
            theirs::Addresses::IPv4(v4) => of_theirs(
                (v4.source_address, v4.source_port).into(),
                (v4.destination_address, v4.destination_port).into(),
            ),
            theirs::Addresses::IPv6(v6) => of_theirs(
                (v6.source_address, v6.source_port).into(),
                (v6.destination_address, v6.destination_port).into(),
            ),
            _ => None,
        };
        prop_assert_eq!(read, of_theirs(source, destination));
        let found: Vec<_> = header.tlvs().map(|tlv| tlv.map(|tlv| (tlv.kind, tlv.value.into_owned()))).collect();
        let meant: Vec<_> = tlvs.into_iter().map(Ok).collect();
        prop_assert_eq!(found, meant);
    }

    #[test]
    fn we_read_the_headers_that_they_write(
        transport in any_transport(),
        source in any_address(),
        destination in any_address(),
        tlvs in any_row(),
    ) {
        let protocol = match transport {
            Transport::Datagram => theirs::Protocol::Datagram,
            _ => theirs::Protocol::Stream,
        };
        let mut builder = theirs::Builder::with_addresses(
            theirs::Version::Two | theirs::Command::Proxy,
            protocol,
            (source, destination),
        );
        for (kind, value) in &tlvs {
            builder = builder.write_tlv(*kind, value).unwrap();
        }
        let bytes = builder.build().unwrap();
        let (header, length) = whole(&bytes);
        prop_assert_eq!(length, bytes.len());
        // They have no addresses where families differ.
        if source.is_ipv4() == destination.is_ipv4() {
            prop_assert_eq!(header.source.zip(header.destination), of_theirs(source, destination));
            let found: Vec<_> = header.tlvs.iter().map(|tlv| (tlv.kind, tlv.value.to_vec())).collect();
            prop_assert_eq!(found, tlvs);
        }
    }
}
