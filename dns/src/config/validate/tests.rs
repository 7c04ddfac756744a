use super::*;

fn config() -> Config {
    Config {
        listen: vec!["127.0.0.1:5300".parse().unwrap()],
        ..Config::default()
    }
}

#[test]
fn the_default_is_good() {
    let grammar = config().checked().unwrap();
    assert_eq!(&*grammar.domain, "portico.internal");
}

#[test]
fn names_are_normalised() {
    let grammar = Config {
        domain: "Mesh.Example.".into(),
        ..config()
    };
    assert_eq!(&*grammar.checked().unwrap().domain, "mesh.example");
}

#[test]
fn own_addresses_are_refused_as_upstreams() {
    let mut config = config();
    config.forward.upstreams = vec!["127.0.0.1:5300".parse().unwrap()];
    assert!(matches!(config.validate(), Err(ConfigError::OwnUpstream { .. })));
    config.listen = vec!["0.0.0.0:5300".parse().unwrap()];
    let error = config.validate().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("127.0.0.1:5300 is an address this server listens on"),
        "{error}"
    );
    config.listen = vec!["0.0.0.0:5301".parse().unwrap()];
    assert!(config.validate().is_ok());
}

#[test]
fn mistakes_are_named() {
    let with = |change: fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    };
    assert!(with(|config| config.domain = "a..b".into()).contains("domain = \"a..b\""));
    assert!(with(|config| config.domain = "b\u{fc}ro".into()).contains("xn--"));
    assert!(with(|config| config.search = vec!["x.portico.internal".into()]).contains("leave it out"));
    assert!(with(|config| config.cluster = Some("k.portico.internal".into())).contains("must be apart"));
    assert!(with(|config| config.max_udp = 100).contains("max_udp = 100: must be 512 to 4096 bytes"));
    assert!(
        with(|config| config.forward.domains = vec![("corp.example".into(), vec![])])
            .contains("no upstreams")
    );
    let to = |domain: &str| (domain.to_owned(), vec!["192.0.2.53:53".parse().unwrap()]);
    let with_domains = |domains: &[&str]| {
        let mut config = config();
        config.cluster = Some("cluster.local".into());
        config.forward.domains = domains.iter().map(|domain| to(domain)).collect();
        config.validate().map_err(|error| error.to_string())
    };
    assert!(
        with_domains(&["Cluster.Local."])
            .unwrap_err()
            .contains("never be asked")
    );
    assert!(
        with_domains(&["a.portico.internal"])
            .unwrap_err()
            .contains("never be asked")
    );
    assert!(
        with_domains(&["corp.example", "Corp.Example."])
            .unwrap_err()
            .contains("twice")
    );
    // What is around a zone is somebody else's, but for the zone.
    assert_eq!(with_domains(&["internal", "corp.example"]), Ok(()));
}
