"""Writes half the plan's rate, ten times it for a while, and half again; samples what Kafka has acknowledged each second.

usage: limits.py TAILRACE CONFIG LOG METRICS_PORT RATE BURST_S SVG
Prints the figures and draws both curves. Fails if the average of any ten seconds during the burst is off by more than 2 %.
"""
import subprocess
import sys
import threading
import time
import urllib.request

program, config, log, port, rate, burst_s, svg = sys.argv[1:]
rate, burst_s = int(rate), int(burst_s)
BEFORE_S, AFTER_S, STEP_S = 10, 50, 0.05
LINE = b"2026-11-23T00:00:00.000Z INFO a line of one hundred bytes, as good as any other in a log of that kind....\n"
written = 0


def factor(at):
    return 10 if BEFORE_S <= at < BEFORE_S + burst_s else 0.5


def write():
    global written
    owed, last, begun = 0.0, time.monotonic(), time.monotonic()
    with open(log, "ab", buffering=0) as out:
        while (now := time.monotonic()) - begun < BEFORE_S + burst_s + AFTER_S:
            owed += rate * factor(now - begun) * (now - last)
            last, lines = now, int(owed // len(LINE))
            out.write(LINE * lines)
            owed -= lines * len(LINE)
            written += lines * len(LINE)
            time.sleep(STEP_S)


def acknowledged():
    try:
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    except OSError:
        return 0
    for line in page.splitlines():
        if line.startswith("tailrace_agent_bytes_acknowledged_total "):
            return float(line.split()[1])
    return 0


def draw(path, offered, sent):
    """Two curves over seconds. Units: MB/s and s."""
    width, height, left, bottom = 900, 320, 60, 40
    top = max(max(offered), max(sent)) * 1.05
    x = lambda at: left + at * (width - left - 20) / (len(offered) - 1)
    y = lambda value: height - bottom - value * (height - bottom - 20) / top
    line = lambda values, colour: '<polyline fill="none" stroke="%s" stroke-width="2" points="%s"/>' % (
        colour, " ".join("%.1f,%.1f" % (x(at), y(value)) for at, value in enumerate(values)))
    text = lambda at, to, what, anchor="middle": '<text x="%.0f" y="%.0f" text-anchor="%s">%s</text>' % (at, to, anchor, what)
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">' % (width, height),
             '<rect width="100%" height="100%" fill="white"/>']
    for mega in range(0, int(top / 1e6) + 1, max(1, int(top / 1e6 / 5))):
        at = y(mega * 1e6)
        parts.append('<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/>' % (left, width - 20, at, at))
        parts.append(text(left - 8, at + 4, "%d MB/s" % mega, "end"))
    for second in range(0, len(offered), 20):
        parts.append(text(x(second), height - bottom + 20, "%d s" % second))
    parts += [line(offered, "#c33"), line(sent, "#36c"),
              text(width - 30, 20, '<tspan fill="#c33">offered</tspan> and <tspan fill="#36c">sent</tspan>, plan %.1f MB/s' % (rate / 1e6), "end"), "</svg>"]
    with open(path, "w") as out:
        out.write("\n".join(parts) + "\n")


open(log, "wb").close()
agent = subprocess.Popen([program, "agent", "-c", config], stderr=open(config + ".log", "wb"))
try:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1)
            break
        except OSError:
            time.sleep(0.1)
    writer = threading.Thread(target=write)
    begun = time.monotonic()
    writer.start()
    samples = [(begun, 0, 0.0)]
    for second in range(1, BEFORE_S + burst_s + AFTER_S):
        time.sleep(max(0.0, begun + second - time.monotonic()))
        samples.append((time.monotonic(), written, acknowledged()))
    writer.join()
finally:
    agent.terminate()
    agent.wait(30)
rates = lambda field: [(b[field] - a[field]) / (b[0] - a[0]) for a, b in zip(samples, samples[1:])]
offered, sent = rates(1), rates(2)
draw(svg, offered, sent)
# From five seconds after the beginning of the burst, when what the bucket held is spent, the file is never read to its end.
flat = samples[BEFORE_S + 5:]
tens = [(b[2] - a[2]) / (b[0] - a[0]) / rate for a, b in zip(flat, flat[10:])]
ones = [value / rate for value in sent[BEFORE_S + 5:]]
print("plan %.2f MB/s; offered at most %.2f MB/s; written %.0f MB, sent %.0f MB" % (rate / 1e6, max(offered) / 1e6, samples[-1][1] / 1e6, samples[-1][2] / 1e6))
print("sent, as part of the plan: averages of 10 s %.4f to %.4f, single seconds %.3f to %.3f" % (min(tens), max(tens), min(ones), max(ones)))
print("drawn: %s" % svg)
sys.exit(0 if 0.98 <= min(tens) and max(tens) <= 1.02 else 1)
