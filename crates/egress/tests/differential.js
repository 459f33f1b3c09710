// Real servers that say which requests they saw: one of HTTP/1 that is strict, one that is not, one of
// HTTP/2 and one of HTTP/1 behind TLS.
const fs = require('fs'), http = require('http'), https = require('https'), http2 = require('http2');
const tls = { key: fs.readFileSync(0) };
tls.cert = tls.key;

function note(server, request) {
  const { method, url } = request;
  const host = request.headers[':authority'] || request.headers.host || '';
  // Written before anything else happens.
  fs.writeSync(1, JSON.stringify({ server, method, url, host }) + '\n');
}

function answer(server) {
  return (request, response) => {
    note(server, request);
    request.on('error', () => {});
    response.on('error', () => {});
    request.resume();
    request.on('end', () => response.end('lab\n'));
  };
}

const servers = {
  strict: http.createServer(answer('strict')),
  lenient: http.createServer({ insecureHTTPParser: true, requireHostHeader: false }, answer('lenient')),
  two: http2.createSecureServer({ ...tls, allowHTTP1: false }, answer('two')),
  one: https.createServer(tls, answer('one')),
};
for (const [name, server] of Object.entries(servers)) {
  for (const event of ['connect', 'upgrade']) {
    server.on(event, (request, socket) => {
      // The server of HTTP/2 has an event of that name for its connections.
      if (request.method) {
        note(name, request);
        socket.destroy();
      }
    });
  }
  server.on('clientError', (error, socket) => socket.destroy());
  server.on('error', () => {});
  server.on('sessionError', () => {});
  server.keepAliveTimeout = 60000;
}
const names = Object.keys(servers);
Promise.all(names.map((name) => new Promise((up) => servers[name].listen(0, '127.0.0.1', up)))).then(() => {
  const ports = names.map((name) => servers[name].address().port);
  fs.writeSync(1, JSON.stringify(ports) + '\n');
});
