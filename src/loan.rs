//! What a shard listens on, and how it lends that to the thread that hands it over: through a socket, because that reaches
//! from one descriptor table into another.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::Socket;

use crate::claim::Claim;
use crate::sys::{Note, receive_note, send_note};

/// The listening sockets of a shard; and the claims to their addresses, which the first shard has for all, each under the
/// place of the first listener there.
#[derive(Default)]
pub(crate) struct Door {
    pub(crate) listeners: Vec<(Mark, Socket)>,
    pub(crate) claims: Vec<(u32, Claim)>,
    /// The places of those at which other shards wait, too, in the same descriptor table.
    pub(crate) shared: Vec<u32>,
}

/// What is known of a listening socket beside itself: its place among those of the server, which shards may share, and its
/// address's tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) place: u32,
    pub(crate) tag: u8,
}

impl Mark {
    /// Places beyond this do not fit into a word beside the tag.
    pub(crate) const PLACES_MAX: usize = 1 << 24;

    pub(crate) fn to_word(self) -> u32 {
        self.place | u32::from(self.tag) << 24
    }

    pub(crate) fn from_word(word: u32) -> Mark {
        Mark { place: word & (Mark::PLACES_MAX as u32 - 1), tag: (word >> 24) as u8 }
    }
}

/// Words of a note: a listener, with its mark, a claim, with its place, the end. With the first two comes a descriptor.
pub(crate) const LISTENER: u32 = 1;
pub(crate) const CLAIM: u32 = 2;
pub(crate) const END: u32 = 3;

/// How often the shards have been asked, and how many there are to answer. One word, so that whoever asks knows who answers,
/// and who leaves whether he has been asked before.
#[derive(Debug, Default)]
struct Questions(AtomicU64);

impl Questions {
    /// The number of the question, and how many answer it.
    fn ask(&self) -> (u32, usize) {
        let before = self.0.fetch_add(1 << 32, Ordering::AcqRel);
        (((before >> 32) as u32).wrapping_add(1), before as u32 as usize)
    }

    fn asked(&self) -> u32 {
        (self.0.load(Ordering::Acquire) >> 32) as u32
    }

    fn come(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// What has been asked until then.
    fn leave(&self) -> u32 {
        (self.0.fetch_sub(1, Ordering::AcqRel) >> 32) as u32
    }
}

/// A shard's end.
pub(crate) struct Lender {
    questions: Arc<Questions>,
    answered: u32,
    counter: Arc<UnixStream>,
}

/// The server's end.
#[derive(Debug)]
pub(crate) struct Loans {
    /// The shards look at them when they are woken.
    questions: Arc<Questions>,
    lent: Mutex<UnixStream>,
    counter: Arc<UnixStream>,
}

/// Copies of what all shards listen on.
#[derive(Debug, Default)]
pub(crate) struct Loan {
    pub(crate) listeners: BTreeMap<Mark, OwnedFd>,
    pub(crate) claims: BTreeMap<u32, OwnedFd>,
}

/// A shard that has not answered by then is held up by a call of its handler.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 10_000 });
/// A shard waits so long, for a thread that does nothing but take what is lent. With some hundred listeners a shard it may
/// have to.
const LEND_TIMEOUT: Duration = Duration::from_secs(1);

impl Loans {
    pub(crate) fn new() -> io::Result<Loans> {
        let (lent, counter) = UnixStream::pair()?;
        lent.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        counter.set_write_timeout(Some(LEND_TIMEOUT))?;
        Ok(Loans { questions: Arc::default(), lent: Mutex::new(lent), counter: Arc::new(counter) })
    }

    pub(crate) fn lender(&self) -> Lender {
        self.questions.come();
        let (questions, counter) = (Arc::clone(&self.questions), Arc::clone(&self.counter));
        Lender { answered: questions.asked(), questions, counter }
    }

    /// Asks all shards, each of which `wake` has to wake, and waits for their answers.
    pub(crate) fn borrow(&self, wake: impl FnOnce()) -> io::Result<Loan> {
        let lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut loan, (question, mut answers)) = (Loan::default(), self.questions.ask());
        wake();
        while answers > 0 {
            match receive_note(lent.as_fd()).map_err(unanswered)? {
                // One that answers an earlier question, which somebody has not waited for, is as good.
                ([LISTENER, mark], Some(listener)) => drop(loan.listeners.insert(Mark::from_word(mark), listener)),
                ([CLAIM, place], Some(claim)) => drop(loan.claims.insert(place, claim)),
                ([END, answered], _) if answered == question => answers -= 1,
                _ => {}
            }
        }
        Ok(loan)
    }
}

fn unanswered(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => io::Error::new(
            io::ErrorKind::TimedOut,
            format!("a shard has been held up for {ANSWER_TIMEOUT:?} (`watchdog` tells by whom)"),
        ),
        _ => error,
    }
}

impl Lender {
    /// Lends what it listens on, if it has been asked since; nothing, if it listens no longer.
    pub(crate) fn answer(&mut self, door: Option<&Door>) {
        let asked = self.questions.asked();
        if mem::replace(&mut self.answered, asked) != asked {
            // Who asked and does not get it waits in vain, and says so.
            let _ = self.lend(door, asked);
        }
    }

    fn lend(&self, door: Option<&Door>, asked: u32) -> io::Result<()> {
        for (mark, listener) in door.into_iter().flat_map(|door| &door.listeners) {
            self.send([LISTENER, mark.to_word()], Some(listener.as_fd()))?;
        }
        for (place, claim) in door.into_iter().flat_map(|door| &door.claims) {
            self.send([CLAIM, *place], Some(claim.as_fd()))?;
        }
        self.send([END, asked], None)
    }

    fn send(&self, note: Note, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        send_note(self.counter.as_fd(), note, fd)
    }
}

/// A shard that ends listens no longer, and owes that as an answer if it was asked before.
impl Drop for Lender {
    fn drop(&mut self) {
        let asked = self.questions.leave();
        if self.answered != asked {
            let _ = self.lend(None, asked);
        }
    }
}

impl AsFd for Lender {
    /// What it lends through.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.counter.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(place: u32, tag: u8) -> Mark {
        Mark { place, tag }
    }

    #[test]
    fn nobody_waits_for_one_that_is_held_up_and_its_late_answer_confuses_nobody() {
        let loans = Loans::new().unwrap();
        let listener = Socket::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let (door, mut held_up) = (Door { listeners: vec![(mark(0, 0), listener)], ..Door::default() }, loans.lender());
        let error = loans.borrow(|| {}).unwrap_err();
        assert!(error.kind() == io::ErrorKind::TimedOut && error.to_string().contains("held up"), "{error}");
        held_up.answer(Some(&door));
        // It says now that it listens no longer; before, it did.
        let loan = loans.borrow(|| held_up.answer(None));
        assert_eq!(loan.unwrap().listeners.len(), 1);
        let loan = loans.borrow(|| held_up.answer(None));
        assert!(loan.unwrap().listeners.is_empty(), "nothing is left of the answers before");
    }

    #[test]
    fn who_is_asked_lends_once_and_who_listens_no_longer_says_so() {
        let loans = Loans::new().unwrap();
        let listener = || Socket::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let door = Door { listeners: vec![(mark(0, 1), listener()), (mark(2, 255), listener())], ..Door::default() };
        let (mut open, mut shut) = (loans.lender(), loans.lender());
        open.answer(Some(&door));
        for _ in 0..2 {
            let loan = loans.borrow(|| {
                open.answer(Some(&door));
                open.answer(Some(&door));
                shut.answer(None);
            });
            let loan = loan.unwrap();
            assert_eq!(loan.listeners.keys().collect::<Vec<_>>(), [&mark(0, 1), &mark(2, 255)]);
            for (mark, listener) in &door.listeners {
                let lent = Socket::from(loan.listeners[mark].try_clone().unwrap());
                assert_eq!(lent.local_addr().unwrap(), listener.local_addr().unwrap());
            }
        }
    }

    #[test]
    fn who_has_ended_is_not_waited_for_and_who_ends_when_asked_is_not_either() {
        let loans = Loans::new().unwrap();
        let [mut stays, goes, gone] = [(); 3].map(|()| loans.lender());
        drop(gone);
        let listener = Socket::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let door = Door { listeners: vec![(mark(0, 0), listener)], ..Door::default() };
        let loan = loans.borrow(|| {
            drop(goes);
            stays.answer(Some(&door));
        });
        assert_eq!(loan.unwrap().listeners.len(), 1, "nobody's end is taken for the answer of another");
        assert_eq!(loans.borrow(|| stays.answer(Some(&door))).unwrap().listeners.len(), 1);
        drop(stays);
        assert!(loans.borrow(|| {}).unwrap().listeners.is_empty());
    }
}
