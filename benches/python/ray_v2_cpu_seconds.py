"""Times Ray's own v2 scheduler.

Reads problems as `tests/python/ray_v2_oracle.py` does, one JSON object a line. Writes one JSON object a line: the launches that
Ray decides on, and the CPU seconds of the call of its scheduler alone: reading the problem is not counted.
"""

import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests/python"))

import ray_v2_oracle as oracle

for line in sys.stdin:
    problem = json.loads(line)
    oracle.scheduler.time = oracle.monitor.time = oracle.clock(problem["snapshot"])
    asked = oracle.scheduling_request(problem)
    scheduler = oracle.scheduler.ResourceDemandScheduler()
    start_s = time.process_time()
    reply = scheduler.schedule(asked)
    cpu_s = time.process_time() - start_s
    launch = {entry.instance_type: entry.count for entry in reply.to_launch}
    print(json.dumps({"launch": launch, "cpu_s": cpu_s}), flush=True)
