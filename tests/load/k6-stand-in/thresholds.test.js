// The stand-in's metrics and thresholds, against values worked out by hand.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { holds, judge, values } from './thresholds.js';

test('metrics have k6\'s values', () => {
  assert.deepEqual(values('Counter', [1, 2, 3]), { count: 6 });
  assert.deepEqual(values('Rate', [1, 0, 1, 1]), { rate: 0.75, passes: 3, fails: 1 });
  const trend = values('Trend', Array.from({ length: 101 }, (_, at) => at));
  assert.deepEqual([trend['p(50)'], trend['p(95)'], trend['p(99)'], trend.max, trend.avg], [50, 95, 99, 100, 50]);
  assert.equal(values('Rate', []).rate, 0);
});

test('thresholds hold or not', () => {
  assert.equal(holds('rate==1', { rate: 1 }), true);
  assert.equal(holds('rate==1', { rate: 0.99 }), false);
  assert.equal(holds('p(95)<500', { 'p(95)': 500 }), false);
  assert.equal(holds('p(95)<=500', { 'p(95)': 500 }), true);
  assert.equal(holds('count>0', { count: 0 }), false);
  assert.throws(() => holds('rate==1', { count: 1 }), /does not fit/);
  assert.throws(() => holds('median<3', { rate: 1 }), /does not fit/);
});

test('a threshold of a scenario sees that scenario alone', () => {
  const samples = [
    { metric: 'refused', value: 1, scenario: 'over' },
    { metric: 'refused', value: 0, scenario: 'unharmed' },
  ];
  const judged = (selector) => judge({ [selector]: ['rate==0'] }, { refused: 'Rate' }, samples)[0].ok;
  assert.equal(judged('refused{scenario:unharmed}'), true);
  assert.equal(judged('refused{scenario:over}'), false);
  assert.equal(judged('refused'), false);
  assert.throws(() => judge({ unknown: ['rate==0'] }, {}, []), /no such metric/);
});
