//! Unix sockets that listen, and their files: made, replaced where their server is dead, removed at the end.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::address::abstract_name;
use crate::socket::unix_address;
use crate::sys;

/// The files of a server's Unix sockets, for it to remove: when it is asked to end, and at the latest with this.
#[derive(Debug, Default)]
pub(crate) struct SocketFiles {
    files: Mutex<Vec<SocketFile>>,
}

impl SocketFiles {
    fn files(&self) -> MutexGuard<'_, Vec<SocketFile>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over the one that is there, unless somebody has removed it.
    pub(crate) fn add(&self, path: &Path) {
        self.files().extend(SocketFile::at(path));
    }

    pub(crate) fn remove(&self) {
        self.files().drain(..).for_each(|file| file.remove());
    }

    /// They are somebody else's now.
    pub(crate) fn leave(&self) {
        self.files().clear();
    }

    /// Whether this one is among them.
    pub(crate) fn contain(&self, path: &Path) -> bool {
        self.files().iter().any(|file| file.path == path)
    }
}

impl Drop for SocketFiles {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The file of a Unix socket that is this server's to remove.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Its device and its number there: whoever has put another one in its place keeps it.
    identity: (u64, u64),
}

/// unix(7): the longest path that fits into an address, whose last byte is a zero, and the longest name, whose first one is.
const PATH_MAX: usize = 107;
/// Another one that starts in the same folder takes some microseconds. Who may read the folder may keep it locked for ever, and
/// is not to keep anybody from starting.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
const GLANCE: Duration = Duration::from_millis(1);

impl SocketFile {
    /// The one that is there.
    fn at(path: &Path) -> io::Result<SocketFile> {
        let found = fs::symlink_metadata(path)?;
        Ok(SocketFile { path: path.into(), identity: (found.dev(), found.ino()) })
    }

    /// Removes it, if it is there still.
    fn remove(&self) {
        let is_own = |found: fs::Metadata| (found.dev(), found.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(is_own) {
            // Whoever has taken the right to do so from us since has to remove it himself.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A non-blocking Unix stream socket that listens under `path`, which begins at the root, and whose file has this `mode`, if
/// any; or, behind an `@`, under an abstract name, without a file.
///
/// A file there that nobody answers for is replaced.
///
/// # Errors
/// Those of bind(2), chmod(2) and listen(2); AddrInUse when somebody listens there, AlreadyExists for a file that is no
/// socket, InvalidInput for a path that does not fit into an address.
pub(crate) fn listen(path: &Path, mode: Option<u32>, queue_size: u32) -> io::Result<Socket> {
    let address = unix_address(path).map_err(|_| {
        let bytes = path.as_os_str().len();
        let why = match abstract_name(path) {
            None => format!("its path has {bytes} bytes, and a Unix socket's {PATH_MAX} at the most, no zero"),
            Some(_) => format!("its name has {} bytes, and an abstract one {PATH_MAX} at the most, no zero", bytes - 1),
        };
        io::Error::new(io::ErrorKind::InvalidInput, why)
    })?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    let listen = |socket: &Socket| socket.listen(i32::try_from(queue_size).unwrap_or(i32::MAX));
    if abstract_name(path).is_some() {
        // The kernel forgets the name with the socket: nothing to replace, and nothing to remove.
        return socket.bind(&address).and_then(|()| listen(&socket)).map(|()| socket);
    }
    // Two who find the same dead file would remove each other's new one; and who has bound and does not listen yet looks dead.
    let _lock = lock(path.parent().unwrap_or(path));
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_dead(path, &address)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    let listens = mode
        .map_or(Ok(()), |mode| fs::set_permissions(path, Permissions::from_mode(mode & 0o7777)))
        .and_then(|()| listen(&socket));
    match listens {
        Ok(()) => Ok(socket),
        Err(error) => {
            let _ = fs::remove_file(path);
            Err(error)
        }
    }
}

/// The sole right among servers of this library to change `folder`'s sockets, as long as it is kept; `None` where it is not to be
/// had.
fn lock(folder: &Path) -> Option<File> {
    let folder = File::open(folder).ok()?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match sys::try_lock(folder.as_fd()) {
            Ok(()) => return Some(folder),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock || Instant::now() >= deadline => return None,
            Err(_) => thread::sleep(GLANCE),
        }
    }
}

/// Removes a socket's file whose server is dead: it refuses a connection.
fn remove_dead(path: &Path, address: &SockAddr) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file is there that is no socket"));
    }
    match visit(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        // Somebody listens there, if with a full queue, or for something that is no stream.
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// A connection there, without waiting for room in the queue.
fn visit(address: &SockAddr) -> io::Result<Socket> {
    let visitor = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    visitor.connect(address).map(|()| visitor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    /// A folder of this test's own.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let folder = std::env::temp_dir().join(format!("esockets-unix-{name}-{}", std::process::id()));
            fs::create_dir(&folder).unwrap();
            Folder(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn refusal(path: &Path) -> io::ErrorKind {
        listen(path, None, 1).unwrap_err().kind()
    }

    #[test]
    fn only_a_dead_socket_is_replaced() {
        let folder = Folder::new("dead");
        let path = folder.0.join("a");
        drop(UnixListener::bind(&path).unwrap());
        let living = listen(&path, None, 1).unwrap();
        assert_eq!(refusal(&path), io::ErrorKind::AddrInUse);
        // Whose queue is full does not refuse, and lives.
        let mut waiting = Vec::new();
        while let Ok(visitor) = visit(&SockAddr::unix(&path).unwrap()) {
            waiting.push(visitor);
        }
        assert_eq!(refusal(&path), io::ErrorKind::AddrInUse);
        drop(living);
        let other = folder.0.join("b");
        let datagrams = UnixDatagram::bind(&other).unwrap();
        assert_eq!(refusal(&other), io::ErrorKind::AddrInUse, "somebody else's, and in use");
        drop(datagrams);
        fs::write(folder.0.join("c"), "precious").unwrap();
        assert_eq!(refusal(&folder.0.join("c")), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(folder.0.join("c")).unwrap(), b"precious");
        assert_eq!(refusal(&folder.0.join("none/d")), io::ErrorKind::NotFound);
    }

    #[test]
    fn whoever_keeps_the_folder_locked_keeps_nobody_from_listening() {
        let folder = Folder::new("squatter");
        let squatter = lock(&folder.0);
        assert!(squatter.is_some() && lock(&folder.0).is_none());
        let path = folder.0.join("a");
        drop(UnixListener::bind(&path).unwrap());
        assert!(listen(&path, None, 1).is_ok(), "late, and on the dead file's place");
    }

    #[test]
    fn of_many_who_find_the_same_dead_file_one_listens() {
        let folder = Folder::new("race");
        let path = folder.0.join("a");
        for _ in 0..100 {
            drop(UnixListener::bind(&path).unwrap());
            let start = std::sync::Barrier::new(3);
            let race = || {
                start.wait();
                // Each loser's look at it takes a place in the queue.
                listen(&path, None, 8)
            };
            let winners = thread::scope(|scope| {
                let racers = [(); 3].map(|()| scope.spawn(race));
                let results = racers.map(|racer| racer.join().unwrap());
                UnixStream::connect(&path).expect("who has won is to be found there");
                results.iter().filter(|result| result.is_ok()).count()
            });
            assert_eq!(winners, 1);
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_path_fits_or_is_refused() {
        let folder = Folder::new("long");
        let long = |bytes: usize| folder.0.join("x".repeat(bytes - folder.0.as_os_str().len() - 1));
        drop(listen(&long(PATH_MAX), None, 1).unwrap());
        let error = listen(&long(PATH_MAX + 1), None, 1).unwrap_err();
        assert!(error.kind() == io::ErrorKind::InvalidInput && error.to_string().contains("108 bytes"), "{error}");
        assert_eq!(refusal(&folder.0.join("a\0b")), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_file_has_its_mode_and_is_removed_only_as_long_as_it_is_the_same() {
        let folder = Folder::new("mode");
        let path = folder.0.join("a");
        let _socket = listen(&path, Some(0o620), 1).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o620);
        let files = SocketFiles::default();
        files.add(&path);
        assert!(files.contain(&path));
        fs::rename(&path, folder.0.join("b")).unwrap();
        let _other = listen(&path, None, 1).unwrap();
        files.remove();
        assert!(path.exists(), "it is somebody else's now");
        files.add(&path);
        files.leave();
        drop(files);
        assert!(path.exists(), "it has been left to somebody");
        let files = SocketFiles::default();
        files.add(&path);
        drop(files);
        assert!(!path.exists());
    }
}
