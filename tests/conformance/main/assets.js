export const assets = {};
