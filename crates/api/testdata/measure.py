"""Writes what the installed Ray derives from each group of groups.json into it: `python measure.py`, with Ray 2.60.0.

A group that Ray refuses gets `null`.
"""

import json
import logging
import pathlib

from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

logging.disable(logging.CRITICAL)
FILE = pathlib.Path(__file__).with_name("groups.json")
HEAD = {"rayStartParams": {"num-cpus": "0"}, "template": {"spec": {"containers": [{}]}}}


def derived(group):
    worker = {"groupName": "g", "minReplicas": 0, "maxReplicas": 3, **group}
    spec = {"headGroupSpec": HEAD, "workerGroupSpecs": [worker]}
    try:
        config = _derive_autoscaling_config_from_ray_cr({"metadata": {"name": "c", "namespace": "n"}, "spec": spec})
    except Exception:
        return None
    node_type = config["available_node_types"]["g"]
    return {key: node_type[key] for key in ("resources", "labels", "min_workers", "max_workers")}


cases = json.loads(FILE.read_text())
lines = [json.dumps({**case, "derived": derived(case["group"])}) for case in cases]
FILE.write_text("[\n" + ",\n".join(lines) + "\n]\n")
