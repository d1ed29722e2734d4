-- One request over and over for wrk: BODY (a file), HEADER_BYTES (0: JSON) and REQUEST_PATH from the environment.
-- Prints one line of JSON. errors: answers with another status than 2xx or 3xx, and broken connections.
local file = io.open(os.getenv("BODY"), "rb")
wrk.body = file:read("*a")
file:close()
wrk.method = "POST"
wrk.path = os.getenv("REQUEST_PATH")
local header_bytes = tonumber(os.getenv("HEADER_BYTES"))
if header_bytes > 0 then
  wrk.headers["Content-Type"] = "application/octet-stream"
  wrk.headers["Inference-Header-Content-Length"] = tostring(header_bytes)
else
  wrk.headers["Content-Type"] = "application/json"
end

done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"seconds":%.6f,"p50_us":%d,"p99_us":%d,"max_us":%d,"errors":%d,"bytes":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99), latency.max,
    e.status + e.connect + e.read + e.write + e.timeout, summary.bytes))
end
