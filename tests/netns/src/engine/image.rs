//! The image of tasks: nothing but the lab's own program, linked without libraries. No registry is asked for anything.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::tool;

/// Its name at every engine.
pub const IMAGE: &str = "portico-task";

/// What `cargo xtask test docker` builds it with.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// It serves.
const SERVES: [&str; 4] = [
    r#"ENTRYPOINT ["/portico-task"]"#,
    r#"CMD ["--polite"]"#,
    // Podman takes one at a time.
    "EXPOSE 80/tcp",
    "EXPOSE 80/udp",
];

/// It is asked every half second whether it is well; a second "no" makes it unhealthy.
const HEALTH: &str = r#"HEALTHCHECK --interval=500ms --timeout=2s --retries=2 CMD ["/portico-task", "probe", "http://127.0.0.1/healthz"]"#;

impl Cluster {
    /// Gives a node's engine the image [`IMAGE`].
    pub fn import_image(&self, node: &str) -> Result<()> {
        self.import(node, &[HEALTH])
    }

    /// The same without a health check, which Podman does not take here.
    pub fn import_image_without_health(&self, node: &str) -> Result<()> {
        self.import(node, &[])
    }

    fn import(&self, node: &str, more: &[&str]) -> Result<()> {
        let program = static_task()?;
        let directory = program.parent().context("the program lies nowhere")?;
        let tar = self.engine_directory(node).join("task.tar");
        tool::run(
            std::process::Command::new("tar")
                .arg("-C")
                .arg(directory)
                .arg("-cf")
                .arg(&tar)
                .arg(IMAGE),
        )?;
        let changes = SERVES.iter().chain(more).flat_map(|change| ["--change", change]);
        let mut command = self.docker_command(node);
        tool::run(command.arg("import").args(changes).arg(&tar).arg(IMAGE))?;
        std::fs::remove_file(tar)?;
        Ok(())
    }
}

/// The program, linked so that it runs where there is nothing else.
fn static_task() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("PORTICO_STATIC_TASK") {
        return Ok(path.into());
    }
    // Tests run from target/debug/deps, programs from target/debug.
    let own = std::env::current_exe()?;
    let built = |target: &Path| target.join(TARGET).join("debug").join(IMAGE);
    own.ancestors()
        .map(built)
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "{IMAGE} for containers is not built: `cargo xtask test docker` does, or \
                 RUSTFLAGS=-Ctarget-feature=+crt-static cargo build --target {TARGET} -p netns --bin {IMAGE}"
            )
        })
}
