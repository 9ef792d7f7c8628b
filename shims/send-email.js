// The binding that sends mail. Skep checks what it sends: `skep dev` keeps it in a folder, a node gives it to its mail relay.
// https://developers.cloudflare.com/email-routing/email-workers/send-email-workers/
//
// A wrapped binding. Inner binding: `fetcher`, which takes the mail.

import { rawOf } from "cloudflare-internal:email";
import { built } from "skep-internal:mail-parts";

/**
 * @typedef {import("./mail-parts.js").Parts} Parts
 * @typedef {{ fetch(url: string, init: object): Promise<Response> }} Fetcher
 */

class SendEmail {
  #fetcher;

  /** @param {Fetcher} fetcher */
  constructor(fetcher) {
    this.#fetcher = fetcher;
  }

  /** @param {Parts | { from: string, to: string }} message an `EmailMessage`, or the parts of one @returns {Promise<{ messageId: string }>} */
  async send(message) {
    const raw = rawOf(message);
    const { from, to } = /** @type {{ from: string, to: string }} */ (message);
    const [url, body] =
      raw === undefined
        ? ["http://mail/built", built(/** @type {Parts} */ (message))]
        : [`http://mail/raw?${new URLSearchParams({ from, to })}`, await new Response(raw).arrayBuffer()];
    const answer = await this.#fetcher.fetch(url, { method: "POST", body });
    if (!answer.ok) {
      const [code, error] = [answer.headers.get("x-skep-code"), new Error(await answer.text())];
      throw code ? Object.assign(error, { code }) : error;
    }
    return answer.json();
  }
}

/** @param {{ fetcher: Fetcher }} env */
export default ({ fetcher }) => new SendEmail(fetcher);
