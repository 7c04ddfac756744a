//! `portico service`, `portico backend`, `portico node`.

use super::output::{Format, indent, print, table};
use super::words::{or_dash, time};
use crate::api::backend::BackendRow;
use crate::api::naming::NamingView;
use crate::api::node::NodeRow;
use crate::api::rules::RulesView;
use crate::api::service::{ServiceRow, ServiceView};
use crate::api::{Client, Problem};

pub async fn services(client: &Client, format: Format) -> Result<(), Problem> {
    let rows: Vec<ServiceRow> = client.get("/v1/services").await?;
    print(format, &rows, |rows| {
        let cells = rows.iter().map(|row| {
            [
                row.name.clone(),
                shortened(&row.ports),
                format!("{}/{}", row.active, row.backends),
                or_dash(row.live),
            ]
        });
        if format == Format::Wide {
            return wide(rows);
        }
        table(["SERVICE", "PORTS", "ACTIVE", "FLOWS HERE"], cells)
    })
}

fn wide(rows: &[ServiceRow]) -> String {
    let cells = rows.iter().map(|row| {
        let NamingView {
            names,
            networks,
            endpoint,
            vips,
            exposed,
            ..
        } = &row.naming;
        [
            row.name.clone(),
            listed(&row.ports),
            listed(vips),
            listed(exposed),
            listed(networks),
            listed(names.get(1..).unwrap_or_default()),
            endpoint.clone(),
            format!("{}/{}", row.active, row.backends),
            or_dash(row.live),
        ]
    });
    table(
        [
            "SERVICE",
            "PORTS",
            "VIPS",
            "EXPOSED",
            "NETWORKS",
            "ALIASES",
            "ENDPOINT",
            "ACTIVE",
            "FLOWS HERE",
        ],
        cells,
    )
}

/// `a, b`; a dash where there is nothing.
pub fn listed(items: &[impl ToString]) -> String {
    match items {
        [] => "-".into(),
        items => items
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// Names and addresses of a service, a line for each kind.
fn naming(view: &NamingView) -> String {
    format!(
        "names     {}\nnetworks  {}\nendpoint  {}, ttl {} s\nVIPs      {}\nexposed   {}\n",
        listed(&view.names),
        listed(&view.networks),
        view.endpoint,
        view.ttl,
        listed(&view.vips),
        listed(&view.exposed),
    )
}

pub async fn service(client: &Client, name: &str, format: Format) -> Result<(), Problem> {
    let view: ServiceView = client.get(&format!("/v1/services/{}", escape(name))).await?;
    print(format, &view, |view| service_text(view, format))
}

fn service_text(view: &ServiceView, format: Format) -> String {
    format!(
        "{}: {} of {} backends active, {} slots, affinity {}\n\ninside the cluster\n{}\nports\n{}\nhealth\n  {}\n\nplanes\n{}\nbackends\n{}",
        view.row.name,
        view.row.active,
        view.row.backends,
        view.slots,
        view.affinity,
        indent(&naming(&view.row.naming)),
        indent(&listed(&view.row.ports).replace(", ", "\n")),
        view.health.as_deref().unwrap_or("not checked"),
        indent(&rules(&view.rules)),
        indent(&backend_table(&view.tasks, format)),
    ) + &problems(&view.problems)
}

/// What it asks of the planes, as it is written in the services file.
fn rules(view: &RulesView) -> String {
    format!(
        "plane        {}\nalgorithm    {}\nsend         {}\naccept       {}\ntransparent  {}\n",
        view.plane,
        view.algorithm,
        view.send.as_deref().unwrap_or("none"),
        listed(&view.accept),
        view.transparent,
    )
}

fn problems(problems: &[Problem]) -> String {
    let listed = problems.iter().map(|problem| format!("\n\n{problem}"));
    listed.collect()
}

pub async fn backends(client: &Client, service: Option<&str>, format: Format) -> Result<(), Problem> {
    let path = match service {
        Some(name) => format!("/v1/backends?service={}", escape(name)),
        None => "/v1/backends".into(),
    };
    let rows: Vec<BackendRow> = client.get(&path).await?;
    print(format, &rows, |rows| backend_table(rows, format))
}

pub async fn nodes(client: &Client, format: Format) -> Result<(), Problem> {
    let rows: Vec<NodeRow> = client.get("/v1/nodes").await?;
    print(format, &rows, |rows| {
        let name = |row: &NodeRow| format!("{}{}", row.name, if row.this { " (this)" } else { "" });
        let cells = |row: &NodeRow| {
            let heard = or_dash(row.heard_ms.map(time));
            [
                name(row),
                row.address.to_string(),
                row.state.clone(),
                or_dash(row.plane.as_ref()),
                row.backends.to_string(),
                heard,
            ]
        };
        if format == Format::Wide {
            let wide = rows.iter().map(|row| {
                let [a, b, c, d, e, f] = cells(row);
                [a, b, c, d, e, f, format!("{:#06x}", row.tag)]
            });
            return table(
                [
                    "NODE",
                    "ADDRESS",
                    "STATE",
                    "PLANE",
                    "BACKENDS",
                    "LAST HEARD",
                    "TAG",
                ],
                wide,
            );
        }
        table(
            ["NODE", "ADDRESS", "STATE", "PLANE", "BACKENDS", "LAST HEARD"],
            rows.iter().map(cells),
        )
    })
}

fn backend_table(rows: &[BackendRow], format: Format) -> String {
    let cells = |row: &BackendRow| {
        [
            row.service.clone(),
            row.task.clone(),
            row.node.clone(),
            row.state.clone(),
            or_dash(row.live),
        ]
    };
    let reason = |row: &BackendRow| row.reason.clone().unwrap_or_default();
    if format == Format::Wide {
        let wide = rows.iter().map(|row| {
            let [service, task, node, state, live] = cells(row);
            let addresses: Vec<_> = row.addresses.iter().map(ToString::to_string).collect();
            [
                service,
                task,
                listed(&row.names),
                node,
                addresses.join(","),
                row.weight.to_string(),
                state,
                live,
                reason(row),
            ]
        });
        return table(
            [
                "SERVICE",
                "TASK",
                "NAMES",
                "NODE",
                "ADDRESSES",
                "WEIGHT",
                "STATE",
                "FLOWS",
                "REASON",
            ],
            wide,
        );
    }
    let cells = rows.iter().map(|row| {
        let [service, task, node, state, live] = cells(row);
        [service, task, node, state, live, reason(row)]
    });
    table(["SERVICE", "TASK", "NODE", "STATE", "FLOWS", "REASON"], cells)
}

fn shortened(ports: &[String]) -> String {
    match ports {
        [] => "-".into(),
        [a, b, c, more @ ..] if !more.is_empty() => format!("{a}, {b}, {c} and {} more", more.len()),
        few => few.join(", "),
    }
}

/// A name as a part of a path: everything but letters, digits and `-._~` escaped (RFC 3986, section 2.3).
pub fn escape(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::backend::backends;
    use crate::api::{sample, service};
    use crate::model::{Algorithm, Plane, ProxyRules, ProxyVersion};

    #[test]
    fn rfc3986_section_2_3_unreserved_characters_stand_for_themselves() {
        assert_eq!(escape("a-Z.0_~"), "a-Z.0_~");
        assert_eq!(escape("node1/172.18.0.2 ä"), "node1%2F172.18.0.2%20%C3%A4");
    }

    #[test]
    fn names_and_addresses_inside_the_cluster_are_shown() {
        let facts = sample::facts();
        let mut view = service::service(&facts, "web").unwrap();
        view.row.naming.names.push("www".into());
        view.row.naming.vips = vec![[10, 254, 0, 1].into()];
        view.row.naming.exposed = vec!["http=80/tcp".into()];
        let text = service_text(&view, Format::Table);
        assert!(
            text.contains(
                "inside the cluster\n  names     web, www\n  networks  default\n  endpoint  vip, ttl 5 s\n  \
                 VIPs      10.254.0.1\n  exposed   http=80/tcp\n\nports\n  *:8080/tcp -> 80\n\nhealth\n"
            ),
            "{text}"
        );
        assert_eq!(
            wide(&[view.row]),
            "SERVICE  PORTS             VIPS        EXPOSED      NETWORKS  ALIASES  ENDPOINT  ACTIVE  FLOWS HERE\n\
             web      *:8080/tcp -> 80  10.254.0.1  http=80/tcp  default   www      vip       3/3     14\n"
        );
    }

    #[test]
    fn what_a_service_asks_of_the_planes_is_shown() {
        let mut facts = sample::facts();
        sample::change(&mut facts, |snapshot| {
            sample::service(snapshot).proxy = ProxyRules {
                plane: Plane::Proxy,
                algorithm: Algorithm::LeastConnections,
                send: Some(ProxyVersion::V2),
                accept: vec!["192.0.2.0/24".parse().unwrap()],
                transparent: true,
                ..ProxyRules::default()
            };
        });
        let text = service_text(&service::service(&facts, "web").unwrap(), Format::Table);
        let expected = "planes\n  plane        proxy\n  algorithm    least-connections\n  send         v2\n  \
                        accept       192.0.2.0/24\n  transparent  true\n\nbackends\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn flows_on_other_nodes_are_shown_as_unknown() {
        let rows = backends(&sample::facts(), None);
        assert_eq!(
            backend_table(&rows, Format::Table),
            "SERVICE  TASK   NODE   STATE   FLOWS  REASON\n\
             web      web.1  node1  active  14\n\
             web      web.2  node2  active  -\n\
             web      web.3  node3  active  -\n"
        );
    }
}
