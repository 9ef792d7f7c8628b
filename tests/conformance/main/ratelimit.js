import { attempt, attempts } from "./kit.js";

export const ratelimit = {
  "three of four calls pass": async ({ env: { LIMITER }, key }) => {
    const results = [];
    for (let i = 0; i < 4; i++) results.push((await LIMITER.limit({ key })).success);
    return results;
  },
  "keys are counted apart": async ({ env: { LIMITER }, key }) => {
    for (let i = 0; i < 4; i++) await LIMITER.limit({ key });
    return (await LIMITER.limit({ key: `${key}2` })).success;
  },
  "what is answered": async ({ env: { LIMITER }, key }) => Object.keys(await LIMITER.limit({ key })).sort(),
  "what is refused": ({ env: { LIMITER } }) => attempts({
    nothing: () => LIMITER.limit(),
    noKey: async () => (await LIMITER.limit({})).success,
    number: async () => (await LIMITER.limit({ key: 5 })).success,
    empty: async () => (await LIMITER.limit({ key: "" })).success,
    unknown: async () => (await LIMITER.limit({ key: "a", other: 1 })).success,
    string: async () => (await LIMITER.limit("a")).success,
  }),
  "a limit in the call": ({ env: { LIMITER }, key }) => attempt(async () => {
    const results = [];
    for (let i = 0; i < 3; i++) results.push((await LIMITER.limit({ key, limit: 2, period: 10 })).success);
    return results;
  }),
};
