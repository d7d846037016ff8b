#!/usr/bin/env python3
"""Starts one program, waits until it has done its work, and tells what that cost: processor time, memory, time to the first record.

    measure.py agent   NAME LINES BROKER TOPIC PARTITIONS -- COMMAND...     done when TOPIC holds LINES records
    measure.py acknowledged NAME LINES METRICS            -- COMMAND...     done when the agent says that LINES are acknowledged
    measure.py indexer NAME LINES SINK                    -- COMMAND...     done when the null sink counted LINES documents

One JSON line. Processor time is that of the whole process tree, as wall time on a shared machine says little.
"""
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

LIMIT_S = float(os.environ.get("LIMIT_S", "180"))
LOOK_EVERY_S = 0.02
ASK_EVERY_S = 0.1  # Each question costs the agent a page of metrics.


def tree(root):
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open("/proc/%s/stat" % entry) as f:
                    parents[int(entry)] = int(f.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                pass
    found, grew = {root}, True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found, grew = found | more, bool(more)
    return found


def cpu_s(pids):
    ticks = 0
    for pid in pids:
        try:
            with open("/proc/%d/stat" % pid) as f:
                ticks += sum(map(int, f.read().rsplit(")", 1)[1].split()[11:15]))
        except OSError:
            pass
    return ticks / os.sysconf("SC_CLK_TCK")


def rss_mb(pids):
    total = 0
    for pid in pids:
        try:
            with open("/proc/%d/status" % pid) as f:
                total += int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1)) * 1024
        except (OSError, AttributeError):
            pass
    return total / 1e6


def in_topic(broker, topic, partitions):
    """Records in the topic, by watermarks. kcat costs little and none of it is charged to the program under test."""
    command = ["kcat", "-b", broker, "-Q"]
    for partition in range(partitions):
        command += ["-t", "%s:%d:-1" % (topic, partition)]
    answer = subprocess.run(command, capture_output=True, text=True)
    return sum(int(n) for n in re.findall(r"offset (\d+)", answer.stdout))


def acknowledged(address):
    try:
        with urllib.request.urlopen("http://%s/metrics" % address) as answer:
            found = re.findall(r"^tailrace_agent_events_acknowledged_total\{.*\} (\d+)", answer.read().decode(), re.M)
    except OSError:
        return 0  # It does not listen yet.
    return sum(map(int, found))


def in_sink(sink):
    with urllib.request.urlopen(sink + "/stats") as answer:
        return json.load(answer)


def main():
    kind, name, lines = sys.argv[1], sys.argv[2], int(sys.argv[3])
    split = sys.argv.index("--")
    where, command = sys.argv[4:split], sys.argv[split + 1:]
    every = LOOK_EVERY_S
    if kind == "acknowledged":
        count, every = lambda: acknowledged(where[0]), ASK_EVERY_S
    elif kind == "agent":
        count = lambda: in_topic(where[0], where[1], int(where[2]))
    else:
        urllib.request.urlopen(where[0] + "/reset").read()
        count = lambda: in_sink(where[0])["docs"]
    log = open(os.environ.get("LOG", "/dev/null"), "ab")
    begun, first = time.monotonic(), None
    wall = time.time()
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    done, ended = 0, None
    while done < lines and time.monotonic() - begun < LIMIT_S:
        done = count()
        if done and first is None:
            first = time.monotonic() - begun
        if ended is None:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                ended = usage  # kcat ends by itself, having delivered all: one more count sees it.
                process.returncode = os.waitstatus_to_exitcode(status)
        elif done < lines:
            break
        if done < lines:
            time.sleep(every)
    took = time.monotonic() - begun
    if ended is None:
        pids = tree(process.pid)
        used, memory = cpu_s(pids), rss_mb(pids)
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    else:
        used, memory = ended.ru_utime + ended.ru_stime, ended.ru_maxrss * 1024 / 1e6
    if kind == "indexer" and done:
        first = max(in_sink(where[0])["first_ms"] / 1000 - wall, 0)
    print(json.dumps({
        "name": name, "done": done, "complete": done >= lines, "wall_s": round(took, 2), "first_s": first and round(first, 3),
        "per_s": int(done / took), "cpu_s": round(used, 2), "cpu_us": round(used / done * 1e6, 2) if done else None,
        "rss_mb": round(memory, 1)}))


if __name__ == "__main__":
    main()
