//! Speaking to a server in one namespace, and writing down what it says.

use std::time::Duration;

use anyhow::{Context, Result};
use http::Request;
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};

use super::Step;
use super::normalise::Names;

/// How long an event may take that must come.
const EVENT_LIMIT: Duration = Duration::from_secs(20);

/// See the module.
pub struct Session {
    client: kube::Client,
    namespace: String,
    names: Names,
    steps: Vec<Step>,
}

/// An answer as it came.
pub struct Answer {
    /// HTTP status.
    pub code: u16,
    /// The body; a text that is no JSON as a string.
    pub body: Value,
}

impl Answer {
    /// The version of the object or list.
    pub fn version(&self) -> String {
        self.text("/metadata/resourceVersion")
    }

    /// The object's UID.
    pub fn uid(&self) -> String {
        self.text("/metadata/uid")
    }

    /// A text of the body; empty if it is not there.
    pub fn text(&self, pointer: &str) -> String {
        self.body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

/// An open watch.
pub struct Watch {
    request: String,
    body: Body,
    kept: Vec<u8>,
    code: u16,
}

impl Session {
    pub(super) async fn start(client: kube::Client, case: &str) -> Result<Session> {
        let namespace = format!("conformance-{}", case.replace([':', '_'], "-").replace("--", "-"));
        let mut session = Session { client, names: Names::of(&namespace), namespace, steps: Vec::new() };
        let body = json!({"metadata": {"name": session.namespace}});
        let made = session.send("POST", "/api/v1/namespaces", "application/json", &body.to_string()).await?;
        anyhow::ensure!(made.code == 201, "could not make namespace {}: {}", session.namespace, made.body);
        session.steps.clear();
        Ok(session)
    }

    pub(super) fn finish(self) -> Vec<Step> {
        self.steps
    }

    /// From now on this text is written as `name`.
    pub fn call(&mut self, text: &str, name: &str) {
        self.names.call(text, name);
    }

    /// Writes down an observation.
    pub fn note(&mut self, what: &str, is_so: bool) {
        self.steps.push(Step { request: what.to_owned(), answer: is_so.to_string() });
    }

    /// `{ns}` in path and body stands for the session's namespace.
    pub async fn get(&mut self, path: &str) -> Result<Answer> {
        self.send("GET", path, "", "").await
    }

    /// Creates.
    pub async fn post(&mut self, path: &str, body: &Value) -> Result<Answer> {
        self.send("POST", path, "application/json", &body.to_string()).await
    }

    /// Replaces.
    pub async fn put(&mut self, path: &str, body: &Value) -> Result<Answer> {
        self.send("PUT", path, "application/json", &body.to_string()).await
    }

    /// Sends a merge patch.
    pub async fn merge(&mut self, path: &str, body: &Value) -> Result<Answer> {
        self.send("PATCH", path, "application/merge-patch+json", &body.to_string()).await
    }

    /// Sends a JSON patch.
    pub async fn json_patch(&mut self, path: &str, body: &Value) -> Result<Answer> {
        self.send("PATCH", path, "application/json-patch+json", &body.to_string()).await
    }

    /// Deletes; null for no options.
    pub async fn delete(&mut self, path: &str, options: &Value) -> Result<Answer> {
        let body = if options.is_null() { String::new() } else { options.to_string() };
        self.send("DELETE", path, "application/json", &body).await
    }

    /// Sends anything.
    pub async fn send(&mut self, method: &str, path: &str, content_type: &str, body: &str) -> Result<Answer> {
        let request = self.request(method, path, content_type, body)?;
        let response = self.client.send(request).await.with_context(|| format!("{method} {path}"))?;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect_bytes().await.with_context(|| format!("{method} {path}"))?;
        let body_of_answer = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).trim().to_owned()));
        let kind = content_type.strip_prefix("application/").filter(|kind| *kind != "json").unwrap_or_default();
        let words = [method, path, kind, body].into_iter().filter(|word| !word.is_empty());
        let request = self.names.replace(&words.collect::<Vec<_>>().join(" "));
        let answer = format!("{code} {}", self.names.normalised(&body_of_answer));
        self.steps.push(Step { request, answer });
        Ok(Answer { code, body: body_of_answer })
    }

    /// Reads a document without writing it down.
    pub async fn client_json(&self, path: &str) -> Result<Value> {
        Ok(self.client.request(http::Request::get(path).body(Vec::new())?).await?)
    }

    /// Posts without writing it down.
    pub async fn client_post(&self, path: &str, body: &Value) -> Result<Value> {
        let request = http::Request::post(path).header("content-type", "application/json");
        Ok(self.client.request(request.body(body.to_string().into_bytes())?).await?)
    }

    fn request(&self, method: &str, path: &str, content_type: &str, body: &str) -> Result<Request<Body>> {
        let here = |text: &str| text.replace("{ns}", &self.namespace);
        let mut request = Request::builder().method(method).uri(here(path)).header("accept", "application/json");
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        Ok(request.body(Body::from(here(body).into_bytes()))?)
    }

    /// Opens a watch. What it says is written down by [`events`](Self::events).
    pub async fn watch(&mut self, path: &str) -> Result<Watch> {
        let request = self.request("GET", path, "", "")?;
        let response = self.client.send(request).await.with_context(|| format!("watch {path}"))?;
        let code = response.status().as_u16();
        let request = self.names.replace(&format!("WATCH {path}"));
        Ok(Watch { request, body: response.into_body(), kept: Vec::new(), code })
    }

    /// Writes down the next `count` events of a watch.
    pub async fn events(&mut self, watch: &mut Watch, count: usize) -> Result<()> {
        let mut lines = vec![watch.code.to_string()];
        for _ in 0..count {
            let line = tokio::time::timeout(EVENT_LIMIT, watch.line()).await;
            let event = match line {
                Err(_) => "no further event".to_owned(),
                Ok(line) => match line? {
                    Some(event) => self.names.normalised(&event).to_string(),
                    None => "the end".to_owned(),
                },
            };
            lines.push(event);
        }
        self.steps.push(Step { request: watch.request.clone(), answer: lines.join("\n") });
        Ok(())
    }
}

impl Watch {
    async fn line(&mut self) -> Result<Option<Value>> {
        loop {
            if let Some(end) = self.kept.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.kept.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line).context("a line of a watch is no JSON")?));
            }
            let Some(frame) = self.body.frame().await else {
                let rest = std::mem::take(&mut self.kept);
                return Ok((!rest.is_empty()).then(|| serde_json::from_slice(&rest)).transpose()?);
            };
            if let Ok(data) = frame?.into_data() {
                self.kept.extend_from_slice(&data);
            }
        }
    }
}
