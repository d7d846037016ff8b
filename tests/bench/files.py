#!/usr/bin/env python3
"""Many files: what idle ones cost, and how long it takes until every active one has moved on. Started by ./files.

    files.py AGENT CONFIG FOLDER BROKER TOPIC PARTITIONS FILES ACTIVE

Writes FILES files of two lines, starts the agent with `ulimit -n 1024`, waits until all lines are in TOPIC and SETTLE_S seconds
more (a file that grew is looked at closely for 6 s), watches it idle for IDLE_S seconds, then appends a line to ACTIVE of them
three times. One JSON line; `rss_idle_mb` is what it has after that idle time, `rss_peak_mb` the most it ever had.
"""
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time

from measure import cpu_s, in_topic, rss_mb

SETTLE_S = float(os.environ.get("SETTLE_S", "10"))
IDLE_S = float(os.environ.get("IDLE_S", "30"))
LIMIT_S = float(os.environ.get("LIMIT_S", "120"))


def wait_for(count, lines):
    begun = time.monotonic()
    while count() < lines:
        if time.monotonic() - begun > LIMIT_S:
            sys.exit("only %d of %d lines after %d s" % (count(), lines, LIMIT_S))
        time.sleep(0.02)
    return time.monotonic() - begun


def rss_now_mb(pid):
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) * 1024 / 1e6


def main():
    agent, config, folder, broker, topic, partitions, files, active = sys.argv[1:]
    files, active = int(files), int(active)
    paths = [os.path.join(folder, "%02d" % (n % 100), "app-%05d.log" % n) for n in range(files)]
    for n in range(100):
        os.makedirs(os.path.join(folder, "%02d" % n), exist_ok=True)
    for path in paths:
        with open(path, "w") as f:
            f.write("first line of %s\nsecond line\n" % path)
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
    process = subprocess.Popen([agent, "agent", "-c", config], stderr=open(config + ".log", "wb"), preexec_fn=limit)
    try:
        count = lambda: in_topic(broker, topic, int(partitions))
        all_s = wait_for(count, 2 * files)
        time.sleep(SETTLE_S)
        before, begun = cpu_s({process.pid}), time.monotonic()
        time.sleep(IDLE_S)
        idle = (cpu_s({process.pid}) - before) / (time.monotonic() - begun)
        rss_idle = rss_now_mb(process.pid)
        slowest, lines = 0, 2 * files
        for round in range(3):
            for path in paths[:: max(1, files // active)][:active]:
                with open(path, "a") as f:
                    f.write("line of round %d\n" % round)
            lines += active
            slowest = max(slowest, wait_for(count, lines))
        print(json.dumps({
            "files": files, "active": active, "all_shipped_s": round_to(all_s), "idle_cpu_percent": round_to(100 * idle),
            "slowest_round_s": round_to(slowest), "rss_idle_mb": round_to(rss_idle),
            "rss_peak_mb": round_to(rss_mb({process.pid})),
        }))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def round_to(value):
    return round(value, 2)


if __name__ == "__main__":
    main()
