// A server of Node.js with its own keep-alive timer: node node_app.js PORT KEEP_ALIVE_MS
// POST /upload is answered 413 at once, and the connection closed without reading on, as upload limits often do it;
// POST /upload-read is answered 413 as well, when all was read.
const fs = require('fs');
const http = require('http');
const [port, keepAliveMs] = process.argv.slice(2).map(Number);

const server = http.createServer((request, response) => {
  fs.appendFileSync('requests.log', `${request.headers['x-request-id'] || '-'}\n`);
  if (request.url === '/upload') {
    response.writeHead(413, { Connection: 'close' });
    response.end('too large\n', () => request.socket.destroy());
    return;
  }
  request.resume();
  request.on('end', () => {
    if (request.url === '/upload-read') response.writeHead(413);
    response.end('{"server": "node"}\n');
  });
});
server.keepAliveTimeout = keepAliveMs;
server.listen(port, '0.0.0.0');
