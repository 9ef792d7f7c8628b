export const sockets = {};
