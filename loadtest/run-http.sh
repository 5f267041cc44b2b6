#!/usr/bin/env bash
# The web server under wrk: files of four sizes on kept connections, pipelined, and a connection for each request.
#   SECONDS_EACH=5 CONNECTIONS=64 loadtest/run-http.sh
source "$(dirname "$0")/server.sh"
make_files
start "[[listener]]
kind = \"http\"
bind = \"127.0.0.1:0\"
root = \"$work/site\""
url=http://$(address http)
for bytes in 128 1024 16384 1048576; do
    load "$bytes bytes, kept connections" -s loadtest/http.lua "$url/$bytes"
done
load "128 bytes, 16 requests pipelined" -s loadtest/http.lua "$url/128" -- depth=16
load "128 bytes, a connection for each request" -s loadtest/http.lua "$url/128" -- close
