//! Ray's token authentication: where the token comes from, and when it is read again.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use tonic::metadata::{Ascii, MetadataValue};

use crate::config::{ConfigError, is_on};

/// Where KubeRay mounts a token for the head's audience, and where Kubernetes mounts the account's own.
const SERVICE_ACCOUNT_TOKENS: [&str; 2] =
    ["/var/run/secrets/ray.io/serviceaccount/token", "/var/run/secrets/kubernetes.io/serviceaccount/token"];

/// Whether and with what to authenticate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// No `authorization` metadata.
    #[default]
    Disabled,
    /// This token.
    Token(Secret),
    /// The first of these files that holds a token; read again whenever it changes.
    Files(Vec<PathBuf>),
}

/// A token. Its value shows neither in `Debug` nor in any message.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a token.
    pub fn new(token: impl Into<String>) -> Secret {
        Secret(token.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Auth {
    /// Ray's lookup: `RAY_AUTH_TOKEN`, the file `RAY_AUTH_TOKEN_PATH`, with `RAY_ENABLE_K8S_TOKEN_AUTH` the token of the
    /// service account, `~/.ray/auth_token`. Like Ray's command line, an unset `RAY_AUTH_MODE` means `token` exactly
    /// when there is a token now.
    pub(crate) fn from_env(env: &dyn Fn(&str) -> Option<String>) -> Result<Auth, ConfigError> {
        let given = |name: &str| env(name).filter(|value| !value.trim().is_empty());
        match given("RAY_AUTH_MODE") {
            None => Ok(lookup(&given).filter(has_token_now).unwrap_or_default()),
            Some(mode) if mode.eq_ignore_ascii_case("token") => Ok(lookup(&given).unwrap_or(Auth::Files(vec![]))),
            Some(mode) if mode.eq_ignore_ascii_case("disabled") => Ok(Auth::Disabled),
            Some(mode) => Err(ConfigError::AuthMode(mode)),
        }
    }
}

fn lookup(given: &dyn Fn(&str) -> Option<String>) -> Option<Auth> {
    if let Some(token) = given("RAY_AUTH_TOKEN") {
        return Some(Auth::Token(Secret::new(token.trim())));
    }
    if let Some(path) = given("RAY_AUTH_TOKEN_PATH") {
        return Some(Auth::Files(vec![path.into()]));
    }
    let account = given("RAY_ENABLE_K8S_TOKEN_AUTH").is_some_and(|value| is_on(&value));
    let account = account.then_some(SERVICE_ACCOUNT_TOKENS).into_iter().flatten().map(PathBuf::from);
    let home = given("HOME").map(|home| Path::new(&home).join(".ray/auth_token"));
    let files: Vec<PathBuf> = account.chain(home).collect();
    (!files.is_empty()).then_some(Auth::Files(files))
}

fn has_token_now(auth: &Auth) -> bool {
    match auth {
        Auth::Disabled => false,
        Auth::Token(_) => true,
        Auth::Files(files) => files.iter().any(|path| read_token(path).is_ok()),
    }
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The mode asks for one.
    #[error("token authentication is on but no token is given")]
    NoSource,
    /// No file has one.
    #[error("no token in {}", .0.join(", "))]
    NoToken(Vec<String>),
    /// It can't be sent.
    #[error("the token has characters that can't be sent in a header")]
    Unsendable,
}

/// The first line of a token file, as Ray reads it.
fn read_token(path: &Path) -> Result<String, String> {
    let problem = |reason: &dyn fmt::Display| format!("{} ({reason})", path.display());
    let text = fs::read_to_string(path).map_err(|error| problem(&error))?;
    let token = text.lines().next().unwrap_or_default().trim();
    if token.is_empty() { Err(problem(&"empty")) } else { Ok(token.to_owned()) }
}

/// What tells that a file has changed without reading it.
#[derive(Clone, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    modified: Option<SystemTime>,
    bytes: u64,
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let meta = fs::metadata(path).ok()?;
        Some(Stamp { path: path.clone(), modified: meta.modified().ok(), bytes: meta.len() })
    };
    files.iter().filter_map(stamp).collect()
}

/// The `authorization` value of now.
///
/// A `stat` of a small local file precedes each call: far cheaper than the call, so it is not handed to another thread.
pub(crate) struct TokenCache {
    auth: Auth,
    read: Mutex<Option<(Vec<Stamp>, MetadataValue<Ascii>)>>,
}

impl TokenCache {
    pub fn new(auth: Auth) -> TokenCache {
        TokenCache { auth, read: Mutex::new(None) }
    }

    /// `Bearer <token>`; `None` without authentication.
    pub fn header(&self) -> Result<Option<MetadataValue<Ascii>>, TokenError> {
        match &self.auth {
            Auth::Disabled => Ok(None),
            Auth::Token(token) => bearer(&token.0).map(Some),
            Auth::Files(files) => self.read_files(files, false).map(Some),
        }
    }

    /// Reads the files again, whatever their stamps say, and tells whether the value is another one than `refused`.
    pub fn changed_since(&self, refused: Option<&MetadataValue<Ascii>>) -> bool {
        match &self.auth {
            Auth::Disabled | Auth::Token(_) => false,
            Auth::Files(files) => self.read_files(files, true).is_ok_and(|now| Some(&now) != refused),
        }
    }

    fn read_files(&self, files: &[PathBuf], force: bool) -> Result<MetadataValue<Ascii>, TokenError> {
        let stamps = stamps(files);
        let mut read = self.read.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((seen, value)) = read.as_ref()
            && *seen == stamps
            && !force
        {
            return Ok(value.clone());
        }
        let value = first_token(files).and_then(|token| bearer(&token))?;
        *read = Some((stamps, value.clone()));
        Ok(value)
    }
}

fn first_token(files: &[PathBuf]) -> Result<String, TokenError> {
    if files.is_empty() {
        return Err(TokenError::NoSource);
    }
    let mut problems = vec![];
    for path in files {
        match read_token(path) {
            Ok(token) => return Ok(token),
            Err(problem) => problems.push(problem),
        }
    }
    Err(TokenError::NoToken(problems))
}

fn bearer(token: &str) -> Result<MetadataValue<Ascii>, TokenError> {
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| TokenError::Unsendable)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn auth(env: &[(&str, &str)]) -> Result<Auth, ConfigError> {
        let env: BTreeMap<&str, &str> = env.iter().copied().collect();
        Auth::from_env(&|name| env.get(name).map(|value| (*value).to_owned()))
    }

    fn header(auth: Auth) -> Result<String, TokenError> {
        Ok(TokenCache::new(auth).header()?.unwrap().to_str().unwrap().to_owned())
    }

    #[test]
    fn lookup_order() {
        let both =
            [("RAY_AUTH_MODE", "token"), ("RAY_AUTH_TOKEN", " t1\n"), ("RAY_AUTH_TOKEN_PATH", "/p"), ("HOME", "/h")];
        assert_eq!(auth(&both).unwrap(), Auth::Token(Secret::new("t1")));
        assert_eq!(auth(&[both[0], both[2], both[3]]).unwrap(), Auth::Files(vec!["/p".into()]));
        assert_eq!(auth(&[both[0], both[3]]).unwrap(), Auth::Files(vec!["/h/.ray/auth_token".into()]));
    }

    #[test]
    fn service_account_before_home() {
        let files = auth(&[("RAY_AUTH_MODE", "Token"), ("RAY_ENABLE_K8S_TOKEN_AUTH", "true"), ("HOME", "/h")]).unwrap();
        let Auth::Files(files) = files else { panic!("{files:?}") };
        let files: Vec<_> = files.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(files, [SERVICE_ACCOUNT_TOKENS[0], SERVICE_ACCOUNT_TOKENS[1], "/h/.ray/auth_token"]);
    }

    #[test]
    fn unset_mode_uses_a_token_only_if_there_is_one() {
        assert_eq!(auth(&[("HOME", "/nonexistent")]).unwrap(), Auth::Disabled);
        assert_eq!(auth(&[("RAY_AUTH_TOKEN", "t")]).unwrap(), Auth::Token(Secret::new("t")));
        assert_eq!(auth(&[("RAY_AUTH_MODE", "disabled"), ("RAY_AUTH_TOKEN", "t")]).unwrap(), Auth::Disabled);
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".ray")).unwrap();
        fs::write(home.path().join(".ray/auth_token"), "t\n").unwrap();
        assert!(matches!(auth(&[("HOME", home.path().to_str().unwrap())]).unwrap(), Auth::Files(_)));
    }

    #[test]
    fn unknown_mode_is_refused() {
        assert_eq!(auth(&[("RAY_AUTH_MODE", "magic")]), Err(ConfigError::AuthMode("magic".into())));
    }

    #[test]
    fn token_mode_without_a_token_says_where_it_looked() {
        assert_eq!(header(auth(&[("RAY_AUTH_MODE", "token")]).unwrap()), Err(TokenError::NoSource));
        let error = header(Auth::Files(vec!["/nonexistent/t".into()])).unwrap_err().to_string();
        assert!(error.starts_with("no token in /nonexistent/t (No such file"), "{error}");
    }

    #[test]
    fn first_line_trimmed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "  abc \r\nsecond").unwrap();
        assert_eq!(header(Auth::Files(vec![path])).unwrap(), "Bearer abc");
    }

    #[test]
    fn rotated_file_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "one").unwrap();
        let cache = TokenCache::new(Auth::Files(vec![path.clone()]));
        assert_eq!(cache.header().unwrap().unwrap(), "Bearer one");
        fs::write(&path, "two, longer").unwrap();
        assert_eq!(cache.header().unwrap().unwrap(), "Bearer two, longer");
    }

    #[test]
    fn unchanged_stamp_is_read_again_when_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "one").unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let cache = TokenCache::new(Auth::Files(vec![path.clone()]));
        let refused = cache.header().unwrap();
        assert!(!cache.changed_since(refused.as_ref()));
        fs::write(&path, "two").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        assert!(cache.changed_since(refused.as_ref()));
        assert_eq!(cache.header().unwrap().unwrap(), "Bearer two");
    }

    #[test]
    fn never_shown() {
        let auth = Auth::Token(Secret::new("hunter2"));
        let header = TokenCache::new(auth.clone()).header().unwrap().unwrap();
        assert!(!format!("{auth:?} {header:?}").contains("hunter2"));
    }
}
