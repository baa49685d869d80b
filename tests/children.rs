//! What a handler's program starts inherits nothing: every descriptor of a server is closed by exec(2).

mod support;

use std::process::{Command, Stdio};

use esockets::Cores;
use support::{Order, Script, builder, connect};

/// The descriptors that a child has beyond its input and output, as `ls` says what they are.
fn inherited() -> String {
    let list = r#"for fd in /proc/self/fd/*; do case ${fd##*/} in 0|1|2) ;; *) readlink "$fd";; esac; done | grep -E 'socket|anon_inode'"#;
    let output = Command::new("sh").args(["-c", list]).stdin(Stdio::null()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_child_of_a_handler_has_no_socket_and_no_epoll_instance() {
    for own_tables in [false, true] {
        let script = Script::echo().readable(|client| {
            client.consume(client.peek().len());
            let found = inherited();
            client.send(if found.is_empty() { b"nothing".as_slice() } else { found.as_bytes() })
        });
        let builder = builder().cores(Cores::None);
        let server = if own_tables {
            let script = script.clone();
            // SAFETY: the handler holds no descriptor, and sends none away.
            unsafe { builder.private_fd_tables() }.start(move |_| script.clone()).unwrap()
        } else {
            script.start(builder)
        };
        let _others = [connect(server.local_addr()), connect(server.local_addr())];
        let mut asking = connect(server.local_addr());
        std::io::Write::write_all(&mut asking, b"?").unwrap();
        let mut answer = [0; 7];
        std::io::Read::read_exact(&mut asking, &mut answer).unwrap();
        assert_eq!(&answer, b"nothing", "and more");
        let _: &esockets::Server<Order> = &server;
    }
}
