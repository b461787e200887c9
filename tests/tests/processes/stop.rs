//! Ends and starts in order: SIGTERM, and two daemons that want the same things.

use daemon::resp::{Client, ClientError};
use tests::{Cluster, Setup, field, status, until};

/// Claims in flight when SIGTERM comes: more than fit into one read or one round of replies.
const IN_FLIGHT: usize = 3_000;

#[test]
fn sigterm_answers_what_is_in_flight_and_keeps_what_it_granted() {
    let mut cluster = Cluster::alone("interval");
    for round in 0..5 {
        let mut client = cluster.client(0);
        let keys: Vec<_> = (0..IN_FLIGHT).map(|number| format!("drain:{round}.{number}")).collect();
        let (mut granted, mut refused) = (Vec::new(), 0);
        // Written beside the reading: neither side's buffers hold all of it.
        let mut pipelined: Vec<u8> = Vec::new();
        for key in &keys {
            pipelined.extend_from_slice(format!("CLAIM {key} CLAIMANT a\r\n").as_bytes());
        }
        client.send_raw(&pipelined).expect("the socket takes it");
        client.flush().expect("the socket takes it");
        for (number, key) in keys.iter().enumerate() {
            let reply =
                client.recv().unwrap_or_else(|error| panic!("claim {number} of {IN_FLIGHT}: {error}"));
            match status(&reply).as_str() {
                "GRANTED" => granted.push(key),
                "UNAVAILABLE" => refused += 1,
                other => panic!("{other}: {reply:?}"),
            }
            if number == 0 {
                cluster.terminate(0);
            }
        }
        assert_eq!(granted.len() + refused, IN_FLIGHT);
        assert!(matches!(client.recv(), Err(ClientError::Closed)), "then it closes");
        assert!(cluster.wait_end(0).success(), "exit code 0");
        assert!(!cluster.socket(0).exists(), "nothing is left behind");
        cluster.restart(0);
        let mut client = cluster.client(0);
        for key in granted {
            let reply = client.call(&[b"GET", key.as_bytes()]).expect("answered");
            assert_eq!(status(&reply), "HELD", "{key} was granted");
        }
    }
}

#[test]
fn sigterm_ends_a_daemon_whose_clients_idle_or_park() {
    let mut cluster = Cluster::start(Setup::regions(2));
    let idle = cluster.client(0);
    let mut holder = cluster.client(0);
    assert_eq!(status(&holder.call(&[b"CLAIM", b"k", b"CLAIMANT", b"a"]).expect("answered")), "GRANTED");
    let mut parked = cluster.client(0);
    parked.send(&[b"CLAIM", b"k", b"CLAIMANT", b"b", b"WAIT", b"60000"]).expect("taken");
    parked.flush().expect("taken");
    // Parked before it is stopped: what comes later is refused at once, which would show nothing.
    let waits = holder.call(&[b"CLAIM", b"k", b"CLAIMANT", b"c", b"WAIT", b"100"]).expect("answered");
    assert_eq!(status(&waits), "IN_PROGRESS");
    let began = std::time::Instant::now();
    cluster.terminate(0);
    let told = parked.recv().expect("answered");
    assert_eq!((status(&told).as_str(), field(&told, "reason").as_str()), ("UNAVAILABLE", "draining"));
    assert!(cluster.wait_end(0).success());
    // The daemon drains for 5 s at most; nothing is in flight here.
    assert!(began.elapsed().as_secs() < 4, "it waited {:?} for clients that only idle", began.elapsed());
    drop(idle);
}

#[test]
fn a_second_daemon_on_the_same_data_is_refused() {
    let mut cluster = Cluster::alone("interval");
    let status = cluster.command(0).status().expect("it can be started");
    assert!(!status.success());
    assert!(cluster.log(0).contains("is in use by another onced"), "{}", cluster.log(0));
    assert!(cluster.ended(0).is_none(), "the first one goes on");
    assert_eq!(tests::status(&cluster.call(0, &[b"CLAIM", b"k"])), "GRANTED");
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused() {
    let cluster = Cluster::alone("interval");
    let config = cluster.own(0).join("onced.toml");
    let text = std::fs::read_to_string(&config).expect("it is there");
    let text = text.replace("data_dir = \"data\"", "data_dir = \"other-data\"");
    std::fs::write(&config, text).expect("it can be written");
    let status = cluster.command(0).status().expect("it can be started");
    assert!(!status.success());
    assert!(cluster.log(0).contains("another onced serves this socket"), "{}", cluster.log(0));
    assert_eq!(tests::status(&cluster.call(0, &[b"CLAIM", b"k"])), "GRANTED", "the first one still has it");
}

#[test]
fn a_port_in_use_is_said_and_nothing_is_left() {
    let mut cluster = Cluster::prepare(Setup::regions(2));
    let taken = std::net::UdpSocket::bind(("127.0.0.1", cluster.port(0))).expect("the port is free");
    cluster.spawn(0);
    assert!(!cluster.wait_end(0).success());
    assert!(cluster.log(0).contains("cannot listen for peers"), "{}", cluster.log(0));
    assert!(!cluster.socket(0).exists());
    drop(taken);
    // Its peer is not there.
    cluster.spawn_with(0, |command| {
        command.arg("--alone");
    });
    cluster.wait_ready(0);
}

#[test]
fn a_dead_daemons_socket_is_replaced() {
    let mut cluster = Cluster::alone("interval");
    let socket = cluster.socket(0);
    assert!(cluster.kill(0));
    assert!(socket.exists(), "SIGKILL leaves it");
    let refused = Client::connect(&socket, std::time::Duration::from_secs(5)).map(|_| ());
    assert!(matches!(refused, Err(ClientError::Refused { .. })), "{refused:?}");
    cluster.restart(0);
    until("it serves again", || status(&cluster.call(0, &[b"CLAIM", b"k", b"CLAIMANT", b"a"])) == "GRANTED");
}
