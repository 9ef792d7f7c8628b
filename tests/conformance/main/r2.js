export const r2 = {};
