// Streamed chats under load for a stock k6, without extensions, in four scenarios:
//
//   k6 run -e URL=http://127.0.0.1:8080 -e KEY=sg-... -e SCENARIO=steady tests/load/chat.js
//
//   SCENARIO     steady, ramp, hang-ups or limits
//   URL          of the gateway
//   KEY          of a caller without limits
//   LIMITED_KEY  of a caller with fewer than 1,200 requests a minute (for `limits`)
//   PROVIDER     the gateway's name for a simulated upstream (default: sim)
//   SIZE         small or full;  CALLERS, DURATION (seconds): instead of the size's
//   TTFT_P95     what is still good enough, in milliseconds (default: 1000)
//
// k6 hands out a body when it has all of it, and so cannot say when each token came. Streamgate sends the
// response head with the first token: k6's time to first byte (`waiting`) is the time to first token.
// `streamgate load` also measures the time between tokens, and speaks every protocol.
import exec from 'k6/execution';
import http from 'k6/http';
import { sleep } from 'k6';
import { Counter, Rate, Trend } from 'k6/metrics';

import { flaw, readAnswer } from './answer.js';

const scenario = __ENV.SCENARIO || 'steady';
const full = __ENV.SIZE === 'full';
const provider = __ENV.PROVIDER || 'sim';
const callers = (small, large) => Number(__ENV.CALLERS) || (full ? large : small);
const seconds = Number(__ENV.DURATION) || (full ? 60 : 12);

// k6's code of a request that its timeout has ended; that is how a caller hangs up here.
const TIMED_OUT = 1050;

const firstToken = new Trend('time_to_first_token', true);
const duration = new Trend('stream_duration', true);
const tokens = new Counter('tokens');
const complete = new Rate('streams_complete');
const errors = new Rate('errors');
const hangUps = new Counter('hang_ups');
const refused = new Rate('refused');
// Of the refusals: those with `retry-after` and a message in the caller's protocol.
const refusedWell = new Rate('refused_with_retry_after');

// How long the callers of `ramp` come one after another, and how long all are there together.
const rise = seconds * 0.4;
const hold = seconds * 0.6;

const steady = { executor: 'constant-vus', exec: 'whole', vus: callers(50, 100), duration: `${seconds}s`, gracefulStop: '60s' };
const scenarios = {
  steady: { steady },
  ramp: {
    ramp: { executor: 'per-vu-iterations', exec: 'rising', vus: callers(300, 2000), iterations: 1, maxDuration: '10m' },
  },
  'hang-ups': {
    leaving: { ...steady, exec: 'leaving', vus: callers(50, 200) },
  },
  limits: {
    over: {
      executor: 'constant-arrival-rate', exec: 'over', rate: 20, timeUnit: '1s',
      duration: `${seconds}s`, preAllocatedVUs: 20,
    },
    unharmed: { ...steady, vus: callers(25, 100) },
  },
};
if (!scenarios[scenario]) throw new Error(`SCENARIO=${scenario}: it is one of ${Object.keys(scenarios).join(', ')}`);
for (const name of ['URL', 'KEY'].concat(scenario === 'limits' ? ['LIMITED_KEY'] : [])) {
  if (!__ENV[name]) throw new Error(`${name} is not set: add -e ${name}=...`);
}

export const options = {
  scenarios: scenarios[scenario],
  summaryTrendStats: ['avg', 'p(50)', 'p(95)', 'p(99)', 'max', 'count'],
  thresholds: {
    streams_complete: ['rate==1'],
    errors: ['rate==0'],
    // Without any token nothing was tested.
    tokens: ['count>0'],
    time_to_first_token: [`p(95)<${__ENV.TTFT_P95 || 1000}`],
    ...(scenario === 'hang-ups' && { hang_ups: ['count>0'] }),
    ...(scenario === 'limits' && {
      'refused{scenario:over}': ['rate>0.5'],
      'refused{scenario:unharmed}': ['rate==0'],
      refused_with_retry_after: ['rate==1'],
    }),
  },
};

function ask(program, key, timeout) {
  const body = { model: `${provider}/${program}`, stream: true, messages: [{ role: 'user', content: 'Count.' }] };
  return http.post(`${__ENV.URL}/v1/chat/completions`, JSON.stringify(body), {
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    responseType: 'text',
    timeout,
  });
}

// Notes a refusal; it is a good one with a time to come back and a message.
function noteRefusal(response) {
  let message = '';
  try {
    message = JSON.parse(response.body).error.message;
  } catch (error) { /* not the caller's protocol */ }
  refusedWell.add(Number(response.headers['Retry-After']) >= 1 && !!message);
}

// Notes how long an answer took, and whether it is what was asked for.
function note(response, expected) {
  refused.add(response.status === 429);
  if (response.status === 429) return noteRefusal(response);
  const answer = readAnswer(response.status === 200 ? response.body : '');
  const wrong = response.status === 200 ? flaw(answer, expected) : `status ${response.status} ${response.error || response.body}`;
  tokens.add(answer.tokens);
  if (answer.tokens > 0) firstToken.add(response.timings.waiting);
  duration.add(response.timings.duration);
  errors.add(wrong !== '');
  complete.add(wrong === '');
  if (wrong) console.error(`${program(expected)}: ${wrong}`);
  return undefined;
}

const program = (count, interval = 10000) => `n${count}-i${interval}`;

// A hundred tokens, 10 ms apart.
export function whole() {
  note(ask(__ENV.PROGRAM || program(100), __ENV.KEY, '60s'), 100);
}

// One after another, until all are there.
export function rising() {
  sleep((rise * exec.vu.idInTest) / exec.instance.vusInitialized);
  const count = Math.ceil((rise + hold) * 5);
  note(ask(program(count, 200000), __ENV.KEY, `${Math.ceil(rise + hold) * 2 + 60}s`), count);
}

// Every second caller leaves within the first half second.
export function leaving() {
  if (exec.vu.iterationInScenario % 2) {
    whole();
    return;
  }
  const response = ask(program(10000), __ENV.KEY, `${50 + Math.floor(Math.random() * 450)}ms`);
  const left = response.error_code === TIMED_OUT;
  if (left) hangUps.add(1);
  errors.add(!left);
  if (!left) console.error(`a long answer ended before its caller left: status ${response.status} ${response.error}`);
}

export function over() {
  note(ask(program(20), __ENV.LIMITED_KEY, '60s'), 20);
}
