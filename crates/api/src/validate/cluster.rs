//! Rules of the whole cluster: fault tolerance, autoscaler, authentication, upgrades.

use super::{Extent, Finding, InvalidReason, Member, Rules, autoscaler_version, groups, is_autoscaled, list};
use crate::{Compat, FieldError, RayCluster, RayVersion, at::At, at::member, keys};

/// The first Ray with token authentication.
const TOKENS_SINCE: RayVersion = RayVersion::new(2, 52, 0);
/// The first Ray that takes tokens of Kubernetes service accounts.
const KUBERNETES_TOKENS_SINCE: RayVersion = RayVersion::new(2, 55, 0);

pub(super) const OPTIONS: &str = "spec.gcsFaultToleranceOptions";

pub(super) fn refused(cluster: &RayCluster, rules: &Rules) -> Vec<FieldError> {
    let mut errors = gcs_fault_tolerance(cluster);
    errors.extend(redis_address(cluster, rules));
    errors.extend(groups::autoscaler_variable(cluster));
    errors.extend(autoscaler(cluster, rules));
    errors.extend(authentication(cluster));
    errors.extend(upgrade_strategy(cluster));
    errors
}

fn gcs_fault_tolerance(cluster: &RayCluster) -> Vec<FieldError> {
    let head = Member::head(cluster);
    let params = &cluster.spec.head_group_spec.ray_start_params;
    let annotations = &cluster.metadata.annotations;
    let annotation = |key: &str| annotations.get(key).filter(|value| !value.is_empty());
    let on_metadata =
        |key: &str, value: &str, problem: &str| FieldError::new(member("metadata.annotations", key), value, problem);
    let param = |name: &str| params.get(name).filter(|value| !value.is_empty());
    let on_params = |name: &str, value: &str, problem: String| {
        FieldError::new(member("spec.headGroupSpec.rayStartParams", name), value, problem)
    };
    let variable = |name: &'static str, problem: &str| head.env(name).map(|(at, _)| at.error_of(name, problem));
    let mut errors = Vec::new();
    let options = cluster.spec.gcs_fault_tolerance_options.is_some();
    if options {
        errors.extend(annotation(keys::FT_ENABLED).map(|value| {
            let problem = format!("can't be beside {OPTIONS}: remove the annotation");
            on_metadata(keys::FT_ENABLED, value, &problem)
        }));
        errors.extend(param("redis-password").map(|_| {
            on_params("redis-password", "***", format!("can't be beside {OPTIONS}: move it to {OPTIONS}.redisPassword"))
        }));
        let moved = |field: &str| format!("can't be beside {OPTIONS}: move it to {OPTIONS}.{field}");
        errors.extend(variable("REDIS_PASSWORD", &moved("redisPassword")));
        errors.extend(variable("RAY_REDIS_ADDRESS", &moved("redisAddress")));
        errors.extend(
            annotation(keys::EXTERNAL_STORAGE_NAMESPACE)
                .map(|value| on_metadata(keys::EXTERNAL_STORAGE_NAMESPACE, value, &moved("externalStorageNamespace"))),
        );
    } else if !annotation(keys::FT_ENABLED).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        let problem = format!("turns GCS fault tolerance on behind the operator's back: use {OPTIONS}.redisAddress");
        errors.extend(variable("RAY_REDIS_ADDRESS", &problem));
    }
    let user = format!("is not supported: move it to {OPTIONS}.redisUsername");
    errors.extend(param("redis-username").map(|value| on_params("redis-username", value, user.clone())));
    errors.extend(variable("REDIS_USERNAME", &user));
    errors
}

/// Required by the definition of 1.6; in 1.7, where another backend exists, nobody asks for it.
fn redis_address(cluster: &RayCluster, rules: &Rules) -> Option<FieldError> {
    let options = cluster.spec.gcs_fault_tolerance_options.as_ref()?;
    let says_nothing = options.backend.is_none() && options.redis_address.is_none();
    (says_nothing && rules.compat < Compat::V1_7)
        .then(|| FieldError::missing(format!("{OPTIONS}.redisAddress"), "is required: set it to redis:PORT"))
}

fn autoscaler(cluster: &RayCluster, rules: &Rules) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> = cluster.settings().err().into_iter().collect();
    if is_autoscaled(cluster) && autoscaler_version(cluster) == "v2" {
        let all = std::iter::once(Member::head(cluster)).chain(Member::workers(cluster));
        let problem = "must be Never or unset with autoscaler v2: remove it";
        errors.extend(all.filter_map(|member| member.restarting_policy()).map(|at| at.error(problem)));
    }
    // 1.6 does not set this variable, so there it is any variable.
    if rules.compat >= Compat::V1_7
        && let Some(options) = &cluster.spec.autoscaler_options
    {
        const GENERATED: &str = "KUBERAY_GEN_AUTOSCALER_START_CMD";
        for (i, entry) in options.env.iter().enumerate() {
            let at = At::new(format!("spec.autoscalerOptions.env[{i}]"), entry);
            if at.text("name").is_ok_and(|name| name == GENERATED) {
                errors.push(at.error_of(GENERATED, "is set by the operator: remove it"));
            }
        }
    }
    errors
}

/// Advice of KubeRay 1.7, as an Event at every reconcile: with autoscaler v1, kubelet must not restart Ray either.
pub(super) fn restarted_by_kubelet(cluster: &RayCluster, rules: &Rules) -> Vec<Finding> {
    if rules.compat < Compat::V1_7 || !is_autoscaled(cluster) || autoscaler_version(cluster) != "v1" {
        return Vec::new();
    }
    let problem = "should be Never or unset with autoscaler v1: remove it";
    let policies = Member::workers(cluster).filter_map(|member| member.restarting_policy());
    let advice = |at: At<'_>| Finding { error: at.error(problem), reason: InvalidReason::Spec, refused: Extent::None };
    policies.map(advice).collect()
}

/// Serve's own Service, which an annotation asks for, has the ports of the head that are called so.
pub(super) fn serve_port(cluster: &RayCluster) -> Option<FieldError> {
    if cluster.metadata.annotations.get(keys::ENABLE_SERVE_SERVICE).map(String::as_str) != Some("true") {
        return None;
    }
    let head = Member::head(cluster);
    let container = head.template.as_ref().ok()?.container();
    let ports = list(container, "ports");
    let is_of_serve = |port: &At<'_>| port.text("name").is_ok_and(|name| name == "serve" || name.starts_with("serve-"));
    // Where the container names no port, Ray's own are taken: Serve's is among them.
    (!ports.is_empty() && !ports.iter().any(is_of_serve)).then(|| {
        let problem = format!(
            "must hold a port called serve, or serve-…, for the Service of Serve that is asked for by the annotation {}",
            keys::ENABLE_SERVE_SERVICE
        );
        FieldError::missing(format!("{}.ports", container.path()), problem)
    })
}

fn authentication(cluster: &RayCluster) -> Vec<FieldError> {
    let Some(options) = &cluster.spec.auth_options else { return Vec::new() };
    let mode = options.mode.as_deref().unwrap_or_default();
    let by_kubernetes = options.enable_k8s_token_auth == Some(true);
    let mut errors = Vec::new();
    if !matches!(mode, "" | "disabled" | "token") {
        errors.push(FieldError::new("spec.authOptions.mode", mode, "must be disabled or token"));
    }
    if mode == "token" {
        errors.extend(ray_at_least(cluster, TOKENS_SINCE, "spec.authOptions.mode is token"));
    }
    if !by_kubernetes {
        return errors;
    }
    let field = "spec.authOptions.enableK8sTokenAuth";
    if mode != "token" {
        errors.push(FieldError::new(field, "true", "needs spec.authOptions.mode: set it to token"));
        return errors;
    }
    // One complaint about the version is enough.
    if errors.is_empty() {
        errors.extend(ray_at_least(cluster, KUBERNETES_TOKENS_SINCE, &format!("{field} is true")));
    }
    if let Some(secret) = options.secret_name.as_deref().filter(|secret| !secret.is_empty()) {
        let problem = format!("can't be beside {field}: remove one of the two");
        errors.push(FieldError::new("spec.authOptions.secretName", secret, problem));
    }
    errors
}

fn ray_at_least(cluster: &RayCluster, oldest: RayVersion, because: &str) -> Option<FieldError> {
    let said = cluster.spec.ray_version.as_deref().unwrap_or_default();
    let problem = match cluster.ray_version() {
        Some(version) if version >= oldest => return None,
        Some(_) => format!("must be {oldest} or later, for {because}"),
        None if said.is_empty() => format!("is required, for {because}: set it to {oldest} or later"),
        None => format!("is no version: must be {oldest} or later, for {because}"),
    };
    Some(FieldError::new("spec.rayVersion", said, problem))
}

fn upgrade_strategy(cluster: &RayCluster) -> Option<FieldError> {
    let field = "spec.upgradeStrategy.type";
    let strategy = cluster.spec.upgrade_strategy.as_ref()?.strategy.as_deref()?;
    if !matches!(strategy, "Recreate" | "None") {
        return Some(FieldError::new(field, strategy, "must be Recreate or None"));
    }
    let creator = cluster.metadata.labels.get(keys::ORIGINATED_FROM_CRD)?;
    matches!(creator.as_str(), "RayJob" | "RayService").then(|| {
        let problem = format!("can't be on a RayCluster that a {creator} created: set it there, or remove it");
        FieldError::new(field, strategy, problem)
    })
}
