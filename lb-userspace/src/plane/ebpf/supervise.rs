//! Keeps the plane's tasks going: one that ends unnoticed would be missed by nothing but the traffic.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;

use crate::plane::{EbpfError, Problem};

/// A task that has ended is begun again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// One that has run for this long since is well again.
const WELL: Duration = Duration::from_secs(60);

/// What a task does, and what it means that it does not.
#[derive(Clone, Copy, Debug)]
pub struct Duty {
    pub name: &'static str,
    pub traffic: &'static str,
}

/// Runs a task for ever. `tell` is told when it ends, and, with `None`, when it has been well for a while since.
pub async fn keep<F>(duty: Duty, begin: impl Fn() -> F, tell: impl Fn(Option<Problem>))
where
    F: Future<Output = Result<Infallible, EbpfError>>,
{
    let mut ended = false;
    loop {
        let mut run = std::pin::pin!(AssertUnwindSafe(begin()).catch_unwind());
        let first = if ended {
            tokio::time::timeout(WELL, &mut run).await.ok()
        } else {
            None
        };
        let end = match first {
            Some(end) => end,
            None => {
                if std::mem::take(&mut ended) {
                    tell(None);
                }
                run.await
            }
        };
        let reason = match end {
            Ok(Ok(never)) => match never {},
            Ok(Err(error)) => error.to_string(),
            Err(panic) => format!("panic: {}", words(&*panic)),
        };
        if !ended {
            tracing::error!(
                task = duty.name,
                reason,
                "a task of the plane ended and is begun again"
            );
        }
        ended = true;
        tell(Some(Problem {
            error: format!("the agent's task \"{}\" ended: {reason}", duty.name),
            traffic: duty.traffic.into(),
            fix: "it is begun again every second; where that does not help, restart the agent (traffic goes on) and report this"
                .into(),
        }));
        tokio::time::sleep(AGAIN).await;
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a word")
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    const DUTY: Duty = Duty {
        name: "work",
        traffic: "none",
    };

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_or_panics_is_begun_again_and_is_a_problem_until_it_is_well() {
        let begun = Cell::new(0);
        let told = RefCell::new(Vec::new());
        let begin = || {
            begun.set(begun.get() + 1);
            let turn = begun.get();
            async move {
                match turn {
                    1 => Err(EbpfError::Idle),
                    2 => panic!("on purpose"),
                    _ => std::future::pending().await,
                }
            }
        };
        let tell = |problem: Option<Problem>| told.borrow_mut().push(problem.map(|problem| problem.error));
        let kept = keep(DUTY, begin, tell);
        assert!(tokio::time::timeout(10 * AGAIN, kept).await.is_err());
        assert_eq!(begun.get(), 3);
        let told = told.into_inner();
        assert_eq!(told.len(), 2);
        assert!(
            told[1]
                .as_ref()
                .is_some_and(|error| error.ends_with("panic: on purpose"))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_stays_is_no_problem_any_more() {
        let begun = Cell::new(0);
        let told = RefCell::new(Vec::new());
        let begin = || {
            begun.set(begun.get() + 1);
            let first = begun.get() == 1;
            async move {
                if first {
                    Err(EbpfError::Idle)
                } else {
                    std::future::pending().await
                }
            }
        };
        let kept = keep(DUTY, begin, |problem| told.borrow_mut().push(problem.is_some()));
        assert!(tokio::time::timeout(2 * WELL, kept).await.is_err());
        assert_eq!(told.into_inner(), [true, false]);
    }
}
