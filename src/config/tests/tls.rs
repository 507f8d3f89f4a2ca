//! `server.tls`: valid certificates and keys, and the exact messages for invalid ones.

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::{Dir, env, load};
use crate::config::{Config, ConfigErrors};

/// A certificate and its key, as PEM.
fn pair(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    change(&mut params);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// A configuration beside these files.
fn with(files: &[(&str, &str)], tls: &str) -> Result<Config, ConfigErrors> {
    let dir = Dir::new();
    for (name, content) in files {
        dir.write(name, content);
    }
    let keys = "[{ name: a, sha256: \"00000000000000000000000000000000000000000000000000000000000000ff\" }]";
    let path = dir.write(
        "config.yaml",
        format!("auth: {{ keys: {keys} }}\nserver: {{ tls: {tls} }}\nchannels: {{}}\n"),
    );
    load(&path, &|name| match name {
        "CERT" => files.first().map(|(_, content)| (*content).to_owned()),
        _ => env(name),
    })
}

const FILES: &str = "{ cert: cert.pem, key: key.pem }";

/// All messages, each with its line.
fn said(cert: &str, key: &str) -> String {
    let told = match with(&[("cert.pem", cert), ("key.pem", key)], FILES) {
        Ok(config) => config.warnings,
        Err(problems) => problems.list,
    };
    let lines = told
        .iter()
        .map(|problem| format!("{}:{} {}", problem.line, problem.column, problem.message));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_certificate_and_its_key_are_taken() {
    let (cert, key) = pair(|_| {});
    let (signer, _) = pair(|_| {});
    assert_eq!(said(&cert, &key), "");
    assert_eq!(said(&format!("{cert}{signer}"), &key), "", "a chain");
    assert_eq!(said(&format!("{key}{cert}"), &format!("{cert}\n{key}")), "", "both in both files");
    let config = with(&[("cert.pem", &cert), ("key.pem", &key)], FILES).unwrap();
    let tls = config.server.tls.unwrap();
    assert_eq!(tls.server().alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert_eq!(format!("{tls:?}"), "Tls { .. }");
    assert!(with(&[], "").unwrap().server.tls.is_none());
}

#[test]
fn pem_may_also_come_by_an_expansion() {
    let (cert, key) = pair(|_| {});
    let tls = "{ cert: \"${CERT}\", key: \"${file:key.pem}\" }";
    assert!(with(&[("x", &cert), ("key.pem", &key)], tls).unwrap().server.tls.is_some());
}

/// Sessions outlive a reload that leaves the certificate and the key as they are, and no other.
#[test]
fn the_same_certificate_stays_in_force() {
    let ((cert, key), (other, other_key)) = (pair(|_| {}), pair(|_| {}));
    let tls = |cert, key| {
        let config = with(&[("cert.pem", cert), ("key.pem", key)], FILES).unwrap();
        config.server.tls.unwrap()
    };
    let running = tls(&cert, &key);
    let same = tls(&cert, &key).or_same(Some(&running));
    assert!(std::sync::Arc::ptr_eq(&same.server(), &running.server()));
    let new = tls(&other, &other_key).or_same(Some(&running));
    assert!(!std::sync::Arc::ptr_eq(&new.server(), &running.server()));
}

#[test]
fn what_is_wrong_is_told_at_its_place() {
    let ((cert, key), (_, strange)) = (pair(|_| {}), pair(|_| {}));
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let kind = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let cut = cert.replace("-----END CERTIFICATE-----", "");
    let chain = "expected the server's certificate, then those that signed it, as PEM";
    for (cert, key, expected) in [
        ("text", &*key, format!("2:24 `cert` has no certificate; {chain}")),
        (&*key, &*key, format!("2:24 `cert` has no certificate; {chain}")),
        (&*cut, &*key, format!("2:24 `cert` is not intact; {chain}")),
        (garbage, &*key, "2:24 `cert` cannot be read; expected a certificate of X.509 version 3".into()),
        (&*cert, "", "2:39 `key` has no private key; expected one, as PEM".into()),
        (&*cert, &*cert, "2:39 `key` has no private key; expected one, as PEM".into()),
        (&*cert, &*format!("{key}{strange}"), "2:39 `key` has 2 private keys; expected one".into()),
        (&*cert, &*key.replace("-----END", ""), "2:39 `key` is not intact; expected one private key, as PEM".into()),
        (&*cert, encrypted, "2:39 `key` is encrypted; expected it without a passphrase: `openssl pkey -in KEY -out PLAIN`".into()),
        (&*cert, old, "2:39 `key` is encrypted; expected it without a passphrase: `openssl pkey -in KEY -out PLAIN`".into()),
        (&*cert, kind, "2:39 `key` is of no kind that TLS uses; expected RSA, ECDSA or Ed25519".into()),
        (&*cert, &*strange, "2:39 `key` does not belong to the first certificate of `cert`; expected its private key".into()),
        ("text", "text", format!("2:24 `cert` has no certificate; {chain}\n2:39 `key` has no private key; expected one, as PEM")),
    ] {
        assert_eq!(said(cert, key), expected);
    }
}

#[test]
fn an_outdated_certificate_is_taken_with_a_warning() {
    let (cert, key) = pair(|params| params.not_after = date_time_ymd(2001, 1, 1));
    let expected = "2:24 `cert` has expired: callers will reject it; replace the file";
    assert_eq!(said(&cert, &key), expected);
    let (cert, key) = pair(|params| params.not_before = date_time_ymd(4000, 1, 1));
    let expected =
        "2:24 `cert` is not valid yet: callers will reject it; replace the file, or set the clock";
    assert_eq!(said(&cert, &key), expected);
    // One that is its own authority, as `openssl req -x509` makes them.
    let (cert, key) = pair(|params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(2001, 1, 1);
    });
    assert!(said(&cert, &key).contains("has expired"));
}

#[test]
fn files_that_cannot_be_read_are_named_and_keys_are_not_shown() {
    let (cert, key) = pair(|_| {});
    let told =
        |tls: &str| with(&[("cert.pem", &cert), ("key.pem", &key)], tls).unwrap_err().to_string();
    let missing = told("{ cert: none.pem, key: key.pem }");
    assert!(missing.contains(":2:24: `cert` names the file `none.pem` (entity not found); expected a readable PEM file"), "{missing}");
    let pasted: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    let told = told(&format!("{{ cert: cert.pem, key: {pasted} }}"));
    assert!(told.contains("`key` names the file a text of"), "{told}");
    assert!(!told.contains(&pasted), "{told}");
}
