//! KubeRay's own end-to-end tests, as it ships them, with Mobula in KubeRay's place; with MOBULA_TEST_OPERATOR=kuberay, KubeRay
//! itself, to see what it makes of them.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use mobula_tests::process::Process;
use mobula_tests::{parts, wait};

use crate::{
    ALONE,
    case::{Case, LIMIT},
    kuberay::kuberay,
};

/// Those of RayClusters that pretended nodes can satisfy. Left out:
/// - `TestRayClusterAuthOptions`, `TestRayClusterGCSFaultTolerance`, `TestGcsFaultToleranceOptions` and
///   `TestGcsFaultToleranceAnnotations` run programs in the head's container.
/// - `TestRayClusterSingleHostMultiSlice` and `TestRayClusterMultiHostMultiSlice` count pods while one is being replaced, and
///   are lucky or not: where pods go at once, as they do with KWOK, KubeRay itself fails them.
/// - `TestRayClusterUpgradeStrategy` waits for a head of another name. Ours keeps its name, so that there are never two of
///   them; what else it looks at is a case of `controlled`.
const TESTS: [&str; 4] = [
    "TestRayClusterManagedBy",
    "TestRayClusterScalingDown",
    "TestRayClusterSuspend",
    "TestRayClusterWithResourceQuota",
];
/// For all of them, on a busy machine.
const PEER_LIMIT: Duration = Duration::from_secs(400);

async fn run() -> Result<()> {
    let (case, _) = Case::start_controlled("peer").await?;
    let is_kuberay = std::env::var("MOBULA_TEST_OPERATOR").is_ok_and(|name| name == "kuberay");
    let _operator =
        if is_kuberay { kuberay(&case, "peer").await? } else { case.operator("peer", &[ALONE]).await?.process };
    let mut command = Command::new(parts::directory("kuberay-e2e")?.join("e2e.test"));
    command
        .args(["-test.v", "-test.count=1", &format!("-test.run=^({})$", TESTS.join("|"))])
        .env("KUBECONFIG", case.server.kubeconfig("peer")?)
        .env("KUBERAY_TEST_OUTPUT_DIR", case.directory())
        .current_dir(case.directory());
    let mut run = Process::start("kuberay-e2e", &mut command, case.directory())?;
    let took = wait::until("the end of KubeRay's tests", PEER_LIMIT, async || Ok(run.ended()), Option::is_some).await?;
    let log = run.log();
    let passed = |name: &str| log.contains(&format!("--- PASS: {name} ("));
    let failed: Vec<&str> = TESTS.into_iter().filter(|name| !passed(name)).collect();
    eprintln!(
        "KubeRay {}: {} of its tests in {:.0} s",
        parts::version_of("kuberay-e2e")?,
        TESTS.len(),
        took.as_secs_f64()
    );
    ensure!(failed.is_empty(), "did not pass: {failed:?}\n{}", run.tail(120));
    ensure!(run.ended().is_some_and(|status| status.success()), "{}", run.tail(40));
    // What was refused is not looked at: the tests take namespaces away while there is work in them. The next case is to
    // find none of them.
    let left = async || {
        let namespaces = case.list("/api/v1/namespaces").await?;
        let names = namespaces.iter().filter_map(|it| it["metadata"]["name"].as_str());
        Ok(names.filter(|name| name.starts_with("test-ns-")).count())
    };
    let took = wait::until("KubeRay's namespaces gone", LIMIT, left, |left| *left == 0).await?;
    eprintln!("its namespaces gone after {:.1} s", took.as_secs_f64());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_of_kuberay_pass() {
    run().await.unwrap();
}
