"""The same triplets from a Ray cluster as from this process, also when a worker is killed.

    python benchmarks/mine_cluster.py FOLDER --out scratch/ [--kill]

Starts a local Ray cluster of one head without CPUs and two worker processes (nodes) of one CPU
each, mines FOLDER on it through `--engine ray --address`, and once in this process; compares
keys, images and instructions. With --kill one of the two nodes is killed with SIGKILL while the
run is under way, and another one started. Needs the extra `ray`.
"""

import argparse
import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from lensctl_training.data.shards import read_triplets
from lensctl_training.mining.config import MineConfig, PageLimits
from lensctl_training.mining.engine import InProcess, open_engine
from lensctl_training.mining.pipeline import run_pipeline
from lensctl_training.mining.workspace import Workspace

HOST, PORT = "127.0.0.1", 6399
CONFIG = MineConfig(pages=PageLimits(pages_per_part=10, site_parts=8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kill", action="store_true")
    arguments = parser.parse_args()
    started = time.monotonic()
    run_pipeline([arguments.folder], arguments.out / "here", CONFIG, InProcess())
    print(f"in process: {time.monotonic() - started:.0f} s")
    cluster = Cluster()
    try:
        cluster.start()
        if arguments.kill:
            threading.Thread(
                target=cluster.kill_when, args=(arguments.out / "ray" / "work" / "pages",)
            ).start()
        started = time.monotonic()
        engine = open_engine("ray", f"{HOST}:{PORT}")
        run_pipeline([arguments.folder], arguments.out / "ray", CONFIG, engine)
        print(f"on Ray: {time.monotonic() - started:.0f} s, nodes killed: {cluster.killed}")
    finally:
        cluster.stop()
    compare(arguments.out / "here", arguments.out / "ray")


class Cluster:
    """A head and two nodes on this machine, each a process group of its own."""

    def __init__(self) -> None:
        self.groups: list[subprocess.Popen[bytes]] = []
        self.killed = 0

    def start(self) -> None:
        self._ray("--head", f"--port={PORT}", "--num-cpus=0", "--include-dashboard=false")
        wait_for_port(PORT)
        for _ in range(2):
            self.add_node()

    def add_node(self) -> None:
        """Start a worker node and wait for it: nodes that start at once take each other's ports."""
        self._ray(f"--address={HOST}:{PORT}", "--num-cpus=1")
        wait_for_nodes(len(self.groups) - self.killed)

    def kill_when(self, folder: Path) -> None:
        """Kill a node once the first parts of a stage are there, and start another."""
        while len(list(folder.glob("[!.]*"))) < 2:
            time.sleep(0.05)
        os.killpg(self.groups[-1].pid, signal.SIGKILL)
        self.killed += 1
        self.add_node()

    def stop(self) -> None:
        import ray

        ray.shutdown()  # a driver that loses its cluster ends the process
        for group in reversed(self.groups):
            with contextlib.suppress(ProcessLookupError):  # the one that was killed
                os.killpg(group.pid, signal.SIGKILL)
            group.wait()

    def _ray(self, *arguments: str) -> None:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", *arguments]
        limit = ("--object-store-memory=200000000", f"--node-ip-address={HOST}")
        self.groups.append(
            subprocess.Popen(
                [*command, *limit],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )


def wait_for_port(port: int, seconds: float = 120.0) -> None:
    """Until something listens there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.5)
    sys.exit(f"nothing listens on port {port}")


def wait_for_nodes(number: int, seconds: float = 120.0) -> None:
    """Until the cluster counts so many nodes, its head among them."""
    ask = [str(Path(sys.executable).with_name("ray")), "status", f"--address={HOST}:{PORT}"]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        said = subprocess.run(ask, capture_output=True, text=True, check=False).stdout
        active = said.partition("Active:")[2].partition("Pending:")[0]
        if active.count("node_") >= number:
            return
        time.sleep(1)
    sys.exit(f"the cluster has fewer than {number} nodes")


def compare(one: Path, other: Path) -> None:
    """Print how many triplets both have, and whether they are the same."""
    first, second = contents(one), contents(other)
    shared = sum(second.get(key) == value for key, value in first.items())
    print(f"triplets in process: {len(first)}, on Ray: {len(second)}, the same: {shared}")
    written = sum(1 for _ in read_triplets(other))
    print(f"written twice: {written - len(second)}")
    left = [p for p in Workspace(other).folder.glob("*/.*") if p.is_dir()]
    print(f"leftovers of killed workers: {len(left)}")
    if first != second or written != len(second):
        sys.exit("the two runs differ")


def contents(out: Path) -> dict[str, str]:
    """Key -> a hash of instruction and both images."""
    return {
        t.key: hashlib.sha256(t.query + t.target + t.instruction.encode()).hexdigest()
        for t in read_triplets(out)
    }


if __name__ == "__main__":
    main()
