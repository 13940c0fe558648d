//! Connections: made lazily, kept for the life of the environment, safe behind a transaction pooler.
//!
//! A connection is checked by asking whether its socket is closed, never with `DISCARD` or a query of its own. Where
//! the database wants IAM authentication, a token is signed for each new connection. TLS is required unless the
//! configuration says otherwise, and the server's name is verified, against the public roots and those of a bundle.

use crate::Error;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings};
use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};
use telemetry::label::ConnectOutcome;
use telemetry::metric;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;
use tokio_postgres::config::SslMode;

/// A connection of the pool; it returns when dropped. `client.transaction().await` begins a transaction.
pub type Client = deadpool_postgres::Object;

/// How long a caller waits for a connection to become free, and for a new one to be made.
const WAIT_LIMIT: Duration = Duration::from_secs(3);
/// RDS signs tokens for 15 minutes; one is used at once.
const TOKEN_LIFETIME: Duration = Duration::from_secs(900);
/// All but RFC 3986's unreserved characters, as the signature was made over.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// One environment handles one event at a time; the worker's handlers need a few at once.
const DEFAULT_SIZE: usize = 4;

/// Where the database is and how to sign in.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// libpq-style URL or key-value string, without a password where `iam` is set.
    pub url: String,
    /// Refuse a connection without TLS.
    pub tls: bool,
    /// Sign an RDS IAM token as the password of each new connection.
    pub iam: bool,
    /// The most connections of this environment.
    pub size: usize,
    /// A PEM file with roots that are trusted beside the public ones. RDS signs its instances' certificates with roots of
    /// its own; RDS Proxy's come from a public one (RDS User Guide, "Using SSL/TLS").
    pub ca_bundle: Option<PathBuf>,
}

/// Why no pool could be configured; nothing has been connected yet.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Neither `DATABASE_URL` nor `DATABASE_HOST` is set.
    #[error("set DATABASE_URL, or DATABASE_HOST with DATABASE_NAME and DATABASE_USER")]
    Missing,
    /// The URL cannot be read. It is not repeated here: it may hold a password.
    #[error("DATABASE_URL cannot be read: {0}")]
    Url(#[source] tokio_postgres::Error),
    /// A variable has a value that it cannot have.
    #[error("{name} must be {expected}")]
    Value {
        /// The variable.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// The bundle cannot be read, or holds no certificate.
    #[error("DATABASE_CA_BUNDLE: {path}: {problem}")]
    CaBundle {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The pool's own settings clash: a bug.
    #[error("the pool cannot be built: {0}")]
    Build(String),
}

impl PoolConfig {
    /// Reads `DATABASE_URL`, or `DATABASE_HOST`, `_PORT`, `_NAME`, `_USER`; and `DATABASE_TLS` (`require`, the default,
    /// or `disable`), `DATABASE_IAM_AUTH` (`true`, `false`), `DATABASE_POOL_SIZE`, `DATABASE_CA_BUNDLE`.
    ///
    /// # Errors
    /// [`ConfigError`] naming the variable.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::read(|name| std::env::var(name).ok())
    }

    /// As [`Self::from_env`] for the owner's direct connection: each variable with the prefix `MIGRATE_` first, such as
    /// `MIGRATE_DATABASE_URL`, then without.
    ///
    /// # Errors
    /// [`ConfigError`] naming the variable.
    pub fn for_migrate() -> Result<Self, ConfigError> {
        Self::read(|name| std::env::var(format!("MIGRATE_{name}")).or_else(|_| std::env::var(name)).ok())
    }

    fn read(lookup: impl Fn(&'static str) -> Option<String>) -> Result<Self, ConfigError> {
        let var = |name| lookup(name).filter(|value| !value.is_empty());
        let url = match (var("DATABASE_URL"), var("DATABASE_HOST")) {
            (Some(url), _) => url,
            (None, Some(host)) => format!(
                "host='{host}' port='{}' dbname='{}' user='{}'",
                var("DATABASE_PORT").unwrap_or_else(|| "5432".into()),
                var("DATABASE_NAME").unwrap_or_else(|| "callboard".into()),
                var("DATABASE_USER").unwrap_or_else(|| "callboard_app".into()),
            ),
            (None, None) => return Err(ConfigError::Missing),
        };
        let tls = match var("DATABASE_TLS").as_deref() {
            None | Some("require") => true,
            Some("disable") => false,
            Some(_) => {
                return Err(ConfigError::Value { name: "DATABASE_TLS", expected: "require or disable" });
            }
        };
        let iam = match var("DATABASE_IAM_AUTH").as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => {
                return Err(ConfigError::Value { name: "DATABASE_IAM_AUTH", expected: "true or false" });
            }
        };
        let size = match var("DATABASE_POOL_SIZE") {
            None => DEFAULT_SIZE,
            Some(text) => {
                text.parse().ok().filter(|size| (1..=64).contains(size)).ok_or(ConfigError::Value {
                    name: "DATABASE_POOL_SIZE",
                    expected: "a number from 1 to 64",
                })?
            }
        };
        Ok(Self { url, tls, iam, size, ca_bundle: var("DATABASE_CA_BUNDLE").map(PathBuf::from) })
    }

    /// Makes one direct connection outside any pool, and drives it on a task of its own: for `migrate`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if nobody answers; [`ConfigError`] inside if the URL or the bundle cannot be read.
    pub async fn connect(&self) -> Result<tokio_postgres::Client, Error> {
        let unusable = |error: ConfigError| Error::Unavailable { detail: error.to_string() };
        let config = self.postgres().map_err(unusable)?;
        let (client, _driver) = Connect::new(self).map_err(unusable)?.open(config).await?;
        Ok(client)
    }

    fn postgres(&self) -> Result<tokio_postgres::Config, ConfigError> {
        let mut config = tokio_postgres::Config::from_str(&self.url).map_err(ConfigError::Url)?;
        config.ssl_mode(if self.tls { SslMode::Require } else { SslMode::Disable });
        config.connect_timeout(WAIT_LIMIT);
        config.tcp_user_timeout(Duration::from_secs(10));
        if config.get_application_name().is_none() {
            config.application_name("callboard");
        }
        Ok(config)
    }
}

/// A pool of connections. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Pool {
    inner: deadpool_postgres::Pool,
}

impl Pool {
    /// Reads the configuration from the environment. Connects to nothing.
    ///
    /// # Errors
    /// [`ConfigError`] naming the variable.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::new(&PoolConfig::from_env()?)
    }

    /// Configures a pool. Connects to nothing.
    ///
    /// # Errors
    /// [`ConfigError`] if the URL or the bundle cannot be read.
    pub fn new(config: &PoolConfig) -> Result<Self, ConfigError> {
        let manager = Manager::from_connect(
            config.postgres()?,
            Connect::new(config)?,
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let inner = deadpool_postgres::Pool::builder(manager)
            .max_size(config.size)
            .runtime(deadpool_postgres::Runtime::Tokio1)
            .wait_timeout(Some(WAIT_LIMIT))
            .create_timeout(Some(WAIT_LIMIT))
            .build()
            .map_err(|error| ConfigError::Build(error.to_string()))?;
        Ok(Self { inner })
    }

    /// A free connection, or a new one.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if none is to be had within [`WAIT_LIMIT`].
    pub async fn get(&self) -> Result<Client, Error> {
        self.inner.get().await.map_err(|error| match error {
            deadpool_postgres::PoolError::Backend(error) => match Error::from(error) {
                // Whatever kept a connection from being made, the caller's statement was not run.
                Error::Database(error) => Error::Unavailable { detail: error.to_string() },
                other => other,
            },
            other => Error::Unavailable { detail: other.to_string() },
        })
    }
}

/// Opens connections for the pool: a fresh token for each, TLS where it is wanted.
struct Connect {
    tls: bool,
    iam: bool,
    bundle: Vec<CertificateDer<'static>>,
    /// Made for the first connection: an environment that never connects does not pay for it.
    connector: OnceLock<tokio_postgres_rustls::MakeRustlsConnect>,
}

impl Connect {
    fn new(config: &PoolConfig) -> Result<Self, ConfigError> {
        let bundle = match &config.ca_bundle {
            Some(path) if config.tls => read_bundle(path)?,
            _ => Vec::new(),
        };
        Ok(Self { tls: config.tls, iam: config.iam, bundle, connector: OnceLock::new() })
    }

    async fn open(
        &self,
        config: tokio_postgres::Config,
    ) -> Result<(tokio_postgres::Client, JoinHandle<()>), tokio_postgres::Error> {
        let opened = self.sign_in(config).await;
        let outcome = if opened.is_ok() { ConnectOutcome::Opened } else { ConnectOutcome::Failed };
        metric::DB_CONNECTIONS.add(1, outcome);
        opened
    }

    async fn sign_in(
        &self,
        mut config: tokio_postgres::Config,
    ) -> Result<(tokio_postgres::Client, JoinHandle<()>), tokio_postgres::Error> {
        if self.iam {
            match iam_token(&config) {
                Ok(token) => {
                    config.password(token);
                }
                // The server then refuses the connection; this line says why there was no password.
                Err(cause) => tracing::error!(cause, "no IAM token could be signed for the database"),
            }
        }
        Ok(if self.tls {
            let tls = self.connector.get_or_init(|| tls_connector(&self.bundle));
            let (client, connection) = config.connect(tls.clone()).await?;
            (client, tokio::spawn(drive(connection)))
        } else {
            let (client, connection) = config.connect(NoTls).await?;
            (client, tokio::spawn(drive(connection)))
        })
    }
}

impl deadpool_postgres::Connect for Connect {
    fn connect(
        &self,
        config: &tokio_postgres::Config,
    ) -> BoxFuture<'_, Result<(tokio_postgres::Client, JoinHandle<()>), tokio_postgres::Error>> {
        Box::pin(self.open(config.clone()))
    }
}

type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

async fn drive<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    if let Err(error) = connection.await {
        tracing::warn!(%error, "a database connection ended");
    }
}

fn read_bundle(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let wrong = |problem: String| ConfigError::CaBundle { path: path.display().to_string(), problem };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(error.to_string()))?;
    if certificates.is_empty() {
        return Err(wrong("it holds no certificate".into()));
    }
    Ok(certificates)
}

fn tls_connector(bundle: &[CertificateDer<'static>]) -> tokio_postgres_rustls::MakeRustlsConnect {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    // Those that are no roots by today's rules are passed over: a bundle of RDS has one for each region and key type.
    let (_taken, passed_over) = roots.add_parsable_certificates(bundle.iter().cloned());
    if passed_over > 0 {
        tracing::warn!(passed_over, "certificates of DATABASE_CA_BUNDLE cannot be used");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports rustls's own default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tokio_postgres_rustls::MakeRustlsConnect::new(config)
}

/// Signs an RDS IAM authentication token: a presigned `GET https://host:port/?Action=connect&DBUser=user` without its
/// scheme (AWS documentation, "IAM database authentication", and the SDK's own `AuthTokenGenerator`).
fn iam_token(config: &tokio_postgres::Config) -> Result<String, String> {
    let host = match config.get_hosts().first() {
        Some(tokio_postgres::config::Host::Tcp(host)) => host.clone(),
        _ => return Err("DATABASE_URL names no host".into()),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let user = config.get_user().ok_or("DATABASE_URL names no user")?;
    let region = aws::region().ok_or("AWS_REGION is not set")?;
    let credentials = aws::EnvironmentCredentials
        .read()
        .map_err(|error| error.source().map_or_else(|| error.to_string(), ToString::to_string))?;
    let identity = credentials.into();
    let mut settings = SigningSettings::default();
    settings.expires_in = Some(TOKEN_LIFETIME);
    settings.signature_location = SignatureLocation::QueryParams;
    let parameters = aws_sigv4::sign::v4::SigningParams::builder()
        .identity(&identity)
        .region(&region)
        .name("rds-db")
        .time(SystemTime::now())
        .settings(settings)
        .build()
        .map_err(|error| error.to_string())?;
    let url = format!("https://{host}:{port}/?Action=connect&DBUser={user}");
    let request = SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::Bytes(&[]))
        .map_err(|error| error.to_string())?;
    let (instructions, _signature) = aws_sigv4::http_request::sign(request, &parameters.into())
        .map_err(|error| error.to_string())?
        .into_parts();
    let mut token = url.trim_start_matches("https://").to_owned();
    for (name, value) in instructions.params() {
        token.push('&');
        token.push_str(name);
        token.push('=');
        token.extend(utf8_percent_encode(value, ESCAPED));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_presigned_for_the_user_and_host_and_holds_no_scheme() {
        // The only test of this process that reads these variables.
        #[allow(unsafe_code, reason = "set before any thread of this test reads the environment")]
        unsafe {
            std::env::set_var("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE");
            std::env::set_var("AWS_SECRET_ACCESS_KEY", "secret");
            std::env::set_var("AWS_REGION", "eu-central-1");
        }
        let config = "postgres://callboard_app@db.example.org:5432/callboard".parse().unwrap();
        let token = iam_token(&config).unwrap();
        assert!(token.starts_with("db.example.org:5432/?Action=connect&DBUser=callboard_app&"), "{token}");
        assert!(token.contains("X-Amz-Expires=900"), "{token}");
        assert!(token.contains("%2Feu-central-1%2Frds-db%2Faws4_request"), "{token}");
        assert!(token.contains("&X-Amz-Signature="), "{token}");
    }

    #[test]
    fn a_pool_is_configured_without_connecting() {
        let config = PoolConfig {
            url: "postgres://callboard_app@127.0.0.1:1/none".into(),
            tls: true,
            iam: false,
            size: 2,
            ca_bundle: None,
        };
        assert!(Pool::new(&config).is_ok());
    }

    #[tokio::test]
    async fn nobody_listening_is_unavailable() {
        let config = PoolConfig {
            url: "postgres://a@127.0.0.1:1/none".into(),
            tls: false,
            iam: false,
            size: 1,
            ca_bundle: None,
        };
        let error = Pool::new(&config).unwrap().get().await.unwrap_err();
        assert!(error.is_unavailable(), "{error:?}");
    }
}
