//! Certificates made by `ca`, spoiled one way at a time, and what is said about each.

use super::super::ca;
use super::*;
use std::os::unix::fs::PermissionsExt;

struct Folder {
    folder: tempfile::TempDir,
    files: Tls,
}

const DAY: Duration = Duration::from_secs(86_400);

/// A CA and region `eu` of cluster `shop`, issued at `when` for 10 days.
fn folder_at(when: SystemTime) -> Folder {
    let folder = tempfile::tempdir().unwrap();
    let authority = ca::create_ca("test", 100, when).unwrap();
    let pair = ca::issue(&authority, "shop", "eu", 10, when).unwrap();
    let [cert_file, key_file] = ca::write_region(folder.path(), "eu", &pair, false).unwrap();
    let ca_file = ca::copy_ca_cert(folder.path(), &authority).unwrap();
    Folder { folder, files: Tls { ca_file, cert_file, key_file } }
}

fn folder() -> Folder {
    folder_at(SystemTime::now())
}

fn refusal(files: &Tls, cluster: &str, region: &str, now: SystemTime) -> String {
    TlsIdentity::load(files, cluster, region, now).unwrap_err().to_string()
}

#[test]
fn a_right_set_loads_and_names_its_region() {
    let kept = folder();
    let files = &kept.files;
    let now = SystemTime::now();
    let identity = TlsIdentity::load(files, "shop", "eu", now).unwrap();
    let left = identity.not_after.duration_since(now).unwrap();
    assert!(left > 9 * DAY && left <= 10 * DAY, "{left:?}");
    let chain = read_certs(&files.cert_file, "").unwrap();
    let named = peer_region(&chain).unwrap();
    assert_eq!(named, RegionIdentity { cluster: "shop".into(), region: "eu".into() });
    assert_eq!(named.must_be("shop", "eu"), Ok(()));
    assert!(named.must_be("shop", "us").is_err() && named.must_be("other", "eu").is_err());
}

#[test]
fn a_certificate_of_another_region_or_cluster_is_refused() {
    let kept = folder();
    let files = &kept.files;
    let now = SystemTime::now();
    let message = refusal(files, "shop", "us", now);
    let expected = "is for onced://shop/region/eu, this is onced://shop/region/us; reissue it with: onced tls issue \
                    --ca DIR --cluster \"shop\" --region us --out DIR --force";
    assert_eq!(message, format!("{}: {expected}", files.cert_file.display()));
    assert!(refusal(files, "mall", "eu", now).contains("this is onced://mall/region/eu"));
}

#[test]
fn an_expired_certificate_is_refused() {
    let kept = folder_at(SystemTime::now() - 11 * DAY);
    let files = &kept.files;
    assert!(
        refusal(files, "shop", "eu", SystemTime::now())
            .contains("the certificate has expired; reissue it with:")
    );
    let early = SystemTime::now() - 20 * DAY;
    assert!(refusal(files, "shop", "eu", early).contains("not valid yet; check this machine's clock"));
}

#[test]
fn a_certificate_of_another_ca_is_refused_and_two_cas_are_trusted() {
    let ours = folder();
    let theirs = folder();
    let now = SystemTime::now();
    let mixed = Tls { ca_file: theirs.files.ca_file.clone(), ..ours.files.clone() };
    let message = refusal(&mixed, "shop", "eu", now);
    assert!(message.contains("the certificate was not signed by a CA in tls.ca_file"), "{message}");
    let both = [&theirs, &ours].map(|from| std::fs::read_to_string(&from.files.ca_file).unwrap()).concat();
    std::fs::write(&theirs.files.ca_file, both).unwrap();
    assert_eq!(TlsIdentity::load(&mixed, "shop", "eu", now).unwrap().cas, 2);
}

#[test]
fn a_key_that_does_not_belong_or_is_open_to_all_is_refused() {
    let ours = folder();
    let theirs = folder();
    let now = SystemTime::now();
    let mixed = Tls { key_file: theirs.files.key_file.clone(), ..ours.files.clone() };
    assert!(refusal(&mixed, "shop", "eu", now).contains("does not belong to the certificate in"));
    std::fs::set_permissions(&ours.files.key_file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let shown = ours.files.key_file.display();
    let expected =
        format!("{shown}: everybody may use this private key (mode 0644); run: chmod 0600 {shown}");
    assert_eq!(refusal(&ours.files, "shop", "eu", now), expected);
}

#[test]
fn files_that_are_missing_or_something_else_are_named() {
    let Folder { folder, files } = folder();
    let now = SystemTime::now();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    std::fs::set_permissions(&empty, std::fs::Permissions::from_mode(0o600)).unwrap();
    let no_ca = Tls { ca_file: folder.path().join("none"), ..files.clone() };
    assert!(refusal(&no_ca, "shop", "eu", now).contains("none: No such file or directory"));
    let leaf_as_ca = Tls { ca_file: files.cert_file.clone(), ..files.clone() };
    assert!(
        refusal(&leaf_as_ca, "shop", "eu", now).contains("certificate 1 in it is no CA's; copy ca.pem from")
    );
    let empty_cert = Tls { cert_file: empty.clone(), ..files.clone() };
    assert!(
        refusal(&empty_cert, "shop", "eu", now).contains("empty: holds no certificate in PEM; reissue it")
    );
    let empty_key = Tls { key_file: empty, ..files };
    assert!(
        refusal(&empty_key, "shop", "eu", now).contains("empty: holds no private key in PEM; reissue it")
    );
}

#[test]
fn a_certificate_must_name_exactly_one_region() {
    let named = |uris: &[&str]| {
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names =
            uris.iter().map(|&uri| rcgen::SanType::URI(uri.try_into().unwrap())).collect();
        let key = rcgen::KeyPair::generate().unwrap();
        peer_region(&[params.self_signed(&key).unwrap().der().clone()])
    };
    assert!(named(&["onced://a/region/eu", "https://example.net/"]).is_ok());
    assert_eq!(named(&[]), Err(IdentityError::RegionNames(0)));
    assert_eq!(named(&["onced://a/region/eu", "onced://a/region/us"]), Err(IdentityError::RegionNames(2)));
    for odd in [
        "onced://a/region/EU",
        "onced:///region/eu",
        "onced://a/b/region/eu",
        "onced://a/region/eu/region/us",
    ] {
        assert_eq!(named(&[odd]), Err(IdentityError::RegionNames(0)), "{odd}");
    }
    assert_eq!(peer_region(&[]), Err(IdentityError::NoCertificate));
    assert_eq!(peer_region(&[CertificateDer::from(vec![0x30, 0x82])]), Err(IdentityError::Unreadable));
}
