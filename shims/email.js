// `cloudflare:email` re-exports this; the engine has the name but not the module.

/** What a message holds, for the binding that sends it. @type {(message: unknown) => string | ReadableStream | undefined} */
let rawOf;

class EmailMessage {
  #raw;

  /** @param {string} from @param {string} to @param {string | ReadableStream} raw */
  constructor(from, to, raw) {
    this.from = from;
    this.to = to;
    this.#raw = raw;
  }

  /** The same for modules outside of the engine: the one that calls an `email()` handler. */
  get [Symbol.for("skep.raw")]() {
    return this.#raw;
  }

  static {
    rawOf = (message) => (typeof message === "object" && message !== null && #raw in message ? message.#raw : undefined);
  }
}

export { rawOf };
export default { EmailMessage };
