#!/usr/bin/env bash
# The proxy under wrk, with this same process as the origin: answers from the cache, and passed through.
#   SECONDS_EACH=5 CONNECTIONS=64 loadtest/run-proxy.sh
source "$(dirname "$0")/server.sh"
make_files
start "[[listener]]
kind = \"http\"
bind = \"127.0.0.1:0\"
root = \"$work/site\"

[[listener]]
kind = \"proxy\"
name = \"kept\"
bind = \"127.0.0.1:0\"
allow_destinations = [\"127.0.0.0/8\"]
cache_dir = \"$work/cache\"

[[listener]]
kind = \"proxy\"
name = \"passed\"
bind = \"127.0.0.1:0\"
allow_destinations = [\"127.0.0.0/8\"]
cache = \"off\""
origin=http://$(address http)
mapfile -t proxies < <(awk '$2 == "proxy" { print $3 }' "$work/out")
for bytes in 1024 1048576; do
    load "$bytes bytes, cached" -s loadtest/proxy.lua "http://${proxies[0]}/" -- "target=$origin/$bytes"
    load "$bytes bytes, passed through" -s loadtest/proxy.lua "http://${proxies[1]}/" -- "target=$origin/$bytes"
done
