//! In what the in-memory server differs from a real one on purpose, and why. Nothing else may differ.
//!
//! Not visible in the cases: strategic merge patches and server-side apply of built-in kinds (415 here: they come with the
//! simulator); messages for people; a default ServiceAccount, PodDisruptionBudgets and quotas (no controller runs; quotas
//! are a caller's hook).

const DEFAULTS: &str = "defaults of built-in kinds are not filled in: whatever reads them must cope with their absence";
const BOOKKEEPING: &str = "who wrote which field is not kept: server-side apply is not served";
const STAMPS: &str = "what only a kubelet or scheduler acts upon is not derived";

/// Kind (all, if empty), path, reason: what the real server writes and ours does not.
pub(super) const ABSENT_IN_MEMORY: &[(&str, &str, &str)] = &[
    ("", "/metadata/managedFields", BOOKKEEPING),
    ("Pod", "/spec/containers/*/imagePullPolicy", DEFAULTS),
    ("Pod", "/spec/containers/*/resources/requests/cpu", DEFAULTS),
    ("Pod", "/spec/containers/*/terminationMessagePath", DEFAULTS),
    ("Pod", "/spec/containers/*/terminationMessagePolicy", DEFAULTS),
    ("Pod", "/spec/dnsPolicy", DEFAULTS),
    ("Pod", "/spec/enableServiceLinks", DEFAULTS),
    ("Pod", "/spec/preemptionPolicy", DEFAULTS),
    ("Pod", "/spec/priority", DEFAULTS),
    ("Pod", "/spec/restartPolicy", DEFAULTS),
    ("Pod", "/spec/schedulerName", DEFAULTS),
    ("Pod", "/spec/securityContext", DEFAULTS),
    ("Pod", "/spec/terminationGracePeriodSeconds", DEFAULTS),
    ("Pod", "/spec/tolerations", DEFAULTS),
    ("Pod", "/status/qosClass", STAMPS),
    ("Service", "/spec/internalTrafficPolicy", DEFAULTS),
    ("Service", "/spec/ipFamilies", DEFAULTS),
    ("Service", "/spec/ipFamilyPolicy", DEFAULTS),
    ("Service", "/spec/ports/*/protocol", DEFAULTS),
    ("Service", "/spec/ports/*/targetPort", DEFAULTS),
    ("Service", "/spec/sessionAffinity", DEFAULTS),
    ("Service", "/spec/type", DEFAULTS),
    ("Service", "/status/loadBalancer", DEFAULTS),
    ("Secret", "/type", DEFAULTS),
];

/// Values that say the same as their absence.
pub(super) const SAME_THING: &[(&str, &str)] = &[("/metadata/creationTimestamp", "null"), ("/status", "{}")];
