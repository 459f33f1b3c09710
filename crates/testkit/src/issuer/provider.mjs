// A certified OpenID provider for tests: one client, one key for each way of signing, groups from a file.
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';

// Nobody reads what it says after its first line.
console.info = console.warn = console.error = () => {};
const told = JSON.parse(process.env.PROVIDER);
const { Provider } = await import(told.package);

const key = (kind, options, alg) => {
  const { privateKey } = generateKeyPairSync(kind, options);
  return { ...privateKey.export({ format: 'jwk' }), alg, kid: alg, use: 'sig' };
};
const groupsOf = (id) => JSON.parse(readFileSync(told.groups, 'utf8'))[id] ?? [];

const provider = new Provider(told.issuer, {
  clients: [{
    client_id: told.client,
    ...(told.secret ? { client_secret: told.secret } : { token_endpoint_auth_method: 'none' }),
    redirect_uris: [told.redirect],
    grant_types: ['authorization_code'],
    response_types: ['code'],
    id_token_signed_response_alg: told.algorithm,
  }],
  jwks: { keys: [
    key('rsa', { modulusLength: 2048 }, 'RS256'),
    key('rsa', { modulusLength: 2048 }, 'PS256'),
    key('ec', { namedCurve: 'P-256' }, 'ES256'),
    key('ed25519', {}, 'EdDSA'),
  ] },
  enabledJWA: { idTokenSigningAlgValues: ['RS256', 'PS256', 'ES256', 'EdDSA'] },
  cookies: { keys: ['lab'] },
  conformIdTokenClaims: false,
  claims: { openid: ['sub', 'groups', 'amr'], profile: ['preferred_username'], email: ['email'] },
  pkce: { required: () => true },
  // The only page that a person sees asks for a name; it loads nothing.
  features: { devInteractions: { enabled: false } },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  loadExistingGrant: async (ctx) => {
    const { client, session } = ctx.oidc;
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope('openid profile email');
    await grant.save();
    return grant;
  },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, preferred_username: id, groups: groupsOf(id) }),
  }),
});

const form = '<!doctype html><title>Provider</title><form method="post"><input name="login">'
  + '<button>Sign in</button></form>';
const others = provider.callback();
const answer = async (request, response) => {
  if (!request.url.startsWith('/interaction/')) return others(request, response);
  if (request.method === 'GET') {
    response.setHeader('content-type', 'text/html; charset=utf-8');
    return response.end(form);
  }
  let body = '';
  for await (const piece of request) body += piece;
  const accountId = new URLSearchParams(body).get('login');
  const login = { accountId, amr: ['pwd', 'mfa'] };
  return provider.interactionFinished(request, response, { login });
};

createServer({ key: told.key, cert: told.certificate }, answer)
  .listen(told.port, '127.0.0.1', () => console.log('ready'));
