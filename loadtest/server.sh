# Sourced by the run-*.sh scripts: a server with a configuration of its own, on free ports, that ends with the script.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${SECONDS_EACH:-5}
connections=${CONNECTIONS:-64}
work=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" || true; fi; rm -rf "$work"' EXIT
command -v wrk >/dev/null || { echo "wrk is missing: apt-get install wrk" >&2; exit 69; }
ulimit -n "$(ulimit -Hn)"

make_files() {
    mkdir -p "$work/site"
    for bytes in 128 1024 16384 1048576; do
        head -c "$bytes" /dev/zero | tr '\0' x >"$work/site/$bytes"
    done
}

# start CONFIGURATION: builds, starts on processor 0, waits until it is ready
start() {
    printf '%s\n' "$1" >"$work/netlab.toml"
    cargo build --release --quiet
    taskset -c 0 target/release/netlab-reactor -q --config "$work/netlab.toml" >"$work/out" &
    server=$!
    for _ in $(seq 100); do
        grep -qx ready "$work/out" && return
        kill -0 "$server" 2>/dev/null || exit 1
        sleep 0.1
    done
    echo "not ready after ten seconds" >&2
    exit 1
}

# address KIND: where that listener is
address() {
    awk -v kind="$1" '$1 == "listening" && $2 == kind { print $3; exit }' "$work/out"
}

# load TITLE ARGUMENT…: wrk from the last processor
load() {
    printf '\n== %s\n' "$1"
    shift
    taskset -c "$(($(nproc) - 1))" timeout $((seconds + 30)) \
        wrk -t1 -c"$connections" -d"${seconds}s" --latency --timeout 5s "$@"
}
