#!/usr/bin/env node
// Runs a load script as k6 would, as far as tests/load needs it: virtual users in threads, three executors,
// metrics, thresholds. A stand-in to test the scripts' logic where k6 is not installed; it is not k6.
//
//   node tests/load/k6-stand-in/run.js -e NAME=VALUE ... script.js
//
// Prints the metrics as JSON. Exit status 99 if a threshold was missed, as k6's, 1 for anything else.
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { MessageChannel, Worker } from 'node:worker_threads';

import { judge, values } from './thresholds.js';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const TIMED_OUT = 1050;
const agent = new http.Agent({ keepAlive: true, maxSockets: Infinity });

function commandLine(words) {
  const environment = {};
  const scripts = [];
  for (let at = 0; at < words.length; at += 1) {
    if (words[at] === '-e') {
      at += 1;
      const [name, ...value] = words[at].split('=');
      environment[name] = value.join('=');
    } else {
      scripts.push(words[at]);
    }
  }
  if (scripts.length !== 1) throw new Error('usage: run.js -e NAME=VALUE ... script.js');
  return { environment, script: path.resolve(scripts[0]) };
}

// The script and its neighbours beside a `node_modules` in which `k6` is this stand-in.
function staged(script) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'k6-stand-in-'));
  const source = path.dirname(script);
  for (const file of fs.readdirSync(source).filter((name) => name.endsWith('.js'))) {
    fs.copyFileSync(path.join(source, file), path.join(folder, file));
  }
  fs.writeFileSync(path.join(folder, 'package.json'), '{"type":"module"}');
  fs.cpSync(HERE, path.join(folder, 'node_modules', 'k6'), { recursive: true });
  return { folder, script: pathToFileURL(path.join(folder, path.basename(script))).href };
}

// Sends a request and gives what k6 calls a response.
function send({ url, body, headers, timeout }) {
  return new Promise((resolve) => {
    const begin = performance.now();
    const answer = { status: 0, headers: {}, body: null, error: '', error_code: 0, timings: { waiting: 0, duration: 0 } };
    const done = (more) => {
      clearTimeout(timer);
      answer.timings.duration = performance.now() - begin;
      resolve({ ...answer, ...more });
    };
    const request = http.request(url, { method: 'POST', agent, headers }, (response) => {
      answer.timings.waiting = performance.now() - begin;
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () => done({
        status: response.statusCode,
        // k6 writes names as Go does: Retry-After.
        headers: Object.fromEntries(Object.entries(response.headers).map(([name, value]) => [
          name.replace(/(^|-)[a-z]/g, (letter) => letter.toUpperCase()), String(value)])),
        body: Buffer.concat(chunks).toString(),
      }));
      response.on('error', (error) => done({ error: error.message, error_code: 1000 }));
    });
    const timer = setTimeout(() => {
      done({ error: 'request timeout', error_code: TIMED_OUT });
      request.destroy();
    }, timeout);
    request.on('error', (error) => done({ error: error.message, error_code: 1000 }));
    request.end(body);
  });
}

const seconds = (text) => Number(/^([\d.]+)s$/.exec(text)[1]);

// What each virtual user does.
function roles(scenarios) {
  const users = Object.values(scenarios).reduce((sum, one) => sum + (one.vus || one.preAllocatedVUs), 0);
  // Threads take their time to start; all of them begin together.
  const begin = Date.now() + 300 + users * 15;
  let id = 0;
  return Object.entries(scenarios).flatMap(([scenario, one]) => {
    const count = one.vus || one.preAllocatedVUs;
    if (!['constant-vus', 'per-vu-iterations', 'constant-arrival-rate'].includes(one.executor)) {
      throw new Error(`the stand-in has no executor ${one.executor}`);
    }
    return Array.from({ length: count }, (_, turn) => {
      id += 1;
      return {
        id, users, scenario, begin, turn, turns: count, exec: one.exec, executor: one.executor, iterations: one.iterations,
        duration: one.duration && seconds(one.duration) * 1000, period: one.rate && (1000 * seconds(one.timeUnit)) / one.rate,
      };
    });
  });
}

function user(script, environment, role, heard) {
  const { port1, port2 } = new MessageChannel();
  const signal = new SharedArrayBuffer(4);
  port1.on('message', async (request) => {
    port1.postMessage(await send(request));
    Atomics.store(new Int32Array(signal), 0, 1);
    Atomics.notify(new Int32Array(signal), 0);
  });
  const worker = new Worker(path.join(HERE, 'vu.js'), {
    workerData: { script, environment, role, port: port2, signal }, transferList: [port2],
  });
  worker.on('message', heard);
  return new Promise((resolve, reject) => {
    worker.on('error', reject);
    worker.on('exit', () => {
      port1.close();
      resolve();
    });
  });
}

async function main() {
  const { environment, script: original } = commandLine(process.argv.slice(2));
  const { folder, script } = staged(original);
  try {
    const types = {};
    const samples = [];
    globalThis.__ENV = environment;
    globalThis.__execution = {};
    globalThis.__declare = (name, type) => { types[name] = type; };
    const { options } = await import(script);
    const heard = (message) => message.metric && samples.push(message);
    await Promise.all(roles(options.scenarios).map((role) => user(script, environment, role, heard)));
    const thresholds = judge(options.thresholds, types, samples);
    const metrics = Object.fromEntries(Object.entries(types).map(([name, type]) => [
      name, values(type, samples.filter((sample) => sample.metric === name).map((sample) => sample.value))]));
    console.log(JSON.stringify({ metrics, thresholds }));
    return thresholds.every(({ ok }) => ok) ? 0 : 99;
  } finally {
    fs.rmSync(folder, { recursive: true });
    agent.destroy();
  }
}

process.exitCode = await main().catch((error) => {
  console.error(error.message);
  return 1;
});
