"""A cluster of Ray whose machines are this one: `python ray_cluster.py FOLDER N` says its address. It ends with stdin."""

import os
import sys

os.environ["TMPDIR"] = sys.argv[1]
os.makedirs(os.path.join(sys.argv[1], "ray"))  # where it writes its address

from ray._private import services  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

services.resolve_ip_for_localhost = lambda host: host
services.get_node_ip_address = lambda *given, **named: "127.0.0.1"

cluster = Cluster()
common = {
    "node_ip_address": "127.0.0.1",
    "object_store_memory": 80_000_000,
    "include_dashboard": False,
    "temp_dir": sys.argv[1],
}
cluster.add_node(num_cpus=0, **common)  # the one that the command is connected to
for _ in range(int(sys.argv[2])):
    cluster.add_node(num_cpus=1, **common)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
