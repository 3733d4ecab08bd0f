"""Answers planning problems with Ray's own v2 scheduler.

Writes the version of Ray in one line. Then reads one JSON object a line from stdin: {"snapshot": ..., "memory": ...}, in the
words of crates/planner, and writes one JSON object a line to stdout: {"plan": ...}, the scheduler's answer in the same words, or {"error": ...} if it raised.
"""

import collections
import json
import logging
import sys
import types

import ray
import ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor as monitor
import ray.autoscaler.v2.scheduler as scheduler
from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
from ray.autoscaler.v2.schema import AutoscalerInstance, IPPRGroupSpec, IPPRSpecs, IPPRStatus
from ray.core.generated import autoscaler_pb2, common_pb2
from ray.core.generated.instance_manager_pb2 import Instance, NodeKind, TerminationRequest

STATUS = {
    "Requested": Instance.REQUESTED,
    "Pending": Instance.ALLOCATED,
    "Running": Instance.RAY_RUNNING,
    "Leaving": Instance.RAY_STOPPING,
    "Stopped": Instance.RAY_STOPPED,
}
CAUSE = {
    TerminationRequest.Cause.IDLE: "idle",
    TerminationRequest.Cause.OUTDATED: "outdated",
    TerminationRequest.Cause.MAX_NUM_NODE_PER_TYPE: "max_per_group",
    TerminationRequest.Cause.MAX_NUM_NODES: "max_nodes",
}
OPERATOR = {
    "In": common_pb2.LABEL_OPERATOR_IN,
    "NotIn": common_pb2.LABEL_OPERATOR_NOT_IN,
    "Unknown": common_pb2.LABEL_OPERATOR_UNSPECIFIED,
}

logging.disable(logging.WARNING)


def amounts(resources):
    """Resources in name order: Ray's averages depend, in the last bit, on the order, which a protobuf map changes from
    process to process."""
    return {name: float(resources[name]) for name in sorted(resources)}


def seconds(ms):
    return None if ms is None else ms / 1000


def node_types(snapshot):
    configs = {}
    for group in snapshot["node_types"]:
        worker = not group["is_head"]
        configs[group["name"]] = NodeTypeConfig(
            name=group["name"],
            min_worker_nodes=group["min_replicas"] if worker else 0,
            max_worker_nodes=group["max_replicas"] if worker else 0,
            idle_timeout_s=seconds(group["idle_timeout_ms"]),
            priority=group["priority"],
            resources=amounts(group["resources"]),
            labels=dict(group["labels"]),
            launch_config_hash=group["launch_config_hash"] or "",
        )
    return configs


def instance(node):
    running = node["phase"] == "Running"
    im_instance = Instance(
        instance_id=node["instance_id"],
        cloud_instance_id=node["instance_id"],
        instance_type=node["group"],
        status=STATUS[node["phase"]],
        node_id=node["ray_node_id"] or "",
        node_kind=NodeKind.HEAD if node["is_head"] else NodeKind.WORKER,
        launch_config_hash=node["launch_config_hash"] or "",
    )
    # Stands for a NodeState whose maps keep their order.
    ray_node = types.SimpleNamespace(
        total_resources=amounts(node["total"]),
        available_resources=amounts(node["available"]),
        labels=node["labels"],
        dynamic_labels=node["dynamic_labels"],
        idle_duration_ms=node["idle_ms"] or 0,
    )
    return AutoscalerInstance(
        cloud_instance_id=node["instance_id"], ray_node=ray_node if running else None, im_instance=im_instance
    )


def request(wanted):
    message = autoscaler_pb2.ResourceRequest()
    for name, amount in wanted["resources"].items():
        message.resources_bundle[name] = amount
    for selector in wanted["selectors"]:
        label_selector = message.label_selectors.add()
        for constraint in selector["constraints"]:
            label_selector.label_constraints.add(
                label_key=constraint["key"],
                operator=OPERATOR[constraint["operator"]],
                label_values=constraint["values"],
            )
    for constraint in wanted["placement"]:
        placement = message.placement_constraints.add()
        ((kind, label),) = constraint.items()
        field = placement.affinity if kind == "Affinity" else placement.anti_affinity
        field.label_name = label["label"]
        field.label_value = label["value"]
    return message


def by_count(classes):
    return [
        autoscaler_pb2.ResourceRequestByCount(request=request(entry["request"]), count=entry["count"])
        for entry in classes
    ]


def gang(position, wanted):
    """Ray sends the bundles in two forms; the older one is read where the newer one is missing."""
    message = autoscaler_pb2.GangResourceRequest(details=str(position))
    bundles = [request(bundle) for bundle in wanted["bundles"]]
    message.requests.extend(bundles)
    if position % 2 == 0:
        message.bundle_selectors.add().resource_requests.extend(bundles)
    return message


def resize(snapshot):
    """The in-place resize bounds of groups, and what is known of pods."""
    specs = {}
    for group in snapshot["node_types"]:
        bounds = group["resize"]
        if bounds:
            specs[group["name"]] = IPPRGroupSpec(
                min_cpu=bounds["min_cpu"],
                max_cpu=bounds["max_cpu"],
                min_memory=bounds["min_memory"],
                max_memory=bounds["max_memory"],
                resize_timeout=bounds["timeout_ms"] // 1000,
            )
    statuses = {}
    for node in snapshot["nodes"]:
        pod = node["resize"]
        if pod and node["group"] in specs:
            desired = [pod["desired_cpu"], pod["desired_memory"]]
            known = any(value is not None for value in desired)
            statuses[node["instance_id"]] = IPPRStatus(
                cloud_instance_id=node["instance_id"],
                spec=specs[node["group"]],
                current_cpu=pod["current_cpu"],
                current_memory=pod["current_memory"],
                desired_cpu=pod["current_cpu"] if desired[0] is None else desired[0],
                desired_memory=pod["current_memory"] if desired[1] is None else desired[1],
                resizing_at=1 if pod["in_progress"] and known else None,
                k8s_resize_status="inprogress" if pod["in_progress"] else None,
                suggested_max_cpu=pod["suggested_max_cpu"],
                suggested_max_memory=pod["suggested_max_memory"],
                last_failed_at=1 if pod["failed"] else None,
            )
    return IPPRSpecs(groups=specs) if specs else None, statuses


def clock(snapshot):
    now_s = seconds(snapshot["now_ms"])
    return types.SimpleNamespace(
        time=lambda: now_s, monotonic=lambda: now_s, time_ns=lambda: snapshot["now_ms"] * 1_000_000
    )


def scheduling_request(problem):
    snapshot, settings = problem["snapshot"], problem["snapshot"]["settings"]
    availability = monitor.CloudResourceMonitor()
    failed_ms = problem["memory"]["allocation_failed_ms"]
    availability._last_unavailable_timestamp = {group: seconds(ms) for group, ms in failed_ms.items()}
    ippr_specs, ippr_statuses = resize(snapshot)
    return scheduler.SchedulingRequest(
        disable_launch_config_check=not settings["terminate_outdated"],
        node_type_configs=node_types(snapshot),
        max_num_nodes=settings["max_nodes"],
        idle_timeout_s=seconds(settings["idle_timeout_ms"]),
        pending_idle_timeout_s=seconds(settings["pending_idle_timeout_ms"]),
        resource_requests=by_count(snapshot["demand"]),
        gang_resource_requests=[gang(at, wanted) for at, wanted in enumerate(snapshot["gangs"])],
        cluster_resource_constraints=[
            autoscaler_pb2.ClusterResourceConstraint(resource_requests=by_count(constraint["requests"]))
            for constraint in snapshot["constraints"]
        ],
        current_instances=[instance(node) for node in snapshot["nodes"]],
        cloud_resource_availabilities=availability.get_resource_availabilities(),
        recoverable_resource_availabilities=availability.get_recoverable_resource_availabilities(),
        ippr_specs=ippr_specs,
        ippr_statuses=ippr_statuses,
    )


def answer(problem):
    settings = problem["snapshot"]["settings"]
    scheduler.time = monitor.time = clock(problem["snapshot"])
    scheduler.AUTOSCALER_CONSERVE_GPU_NODES = settings["conserve_gpu_nodes"]
    monitor.RAY_AUTOSCALER_AVAILABILITY_RECOVERY_S = settings["availability_recovery_ms"] // 1000
    planner = scheduler.ResourceDemandScheduler()
    unneeded_ms = problem["memory"]["pending_unneeded_since_ms"]
    planner._pending_unneeded_since_s = {group: [seconds(ms) for ms in times] for group, times in unneeded_ms.items()}
    asked = scheduling_request(problem)
    reply = planner.schedule(asked)

    # Identical requests are told apart by nobody: they count for the first of them.
    positions = {}
    for at, entry in enumerate(asked.resource_requests):
        positions.setdefault(entry.request.SerializeToString(deterministic=True), at)
    left = collections.Counter(
        positions[entry.SerializeToString(deterministic=True)] for entry in reply.infeasible_resource_requests
    )
    return {
        "launch": {launch.instance_type: launch.count for launch in reply.to_launch},
        "terminate": {end.instance_id: CAUSE[end.cause] for end in reply.to_terminate},
        "resize": {pod.cloud_instance_id: [pod.desired_cpu, pod.desired_memory] for pod in reply.to_ippr},
        "tasks_left": left,
        "gangs_left": [int(gang.details) for gang in reply.infeasible_gang_resource_requests],
        "constraints_left": [0 for _ in reply.infeasible_cluster_resource_constraints],
        "pending_unneeded_since_ms": {
            group: [round(since * 1000) for since in times] for group, times in planner._pending_unneeded_since_s.items()
        },
    }


def main():
    print(ray.__version__, flush=True)
    for line in sys.stdin:
        try:
            result = {"plan": answer(json.loads(line))}
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
