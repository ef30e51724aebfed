-- What wrk sends: a small GET, or after `-- post` a small POST as a client of a speech service sends it, with nine header
-- fields (Host and Content-Length are written by wrk). Its last line is the result as JSON.

function init(args)
  if args[1] ~= "post" then return end
  wrk.method = "POST"
  wrk.body = '{"model":"tts-1","input":"The board meets at nine; the figures are ready.","voice":"alloy"}'
  wrk.headers["User-Agent"] = "bench/1.0"
  wrk.headers["Accept"] = "*/*"
  wrk.headers["Accept-Encoding"] = "gzip, deflate"
  wrk.headers["Accept-Language"] = "en-GB,en;q=0.9"
  wrk.headers["Authorization"] = "Bearer 00000000000000000000000000000000"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["X-Session-Id"] = "4f1c2a9e-7d35-4b1e-9a57-2f5f7f0c6f11"
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"p99_us":%d,"not_2xx":%d,"socket_errors":%d}\n',
    summary.requests, summary.duration, latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
