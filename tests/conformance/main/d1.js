export const d1 = {};
