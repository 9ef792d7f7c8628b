export const queues = {}; export function queue() {}
