//! How to reach a GCS, and what Ray's environment variables say about it.

use std::time::Duration;

use crate::auth::Auth;
use crate::tls::TlsFiles;

/// Ray's own limit (`max_grpc_message_size`) on both sides.
pub(crate) const MAX_MESSAGE_BYTES: usize = 512 << 20;

/// Everything a [`crate::Client`] needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port` each, tried in this order; the one that answered last is tried first.
    pub endpoints: Vec<String>,
    /// Mutual TLS; `None`: plain text.
    pub tls: Option<TlsFiles>,
    /// Token authentication.
    pub auth: Auth,
    /// How long calls may take.
    pub deadlines: Deadlines,
    /// Largest message that is sent or accepted.
    pub max_message_bytes: usize,
}

/// How long each kind of call may take as a whole: connecting, retries and all endpoints included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// One attempt to connect, with TLS; the next endpoint is tried after it.
    pub connect: Duration,
    /// `GetClusterResourceState` and `GetClusterStatus`.
    pub state: Duration,
    /// Reports, constraints, and the key-value store.
    pub small: Duration,
    /// Drains, stops and resizes: the GCS asks the raylet before it answers (a few ms), and goes on asking for long if the
    /// raylet can't be reached.
    pub node: Duration,
    /// Tables: nodes, jobs, placement groups, resource usage.
    pub tables: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines {
            connect: Duration::from_secs(2),
            state: Duration::from_secs(10),
            small: Duration::from_secs(5),
            node: Duration::from_secs(3),
            tables: Duration::from_secs(10),
        }
    }
}

/// Why a client can't be configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There must be one.
    #[error("no GCS endpoint given: name at least one host:port")]
    NoEndpoint,
    /// Not `host:port`.
    #[error("GCS endpoint {0:?} is not host:port")]
    Endpoint(String),
    /// A variable that TLS needs.
    #[error("RAY_USE_TLS is on but {0} is not set: set it to the path of a PEM file")]
    MissingTlsFile(&'static str),
    /// Ray knows `token` and `disabled`.
    #[error("RAY_AUTH_MODE is {0:?}: use token or disabled")]
    AuthMode(String),
}

impl Config {
    /// Plain text, no token, default deadlines.
    pub fn plain(endpoints: Vec<String>) -> Config {
        Config {
            endpoints,
            tls: None,
            auth: Auth::Disabled,
            deadlines: Deadlines::default(),
            max_message_bytes: MAX_MESSAGE_BYTES,
        }
    }

    /// As Ray's own clients read `RAY_USE_TLS`, `RAY_TLS_*`, `RAY_AUTH_*`, `RAY_ENABLE_K8S_TOKEN_AUTH` and `HOME` from
    /// `env`. Files are not read yet.
    pub fn from_env(endpoints: Vec<String>, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
        for endpoint in &endpoints {
            check_endpoint(endpoint)?;
        }
        let tls = if env("RAY_USE_TLS").is_some_and(|value| is_on(&value)) { Some(tls_files(env)?) } else { None };
        Ok(Config { tls, auth: Auth::from_env(env)?, ..Config::plain(endpoints) })
    }
}

/// Ray's reading of a switch.
pub(crate) fn is_on(value: &str) -> bool {
    value == "1" || value.eq_ignore_ascii_case("true")
}

fn tls_files(env: &dyn Fn(&str) -> Option<String>) -> Result<TlsFiles, ConfigError> {
    let path = |name: &'static str| {
        env(name).filter(|value| !value.is_empty()).map(Into::into).ok_or(ConfigError::MissingTlsFile(name))
    };
    Ok(TlsFiles {
        certificate: path("RAY_TLS_SERVER_CERT")?,
        key: path("RAY_TLS_SERVER_KEY")?,
        ca: path("RAY_TLS_CA_CERT")?,
    })
}

/// Splits `host:port`; the host of an IPv6 endpoint is in brackets.
pub(crate) fn check_endpoint(endpoint: &str) -> Result<(), ConfigError> {
    let problem = || ConfigError::Endpoint(endpoint.to_owned());
    let authority: http::uri::Authority = endpoint.parse().map_err(|_| problem())?;
    let port = authority.port_u16().ok_or_else(problem)?;
    let plain = !endpoint.contains('@') && !authority.host().is_empty();
    if plain && port > 0 { Ok(()) } else { Err(problem()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    fn config(env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let env: BTreeMap<String, String> = env.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Config::from_env(vec!["127.0.0.1:6379".into()], &|name| env.get(name).cloned())
    }

    #[test]
    fn nothing_set_is_plain_text() {
        let config = config(&[]).unwrap();
        assert!(config.tls.is_none());
        assert_eq!(config.max_message_bytes, 536_870_912);
    }

    #[test]
    fn tls_switch_as_ray_reads_it() {
        let files = [("RAY_TLS_SERVER_CERT", "/c"), ("RAY_TLS_SERVER_KEY", "/k"), ("RAY_TLS_CA_CERT", "/a")];
        for (value, on) in [("1", true), ("true", true), ("True", true), ("TRUE", true), ("0", false), ("", false)] {
            let env: Vec<_> = files.iter().copied().chain([("RAY_USE_TLS", value)]).collect();
            assert_eq!(config(&env).unwrap().tls.is_some(), on, "{value}");
        }
        let env: Vec<_> = files.iter().copied().chain([("RAY_USE_TLS", "1")]).collect();
        assert_eq!(config(&env).unwrap().tls.unwrap().ca, Path::new("/a"));
    }

    #[test]
    fn tls_without_a_file_names_the_variable() {
        let error = config(&[("RAY_USE_TLS", "1"), ("RAY_TLS_SERVER_CERT", "/c")]).unwrap_err();
        assert_eq!(error, ConfigError::MissingTlsFile("RAY_TLS_SERVER_KEY"));
    }

    #[test]
    fn endpoints_are_host_and_port() {
        for good in ["10.0.0.1:6379", "head.ns.svc:6379", "[::1]:6379"] {
            assert_eq!(check_endpoint(good), Ok(()), "{good}");
        }
        for bad in ["", "10.0.0.1", "http://10.0.0.1:6379", "10.0.0.1:0", "a b:1", ":6379", "u@h:1", "h:99999"] {
            assert!(check_endpoint(bad).is_err(), "{bad}");
        }
    }
}
