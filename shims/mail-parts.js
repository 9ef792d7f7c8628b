// Mail that is given as its parts, as JSON that Skep reads. A module of its own: the binding that sends mail is inside of the
// engine, replies are made by the worker with the events.

/**
 * @typedef {string | { name: string, email: string }} Address
 * @typedef {{ filename: string, type: string, disposition?: string, contentId?: string,
 *             content: string | ArrayBuffer | ArrayBufferView }} Attachment
 * @typedef {{ from: Address, to: Address | Address[], cc?: Address | Address[], bcc?: Address | Address[], replyTo?: Address,
 *             subject: string, headers?: Record<string, string>, text?: string, html?: string, attachments?: Attachment[] }} Parts
 */

/** @param {string | ArrayBuffer | ArrayBufferView} content @returns {Uint8Array} */
const bytes = (content) => {
  if (typeof content === "string") return new TextEncoder().encode(content);
  if (content instanceof ArrayBuffer) return new Uint8Array(content);
  return new Uint8Array(content.buffer, content.byteOffset, content.byteLength);
};

/** @param {Address | Address[] | undefined} addresses */
const listed = (addresses) => (addresses ? [addresses].flat() : []);

/** `isText`: the content was a text, which is base64 where mail leaves the machine. @param {Attachment} attachment */
const attached = ({ filename, type, disposition, contentId, content }) => ({
  filename, type, disposition, contentId, isText: typeof content === "string", content: /** @type {any} */ (bytes(content)).toBase64(),
});

/** @param {Parts} parts */
export const built = ({ from, to, cc, bcc, replyTo, subject, headers, text, html, attachments }) =>
  JSON.stringify({
    from, to: listed(to), cc: listed(cc), bcc: listed(bcc), replyTo, subject: subject === undefined ? undefined : String(subject),
    headers, text, html, attachments: attachments?.map(attached),
  });
