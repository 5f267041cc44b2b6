-- wrk's script for a web server.
--
--   wrk … -s http.lua URL -- [depth=N] [close]
--
-- depth=N  N pipelined requests are written at once, and the next N when all are answered
-- close    a connection for each request
--
-- The last line is one JSON object.

function init(args)
    local depth = 1
    for _, argument in ipairs(args) do
        depth = tonumber(argument:match("^depth=(%d+)$")) or depth
        if argument == "close" then wrk.headers["Connection"] = "close" end
    end
    local one = wrk.format("GET", wrk.path)
    batch = one:rep(depth)
end

function request()
    return batch
end

function done(summary, latency)
    local e = summary.errors
    print(string.format(
        '{"operations":%d,"bytes":%d,"seconds":%.4f,"errors":%d,"lost":0,"p50_us":%.1f,"p99_us":%.1f}',
        summary.requests, summary.bytes, summary.duration / 1e6,
        e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
