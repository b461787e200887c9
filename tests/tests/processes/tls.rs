//! Strangers at the mesh: a region that does not belong is refused with the reason named, and changes nothing.

use std::net::UdpSocket;

use tests::{Cluster, Misfit, Setup, field, status, until};

const EU: usize = 0;
const US: usize = 1;
const AP: usize = 2;

/// Three regions, one of which does not belong; the other two work, and say `reason` of it.
fn refused(at: usize, misfit: Misfit, reasons: &[&str]) {
    let cluster = Cluster::start(Setup { misfit: Some((at, misfit)), ..Setup::regions(3) });
    let good: Vec<_> = (0..3).filter(|other| *other != at).collect();
    let (one, other) = (good[0], good[1]);
    // Either side of the refused link may be the one that can tell why.
    until(&format!("somebody names {reasons:?}"), || {
        let told =
            good.iter().map(|g| cluster.peer(*g, at, "last_error") + &cluster.log(*g)).collect::<String>();
        let told = told + &cluster.log(at);
        reasons.iter().any(|reason| told.contains(reason))
    });
    assert_eq!(status(&cluster.call(one, &[b"CLAIM", b"pay:1", b"CLAIMANT", b"a"])), "GRANTED");
    until("the two that belong replicate", || status(&cluster.call(other, &[b"GET", b"pay:1"])) == "HELD");
    assert_eq!(status(&cluster.call(at, &[b"CLAIM", b"pay:2", b"CLAIMANT", b"a"])), "GRANTED", "it stays up");
    // A second claim across proves that the mesh has had its turn since.
    assert_eq!(status(&cluster.call(other, &[b"CLAIM", b"pay:3", b"CLAIMANT", b"a"])), "GRANTED");
    until("and back", || status(&cluster.call(one, &[b"GET", b"pay:3"])) == "HELD");
    assert_eq!(field(&cluster.call(at, &[b"STATUS"]), "keys"), "1", "nothing comes to it");
    for member in good {
        assert_eq!(field(&cluster.call(member, &[b"STATUS"]), "keys"), "2", "nothing comes from it");
        assert_ne!(cluster.peer(member, at, "state"), "linked");
    }
}

#[test]
fn a_region_of_another_ca_is_refused() {
    refused(US, Misfit::OtherCa, &["UnknownIssuer; check tls.ca_file and tls.cert_file on both sides"]);
}

#[test]
fn a_region_whose_certificate_names_another_is_refused_when_it_is_dialled() {
    refused(AP, Misfit::OtherName, &["not valid for name", "NotValidForName", "certificate is for"]);
}

#[test]
fn a_region_whose_certificate_names_another_is_refused_when_it_dials() {
    refused(EU, Misfit::OtherName, &["is no [[peer]] of this region's configuration"]);
}

#[test]
fn a_region_of_another_cluster_is_refused() {
    refused(US, Misfit::OtherCluster, &["onced://another-cluster/region/us"]);
}

#[test]
fn a_region_with_another_cluster_secret_is_refused() {
    refused(AP, Misfit::OtherSecret, &["cluster ids differ"]);
}

#[test]
fn garbage_on_the_quic_port_changes_nothing() {
    let cluster = Cluster::start(Setup::regions(2));
    assert_eq!(status(&cluster.call(EU, &[b"CLAIM", b"pay:1", b"CLAIMANT", b"a"])), "GRANTED");
    let before = cluster.agree();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    // A fixed sequence: a failure can be repeated.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..4_000_usize {
        let mut datagram: Vec<u8> = (0..number % 1_400)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random as u8
            })
            .collect();
        // Every other one looks like the start of a QUIC connection: long header, version 1.
        if number % 2 == 0 && datagram.len() > 5 {
            datagram[..5].copy_from_slice(&[0xc0 | (number as u8 & 0x3f), 0, 0, 0, 1]);
        }
        // A full buffer on the receiving side may refuse it: what does not arrive cannot harm.
        let _ = socket.send_to(&datagram, ("127.0.0.1", cluster.port(number % 2)));
    }
    assert_eq!(cluster.agree(), before, "no state changes");
    assert_eq!(status(&cluster.call(US, &[b"CLAIM", b"pay:2", b"CLAIMANT", b"a"])), "GRANTED");
    until("links still work", || status(&cluster.call(EU, &[b"GET", b"pay:2"])) == "HELD");
    cluster.wait_linked();
}
