// Whether streams are complete, with k6 as it comes: it needs no module, and so cannot say when each
// token came. URL, KEY and PROVIDER as in chat.js.
//
//   k6 run -e URL=http://127.0.0.1:8080 -e KEY=sg-... tests/load/smoke.js
import { check } from 'k6';
import http from 'k6/http';

export const options = {
  vus: 10,
  iterations: 50,
  thresholds: { checks: ['rate==1'], http_req_failed: ['rate==0'] },
};

export default function () {
  const response = http.post(
    `${__ENV.URL}/v1/chat/completions`,
    JSON.stringify({
      model: `${__ENV.PROVIDER || 'sim'}/n100-i2000`,
      stream: true,
      messages: [{ role: 'user', content: 'Count.' }],
    }),
    { headers: { authorization: `Bearer ${__ENV.KEY}`, 'content-type': 'application/json' } },
  );
  const events = String(response.body).split('\n\n').filter((event) => event.startsWith('data: '));
  const words = events.slice(0, -1).map((event) => JSON.parse(event.slice(6)).choices[0]?.delta.content || '').join('');
  const expected = Array.from({ length: 100 }, (_, i) => `t${i} `).join('');
  check(response, {
    'status is 200': (r) => r.status === 200,
    'every token once, in order': () => words === expected,
    'ends with [DONE]': () => events[events.length - 1] === 'data: [DONE]',
  });
}
