//! A connection whose patience ends: silent and slow clients are let go, idle ones that pool connections are not.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To send the head of a request that it began, and the first one of a connection.
    pub head: Duration,
    /// To take an answer.
    pub unread: Duration,
    /// To begin the next request: longer than the API server keeps an idle connection (90 s), so that it is always the client
    /// who gives it up, and no request meets a connection that is being closed.
    pub idle: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { head: Duration::from_secs(10), unread: Duration::from_secs(15), idle: Duration::from_mins(2) }
    }
}

/// Counts beginnings and ends of requests: odd while one is being served. Clones share it.
#[derive(Clone, Default)]
pub struct Busy(Arc<AtomicU32>);

/// A request that is being served; its body has bounds of its own, where it is read.
pub struct Serving(Busy);

impl Busy {
    /// From here until what is returned is dropped.
    pub fn begin(&self) -> Serving {
        self.0.fetch_add(1, Ordering::Relaxed);
        Serving(self.clone())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A stream that fails once a head did not arrive or an answer was not taken in time, however steadily bytes trickle.
pub struct Patient<S> {
    stream: S,
    patience: Patience,
    busy: Busy,
    seen: u32,
    head: Deadline,
    unread: Deadline,
}

impl<S> Patient<S> {
    /// Waits for the first request from now on.
    pub fn new(stream: S, patience: Patience, busy: Busy) -> Self {
        let mut head = Deadline(None);
        head.arm(patience.head);
        Self { stream, patience, busy, seen: 0, head, unread: Deadline(None) }
    }
}

struct Deadline(Option<Pin<Box<Sleep>>>);

impl Deadline {
    /// Later calls do not put it off.
    fn arm(&mut self, limit: Duration) {
        self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
    }

    fn clear(&mut self) {
        self.0 = None;
    }

    fn passed(&mut self, cx: &mut Context<'_>) -> bool {
        self.0.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let count = this.busy.0.load(Ordering::Relaxed);
        if count != this.seen {
            // The head that was waited for has arrived.
            this.seen = count;
            this.head.clear();
        }
        if count % 2 == 1 {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Ready(read) => {
                this.head.arm(this.patience.head);
                Poll::Ready(read)
            }
            Poll::Pending if this.head.passed(cx) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> Patient<S> {
    fn taken<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_pending() {
            self.unread.arm(self.patience.unread);
            if self.unread.passed(cx) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        written
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.taken(cx, written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.taken(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            self.unread.clear();
        }
        self.taken(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.taken(cx, ended)
    }
}
