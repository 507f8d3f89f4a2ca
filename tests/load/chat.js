// Streamed chats under load, in four scenarios: SCENARIO=steady|ramp|hangup|limits, SIZE=small|full.
// Needs k6 with the module in tests/load/k6; tests/load/run builds it and runs this.
//
//   URL          of the gateway
//   KEY          of a caller without limits
//   LIMITED_KEY  of a caller with few requests a minute (for `limits`)
//   PROVIDER     the simulated upstream's name in the gateway's configuration (default: sim)
//   CALLERS      how many at once, instead of the size's
//   TTFT_P95, INTER_TOKEN_P95   what is still good enough, in milliseconds
import { sleep } from 'k6';
import exec from 'k6/execution';
import { Counter, Rate, Trend } from 'k6/metrics';
import { chat } from 'k6/x/chatstream';

const scenario = __ENV.SCENARIO || 'steady';
const full = __ENV.SIZE === 'full';
const provider = __ENV.PROVIDER || 'sim';
const callers = (small, large) => Number(__ENV.CALLERS) || (full ? large : small);

const firstToken = new Trend('time_to_first_token', true);
const interToken = new Trend('inter_token_latency', true);
const longestGap = new Trend('longest_gap', true);
const tokens = new Counter('tokens');
// Of the streams that were read to their end: every token once, in order, and then [DONE].
const complete = new Rate('streams_complete');
// Of all requests: those that did not get what they should. Refusals over limits and one's own
// hanging up are no errors.
const errors = new Rate('errors');
const hungUp = new Rate('hung_up');
const refused = new Rate('refused');
// Of the refusals: those that say when to come back, in the caller's language.
const refusedWell = new Rate('refused_with_retry_after');
const hangUps = new Counter('hang_ups');

// How long each caller of `ramp` waits at most for its turn, and how long all are there together.
const rise = full ? 40 : 10;
const hold = full ? 40 : 12;

const steady = { executor: 'constant-vus', exec: 'whole', vus: callers(50, 100), duration: full ? '60s' : '12s' };
const scenarios = {
  steady: { steady },
  ramp: {
    ramp: { executor: 'per-vu-iterations', exec: 'rising', vus: callers(300, 2000), iterations: 1, maxDuration: '10m' },
  },
  hangup: {
    hangup: { ...steady, exec: 'leaving', vus: callers(50, 200) },
  },
  limits: {
    over: {
      executor: 'constant-arrival-rate', exec: 'over', rate: 20, timeUnit: '1s',
      duration: steady.duration, preAllocatedVUs: 20,
    },
    unharmed: { ...steady, vus: callers(25, 100) },
  },
};
if (!scenarios[scenario]) throw new Error(`SCENARIO=${scenario}: it is one of ${Object.keys(scenarios).join(', ')}`);

export const options = {
  scenarios: scenarios[scenario],
  summaryTrendStats: ['avg', 'p(50)', 'p(95)', 'p(99)', 'max', 'count'],
  thresholds: {
    streams_complete: ['rate==1'],
    errors: ['rate==0'],
    time_to_first_token: [`p(95)<${__ENV.TTFT_P95 || 1000}`],
    inter_token_latency: [`p(95)<${__ENV.INTER_TOKEN_P95 || 500}`],
    ...(scenario === 'hangup' && { hung_up: ['rate>0.3'] }),
    ...(scenario === 'limits' && {
      'refused{scenario:over}': ['rate>0.5'],
      'refused{scenario:unharmed}': ['rate==0'],
      refused_with_retry_after: ['rate==1'],
    }),
  },
};

function ask(program, key, hangUpAfter = 0) {
  return chat(`${__ENV.URL}/v1/chat/completions`, {
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({
      model: `${provider}/${program}`,
      stream: true,
      messages: [{ role: 'user', content: 'Count.' }],
    }),
    hangUpAfter,
    timeout: 300000,
  });
}

// Notes how long the tokens took to come, and whether the answer is what was asked for.
function note(answer, expected) {
  tokens.add(answer.tokens);
  if (answer.tokens > 0) firstToken.add(answer.firstToken);
  for (const gap of answer.gaps || []) interToken.add(gap);
  if (answer.tokens > 1) longestGap.add(answer.longestGap);
  hungUp.add(answer.hungUp);
  refused.add(answer.status === 429);
  const good = answer.hungUp
    ? answer.inOrder && !answer.error
    : answer.status === 200 && answer.done && answer.inOrder && answer.tokens === expected && !answer.error;
  if (answer.status === 429) {
    let words = {};
    try { words = JSON.parse(answer.error).error || {}; } catch { /* not the caller's language */ }
    refusedWell.add(Number(answer.headers['retry-after']) >= 1 && !!words.message);
    return;
  }
  errors.add(!good);
  if (!answer.hungUp) complete.add(good);
  if (answer.hungUp) hangUps.add(1);
  if (!good) console.error(`status ${answer.status}, ${answer.tokens} of ${expected} tokens, in order: ${answer.inOrder}, done: ${answer.done}: ${answer.error}`);
}

// A hundred tokens, 10 ms apart.
export function whole() {
  note(ask('n100-i10000', __ENV.KEY), 100);
}

// One after the other, until all are there.
export function rising() {
  sleep((rise * exec.vu.idInTest) / exec.instance.vusInitialized);
  const seconds = rise + hold;
  note(ask(`n${seconds * 5}-i200000`, __ENV.KEY), seconds * 5);
}

// Every second caller leaves, early or late.
export function leaving() {
  if (exec.vu.iterationInScenario % 2) {
    whole();
  } else {
    const after = 1 + Math.floor(Math.random() * 50);
    note(ask('n10000-i10000', __ENV.KEY, after), after);
  }
}

export function over() {
  note(ask('n20-i10000', __ENV.LIMITED_KEY), 20);
}
