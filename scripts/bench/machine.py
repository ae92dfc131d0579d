"""What this machine can do: cores, peak arithmetic and memory bandwidth, measured by a small program before anything else."""
import json
import os
import platform
import subprocess


def describe(program):
    """program: build/bin/machine_bench"""
    with open("/proc/cpuinfo") as f:
        cpu = next((line.split(": ")[1].strip() for line in f if line.startswith("model name")), "unknown")
    measured = json.loads(subprocess.run([program], capture_output=True, text=True, check=True).stdout)
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "system": platform.platform(terse=True),
            "load": round(os.getloadavg()[0], 2), **measured}


def versions():
    from importlib.metadata import PackageNotFoundError, version

    out = {}
    for name in ("torch", "onnxruntime", "openvino"):
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            pass
    return out


def text(host):
    lines = [f"{host['cpu']}, {host['cores']} cores, {host['system']}, load {host['load']} before the run"]
    for threads in ("1", "2"):
        if threads in host["gflops"]:
            lines.append(f"{threads} thread{'s' * (threads != '1')}: {host['gflops'][threads]:.0f} GFLOP/s, "
                         f"reads {host['read_gbs'][threads]:.1f} GB/s, copies {host['copy_gbs'][threads]:.1f} GB/s")
    if "versions" in host:
        lines.append(", ".join(f"{name} {number}" for name, number in host["versions"].items()))
    return lines
