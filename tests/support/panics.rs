//! Panics that are meant, and what provokes them.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Once;

use esockets::Client;

/// The panics here are meant: their messages would only alarm the reader.
pub(crate) fn silence() {
    static SILENCE: Once = Once::new();
    SILENCE.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload().downcast_ref() != Some(&"meant") {
                report(panic);
            }
        }));
    });
}

pub(crate) fn meant() -> bool {
    panic!("meant")
}

/// Echoes, and panics at the peer's wish.
pub(crate) fn echo_unless_told(client: &mut Client<'_>) -> bool {
    let data = client.recv();
    if data.starts_with(b"panic") { meant() } else { client.send(data) }
}

pub(crate) fn say_panic(mut stream: &TcpStream) {
    stream.write_all(b"panic").unwrap();
}
