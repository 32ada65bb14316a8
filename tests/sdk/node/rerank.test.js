// The official Node SDK, unchanged. Its settings come from ZEROENTROPY_BASE_URL and ZEROENTROPY_API_KEY.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import ZeroEntropy from 'zeroentropy';

const model = 'zerank-1-small';
const query = 'What is 2+2?';
const documents = ['4', 'The answer is definitely 1 million.'];
const planets = {
  query: 'Which planet is known as the Red Planet?',
  documents: [
    "Venus is often called Earth's twin because of its similar size and proximity.",
    'Mars, known for its reddish appearance, is often referred to as the Red Planet.',
    'Jupiter, the largest planet in our solar system, has a prominent red spot.',
    'Saturn, famous for its rings, is sometimes mistaken for the Red Planet.',
  ],
};

const client = new ZeroEntropy();
const order = (response) => response.results.map((result) => result.index);

/** Runs a call that must fail at the first attempt with this exception and status, and returns the exception. */
async function fails(kind, status, call) {
  let attempts = 0;
  const counting = new ZeroEntropy({
    fetch: (...request) => {
      attempts += 1;
      return fetch(...request);
    },
  });
  const error = await call(counting).then(
    () => assert.fail('the call succeeded'),
    (error) => error,
  );
  assert.ok(error instanceof kind, `${error}`);
  assert.equal(error.status, status);
  assert.equal(attempts, 1, 'the SDK retried what cannot succeed');
  assert.match(error.headers['x-request-id'], /^[0-9a-f-]{36}$/);
  // The SDK takes its text from `message`; without one it prints the whole body.
  assert.equal(error.message, `${status} ${error.error.message}`);
  return error;
}

test('the documentation example gives the answer first and all six fields', async () => {
  const response = await client.models.rerank({ model, query, documents });
  assert.deepEqual(order(response), [0, 1]);
  const [first, second] = response.results.map((result) => result.relevance_score);
  assert.ok(1 >= first && first > second && second >= 0);
  assert.equal(response.total_bytes, 360);
  assert.ok(Number.isInteger(response.total_tokens) && response.total_tokens > 0);
  assert.equal(response.actual_latency_mode, 'fast');
  assert.ok(response.inference_latency > 0 && response.e2e_latency >= response.inference_latency);
});

test('the planet example puts Mars first', async () => {
  const response = await client.models.rerank({ model, ...planets });
  assert.equal(order(response)[0], 1);
  assert.equal(response.total_bytes, 1061);
});

test('top_n is a prefix, null means all', async () => {
  const whole = await client.models.rerank({ model, ...planets, top_n: null, latency: null });
  const part = await client.models.rerank({ model, ...planets, top_n: 2 });
  assert.equal(whole.results.length, 4);
  assert.deepEqual(order(part), order(whole).slice(0, 2));
  assert.equal(part.total_tokens, whole.total_tokens);
});

test('an explicit latency is the one that is used', async () => {
  for (const latency of ['fast', 'slow']) {
    const response = await client.models.rerank({ model, query, documents, latency });
    assert.equal(response.actual_latency_mode, latency);
  }
});

test('no documents give no results', async () => {
  const response = await client.models.rerank({ model, query, documents: [] });
  assert.deepEqual([response.results, response.total_bytes, response.total_tokens], [[], 0, 0]);
});

test('a base URL without /v1 is served too', async () => {
  const baseURL = process.env.ZEROENTROPY_BASE_URL.replace(/\/v1$/, '');
  const response = await new ZeroEntropy({ baseURL }).models.rerank({ model, query, documents });
  assert.equal(response.results.length, documents.length);
});

test('an unknown model is 404 and named, with what there is', async () => {
  const call = (counting) => counting.models.rerank({ model: 'zerank-9', query, documents });
  const error = await fails(ZeroEntropy.NotFoundError, 404, call);
  assert.match(error.message, /`zerank-9`.*demo/);
});

test('unknown routes and embeddings are 404', async () => {
  await fails(ZeroEntropy.NotFoundError, 404, (counting) => counting.post('/models/nothing', { body: {} }));
  const call = (counting) => counting.models.embed({ model: 'zembed-1', input: 'a', input_type: 'query' });
  await fails(ZeroEntropy.NotFoundError, 404, call);
});

test('another method is 405', async () => {
  await fails(ZeroEntropy.APIError, 405, (counting) => counting.get('/models/rerank'));
});

test('too many bytes are 400', async () => {
  const call = (counting) => counting.models.rerank({ model, query, documents: Array(5).fill('x'.repeat(1e6)) });
  await fails(ZeroEntropy.BadRequestError, 400, call);
});

test('a body over 16 MiB is 413', async () => {
  const call = (counting) => counting.models.rerank({ model, query, documents: ['x'.repeat(17 * 2 ** 20)] });
  await fails(ZeroEntropy.APIError, 413, call);
});

test('wrong values are 422 with their place and kind', async () => {
  const wrong = [
    [{ documents: ['4', 5] }, 'string_type', ['body', 'documents', 1]],
    [{ top_n: 0 }, 'greater_than_equal', ['body', 'top_n']],
    [{ top_n: '1' }, 'int_type', ['body', 'top_n']],
    [{ latency: 'medium' }, 'literal_error', ['body', 'latency']],
    [{ query: undefined }, 'missing', ['body', 'query']],
  ];
  for (const [change, type, loc] of wrong) {
    const call = (counting) => counting.models.rerank({ model, query, documents, ...change });
    const { error } = await fails(ZeroEntropy.UnprocessableEntityError, 422, call);
    assert.deepEqual(
      error.detail.map((entry) => ({ type: entry.type, loc: entry.loc })),
      [{ type, loc }],
    );
  }
});
