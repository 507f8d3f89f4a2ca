// Reads a whole streamed chat completion: whether every token of the simulated upstream came, once and in
// order, and how the stream ended. Pure: it uses no module of k6, so that it can be tested anywhere.

// The events' payloads; `whole` is false when the body ends inside an event.
function payloads(body) {
  const parts = String(body || '').replace(/\r\n/g, '\n').split('\n\n');
  const rest = parts.pop();
  const datas = parts.map((part) => part.split('\n').filter((line) => line.startsWith('data:')))
    .filter((lines) => lines.length > 0)
    .map((lines) => lines.map((line) => line.slice(5).replace(/^ /, '')).join('\n'));
  return { datas, whole: rest.trim() === '' };
}

// `tokens`: how many came; `inOrder`: each was the next one; `done`: the terminal event came, and nothing
// after it; `error`: an in-band error, or why the body is no stream of chat chunks; empty if neither.
export function readAnswer(body) {
  const answer = { tokens: 0, inOrder: true, done: false, error: '' };
  const { datas, whole } = payloads(body);
  for (const data of datas) {
    if (answer.done) return { ...answer, done: false, error: 'data after [DONE]' };
    if (data === '[DONE]') {
      answer.done = true;
      continue;
    }
    let chunk;
    try {
      chunk = JSON.parse(data);
    } catch (error) {
      return { ...answer, error: `not JSON: ${String(error.message)}` };
    }
    if (chunk.error) return { ...answer, error: String(chunk.error.message || 'an error without a message') };
    for (const choice of chunk.choices || []) {
      for (const word of String((choice.delta && choice.delta.content) || '').split(' ').filter(Boolean)) {
        answer.inOrder = answer.inOrder && word === `t${answer.tokens}`;
        answer.tokens += 1;
      }
    }
  }
  if (!whole) answer.error = 'the stream ends inside an event';
  return answer;
}

// What is wrong with an answer of which `expected` tokens were asked; empty if nothing is.
export function flaw(answer, expected) {
  if (answer.error) return answer.error;
  if (!answer.inOrder) return `tokens lost, repeated or out of order among ${answer.tokens}`;
  if (!answer.done) return `the stream ended after ${answer.tokens} tokens without [DONE]`;
  if (answer.tokens !== expected) return `${answer.tokens} tokens, not ${expected}`;
  return '';
}
