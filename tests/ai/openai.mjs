// Drives a node's models with OpenAI's own SDK, as code does that has Cloudflare's `/ai/v1` for its base.
import assert from "node:assert/strict";
import OpenAI from "openai";

const { AI_BASE: baseURL, AI_TOKEN: apiKey } = process.env;
const openai = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const model = "@cf/meta/llama-3.1-8b-instruct";
const messages = [{ role: "user", content: "hi" }];

const said = await openai.chat.completions.create({ model, messages });
assert.deepEqual([said.model, said.choices[0].message.content, said.usage.total_tokens], [model, "Hello", 6]);

let text = "";
let usage;
for await (const chunk of await openai.chat.completions.create({ model, messages, stream: true, stream_options: { include_usage: true } })) {
  text += chunk.choices[0]?.delta.content ?? "";
  usage = chunk.usage ?? usage;
}
assert.deepEqual([text, usage.total_tokens], ["{Hel", 6]);

const tools = [{ type: "function", function: { name: "add", parameters: { type: "object" } } }];
const called = await openai.chat.completions.create({ model, messages: [{ role: "user", content: "call" }], tools });
assert.equal(called.choices[0].message.tool_calls[0].function.name, "add");

const vectors = await openai.embeddings.create({ model: "@cf/baai/bge-m3", input: ["a", "b"], encoding_format: "float" });
assert.deepEqual(vectors.data.map((one) => one.embedding), [[0.5, -1.25], [1, 2]]);

const response = await openai.responses.create({ model: "@cf/openai/gpt-oss-20b", input: "hi" });
assert.deepEqual([response.model, response.output_text], ["@cf/openai/gpt-oss-20b", "Hello"]);

const fails = async (ask, status, code) => {
  const error = await ask.then(() => assert.fail("no error"), (error) => error);
  assert.equal(error.status, status, String(error));
  assert.equal(error.errors?.[0]?.code ?? error.error?.errors?.[0]?.code, code, JSON.stringify(error));
};
await fails(openai.chat.completions.create({ model, messages: [{ role: "user", content: "missing" }] }), 400, 5007);
await fails(openai.chat.completions.create({ model: "a/../../b", messages }), 404, 3042);
await fails(openai.chat.completions.create({ messages }), 400, 5006);
await fails(openai.embeddings.create({ model, input: [] }), 400, 5006);
console.log("all is as it should be");
