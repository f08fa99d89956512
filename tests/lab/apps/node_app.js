// A server of Node.js with its own keep-alive timer: node node_app.js PORT KEEP_ALIVE_MS [TLS_VERSION]
// POST /upload is answered 413 at once, and the connection closed without reading on, as upload limits often do it;
// POST /upload-read is answered 413 as well, when all was read. /slow gets no answer, and of /hang-up the connection is cut.
const fs = require('fs');
const http = require('http');
const https = require('https');
const [port, keepAliveMs] = process.argv.slice(2, 4).map(Number);
const version = process.argv[4];

const answer = (request, response) => {
  fs.appendFileSync('requests.log', `${request.headers['x-request-id'] || '-'}\n`);
  if (request.url === '/upload') {
    response.writeHead(413, { Connection: 'close' });
    response.end('too large\n', () => request.socket.destroy());
    return;
  }
  request.resume();
  if (request.url === '/slow') return;
  if (request.url === '/hang-up') return setTimeout(() => request.socket.destroy(), 200);
  request.on('end', () => {
    if (request.url === '/upload-read') response.writeHead(413);
    response.end('{"server": "node"}\n');
  });
};
const secure = () => ({
  key: fs.readFileSync('key.pem'),
  cert: fs.readFileSync('certificate.pem'),
  minVersion: version,
  maxVersion: version,
});
const server = version ? https.createServer(secure(), answer) : http.createServer(answer);
server.keepAliveTimeout = keepAliveMs;
server.listen(port, '0.0.0.0');
