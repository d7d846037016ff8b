#!/usr/bin/env python3
"""Writes LINES nginx "combined" lines of about 230 bytes to FILE; the same arguments give the same bytes.

    access_log.py LINES FILE
"""
import random
import sys
import time

AGENTS = ["Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.0.0 Safari/537.36",
          "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/%d.1 Safari/605.1.15",
          "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.0.0 Mobile Safari/537.36",
          "Mozilla/5.0 (iPhone; CPU iPhone OS 17_%d like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"]
PATHS = ["/", "/login", "/cart", "/api/v1/items/%d", "/api/v1/users/%d/orders", "/api/v2/search?q=term%d&page=2",
         "/static/js/app.%d.js", "/img/p/%d.webp", "/product/%d?utm_source=mail"]
REFERRERS = ["-", "https://www.example.com/product/%d", "https://www.google.com/", "http://shop.example.org/cart?id=%d"]


def fill(rng, text):
    return text % rng.randrange(1, 200) if "%d" in text else text


def main():
    lines, path = int(sys.argv[1]), sys.argv[2]
    rng = random.Random(1)
    heads = [".".join(str(rng.randrange(1, 255)) for _ in range(4)) + " - - [" for _ in range(4000)]
    requests = ['] "%s %s HTTP/1.1" ' % (rng.choice(["GET"] * 4 + ["POST"]), fill(rng, rng.choice(PATHS))) for _ in range(4000)]
    tails = ['%d %d "%s" "%s"\n' % (rng.choice([200] * 8 + [304, 404, 500]), rng.randrange(100, 90000),
                                    fill(rng, rng.choice(REFERRERS)), fill(rng, rng.choice(AGENTS))) for _ in range(4000)]
    with open(path, "w") as out:
        for second in range(0, lines, 5000):
            stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(1767225600 + second // 5000))
            out.write("".join(rng.choice(heads) + stamp + rng.choice(requests) + rng.choice(tails)
                              for _ in range(min(5000, lines - second))))


main()
