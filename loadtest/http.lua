-- wrk's script for a web server.
--
--   wrk … -s http.lua URL -- [depth=N] [close] [unique]
--
-- depth=N  N pipelined requests are written at once, and the next N when all are answered
-- close    a connection for each request
-- unique   each request asks for another resource, by a query that no other run of this script has
--
-- The last line is one JSON object.

function init(args)
    local depth, unique = 1, false
    for _, argument in ipairs(args) do
        depth = tonumber(argument:match("^depth=(%d+)$")) or depth
        if argument == "close" then wrk.headers["Connection"] = "close" end
        unique = unique or argument == "unique"
    end
    local one = wrk.format("GET", wrk.path)
    batch = one:rep(depth)
    if unique then
        local before, after = one:match("^(GET %S+)( .*)$")
        local run, count = tostring({}):match("0x(%x+)") .. os.time(), 0
        request = function()
            count = count + 1
            return before .. "?" .. run .. "." .. count .. after
        end
    end
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
