//! The client against scripted servers on real sockets: pieces, pipelining, time-outs, and what it says when it fails.

use super::*;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::thread::{JoinHandle, spawn};

fn server(script: impl FnOnce(UnixStream) + Send + 'static) -> (tempfile::TempDir, PathBuf, JoinHandle<()>) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("onced.sock");
    let listener = UnixListener::bind(&path).expect("bind");
    let thread = spawn(move || script(listener.accept().expect("accept").0));
    (dir, path, thread)
}

const WAIT: Duration = Duration::from_secs(10);

#[test]
fn calls_and_pipelines_in_pieces() {
    let (_dir, path, thread) = server(|mut stream| {
        let mut request = vec![0; 14];
        stream.read_exact(&mut request).expect("a request");
        assert_eq!(request, b"*1\r\n$4\r\nPING\r\n");
        for byte in b"+PONG\r\n:1\r\n%1\r\n+status\r\n$2\r\nOK\r\n" {
            stream.write_all(&[*byte]).expect("write");
        }
    });
    let mut client = Client::connect(&path, WAIT).expect("connect");
    assert_eq!(client.call(&[b"PING"]).expect("reply"), Value::Simple("PONG".to_owned()));
    assert_eq!(client.recv().expect("second reply"), Value::Int(1));
    assert_eq!(client.recv().expect("third reply").status(), Some("OK"));
    assert!(matches!(client.recv(), Err(ClientError::Closed)));
    assert!(matches!(client.call(&[b"PING"]), Err(ClientError::Broken)));
    thread.join().expect("server");
}

#[test]
fn large_replies_grow_the_buffer() {
    let outcome = vec![b'z'; 900_000];
    let (_dir, path, thread) = server({
        let outcome = outcome.clone();
        move |mut stream| {
            for _ in 0..2 {
                stream.write_all(b"$900000\r\n").expect("write");
                stream.write_all(&outcome).expect("write");
                stream.write_all(b"\r\n").expect("write");
            }
        }
    });
    let mut client = Client::connect(&path, WAIT).expect("connect");
    assert_eq!(client.recv().expect("first"), Value::Bulk(outcome.clone()));
    assert_eq!(client.recv().expect("second"), Value::Bulk(outcome));
    thread.join().expect("server");
}

#[test]
fn a_timeout_breaks_the_connection() {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let (_dir, path, thread) = server(move |stream| {
        // Holds the connection open, silently, until the client has given up.
        let _ = wait.recv();
        drop(stream);
    });
    let mut client = Client::connect(&path, Duration::from_millis(30)).expect("connect");
    let error = client.call(&[b"PING"]).expect_err("nobody answers");
    assert!(matches!(error, ClientError::Timeout { after_ms: 30 }), "{error}");
    assert!(matches!(client.recv(), Err(ClientError::Broken)));
    drop(done);
    thread.join().expect("server");
}

#[test]
fn failures_to_connect_say_what_to_do() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let missing = dir.path().join("none.sock");
    let error = Client::connect(&missing, WAIT).expect_err("no socket");
    assert!(error.is_unreachable());
    assert!(error.to_string().contains("is `onced serve` running?"), "{error}");
    assert!(error.to_string().contains(&missing.display().to_string()), "{error}");

    let stale = dir.path().join("stale.sock");
    drop(UnixListener::bind(&stale).expect("bind"));
    let error = Client::connect(&stale, WAIT).expect_err("nobody listens");
    assert!(matches!(error, ClientError::Refused { .. }), "{error}");
}

#[test]
fn permission_denied_names_mode_and_group() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("onced.sock");
    let _listener = UnixListener::bind(&path).expect("bind");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).expect("chmod");
    // Root passes every permission check, so the mapping is tested and not the kernel.
    let error = connect_error(&path, ErrorKind::PermissionDenied.into());
    assert!(error.to_string().contains("mode is 0660"), "{error}");
    assert!(error.to_string().contains("join group"), "{error}");
    let hidden = connect_error(Path::new("/nonexistent/onced.sock"), ErrorKind::PermissionDenied.into());
    assert!(hidden.to_string().contains("folder cannot be entered"), "{hidden}");
}

#[test]
fn a_server_that_speaks_something_else_is_named() {
    let (_dir, path, thread) =
        server(|mut stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n").expect("write"));
    let mut client = Client::connect(&path, WAIT).expect("connect");
    assert!(matches!(client.recv(), Err(ClientError::Protocol(ReplyError::UnknownType(b'H')))));
    thread.join().expect("server");
}
