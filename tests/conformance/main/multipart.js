export const multipart = {};
