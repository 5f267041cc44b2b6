-- wrk's script for a proxy: the absolute form of a request, on kept connections.
--
--   wrk … -s proxy.lua http://PROXY/ -- target=http://ORIGIN/PATH
--
-- The last line is one JSON object.

function init(args)
    local target
    for _, argument in ipairs(args) do
        target = argument:match("^target=(.+)$") or target
    end
    wrk.headers["Host"] = target:match("^http://([^/]+)")
    whole = wrk.format("GET", target)
end

function request()
    return whole
end

function done(summary, latency)
    local e = summary.errors
    print(string.format(
        '{"operations":%d,"bytes":%d,"seconds":%.4f,"errors":%d,"lost":0,"p50_us":%.1f,"p99_us":%.1f}',
        summary.requests, summary.bytes, summary.duration / 1e6,
        e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
