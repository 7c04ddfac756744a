//! Getting hold of the engine, and finding out whether it is one that can be worked with.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::SystemVersion;
use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};
use tokio::net::UnixStream;

use super::problem::Reason;

/// For one answer, however long.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The oldest API that says all that is read here: Docker 20.10.
const NEEDED: (usize, usize) = (1, 41);
const NEEDED_TEXT: &str = "1.41";

/// An engine that answers.
pub struct Connected {
    pub client: Docker,
    /// Podman, which filters events in its own way.
    pub podman: bool,
}

/// Asks the engine behind `socket` what it is.
pub async fn connect(socket: &Path) -> Result<Connected, Reason> {
    // bollard tells less of what hinders it.
    let probe = UnixStream::connect(socket).await;
    drop(probe.map_err(|error| Reason::of_connecting(&error))?);
    let path = socket.to_string_lossy();
    let client = Docker::connect_with_unix(&path, PATIENCE.as_secs(), API_DEFAULT_VERSION)
        .map_err(|error| Reason::of("connect", &error))?;
    let version = ask("GET /version", client.version()).await?;
    let (api, least) = (version.api_version.as_deref(), version.min_api_version.as_deref());
    judge(api, least)?;
    let podman = is_podman(&version);
    Ok(Connected { client, podman })
}

/// One request, with an end to waiting for its answer: bollard's own covers the head of the answer alone.
pub async fn ask<T>(
    request: &'static str,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Reason> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer.map_err(|error| Reason::of(request, &error)),
        Err(_) => Err(Reason::Silent {
            request,
            seconds: PATIENCE.as_secs(),
        }),
    }
}

fn judge(api: Option<&str>, least: Option<&str>) -> Result<(), Reason> {
    let nonsense = |what: &str| Reason::Nonsense {
        request: "GET /version",
        reason: format!("{what} is not the version of an API"),
    };
    let Some(api) = api else {
        return Err(nonsense("nothing"));
    };
    let version = parse(api).ok_or_else(|| nonsense(&format!("{api:?}")))?;
    if version < NEEDED {
        return Err(Reason::TooOld {
            engine: api.to_owned(),
            needed: NEEDED_TEXT,
        });
    }
    let ClientVersion {
        major_version,
        minor_version,
    } = API_DEFAULT_VERSION;
    let ours = (*major_version, *minor_version);
    match least.and_then(|least| Some((least, parse(least)?))) {
        Some((least, wanted)) if wanted > ours => Err(Reason::TooNew {
            least: least.to_owned(),
            ours: format!("{major_version}.{minor_version}"),
        }),
        _ => Ok(()),
    }
}

fn parse(version: &str) -> Option<(usize, usize)> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn is_podman(version: &SystemVersion) -> bool {
    let components = version.components.iter().flatten();
    components
        .into_iter()
        .any(|component| component.name.contains("Podman"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Some("1.41"), Some("1.12"), None)]
    #[case(Some("1.52"), Some("1.44"), None)]
    #[case(Some("1.41"), None, None)]
    #[case(
        Some("1.40"),
        Some("1.12"),
        Some("it speaks API 1.40; this agent needs at least 1.41")
    )]
    #[case(
        Some("2.0"),
        Some("1.99"),
        Some("it wants API 1.99 or later; this agent speaks 1.53")
    )]
    #[case(
        Some("new"),
        None,
        Some("its answer to GET /version cannot be understood: \"new\" is not the version of an API")
    )]
    #[case(
        None,
        None,
        Some("its answer to GET /version cannot be understood: nothing is not the version of an API")
    )]
    fn an_engine_is_judged_by_its_api(
        #[case] api: Option<&str>,
        #[case] least: Option<&str>,
        #[case] refused: Option<&str>,
    ) {
        let judged = judge(api, least).err().map(|reason| reason.to_string());
        assert_eq!(judged.as_deref(), refused);
    }
}
