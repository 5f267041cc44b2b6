#!/usr/bin/env bash
# 2,000 slow connections for 20 s in each mode of slowhttptest: is the server available throughout?
#   loadtest/slow.sh                 this server, built before with `cargo build --release`
#   loadtest/slow.sh nginx           nginx as Debian configures it (768 connections for each worker), for comparison
#   CLIENTS=5000 LENGTH=60 loadtest/slow.sh
# Exits 1 if it was not available in every mode. Needs slowhttptest (apt-get install slowhttptest).
set -euo pipefail
cd "$(dirname "$0")/.."
who=${1:-netlab-reactor}
clients=${CLIENTS:-2000}
length=${LENGTH:-20}
work=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" || true; fi; rm -rf "$work"' EXIT
command -v slowhttptest >/dev/null || { echo "slowhttptest is missing: apt-get install slowhttptest" >&2; exit 69; }
ulimit -n "$(ulimit -Hn)" # for the clients; the server raises its own

mkdir "$work/site"
echo '<p>index</p>' >"$work/site/index.html"
head -c 4194304 /dev/zero | tr '\0' x >"$work/site/large"

case $who in
netlab-reactor)
    printf '[[listener]]\nkind = "http"\nbind = "127.0.0.1:0"\nroot = "site"\nroutes = "probe"\n' >"$work/netlab.toml"
    (ulimit -Sn 1024 && exec "${BINARY:-target/release/netlab-reactor}" -q --config "$work/netlab.toml") >"$work/out" &
    server=$!
    for _ in $(seq 100); do
        grep -qx ready "$work/out" && break
        sleep 0.1
    done
    address=$(awk '$2 == "http" { print $3 }' "$work/out")
    ;;
nginx)
    address=127.0.0.1:18080
    cat >"$work/nginx.conf" <<CONF
user root;
worker_processes auto;
daemon off;
pid $work/nginx.pid;
error_log $work/error.log;
events { worker_connections 768; }
http {
    sendfile on;
    tcp_nopush on;
    types_hash_max_size 2048;
    include /etc/nginx/mime.types;
    access_log off;
    server { listen $address; root $work/site; }
}
CONF
    nginx -c "$work/nginx.conf" &
    server=$!
    sleep 1
    ;;
*)
    echo "usage: loadtest/slow.sh [netlab-reactor|nginx]" >&2
    exit 64
    ;;
esac
echo "$who at $address, $clients connections, $length s for each mode"

failed=0
# mode LETTER TITLE ARGUMENT…
mode() {
    local letter=$1 title=$2
    shift 2
    # Its table has a line for each second, from the beginning on; the last column is 0 while a probe waits in vain.
    slowhttptest "-$letter" -c "$clients" -r "$clients" -l "$length" -p 3 -g -o "$work/seconds" "$@" \
        >"$work/report" 2>&1 || true
    local yes no open left
    read -r yes no open < <(awk -F, -v last="$length" \
        'NR > 2 && $1 <= last { if ($5 > 0) yes++; else no++; open = $4 } END { print yes + 0, no + 0, open + 0 }' \
        "$work/seconds.csv")
    left="$open connections were open at the end"
    if grep -q 'No open connections left' "$work/report"; then left="then no connection was left"; fi
    echo "$title (\`-$letter\`): available in $yes of $((yes + no)) s, $left"
    if [ "$no" -gt 0 ] || [ "$yes" -eq 0 ]; then
        failed=1
    fi
}

mode H "slow headers" -i 5 -x 24 -t GET -u "http://$address/"
mode B "slow body" -i 5 -x 10 -s 8192 -t POST -u "http://$address/"
mode X "slow reading" -w 10 -y 20 -n 5 -z 32 -k 3 -t GET -u "http://$address/large"
mode R "many ranges" -a 10 -b 3000 -t GET -u "http://$address/large"
exit "$failed"
