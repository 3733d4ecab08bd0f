//! Our definitions beside KubeRay's: field by field, and by what a real kube-apiserver makes of KubeRay's samples under each.
#![allow(clippy::disallowed_methods)] // a test asks the environment whether to rewrite a file

mod compare;
mod kubernetes;
mod objects;
mod samples;

use std::fs;

use anyhow::{Context, Result};
use mobula_api::Kind;
use mobula_tests::parts;
use serde_json::Value;

/// KubeRay's definition of a kind.
fn kuberay(kind: Kind) -> Result<Value> {
    let file = parts::kuberay_crd(&kind.plural())?;
    let text = fs::read_to_string(&file).with_context(|| format!("could not read {}", file.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{} is not YAML", file.display()))
}

#[test]
fn our_definitions_differ_from_kuberays_only_where_it_is_meant() -> Result<()> {
    compare::run()
}

#[tokio::test(flavor = "multi_thread")]
async fn types_of_kubernetes_are_those_of_the_real_server() -> Result<()> {
    kubernetes::run().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lint_says_of_pods_and_services_the_server_says_too() -> Result<()> {
    objects::run().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sample_is_accepted_and_loses_nothing() -> Result<()> {
    samples::run().await
}
