//! monoio, a task and a buffer for each connection: on its epoll driver and on io_uring, where the kernel lets it.

use std::io;
use std::net::TcpListener;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::TcpStream;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use super::Setting;

pub(super) fn serve_epoll(listener: TcpListener, setting: &Setting) -> io::Result<()> {
    RuntimeBuilder::<LegacyDriver>::new().build()?.block_on(accept(listener, setting.buffer))
}

pub(super) fn serve_uring(listener: TcpListener, setting: &Setting) -> io::Result<()> {
    RuntimeBuilder::<IoUringDriver>::new().build()?.block_on(accept(listener, setting.buffer))
}

async fn accept(listener: TcpListener, buffer: usize) -> io::Result<()> {
    let listener = monoio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        monoio::spawn(echo(stream, buffer));
    }
}

async fn echo(mut stream: TcpStream, buffer: usize) -> io::Result<()> {
    let mut buffer: Vec<u8> = Vec::with_capacity(buffer);
    loop {
        let (read, filled) = stream.read(buffer).await;
        if read? == 0 {
            return Ok(());
        }
        let (written, emptied) = stream.write_all(filled).await;
        written?;
        buffer = emptied;
        buffer.clear();
    }
}
