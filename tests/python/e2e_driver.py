"""Work for `cargo xtask e2e`, run as a Ray job: says what happens, one line each; the last line is a JSON object.

Tasks wait for each other, so that none is done before all have a node.
"""

import json
import sys
import time
import uuid

import ray
from ray.experimental import internal_kv as kv
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

NAMESPACE = b"mobula-e2e"


@ray.remote
def work(meeting, who, of):
    """Works until all have come; tells where it ran and on which GPUs.

    They meet in the GCS, not by an actor: a task that waits in `ray.get` gives its CPU to others.
    """
    kv._internal_kv_put(f"{meeting}/{who}", "here", namespace=NAMESPACE)
    while len(kv._internal_kv_list(f"{meeting}/", namespace=NAMESPACE)) < of:
        time.sleep(0.2)
    context = ray.get_runtime_context()
    return context.get_node_id(), context.get_accelerator_ids().get("GPU", [])


def run(needs):
    """Runs one task for each of these needs, all at once."""
    meeting = uuid.uuid4().hex
    return ray.get([work.options(**need).remote(meeting, who, len(needs)) for who, need in enumerate(needs)])


def tasks(cpu, gpu):
    device = {"num_cpus": 0, "num_gpus": 1, "resources": {"rdma/hca": 1}}
    print(f"asks for {cpu} tasks of 1 CPU and {gpu} of 1 GPU with RDMA", flush=True)
    done = run([{"num_cpus": 1}] * cpu + [device] * gpu)
    nodes = len({node for node, _ in done})
    print(f"{len(done)} tasks have run at once, on {nodes} nodes", flush=True)
    return {"tasks": len(done), "nodes": nodes, "with_gpu": sum(1 for _, gpus in done if gpus)}


def gang(size):
    print(f"asks for a placement group: {size} bundles of 1 GPU with RDMA, STRICT_SPREAD", flush=True)
    group = placement_group([{"GPU": 1, "rdma/hca": 1}] * size, strategy="STRICT_SPREAD")
    ray.get(group.ready())
    print("the placement group has its nodes", flush=True)
    place = [PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index) for index in range(size)]
    done = run([{"num_cpus": 0, "num_gpus": 1, "scheduling_strategy": bundle} for bundle in place])
    remove_placement_group(group)
    nodes = len({node for node, _ in done})
    print(f"{len(done)} tasks have run in it at once, on {nodes} nodes", flush=True)
    return {"tasks": len(done), "nodes": nodes, "with_gpu": sum(1 for _, gpus in done if gpus)}


def main():
    ray.init(log_to_driver=False, logging_level="warning")
    results = {}
    for word in sys.argv[1:]:
        what, *numbers = word.split(",")
        results[what] = {"tasks": tasks, "gang": gang}[what](*map(int, numbers))
    print(json.dumps(results), flush=True)


if __name__ == "__main__":
    main()
