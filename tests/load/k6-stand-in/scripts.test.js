// The load scripts under the stand-in, against a real gateway and its simulated upstream: each scenario, both
// sides' counts, and that thresholds are missed when they should be. STREAMGATE_BIN names the binary.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const ROOT = path.resolve(HERE, '../../..');
const BINARY = path.resolve(process.env.STREAMGATE_BIN || path.join(ROOT, 'target/debug/streamgate'));
const KEY = 'sg-scripts';
const LIMITED_KEY = 'sg-scripts-limited';

const started = [];
let admin;
let folder;
let gateway;
let sim;

// Starts a program and gives the addresses that it prints, so many.
function start(words, environment = {}, count = 1) {
  const child = spawn(BINARY, words, { env: { ...process.env, RUST_LOG: 'error', ...environment }, stdio: ['ignore', 'pipe', 'inherit'] });
  started.push(child);
  return new Promise((resolve, reject) => {
    let said = '';
    child.stdout.on('data', (chunk) => {
      said += chunk;
      const found = said.match(/http:\/\/\S+(?=\s)/g) || [];
      if (found.length >= count) resolve(found);
    });
    child.on('error', reject);
    child.on('exit', () => reject(new Error(`${words.join(' ')} ended: ${said}`)));
  });
}

// Runs chat.js; gives its exit status, metrics and missed thresholds.
function load(environment) {
  const all = { URL: gateway, KEY, LIMITED_KEY, CALLERS: '4', DURATION: '3', TTFT_P95: '5000', ...environment };
  const words = Object.entries(all).flatMap(([name, value]) => ['-e', `${name}=${value}`]);
  const child = spawn(process.execPath, [path.join(HERE, 'run.js'), ...words, path.join(HERE, '../chat.js')]);
  started.push(child);
  return new Promise((resolve, reject) => {
    let out = '';
    let err = '';
    child.stdout.on('data', (chunk) => { out += chunk; });
    child.stderr.on('data', (chunk) => { err += chunk; });
    child.on('error', reject);
    child.on('close', (status) => {
      const { metrics = {}, thresholds = [] } = out.startsWith('{') ? JSON.parse(out) : {};
      const missed = thresholds.filter(({ ok }) => !ok).map(({ name }) => name);
      resolve({ status, metrics, missed, err });
    });
  });
}

// The gateway's requests by outcome, summed over all other labels.
async function outcomes() {
  const page = await (await fetch(`${admin}/metrics`)).text();
  const sums = {};
  for (const [, outcome, value] of page.matchAll(/^streamgate_requests_total\{[^}]*outcome="(\w+)"[^}]*\} (\S+)$/gm)) {
    sums[outcome] = (sums[outcome] || 0) + Number(value);
  }
  return sums;
}

async function counted(run) {
  const [first, result, last] = [await outcomes(), await run(), await outcomes()];
  const since = (outcome) => (last[outcome] || 0) - (first[outcome] || 0);
  return { ...result, since };
}

const digest = (key) => createHash('sha256').update(key).digest('hex');

before(async () => {
  [sim] = await start(['sim', '--listen', '127.0.0.1:0']);
  folder = mkdtempSync(path.join(tmpdir(), 'streamgate-k6-'));
  const file = path.join(folder, 'streamgate.yaml');
  writeFileSync(file, readFileSync(path.join(ROOT, 'deploy/streamgate.yaml'), 'utf8').replace('0.0.0.0:9090', '127.0.0.1:0'));
  [gateway, admin] = await start(['--config', file], {
    STREAMGATE_LISTEN: '127.0.0.1:0',
    STREAMGATE_SIM_URL: sim,
    STREAMGATE_KEY_SHA256: digest(KEY),
    STREAMGATE_LIMITED_KEY_SHA256: digest(LIMITED_KEY),
  }, 2);
});

after(() => {
  started.forEach((child) => child.kill());
  rmSync(folder, { recursive: true, force: true });
});

test('steady: every stream is complete, and the gateway counts as many', async () => {
  const { status, metrics, err, since } = await counted(() => load({ SCENARIO: 'steady' }));
  assert.equal(status, 0, err);
  assert.ok(metrics.streams_complete.passes >= 4, JSON.stringify(metrics));
  assert.equal(metrics.tokens.count, metrics.streams_complete.passes * 100);
  assert.equal(since('complete'), metrics.streams_complete.passes);
  assert.equal(metrics.time_to_first_token.count, metrics.streams_complete.passes);
  assert.ok(metrics.time_to_first_token.avg < metrics.stream_duration.avg);
});

test('ramp: every caller has one stream', async () => {
  const { status, metrics, err, since } = await counted(() => load({ SCENARIO: 'ramp', CALLERS: '6' }));
  assert.equal(status, 0, err);
  assert.equal(metrics.streams_complete.passes, 6);
  assert.equal(metrics.tokens.count, 6 * 15);
  assert.equal(since('complete'), 6);
});

test('hang-ups: each is one to the gateway and to its upstream', async () => {
  const stats = async () => (await fetch(`${sim}/_sim/stats`)).json();
  const first = await stats();
  const { status, metrics, err, since } = await counted(() => load({ SCENARIO: 'hang-ups' }));
  assert.equal(status, 0, err);
  assert.ok(metrics.hang_ups.count >= 4, JSON.stringify(metrics));
  const until = Date.now() + 10_000;
  while ((await stats()).open_streams > 0 && Date.now() < until) await new Promise((go) => { setTimeout(go, 50); });
  assert.equal((await stats()).cancelled_streams - first.cancelled_streams, metrics.hang_ups.count);
  assert.equal(since('complete'), metrics.streams_complete.passes);
});

test('limits: refusals say when to come back, and the others notice nothing', async () => {
  const { status, metrics, err, since } = await counted(() => load({ SCENARIO: 'limits' }));
  assert.equal(status, 0, err);
  assert.ok(metrics.refused.passes > 20, JSON.stringify(metrics));
  assert.equal(metrics.refused_with_retry_after.passes, metrics.refused.passes);
  assert.equal(since('rate_limited'), metrics.refused.passes);
});

test('thresholds are missed when they should be', async () => {
  for (const [environment, missed] of [
    [{ TTFT_P95: '0.001' }, ['time_to_first_token']],
    // Streams that break off, end with an error, or come late.
    [{ PROGRAM: 'n100-i1000-close50' }, ['streams_complete', 'errors']],
    [{ PROGRAM: 'n100-i1000-err50' }, ['streams_complete', 'errors']],
    [{ PROGRAM: 'n99-i1000' }, ['streams_complete', 'errors']],
    [{ PROGRAM: 'f400-n100-i1000', TTFT_P95: '300' }, ['time_to_first_token']],
    // No stream at all.
    [{ PROGRAM: 'e500' }, ['streams_complete', 'errors', 'tokens']],
    [{ KEY: 'sg-of-nobody' }, ['streams_complete', 'errors', 'tokens']],
    [{ URL: 'http://127.0.0.1:9' }, ['streams_complete', 'errors', 'tokens']],
    // A caller that ought to be limited, and one that ought not to be.
    [{ SCENARIO: 'limits', LIMITED_KEY: KEY }, ['refused{scenario:over}', 'refused_with_retry_after']],
    // Short answers, so that there are many after the limit is reached, however slow the machine is.
    [{ SCENARIO: 'limits', KEY: LIMITED_KEY, DURATION: '3', PROGRAM: 'n100-i1000' }, ['refused{scenario:unharmed}']],
    // Answers that end before their caller would have left.
    [{ SCENARIO: 'hang-ups', KEY: 'sg-of-nobody' }, ['streams_complete', 'errors', 'tokens', 'hang_ups']],
  ]) {
    const result = await load({ CALLERS: '2', DURATION: '1', ...environment });
    const what = `${JSON.stringify(environment)}: ${result.err}`;
    assert.equal(result.status, 99, what);
    assert.deepEqual(result.missed, missed, what);
  }
});

test('mistakes in the environment are named', async () => {
  for (const [environment, words] of [
    [{ SCENARIO: 'stampede' }, /SCENARIO=stampede: it is one of steady, ramp, hang-ups, limits/],
    [{ KEY: '' }, /KEY is not set: add -e KEY=/],
    [{ SCENARIO: 'limits', LIMITED_KEY: '' }, /LIMITED_KEY is not set/],
  ]) {
    const { status, err } = await load(environment);
    assert.equal(status, 1);
    assert.match(err, words);
  }
});
