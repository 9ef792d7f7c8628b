// The rate limit binding: checks the options as Cloudflare does, and asks Skep.
//
// A wrapped binding. Inner bindings: `fetcher`, the counters of one namespace; `defaults`, the limits of
// this binding (JSON).

/**
 * @typedef {{ limit: number, period: number }} Defaults `period` in seconds.
 * @typedef {{ key?: string, limit?: number, period?: number }} Options
 * @typedef {{ success: boolean, limit: number, remaining: number, resetMs: number, retryAfterMs: number | null }} Outcome
 * @typedef {{ fetch(url: string, init: object): Promise<Response> }} Fetcher
 */

import { withSpan } from "cloudflare-internal:tracing-helpers";

const OPTIONS = ["key", "limit", "period"];
const PERIODS = [10, 60];

/** @param {boolean} holds @param {string} message @returns {asserts holds} */
const check = (holds, message) => {
  if (!holds) throw new Error(message);
};

class RateLimit {
  #fetcher;
  #defaults;

  /** @param {Fetcher} fetcher @param {Defaults} defaults */
  constructor(fetcher, defaults) {
    this.#fetcher = fetcher;
    this.#defaults = defaults;
  }

  /**
   * Counts one call for `key` and tells whether it is within the limit. Never throws because it is not.
   * @param {Options} options @returns {Promise<Outcome>}
   */
  async limit(options) {
    check(typeof options === "object" && options !== null, "invalid rate limit options");
    const unknown = Object.keys(options).filter((name) => !OPTIONS.includes(name));
    check(unknown.length === 0, `bad rate limit options: [${unknown.join(",")}]`);
    const { key = "", limit, period } = options;
    check(typeof key === "string", `invalid key: ${key}`);
    check(limit === undefined || typeof limit === "number", `limit must be a number: ${limit}`);
    check(period === undefined || typeof period === "number", `period must be a number: ${period}`);
    check(
      period === undefined || PERIODS.includes(period) || period === this.#defaults.period,
      `unsupported period: ${period}`,
    );
    const body = JSON.stringify({ key, limit, period });
    const ask = () => this.#fetcher.fetch("http://ratelimit/limit", { method: "POST", body });
    const answer = await withSpan("ratelimit_run", ask);
    if (!answer.ok) throw new Error(await answer.text());
    return answer.json();
  }
}

/** @param {{ fetcher: Fetcher, defaults: Defaults }} env */
export default ({ fetcher, defaults }) => new RateLimit(fetcher, defaults);
