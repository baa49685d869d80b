//! Somebody on another thread, who sends messages and asks for the end, at the worst of moments.

use super::network::{Dice, SharedWorld};
use super::*;
use crate::mailbox::Postbox;

/// What other threads send.
#[derive(Debug, Clone, Copy)]
pub(super) enum Command {
    Visit(ClientId, usize),
    VisitAll,
    Panic,
}

/// Somebody on another thread.
pub(super) struct Meddler {
    pub(super) dice: Dice,
    pub(super) world: SharedWorld,
    pub(super) postbox: Postbox<Post<Command>>,
    pub(super) common: Arc<Common>,
    pub(super) stop_timeout: Duration,
    pub(super) rate: u64,
    pub(super) posts_left: u64,
    pub(super) deadly: u64,
    /// Asks the server to drain, once in so many times.
    pub(super) drains: Option<u64>,
    /// Asks the server to stop, once in so many times or when nothing happens any more.
    pub(super) stops: Option<u64>,
}

impl Meddler {
    /// True if the loop has to be woken.
    pub(super) fn meddle(&mut self, quiet: bool) -> bool {
        let patience = self.world.borrow().quiet_waits > 20;
        if self.ask(quiet && patience) {
            return true;
        }
        let Some(post) = self.dice.chance(self.rate).then(|| self.post()).flatten() else {
            return false;
        };
        let sent = self.postbox.send(post);
        self.world.borrow_mut().expect(sent == Ok(true), || "a sleeper would not be woken".into());
        // It is going to wake up; others are in time to add to that.
        while self.dice.chance(3)
            && let Some(post) = self.post()
            && let Ok(wake) = self.postbox.send(post)
        {
            self.world.borrow_mut().expect(!wake, || "a sleeper is woken twice".into());
        }
        true
    }

    /// Asks for the end, sooner or later, and mostly when somebody has come and has not been accepted; true if it has.
    pub(super) fn ask(&mut self, at_last: bool) -> bool {
        let hurry = self.world.borrow().hurry();
        if let Some(drains) = self.drains
            && self.dice.chance(drains.div_ceil(hurry))
        {
            let timeout = Duration::from_millis(self.dice.up_to(100_000));
            self.common.drain(timeout);
            self.world.borrow_mut().drain(timeout);
            // Asked twice, the shorter time counts.
            self.drains = self.drains.filter(|_| self.dice.chance(2));
            return true;
        }
        if let Some(stops) = self.stops
            && (at_last || self.dice.chance(stops.div_ceil(hurry)))
        {
            self.common.stop(self.stop_timeout);
            self.world.borrow_mut().stop(self.stop_timeout);
            // Asked twice, the shorter time counts.
            self.stop_timeout = Duration::from_millis(self.dice.below(self.stop_timeout.as_millis() as u64 + 1));
            self.stops = self.stops.and_then(|_| self.dice.chance(2).then_some(30));
            return true;
        }
        false
    }

    fn post(&mut self) -> Option<Post<Command>> {
        self.posts_left = self.posts_left.checked_sub(1)?;
        let world = &mut *self.world.borrow_mut();
        let n = self.dice.below(world.wires.len() as u64) as usize;
        let account = &mut world.wires[n].account;
        let id = account.id?;
        if self.dice.chance(self.deadly) {
            match self.dice.below(4) {
                0 => {
                    world.everyone_disconnected = true;
                    return Some(Post::DisconnectAll);
                }
                1 => return Some(Post::Message(Command::Panic)),
                _ => {
                    account.disconnected = true;
                    return Some(Post::Disconnect(id.key));
                }
            }
        }
        Some(Post::Message(if self.dice.chance(3) { Command::VisitAll } else { Command::Visit(id, n) }))
    }
}

impl PartialEq for crate::mailbox::Undelivered<Post<Command>> {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}
