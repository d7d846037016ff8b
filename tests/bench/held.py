"""Ships a file without a plan, alone and beside one that its plan holds, in turns; compares how long that takes and what it costs.

usage: held.py TAILRACE FOLDER BROKER TOPIC METRICS_PORT LINES PAIRS
Prints each pair and the medians of what a pair gains: wall time says whether the other file waits, processor time (which the
machine's other work hardly touches) what the held one and its own lines cost. Fails if the other one's wall time is above 5 %.
"""
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import urllib.parse
import urllib.request

program, folder, broker, topic, port, lines, pairs = sys.argv[1:]
LINE = b"2026-11-23T00:00:00.000Z INFO a line of one hundred bytes, as good as any other in a log of that kind....\n"
LIMIT_S, LOOK_S = 120, 0.005
other, held, state, config = (os.path.join(folder, name) for name in ("other.log", "held.log", "held-state", "held.yaml"))
for path, count in ((other, int(lines)), (held, int(lines) // 2)):
    with open(path, "wb") as out:
        for _ in range(count // 1000):
            out.write(LINE * 1000)
size = os.path.getsize(other)


def acknowledged(path):
    page = "http://127.0.0.1:%s/files?path=%s" % (port, urllib.parse.quote(path))
    try:
        files = json.load(urllib.request.urlopen(page, timeout=5))
    except OSError:
        return 0
    return files[0]["acknowledged"] if files else 0


def cpu_s(pid):
    with open("/proc/%d/stat" % pid) as stat:
        return sum(map(int, stat.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")


def run(is_beside):
    """Seconds from the first acknowledged byte of the other file to its last, processor seconds, and what passed of the held one."""
    shutil.rmtree(state, ignore_errors=True)
    inputs = [{"id": "other", "type": "file", "paths": [other]}]
    if is_beside:
        inputs.append({"id": "held", "type": "file", "paths": [held]})
    plan = {"name": "hold", "match": {"input": ["held"]}, "rate": {"bytes": "100kB/s"}} if is_beside else None
    with open(config, "w") as out:
        json.dump({"name": "bench", "state_dir": state, "inputs": inputs, "limits": [plan] if plan else [],
                   "kafka": {"brokers": [broker], "topic": topic}, "metrics": {"listen": "127.0.0.1:" + port}}, out)
    agent = subprocess.Popen([program, "agent", "-c", config], stderr=open(config + ".log", "ab"))
    try:
        deadline, begun = time.monotonic() + LIMIT_S, None
        while time.monotonic() < deadline:
            count, now = acknowledged(other), time.monotonic()
            begun = begun or (now if count else None)
            if count == size:
                return now - begun, cpu_s(agent.pid), acknowledged(held) if is_beside else 0
            time.sleep(LOOK_S)
        sys.exit("not within %d s" % LIMIT_S)
    finally:
        agent.terminate()
        agent.wait(30)


walls, costs = [], []
for nth in range(int(pairs)):
    runs = {}
    for is_beside in (False, True) if nth % 2 == 0 else (True, False):
        runs[is_beside] = run(is_beside)
    (alone_s, alone_cpu, _), (beside_s, beside_cpu, passed) = runs[False], runs[True]
    walls.append(beside_s / alone_s - 1)
    costs.append(beside_cpu / alone_cpu - 1)
    print("alone %.2f s, %.2f s CPU; beside a held input %.2f s, %.2f s CPU, of which %.2f MB passed: %+.1f %%, CPU %+.1f %%"
          % (alone_s, alone_cpu, beside_s, beside_cpu, passed / 1e6, 100 * walls[-1], 100 * costs[-1]))
    if passed > 1e6 + 1e5 * (beside_s + 5):
        sys.exit("the held input was not held")
wall, cost = statistics.median(walls), statistics.median(costs)
print("%s lines, %d pairs: median %+.1f %% of wall time, %+.1f %% of CPU" % (lines, len(walls), 100 * wall, 100 * cost))
sys.exit(0 if wall <= 0.05 else 1)
