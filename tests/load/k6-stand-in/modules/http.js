// The module `k6/http`: `post` blocks its virtual user, and the main thread sends the request.
export function post(url, body, params = {}) {
  return globalThis.__request({ url, body, headers: params.headers || {}, timeout: milliseconds(params.timeout || '60s') });
}

function milliseconds(text) {
  if (typeof text === 'number') return text;
  const found = /^(\d+)(ms|s|m)$/.exec(text);
  if (!found) throw new Error(`${text} is no duration`);
  return Number(found[1]) * { ms: 1, s: 1000, m: 60000 }[found[2]];
}

export default { post };
