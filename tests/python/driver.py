"""A Ray program that asks for work as it is told: one JSON object a line on standard input, one answer a line on standard output.

Work holds its resources until it is released by a file, so that a test decides how long it lasts.
"""

import json
import os
import sys
import time

import ray
from ray.autoscaler.sdk import request_resources
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy


@ray.remote(max_retries=-1)
def hold(release):
    """Holds what it was given until the file exists; tells on which node."""
    while not os.path.exists(release):
        time.sleep(0.05)
    return ray.get_runtime_context().get_node_id()


@ray.remote(num_cpus=0)
class Holder:
    """An actor that holds what it was given as long as it lives."""

    def node(self):
        return ray.get_runtime_context().get_node_id()


class Driver:
    """The commands, each a method that takes the members of the JSON object."""

    def __init__(self, directory):
        self.directory = directory
        self.work = {}
        self.groups = {}

    def options(self, need):
        options = {"num_cpus": need.get("CPU", 0), "num_gpus": need.get("GPU", 0)}
        custom = {name: amount for name, amount in need.get("resources", {}).items()}
        if custom:
            options["resources"] = custom
        for name in ("label_selector", "fallback_strategy"):
            if name in need:
                options[name] = need[name]
        if "group" in need:
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
                self.groups[need["group"]], placement_group_bundle_index=need.get("bundle", -1)
            )
        return options

    def release_file(self, name):
        return os.path.join(self.directory, f"release-{name}")

    def tasks(self, name, count, need):
        task = hold.options(**self.options(need))
        self.work[name] = [task.remote(self.release_file(name)) for _ in range(count)]

    def actors(self, name, count, need):
        actor = Holder.options(**self.options(need))
        self.work[name] = [actor.remote() for _ in range(count)]

    def actor_nodes(self, name, limit_s):
        return ray.get([actor.node.remote() for actor in self.work[name]], timeout=limit_s)

    def kill_actors(self, name):
        for actor in self.work.pop(name):
            ray.kill(actor)

    def release(self, name):
        open(self.release_file(name), "w").close()

    def results(self, name, limit_s):
        """Where the tasks ran. They must have been released."""
        return ray.get(self.work[name], timeout=limit_s)

    def cancel(self, name):
        for reference in self.work.pop(name):
            ray.cancel(reference, force=True)

    def group(self, name, bundles, strategy, **more):
        self.groups[name] = placement_group(bundles, strategy=strategy, **more)

    def group_nodes(self, name, limit_s):
        """Where the bundles are, once all have been placed."""
        if not self.groups[name].wait(timeout_seconds=limit_s):
            raise TimeoutError(f"placement group {name} was not placed within {limit_s} s")
        table = ray.util.placement_group_table(self.groups[name])
        return [table["bundles_to_node_id"][index] for index in sorted(table["bundles_to_node_id"])]

    def remove_group(self, name):
        remove_placement_group(self.groups.pop(name))

    def request(self, **what):
        request_resources(**what)


def main():
    address, ip, directory = sys.argv[1:4]
    ray.init(address=address, _node_ip_address=ip, log_to_driver=False, logging_level="warning")
    driver = Driver(directory)
    print("@answer 0 null", flush=True)
    for number, line in enumerate(sys.stdin, start=1):
        command = json.loads(line)
        try:
            answer = {"ok": getattr(driver, command.pop("do"))(**command)}
        except Exception as error:  # told to the test, which decides
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(f"@answer {number} {json.dumps(answer)}", flush=True)


if __name__ == "__main__":
    main()
