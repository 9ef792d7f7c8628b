export const misc = {};
