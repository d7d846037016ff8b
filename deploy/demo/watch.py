#!/usr/bin/env python3
"""Follows a demo: a line a second, then a table from the search node, then the audit of every single line.

    watch.py FOLDER SEARCH AGENT INDEXER      (the last three are URLs; KEEP=1 follows until ctrl-C)

Exit status 1 if a line is missing or stands in the index twice.
"""
import collections
import json
import os
import re
import signal
import sys
import time
import urllib.error
import urllib.request

FOLDER, SEARCH, AGENT, INDEXER = sys.argv[1:5]
INDEX = "logs-nginx-demo"
SECONDS = 60
DRAIN_S = 60
BAR = 40


def ask(path, body=None, base=SEARCH, method=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def metric(base, name):
    """The sum of a metric's samples; 0 while the process is not up."""
    try:
        with urllib.request.urlopen(base + "/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return 0
    return int(sum(float(v) for v in re.findall(r"^%s(?:\{.*\})? (\S+)$" % name, text, re.M)))


def documents():
    try:
        return ask("/%s/_count" % INDEX)["count"]
    except (OSError, KeyError):
        return 0  # No index before the first document.


def traffic():
    try:
        with open(os.path.join(FOLDER, "traffic.json")) as f:
            return json.load(f)
    except OSError:
        return {"lines": 0, "rotations": 0, "done": False}


def running(name):
    with open(os.path.join(FOLDER, "pids", name)) as f:
        pid = int(f.read())
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def follow(ended):
    print("  time  renames      lines   in Kafka  documents      lag  documents/s")
    begun, before = time.monotonic(), 0
    while not ended and (os.environ.get("KEEP") == "1" or time.monotonic() - begun < SECONDS):
        for name in ("agent", "indexer"):
            if not running(name):
                sys.exit("error: the %s ended, see .demo/%s.log" % (name, name))
        state, found = traffic(), documents()
        in_kafka = metric(AGENT, "tailrace_agent_events_acknowledged_total")
        print("%5ds %8d %10d %10d %10d %8d %12d" % (time.monotonic() - begun, state["rotations"], state["lines"], in_kafka,
                                                    found, max(in_kafka - found, 0), found - before), flush=True)
        before = found
        time.sleep(1 - (time.monotonic() - begun) % 1)


def drain():
    """Ends the traffic and waits until its last line is in the index, or time is up."""
    with open(os.path.join(FOLDER, "pids", "traffic")) as f:
        os.kill(int(f.read()), signal.SIGTERM)
    begun = time.monotonic()
    while time.monotonic() - begun < DRAIN_S:
        state = traffic()
        if state["done"] and documents() >= state["lines"]:
            break
        time.sleep(0.1)
    return traffic()["lines"]


def bar(count, most):
    return "#" * max(1, round(BAR * count / most)) if count else ""


def table():
    answer = ask("/%s/_search" % INDEX, {"size": 0, "track_total_hits": True, "aggs": {
        "status": {"terms": {"field": "http.response.status_code", "size": 20, "order": {"_key": "asc"}}},
        "paths": {"terms": {"field": "url.original", "size": 10}},
        "minutes": {"date_histogram": {"field": "@timestamp", "fixed_interval": "1m"}}}})["aggregations"]
    print("\nStatus codes")
    for row in answer["status"]["buckets"]:
        print("  %-8s %8d" % (row["key"], row["doc_count"]))
    print("\nTop paths")
    for row in answer["paths"]["buckets"]:
        print("  %-28s %8d" % (row["key"], row["doc_count"]))
    print("\nRequests per minute (UTC)")
    rows = answer["minutes"]["buckets"]
    most = max([row["doc_count"] for row in rows], default=1)
    for row in rows:
        print("  %s %8d %s" % (row["key_as_string"][11:16], row["doc_count"], bar(row["doc_count"], most)))
    return all(answer[part]["buckets"] for part in answer)


def audit(lines):
    """Reads every document back and looks for every line by its number."""
    ask("/%s/_refresh" % INDEX, method="POST")
    page = ask("/%s/_search?scroll=1m" % INDEX, {"size": 5000, "sort": ["_doc"]})
    seen = collections.Counter()
    unknown = 0
    while page["hits"]["hits"]:
        for hit in page["hits"]["hits"]:
            rid = re.search(r"\?rid=(\d+)", json.dumps(hit["_source"]))
            if rid:
                seen[int(rid.group(1))] += 1
            else:
                unknown += 1
        page = ask("/_search/scroll", {"scroll": "1m", "scroll_id": page["_scroll_id"]})
    missing = [n for n in range(lines) if not seen[n]]
    double = [n for n, copies in seen.items() if copies > 1]
    strange = [n for n, copies in seen.items() if copies and n >= lines]
    print("\nAudit, line by line")
    print("  lines written  %8d\n  documents      %8d\n  missing        %8d %s\n  duplicates     %8d %s" % (
        lines, sum(seen.values()) + unknown, len(missing), missing[:10] or "", len(double), double[:10] or ""))
    good = not (missing or double or strange or unknown)
    print("  every line is one document" if good else "  NOT GOOD: %d without a number, %d never written" % (unknown, len(strange)))
    return good


def main():
    ended = []
    signal.signal(signal.SIGINT, lambda *_: ended.append(True))
    follow(ended)
    lines = drain()
    print("\nThe traffic has ended: %d lines. From the search node:" % lines)
    shown = table()
    good = audit(lines)
    if not shown:
        print("  NOT GOOD: the search node knows no status codes, paths or times; were the lines parsed?")
    if os.environ.get("KEEP") != "1":
        print("\nKEEP=1 make demo runs on until ctrl-C.")
    sys.exit(0 if good and shown else 1)


main()
