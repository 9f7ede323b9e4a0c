// The OpenID provider of the stories: one client, which gets tokens for itself, JWTs for the audience "kafka". Clients come by https, the broker
// fetches the keys by http. MODULES has the package oidc-provider.
// usage: node oidc.mjs ID SECRET CERTIFICATE KEY HTTPS-PORT HTTP-PORT LIFETIME
import { createServer as plain } from 'node:http';
import { createServer as secure } from 'node:https';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const { default: Provider } = await import(createRequire(process.env.MODULES + '/').resolve('oidc-provider'));
const [id, secret, cert, key, https, http, lifetime] = process.argv.slice(2);
const provider = new Provider('https://oidc.test', {
  clients: [{ client_id: id, client_secret: secret, grant_types: ['client_credentials'], response_types: [], redirect_uris: [] }],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'urn:kafka',
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({ scope: 'kafka', audience: 'kafka', accessTokenFormat: 'jwt', accessTokenTTL: Number(lifetime) }),
    },
  },
});
secure({ cert: readFileSync(cert), key: readFileSync(key) }, provider.callback()).listen(Number(https), '127.0.0.1');
plain(provider.callback()).listen(Number(http), '127.0.0.1');
