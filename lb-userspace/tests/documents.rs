//! What the documents say is what the code does: examples are read, tables are compared with their source.

#![allow(
    clippy::unwrap_used,
    reason = "a document that cannot be read is a failed test"
)]

use std::path::{Path, PathBuf};

use lb_common::Verdict;
use lb_userspace::config::Config;
use lb_userspace::source::{file, labels};

fn document(name: &str) -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let inside = text.split(&fence).skip(1).map(|rest| rest.split("```").next());
    inside.map(|block| block.unwrap().to_owned()).collect()
}

#[test]
fn examples_of_the_configuration_are_accepted() {
    for name in [
        "README.md",
        "docs/configuration.md",
        "docs/operations.md",
        "docs/dns.md",
    ] {
        let (path, text) = document(name);
        for block in blocks(&text, "toml") {
            // Without a name the node takes the host's, which a build machine may not have.
            let named = if block.contains("node = ") {
                block
            } else {
                format!("node = \"node1\"\n{block}")
            };
            Config::parse(&path, &named).unwrap_or_else(|error| panic!("{error}\nin\n{named}"));
        }
    }
}

#[test]
fn examples_of_the_services_file_are_accepted() {
    for name in ["README.md", "docs/configuration.md"] {
        let (path, text) = document(name);
        let examples = blocks(&text, "yaml");
        assert!(!examples.is_empty());
        for block in examples {
            file::parse(&path, &block).unwrap_or_else(|error| panic!("{error}\nin\n{block}"));
        }
    }
}

/// First cells of the rows below a heading, up to the next table, and the others.
fn rows<'t>(text: &'t str, heading: &str) -> Vec<Vec<&'t str>> {
    let table = text.split(heading).nth(1).unwrap();
    let lines = table.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let rows = lines.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// What is in backquotes; `.more` goes on from the one before it, behind its last dot.
fn quoted(cell: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for word in cell.split('`').skip(1).step_by(2) {
        let stem = found.last().and_then(|last| last.rsplit_once('.'));
        let word = match stem {
            Some((stem, _)) if word.starts_with('.') => format!("{stem}{word}"),
            _ => word.to_owned(),
        };
        found.push(word);
    }
    found
}

fn sorted(mut words: Vec<String>) -> Vec<String> {
    words.sort();
    words
}

#[test]
fn the_table_of_labels_has_all_of_them() {
    let (_, text) = document("docs/docker.md");
    let rows = rows(&text, "## Labels");
    let named = rows.iter().flat_map(|row| quoted(row[0]));
    let known = labels::KNOWN.map(|label| format!("{}{label}", labels::PREFIX));
    assert_eq!(sorted(named.collect()), sorted(known.into()));
}

/// The keys that a complaint about an unknown one lists.
fn known(complaint: &str) -> Vec<String> {
    let known = complaint.split("known here: ").nth(1).unwrap();
    let known = known.lines().next().unwrap().split(", ");
    sorted(known.map(str::to_owned).collect())
}

#[test]
fn the_table_of_the_nodes_proxy_has_its_keys_and_defaults() {
    let (path, text) = document("docs/configuration.md");
    let rows = rows(&text, "### Proxy\n");
    let parse = |text: &str| Config::parse(&path, &format!("node = \"node1\"\n[proxy]\n{text}"));
    let keys = rows.iter().flat_map(|row| quoted(row[0])).collect();
    assert_eq!(
        sorted(keys),
        known(&parse("zzzzzzzz = 1").unwrap_err().to_string())
    );
    for row in rows {
        let default = row[1].replace([',', '`'], "");
        let written = format!("{} = {default}", quoted(row[0])[0]);
        let proxy = parse(&written).unwrap().proxy;
        assert_eq!(proxy, parse("").unwrap().proxy, "{written}");
    }
}

#[test]
fn the_tables_of_a_service_have_its_keys() {
    let (path, text) = document("docs/configuration.md");
    let refused = |service: &str| {
        let text = format!("services:\n  web:\n    expose: [80]\n    {service}\n");
        known(&file::parse(&path, &text).unwrap_err().to_string())
    };
    for (heading, service) in [
        ("| key of a service ", "zzzzzzzz: 1"),
        ("| key of `proxy` ", "proxy: { zzzzzzzz: 1 }"),
    ] {
        let keys = rows(&text, heading)
            .iter()
            .flat_map(|row| quoted(row[0]))
            .collect();
        assert_eq!(sorted(keys), refused(service), "{heading}");
    }
}

#[test]
fn the_table_of_verdicts_is_that_of_the_source() {
    let (_, text) = document("docs/operations.md");
    let table = text.split("## Verdicts").nth(1).unwrap();
    let rows: Vec<_> = table.lines().filter(|line| line.starts_with("| `")).collect();
    let wanted: Vec<_> = Verdict::ALL
        .iter()
        .map(|verdict| {
            let outcome = format!("{:?}", verdict.outcome()).to_lowercase();
            format!("| `{}` | {outcome} | {} |", verdict.label(), verdict.words())
        })
        .collect();
    assert_eq!(rows, wanted);
}

/// All that is written in Rust in a directory and those in it.
fn rust(directory: &Path) -> String {
    let entries = std::fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let texts = paths.map(|path| match path.extension() {
        _ if path.is_dir() => rust(&path),
        Some(extension) if extension == "rs" => std::fs::read_to_string(path).unwrap(),
        _ => String::new(),
    });
    texts.collect()
}

#[test]
fn tests_that_the_readme_names_exist() {
    let (readme, text) = document("README.md");
    let source: String = [
        "tests/netns/tests",
        "lb-userspace/src",
        "lb-userspace/tests",
        "dns/tests",
    ]
    .iter()
    .map(|directory| rust(&readme.with_file_name(directory)))
    .collect();
    let promises = text.split("## Limits").next().unwrap();
    let rows = promises.lines().filter(|line| line.starts_with("| "));
    // The second column names tests in backquotes; names of tests are sentences.
    let named = rows
        .filter_map(|row| row.split('|').nth(2))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2));
    for name in named {
        assert!(source.contains(&format!("fn {name}(")), "there is no test {name}");
    }
}

#[test]
fn the_configuration_that_is_shipped_for_swarms_is_accepted() {
    let (path, text) = document("deploy/portico.toml");
    let config = Config::parse(&path, &format!("node = \"node1\"\n{text}")).unwrap();
    assert!(config.cluster.secret_file.is_some());
}
