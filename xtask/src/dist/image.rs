//! A container image of one program, written without an engine or a registry: the archive that `docker save` writes, which
//! `docker load` and `podman load` read.
//!
//! The same program and the same [`Facts`] give the same bytes.

use std::io::{self, Write};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// What the image says about itself.
#[derive(Clone, Debug)]
pub struct Facts {
    pub version: String,
    /// The commit it was made of, where that is known.
    pub revision: Option<String>,
    /// Go's name of the machine it runs on.
    pub architecture: &'static str,
    /// Seconds since 1970: of the commit, or of the epoch, never of the build.
    pub time: u64,
}

/// Go's name of an architecture that Rust calls `name`.
pub fn architecture(name: &str) -> Option<&'static str> {
    match name {
        "x86_64" => Some("amd64"),
        "aarch64" => Some("arm64"),
        _ => None,
    }
}

/// Writes the archive of an image that holds `program` as `/portico`.
pub fn write(program: &[u8], facts: &Facts, to: impl Write) -> io::Result<()> {
    let layer = layer(program, facts.time)?;
    let difference = digest(&layer);
    let config = serde_json::to_vec(&config(facts, &difference))?;
    let (name, place) = (
        format!("{}.json", digest(&config)),
        format!("{difference}/layer.tar"),
    );
    let manifest = json!([{ "Config": name, "RepoTags": tags(facts), "Layers": [place] }]);
    let manifest = serde_json::to_vec(&manifest)?;
    let mut archive = Builder::new(to);
    for (path, bytes) in [(&*name, &*config), (&place, &layer), ("manifest.json", &manifest)] {
        let mut header = header(EntryType::Regular, 0o644, bytes.len(), facts.time);
        archive.append_data(&mut header, path, bytes)?;
    }
    archive.into_inner()?.flush()
}

/// Names under which engines know the image.
pub fn tags(facts: &Facts) -> [String; 2] {
    [&*facts.version, "latest"].map(|tag| format!("portico:{tag}"))
}

/// The image's only layer: the program, and the directory of its configuration.
fn layer(program: &[u8], time: u64) -> io::Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::with_capacity(program.len() + 8192));
    for directory in ["etc/", "etc/portico/"] {
        let mut header = header(EntryType::Directory, 0o755, 0, time);
        layer.append_data(&mut header, directory, io::empty())?;
    }
    let mut header = header(EntryType::Regular, 0o755, program.len(), time);
    layer.append_data(&mut header, "portico", program)?;
    layer.into_inner()
}

fn header(kind: EntryType, mode: u32, size: usize, time: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(time);
    header.set_size(size as u64);
    header
}

/// The image's configuration, as the OCI image specification has it, with Docker's health check.
fn config(facts: &Facts, difference: &str) -> Value {
    const SECOND: u64 = 1_000_000_000;
    let mut labels = json!({
        "org.opencontainers.image.title": "portico",
        "org.opencontainers.image.description": "Portico, a routing mesh: a published port answers on every node",
        "org.opencontainers.image.version": facts.version,
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.url": env!("CARGO_PKG_REPOSITORY"),
        "org.opencontainers.image.source": env!("CARGO_PKG_REPOSITORY"),
        // Agents do not balance each other.
        "portico.enable": "false",
    });
    if let Some(revision) = &facts.revision {
        labels["org.opencontainers.image.revision"] = json!(revision);
    }
    let created = moment(facts.time);
    json!({
        "architecture": facts.architecture,
        "os": "linux",
        "created": created,
        "config": {
            "Env": ["PATH=/"],
            "WorkingDir": "/",
            "Entrypoint": ["/portico"],
            "Cmd": ["run"],
            "StopSignal": "SIGTERM",
            "Labels": labels,
            // Whether the agent answers. Not whether all is well: an engine that starts it anew does not repair a file.
            "Healthcheck": {
                "Test": ["CMD", "/portico", "status"],
                "Interval": 10 * SECOND,
                "Timeout": 5 * SECOND,
                "StartPeriod": 30 * SECOND,
                "Retries": 3,
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{difference}")] },
        "history": [{ "created": created, "created_by": "cargo xtask dist image" }],
    })
}

fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 3339 in UTC; days to date after Howard Hinnant's `civil_from_days`.
fn moment(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (date, month) = (day - (153 * month + 2) / 5 + 1, (month + 2) % 12 + 1);
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    fn facts() -> Facts {
        Facts {
            version: "1.2.3".into(),
            revision: Some("c0ffee".into()),
            architecture: "amd64",
            time: 1_700_000_000,
        }
    }

    fn archive(program: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(program, &facts(), &mut bytes).unwrap();
        bytes
    }

    /// Files of an archive, with mode and time.
    fn files(archive: &[u8]) -> BTreeMap<String, (Vec<u8>, u32, u64)> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let (mode, time) = (entry.header().mode().unwrap(), entry.header().mtime().unwrap());
            let path = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(path, (bytes, mode, time));
        }
        files
    }

    #[test]
    fn the_same_program_gives_the_same_archive() {
        assert_eq!(archive(b"program"), archive(b"program"));
        assert_ne!(archive(b"program"), archive(b"another"));
    }

    #[test]
    fn digests_in_the_archive_are_those_of_what_lies_there() {
        let files = files(&archive(b"program"));
        let manifest: Value = serde_json::from_slice(&files["manifest.json"].0).unwrap();
        assert_eq!(
            manifest[0]["RepoTags"],
            json!(["portico:1.2.3", "portico:latest"])
        );
        let (name, place) = (
            manifest[0]["Config"].as_str().unwrap(),
            manifest[0]["Layers"][0].as_str().unwrap(),
        );
        let (config, layer) = (&files[name].0, &files[place].0);
        assert_eq!(name, format!("{}.json", digest(config)));
        let config: Value = serde_json::from_slice(config).unwrap();
        assert_eq!(
            config["rootfs"]["diff_ids"],
            json!([format!("sha256:{}", digest(layer))])
        );
        assert_eq!(files.len(), 3);
    }

    #[test]
    fn the_program_is_all_there_is_in_the_image() {
        let layer = layer(b"program", 7).unwrap();
        let files = files(&layer);
        assert_eq!(
            files.keys().collect::<Vec<_>>(),
            ["etc/", "etc/portico/", "portico"]
        );
        assert_eq!(files["portico"], (b"program".to_vec(), 0o755, 7));
    }

    #[test]
    fn the_image_runs_the_agent_and_asks_it_how_it_is() {
        let config = config(&facts(), "0");
        assert_eq!(config["config"]["Entrypoint"], json!(["/portico"]));
        assert_eq!(config["config"]["Cmd"], json!(["run"]));
        let test = &config["config"]["Healthcheck"]["Test"];
        assert_eq!(*test, json!(["CMD", "/portico", "status"]));
        let labels = &config["config"]["Labels"];
        assert_eq!(labels["org.opencontainers.image.revision"], "c0ffee");
    }

    #[test]
    fn times_are_written_as_rfc3339_section_5_6_has_them() {
        for (seconds, written) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
        ] {
            assert_eq!(moment(seconds), written);
        }
    }
}
