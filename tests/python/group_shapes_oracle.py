"""What Ray's own autoscaler makes of RayClusters: one as JSON a line on standard input, one answer a line on standard output."""

import json
import logging
import sys

from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

KEPT = ("resources", "labels", "min_workers", "max_workers", "idle_timeout_s", "priority")

logging.disable(logging.CRITICAL)
for line in sys.stdin:
    try:
        groups = _derive_autoscaling_config_from_ray_cr(json.loads(line))["available_node_types"]
        answer = {"groups": {name: {key: group.get(key) for key in KEPT} for name, group in groups.items()}}
    except Exception as error:  # this is Ray's refusal
        answer = {"refused": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
