//! Bugs on purpose, in the test build alone: the simulation has to find each of them, or it proves nothing.

use std::cell::Cell;

/// What servers like this one have got wrong, a bug for each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// What a socket does not take of a message is forgotten.
    PartialSend,
    /// A read that fails with EAGAIN after an edge ends the connection.
    SpuriousEdge,
    /// A short read is taken for all, although the peer's end is behind it.
    EndBehindData,
    /// What came in while a connection was paused is not looked at when it resumes.
    Resume,
    /// An id finds whoever has its slot now.
    ReusedSlot,
    /// Only who ends in an orderly way is told of it.
    ClosedOnce,
    /// A timer outlives its connection.
    StrayTimer,
    /// Who got no session does not give back the seat that was taken for it.
    Seat,
    /// Accepting goes on at once when descriptors have run out.
    AcceptSpin,
    /// The look before sleeping overlooks what other threads have sent.
    LostWakeUp,
    /// One connection more than there may be has a seat.
    ConnectionsMax,
    /// One more of one address.
    ConnectionsPerAddress,
    /// One more in a second.
    AcceptRate,
    /// A network of IPv6 is as many guests as it has addresses.
    Household,
    /// What was left over does not count when more is read.
    InputMax,
    /// A byte more of output may wait.
    OutputMax,
    /// A byte more may wait for all peers together.
    OutputMaxShard,
    /// What waited for somebody who is gone still counts for the shard.
    OutputLeaks,
    /// Who has something waiting is read, however little room the shard has.
    ShardUnpressed,
    /// More is read than an answer has room for.
    OutputRoom,
    /// A timer does not make up for the part of a tick that is over.
    TimerEarly,
    /// A timer has a few ticks more.
    TimerLate,
    /// What is sent is no activity.
    IdleEarly,
    /// Events are activity, even if they bring nothing.
    IdleLate,
    /// A byte that trickles is taken for the first message.
    FirstMessageTrickles,
    /// Who takes nothing has half the time to take something, or three times as much.
    WriteTimeoutEarly,
    WriteTimeoutLate,
    /// What the peer acknowledges does not count.
    WriteTimeoutBlind,
    /// A stop takes half the time that it has, or twice.
    StopEarly,
    StopLate,
    /// A drain takes half the time that it has, or twice.
    DrainEarly,
    DrainLate,
    /// Who waits in the queue when a drain begins is not taken.
    DrainLoses,
    /// A drain lets others come in.
    DrainListens,
    /// A drain that begins when descriptors have run out does not wait for some.
    DrainHurries,
    /// One who is refused when a drain has just run out of descriptors makes it forget those behind him.
    DrainForgets,
    /// A stop does not look for what has come in.
    StopUnread,
    /// A stop closes what is still on its way to the peer.
    StopUnacknowledged,
    /// Who was told why there is no room for him is closed before he has read it.
    RefusedUnread,
    /// Who is let go is closed at once, whatever he still sends.
    FinishedUnread,
    /// Who has not taken everything yet when his handler is done is given up at once.
    FlushEarly,
    /// And he has a minute too much.
    FlushLate,
    /// Who does not finish is waited for twice as long.
    LingerLate,
    /// The last reason to end counts, not the first.
    LastReason,
    /// A pause of the acceptor lasts, whoever leaves meanwhile.
    PauseLasts,
    /// Nobody is told that it may write again.
    WritableNever,
    /// And it is told twice.
    WritableTwice,
    /// And it is told whenever something has waited.
    WritableAlways,
    /// It is told as soon as something has left.
    WritableEarly,
    /// What was read does not count.
    ReadBudget,
    /// Of those who have more to do, one has a turn.
    Starves,
    /// One more than the budget allows is accepted.
    AcceptBudget,
    /// A pause counts only until the peer finishes or breaks.
    PauseEnd,
    /// What a handler left is not shown again when it resumes, until more comes.
    ResumeLeft,
    /// What comes in during a pause is thrown away.
    PauseReads,
    /// Any event of one who calls is taken for success.
    ConnectedEarly,
    /// Who calls has twice the time.
    AttemptLate,
    /// What is read before the handler has the shard that it has asked for is handed to it.
    ShardLate,
    /// A second stop with a shorter time does not count.
    StopOnce,
    /// After a pause of the whole process everybody's time is over before what came meanwhile is read.
    StandstillExpires,
    /// Who is visited in a call that takes its time was active when the turn began.
    VisitIdle,
    /// A tick comes after half its period, or after two.
    TickEarly,
    TickLate,
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

impl Bug {
    /// All of them.
    pub(crate) const ALL: [Bug; 63] = [
        Bug::PartialSend,
        Bug::SpuriousEdge,
        Bug::EndBehindData,
        Bug::Resume,
        Bug::ReusedSlot,
        Bug::ClosedOnce,
        Bug::StrayTimer,
        Bug::Seat,
        Bug::AcceptSpin,
        Bug::LostWakeUp,
        Bug::ConnectionsMax,
        Bug::ConnectionsPerAddress,
        Bug::AcceptRate,
        Bug::Household,
        Bug::InputMax,
        Bug::OutputMax,
        Bug::OutputMaxShard,
        Bug::OutputLeaks,
        Bug::ShardUnpressed,
        Bug::OutputRoom,
        Bug::TimerEarly,
        Bug::TimerLate,
        Bug::IdleEarly,
        Bug::IdleLate,
        Bug::FirstMessageTrickles,
        Bug::WriteTimeoutEarly,
        Bug::WriteTimeoutLate,
        Bug::WriteTimeoutBlind,
        Bug::StopEarly,
        Bug::StopLate,
        Bug::DrainEarly,
        Bug::DrainLate,
        Bug::DrainLoses,
        Bug::DrainListens,
        Bug::DrainHurries,
        Bug::DrainForgets,
        Bug::StopUnread,
        Bug::StopUnacknowledged,
        Bug::RefusedUnread,
        Bug::FinishedUnread,
        Bug::FlushEarly,
        Bug::FlushLate,
        Bug::LingerLate,
        Bug::LastReason,
        Bug::PauseLasts,
        Bug::WritableNever,
        Bug::WritableTwice,
        Bug::WritableAlways,
        Bug::WritableEarly,
        Bug::ReadBudget,
        Bug::Starves,
        Bug::AcceptBudget,
        Bug::PauseEnd,
        Bug::ResumeLeft,
        Bug::PauseReads,
        Bug::ConnectedEarly,
        Bug::AttemptLate,
        Bug::ShardLate,
        Bug::StopOnce,
        Bug::StandstillExpires,
        Bug::VisitIdle,
        Bug::TickEarly,
        Bug::TickLate,
    ];

    /// Whether this thread has it.
    pub(crate) fn is_planted(self) -> bool {
        PLANTED.get() == Some(self)
    }

    /// What it makes of something that is right.
    pub(crate) fn instead<T>(self, right: T, wrong: T) -> T {
        if self.is_planted() { wrong } else { right }
    }

    /// Runs `act` with it.
    pub(crate) fn planted<R>(self, act: impl FnOnce() -> R) -> R {
        PLANTED.set(Some(self));
        let result = act();
        PLANTED.set(None);
        result
    }
}
