//! Servers on Unix sockets are measured as those on TCP are: all loads, all protocols, and a queue that is full is waited
//! for.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use support::{failures, failures_total, is_conserved, joined, loadgen, measure, skip, stage};

/// A folder of this test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("loadgen-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An echo server at `listener`, which accepts until this is dropped and somebody comes.
struct Server(Arc<AtomicBool>);

impl Server {
    /// It waits for `pause` before each accept, and serves each connection with `serve`.
    fn start(listener: UnixListener, pause: Duration, serve: fn(UnixStream)) -> Server {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        thread::spawn(move || {
            for stream in listener.incoming().flatten().take_while(|_| !over.load(Ordering::Relaxed)) {
                thread::spawn(move || serve(stream));
                thread::sleep(pause);
            }
        });
        Server(is_over)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn echo(mut stream: UnixStream) {
    let mut buffer = [0; 4096];
    while let Ok(len @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
}

fn is_measured(line: &str) {
    let (code, results) = measure(line);
    assert_eq!(code, Some(0), "{line}: {results:#}");
    assert!(is_conserved(&results), "{line}: {results:#}");
}

#[test]
fn every_load_by_path_and_by_abstract_name() {
    let folder = Folder::new("unix-loads");
    let (path, name) = (folder.file("echo.sock"), format!("loadgen-test-{}", std::process::id()));
    let by_name = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let _servers = [UnixListener::bind(&path).unwrap(), by_name].map(|it| Server::start(it, Duration::ZERO, echo));
    for target in [format!("unix:{path}"), format!("unix:@{name}")] {
        is_measured(&format!("rr {target} -c 8 -d 200ms -s 1000"));
        is_measured(&format!("open {target} -c 8 -d 300ms -R 500 --arrival constant"));
        is_measured(&format!("hold {target} -c 8 -d 200ms --heartbeat 50ms"));
        is_measured(&format!("churn {target} -c 4 -d 200ms"));
        is_measured(&format!("churn {target} -c 4 -d 200ms -R 200 --close fin"));
    }
    let (code, results) = measure(&format!("rr unix:{path},unix:@{name} -c 9 -d 100ms"));
    assert_eq!((code, &results["plan"]["addresses"][1]), (Some(0), &format!("unix:@{name}").into()));
    assert_eq!(
        (&results["plan"]["sources"]["chosen_by"], &results["plan"]["sources"]["addresses"]),
        (&"none".into(), &0.into())
    );
}

#[test]
fn a_full_queue_is_waited_for_without_spinning() {
    let folder = Folder::new("unix-queue");
    let path = folder.file("slow.sock");
    let listener = UnixListener::bind(&path).unwrap();
    socket2::SockRef::from(&listener).listen(1).unwrap();
    let _server = Server::start(listener, Duration::from_millis(10), echo);
    let (code, results) = measure(&format!("rr unix:{path} -c 40 -d 100ms"));
    let connect = stage(&results, "connect");
    assert_eq!((code, &connect["connections_established"]), (Some(0), &40.into()), "{connect:#}");
    let [elapsed_s, cpu_s] = ["elapsed_s", "generator_cpu_s"].map(|name| connect[name].as_f64().unwrap());
    assert!(elapsed_s > 0.3, "it was full: {connect:#}");
    assert!(cpu_s < elapsed_s / 10.0, "whoever waits sleeps: {connect:#}");
    let (code, results) = measure(&format!("churn unix:{path} -c 20 -d 300ms"));
    let churn = stage(&results, "churn");
    assert!(code == Some(0) && is_conserved(&results), "{churn:#}");
    assert!(churn["connect_time"]["p50_ns"].as_u64() > Some(50_000_000), "20 wait for one each 10 ms: {churn:#}");
}

#[test]
fn a_queue_that_stays_full_is_a_timeout() {
    let folder = Folder::new("unix-full");
    let path = folder.file("full.sock");
    let listener = UnixListener::bind(&path).unwrap();
    socket2::SockRef::from(&listener).listen(1).unwrap();
    let (code, results) = measure(&format!("hold unix:{path} -c 10 -d 100ms --timeout 200ms"));
    let connect = stage(&results, "connect");
    let late = failures(connect, "connect_failures", "timed out");
    assert_eq!((code, connect["connections_established"].as_u64().unwrap() + late), (Some(1), 10), "{connect:#}");
    assert!(late >= 5 && late == failures_total(connect, "connect_failures"), "{connect:#}");
    assert!(results["advice"].to_string().contains("had no room within 200 ms"), "{:#}", results["advice"]);
    let (code, results) = measure(&format!("churn unix:{path} -c 10 -d 500ms --timeout 200ms"));
    assert!(code == Some(1) && is_conserved(&results), "{results:#}");
}

#[test]
fn what_is_wrong_is_said() {
    let folder = Folder::new("unix-wrong");
    let stale = folder.file("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    let fails = |line: &str, wanted: &[&str]| {
        let outcome = loadgen(&format!("{line} -c 3 -d 1h -q"));
        assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
        let text = joined(&outcome.stdout);
        wanted.iter().for_each(|wanted| assert!(text.contains(wanted), "no '{wanted}' in {text}"));
    };
    let missing = folder.file("none.sock");
    fails(&format!("rr unix:{missing}"), &["3 × connect: no such socket (ENOENT", "nothing has that path", "ss -lx"]);
    fails(&format!("rr unix:{stale}"), &["3 × connect: refused (ECONNREFUSED", "left its file behind"]);
    fails("churn unix:@loadgen-nobody", &["refused (ECONNREFUSED", "nobody listens there"]);
    for wrong in [
        "unix:/a --source 127.0.0.1",
        "unix:/a 127.0.0.1:1",
        "unix:/a --unix-socket /b",
        "unix:",
        "http://h/ --unix-socket @",
    ] {
        assert_eq!(loadgen(&format!("rr {wrong}")).code, Some(2), "{wrong}");
    }
    let outcome = loadgen(&format!("doctor unix:{missing} -c 15k"));
    assert_eq!(outcome.code, Some(0), "{}", outcome.stdout);
    assert!(!outcome.stdout.contains("ports") && outcome.stdout.contains("PERHAPS  listeners"), "{}", outcome.stdout);
    let _listener = UnixListener::bind(&missing).unwrap();
    assert!(loadgen(&format!("doctor unix:{missing}")).stdout.contains("fits     listeners        one at unix:"));
}

#[test]
fn a_permission_that_is_missing_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("unix-forbidden");
    let path = folder.file("closed.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    // Whoever administers the system may write everywhere.
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let program = folder.file("loadgen");
    fs::copy(env!("CARGO_BIN_EXE_loadgen"), &program).unwrap();
    let output =
        Command::new("setpriv").args(nobody).args([&program, "rr", &format!("unix:{path}"), "-c", "2", "-q"]).output();
    match output {
        Ok(output) if !output.stderr.starts_with(b"setpriv") => {
            let text = joined(&String::from_utf8(output.stdout).unwrap());
            assert!(text.contains("connect: forbidden (EACCES") && text.contains("namei -l"), "{text}");
        }
        _ => skip("a socket that may not be used: nobody else to be here"),
    }
}

/// A server of another program, ended when dropped.
struct Foreign(Child);

impl Drop for Foreign {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `program` with `arguments`, which listens at `path`; `None` where it is not installed.
fn start(program: &str, path: &str, arguments: &[&str]) -> Option<Foreign> {
    let child =
        Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(child) = child else {
        skip(&format!("{program} is not installed"));
        return None;
    };
    let mut foreign = Foreign(child);
    while UnixStream::connect(path).is_err() {
        assert!(matches!(foreign.0.try_wait(), Ok(None)), "{program} ended before it listened");
        thread::yield_now();
    }
    Some(foreign)
}

#[test]
fn redis() {
    let folder = Folder::new("unix-redis");
    let path = folder.file("redis.sock");
    let arguments = ["--port", "0", "--unixsocket", &path, "--save", "", "--daemonize", "no"];
    if let Some(_server) = start("redis-server", &path, &arguments) {
        for load in ["rr", "open -R 500", "hold", "churn"] {
            is_measured(&format!("{load} unix:{path} -c 8 -d 200ms --send PING\\r\\n --expect +PONG\\r\\n"));
        }
    }
}

#[test]
fn socat() {
    let folder = Folder::new("unix-socat");
    let path = folder.file("cat.sock");
    if let Some(_server) = start("socat", &path, &[&format!("UNIX-LISTEN:{path},fork"), "EXEC:cat"]) {
        is_measured(&format!("rr unix:{path} -c 3 -d 200ms"));
        is_measured(&format!("churn unix:{path} -c 2 -d 200ms"));
    }
}

#[test]
fn http_over_a_unix_socket_names_the_host_and_reaches_nginx() {
    let folder = Folder::new("unix-http");
    let own = folder.file("own.sock");
    let _server = Server::start(UnixListener::bind(&own).unwrap(), Duration::ZERO, |mut stream| {
        let mut head = [0; 4096];
        while let Ok(len @ 1..) = stream.read(&mut head) {
            let is_right = head[..len].starts_with(b"GET /page?x=1 HTTP/1.1\r\nHost: example.org\r\n");
            let status = if is_right { "200 OK" } else { "400 Bad" };
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nhi").as_bytes());
        }
    });
    let (code, results) = measure(&format!("rr http://example.org/page?x=1 --unix-socket {own} -c 3 -d 100ms"));
    assert_eq!(code, Some(0), "{results:#}");
    assert_eq!(results["plan"]["target"], format!("http://example.org:80/page?x=1 by unix:{own}"));
    let (path, root) = (folder.file("nginx.sock"), folder.0.display());
    fs::write(folder.file("page.txt"), "hello").unwrap();
    let text = format!(
        "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log; events {{ }} http {{ access_log off; \
         client_body_temp_path {root}/a; proxy_temp_path {root}/b; fastcgi_temp_path {root}/c; uwsgi_temp_path {root}/d; \
         scgi_temp_path {root}/e; server {{ listen unix:{path}; root {root}; }} }}"
    );
    fs::write(folder.file("nginx.conf"), text).unwrap();
    if let Some(_server) = start("nginx", &path, &["-e", "stderr", "-c", &folder.file("nginx.conf")]) {
        is_measured(&format!("rr http://localhost/page.txt --unix-socket {path} -c 8 -d 200ms"));
        is_measured(&format!("churn http://localhost/page.txt --unix-socket {path} -c 8 -d 200ms --close server"));
    }
}
