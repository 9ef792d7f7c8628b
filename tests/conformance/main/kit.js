// What the cases are written with.

/** What `work` returns or throws. */
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    return { thrown: `${error?.name}: ${error?.message}` };
  }
}

/** What each of `works` returns or throws, one after the other. */
export async function attempts(works) {
  const results = {};
  for (const [name, work] of Object.entries(works)) results[name] = await attempt(work);
  return results;
}

/** A response as data. */
export async function shown(response, headers = []) {
  if (!response) return response;
  const picked = Object.fromEntries(headers.map((name) => [name, response.headers.get(name)]));
  return { status: response.status, ...picked, body: await response.text() };
}

/** The type of a value that differs between runs, in the place of the value. */
export function kind(value) {
  if (value === null) return "null";
  return typeof value === "object" ? value.constructor.name : typeof value;
}

export function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Asks until there is an answer. */
export async function eventually(ask) {
  for (let round = 0; round < 400; round++) {
    const answer = await ask();
    if (answer) return answer;
    await sleep(25);
  }
  throw new Error("nothing came");
}

export async function text(stream) {
  return new Response(stream).text();
}

/** A value of any type as JSON that says the type. */
export function plain(value) {
  if (value === undefined) return "<undefined>";
  if (typeof value === "bigint") return `<bigint ${value}>`;
  if (typeof value === "number" && !Number.isFinite(value)) return `<${value}>`;
  if (value === null || typeof value !== "object") return typeof value === "function" ? "<function>" : value;
  if (value instanceof Date) return `<Date ${value.toISOString()}>`;
  if (value instanceof ArrayBuffer) return `<ArrayBuffer ${new Uint8Array(value).toHex()}>`;
  if (ArrayBuffer.isView(value)) return `<${value.constructor.name} ${Array.from(value)}>`;
  if (value instanceof Error) return `<${value.name}: ${value.message}>`;
  if (value instanceof ReadableStream) return "<ReadableStream>";
  if (value instanceof Map) return { "<Map>": [...value].map(plain) };
  if (value instanceof Headers) return { "<Headers>": [...value] };
  if (Array.isArray(value)) return value.map(plain);
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
}
