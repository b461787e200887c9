//! Two real endpoints on loopback: who is let in, who is not, and what they are told.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::SystemTime;

use quinn::{Connection, Endpoint};
use rustls::pki_types::CertificateDer;

use super::super::ca::{self, Pair};
use super::super::protocol::{NO_APPLICATION_PROTOCOL, PROTOCOLS, chosen};
use super::super::tls::peer_region;
use super::*;
use crate::config::Tls;

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const DAY: Duration = Duration::from_secs(86_400);

/// Loads `region` from a certificate of `issuer`, trusting `trusted`, as of `when`.
fn identity(folder: &Path, trusted: &Pair, issuer: &Pair, region: &str, when: SystemTime) -> TlsIdentity {
    let folder = folder.join(format!("{region}-{}", std::fs::read_dir(folder).unwrap().count()));
    let pair = ca::issue(issuer, "shop", region, 10, when).unwrap();
    let [cert_file, key_file] = ca::write_region(&folder, region, &pair, false).unwrap();
    let trusts_itself = ca::copy_ca_cert(&folder, issuer).unwrap();
    // A region whose own CA file does not fit would be stopped at start; here it must get as far as the peer.
    let both = format!("{}\n{}", trusted.cert_pem, issuer.cert_pem);
    std::fs::write(&trusts_itself, both).unwrap();
    TlsIdentity::load(&Tls { ca_file: trusts_itself, cert_file, key_file }, "shop", region, when).unwrap()
}

fn secret(folder: &Path) -> ClusterSecret {
    let path = folder.join("secret");
    if !path.exists() {
        ClusterSecret::create(&path).unwrap();
    }
    ClusterSecret::read(&path).unwrap()
}

fn endpoint(folder: &Path, region: &str, at: SocketAddr, server: Option<ServerConfig>) -> Endpoint {
    let socket = std::net::UdpSocket::bind(at).unwrap();
    let runtime = quinn::default_runtime().unwrap();
    Endpoint::new(endpoint_config(&secret(folder), region), server, socket, runtime).unwrap()
}

/// The next handshake on `endpoint` that passes [`admit`], to its end.
async fn accept(endpoint: &Endpoint) -> (Result<Connection, ConnectionError>, usize) {
    let mut retried = 0;
    loop {
        match admit(endpoint.accept().await.unwrap()) {
            Admission::Handshake(connecting) => return (connecting.await, retried),
            Admission::Retried => retried += 1,
            Admission::Refused(error) => return (Err(error), retried),
        }
    }
}

/// Dials `server` as `dialled` with `client`; both sides' results. A refused client learns of it after its own
/// half of the handshake has succeeded, so it waits for the connection to be closed.
async fn meet(
    folder: &Path,
    server: &TlsIdentity,
    client: ClientConfig,
    dialled: &str,
) -> [Result<Connection, ConnectionError>; 2] {
    meet_at(folder, server_config(server).unwrap(), client, dialled).await
}

/// As [`meet`], with a server's configuration.
async fn meet_at(
    folder: &Path,
    server: ServerConfig,
    client: ClientConfig,
    dialled: &str,
) -> [Result<Connection, ConnectionError>; 2] {
    let listener = endpoint(folder, "eu", ANY_PORT, Some(server));
    let dialler = endpoint(folder, "us", ANY_PORT, None);
    let name = ca::region_dns_name(dialled);
    let connecting = dialler.connect_with(client, listener.local_addr().unwrap(), &name).unwrap();
    let ((accepted, retried), dialled) = tokio::time::timeout(HANDSHAKE_TIMEOUT, async {
        tokio::join!(accept(&listener), async {
            let connection = connecting.await?;
            // Long enough for a refusal to arrive on loopback, short enough for a test that is let in.
            tokio::select! {
                error = connection.closed() => Err(error),
                () = tokio::time::sleep(Duration::from_millis(300)) => Ok(connection),
            }
        })
    })
    .await
    .expect("a handshake on loopback ends");
    assert_eq!(retried, 1, "every address proves itself first");
    [accepted, dialled]
}

fn told(result: &Result<Connection, ConnectionError>) -> String {
    match result {
        Ok(_) => "let in".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn certs(connection: &Connection) -> Vec<CertificateDer<'static>> {
    *connection.peer_identity().unwrap().downcast().unwrap()
}

#[tokio::test]
async fn regions_of_one_ca_meet_and_know_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let authority = ca::create_ca("test", 100, now).unwrap();
    let eu = identity(folder.path(), &authority, &authority, "eu", now);
    let us = identity(folder.path(), &authority, &authority, "us", now);
    let [accepted, dialled] = meet(folder.path(), &eu, client_config(&us).unwrap(), "eu").await;
    let (accepted, dialled) = (accepted.unwrap(), dialled.unwrap());
    assert_eq!(peer_region(&certs(&accepted)).unwrap().must_be("shop", "us"), Ok(()));
    assert_eq!(peer_region(&certs(&dialled)).unwrap().must_be("shop", "eu"), Ok(()));
    assert_eq!([chosen(&accepted), chosen(&dialled)], [PROTOCOLS[0]; 2]);
}

#[tokio::test]
async fn a_client_of_another_ca_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let [ours, theirs] = ["ours", "theirs"].map(|name| ca::create_ca(name, 100, now).unwrap());
    let eu = identity(folder.path(), &ours, &ours, "eu", now);
    let us = identity(folder.path(), &ours, &theirs, "us", now);
    let [accepted, dialled] = meet(folder.path(), &eu, client_config(&us).unwrap(), "eu").await;
    assert!(told(&accepted).contains("UnknownIssuer"), "{}", told(&accepted));
    assert!(told(&dialled).contains("peer"), "{}", told(&dialled));
    assert!(dialled.is_err());
}

#[tokio::test]
async fn a_server_of_another_ca_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let [ours, theirs] = ["ours", "theirs"].map(|name| ca::create_ca(name, 100, now).unwrap());
    let eu = identity(folder.path(), &ours, &theirs, "eu", now);
    let us = identity(folder.path(), &ours, &ours, "us", now);
    let [_, dialled] = meet(folder.path(), &eu, client_config(&us).unwrap(), "eu").await;
    assert!(told(&dialled).contains("UnknownIssuer"), "{}", told(&dialled));
}

#[tokio::test]
async fn a_server_that_is_another_region_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let authority = ca::create_ca("test", 100, now).unwrap();
    let eu = identity(folder.path(), &authority, &authority, "eu", now);
    let us = identity(folder.path(), &authority, &authority, "us", now);
    let [_, dialled] = meet(folder.path(), &eu, client_config(&us).unwrap(), "ap").await;
    assert!(told(&dialled).contains("not valid for name"), "{}", told(&dialled));
}

#[tokio::test]
async fn an_expired_certificate_is_refused_from_either_side() {
    let folder = tempfile::tempdir().unwrap();
    let (now, then) = (SystemTime::now(), SystemTime::now() - 20 * DAY);
    let authority = ca::create_ca("test", 100, then).unwrap();
    let fresh = |region| identity(folder.path(), &authority, &authority, region, now);
    let expired = |region| identity(folder.path(), &authority, &authority, region, then);
    let [accepted, dialled] =
        meet(folder.path(), &fresh("eu"), client_config(&expired("us")).unwrap(), "eu").await;
    assert!(told(&accepted).contains("expired"), "{}", told(&accepted));
    assert!(dialled.is_err());
    let [_, dialled] = meet(folder.path(), &expired("eu"), client_config(&fresh("us")).unwrap(), "eu").await;
    assert!(told(&dialled).contains("expired"), "{}", told(&dialled));
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let authority = ca::create_ca("test", 100, now).unwrap();
    let eu = identity(folder.path(), &authority, &authority, "eu", now);
    let mut tls = identity(folder.path(), &authority, &authority, "us", now).client_config().unwrap();
    tls.client_auth_cert_resolver = Arc::new(NoCertificate);
    let client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(Arc::new(tls)).unwrap()));
    let [accepted, dialled] = meet(folder.path(), &eu, client, "eu").await;
    assert!(told(&accepted).contains("peer sent no certificates"), "{}", told(&accepted));
    assert!(dialled.is_err());
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// A daemon that is killed says nothing; the one started in its place must, or peers wait 15 s. The kill is played
/// by a relay that from one moment on sends everything to the new daemon, so that the old one's goodbye is lost too.
#[tokio::test]
async fn a_restarted_region_resets_old_connections_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let authority = ca::create_ca("test", 100, now).unwrap();
    let eu = identity(folder.path(), &authority, &authority, "eu", now);
    let us = identity(folder.path(), &authority, &authority, "us", now);
    let [first, second] =
        [(); 2].map(|()| endpoint(folder.path(), "eu", ANY_PORT, Some(server_config(&eu).unwrap())));
    let (target, targets) = tokio::sync::watch::channel(first.local_addr().unwrap());
    let relay = tokio::net::UdpSocket::bind(ANY_PORT).await.unwrap();
    let relay_address = relay.local_addr().unwrap();
    let relaying = tokio::spawn(run_relay(relay, targets));
    let dialler = endpoint(folder.path(), "us", ANY_PORT, None);
    let connecting =
        dialler.connect_with(client_config(&us).unwrap(), relay_address, "eu.region.onced.internal").unwrap();
    let (connection, (accepted, _)) = tokio::join!(connecting, accept(&first));
    let (connection, _accepted) = (connection.unwrap(), accepted.unwrap());
    target.send(second.local_addr().unwrap()).unwrap();
    let (mut stream, _back) = connection.open_bi().await.unwrap();
    stream.write_all(b"anybody there?").await.unwrap();
    let error =
        tokio::time::timeout(Duration::from_secs(3), connection.closed()).await.expect("a reset in time");
    assert_eq!(error, ConnectionError::Reset);
    relaying.abort();
}

/// Passes datagrams between one client and the current target; what an earlier target still sends is dropped.
async fn run_relay(relay: tokio::net::UdpSocket, target: tokio::sync::watch::Receiver<SocketAddr>) {
    let mut client = None;
    let mut datagram = vec![0; 65_536];
    loop {
        let (length, from) = relay.recv_from(&mut datagram).await.unwrap();
        let server = *target.borrow();
        let to = if from == server {
            client
        } else if client.is_none_or(|client| client == from) {
            client = Some(from);
            Some(server)
        } else {
            None
        };
        if let Some(to) = to {
            relay.send_to(&datagram[..length], to).await.unwrap();
        }
    }
}

#[test]
fn reset_keys_sign_and_verify() {
    let key = ResetKey([7; 32]);
    let mut signature = vec![0; key.signature_len()];
    key.sign(b"id", &mut signature);
    assert!(key.verify(b"id", &signature).is_ok());
    assert!(key.verify(b"other", &signature).is_err());
    assert!(key.verify(b"id", &signature[..16]).is_err());
    let mut short = [0; 16];
    key.sign(b"id", &mut short);
    assert_eq!(short, signature[..16]);
}

/// N and N-1: the newer side offers both and speaks the older one, whichever dials, and both know what was chosen.
#[tokio::test]
async fn neighbouring_versions_link_in_the_older_one() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let authority = ca::create_ca("test", 100, now).unwrap();
    let eu = identity(folder.path(), &authority, &authority, "eu", now);
    let us = identity(folder.path(), &authority, &authority, "us", now);
    let (newer, older) = (&["onced/2", "onced/1"][..], &["onced/1"][..]);
    for (serves, dials, spoken) in
        [(newer, older, "onced/1"), (older, newer, "onced/1"), (newer, newer, "onced/2")]
    {
        let server = server_of(eu.server_config_of(serves).unwrap()).unwrap();
        let client = client_of(us.client_config_of(dials).unwrap()).unwrap();
        let [accepted, dialled] = meet_at(folder.path(), server, client, "eu").await;
        assert_eq!(
            [chosen(&accepted.unwrap()), chosen(&dialled.unwrap())],
            [spoken; 2],
            "{serves:?} {dials:?}"
        );
    }
}

#[tokio::test]
async fn versions_without_a_common_one_are_refused_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let authority = ca::create_ca("test", 100, now).unwrap();
    let eu = identity(folder.path(), &authority, &authority, "eu", now);
    let us = identity(folder.path(), &authority, &authority, "us", now);
    let server = server_of(eu.server_config_of(&["onced/1"]).unwrap()).unwrap();
    let client = client_of(us.client_config_of(&["onced/3", "onced/2"]).unwrap()).unwrap();
    let [accepted, dialled] = meet_at(folder.path(), server, client, "eu").await;
    let code = quinn::TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL);
    assert!(matches!(accepted, Err(ConnectionError::TransportError(error)) if error.code == code));
    assert!(matches!(dialled, Err(ConnectionError::ConnectionClosed(close)) if close.error_code == code));
}

/// Certificates rotate on a bound endpoint: a connection that is up outlives both CA and certificate that it was made
/// with, new handshakes use the new ones, and a side that has not rotated yet is let in while two CAs are trusted.
#[tokio::test]
async fn an_identity_rotates_under_a_connection() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let [old, new] = ["old", "new"].map(|name| ca::create_ca(name, 100, now).unwrap());
    let listener = {
        let eu = identity(folder.path(), &old, &old, "eu", now);
        endpoint(folder.path(), "eu", ANY_PORT, Some(server_config(&eu).unwrap()))
    };
    let dialler = endpoint(folder.path(), "us", ANY_PORT, None);
    let dial = async |as_us: &TlsIdentity| {
        let name = ca::region_dns_name("eu");
        let client = client_config(as_us).unwrap();
        let connecting = dialler.connect_with(client, listener.local_addr().unwrap(), &name).unwrap();
        let ((accepted, _), dialled) = tokio::join!(accept(&listener), connecting);
        (accepted, dialled)
    };
    let us_old = identity(folder.path(), &old, &old, "us", now);
    let (first, first_dialled) = dial(&us_old).await;
    let (first, first_dialled) = (first.unwrap(), first_dialled.unwrap());
    // Both trusted, and eu's certificate by the new one already.
    let eu = identity(folder.path(), &old, &new, "eu", now);
    listener.set_server_config(Some(server_config(&eu).unwrap()));
    let us_both = identity(folder.path(), &new, &old, "us", now);
    let (second, second_dialled) = dial(&us_both).await;
    let second_dialled = second_dialled.unwrap();
    assert_ne!(certs(&second_dialled), certs(&first_dialled), "a new handshake shows the new certificate");
    // Only the new one.
    let eu = identity(folder.path(), &new, &new, "eu", now);
    listener.set_server_config(Some(server_config(&eu).unwrap()));
    let us_new = identity(folder.path(), &new, &new, "us", now);
    let (third, third_dialled) = dial(&us_new).await;
    let _third_dialled = third_dialled.unwrap();
    let (refused, _) = dial(&us_both).await;
    assert!(told(&refused).contains("UnknownIssuer"), "the old CA counts no more: {}", told(&refused));
    for up in [&first, &second.unwrap(), &third.unwrap()] {
        assert_eq!(up.close_reason(), None, "what was up stays up");
        let (mut stream, _back) = up.open_bi().await.unwrap();
        stream.write_all(b"still here").await.unwrap();
    }
    let (_back, mut received) = first_dialled.accept_bi().await.unwrap();
    let mut bytes = [0; 10];
    received.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"still here");
}

/// The buffers had a name and a size, and nobody asked the kernel for them: a region that caught up over a distance lost
/// datagrams to its own socket. Found by measuring over emulated links.
#[test]
fn the_peers_socket_asks_for_larger_buffers() {
    use rustix::net::sockopt::{socket_recv_buffer_size, socket_send_buffer_size};
    let socket = std::net::UdpSocket::bind(ANY_PORT).unwrap();
    let before = (socket_recv_buffer_size(&socket).unwrap(), socket_send_buffer_size(&socket).unwrap());
    raise_buffers(&socket);
    let after = (socket_recv_buffer_size(&socket).unwrap(), socket_send_buffer_size(&socket).unwrap());
    // What the kernel's bound leaves of it; as root, on a machine with the default, all of it is not granted either.
    assert!(after.0 >= before.0 && after.1 >= before.1, "{before:?} {after:?}");
    assert_ne!(after, before, "the kernel's bounds are its defaults: nothing can be asked for here");
}
