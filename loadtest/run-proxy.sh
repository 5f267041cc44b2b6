#!/usr/bin/env bash
# The proxy under wrk, with this same process as the origin.
#   SECONDS_EACH=5 CONNECTIONS=64 loadtest/run-proxy.sh
source "$(dirname "$0")/server.sh"
make_files
start "[[listener]]
kind = \"http\"
bind = \"127.0.0.1:0\"
root = \"$work/site\"

[[listener]]
kind = \"proxy\"
bind = \"127.0.0.1:0\"
allow_destinations = [\"127.0.0.0/8\"]
cache = \"off\""
origin=http://$(address http)
for bytes in 1024 1048576; do
    load "$bytes bytes" -s loadtest/proxy.lua "http://$(address proxy)/" -- "target=$origin/$bytes"
done
