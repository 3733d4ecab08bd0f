"""Plays the work of a scenario on a real Ray, at its times, and prints what became of it as one JSON document.

Arguments: address of the GCS, address of this node, a file with the steps, when the scenario began (Unix time), its horizon in seconds.
"""

import json
import sys
import threading
import time

import ray
from ray.util.placement_group import placement_group, remove_placement_group


@ray.remote(max_retries=-1)
def work(duration_s):
    """Works for so long; tells where, and when it began."""
    began = time.time()
    time.sleep(duration_s)
    return ray.get_runtime_context().get_node_id(), began


def options(needs):
    custom = {name: amount for name, amount in needs.items() if name not in ("CPU", "GPU")}
    return {"num_cpus": needs.get("CPU", 0), "num_gpus": needs.get("GPU", 0), "resources": custom}


def tasks(step, submitted, told):
    task = work.options(**options(step["needs"]))
    for node, began in ray.get([task.remote(step["duration"]) for _ in range(step.get("count", 1))]):
        told["tasks"].append({"wait_s": began - submitted, "began": began, "node": node})


def gang(step, submitted, told):
    strategy = step.get("strategy", "pack").upper().replace("-", "_")
    group = placement_group([step["needs"]] * step["bundles"], strategy=strategy)
    if not group.wait(timeout_seconds=3600):
        return
    told["gangs"].append({"wait_s": time.time() - submitted, "placed": time.time()})
    time.sleep(step["duration"])
    remove_placement_group(group)


def play(step, began, told):
    time.sleep(max(0, began + step["at"] - time.time()))
    kind = {"tasks": tasks, "gang": gang}
    name = next(name for name in kind if name in step)
    kind[name](step[name], time.time(), told)


def main():
    address, ip, file, began, horizon_s = sys.argv[1:6]
    began, horizon_s = float(began), float(horizon_s)
    with open(file) as text:
        steps = json.load(text)
    ray.init(address=address, _node_ip_address=ip, log_to_driver=False, logging_level="warning")
    connected_s = time.time() - began
    first_s = min(step["at"] for step in steps)
    if connected_s > first_s:
        sys.exit(f"connected after {connected_s:.0f} s, but the first work comes after {first_s} s")
    told = {"began": began, "connected_s": connected_s, "tasks": [], "gangs": []}
    threads = [threading.Thread(target=play, args=(step, began, told), daemon=True) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0, began + horizon_s - time.time()))
    told["unfinished"] = sum(thread.is_alive() for thread in threads)
    # Connected until the end, as a simulated driver is.
    time.sleep(max(0, began + horizon_s - time.time()))
    print("@told " + json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
