//! From bytes to messages: the handler of a server of WebSockets, with its limits.

use std::str;
use std::time::Duration;

use super::client::{Client, Desk};
use super::close::{self, NORMAL, Violation};
use super::deflate::Inflater;
use super::extensions::Deflate;
use super::frame::{CONTROL_MAX, Head, Opcode, parse, unmask};
use super::handler::{Answer, Handler};
use super::handshake::{Refusal, find_end, phrase, refusal, with_request};
use super::session::{Kind, Partial, Session, Stage, State, Talk, Whole};
use super::shard::Shard;
use crate::{ClientId, CloseReason, Peer};

/// Speaks RFC 6455 for a [`websocket::Handler`](Handler): this is the [`esockets::Handler`](crate::Handler) that a server is
/// started with.
///
/// ```no_run
/// use esockets::Server;
/// use esockets::websocket::{Answer, Client, Handler, Request, WebSockets};
/// # use esockets::Peer;
///
/// /// Sends back what it is sent.
/// struct Echo;
///
/// impl Handler for Echo {
///     type Session = ();
///     type Message = ();
///
///     fn handle_open(&mut self, _: &Request<'_>, _: &Peer) -> Answer<()> {
///         Answer::accept(())
///     }
///
///     fn handle_text(&mut self, client: &mut Client<'_, '_>, (): &mut (), text: &str) -> bool {
///         client.send_text(text)
///     }
/// }
///
/// let server = Server::builder().start(|_| WebSockets::new(Echo).message_max(64 << 10))?;
/// # Ok::<(), esockets::Error>(())
/// ```
///
/// The connection's timer is this protocol's own, so a server of WebSockets has no use for
/// [`idle_timeout`](crate::Builder::idle_timeout). What a message may be long is for [`message_max`](WebSockets::message_max) to
/// say, not for [`input_max`](crate::Builder::input_max), which only has to be as large as a
/// [request](WebSockets::handshake_max); an answer has to fit into [`output_max`](crate::Builder::output_max).
#[derive(Debug)]
pub struct WebSockets<H> {
    handler: H,
    limits: Limits,
    /// A payload without its mask, for as long as the handler looks at it.
    clear: Vec<u8>,
    desk: Desk,
    /// Made for the first message that is compressed.
    inflater: Option<Inflater>,
    /// How many bytes were inflated in this call.
    inflated: usize,
    /// The newest ping that is to be answered before this call is over.
    late_ping: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    message_max: usize,
    frame_max: usize,
    fragments_max: u32,
    handshake_max: usize,
    handshake_timeout: Duration,
    ping_interval: Option<Duration>,
}

impl Limits {
    /// What a message may be long before it is inflated: the worst code of deflate takes nine bits for a byte.
    fn packed_max(&self) -> usize {
        self.message_max.saturating_add(self.message_max / 8).saturating_add(64)
    }
}

/// As many frames are looked at before others have a turn: a read of 64 KiB may hold ten thousand.
const FRAMES_BUDGET: usize = 1024;
/// And as many bytes are inflated: that read may hold sixty bombs of 1 MiB.
const INFLATED_BUDGET: usize = 256 << 10;
/// As long as no more than this waits for the peer, each of its pings is answered at once, which nobody may expect (RFC 6455,
/// section 5.5.3) but the Autobahn suite does; beyond it, only the newest that a call finds.
const PONGS_WAITING: usize = 1 << 10;
/// The timer runs out twice in an interval: so a ping is late by half of it at most, without a look at the clock for each
/// message.
const SILENCES_PING: u8 = 2;
const SILENCES_MAX: u8 = 4;

/// What is to be done after a frame.
enum Step {
    /// Look for another.
    More,
    /// Look for another when others have had their turn.
    Later,
    /// There is none yet.
    Wait,
    /// The connection is over.
    End,
}

impl<H: Handler> WebSockets<H> {
    /// WebSockets with this handler, and every limit at its default.
    pub fn new(handler: H) -> WebSockets<H> {
        let limits = Limits {
            message_max: 1 << 20,
            frame_max: usize::MAX,
            fragments_max: 1024,
            handshake_max: 8 << 10,
            handshake_timeout: Duration::from_secs(10),
            ping_interval: Some(Duration::from_secs(60)),
        };
        WebSockets {
            handler,
            limits,
            clear: Vec::new(),
            desk: Desk::new(),
            inflater: None,
            inflated: 0,
            late_ping: None,
        }
    }

    /// The longest message, in bytes, whatever it is cut into. Default: 1 MiB. A longer one is refused with code 1009 as soon
    /// as its frame's head has said so, and before any of that frame is kept. Memory is used for what has come of a message
    /// that is not whole: up to twice as much, while it grows.
    #[must_use]
    pub fn message_max(mut self, bytes: usize) -> Self {
        self.limits.message_max = bytes;
        self
    }

    /// The longest frame. Default: as long as a message.
    #[must_use]
    pub fn frame_max(mut self, bytes: usize) -> Self {
        self.limits.frame_max = bytes;
        self
    }

    /// The most frames that a message comes in. Default: 1024; more end with code 1008.
    #[must_use]
    pub fn fragments_max(mut self, frames: u32) -> Self {
        self.limits.fragments_max = frames;
        self
    }

    /// The longest request, in bytes. Default: 8 KiB; a longer one is answered with status 431, as is one of more than 64
    /// header fields.
    #[must_use]
    pub fn handshake_max(mut self, bytes: usize) -> Self {
        self.limits.handshake_max = bytes;
        self
    }

    /// How long a connection may take until its request is whole. Default: 10 s; then the answer is 408.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.limits.handshake_timeout = timeout;
        self
    }

    /// A peer that has been silent for so long, or up to half as long again, is sent a ping; if it is silent for as long once
    /// more, it is closed, with code 1008. Default: 60 s. `None` never asks. Costs a timer, 16 bytes for each connection.
    #[must_use]
    pub fn ping_interval(mut self, interval: Option<Duration>) -> Self {
        self.limits.ping_interval = interval;
        self
    }

    /// Compresses messages of so many bytes and more, and takes compressed ones, with clients that offer
    /// permessage-deflate (RFC 7692), as all browsers do. Default: `None`, with nobody; 256 is a good number, for what
    /// is shorter hardly gets shorter.
    ///
    /// What it costs: nothing for connections that are idle, as each message is compressed by itself
    /// (`no_context_takeover` on both sides); about 500 KB for each shard; and time, 10 µs for a message of 256 bytes,
    /// 200 µs for 64 KiB of JSON, and a quarter of that to inflate, where an echo without it takes less than one. A
    /// message that would not get shorter is sent as it is.
    ///
    /// [`message_max`](WebSockets::message_max) is for what a message is inflated: a bomb is refused when it gets
    /// there, with code 1009. What has come of a message that is not whole is kept as it came, up to an eighth longer
    /// than that. [`frame_max`](WebSockets::frame_max) is for what is sent.
    ///
    /// Whoever can see how long a message is, and have text of their own put beside a secret in it, can guess at the
    /// secret: keep the two in messages of their own.
    #[must_use]
    pub fn deflate(mut self, bytes_min: Option<usize>) -> Self {
        self.desk.deflate_min = bytes_min;
        self
    }

    /// The handler.
    pub fn handler(&mut self) -> &mut H {
        &mut self.handler
    }
}

/// Opening.
impl<H: Handler> WebSockets<H> {
    /// Looks for the request. `None`: it is not whole.
    fn greet(
        &mut self,
        client: &mut crate::Client<'_>,
        searched: &mut u32,
    ) -> Result<Option<Talk<H::Session>>, Refusal> {
        let input = client.peek();
        let Some(size) = find_end(input, *searched as usize, self.limits.handshake_max)? else {
            *searched = input.len() as u32;
            return Ok(None);
        };
        let address = *client.address();
        client.consume(size);
        with_request(&input[..size], |request| {
            let Answer { outcome, subprotocol } = self.handler.handle_open(&request, &address);
            match outcome {
                Ok(session) => {
                    let deflate = request.deflate.filter(|_| self.desk.deflate_min.is_some());
                    client.send(&request.accept(subprotocol.as_deref(), deflate));
                    client.set_timeout(self.half_interval());
                    Ok(Some(Talk::new(session, deflate.map(Deflate::window))))
                }
                Err(status) => Err(Refusal { status, why: phrase(status) }),
            }
        })?
    }

    fn half_interval(&self) -> Option<Duration> {
        self.limits.ping_interval.map(|interval| interval / 2)
    }
}

/// Reading.
impl<H: Handler> WebSockets<H> {
    /// Looks at what has come in, frame by frame.
    fn converse(&mut self, client: &mut crate::Client<'_>, talk: &mut Talk<H::Session>) -> bool {
        talk.is_heard = true;
        self.inflated = 0;
        self.late_ping = None; // of a client whose call ended early
        for _ in 0..FRAMES_BUDGET {
            if talk.link.state == State::Paused {
                return self.answer_late_ping(client, talk);
            }
            if client.output_is_high() {
                break;
            }
            match self.step(client, talk) {
                Ok(Step::More) => {}
                Ok(Step::Later) => break,
                Ok(Step::Wait) => return self.answer_late_ping(client, talk),
                Ok(Step::End) => return false,
                Err(violation) => return self.fail(client, talk, violation),
            }
        }
        // What is left comes again when the others have had their turn, or the peer has taken what waits for it.
        client.resume();
        self.answer_late_ping(client, talk)
    }

    #[inline]
    fn step(&mut self, client: &mut crate::Client<'_>, talk: &mut Talk<H::Session>) -> Result<Step, Violation> {
        if talk.partial.as_ref().is_some_and(|partial| partial.left > 0) {
            return self.read_on(client, talk);
        }
        let input = client.peek();
        let Some(head) = parse(input, talk.link.window.is_some())? else { return Ok(Step::Wait) };
        let payload = &input[head.size..];
        let is_whole = payload.len() as u64 >= head.length;
        if head.opcode.is_control() {
            if !is_whole {
                return Ok(Step::Wait);
            }
            let length = head.length as usize;
            client.consume(head.size + length);
            return self.control(client, talk, &head, &payload[..length]);
        }
        self.check(talk, &head)?;
        if talk.partial.is_none() && head.fin && is_whole {
            let length = head.length as usize;
            client.consume(head.size + length);
            return self.whole(client, talk, &head, &payload[..length]);
        }
        client.consume(head.size);
        let partial = talk.partial.get_or_insert_with(|| Box::new(Partial::new(&head)));
        partial.begin(&head, self.limits.fragments_max)?;
        self.read_on(client, talk)
    }

    /// Whether a frame of data may come now, and be as long as it says.
    #[inline]
    fn check(&self, talk: &Talk<H::Session>, head: &Head) -> Result<(), Violation> {
        let (before, is_packed) = match &talk.partial {
            None if head.opcode == Opcode::Continuation => return Err(Violation::NOTHING_TO_CONTINUE),
            Some(_) if head.opcode != Opcode::Continuation => return Err(Violation::MESSAGE_UNFINISHED),
            None => (0, head.packed),
            Some(partial) => (partial.len(), partial.is_packed()),
        };
        let message_max = if is_packed { self.limits.packed_max() } else { self.limits.message_max };
        let most = message_max.saturating_sub(before).min(self.limits.frame_max);
        if head.length > most as u64 { Err(Violation::TOO_BIG) } else { Ok(()) }
    }

    /// A message in one frame that is there from end to end.
    #[inline]
    fn whole(
        &mut self,
        client: &mut crate::Client<'_>,
        talk: &mut Talk<H::Session>,
        head: &Head,
        payload: &[u8],
    ) -> Result<Step, Violation> {
        if talk.link.state == State::Closing {
            return Ok(Step::More);
        }
        let clear = unmask(payload, head.mask, &mut self.clear);
        let kind = Kind::of(head.opcode);
        if head.packed {
            let packed = std::mem::take(&mut self.clear);
            let step = self.unpack(client, talk, kind, &packed[..payload.len()]);
            self.clear = packed;
            return step;
        }
        show(&mut self.handler, Client::new(client, &mut talk.link, &mut self.desk), &mut talk.session, kind, clear)?;
        Ok(Step::More)
    }

    /// A message that is compressed, and whole.
    #[cold]
    fn unpack(
        &mut self,
        client: &mut crate::Client<'_>,
        talk: &mut Talk<H::Session>,
        kind: Kind,
        packed: &[u8],
    ) -> Result<Step, Violation> {
        let inflater = self.inflater.get_or_insert_with(Inflater::new);
        let clear = inflater.inflate(packed, self.limits.message_max, kind)?;
        self.inflated += clear.len();
        show(&mut self.handler, Client::new(client, &mut talk.link, &mut self.desk), &mut talk.session, kind, clear)?;
        inflater.give_back();
        Ok(if self.inflated < INFLATED_BUDGET { Step::More } else { Step::Later })
    }

    /// As much as there is of a frame that is not whole, or belongs to a message that is not.
    fn read_on(&mut self, client: &mut crate::Client<'_>, talk: &mut Talk<H::Session>) -> Result<Step, Violation> {
        let Some(partial) = &mut talk.partial else { return Ok(Step::More) };
        let input = client.peek();
        let count = usize::try_from(partial.left).map_or(input.len(), |left| left.min(input.len()));
        client.consume(count);
        if talk.link.state == State::Closing {
            partial.skip(count);
        } else {
            partial.push(unmask(&input[..count], partial.mask, &mut self.clear))?;
        }
        if partial.is_whole() {
            return self.finish_message(client, talk);
        }
        Ok(if partial.left > 0 { Step::Wait } else { Step::More })
    }

    fn finish_message(
        &mut self,
        client: &mut crate::Client<'_>,
        talk: &mut Talk<H::Session>,
    ) -> Result<Step, Violation> {
        let Some(whole) = talk.partial.take() else { return Ok(Step::More) };
        if talk.link.state == State::Closing {
            return Ok(Step::More);
        }
        let whole = whole.finish()?;
        if let Whole::Packed(kind, packed) = whole {
            return self.unpack(client, talk, kind, &packed);
        }
        let mut client = Client::new(client, &mut talk.link, &mut self.desk);
        let kept = match whole {
            Whole::Text(text) => self.handler.handle_text(&mut client, &mut talk.session, &text),
            Whole::Binary(bytes) => self.handler.handle_binary(&mut client, &mut talk.session, &bytes),
            Whole::Packed(..) => true,
        };
        if !kept {
            client.close(NORMAL, "");
        }
        Ok(Step::More)
    }
}

/// Hands a message over.
#[inline]
fn show<H: Handler>(
    handler: &mut H,
    mut client: Client<'_, '_>,
    session: &mut H::Session,
    kind: Kind,
    bytes: &[u8],
) -> Result<(), Violation> {
    let kept = match kind {
        Kind::Text => {
            let text = str::from_utf8(bytes).map_err(|_| Violation::NOT_UTF8)?;
            handler.handle_text(&mut client, session, text)
        }
        Kind::Binary => handler.handle_binary(&mut client, session, bytes),
    };
    if !kept {
        client.close(NORMAL, "");
    }
    Ok(())
}

/// Control frames.
impl<H: Handler> WebSockets<H> {
    fn control(
        &mut self,
        client: &mut crate::Client<'_>,
        talk: &mut Talk<H::Session>,
        head: &Head,
        payload: &[u8],
    ) -> Result<Step, Violation> {
        if head.opcode == Opcode::Close {
            self.peer_closes(client, talk, head, payload)?;
            return Ok(Step::End);
        }
        if talk.link.state == State::Closing {
            return Ok(Step::More);
        }
        let clear = unmask(payload, head.mask, &mut self.clear);
        let mut client = Client::new(client, &mut talk.link, &mut self.desk);
        let kept = if head.opcode == Opcode::Ping {
            if client.output_waiting() > PONGS_WAITING {
                let newest = self.late_ping.get_or_insert_with(|| Vec::with_capacity(CONTROL_MAX));
                newest.clear();
                newest.extend_from_slice(clear);
            } else {
                self.late_ping = None;
                client.send(Opcode::Pong, clear);
            }
            self.handler.handle_ping(&mut client, &mut talk.session, clear)
        } else {
            self.handler.handle_pong(&mut client, &mut talk.session, clear)
        };
        if !kept {
            client.close(NORMAL, "");
        }
        Ok(Step::More)
    }

    /// Answers the peer's close frame, unless it is itself the answer to ours.
    fn peer_closes(
        &mut self,
        client: &mut crate::Client<'_>,
        talk: &mut Talk<H::Session>,
        head: &Head,
        payload: &[u8],
    ) -> Result<(), Violation> {
        let clear = unmask(payload, head.mask, &mut self.clear);
        let (code, reason) = close::parse(clear)?;
        let answer: &[u8] = if code.is_some() { &clear[..2] } else { &[] };
        // Nothing behind a close frame counts.
        client.recv();
        Client::new(client, &mut talk.link, &mut self.desk).send(Opcode::Close, answer);
        talk.link.state = State::Closing;
        self.handler.handle_close(&mut talk.session, code, reason);
        Ok(())
    }

    /// Answers the newest of the pings that came while too much waited.
    fn answer_late_ping(&mut self, client: &mut crate::Client<'_>, talk: &mut Talk<H::Session>) -> bool {
        if let Some(payload) = self.late_ping.take() {
            Client::new(client, &mut talk.link, &mut self.desk).send(Opcode::Pong, &payload);
        }
        true
    }

    /// The peer broke a rule: it is told which, and that is the end.
    fn fail(&mut self, client: &mut crate::Client<'_>, talk: &mut Talk<H::Session>, violation: Violation) -> bool {
        client.recv();
        self.late_ping = None;
        talk.partial = None;
        let payload = close::payload(violation.code, violation.why);
        Client::new(client, &mut talk.link, &mut self.desk).send(Opcode::Close, &payload);
        talk.link.state = State::Closing;
        false
    }

    /// Half an interval has passed.
    fn look_for_life(&mut self, client: &mut crate::Client<'_>, talk: &mut Talk<H::Session>) -> bool {
        if talk.link.state == State::Closing {
            return false;
        }
        let is_excused = std::mem::take(&mut talk.is_heard) || talk.link.state == State::Paused;
        talk.silences = if is_excused { 0 } else { talk.silences + 1 };
        if talk.silences >= SILENCES_MAX {
            return self.fail(client, talk, Violation::SILENCE);
        }
        if talk.silences == SILENCES_PING {
            Client::new(client, &mut talk.link, &mut self.desk).ping(&[]);
        }
        client.set_timeout(self.half_interval());
        true
    }
}

impl<H: Handler> crate::Handler for WebSockets<H> {
    type Session = Session<H::Session>;
    type Message = H::Message;

    fn handle_incoming(&mut self, client: &mut crate::Client<'_>, _: &Peer) -> Option<Self::Session> {
        client.set_timeout(Some(self.limits.handshake_timeout));
        Some(Session(Stage::Handshake { searched: 0 }))
    }

    #[inline]
    fn handle_readable(&mut self, client: &mut crate::Client<'_>, session: &mut Self::Session) -> bool {
        let talk = match &mut session.0 {
            Stage::Open(talk) => return self.converse(client, talk),
            Stage::Handshake { searched } => match self.greet(client, searched) {
                Ok(Some(talk)) => talk,
                Ok(None) => return true,
                Err(Refusal { status, why }) => {
                    client.recv();
                    client.send(&refusal(status, why));
                    return false;
                }
            },
        };
        session.0 = Stage::Open(talk);
        let Stage::Open(talk) = &mut session.0 else { return false };
        let mut opened = Client::new(client, &mut talk.link, &mut self.desk);
        if !self.handler.handle_opened(&mut opened, &mut talk.session) {
            opened.close(NORMAL, "");
        }
        self.converse(client, talk)
    }

    fn handle_writable(&mut self, client: &mut crate::Client<'_>, session: &mut Self::Session) -> bool {
        let Stage::Open(talk) = &mut session.0 else { return true };
        let mut client = Client::new(client, &mut talk.link, &mut self.desk);
        if client.is_open() && !self.handler.handle_writable(&mut client, &mut talk.session) {
            client.close(NORMAL, "");
        }
        true
    }

    fn handle_timeout(&mut self, client: &mut crate::Client<'_>, session: &mut Self::Session) -> bool {
        match &mut session.0 {
            Stage::Open(talk) => self.look_for_life(client, talk),
            Stage::Handshake { .. } => {
                client.recv();
                client.send(&refusal(Refusal::TOO_LATE.status, Refusal::TOO_LATE.why));
                false
            }
        }
    }

    fn handle_message(&mut self, shard: &mut crate::Shard<'_, Self::Session>, message: H::Message) {
        self.handler.handle_message(&mut Shard::new(shard, &mut self.desk), message);
    }

    fn handle_tick(&mut self, shard: &mut crate::Shard<'_, Self::Session>) {
        self.handler.handle_tick(&mut Shard::new(shard, &mut self.desk));
    }

    fn handle_closed(&mut self, session: Self::Session, id: ClientId, reason: CloseReason) {
        if let Stage::Open(talk) = session.0 {
            self.handler.handle_closed(talk.session, id, reason);
        }
    }
}
