// Scripts that call each other in circles come to an end: so many calls may follow on a visitor's request, and no more.
// https://developers.cloudflare.com/workers/observability/errors/#loop-limit
//
// `CF-EW-Via` of a request says how many may follow on it. Skep sees no calls to other scripts and objects, so they are counted here, and each
// carries what is left then. A request to the outside may come back through the edge, which counts that: it carries what is left of its
// sender's, in the header that RFC 8586 has for it. Calls over RPC carry nothing.

import { headerOf } from "skep-internal:after";

const VIA = "cf-ew-via";
const LOOP = "cdn-loop";
/** How many calls may follow on what no script has begun. */
export const MOST = 16;
export const DEEP =
  "Subrequest depth limit exceeded. This request recursed through Workers too many times. This can happen e.g. if you have a Worker " +
  "or Durable Object that calls other Workers or objects recursively.";

const { apply, getOwnPropertyDescriptor, getPrototypeOf } = Reflect;
const [PlainRequest, PlainObject] = [Request, Object.prototype];
const { set, append } = Headers.prototype;
const headersOf = getOwnPropertyDescriptor(Request.prototype, "headers")?.get;

/** How many calls may follow on what `request` began, if one did. @param {any} request */
export const leftOf = (request) => {
  const said = request instanceof PlainRequest ? headerOf(request, VIA) : null;
  if (said === null) return MOST;
  const left = +said;
  return left >= 0 && left < MOST ? left : 0;
};

/** Whether these are options as most write them, which can be copied. @param {any} value */
const isSimple = (value) => value === undefined || (typeof value === "object" && value !== null && getPrototypeOf(value) === PlainObject);

/**
 * Arguments of a `fetch()` with one header more.
 * @param {any[]} args @param {string} name @param {string} value @param {Function} how sets it, or adds it to those of that name
 */
const withHeader = (args, name, value, how) => {
  const [input, init] = args;
  try {
    if (!(input instanceof PlainRequest) && isSimple(init) && isSimple(init?.headers)) {
      return [input, { ...init, headers: { ...init?.headers, [name]: value } }];
    }
    const asked = new PlainRequest(input, init);
    apply(how, headersOf === undefined ? asked.headers : apply(headersOf, asked, []), [name, value]);
    return [asked];
  } catch {
    // It is for the engine to say what is wrong.
    return args;
  }
};

/** What another script or an object is asked, where `left` calls may follow on that. @param {any[]} args @param {number} left */
export const passed = (args, left) => withHeader(args, VIA, `${left}`, set);

/** What the outside is asked by an invocation on which `left` calls may follow. @param {any[]} args @param {number} left */
export const sent = (args, left) => withHeader(args, LOOP, `skep; left=${left}`, append);
