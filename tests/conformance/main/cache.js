export const cache = {};
