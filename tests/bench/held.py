"""Ships a file without a plan, alone and beside one that its plan holds, in turns; compares how long that takes.

usage: held.py TAILRACE FOLDER BROKER TOPIC METRICS_PORT LINES PAIRS
Prints each time and the medians. Fails if the median beside a held input is more than 5 % longer.
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


def run(is_beside):
    """Seconds from the first acknowledged byte of the other file to its last, and what passed of the held one."""
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
                return now - begun, acknowledged(held) if is_beside else 0
            time.sleep(LOOK_S)
        sys.exit("not within %d s" % LIMIT_S)
    finally:
        agent.terminate()
        agent.wait(30)


alone, beside = [], []
for _ in range(int(pairs)):
    alone.append(run(False)[0])
    took, passed = run(True)
    beside.append(took)
    print("alone %.2f s, beside a held input %.2f s, of which %.2f MB passed" % (alone[-1], took, passed / 1e6))
    if passed > 1e6 + 1e5 * (took + 5):
        sys.exit("the held input was not held")
slower = statistics.median(beside) / statistics.median(alone) - 1
print("%s lines: median alone %.2f s, beside %.2f s: %+.1f %%" % (lines, statistics.median(alone), statistics.median(beside), 100 * slower))
sys.exit(0 if slower <= 0.05 else 1)
