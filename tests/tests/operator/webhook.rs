//! The validating webhook, as `deploy/operator/webhook.yaml` sets it up: asked by a real kube-apiserver, over real TLS.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use mobula_tests::{apiserver::post, certificates::Authority, process::free_port, wait};
use serde_json::{Value, json};

use crate::{
    ALONE,
    case::{Case, LIMIT, raycluster},
};

/// The shipped configuration for the kinds whose definitions are installed here, with the address of this operator.
fn configuration(authority: &Authority, port: u16) -> Result<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/operator/webhook.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    let found = documents.into_iter().find(|document| document["kind"] == "ValidatingWebhookConfiguration");
    let mut configuration = found.context("no ValidatingWebhookConfiguration in it")?;
    configuration["metadata"] = json!({"name": "mobula-operator-test"});
    let webhooks = configuration["webhooks"].as_array_mut().context("no webhooks in it")?;
    for webhook in webhooks {
        let path = webhook["clientConfig"]["service"]["path"].as_str().context("a webhook without path")?.to_owned();
        let bundle = BASE64.encode(authority.pem());
        webhook["clientConfig"] = json!({"url": format!("https://127.0.0.1:{port}{path}"), "caBundle": bundle});
        // Other cases run on the same server.
        webhook["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": "webhook"}});
    }
    Ok(configuration)
}

fn write_certificate(authority: &Authority, directory: &Path) -> Result<()> {
    authority.server("webhook", &["127.0.0.1".to_owned()])?.write(directory, "tls").map(drop)
}

/// What the server answers to the creation of a cluster.
async fn refusal(case: &Case, cluster: &Value) -> Result<String> {
    let error = case.create("webhook", cluster).await.err().context("it was taken")?;
    Ok(format!("{error:#}"))
}

async fn run() -> Result<()> {
    let case = Case::start("webhook", &[]).await?;
    let (authority, port) = (Authority::new("webhook")?, free_port()?);
    write_certificate(&authority, case.directory())?;
    let (address, directory) = (format!("127.0.0.1:{port}"), case.directory().display().to_string());
    let flags = [ALONE, "--webhook-bind-address", &address, "--webhook-cert-dir", &directory];
    let _operator = case.operator_with("webhook", &flags, &[("ENABLE_WEBHOOKS", "true")]).await?;
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    post(&case.admin, path, &configuration(&authority, port)?).await?;

    let mut twins = raycluster("twins", 1, 5, false);
    let group = twins["spec"]["workerGroupSpecs"][0].clone();
    twins["spec"]["workerGroupSpecs"].as_array_mut().context("no groups")?.push(group);
    // The server takes up a new configuration within a second or so; until then everything passes.
    let (mut tries, mut said) = (0, String::new());
    let look = async || {
        tries += 1;
        twins["metadata"]["name"] = json!(format!("twins-{tries}"));
        said = refusal(&case, &twins).await.unwrap_or_default();
        Ok(said.clone())
    };
    wait::until("the webhook asked", LIMIT, look, |said| !said.is_empty()).await?;
    eprintln!("refused after {tries} tries: {said}");
    ensure!(said.contains("admission webhook \"vraycluster.kb.io\" denied the request"), "{said}");
    ensure!(said.contains("spec.workerGroupSpecs[1].groupName"), "{said}");
    case.create("webhook", &raycluster("right", 1, 5, false)).await?;

    // A renewed certificate needs no restart; the server keeps connections, so only new ones show it.
    write_certificate(&authority, case.directory())?;
    twins["metadata"]["name"] = json!("twins-after-renewal");
    let said = refusal(&case, &twins).await?;
    ensure!(said.contains("spec.workerGroupSpecs[1].groupName"), "{said}");
    case.delete(&format!("{path}/mobula-operator-test")).await?;
    case.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_invalid_is_refused_before_it_is_written() {
    run().await.unwrap();
}
