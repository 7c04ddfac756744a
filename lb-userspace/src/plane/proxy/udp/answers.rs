//! Which of many flows' sockets have something to read.

use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use nix::sys::epoll::EpollFlags;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

use super::flows::FlowId;
use crate::plane::proxy::news::News;

/// There while there are flows: who has none takes one descriptor less.
#[derive(Default)]
pub struct Answers(Option<Rc<AsyncFd<News>>>);

impl Answers {
    /// Has a flow's answers told of. Fails for want of a descriptor or of memory.
    pub fn add(&mut self, socket: BorrowedFd<'_>, flow: FlowId) -> io::Result<()> {
        let news = match &self.0 {
            Some(news) => news,
            None => &*self.0.insert(Rc::new(News::open()?)),
        };
        news.get_ref().add(socket, EpollFlags::EPOLLIN, flow.0)
    }

    /// To be waited with while flows are added.
    pub fn handle(&self) -> Option<Rc<AsyncFd<News>>> {
        self.0.clone()
    }

    /// No flow is left.
    pub fn close(&mut self) {
        self.0 = None;
    }
}

pub async fn readable(news: Option<&AsyncFd<News>>) -> io::Result<AsyncFdReadyGuard<'_, News>> {
    match news {
        Some(news) => news.readable().await,
        None => std::future::pending().await,
    }
}
