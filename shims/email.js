// `cloudflare:email` re-exports this; the engine has the name but not the module. Without it any worker
// that imports a library which mentions e-mail would fail to start.

class EmailMessage {
  /** @param {string} from @param {string} to @param {string | ReadableStream} raw */
  constructor(from, to, raw) {
    this.from = from;
    this.to = to;
    this.raw = raw;
  }
}

export default { EmailMessage };
