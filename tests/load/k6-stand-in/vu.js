// One virtual user: a thread with its own copy of the script, as in k6, that runs one scenario's function.
import { receiveMessageOnPort, workerData, parentPort } from 'node:worker_threads';

const { script, environment, role, port, signal } = workerData;
const flag = new Int32Array(signal);
const never = new Int32Array(new SharedArrayBuffer(4));

globalThis.__ENV = environment;
globalThis.__execution = {
  vu: { idInTest: role.id, idInInstance: role.id, iterationInScenario: 0 },
  instance: { vusInitialized: role.users },
  scenario: { name: role.scenario },
};
globalThis.__declare = (name, type) => parentPort.postMessage({ declare: name, type });
globalThis.__sample = (metric, value) => parentPort.postMessage({ metric, value, scenario: role.scenario });
globalThis.__request = (request) => {
  Atomics.store(flag, 0, 0);
  port.postMessage(request);
  Atomics.wait(flag, 0, 0);
  return receiveMessageOnPort(port).message;
};

const module = await import(script);
const run = module[role.exec];
const until = (moment) => Atomics.wait(never, 0, 0, Math.max(0, moment - Date.now()));
until(role.begin);
const vu = globalThis.__execution.vu;
if (role.executor === 'constant-vus') {
  for (; Date.now() < role.begin + role.duration; vu.iterationInScenario += 1) run();
} else if (role.executor === 'per-vu-iterations') {
  for (; vu.iterationInScenario < role.iterations; vu.iterationInScenario += 1) run();
} else {
  // constant-arrival-rate: this user's share of the arrivals, late ones at once.
  for (let turn = role.turn; turn * role.period < role.duration; turn += role.turns, vu.iterationInScenario += 1) {
    until(role.begin + turn * role.period);
    run();
  }
}
