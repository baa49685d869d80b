//! glommio, a task and a buffer for each connection, on io_uring; it opens its listener itself, with its own backlog.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process;
use std::sync::mpsc::{self, Sender};

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};

use super::Setting;
use crate::failure::{Result, Tried};

/// Memory that glommio registers with the kernel at the start: little, because an echo server has no files and the limit
/// of locked memory is often 8 MiB, less than what it asks for by default.
const IO_MEMORY: usize = 1 << 20;

pub(super) fn start(setting: &Setting) -> Result<SocketAddr> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, setting.port));
    let buffer = setting.buffer;
    let (tell, told) = mpsc::channel();
    // Unbound: the thread inherits the core of this one.
    let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(IO_MEMORY).spawn(move || async move {
        if let Err(error) = accept(address, buffer, &tell).await {
            eprintln!("serving with glommio: {error}");
            process::exit(1);
        }
    });
    executor.tried(|| "starting glommio, which needs io_uring and memory that may be locked".to_owned())?;
    told.recv().tried(|| format!("listening on {address} with glommio"))
}

async fn accept(address: SocketAddr, buffer: usize, tell: &Sender<SocketAddr>) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    let _ = tell.send(listener.local_addr()?);
    loop {
        let stream = listener.accept().await?;
        stream.set_nodelay(true)?;
        glommio::spawn_local(echo(stream, buffer)).detach();
    }
}

async fn echo(mut stream: TcpStream, buffer: usize) -> io::Result<()> {
    let mut buffer = vec![0; buffer];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count]).await?;
    }
}
