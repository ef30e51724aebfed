-- What wrk sends, by the first argument behind `--`. Its last line is the result as JSON.
--   get        a small GET
--   post       a small POST as a client of a speech service sends it, with nine header fields (wrk writes Host and
--              Content-Length)
--   speech     the same, each with a text of its own
--   varied     a GET that differs from the last thousands by its path and a header field
--   handshake  a GET on a connection of its own

local ring, at = {}, 0

local function next_of_ring()
  at = at % #ring + 1
  return ring[at]
end

function init(args)
  local kind = args[1]
  if kind == "post" or kind == "speech" then
    wrk.method = "POST"
    wrk.body = '{"model":"tts-1","input":"The board meets at nine; the figures are ready.","voice":"alloy"}'
    wrk.headers["User-Agent"] = "bench/1.0"
    wrk.headers["Accept"] = "*/*"
    wrk.headers["Accept-Encoding"] = "gzip, deflate"
    wrk.headers["Accept-Language"] = "en-GB,en;q=0.9"
    wrk.headers["Authorization"] = "Bearer 00000000000000000000000000000000"
    wrk.headers["Content-Type"] = "application/json"
    wrk.headers["X-Session-Id"] = "4f1c2a9e-7d35-4b1e-9a57-2f5f7f0c6f11"
    if kind == "speech" then
      for i = 1, 4096 do
        ring[i] = wrk.format(
          "POST", "/v1/audio/speech", wrk.headers,
          string.format('{"model":"tts-1","input":"The board meets at nine; figure %07d.","voice":"alloy"}', i))
      end
      request = next_of_ring
    end
  elseif kind == "handshake" then
    wrk.headers["Connection"] = "close"
  elseif kind == "varied" then
    for i = 1, 4096 do
      ring[i] = wrk.format("GET", "/v1/speech/" .. i, { ["X-Trace"] = string.format("%08x", i * 2654435) })
    end
    request = next_of_ring
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"p99_us":%d,"not_2xx":%d,"socket_errors":%d}\n',
    summary.requests, summary.duration, latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
