//! Connection to Redis or Valkey, one server or a cluster. It connects at the first command and again after a failure; a
//! command must never wait longer than its timeout.

use std::time::Duration;

use redis::aio::{
    AsyncPushSender, ConnectionManager, ConnectionManagerConfig, MultiplexedConnection,
};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue,
    IntoConnectionInfo, Pipeline, ProtocolVersion, RedisConnectionInfo, RedisResult,
    ScriptInvocation, TlsCertificates,
};
use tokio::sync::OnceCell;

use crate::config::{Redis, RedisUrl};

/// The connection for commands. Shared by all workers: commands of all of them are sent one after another, without
/// waiting for each other's responses.
pub(super) struct Connection {
    server: Server,
    timeout: Duration,
}

enum Server {
    Single(ConnectionManager),
    /// Connected at the first command: a cluster is asked for its layout.
    Cluster(Box<ClusterClient>, OnceCell<ClusterConnection>),
}

impl Connection {
    /// A connection that nothing has been sent over.
    pub(super) fn new(config: &Redis) -> RedisResult<Self> {
        let server = if config.cluster {
            let mut builder = ClusterClient::builder(infos(config))
                .connection_timeout(config.timeout)
                .response_timeout(config.timeout)
                .overall_response_timeout(Some(config.timeout * 2))
                .retries(2);
            if let Some(certificates) = certificates(config) {
                builder = builder.certs(certificates);
            }
            Server::Cluster(Box::new(builder.build()?), OnceCell::new())
        } else {
            let settings = ConnectionManagerConfig::new()
                .set_number_of_retries(1)
                .set_max_delay(Duration::from_millis(100))
                .set_connection_timeout(Some(config.timeout))
                .set_response_timeout(Some(config.timeout));
            let client = clients(config)?.into_iter().next().ok_or_else(no_address)?;
            Server::Single(ConnectionManager::new_lazy_with_config(client, settings)?)
        };
        Ok(Self { server, timeout: config.timeout })
    }

    /// Runs a script, which is sent whole where the server does not have it.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        invocation: &ScriptInvocation<'_>,
    ) -> RedisResult<T> {
        match &self.server {
            Server::Single(connection) => invocation.invoke_async(&mut connection.clone()).await,
            Server::Cluster(..) => invocation.invoke_async(&mut self.cluster().await?).await,
        }
    }

    /// Runs a command.
    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        match &self.server {
            Server::Single(connection) => command.query_async(&mut connection.clone()).await,
            Server::Cluster(..) => command.query_async(&mut self.cluster().await?).await,
        }
    }

    /// Runs commands together.
    pub(super) async fn query_all<T: FromRedisValue>(&self, pipeline: &Pipeline) -> RedisResult<T> {
        match &self.server {
            Server::Single(connection) => pipeline.query_async(&mut connection.clone()).await,
            Server::Cluster(..) => pipeline.query_async(&mut self.cluster().await?).await,
        }
    }

    async fn cluster(&self) -> RedisResult<ClusterConnection> {
        let Server::Cluster(client, connection) = &self.server else {
            return Err(no_address());
        };
        let connect = async || {
            let connecting = tokio::time::timeout(self.timeout * 2, client.get_async_connection());
            connecting.await.unwrap_or_else(|late| Err(std::io::Error::from(late).into()))
        };
        connection.get_or_try_init(connect).await.cloned()
    }
}

/// A connection for subscriptions, whose messages go to `sender`. Of a cluster, any node: each has all messages.
pub(super) async fn subscriber(
    client: &Client,
    timeout: Duration,
    sender: impl AsyncPushSender,
) -> RedisResult<MultiplexedConnection> {
    let settings = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(timeout))
        .set_response_timeout(Some(timeout))
        .set_push_sender(sender);
    client.get_multiplexed_async_connection_with_config(&settings).await
}

/// A client for each address.
pub(super) fn clients(config: &Redis) -> RedisResult<Vec<Client>> {
    let certificates = certificates(config);
    let client = |info: RedisResult<ConnectionInfo>| match &certificates {
        Some(certificates) => Client::build_with_tls(info?, certificates.clone()),
        None => Client::open(info?),
    };
    infos(config).map(|info| client(Ok(info))).collect()
}

fn infos(config: &Redis) -> impl Iterator<Item = ConnectionInfo> {
    let mut settings = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
    if let Some(username) = &config.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &config.password {
        settings = settings.set_password(password.expose());
    }
    config.urls.iter().filter_map(move |url| {
        let info = address(url).into_connection_info().ok()?;
        Some(info.set_redis_settings(settings.clone()))
    })
}

fn address(url: &RedisUrl) -> ConnectionAddr {
    let (host, port) = (url.host.clone(), url.port);
    if url.tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    }
}

fn certificates(config: &Redis) -> Option<TlsCertificates> {
    let ca = config.ca.as_ref()?;
    Some(TlsCertificates { client_tls: None, root_cert: Some(ca.clone().into_bytes()) })
}

fn no_address() -> redis::RedisError {
    (redis::ErrorKind::InvalidClientConfig, "no address of a server is configured").into()
}
