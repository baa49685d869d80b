//! From bytes to messages: the handler of a server of WebSockets, with its limits.

use std::str;
use std::time::Duration;

use super::client::{Client, Desk};
use super::close::{self, NORMAL, Violation};
use super::deflate::Inflater;
use super::extensions::Deflate;
use super::frame::{CONTROL_MAX, Head, Opcode, parse, parse_packed, unmask};
use super::handler::{Answer, Handler, Page};
use super::handshake::{Refusal, find_end, phrase, with_request};
use super::session::{Partial, Session, Stage, State, Talk, Whole};
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
    /// How many bytes were inflated since others were given a turn for it.
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
    /// Whether a frame of data may be as long as it says, with what came before it.
    #[inline]
    fn fit(&self, head: &Head, partial: Option<&Partial>) -> bool {
        let (before, message_max) = match partial {
            None => (0, self.message_max),
            Some(partial) => (partial.len(), if partial.is_packed() { self.packed_max() } else { self.message_max }),
        };
        head.length <= message_max.saturating_sub(before).min(self.frame_max) as u64
    }

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

/// What is to be done after a frame.
enum Step {
    /// Look for another.
    More,
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

    /// A peer that has been silent for so long is sent a ping; if it is silent for as long once more, it is closed, with code
    /// 1008. Default: 60 s. `None` never asks. Costs a timer, 16 bytes for each connection.
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
    /// (`no_context_takeover` on both sides); about 350 KB for each shard; and time, 10 µs for a message of 256 bytes,
    /// 200 µs for 64 KiB of JSON, and a quarter of that to inflate, where an echo without it takes less than one. A
    /// message that would not get shorter is sent as it is.
    ///
    /// [`message_max`](WebSockets::message_max) is for what a message is inflated: a bomb is refused when it gets
    /// there, with code 1009. What has come of a message that is not whole is kept as it came, up to an eighth longer
    /// than that. [`frame_max`](WebSockets::frame_max) is for what is sent.
    ///
    /// A handler that answers a message with as much sends a bomb's 1 MiB on, compressed again: where peers are not
    /// trusted, [`message_max`](WebSockets::message_max) is what bounds the time that a KiB of theirs costs.
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
    /// Looks for the request. `None`: it is not whole. An error is the last that the client hears.
    fn greet(
        &mut self,
        client: &mut crate::Client<'_>,
        searched: &mut u32,
    ) -> Result<Option<Talk<H::Session>>, Vec<u8>> {
        let input = client.peek();
        let Some(size) = find_end(input, *searched as usize, self.limits.handshake_max).map_err(Refusal::into_bytes)?
        else {
            *searched = input.len() as u32;
            return Ok(None);
        };
        let address = *client.address();
        client.consume(size);
        let met = with_request(&input[..size], |request| {
            if !request.upgrades {
                let found = self.handler.handle_page(&request, &address);
                return Err(found.map_or_else(|| Refusal::VERSION.into_bytes(), Page::into_bytes));
            }
            let Answer { outcome, subprotocol } = self.handler.handle_open(&request, &address);
            match outcome {
                Ok(session) => {
                    let deflate = request.deflate.filter(|_| self.desk.deflate_min.is_some());
                    client.send(&request.accept(subprotocol.as_deref(), deflate));
                    client.set_timeout(self.limits.ping_interval);
                    Ok(Some(Talk::new(session, deflate.map(Deflate::window), client.now())))
                }
                Err(status) => Err(Refusal { status, why: phrase(status) }.into_bytes()),
            }
        });
        met.map_err(Refusal::into_bytes)?
    }
}

/// Reading.
impl<H: Handler> WebSockets<H> {
    /// Looks at what has come in, frame by frame.
    fn converse(&mut self, client: &mut crate::Client<'_>, talk: &mut Talk<H::Session>) -> bool {
        if self.limits.ping_interval.is_some() {
            talk.hear(client.now());
        }
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
        let head = match parse(input) {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(Step::Wait),
            Err(Violation::RESERVED_BITS) if talk.link.window.is_some() => return self.begin_packed(client, talk),
            Err(violation) => return Err(violation),
        };
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
            self.whole(client, talk, &head, &payload[..length])?;
            return Ok(Step::More);
        }
        client.consume(head.size);
        let partial = talk.partial.get_or_insert_with(|| Box::new(Partial::new(head.opcode)));
        partial.begin(&head, self.limits.fragments_max)?;
        self.read_on(client, talk)
    }

    /// A message that is compressed begins, for all that the frame's first byte tells. It is put together in any case:
    /// that is little beside inflating it.
    #[cold]
    fn begin_packed(&mut self, client: &mut crate::Client<'_>, talk: &mut Talk<H::Session>) -> Result<Step, Violation> {
        let Some(head) = parse_packed(client.peek())? else { return Ok(Step::Wait) };
        if talk.partial.is_some() {
            return Err(Violation::MESSAGE_UNFINISHED);
        }
        let partial = talk.partial.insert(Box::new(Partial::packed(head.opcode)));
        if !self.limits.fit(&head, Some(partial)) {
            return Err(Violation::TOO_BIG);
        }
        client.consume(head.size);
        partial.begin(&head, self.limits.fragments_max)?;
        self.read_on(client, talk)
    }

    /// Whether a frame of data may come now, and be as long as it says.
    #[inline]
    fn check(&self, talk: &Talk<H::Session>, head: &Head) -> Result<(), Violation> {
        match &talk.partial {
            None if head.opcode == Opcode::Continuation => Err(Violation::NOTHING_TO_CONTINUE),
            Some(_) if head.opcode != Opcode::Continuation => Err(Violation::MESSAGE_UNFINISHED),
            partial if !self.limits.fit(head, partial.as_deref()) => Err(Violation::TOO_BIG),
            _ => Ok(()),
        }
    }

    /// A message in one frame that is there from end to end.
    #[inline(always)]
    fn whole(
        &mut self,
        client: &mut crate::Client<'_>,
        talk: &mut Talk<H::Session>,
        head: &Head,
        payload: &[u8],
    ) -> Result<(), Violation> {
        if talk.link.state == State::Closing {
            return Ok(());
        }
        let clear = unmask(payload, head.mask, &mut self.clear);
        let client = Client::new(client, &mut talk.link, &mut self.desk);
        show(&mut self.handler, client, &mut talk.session, head.opcode, clear)
    }

    /// A message that is compressed, and whole.
    #[cold]
    fn unpack(
        &mut self,
        client: &mut crate::Client<'_>,
        talk: &mut Talk<H::Session>,
        opcode: Opcode,
        packed: &[u8],
    ) -> Result<Step, Violation> {
        let inflater = self.inflater.get_or_insert_with(Inflater::new);
        let clear = inflater.inflate(packed, self.limits.message_max, opcode)?;
        self.inflated += clear.len();
        let shown = Client::new(client, &mut talk.link, &mut self.desk);
        show(&mut self.handler, shown, &mut talk.session, opcode, clear)?;
        inflater.give_back();
        if self.inflated < INFLATED_BUDGET || talk.link.state == State::Paused {
            return Ok(Step::More);
        }
        self.inflated = 0;
        client.resume(); // as when a budget of frames is spent
        Ok(Step::Wait)
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
        if let Whole::Packed(opcode, packed) = whole {
            return self.unpack(client, talk, opcode, &packed);
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
#[inline(always)] // into `step`, which is 40 instructions less for each message
fn show<H: Handler>(
    handler: &mut H,
    mut client: Client<'_, '_>,
    session: &mut H::Session,
    opcode: Opcode,
    bytes: &[u8],
) -> Result<(), Violation> {
    let kept = match opcode {
        Opcode::Text => {
            let text = str::from_utf8(bytes).map_err(|_| Violation::NOT_UTF8)?;
            handler.handle_text(&mut client, session, text)
        }
        _ => handler.handle_binary(&mut client, session, bytes),
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

    /// It may have been silent for too long: for as long as the timer was set for, unless it was heard meanwhile.
    fn look_for_life(&mut self, client: &mut crate::Client<'_>, talk: &mut Talk<H::Session>) -> bool {
        if talk.link.state == State::Closing {
            return false;
        }
        let Some(interval) = self.limits.ping_interval else { return true };
        let now = client.now();
        if talk.link.state == State::Paused {
            // Nobody listens to it.
            talk.hear(now);
        }
        let mut silence = talk.silence(now);
        if silence >= interval {
            if talk.is_asked {
                return self.fail(client, talk, Violation::SILENCE);
            }
            Client::new(client, &mut talk.link, &mut self.desk).ping(&[]);
            talk.ask(now);
            silence = Duration::ZERO;
        }
        client.set_timeout(Some(interval - silence));
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
                Err(farewell) => {
                    client.recv();
                    client.send(&farewell);
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
                client.send(&Refusal::TOO_LATE.into_bytes());
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
