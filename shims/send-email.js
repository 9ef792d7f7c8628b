// The binding that sends mail. Skep checks what it sends and keeps it in a folder: nothing leaves this machine.
// https://developers.cloudflare.com/email-routing/email-workers/send-email-workers/
//
// A wrapped binding. Inner binding: `fetcher`, which takes the mail.

import { rawOf } from "cloudflare-internal:email";

/**
 * @typedef {string | { name: string, email: string }} Address
 * @typedef {{ filename: string, type: string, disposition?: string, content: string | ArrayBuffer | ArrayBufferView }} Attachment
 * @typedef {{ from: Address, to: Address | Address[], cc?: Address | Address[], bcc?: Address | Address[],
 *             subject: string, text?: string, html?: string, attachments?: Attachment[] }} Parts
 * @typedef {{ fetch(url: string, init: object): Promise<Response> }} Fetcher
 */

/** @param {string | ArrayBuffer | ArrayBufferView} content @returns {Uint8Array} */
const bytes = (content) => {
  if (typeof content === "string") return new TextEncoder().encode(content);
  if (content instanceof ArrayBuffer) return new Uint8Array(content);
  return new Uint8Array(content.buffer, content.byteOffset, content.byteLength);
};

/** @param {Address | Address[] | undefined} addresses */
const listed = (addresses) => (addresses ? [addresses].flat() : []);

/** @param {Parts} parts */
const built = ({ from, to, cc, bcc, subject, text, html, attachments = [] }) =>
  JSON.stringify({
    from, to: listed(to), cc: listed(cc), bcc: listed(bcc), subject: String(subject), text, html,
    attachments: attachments.map(({ filename, disposition, content }) => ({
      filename, disposition, content: /** @type {any} */ (bytes(content)).toBase64(),
    })),
  });

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
    if (!answer.ok) throw new Error(await answer.text());
    return answer.json();
  }
}

/** @param {{ fetcher: Fetcher }} env */
export default ({ fetcher }) => new SendEmail(fetcher);
