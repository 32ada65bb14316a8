// Collections, documents and queries through the official Node SDK, unchanged: every method, on real data.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import ZeroEntropy from 'zeroentropy';

const planets = {
  'jupiter.txt': 'Jupiter, the largest planet in our solar system, has a prominent red spot.',
  'mars.txt': 'Mars, known for its reddish appearance, is often referred to as the Red Planet.',
  'saturn.txt': 'Saturn, famous for its rings, is sometimes mistaken for the Red Planet.',
};
const query = 'Which planet is known as the Red Planet?';
const client = new ZeroEntropy();
const collection_name = `node ${randomUUID()}`;

/** Waits until nothing is left to parse or index. */
async function indexed() {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const status = await client.status.getStatus({ collection_name });
    if (status.num_parsing_documents + status.num_indexing_documents === 0) return status;
    assert.ok(Date.now() < deadline, JSON.stringify(status));
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

before(async () => {
  assert.deepEqual(await client.collections.add({ collection_name, num_shards: 8 }), { message: 'Success!' });
  for (const [path, text] of Object.entries(planets)) {
    await client.documents.add({ collection_name, path, content: { type: 'text', text }, metadata: { 'list:tags': [path] } });
  }
  const status = await indexed();
  assert.equal(status.num_indexed_documents, 3);
});

after(() => client.collections.delete({ collection_name }));

test('snippets are ranked by the model', async () => {
  const response = await client.queries.topSnippets({
    collection_name,
    query,
    k: 5,
    reranker: 'zerank-1',
    include_document_metadata: true,
  });
  assert.equal(response.results[0].path, 'mars.txt');
  assert.equal(response.results.length, 3);
  for (const { path, content, start_index, end_index } of response.results) {
    assert.equal(content, planets[path].slice(start_index, end_index));
  }
  assert.deepEqual(response.document_results[0].metadata, { 'list:tags': ['mars.txt'] });
});

test('pages and documents are found', async () => {
  const pages = await client.queries.topPages({ collection_name, query: 'rings', k: 1, include_content: true });
  assert.deepEqual(
    pages.results.map(({ path, page_index, content }) => [path, page_index, content]),
    [['saturn.txt', 0, planets['saturn.txt']]],
  );
  const filter = { 'list:tags': { $in: ['mars.txt', 'jupiter.txt'] } };
  const documents = await client.queries.topDocuments({ collection_name, query: 'red spot', k: 9, filter });
  assert.deepEqual(
    documents.results.map((result) => result.path),
    ['jupiter.txt', 'mars.txt'],
  );
});

test('a document is told of, paged through, changed and deleted', async () => {
  const path = 'x/extra';
  await client.documents.add({ collection_name, path, content: { type: 'text-pages', pages: ['one', 'two'] } });
  await indexed();
  const { document } = await client.documents.getInfo({ collection_name, path, include_content: true });
  assert.deepEqual([document.content, document.num_pages, document.index_status], ['one\ntwo', 2, 'indexed']);
  assert.equal(await (await fetch(document.file_url)).text(), 'one\ntwo');
  const { page } = await client.documents.getPageInfo({ collection_name, path, page_index: 1, include_content: true });
  assert.deepEqual([page.content, page.image_url], ['two', null]);
  assert.deepEqual(await client.documents.update({ collection_name, path, metadata: { a: 'b' } }), { message: 'Success!' });
  await indexed();
  const paths = [];
  // The Node SDK sends `path_gt` in the query string, and only with a `query` option.
  for await (const item of client.documents.getInfoList({ collection_name, limit: 1 }, { query: {} })) paths.push(item.path);
  assert.deepEqual(paths, [...Object.keys(planets), path]);
  assert.deepEqual(await client.documents.delete({ collection_name, path: [path, 'none'] }), { deleted_paths: [path] });
  await assert.rejects(client.documents.getInfo({ collection_name, path }), ZeroEntropy.NotFoundError);
});

test('names are listed, and a conflict is one request', async () => {
  const { collection_names } = await client.collections.getList();
  assert.ok(collection_names.includes(collection_name));
  let attempts = 0;
  const counting = new ZeroEntropy({
    fetch: (...request) => {
      attempts += 1;
      return fetch(...request);
    },
  });
  await assert.rejects(counting.collections.add({ collection_name }), ZeroEntropy.ConflictError);
  assert.equal(attempts, 1);
});
