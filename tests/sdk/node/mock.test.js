// Every method of the official Node SDK, with all its parameters, against a server with --mock at TEST_API_BASE_URL. The
// SDK's own suite is in its repository only, not in its package.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import ZeroEntropy from 'zeroentropy';

const client = new ZeroEntropy({ apiKey: 'My API Key', baseURL: process.env['TEST_API_BASE_URL'] });
const place = { collection_name: 'collection_name', path: 'path' };
const query = { collection_name: 'collection_name', query: 'query', k: 0, filter: { foo: 'bar' } };
const hit = ['path', 'score', 'metadata', 'file_url'];

/** The object has at least these members, none of them undefined. */
function has(object, ...names) {
  for (const name of names) assert.notEqual(object[name], undefined, `${name} is missing`);
}

/** Awaits a call in the three ways that the SDK offers. */
async function call(request) {
  const response = await request();
  assert.equal((await request().asResponse()).headers.get('content-type'), 'application/json');
  const both = await request().withResponse();
  assert.deepEqual(Object.keys(both.data), Object.keys(response));
  assert.ok(both.response.ok);
  return response;
}

test('collections', async () => {
  has(await call(() => client.collections.add({ collection_name: 'collection_name', num_shards: 0 })), 'message');
  has(await call(() => client.collections.getList()), 'collection_names');
  has(await call(() => client.collections.getList({})), 'collection_names');
  has(await call(() => client.collections.delete({ collection_name: 'collection_name' })), 'message');
});

test('documents', async () => {
  const { documents } = client;
  const content = { type: 'text', text: 'text' };
  const metadata = { foo: 'string', 'list:bar': ['string'] };
  has(await call(() => documents.add({ ...place, content, metadata, overwrite: true })), 'message');
  has(await call(() => documents.update({ ...place, index_status: 'not_parsed', metadata })), 'message');
  const info = await call(() => documents.getInfo({ ...place, include_content: true }));
  has(info.document, 'id', 'collection_name', 'path', 'metadata', 'index_status', 'size', 'num_pages', 'file_url', 'content');
  const { page } = await call(() => documents.getPageInfo({ ...place, page_index: 0, include_content: true }));
  has(page, 'id', 'collection_name', 'path', 'page_index', 'image_url', 'content');
  assert.deepEqual(await call(() => documents.delete({ ...place, path: ['a', 'b'] })), { deleted_paths: ['a', 'b'] });
});

test('pages of documents end', async () => {
  const body = { collection_name: 'collection_name', limit: 0, path_prefix: 'path/' };
  const seen = [];
  // The SDK merges the cursor into the query, and only if there is one.
  for await (const document of client.documents.getInfoList(body, { query: {} })) seen.push(document);
  assert.equal(seen.length, 1);
  has(seen[0], 'id', 'collection_name', 'path', 'metadata', 'index_status', 'created_at', 'size', 'num_pages', 'file_url');
});

test('queries', async () => {
  const { queries } = client;
  const options = { reranker: 'reranker', latency_mode: 'low', include_metadata: true };
  const byDocument = await call(() => queries.topDocuments({ ...query, ...options }));
  has(byDocument.results[0], ...hit);
  const byPage = await call(() => queries.topPages({ ...query, include_content: true, include_metadata: true }));
  has(byPage.results[0], 'path', 'page_index', 'score', 'content', 'image_url');
  has(byPage.document_results[0], ...hit);
  const bySnippet = await call(() => queries.topSnippets({ ...query, precise_responses: true, reranker: 'reranker' }));
  has(bySnippet.results[0], 'path', 'start_index', 'end_index', 'page_span', 'content', 'score');
  has(bySnippet.document_results[0], ...hit);
});

test('models', async () => {
  const reranked = await call(() =>
    client.models.rerank({ model: 'model', query: 'query', documents: ['string'], latency: 'fast', top_n: 0 }),
  );
  has(reranked.results[0], 'index', 'relevance_score');
  has(reranked, 'total_bytes', 'total_tokens', 'actual_latency_mode', 'e2e_latency', 'inference_latency');
  const embed = { model: 'model', input_type: 'query', input: 'string', latency: 'fast' };
  const floats = await call(() => client.models.embed({ ...embed, dimensions: 40, encoding_format: 'float' }));
  assert.equal(floats.results[0].embedding.length, 40);
  const text = await call(() => client.models.embed({ ...embed, dimensions: 0, encoding_format: 'base64' }));
  assert.equal(Buffer.from(text.results[0].embedding, 'base64').length, 4 * 2560);
  has(text.usage, 'total_bytes', 'total_tokens');
});

test('status', async () => {
  for (const body of [undefined, {}, { collection_name: 'collection_name' }]) {
    const status = await call(() => client.status.getStatus(body));
    assert.equal(status.num_indexed_documents, status.num_documents);
    has(status, 'num_parsing_documents', 'num_indexing_documents', 'num_failed_documents', 'num_indexed_bytes');
  }
});

test('an unknown path is not found', async () => {
  await assert.rejects(client.post('/unknown', { body: {} }), ZeroEntropy.NotFoundError);
  // The SDK's methods take request options in the body's place.
  const options = { path: '/_stainless_unknown_path' };
  await assert.rejects(client.collections.getList({}, options), ZeroEntropy.NotFoundError);
});
