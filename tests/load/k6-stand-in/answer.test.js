// What answer.js says of whole, damaged and failed streams.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { flaw, readAnswer } from '../answer.js';

const event = (content) => `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content } }] })}\n\n`;
const stream = (tokens, end = 'data: [DONE]\n\n') => tokens.map((token) => event(`t${token} `)).join('') + end;
const found = (body, expected) => flaw(readAnswer(body), expected);

test('a whole stream has no flaw', () => {
  assert.equal(found(stream([0, 1, 2]), 3), '');
  assert.equal(found(`: ping\n\n${stream([0, 1])}`, 2), '');
  assert.equal(found(stream([0, 1]).replace(/\n/g, '\r\n'), 2), '');
  assert.equal(found(event('t0 t1 ') + event('t2 ') + 'data: [DONE]\n\n', 3), '');
});

test('damage is named', () => {
  for (const [body, words] of [
    [stream([0, 2, 3]), /lost, repeated or out of order/],
    [stream([0, 1, 1]), /lost, repeated or out of order/],
    [stream([0, 2, 1]), /lost, repeated or out of order/],
    [stream([0, 1]), /2 tokens, not 3/],
    [stream([0, 1, 2, 3]), /4 tokens, not 3/],
    [stream([0, 1, 2], ''), /without \[DONE\]/],
    [stream([0, 1, 2]).slice(0, -1), /inside an event/],
    [`${stream([0, 1, 2])}data: {}\n\n`, /after \[DONE\]/],
    ['<html>no stream</html>\n\n', /0 tokens without \[DONE\]/],
    ['data: {"choices":[{"de\n\n', /not JSON/],
    [stream([0, 1], 'data: {"error":{"message":"the upstream failed"}}\n\n'), /^the upstream failed$/],
    ['', /0 tokens without \[DONE\]/],
    [null, /0 tokens without \[DONE\]/],
  ]) {
    assert.match(found(body, 3), words, String(body));
  }
});
