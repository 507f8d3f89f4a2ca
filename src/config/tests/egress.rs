//! A provider's `proxy` and `tls`, the environment's proxies, and the exact messages for invalid ones.

use rcgen::{CertificateParams, IsCa, KeyPair};

use super::{Dir, load};
use crate::config::{Config, ConfigErrors, Egress, without_file};

const AUTH: &str = "auth: { keys: [{ name: a, sha256: \"00000000000000000000000000000000000000000000000000000000000000ff\" }] }\n";

/// A configuration with these files and variables, and a provider `p` of these fields on line 2.
fn with(
    fields: &str,
    files: &[(&str, &str)],
    variables: &[(&str, &str)],
) -> Result<Config, ConfigErrors> {
    let dir = Dir::new();
    for (name, content) in files {
        dir.write(name, content);
    }
    let text = format!("{AUTH}providers: {{ p: {{ dialect: openai-chat{fields} }} }}\n");
    load(&dir.write("config.yaml", text), &|name| variable(variables, name))
}

fn variable(variables: &[(&str, &str)], name: &str) -> Option<String> {
    let found = variables.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| (*value).to_owned())
}

fn egress(config: &Config) -> &Egress {
    &config.providers["p"].egress
}

/// The proxy of a provider at an address, as it is shown.
fn proxy(base_url: &str, variables: &[(&str, &str)]) -> String {
    let config = with(&format!(", base_url: \"{base_url}\""), &[], variables).unwrap();
    egress(&config).proxy.as_ref().map_or_else(|| "direct".to_owned(), ToString::to_string)
}

fn problems(fields: &str, files: &[(&str, &str)]) -> String {
    let problems = with(fields, files, &[("CANARY", "ftp://user:canary@proxy")]).unwrap_err();
    let lines = problems.list.iter();
    let lines =
        lines.map(|problem| format!("{}:{} {}", problem.line, problem.column, problem.message));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_environment_names_proxies() {
    let all =
        [("HTTPS_PROXY", "http://s:1"), ("HTTP_PROXY", "http://h:1"), ("ALL_PROXY", "http://a:1")];
    assert_eq!(proxy("https://api.example.com", &all), "http://s:1");
    assert_eq!(proxy("http://api.example.com", &all), "http://h:1");
    assert_eq!(proxy("https://api.example.com", &all[1..]), "http://a:1");
    assert_eq!(proxy("https://api.example.com", &[("HTTP_PROXY", "http://h:1")]), "direct");
    assert_eq!(proxy("https://api.example.com", &[]), "direct");
    // Lower case takes precedence; an empty variable counts as none.
    let small = [("HTTPS_PROXY", "http://s:1"), ("https_proxy", "http://small:1")];
    assert_eq!(proxy("https://api.example.com", &small), "http://small:1");
    let empty = [("HTTPS_PROXY", "http://s:1"), ("https_proxy", "")];
    assert_eq!(proxy("https://api.example.com", &empty), "http://s:1");
    for (text, shown) in [
        ("proxy.example.com:3128", "http://proxy.example.com:3128"),
        ("https://user:canary@proxy", "https://proxy"),
        ("socks5://127.0.0.1:1080", "socks5://127.0.0.1:1080"),
        ("socks5h://user:canary@[::1]:1080", "socks5h://[::1]:1080"),
    ] {
        assert_eq!(proxy("https://api.example.com", &[("ALL_PROXY", text)]), shown);
    }
}

#[test]
fn loopback_addresses_and_no_proxy_are_direct() {
    let all = ("ALL_PROXY", "http://a:1");
    for host in
        ["localhost", "sim.localhost", "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"]
    {
        assert_eq!(proxy(&format!("http://{host}:9200"), &[all]), "direct", "{host}");
    }
    let direct = |no_proxy: &str, base_url: &str| {
        proxy(base_url, &[all, ("NO_PROXY", no_proxy)]) == "direct"
    };
    for (no_proxy, base_url, expected) in [
        ("*", "https://api.example.com", true),
        ("example.com", "https://example.com", true),
        ("example.com", "https://API.example.com", true),
        ("example.com", "https://notexample.com", false),
        ("example.com", "https://example.com.evil.org", false),
        (".example.com", "https://example.com", true),
        ("*.example.com", "https://api.example.com", true),
        ("Example.COM.", "https://api.example.com", true),
        ("a.org, example.com ,b.org", "https://api.example.com", true),
        ("a.org,b.org", "https://api.example.com", false),
        ("example.com:443", "https://api.example.com", true),
        ("example.com:8443", "https://api.example.com", false),
        ("example.com:8443", "https://api.example.com:8443", true),
        ("10.0.0.0/8", "http://10.1.2.3", true),
        ("10.0.0.0/8", "http://11.1.2.3", false),
        ("10.1.2.3", "http://10.1.2.3:9200", true),
        ("10.1.2.3:9200", "http://10.1.2.3:9200", true),
        ("10.1.2.3:9201", "http://10.1.2.3:9200", false),
        ("fd00::/8", "http://[fd12::1]", true),
        ("[fd12::1]:80", "http://[fd12::1]", true),
        ("fd12::1", "http://[fd12::2]", false),
        ("", "https://api.example.com", false),
        (",, ,", "https://api.example.com", false),
    ] {
        assert_eq!(direct(no_proxy, base_url), expected, "{no_proxy}: {base_url}");
    }
}

#[test]
fn a_provider_comes_before_the_environment() {
    let environment = [("ALL_PROXY", "http://a:1"), ("PROXY", "socks5h://us%65r:c%40nary@s:1")];
    let config = with(", proxy: none", &[], &environment).unwrap();
    assert_eq!(egress(&config).proxy, None);
    // Also for a loopback address, since the provider itself names the proxy.
    let fields = ", base_url: \"http://127.0.0.1:9\", proxy: \"${PROXY}\"";
    let config = with(fields, &[], &environment).unwrap();
    let proxy = egress(&config).proxy.as_ref().unwrap();
    assert_eq!(proxy.credentials(), Some(("user", "c@nary")));
    assert_eq!(proxy.address().as_str(), "socks5h://s:1");
    assert_eq!(format!("{proxy} {proxy:?} {:?}", egress(&config)).matches("nary").count(), 0);
    assert!(!format!("{config:?}").contains("nary"));
}

#[test]
fn equal_ways_out_are_equal() {
    let one = with(", proxy: \"http://p:1\"", &[], &[]).unwrap();
    let two = with(", proxy: \"http://p:1/\", api_key: x", &[], &[]).unwrap();
    assert_eq!(egress(&one), egress(&two));
    for other in [", proxy: \"http://u:x@p:1\"", ", proxy: \"http://p:2\"", ", proxy: none", ""] {
        assert_ne!(egress(&one), egress(&with(other, &[], &[]).unwrap()), "{other}");
    }
}

#[test]
fn a_proxy_that_is_none_is_reported() {
    let expected = "; expected `none`, or an address such as `http://proxy.example.com:3128` with the scheme `http`, `https`, `socks5` or `socks5h`";
    for (text, reason) in [
        ("ftp://proxy:21", "has an unsupported scheme"),
        ("socks4://proxy:1080", "has an unsupported scheme"),
        ("${CANARY}", "has an unsupported scheme"),
        ("proxy:3128", "has no scheme"),
        ("nobody", "has no scheme"),
        ("http://", "is not an address"),
        ("socks5://", "has no host"),
        ("http://proxy:99999", "is not an address"),
        ("http://proxy/path", "has a path or a query"),
        ("http://proxy?canary", "has a path or a query"),
        ("http://user:%ff@proxy", "has credentials that are not UTF-8"),
    ] {
        let told = problems(&format!(", proxy: \"{text}\""), &[]);
        assert_eq!(told, format!("2:48 `proxy` {reason}{expected}"), "{text}");
    }
    assert_eq!(problems(", proxy: [x]", &[]), "2:48 `proxy` is a list; expected a text");
}

#[test]
fn a_variable_that_names_no_proxy_is_reported() {
    let variables = [("https_proxy", "canary://x"), ("ALL_PROXY", "http://:canary@")];
    let told = with("", &[], &variables).unwrap_err().to_string();
    assert!(
        told.contains("variable `https_proxy` has an unsupported scheme; expected an "),
        "{told}"
    );
    assert!(told.contains("variable `ALL_PROXY` is not an address; expected an address"), "{told}");
    assert!(!told.contains("canary"), "{told}");
    // Without a file the variables cause warnings, not errors.
    let env = |name: &str| match name {
        "OPENAI_API_KEY" => Some("k".to_owned()),
        _ => variable(&variables, name),
    };
    let config = without_file(&env, "127.0.0.1:9".parse().unwrap(), "sg-k");
    assert_eq!(config.warnings.len(), 2);
    let env = |name: &str| match name {
        "OPENAI_API_KEY" => Some("k".to_owned()),
        "HTTPS_PROXY" => Some("http://p:1".to_owned()),
        _ => None,
    };
    let config = without_file(&env, "127.0.0.1:9".parse().unwrap(), "sg-k");
    assert!(config.providers["openai"].egress.proxy.is_some());
    assert_eq!(config.providers["sim"].egress.proxy, None);
}

/// A certificate and its key, as PEM.
fn pair() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn authorities_and_client_certificates_are_taken() {
    let ((ca, _), (cert, key), (_, strange)) = (pair(), pair(), pair());
    let files = [("ca", &*ca), ("cert", &*cert), ("key", &*key)];
    let of = |fields: &str, files: &[(&str, &str)]| {
        with(&format!(", tls: {fields}"), files, &[]).map(|config| egress(&config).clone()).unwrap()
    };
    let plain = egress(&with("", &[], &[]).unwrap()).clone();
    assert!(!plain.tls.config().unwrap().client_auth_cert_resolver.has_certs());
    let with_ca = of("{ ca: ca }", &files);
    let whole = of("{ ca: ca, cert: cert, key: key }", &files);
    assert!(whole.tls.config().unwrap().client_auth_cert_resolver.has_certs());
    assert_eq!(format!("{:?}", whole.tls), "ClientTls { .. }");
    // The contents count.
    let again = [("ca", &*ca), ("c", &*cert), ("k", &*key)];
    assert_eq!(whole, of("{ ca: ca, cert: c, key: k }", &again));
    assert_ne!(whole, with_ca);
    assert_ne!(with_ca, plain);
    assert_ne!(with_ca, of("{ ca: cert }", &files));
    // All authorities of a system are more than a credential may be.
    let bundle = ca.repeat(300);
    assert!(bundle.len() > 100_000);
    of("{ ca: ca }", &[("ca", &bundle)]);

    let client = "expected the client's certificate, then those that signed it, as PEM";
    let authority = "expected certificates of authorities, as PEM";
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (fields, told) in [
        ("{ ca: none }", "2:52 `ca` names the file `none` (entity not found); expected a readable PEM file".to_owned()),
        ("{ ca: key }", format!("2:52 `ca` has no certificate; {authority}")),
        ("{ ca: garbage }", format!("2:52 `ca` has a certificate that cannot be read; {authority}")),
        ("{ cert: cert }", "2:46 `key` is missing; expected the client certificate's private key, as PEM".into()),
        ("{ key: key }", "2:46 `cert` is missing; expected the client certificate, as PEM".into()),
        ("{ cert: key, key: key }", format!("2:54 `cert` has no certificate; {client}")),
        ("{ cert: cert, key: strange }", "2:65 `key` does not belong to the first certificate of `cert`; expected its private key".into()),
        ("{}", "2:46 `tls` has no field; expected `ca`, or `cert` and `key`".into()),
        ("{ CA: ca }", "2:46 `tls` has no field; expected `ca`, or `cert` and `key`\n2:48 unknown key `CA`; expected one of `ca`, `cert`, `key`".into()),
    ] {
        let files = [&files[..], &[("strange", &strange), ("garbage", garbage)]].concat();
        assert_eq!(problems(&format!(", tls: {fields}"), &files), told, "{fields}");
    }
}

/// A change of any of these files is seen by the watch.
#[test]
fn the_files_of_tls_are_sources() {
    let ((ca, _), (cert, key)) = (pair(), pair());
    let dir = Dir::new();
    let text =
        "providers: { p: { dialect: openai-chat, tls: { ca: ca, cert: cert, key: key } } }\n";
    let path = dir.write("config.yaml", format!("{AUTH}{text}"));
    for (name, content) in [("ca", &ca), ("cert", &cert), ("key", &key)] {
        dir.write(name, content);
    }
    for name in ["ca", "cert", "key"] {
        let sources = load(&path, &|_| None).unwrap().sources;
        assert_eq!(sources, sources.now());
        let content = std::fs::read_to_string(dir.0.join(name)).unwrap();
        dir.write(name, format!("{content}\n "));
        assert_ne!(sources, sources.now(), "{name}");
    }
}
