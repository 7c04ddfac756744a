//! Whether clients are let in: there has to be room for each, and descriptors for both of its sides.

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::Socket;
use tokio::sync::OwnedSemaphorePermit;

use crate::model::Family;
use crate::pause::Pause;
use crate::plane::proxy::Table;
use crate::plane::proxy::fronts::Bind;
use crate::plane::proxy::socket::is_exhaustion;

/// Before descriptors are looked for again: clients wait in the backlog meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// Lets clients in as long as there is room for them; those behind wait in the backlog.
pub struct Gate<'w> {
    bind: Bind,
    table: &'w Table,
    pause: Pause,
}

impl<'w> Gate<'w> {
    pub fn new(bind: Bind, table: &'w Table) -> Self {
        Self {
            bind,
            table,
            pause: Pause::default(),
        }
    }

    /// At its bound a busy frontend opens and closes with each client.
    fn close(&mut self, why: &dyn Display) {
        let Self { bind, table, pause } = self;
        pause.begin(
            || {
                table.counters.pauses.fetch_add(1, Ordering::Relaxed);
            },
            || tracing::warn!(%bind, "clients wait in the backlog: {why}"),
        );
    }

    /// For a moment.
    pub async fn shut(&mut self, error: &io::Error) {
        self.close(error);
        tokio::time::sleep(PAUSE).await;
    }

    /// For the client's task. None: not for want of descriptors, which are waited for.
    pub async fn socket(&mut self, family: Family) -> Option<Socket> {
        loop {
            match self.table.ways.socket(family) {
                Ok(socket) => {
                    self.pause.end();
                    return Some(socket);
                }
                Err(error) if is_exhaustion(&error) => self.shut(&error).await,
                Err(_) => return None,
            }
        }
    }

    /// For one client; waits, and lets others wait, until one of those that are served has gone. None: the plane ends.
    pub async fn place(&mut self) -> Option<OwnedSemaphorePermit> {
        let places = &self.table.places;
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Some(place);
        }
        self.close(&"there are as many connections as may be (proxy.max_connections, or open files)");
        Arc::clone(places).acquire_owned().await.ok()
    }
}
