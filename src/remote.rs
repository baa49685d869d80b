//! The way to a server's shards from any other thread.

use std::fmt;
use std::sync::Arc;

use crate::client::ClientId;
use crate::mailbox::{Postbox, Undelivered};
use crate::reactor::Post;
use crate::sys::WakeFd;

/// Reaches a server's shards and connections from any thread: the only thing that crosses between threads, and only when
/// you ask for it. Clone it freely.
///
/// Sending never waits and takes no lock. Each shard has a mailbox of [`mailbox_max`](crate::Builder::mailbox_max)
/// messages; a full one gives the message back. Messages from one thread to one shard arrive in the order in which they
/// were sent. A sleeping shard is woken by one system call, however many messages are queued for it.
pub struct Remote<M> {
    routes: Arc<[Route<M>]>,
}

/// The way to one shard.
pub(crate) struct Route<M> {
    pub(crate) postbox: Postbox<Post<M>>,
    pub(crate) waker: Arc<WakeFd>,
}

/// A message that was not taken; it is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsent<M> {
    /// The shard's mailbox is full: it does not keep up. Try later, or drop the message.
    Full(M),
    /// The shard has stopped.
    Stopped(M),
    /// There is no shard of this index.
    NoShard(M),
}

impl<M> Unsent<M> {
    /// The message.
    pub fn into_message(self) -> M {
        match self {
            Unsent::Full(message) | Unsent::Stopped(message) | Unsent::NoShard(message) => message,
        }
    }
}

impl<M> fmt::Display for Unsent<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unsent::Full(_) => "the shard's mailbox is full (mailbox_max sets its size)",
            Unsent::Stopped(_) => "the shard has stopped",
            Unsent::NoShard(_) => "there is no shard of this index",
        })
    }
}

impl<M: fmt::Debug> std::error::Error for Unsent<M> {}

impl<M> Remote<M> {
    pub(crate) fn new(routes: Arc<[Route<M>]>) -> Remote<M> {
        Remote { routes }
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.routes.len()
    }

    /// Sends a message to one shard, which gets it in [`handle_message`](crate::Handler::handle_message). What is sent before the
    /// server is [stopped](crate::Server::stop) arrives; what is sent while the shard ends may be dropped although it was taken.
    ///
    /// # Errors
    /// [`Unsent`], with the message.
    pub fn send(&self, shard: usize, message: M) -> Result<(), Unsent<M>> {
        let Some(route) = self.routes.get(shard) else { return Err(Unsent::NoShard(message)) };
        route.post(Post::Message(message)).map_err(|undelivered| match undelivered {
            Undelivered::Full(Post::Message(message)) => Unsent::Full(message),
            Undelivered::Gone(Post::Message(message)) => Unsent::Stopped(message),
            Undelivered::Full(_) | Undelivered::Gone(_) => unreachable!("a mailbox gives back what it was given"),
        })
    }

    /// Sends a message to the shard on which a connection lives; the message has to say which connection it is about.
    ///
    /// # Errors
    /// [`Unsent`], with the message.
    pub fn send_to_shard_of(&self, client: ClientId, message: M) -> Result<(), Unsent<M>> {
        self.send(client.shard(), message)
    }

    /// Sends a copy of a message to each shard, and says how many took it; those that did not were full or stopped.
    /// Where it matters which, call [`send`](Remote::send) for each of [`shards`](Remote::shards).
    pub fn send_to_all(&self, message: &M) -> usize
    where
        M: Clone,
    {
        (0..self.shards()).filter(|&shard| self.send(shard, message.clone()).is_ok()).count()
    }

    /// Disconnects one connection, after what was sent to it has been flushed; the handler is told
    /// [`CloseReason::Disconnected`](crate::CloseReason::Disconnected). The id of a connection that is gone does nothing.
    ///
    /// # Errors
    /// [`Unsent`] when the shard did not take the order.
    pub fn disconnect(&self, client: ClientId) -> Result<(), Unsent<()>> {
        self.order(client.shard(), || Post::Disconnect(client.key))
    }

    /// Disconnects every connection that there is when the order arrives, and goes on serving new ones.
    ///
    /// # Errors
    /// The first [`Unsent`] of a shard that did not take the order; the others have it all the same.
    pub fn disconnect_all(&self) -> Result<(), Unsent<()>> {
        (0..self.shards()).map(|shard| self.order(shard, || Post::DisconnectAll)).fold(Ok(()), Result::and)
    }

    fn order(&self, shard: usize, post: impl FnOnce() -> Post<M>) -> Result<(), Unsent<()>> {
        let Some(route) = self.routes.get(shard) else { return Err(Unsent::NoShard(())) };
        route.post(post()).map_err(|undelivered| match undelivered {
            Undelivered::Full(_) => Unsent::Full(()),
            Undelivered::Gone(_) => Unsent::Stopped(()),
        })
    }
}

impl<M> Route<M> {
    fn post(&self, post: Post<M>) -> Result<(), Undelivered<Post<M>>> {
        if self.postbox.send(post)? {
            self.waker.wake();
        }
        Ok(())
    }
}

impl<M> Clone for Remote<M> {
    fn clone(&self) -> Remote<M> {
        Remote { routes: Arc::clone(&self.routes) }
    }
}

impl<M> fmt::Debug for Remote<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("shards", &self.shards()).finish()
    }
}
