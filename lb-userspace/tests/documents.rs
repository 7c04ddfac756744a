//! What the documents say is what the code does: examples are read, tables are compared with their source.

#![allow(
    clippy::unwrap_used,
    reason = "a document that cannot be read is a failed test"
)]

use std::path::{Path, PathBuf};

use lb_common::Verdict;
use lb_userspace::config::Config;
use lb_userspace::source::file;

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
    for name in ["README.md", "docs/configuration.md", "docs/operations.md"] {
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
    let (path, text) = document("README.md");
    let examples = blocks(&text, "yaml");
    assert!(!examples.is_empty());
    for block in examples {
        file::parse(&path, &block).unwrap_or_else(|error| panic!("{error}\nin\n{block}"));
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
