//! What can be wrong between the agent and the engine: one message each, with what it means and what to do.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::path::PathBuf;

use bollard::errors::Error;

/// Why the engine cannot be followed at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub socket: PathBuf,
    pub reason: Reason,
    /// A picture of its containers is being served.
    pub served: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("there is no such socket")]
    NoSocket,
    #[error("permission denied")]
    Forbidden,
    #[error("nobody listens there")]
    NobodyListens,
    #[error("{0}")]
    Unreachable(String),
    #[error("no answer within {seconds} s to {request}")]
    Silent { request: &'static str, seconds: u64 },
    #[error("it speaks API {engine}; this agent needs at least {needed}")]
    TooOld { engine: String, needed: &'static str },
    #[error("it wants API {least} or later; this agent speaks {ours}")]
    TooNew { least: String, ours: String },
    #[error("it refused {request}: {status}: {message}")]
    Refused {
        request: &'static str,
        status: u16,
        message: String,
    },
    #[error("its answer to {request} cannot be understood: {reason}")]
    Nonsense { request: &'static str, reason: String },
    #[error("its stream of events ended")]
    Ended,
}

/// Longest part of what an engine said that is shown.
const SHOWN: usize = 200;

impl Reason {
    /// From what went wrong with `request`.
    pub fn of(request: &'static str, error: &Error) -> Self {
        match error {
            Error::DockerResponseServerError {
                status_code: 401 | 403,
                ..
            } => Self::Forbidden,
            Error::DockerResponseServerError { status_code, message } => Self::Refused {
                request,
                status: *status_code,
                message: shortened(message.trim()),
            },
            Error::RequestTimeoutError => Self::Silent {
                request,
                seconds: super::connect::PATIENCE.as_secs(),
            },
            Error::JsonDataError { .. } | Error::JsonSerdeError { .. } | Error::APIVersionParseError {} => {
                Self::Nonsense {
                    request,
                    reason: shortened(&error.to_string()),
                }
            }
            Error::SocketNotFoundError(_) => Self::NoSocket,
            error => match io_error(error) {
                Some(error) => Self::of_connecting(error),
                None => Self::Unreachable(shortened(&whole(error))),
            },
        }
    }

    /// From what the operating system said.
    pub fn of_connecting(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NoSocket,
            io::ErrorKind::PermissionDenied => Self::Forbidden,
            io::ErrorKind::ConnectionRefused => Self::NobodyListens,
            _ => Self::Unreachable(shortened(&error.to_string())),
        }
    }

    /// One answer is missing, and the engine may give others: what it was asked about stays as it was last seen.
    pub const fn is_of_one_answer(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. } | Self::Nonsense { .. } | Self::Silent { .. } | Self::Forbidden
        )
    }

    const fn fix(&self) -> &'static str {
        match self {
            Self::NoSocket | Self::NobodyListens => {
                "start the engine (systemctl start docker); where its socket is elsewhere, set sources.docker.socket; where there is none, set sources.docker.enabled = false"
            }
            Self::Forbidden => {
                "run the agent as root, or as a member of the socket's group; where it runs in a container, see that the socket is mounted into it"
            }
            Self::TooOld { .. } => "upgrade the engine: Docker 20.10 and Podman 4 are new enough",
            Self::TooNew { .. } => "upgrade the agent; until then, set sources.docker.enabled = false",
            Self::Nonsense { .. } => {
                "see that sources.docker.socket is the engine's socket (curl --unix-socket SOCKET http://x/version), and report this"
            }
            Self::Unreachable(_) | Self::Silent { .. } | Self::Refused { .. } | Self::Ended => {
                "see what the engine logs (journalctl -u docker); the agent keeps trying"
            }
        }
    }

    const fn what(&self) -> &'static str {
        match self {
            Self::TooOld { .. } | Self::TooNew { .. } => "cannot work with the container engine at",
            _ => "cannot follow the container engine at",
        }
    }
}

/// Laid out as `api::Problem` reads it.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let traffic = match self.served {
            true => "flows as the engine last said; changes of containers are not followed",
            false => "containers are not served yet; what an earlier agent programmed goes on",
        };
        let Self { socket, reason, .. } = self;
        write!(
            f,
            "{} {}: {reason}\n  traffic: {traffic}\n  fix: {}",
            reason.what(),
            socket.display(),
            reason.fix()
        )
    }
}

fn io_error(error: &Error) -> Option<&io::Error> {
    let mut source = error.source();
    if let Error::IOError { err } = error {
        return Some(err);
    }
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error);
        }
        source = error.source();
    }
    None
}

/// With its causes, which bollard's own words leave out.
fn whole(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

fn shortened(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SHOWN)
        .collect();
    if line.chars().count() < text.chars().count() {
        format!("{line}…")
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api;

    #[test]
    fn each_problem_says_what_why_whether_traffic_flows_and_what_to_do() {
        let problem = Problem {
            socket: "/var/run/docker.sock".into(),
            reason: Reason::of_connecting(&io::Error::from_raw_os_error(libc::EACCES)),
            served: true,
        };
        let problem = api::Problem::of(problem);
        assert_eq!(
            problem.what,
            "cannot follow the container engine at /var/run/docker.sock: permission denied"
        );
        assert!(problem.traffic.starts_with("flows as the engine last said"));
        assert!(problem.fix.unwrap().contains("run the agent as root"));
    }

    #[test]
    fn an_engine_that_refuses_is_quoted_in_one_line() {
        let message = "line one\nline two ".repeat(40);
        let error = Error::DockerResponseServerError {
            status_code: 500,
            message,
        };
        let reason = Reason::of("GET /info", &error).to_string();
        assert!(
            reason.starts_with("it refused GET /info: 500: line one line two"),
            "{reason}"
        );
        assert!(!reason.contains('\n') && reason.chars().count() < 260);
    }
}
