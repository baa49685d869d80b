//! tokio as its tutorial has it: a task and a buffer for each connection; on one thread, and on two workers.

use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;

use super::Setting;

const WORKERS: usize = 2;

pub(super) fn serve_current_thread(listener: TcpListener, setting: &Setting) -> io::Result<()> {
    Builder::new_current_thread().enable_io().build()?.block_on(accept(listener, setting.buffer))
}

/// Its workers have a core each where the setting names two.
pub(super) fn serve_multi_thread(listener: TcpListener, setting: &Setting) -> io::Result<()> {
    let cores = setting.cores.clone();
    let started = AtomicUsize::new(0);
    let pin = move || {
        let worker = started.fetch_add(1, Ordering::Relaxed);
        if !cores.is_empty() {
            core_affinity::set_for_current(core_affinity::CoreId { id: cores[worker % cores.len()] });
        }
    };
    let runtime = Builder::new_multi_thread().worker_threads(WORKERS).on_thread_start(pin).enable_io().build()?;
    // Spawned, so that the accepting is done by a worker, too, and this thread only waits.
    let accepting = runtime.spawn(accept(listener, setting.buffer));
    runtime.block_on(accepting).map_err(io::Error::other)?
}

async fn accept(listener: TcpListener, buffer: usize) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(echo(stream, buffer));
    }
}

async fn echo(mut stream: TcpStream, buffer: usize) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(buffer);
    while stream.read_buf(&mut buffer).await? > 0 {
        stream.write_all(&buffer).await?;
        buffer.clear();
    }
    Ok(())
}
