#!/usr/bin/env python3
"""Writes an nginx access log as a small shop would: first the ten minutes before the demo, then live until SIGTERM.

    traffic.py FOLDER

Renames logs/access.log to access.log.1 (and .1 to .2 ...) every 15 seconds, without stopping. Each line's referrer carries
rid=NUMBER, counted from 0, so that every single line can be looked for in the index. FOLDER/traffic.json tells the number.
"""
import json
import math
import os
import random
import signal
import sys
import time

ROTATE_EVERY_S = 15
LIVE_PER_S = 400
PATHS = (["/"] * 14 + ["/index.html"] * 4 + ["/product/%d"] * 22 + ["/cart"] * 7 + ["/checkout"] * 3 + ["/login"] * 4 +
         ["/api/v1/items/%d"] * 14 + ["/api/v1/search"] * 8 + ["/static/js/app.js"] * 9 + ["/static/css/site.css"] * 9 +
         ["/img/p/%d.webp"] * 12 + ["/healthz"] * 3 + ["/wp-login.php"])
STATUS = [200] * 780 + [304] * 90 + [301] * 15 + [302] * 20 + [404] * 55 + [403] * 8 + [499] * 8 + [500] * 10 + [502] * 8 + [503] * 6
METHODS = ["GET"] * 17 + ["POST"] * 2 + ["HEAD"]
AGENTS = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "curl/8.10.1", "kube-probe/1.31"]


class Log:
    def __init__(self, folder):
        self.path = os.path.join(folder, "logs", "access.log")
        self.state = os.path.join(folder, "traffic.json")
        self.rng = random.Random(1)
        self.lines = 0
        self.out = open(self.path, "ab")

    def line(self, when):
        rng = self.rng
        path = rng.choice(PATHS)
        if "%d" in path:
            path %= min(int(rng.paretovariate(0.9)), 400)  # A few products are seen by many.
        status = 404 if path == "/wp-login.php" else rng.choice(STATUS)
        size = 0 if status in (304, 499) else int(rng.lognormvariate(8, 1.2))
        address = "203.0.113.%d" % rng.randrange(1, 255) if rng.random() < 0.9 else "2001:db8::%x" % rng.randrange(1, 9999)
        stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(when))
        text = '%s - - [%s] "%s %s HTTP/1.1" %d %d "https://shop.example.com/?rid=%d" "%s"\n' % (
            address, stamp, rng.choice(METHODS), path, status, size, self.lines, rng.choice(AGENTS))
        self.lines += 1
        return text

    def write(self, when, count):
        self.out.write("".join(self.line(when) for _ in range(count)).encode())
        self.out.flush()

    def rotate(self):
        last = 1
        while os.path.exists("%s.%d" % (self.path, last)):
            last += 1
        for n in range(last, 1, -1):
            os.rename("%s.%d" % (self.path, n - 1), "%s.%d" % (self.path, n))
        os.rename(self.path, self.path + ".1")
        self.out.close()
        self.out = open(self.path, "ab")

    def tell(self, rotations, done):
        with open(self.state + ".new", "w") as f:
            json.dump({"lines": self.lines, "rotations": rotations, "done": done}, f)
        os.rename(self.state + ".new", self.state)


def main():
    log, ended = Log(sys.argv[1]), []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.append(True))
    begun = time.time()
    for ago in range(600, 0, -2):  # The ten minutes before, with a peak in the middle.
        log.write(begun - ago, int(30 + 50 * math.exp(-((ago - 280) / 90) ** 2)))
    rotations, rotated, written, live = 0, time.monotonic(), 0, time.monotonic()
    while not ended:
        now = time.monotonic()
        due = int((now - live) * LIVE_PER_S)
        if due > written:
            log.write(time.time(), due - written)
            written = due
        if now - rotated >= ROTATE_EVERY_S:
            log.rotate()
            rotations, rotated = rotations + 1, now
        log.tell(rotations, False)
        time.sleep(0.1)
    log.out.close()
    log.tell(rotations, True)


main()
