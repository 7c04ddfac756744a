use std::path::Path;

use rstest::rstest;

use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("portico.toml"), text)
}

fn complaint(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_a_complete_configuration() {
    let config = parse("").unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.paths.socket(), Path::new("/run/portico/portico.sock"));
    assert_eq!(config.sources.file.path, None);
    assert_eq!(config.peer.port, 7950);
}

#[test]
fn a_name_server_is_no_address_of_the_pools() {
    for dns in [
        "listen = ['10.254.0.10']",
        "upstreams = ['10.254.0.10']",
        "routes.'corp.example' = ['10.254.0.10']",
    ] {
        let complaint = complaint(&format!("[dns]\n{dns}"));
        assert!(
            complaint.contains("10.254.0.10 lies in vip.pool 10.254.0.0/16"),
            "{complaint}"
        );
        parse(&format!("[vip]\npool = ['10.253.0.0/16']\n[dns]\n{dns}")).unwrap();
    }
}

#[test]
fn the_documented_example_is_accepted() {
    let config = parse(
        r#"
        node = "node1"
        mode = "auto"
        interfaces = ["eth0"]

        [sources.file]
        path = "/etc/portico/services.yaml"

        [cluster]
        secret = "correct horse"

        [dns]
        listen = ["169.254.20.10:53"]
        upstreams = ["192.0.2.53"]

        [vip]
        pool = ["10.254.0.0/16", "fdfe:706f:7274::/112"]
        "#,
    )
    .unwrap();
    assert_eq!(config.node, "node1");
    assert_eq!(config.vip.pool.len(), 2);
    assert!(!config.interfaces.default_routes);
}

#[test]
fn vips_come_from_pools_unless_there_are_none() {
    assert_eq!(parse("").unwrap().vip.pool.len(), 2);
    assert!(parse("vip.pool = []").unwrap().vip.pool.is_empty());
    let networks = parse("networks.flat = ['10.244.0.0/16']").unwrap().networks;
    assert!(networks.is_flat([10, 244, 3, 4].into()) && !networks.is_flat([172, 18, 0, 2].into()));
}

#[test]
fn a_list_of_interfaces_chooses_exactly() {
    let interfaces = parse("interfaces = ['eth0', { name = 'eth1', xdp = 'off' }]")
        .unwrap()
        .interfaces;
    assert!(!interfaces.default_routes);
    assert_eq!(interfaces.named.len(), 2);
    assert_eq!(interfaces.xdp("eth0"), XdpMode::Auto);
    assert_eq!(interfaces.xdp("eth1"), XdpMode::Off);
}

#[test]
fn a_setting_for_one_interface_does_not_turn_the_others_off() {
    let interfaces = parse("interfaces.eth0.xdp = 'native'").unwrap().interfaces;
    assert!(interfaces.default_routes);
    assert_eq!(interfaces.xdp("eth0"), XdpMode::Native);
    assert_eq!(
        interfaces,
        parse("[interfaces.eth0]\nxdp = 'native'").unwrap().interfaces
    );
}

#[rstest]
#[case::top(
    "\nintefaces = []",
    "portico.toml:2:1: unknown key `intefaces`",
    "did you mean `interfaces`?"
)]
#[case::table(
    "[limits]\nflow = 1",
    "portico.toml:2:1: unknown key `flow`",
    "did you mean `flows`?"
)]
#[case::deep(
    "[interfaces.eth0]\nxpd = 'off'",
    "portico.toml:2:1: unknown key `xpd`",
    "did you mean `xdp`?"
)]
#[case::listed(
    "interfaces = [{ nam = 'a' }]",
    "portico.toml:1:17: unknown key `nam`",
    "did you mean `name`?"
)]
#[case::word(
    "mode = 'epbf'",
    "portico.toml:1:8: unknown value `epbf`",
    "did you mean `ebpf`?"
)]
fn an_unknown_word_is_named_with_its_place_and_the_nearest_known(
    #[case] text: &str,
    #[case] start: &str,
    #[case] fix: &str,
) {
    let complaint = complaint(text);
    assert!(complaint.starts_with(start), "{complaint}");
    assert!(complaint.contains(fix), "{complaint}");
}

#[rstest]
#[case("[peer]\nport = 0", "portico.toml:2:8: 0 is not within 1 to 65535")]
#[case(
    "[limits]\n\nflows = -3",
    "portico.toml:3:9: -3 is not within 1024 to 67108864"
)]
#[case("[vip]\npool = ['10.0.0.0/99']", "portico.toml:2:9: ")]
#[case(
    "[vip]\npool = ['10.254.0.0/29']",
    "portico.toml:2:8: 10.254.0.0/29 is not a pool: IPv4 pools are /8 to /28"
)]
#[case(
    "[vip]\npool = ['fdfe::/48']",
    "portico.toml:2:8: fdfe::/48 is not a pool: IPv6 pools are /64 to /124"
)]
#[case(
    "[vip]\npool = ['10.254.0.0/16', '10.254.1.0/24']",
    "portico.toml:2:8: pools 10.254.0.0/16 and 10.254.1.0/24 overlap"
)]
#[case(
    "[vip]\npool = ['10.254.1.0/16']",
    "portico.toml:2:8: 10.254.1.0/16 is not a network: it begins at 10.254.0.0/16"
)]
#[case(
    "[vip]\npool = ['169.254.20.0/24']",
    "portico.toml:2:8: 169.254.20.0/24 is not a pool: these are link-local"
)]
#[case(
    "[networks]\nflat = ['10.244.0.1/16']",
    "portico.toml:2:8: 10.244.0.1/16 is not a network: it begins at 10.244.0.0/16"
)]
#[case("interfaces = ['a-device-with-a-long-name']", "portico.toml:1:15: ")]
#[case("interfaces = ['a', 'a']", "portico.toml:1:14: device \"a\" is listed twice")]
#[case("node = 'a", "portico.toml:1:")]
#[case("node = ''", "portico.toml: this host has no name")]
fn a_value_out_of_bounds_is_refused_at_its_place(#[case] text: &str, #[case] start: &str) {
    let complaint = complaint(text);
    assert!(complaint.starts_with(start), "{complaint}");
    assert!(complaint.contains("\n  traffic: "), "{complaint}");
    assert!(complaint.contains("\n  fix: "), "{complaint}");
}

#[test]
fn a_default_file_that_is_not_there_is_an_empty_one_but_a_named_file_must_exist() {
    let missing = Path::new("/nonexistent/portico.toml");
    assert!(matches!(
        Config::load(Some(missing)),
        Err(ConfigError::Unreadable { .. })
    ));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "[a-z0-9=\\[\\]{}'\"., \n]{0,120}") {
        let _ = parse(&text);
    }
}
