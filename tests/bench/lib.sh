# Shared by ./agent and ./indexer: a folder, a broker of their own, the input, the table.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."

LINES_ALL="${LINES_ALL:-1000000}" # lines of the input
ROUNDS="${ROUNDS:-2}"             # the programs take turns, in one go
PARTITIONS=6
work="$(mktemp -d "${TMPDIR:-/tmp}/tailrace-bench-XXXXXX")"
export STACK_HOME="$work/stack" STACK_JARS="${STACK_JARS:-$PWD/.stack/jars}"
sink_pid=""

finish() {
  local code=$?
  trap - EXIT INT TERM
  if [ -n "$sink_pid" ]; then kill "$sink_pid" 2>/dev/null || true; fi
  deploy/stack/kafka down >/dev/null || true
  if [ "$code" = 0 ]; then rm -rf "$work"; else rm -rf "$work/stack" "$work/access.log"; echo "logs: $work" >&2; fi
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

prepare() { # the program as it is shipped, a broker, the input
  echo "building with the release profile" >&2
  cargo build --locked --quiet --release --package tailrace --package tests
  tailrace="${CARGO_TARGET_DIR:-$PWD/target}/release/tailrace"
  read -r KAFKA_PORT sink_port < <(deploy/stack/ports 2)
  export KAFKA_PORT
  deploy/stack/kafka up >"$work/kafka.log"
  broker="127.0.0.1:$KAFKA_PORT"
  echo "writing $LINES_ALL lines" >&2
  python3 tests/bench/access_log.py "$LINES_ALL" "$work/access.log"
  echo "$LINES_ALL lines of $(($(stat -c %s "$work/access.log") / LINES_ALL)) bytes; $(nproc) processors, $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)"
  "$tailrace" --version
  rsyslogd -v | head -1
  kcat -V 2>&1 | grep -i 'version' | head -1
}

topic() { # topic NAME: a fresh one
  deploy/stack/kafka tool TopicCommand --bootstrap-server "$broker" --create --topic "$1" --partitions "$PARTITIONS" >/dev/null
}

table() { # table FILE: median of the rounds, one line per program, in the order of the first round
  python3 - "$1" <<'PY'
import json, statistics, sys
rows = {}
for line in open(sys.argv[1]):
    row = json.loads(line)
    rows.setdefault(row["name"], []).append(row)
print("\n| program | CPU µs each | wall each/s | peak RSS MB | first after s | complete |\n|---|---|---|---|---|---|")
for name, rounds in rows.items():
    def mid(key):
        values = [r[key] for r in rounds if r[key] is not None]
        return statistics.median(values) if values else None
    def span(key):
        values = sorted(r[key] for r in rounds if r[key] is not None)
        return "–".join(dict.fromkeys("%g" % v for v in (values[0], values[-1]))) if values else "-"
    done = "yes" if all(r["complete"] for r in rounds) else "NO: %s" % [r["done"] for r in rounds]
    print("| %s | %s | %d | %s | %s | %s |" % (name, span("cpu_us"), mid("per_s"), span("rss_mb"), span("first_s"), done))
PY
}
