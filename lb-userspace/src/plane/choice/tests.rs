use rstest::rstest;

use super::*;
use crate::model::{Need, ProxyVersion};

const NO_BTF: &str = "the kernel has no BTF";

fn here(mode: Mode, available: bool) -> Here {
    Here {
        mode,
        without_ebpf: (!available).then(|| NO_BTF.into()),
    }
}

fn rules(plane: Plane, send: bool, accept: bool, transparent: bool) -> ProxyRules {
    ProxyRules {
        plane,
        send: send.then_some(ProxyVersion::V2),
        accept: accept
            .then(|| "192.0.2.0/24".parse().unwrap())
            .into_iter()
            .collect(),
        transparent,
        ..ProxyRules::default()
    }
}

/// Everything that can be asked, anywhere: 1,152 cases.
fn each(mut check: impl FnMut(&Here, Asked<'_>, &Choice)) {
    let bools = [false, true];
    for mode in [Mode::Auto, Mode::Ebpf, Mode::Proxy] {
        for available in bools {
            let here = here(mode, available);
            for plane in [Plane::Auto, Plane::Ebpf, Plane::Proxy] {
                for needs in 0..8 {
                    let rules = rules(plane, needs & 1 != 0, needs & 2 != 0, needs & 4 != 0);
                    for protocol in [Protocol::Tcp, Protocol::Udp] {
                        for family in Family::ALL {
                            for has_tasks in bools {
                                let asked = Asked {
                                    rules: &rules,
                                    protocol,
                                    family,
                                    has_tasks,
                                };
                                check(&here, asked, &here.choose(asked));
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn ebpf_serves_only_what_it_can_do_where_it_is() {
    each(|here, asked, choice| {
        if choice.plane != Some(Serving::Ebpf) {
            return;
        }
        assert!(here.mode != Mode::Proxy && here.without_ebpf.is_none() && asked.has_tasks);
        let mut needs = asked.rules.needs();
        // Who wants eBPF alone and more than it does is refused where it is written.
        let contradiction = asked.rules.contradiction().is_some();
        assert!(contradiction || !(asked.protocol == Protocol::Tcp && needs.next().is_some()));
        assert_ne!(asked.rules.plane, Plane::Proxy);
    });
}

#[test]
fn nobody_who_wants_ebpf_alone_is_proxied() {
    each(|_, asked, choice| {
        assert!(asked.rules.plane != Plane::Ebpf || choice.plane != Some(Serving::Proxy));
    });
}

#[test]
fn what_is_not_wanted_otherwise_is_always_served() {
    each(|here, asked, choice| {
        let insists = asked.rules.plane == Plane::Ebpf;
        let lacks = here.mode == Mode::Ebpf && here.without_ebpf.is_some();
        assert!(choice.plane.is_some() || insists || lacks, "{here:?} {asked:?}");
    });
}

#[test]
fn where_nothing_speaks_for_the_proxy_ebpf_serves() {
    each(|here, asked, choice| {
        let able = here.mode != Mode::Proxy && here.without_ebpf.is_none() && asked.has_tasks;
        let needed = asked.protocol == Protocol::Tcp && asked.rules.needs().next().is_some();
        let plain = asked.rules.plane == Plane::Auto && !needed;
        assert_eq!(able && plain, choice.reason == Reason::Usual);
        assert!(choice.reason != Reason::Usual || choice.plane == Some(Serving::Ebpf));
    });
}

#[test]
fn every_reason_is_true() {
    each(|here, asked, choice| {
        let is = |reason: &Reason| match reason {
            Reason::Usual => asked.rules.plane == Plane::Auto,
            Reason::Node => here.mode == Mode::Proxy,
            Reason::Service(plane) => *plane == asked.rules.plane && *plane != Plane::Auto,
            Reason::Need(need) => {
                asked.rules.needs().any(|asked| asked == *need) && asked.protocol == Protocol::Tcp
            }
            Reason::Family(family) => *family == asked.family && !asked.has_tasks,
            Reason::Unavailable(why) => here.without_ebpf.as_ref() == Some(why),
        };
        assert!(
            is(&choice.reason) && choice.also.iter().all(is),
            "{here:?} {asked:?}: {choice}"
        );
        assert!(!choice.to_string().contains('\n'));
    });
}

#[rstest]
#[case::usual(
    Mode::Auto,
    true,
    rules(Plane::Auto, false, false, false),
    true,
    "ebpf: eBPF does all that is asked for"
)]
#[case::node(
    Mode::Proxy,
    true,
    rules(Plane::Proxy, true, false, false),
    false,
    "proxy: this node has mode = \"proxy\"; the service has plane: proxy; \
     tasks are sent the PROXY protocol, v2, which only the proxy does"
)]
#[case::service(
    Mode::Ebpf,
    true,
    rules(Plane::Proxy, true, false, false),
    false,
    "proxy: the service has plane: proxy; tasks are sent the PROXY protocol, v2, which only the proxy does"
)]
#[case::send(
    Mode::Auto,
    false,
    rules(Plane::Auto, true, true, true),
    false,
    "proxy: tasks are sent the PROXY protocol, v2, which only the proxy does; \
     the PROXY protocol is accepted, which only the proxy does; \
     transparent connections are asked for, which only the proxy does"
)]
#[case::accept(
    Mode::Auto,
    true,
    rules(Plane::Auto, false, true, true),
    true,
    "proxy: the PROXY protocol is accepted, which only the proxy does; \
     transparent connections are asked for, which only the proxy does"
)]
#[case::transparent(
    Mode::Auto,
    true,
    rules(Plane::Auto, false, false, true),
    true,
    "proxy: transparent connections are asked for, which only the proxy does"
)]
#[case::family(
    Mode::Ebpf,
    true,
    rules(Plane::Auto, false, false, false),
    false,
    "proxy: no task has an IPv6 address"
)]
#[case::unavailable(
    Mode::Auto,
    false,
    rules(Plane::Auto, false, false, false),
    false,
    "proxy: eBPF is not available: the kernel has no BTF"
)]
#[case::insisted_by_the_node(
    Mode::Ebpf,
    false,
    rules(Plane::Auto, false, false, false),
    true,
    "nothing: eBPF alone may serve it, but eBPF is not available: the kernel has no BTF"
)]
#[case::insisted(
    Mode::Auto,
    true,
    rules(Plane::Ebpf, false, false, false),
    false,
    "nothing: eBPF alone may serve it, but no task has an IPv6 address"
)]
#[case::insisted_elsewhere(
    Mode::Proxy,
    true,
    rules(Plane::Ebpf, false, false, false),
    true,
    "nothing: eBPF alone may serve it, but this node has mode = \"proxy\""
)]
#[case::wanted(
    Mode::Auto,
    true,
    rules(Plane::Ebpf, false, false, false),
    true,
    "ebpf: the service has plane: ebpf"
)]
fn the_first_reason_that_decides_is_told(
    #[case] mode: Mode,
    #[case] available: bool,
    #[case] rules: ProxyRules,
    #[case] has_tasks: bool,
    #[case] words: &str,
) {
    let asked = Asked {
        rules: &rules,
        protocol: Protocol::Tcp,
        family: Family::V6,
        has_tasks,
    };
    assert_eq!(here(mode, available).choose(asked).to_string(), words);
}

#[test]
fn udp_is_not_proxied_for_a_header_that_only_tcp_has() {
    let rules = rules(Plane::Auto, true, true, false);
    let asked = Asked {
        rules: &rules,
        protocol: Protocol::Udp,
        family: Family::V4,
        has_tasks: true,
    };
    assert_eq!(here(Mode::Auto, true).choose(asked).reason, Reason::Usual);
    let tcp = Asked {
        protocol: Protocol::Tcp,
        ..asked
    };
    let need = Reason::Need(Need::Send(ProxyVersion::V2));
    assert_eq!(here(Mode::Auto, true).choose(tcp).reason, need);
}

#[test]
fn a_frontend_is_asked_for_in_the_families_that_reach_it() {
    let facts = crate::api::sample::facts();
    let web = &facts.snapshot.services["web"];
    let here = here(Mode::Auto, true);
    let planes = |frontend| {
        let choices = here.of(web).at(&frontend);
        choices
            .map(|(family, choice)| (family, choice.plane))
            .collect::<Vec<_>>()
    };
    let everywhere = web.frontends[0];
    let (ebpf, proxy) = (Some(Serving::Ebpf), Some(Serving::Proxy));
    assert_eq!(planes(everywhere), [(Family::V4, ebpf), (Family::V6, proxy)]);
    let vip = Frontend {
        address: Some("2001:db8::1".parse().unwrap()),
        ..everywhere
    };
    assert_eq!(planes(vip), [(Family::V6, proxy)]);
}
