//! Version 1: section 2.1 of the specification.

use super::*;

fn written(source: &str, destination: &str) -> String {
    let mut out = Vec::new();
    write_v1(address(source), address(destination), &mut out);
    String::from_utf8(out).unwrap()
}

/// The longest lines that the specification names.
const LONGEST_V4: &str = "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n";
const LONGEST_V6: &str = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
const LONGEST_UNKNOWN: &str = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";

#[test]
fn the_example_of_the_specification_is_read() {
    let request =
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nGET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n";
    let (header, length) = whole(request);
    let expected = Header::proxied(
        Transport::Stream,
        address("192.168.0.1:56324"),
        address("192.168.0.11:443"),
    );
    assert_eq!(header, expected);
    assert!(request[length..].starts_with(b"GET /"));
}

#[rstest]
#[case(LONGEST_V4, 56)]
#[case(LONGEST_V6, 104)]
#[case("PROXY UNKNOWN\r\n", 15)]
#[case(LONGEST_UNKNOWN, 107)]
fn the_longest_lines_are_read(#[case] line: &str, #[case] length: usize) {
    assert_eq!(line.len(), length);
    assert_eq!(whole(line.as_bytes()).1, length);
}

#[rstest]
#[case("PROXY UNKNOWN\r\n")]
#[case("PROXY UNKNOWN \r\n")]
#[case("PROXY UNKNOWN 192.0.2.1 192.0.2.2 1 2\r\n")]
#[case("PROXY UNKNOWN  whatever\tthis  is\r\n")]
#[case(LONGEST_UNKNOWN)]
fn of_an_unknown_protocol_the_rest_is_ignored(#[case] line: &str) {
    let (header, length) = whole(line.as_bytes());
    assert_eq!(header, Header::bare(Command::Proxy, Transport::Unspecified));
    assert_eq!(length, line.len());
}

#[rstest]
#[case("::1", "2001:db8::80", "::1", "2001:db8::80")]
#[case("2001:DB8:0:0:0:0:0:1", "::", "2001:db8::1", "::")]
#[case("::ffff:192.0.2.1", "::ffff:c000:202", "192.0.2.1", "192.0.2.2")]
fn ipv6_is_read_in_every_form(
    #[case] source: &str,
    #[case] destination: &str,
    #[case] meant_source: IpAddr,
    #[case] meant_destination: IpAddr,
) {
    let line = format!("PROXY TCP6 {source} {destination} 0 65535\r\n");
    let (header, _) = whole(line.as_bytes());
    assert_eq!(header.source, Some((meant_source, 0).into()));
    assert_eq!(header.destination, Some((meant_destination, 65535).into()));
}

#[rstest]
#[case::protocol("PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n", 6, Wrong::Protocol)]
#[case::lower_case("PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n", 6, Wrong::Protocol)]
#[case::glued("PROXY UNKNOWNX\r\n", 6, Wrong::Protocol)]
#[case::two_spaces("PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n", 6, Wrong::Protocol)]
#[case::no_protocol("PROXY \r\n", 6, Wrong::Protocol)]
#[case::nothing_else("PROXY TCP4\r\n", 10, Wrong::Missing)]
#[case::one_address("PROXY TCP4 192.0.2.1\r\n", 20, Wrong::Missing)]
#[case::no_ports("PROXY TCP4 192.0.2.1 192.0.2.2\r\n", 30, Wrong::Missing)]
#[case::one_port("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", 32, Wrong::Missing)]
#[case::space_at_the_end("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", 35, Wrong::Surplus)]
#[case::three_ports("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", 35, Wrong::Surplus)]
#[case::spaces_between("PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n", 21, Wrong::Address4)]
#[case::tab("PROXY TCP4 192.0.2.1\t192.0.2.2 1 2\r\n", 11, Wrong::Address4)]
#[case::other_family("PROXY TCP4 2001:db8::1 192.0.2.2 1 2\r\n", 11, Wrong::Address4)]
#[case::other_family_6("PROXY TCP6 2001:db8::1 192.0.2.2 1 2\r\n", 23, Wrong::Address6)]
#[case::octal("PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", 11, Wrong::Address4)]
#[case::number("PROXY TCP4 3221225985 192.0.2.2 1 2\r\n", 11, Wrong::Address4)]
#[case::three_parts("PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n", 11, Wrong::Address4)]
#[case::high_part("PROXY TCP4 192.0.2.1 192.0.2.256 1 2\r\n", 21, Wrong::Address4)]
#[case::port_behind("PROXY TCP4 192.0.2.1:1 192.0.2.2:2 1 2\r\n", 11, Wrong::Address4)]
#[case::two_gaps("PROXY TCP6 2001::db8::1 :: 1 2\r\n", 11, Wrong::Address6)]
#[case::zone("PROXY TCP6 fe80::1%eth0 :: 1 2\r\n", 11, Wrong::Address6)]
#[case::brackets("PROXY TCP6 [::1] :: 1 2\r\n", 11, Wrong::Address6)]
#[case::high_port("PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", 31, Wrong::Port)]
#[case::leading_zero("PROXY TCP4 192.0.2.1 192.0.2.2 080 2\r\n", 31, Wrong::Port)]
#[case::two_zeros("PROXY TCP4 192.0.2.1 192.0.2.2 1 00\r\n", 33, Wrong::Port)]
#[case::plus("PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", 31, Wrong::Port)]
#[case::minus("PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n", 31, Wrong::Port)]
#[case::hexadecimal("PROXY TCP4 192.0.2.1 192.0.2.2 1 0x50\r\n", 33, Wrong::Port)]
#[case::empty_port("PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n", 33, Wrong::Port)]
#[case::lf_alone("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", 34, Wrong::Ending)]
#[case::cr_alone("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rGET", 34, Wrong::Ending)]
#[case::two_crs("PROXY UNKNOWN\r\r\n", 13, Wrong::Ending)]
#[case::lf_first("PROXY UNKNOWN\n\r\n", 13, Wrong::Ending)]
fn a_line_that_is_not_exactly_one_is_refused(#[case] line: &str, #[case] at: usize, #[case] wrong: Wrong) {
    refused(line.as_bytes(), at, wrong);
    refused(format!("{line}more\r\n").as_bytes(), at, wrong);
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    refused(b"PROXY TCP4 192.0.2.\xff 192.0.2.2 1 2\r\n", 11, Wrong::Address4);
    refused(b"PROXY TCP4 192.0.2.1\0 192.0.2.2 1 2\r\n", 11, Wrong::Address4);
}

#[test]
fn a_line_is_waited_for_as_long_as_the_longest_one_is() {
    let line = format!("PROXY UNKNOWN {}", "x".repeat(200));
    for length in 0..107 {
        assert_eq!(parse(&line.as_bytes()[..length]), Ok(Parsed::More), "{length}");
    }
    for length in 107..line.len() {
        refused(&line.as_bytes()[..length], 107, Wrong::Unending);
    }
    // The CR is within, the LF is not.
    let line = format!("{}\r\n", &line[..106]);
    refused(&line.as_bytes()[..107], 107, Wrong::Unending);
    refused(line.as_bytes(), 107, Wrong::Unending);
}

#[rstest]
#[case(
    "192.0.2.1:56324",
    "192.0.2.80:443",
    "PROXY TCP4 192.0.2.1 192.0.2.80 56324 443\r\n"
)]
#[case(
    "255.255.255.255:65535",
    "255.255.255.255:65535",
    "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"
)]
#[case(
    "[2001:db8::1]:1",
    "[2001:db8::80]:0",
    "PROXY TCP6 2001:db8::1 2001:db8::80 1 0\r\n"
)]
#[case(
    "[::ffff:192.0.2.1]:1",
    "[::ffff:192.0.2.80]:2",
    "PROXY TCP4 192.0.2.1 192.0.2.80 1 2\r\n"
)]
#[case(
    "192.0.2.1:1",
    "[2001:db8::80]:2",
    "PROXY TCP6 ::ffff:c000:201 2001:db8::80 1 2\r\n"
)]
#[case("[fe80::1%3]:1", "[::]:2", "PROXY TCP6 fe80::1 :: 1 2\r\n")]
fn a_line_is_written_in_its_canonical_form(
    #[case] source: &str,
    #[case] destination: &str,
    #[case] line: &str,
) {
    assert_eq!(written(source, destination), line);
}

proptest! {
    #[test]
    fn what_was_written_is_read(source in any_address(), destination in any_address()) {
        let mut line = Vec::new();
        write_v1(source, destination, &mut line);
        prop_assert!(line.len() <= 104);
        let (header, length) = whole(&line);
        prop_assert_eq!(length, line.len());
        prop_assert_eq!(header, Header::proxied(Transport::Stream, canonical(source), canonical(destination)));
    }

    /// What is read is exactly what is written, but for forms of IPv6.
    #[test]
    fn a_changed_line_is_another_or_none(
        source in any::<Ipv4Addr>(),
        destination in any::<Ipv4Addr>(),
        ports in any::<(u16, u16)>(),
        at in any::<Index>(),
        byte in any::<u8>(),
    ) {
        let mut line = Vec::new();
        write_v1((source, ports.0).into(), (destination, ports.1).into(), &mut line);
        let at = at.index(line.len());
        line[at] = byte;
        if let Ok(Parsed::Whole { header, length }) = parse(&line) {
            let (Some(source), Some(destination)) = (header.source, header.destination) else {
                return Err(TestCaseError::fail("no address"));
            };
            let mut again = Vec::new();
            write_v1(source, destination, &mut again);
            prop_assert_eq!(&again[..], &line[..length]);
        }
    }
}
