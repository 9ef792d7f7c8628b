export const ratelimit = {};
