//! Health checks of a container engine: `streamgate health`, and the address that it requests.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::support::gateway::yaml;
use crate::support::process::{File, Process, program, run};

async fn health(url: String) -> (Option<i32>, String, String) {
    tokio::task::spawn_blocking(move || run(&["health", "--url", &url])).await.unwrap()
}

/// Whether a gateway is well is asked of a running one; a proxy of the environment is not asked.
#[tokio::test]
async fn a_gateway_that_is_ready_is_healthy_and_one_that_is_not_there_is_not() {
    let listen = "server: { listen: \"127.0.0.1:0\" }\n";
    let file = File::new(&yaml("http://127.0.0.1:1", "http://127.0.0.1:1", listen));
    let (process, url) = Process::gateway(&file, "info").await;
    let mut asking = program(&["health"]);
    asking.env("STREAMGATE_HEALTH_URL", format!("{url}/readyz"));
    asking.env("http_proxy", "http://127.0.0.1:1");
    assert!(asking.output().unwrap().status.success());
    let (status, out, err) = health(format!("{url}/readyz")).await;
    assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
    let (status, out, err) = health(format!("{url}/nowhere")).await;
    assert_eq!((status, out.as_str()), (Some(1), ""));
    assert!(err.contains("404"), "{err}");
    process.signal("TERM");
    assert_eq!(process.ended().await, Some(0));
    let (status, _, err) = health(format!("{url}/readyz")).await;
    assert_eq!(status, Some(1));
    assert!(err.contains("does not answer") && err.contains("refused"), "{err}");
    let (status, _, err) = health("8080".to_owned()).await;
    assert_eq!(status, Some(1));
    assert!(err.contains("--url"), "{err}");
}

/// A TLS listener is asked on its loopback address, which is not what its certificate is for.
#[tokio::test]
async fn a_certificate_for_another_name_does_not_matter() {
    let made = rcgen::generate_simple_self_signed(vec!["chat.example.com".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let tls = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/readyz", listener.local_addr().unwrap());
    let serving = async {
        let (socket, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(Arc::new(tls)).accept(socket).await.unwrap();
        let mut request = [0; 512];
        let read = stream.read(&mut request).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&request[..read]).into_owned()
    };
    let ((status, out, err), request) = tokio::join!(health(url), serving);
    assert_eq!(status, Some(0), "{out}{err}");
    assert!(request.starts_with("GET /readyz "), "{request}");
}

/// In a container the image says where to listen; a file made for elsewhere does not undo it, now
/// or at a reload.
#[tokio::test]
async fn the_command_line_says_where_to_listen() {
    let elsewhere = "server: { listen: \"127.0.0.1:1\" }\n";
    let text = yaml("http://127.0.0.1:1", "http://127.0.0.1:1", elsewhere);
    let file = File::new(&text);
    let mut command = program(&["--config", file.path()]);
    command.env("STREAMGATE_LISTEN", "127.0.0.1:0").env("RUST_LOG", "info");
    let mut process = Process::start(command);
    let said = process.out("\n").await;
    let url = said.split_whitespace().nth(2).unwrap().to_owned();
    assert_eq!(health(format!("{url}/readyz")).await.0, Some(0), "{said}");
    file.write(&text.replace("127.0.0.1:1\" }\n", "127.0.0.1:2\" }\n"));
    let log = process.log("configuration reloaded").await;
    assert!(!log.contains("server.listen"), "{log}");

    // Without a file it is the same, and what is printed to be pasted has the port.
    let mut process = Process::start(program(&["--listen", "127.0.0.1:0"]));
    let said = process.out("curl").await;
    let curl = said.lines().find(|line| line.contains("curl")).unwrap();
    let url = curl.split_whitespace().nth(2).unwrap();
    assert_eq!(health(url.replace("/v1/chat/completions", "/readyz")).await.0, Some(0), "{said}");
}
