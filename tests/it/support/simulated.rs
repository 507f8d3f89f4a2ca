//! A gateway in front of the simulated upstream, with one provider for each dialect.

use std::fmt::Write;
use std::net::SocketAddr;

use streamgate::sim;
use streamgate::wire::dialect::DIALECTS;
use tokio::net::TcpListener;

use super::gateway::{Gateway, KEY, hex};
use super::spawn;

/// Where a simulated upstream listens.
pub(crate) async fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _served = spawn(sim::serve(listener, std::future::pending()));
    address
}

/// A gateway with a provider for each dialect of the simulated upstream, named as the dialect.
pub(crate) async fn gateway() -> Gateway {
    Gateway::new(&providers(upstream().await, "sim")).await
}

/// A configuration with the test key, and a provider with a credential for each dialect of a simulated upstream. More
/// providers may follow it.
pub(crate) fn providers(address: SocketAddr, credential: &str) -> String {
    let mut yaml = format!(
        "auth:\n  keys:\n    - {{ name: test, sha256: {}, limits: none }}\nproviders:\n",
        hex(&streamgate::config::digest(KEY))
    );
    for dialect in DIALECTS {
        let vendor = url::Url::parse(dialect.default_base_url()).unwrap();
        let path = vendor.path().trim_end_matches('/');
        let name = dialect.name();
        writeln!(
            yaml,
            "  {name}: {{ dialect: {name}, base_url: \"http://{address}{path}\", api_key: {credential} }}"
        )
        .unwrap();
    }
    yaml
}
