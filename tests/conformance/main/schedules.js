export const schedules = {}; export function scheduled() {}
