// An endpoint that records each request as node understands it; GET /recorded on it returns them and forgets them.
const http = require("node:http");
let recorded = [];
const server = http.createServer((request, response) => {
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("error", () => {});
  request.on("end", () => {
    if (request.url === "/recorded") {
      response.end(JSON.stringify(recorded));
      recorded = [];
      return;
    }
    const body = Buffer.concat(pieces).toString("hex");
    recorded.push([request.method, request.url, request.headers.host, body]);
    response.end("ok");
  });
});
server.on("checkContinue", (request, response) => server.emit("request", request, response));
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
